# ruff: noqa: E501  (the tables are easier to read in long rows)
"""Module: names, attributes, state, modes, hooks, printing; PyTorch is the oracle where it is installed."""

from __future__ import annotations

import copy
from collections import OrderedDict

import numpy as np
import pytest

import mulgil
from mulgil import nn
from mulgil.errors import DTypeError, MulgilError, ShapeError


class Net(nn.Module):
    def __init__(self, hidden=8, *, scale=1.0):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2))
        self.flatten = nn.Flatten()
        self.head = nn.Sequential(OrderedDict(fc1=nn.Linear(3 * 4 * 4, hidden), drop=nn.Dropout(0.5), fc2=nn.Linear(hidden, 5)))
        self.scale = scale

    def forward(self, x):
        return self.head(self.flatten(self.features(x))) * self.scale


def images(n=4):
    return mulgil.tensor(np.random.default_rng(0).random((n, 1, 8, 8), dtype=np.float32))


NAMES = ["features.0.weight", "features.0.bias", "features.1.weight", "features.1.bias", "head.fc1.weight", "head.fc1.bias", "head.fc2.weight", "head.fc2.bias"]
BUFFERS = ["features.1.running_mean", "features.1.running_var", "features.1.num_batches_tracked"]


def test_names_are_dotted_and_in_order_of_assignment():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert [name for name, _ in net.named_buffers()] == BUFFERS
    assert [name for name, _ in net.named_children()] == ["features", "flatten", "head"]
    assert [name for name, _ in net.named_modules()][:3] == ["", "features", "features.0"]
    assert list(net.state_dict()) == NAMES[:4] + BUFFERS + NAMES[4:]
    assert [name for name, _ in net.named_parameters(prefix="model", recurse=False)] == []
    assert [name for name, _ in net.head.fc1.named_parameters(prefix="x")] == ["x.weight", "x.bias"]
    assert net.get_submodule("head.fc2") is net.head.fc2
    with pytest.raises(AttributeError, match=r"no module is called 'head\.fc9'"):
        net.get_submodule("head.fc9")


def test_a_shared_layer_counts_once_but_is_saved_under_each_name():
    net = nn.Module()
    net.a = nn.Linear(2, 2)
    net.b = net.a
    assert len(list(net.parameters())) == 2
    assert len(list(net.children())) == 1
    assert list(net.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias"]


def test_attributes_change_kind_as_in_pytorch():
    net = nn.Linear(3, 2)
    with pytest.raises(DTypeError, match="parameter 'weight' can only be set to"):
        net.weight = np.zeros((2, 3))
    net.bias = None
    assert [name for name, _ in net.named_parameters()] == ["weight"]
    net.bias = nn.Parameter(np.zeros(2, np.float32))
    assert [name for name, _ in net.named_parameters()] == ["weight", "bias"]
    del net.bias
    assert not hasattr(net, "bias")
    net.weight = nn.Parameter(np.ones((2, 3), np.float32))
    assert net.weight.array.sum() == 6


@pytest.mark.parametrize("name", ["", "a.b", "training"])
def test_bad_names_are_refused(name):
    with pytest.raises(KeyError):
        nn.Module().register_parameter(name, None)
    with pytest.raises(KeyError):
        nn.Module().add_module(name, nn.ReLU())


def test_wrong_kinds_are_refused():
    with pytest.raises(TypeError, match="must be a Tensor"):
        nn.Module().register_buffer("x", np.zeros(3))
    with pytest.raises(TypeError, match="must be a Parameter"):
        nn.Module().register_parameter("x", mulgil.zeros(3))


def test_forgotten_super_init_is_explained():
    class Forgot(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    class ForgotAll(nn.Module):
        def __init__(self):
            pass

        def forward(self, x):
            return x

    with pytest.raises(AttributeError, match=r"(?s)Module.__init__\(\) must run before.*hint:.*super\(\).__init__\(\)"):
        Forgot()
    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\)"):
        ForgotAll()(1)


def test_missing_attribute_and_forward():
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'wieght'"):
        _ = nn.Linear(1, 1).wieght
    with pytest.raises(NotImplementedError, match="forward"):
        nn.Module()(1)


def test_buffers_persistent_and_not():
    net = nn.Module()
    net.register_buffer("kept", mulgil.ones(2))
    net.register_buffer("passing", mulgil.ones(2), persistent=False)
    assert list(net.state_dict()) == ["kept"]
    assert [name for name, _ in net.named_buffers()] == ["kept", "passing"]
    net.kept = mulgil.zeros(2)
    assert net.state_dict()["kept"].tolist() == [0, 0]


def test_modes_reach_every_module():
    net = Net()
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())


def test_apply_visits_children_first():
    seen = []
    Net().apply(lambda m: seen.append(type(m).__name__))
    assert seen[0] == "Conv2d" and seen[-1] == "Net"


