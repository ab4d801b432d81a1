"""DeZero's names that mulgil does not have, and what to write in their place: an AttributeError says it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

GRADCHECK = "mulgil.gradcheck(f, x)"
OWN_DATA = "not here: make the arrays, and data.TensorDataset(x, t) of them"
NO_LAYER = "not here: subclass nn.Module"
NO_MODEL = "not here: build it of layers, nn.Sequential(...)"
STEP = "give the parameters when it is made, optim.SGD(model.parameters(), lr=0.01); then optimizer.step()"

#: where -> name -> what to write here
DEZERO: dict[str, dict[str, str]] = {
    "mulgil": {
        "Variable": "mulgil.tensor(data, requires_grad=True)",
        "as_variable": "mulgil.as_tensor(x)",
        "as_array": "np.asarray(x)",
        "setup_variable": "nothing: tensors have their operators from the start",
        "Config": "mulgil.no_grad() for enable_backprop, model.train() and model.eval() for train",
        "using_config": "mulgil.no_grad() for enable_backprop, model.train() and model.eval() for train",
        "test_mode": "model.eval(), and model.train() afterwards",
        "Layer": "mulgil.nn.Module",
        "Model": "mulgil.nn.Module",
        "Dataset": "mulgil.data.Dataset",
        "DataLoader": "mulgil.data.DataLoader",
        "SeqDataLoader": "not here: take slices of the sequences",
        "optimizers": "mulgil.optim",
        "layers": "mulgil.nn",
        "models": "mulgil.nn",
        "datasets": "mulgil.data.datasets",
        "dataloaders": "mulgil.data",
        "transforms": "mulgil.data.transforms",
        "utils": f"{GRADCHECK} for numerical_grad, mulgil.plot.graph(model, x) for plot_dot_graph",
        **dict.fromkeys(("numerical_grad", "gradient_check"), GRADCHECK),
        **dict.fromkeys(("add", "sub", "mul", "div", "neg"), "the operator: a + b, a - b, a * b, a / b, -a"),
    },
    "mulgil.cuda": {"as_numpy": "x.numpy(), after x.cpu()", "as_cupy": 'x.to("cuda").array', "gpu_enable": "cuda.is_available()"},
    "mulgil.nn": {
        **dict.fromkeys(("Layer", "Model"), "nn.Module"),
        "BatchNorm": "nn.BatchNorm1d(features) or nn.BatchNorm2d(channels)",
        "EmbedID": "an nn.Parameter W, and W[ids]",
        **dict.fromkeys(("Deconv2d", "RNN", "LSTM"), NO_LAYER),
        **dict.fromkeys(("VGG16", "ResNet", "ResNet50", "ResNet101", "ResNet152", "SqueezeNet"), NO_MODEL),
    },
    "mulgil.nn.functional": {
        **{
            name: f"mulgil.{name}(x)"
            for name in ("sin", "cos", "exp", "log", "sum", "max", "min", "clip", "reshape", "transpose", "matmul")
        },
        "expand_dims": "x.unsqueeze(axis)",
        "broadcast_to": "x.expand(shape)",
        "sum_to": "x.sum(axis, keepdim=True); the gradients of broadcasting are summed by themselves",
        "get_item": "x[index]",
        "linear_simple": "F.linear(x, W, b)",
        "embed_id": "W[ids]",
        "sigmoid_cross_entropy": "F.binary_cross_entropy_with_logits(x, t)",
        "binary_cross_entropy": "F.binary_cross_entropy_with_logits(x, t), of scores instead of probabilities",
        "batch_nrom": "F.batch_norm(...)",
        "pooling": "F.max_pool2d(x, kernel_size, stride)",
        "average_pooling": "F.avg_pool2d(x, kernel_size, stride)",
        **dict.fromkeys(("deconv2d", "im2col", "col2im"), "not here: F.conv2d computes without them, and its gradients too"),
    },
    "mulgil.optim": {
        "MomentumSGD": "optim.SGD(model.parameters(), lr=0.01, momentum=0.9)",
        **dict.fromkeys(("AdaGrad", "AdaDelta"), "not here: optim.Adam, or subclass optim.Optimizer"),
        "WeightDecay": "an option: optim.SGD(model.parameters(), lr=0.01, weight_decay=1e-4)",
        "ClipGrad": "nn.utils.clip_grad_norm_(model.parameters(), 1.0), before step()",
        "FreezeParam": "p.requires_grad_(False)",
    },
    "mulgil.data": {"SeqDataLoader": "not here: take slices of the sequences", "get_spiral": OWN_DATA, "Spiral": OWN_DATA},
    "mulgil.data.datasets": {
        "Dataset": "mulgil.data.Dataset",
        **dict.fromkeys(("Spiral", "get_spiral", "CIFAR10", "CIFAR100", "ImageNet", "SinCurve", "Shakespear"), OWN_DATA),
    },
    "mulgil.data.transforms": {"ToArray": "transforms.ToTensor()", "AsType": "a function: lambda x: x.astype(dtype)"},
    "mulgil.plot": dict.fromkeys(("plot_dot_graph", "get_dot_graph"), "plot.graph(model, x)"),
    "Tensor": {
        "cleargrad": "x.grad = None",
        "unchain": "x.detach(), which returns a tensor without a past",
        "unchain_backward": "x.detach(), which returns a tensor without a past",
        **dict.fromkeys(("creator", "set_creator"), "x.grad_fn"),
        "to_cpu": "x.cpu(), which returns a tensor",
        "to_gpu": "x.cuda(), which returns a tensor",
    },
    "Module": {
        "params": "model.parameters()",
        "to_cpu": "model.cpu()",
        "to_gpu": "model.cuda()",
        "save_weights": "mulgil.save(model, path)",
        "load_weights": "model = mulgil.load(path), or model.load_state_dict(...)",
        "plot": "mulgil.plot.graph(model, x)",
    },
    "Optimizer": {
        "setup": STEP,
        "target": "optimizer.param_groups",
        "update_one": "optimizer.step()",
        "add_hook": "weight_decay=... of the optimizer, nn.utils.clip_grad_norm_(...) before step()",
    },
    "DataLoader": {"reset": "a new loop: for x, t in loader", "next": "next(iter(loader))", "to_gpu": 'x.to("cuda")', "to_cpu": "x.cpu()"},
}


def instead(where: str, name: str) -> str:
    """The end of an AttributeError's message: what to write for a name of DeZero's; empty for other names."""
    found = DEZERO.get(where, {}).get(name)
    return f": DeZero's name; here write {found}" if found else ""


def lookup(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module."""

    def missing(name: str) -> Any:
        told = instead(module, name)
        named = {"name": ""} if told else {"name": name}  # with a name Python would add a guess of its own
        raise AttributeError(f"module {module!r} has no attribute {name!r}{told}", **named)

    return missing


def guide(where: str) -> Callable[[Any, str], Any]:
    """The `__getattr__` of a class."""

    def missing(self: Any, name: str) -> Any:
        told = instead(where, name)
        named = {"name": ""} if told else {"name": name, "obj": self}
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{told}", **named)

    return missing


class Missing:
    """One name that a class does not have: for a Tensor, of which NumPy asks its protocols at each call, a `__getattr__` is too slow."""

    def __init__(self, where: str, name: str):
        self._raise, self._name = guide(where), name

    def __get__(self, instance: Any, owner: type) -> Any:
        self._raise(owner if instance is None else instance, self._name)