def test_to_keeps_the_parameter_objects():
    net = Net()
    before = list(net.parameters())
    net.double()
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))
    assert {p.dtype for p in net.parameters()} == {np.dtype(np.float64)}
    assert net.features[1].num_batches_tracked.dtype == np.int64
    assert net.to(mulgil.float32).to("cpu").cpu().float() is net
    assert net.to(mulgil.zeros(1, dtype=mulgil.float64)).head.fc1.weight.dtype == np.float64
    with pytest.raises(DTypeError, match="floating"):
        net.to(mulgil.int64)


def test_to_moves_gradients_too():
    net = nn.Linear(2, 1)
    net(mulgil.ones(1, 2)).sum().backward()
    net.double()
    assert net.weight.grad.dtype == np.float64


def test_zero_grad_and_requires_grad():
    net = nn.Linear(2, 1)
    net(mulgil.ones(1, 2)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert net.weight.grad.tolist() == [[0, 0]]
    net.zero_grad()
    assert net.weight.grad is None
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_hooks_see_and_replace():
    net, seen = nn.Sequential(nn.Identity()), []
    first = net[0].register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    second = net[0].register_forward_hook(lambda m, args, out: seen.append((args[0].item(), out.item())))
    with net[0].register_forward_hook(lambda m, args, out: out * 10):
        assert net(mulgil.tensor(1.0)).item() == 20
    assert seen == [(2, 2)]
    first.remove()
    second.remove()
    assert net(mulgil.tensor(1.0)).item() == 1 and len(seen) == 1


def test_deepcopy_is_independent():
    net = Net()
    twin = copy.deepcopy(net)
    twin.head.fc1.weight.data.fill_(0)
    assert abs(net.head.fc1.weight.array).sum() > 0
    assert [n for n, _ in twin.named_parameters()] == NAMES


def test_errors_name_the_layer():
    with pytest.raises(ShapeError) as caught:
        Net()(mulgil.zeros(2, 1, 10, 10))
    assert caught.value.layer == "head.fc1 (Linear)"
    assert "layer: head.fc1 (Linear)" in str(caught.value).replace("layer:  ", "layer: ")

    class Direct(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Module()
            self.body.first = nn.Linear(3, 3)

        def forward(self, x):
            return self.body.first(x)

    with pytest.raises(ShapeError) as caught:
        nn.Sequential(Direct())(mulgil.zeros(2, 4))
    assert caught.value.layer == "0.body.first (Linear)"


def test_registry_finds_imported_classes_only():
    found = nn.Module.registry()
    assert found["mulgil.nn.linear.Linear"] is nn.Linear
    assert found[f"{__name__}.Net"] is Net


# ---------------------------------------------------------------------- containers
def test_sequential_behaves_as_a_list():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(model) == 3 and model[-1] is model[2] and isinstance(model[:2], nn.Sequential)
    assert [name for name, _ in model[1:].named_children()] == ["1", "2"]
    model.append(nn.Tanh()).insert(1, nn.Identity())
    assert [type(m).__name__ for m in model] == ["Linear", "Identity", "ReLU", "Linear", "Tanh"]
    del model[1]
    assert [name for name, _ in model.named_children()] == ["0", "1", "2", "3"]
    model[3] = nn.Sigmoid()
    assert isinstance(model[3], nn.Sigmoid)
    with pytest.raises(IndexError):
        model[9]
    assert model(mulgil.zeros(1, 2)).shape == (1, 1)


def test_sequential_with_a_parameter_of_its_own():
    class Scaled(nn.Sequential):
        def __init__(self, *layers):
            super().__init__(*layers)
            self.gain = nn.Parameter(np.full((), 2.0, np.float32))

        def forward(self, x):
            return super().forward(x) * self.gain

    model = Scaled(nn.Identity())
    assert len(model) == 1 and model(mulgil.tensor(3.0)).item() == 6


def test_module_list_and_dict():
    layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    layers.extend([nn.ReLU()])
    assert [n for n, _ in layers.named_parameters()][::2] == ["0.weight", "1.weight", "2.weight"]
    assert len(layers[1:]) == 3 and isinstance(layers[1:], nn.ModuleList)
    table = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Linear(1, 1)})
    assert "a" in table and list(table) == ["a", "b"] and table["b"].out_features == 1
    del table["a"]
    assert list(table.keys()) == ["b"] and len(table) == 1
    with pytest.raises(KeyError):
        table["items"] = nn.ReLU()


# ---------------------------------------------------------------------- state
def test_state_dict_shares_memory_and_loads_back():
    net, other = Net(), Net()
    state = {name: value.array.copy() for name, value in net.state_dict().items()}
    result = other.load_state_dict(state)
    assert str(result) == "<All keys matched successfully>"
    for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a.array, b.array)
    net.state_dict()["head.fc2.bias"].array[...] = 7
    assert net.head.fc2.bias.array[0] == 7


def snapshot(net):
    return {name: value.array.copy() for name, value in net.state_dict().items()}


def broken(name, **changes):
    """A state of Net with one thing wrong."""
    state = snapshot(Net())
    if name == "prefix":
        return {f"module.{key}": value for key, value in state.items()}
    if name == "no prefix":
        return {key.removeprefix("head."): value for key, value in state.items() if key.startswith("head.")}
    if name == "renamed":
        return {key.replace("fc1", "lr1"): value for key, value in state.items()}
    if name == "shape":
        return {**state, "head.fc2.weight": np.zeros((5, 9), np.float32)}
    if name == "transposed":
        return {**state, "head.fc2.weight": state["head.fc2.weight"].T}
    if name == "missing":
        return {key: value for key, value in state.items() if key != "head.fc2.bias"}
    return {**state, "extra.weight": np.zeros(3)}


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("prefix", ["missing: features.0.weight", "unexpected: module.features.0.weight", "removeprefix('module.')"]),
        ("renamed", ["missing: head.fc1.weight, head.fc1.bias", "'head.lr1' has the shapes of 'head.fc1'"]),
        ("shape", ["head.fc2.weight is [5, 9], the model's is [5, 8]", "sizes"]),
        ("transposed", ["head.fc2.weight is [8, 5]", "transposed"]),
        ("missing", ["missing: head.fc2.bias", "strict=False"]),
        ("extra", ["unexpected: extra.weight", "strict=False"]),
    ],
)
def test_mismatches_are_explained_and_change_nothing(case, said):
    net = Net()
    before = snapshot(net)
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(broken(case))
    for text in said:
        assert text in str(caught.value)
    for name, value in snapshot(net).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_missing_prefix_is_explained():
    net = nn.Module()
    net.head = nn.Linear(2, 3)
    with pytest.raises(MulgilError, match=r"carry the prefix 'head\.'"):
        net.load_state_dict(snapshot(nn.Linear(2, 3)))


def test_not_strict_loads_what_fits():
    net = Net()
    result = net.load_state_dict({**broken("missing"), "extra": np.zeros(1)}, strict=False)
    assert result.missing_keys == ["head.fc2.bias"] and result.unexpected_keys == ["extra"]
    with pytest.raises(MulgilError, match="shape"):
        net.load_state_dict(broken("shape"), strict=False)
    with pytest.raises(MulgilError, match="must be an array of numbers"):
        net.load_state_dict({**snapshot(net), "head.fc2.bias": "text"})
    with pytest.raises(TypeError, match="dictionary"):
        net.load_state_dict([1, 2])


# ---------------------------------------------------------------------- PyTorch prints the same
REPRS = [
    "nn.Linear(784, 10)",
    "nn.Linear(3, 2, bias=False)",
    "nn.Conv2d(1, 20, 5)",
    "nn.Conv2d(4, 8, (3, 5), stride=2, padding=(1, 2), dilation=2, groups=4, bias=False)",
    "nn.Conv2d(1, 2, 3, padding='same')",
    "nn.MaxPool2d(2)",
    "nn.MaxPool2d((2, 3), stride=1, padding=1, dilation=2)",
    "nn.AvgPool2d(2, 1)",
    "nn.BatchNorm1d(3)",
    "nn.BatchNorm2d(3, eps=1e-3, momentum=0.2, affine=False, track_running_stats=False)",
    "nn.Dropout(0.3)",
    "nn.Flatten()",
    "nn.Identity()",
    "nn.ReLU()",
    "nn.ReLU(inplace=True)",
    "nn.LeakyReLU(0.2)",
    "nn.Sigmoid()",
    "nn.Tanh()",
    "nn.Softmax(dim=1)",
    "nn.LogSoftmax(dim=-1)",
    "nn.CrossEntropyLoss()",
    "nn.NLLLoss()",
    "nn.MSELoss()",
    "nn.BCEWithLogitsLoss()",
    "nn.L1Loss()",
    "nn.Sequential()",
    "nn.Sequential(nn.Linear(1, 2), nn.Sequential(nn.ReLU(), nn.Flatten()))",
    "nn.Sequential(OrderedDict(a=nn.Linear(1, 2), b=nn.ReLU()))",
    "nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Tanh(), nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU())])",
    "nn.ModuleDict({'x': nn.ReLU(), 'y': nn.ModuleList()})",
]


@pytest.mark.parametrize("text", REPRS)
def test_repr_is_pytorchs(text):
    torch = pytest.importorskip("torch")
    assert repr(eval(text)) == repr(eval(text, {"nn": torch.nn, "OrderedDict": OrderedDict}))


def test_repr_of_seed_003():
    class MnistModel(nn.Module):
        def __init__(self):
            super().__init__()
            self.lr1 = nn.Linear(784, 128)
            self.lr2 = nn.Linear(128, 64)
            self.lr3 = nn.Linear(64, 10)
            self.relu = nn.ReLU()

    assert str(MnistModel()) == (
        "MnistModel(\n"
        "  (lr1): Linear(in_features=784, out_features=128, bias=True)\n"
        "  (lr2): Linear(in_features=128, out_features=64, bias=True)\n"
        "  (lr3): Linear(in_features=64, out_features=10, bias=True)\n"
        "  (relu): ReLU()\n"
        ")"
    )
