"""What checkers and editors know of mulgil: users' programs under mypy and pyright, completions of jedi, and no Any where a user looks.

A program is text. A line that ends in `# is T` is a `reveal_type` that must show T; one that ends in `# wrong` must be an error, and no
other line may be one. Both checkers run in their strict modes, as on an installed package.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mulgil
from mulgil import data, io, nn, optim, plot, train
from mulgil.data import datasets, transforms
from mulgil.nn import functional, init, utils

SOURCES = Path(mulgil.__file__).parents[1]
HEAD = """
import mulgil
import mulgil as torch
import mulgil.nn as nn
import mulgil.nn.functional as F
import mulgil.optim as optim
import numpy as np
from collections.abc import Iterator
from mulgil import Tensor
from mulgil.data import DataLoader, Dataset, Subset, TensorDataset, datasets, random_split, transforms

x = torch.randn(3, 4, requires_grad=True)
labels = torch.randint(0, 3, (3,))
model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
"""
ARRAY = "ndarray[tuple[Any, ...], dtype[Any]]"
PROGRAMS = {
    "names": """
        torch.nonsense  # wrong
        mulgil.nn.Liner  # wrong
        torch.optim.SDG  # wrong
        mulgil.data.transforms.ToTenser  # wrong
        reveal_type(torch.optim.Adam(model.parameters()))  # is Adam
        reveal_type(mulgil.nn.functional.relu(x))  # is Tensor
        reveal_type(mulgil.summary(model, (4,)).parameters)  # is int
        reveal_type(torch.manual_seed(0))  # is Generator
        torch.zeros(2, dtype=torch.float32)
        torch.zeros(2, dtype=torch.float)
        """,
    "creation": """
        reveal_type(torch.zeros(2, 3))  # is Tensor
        reveal_type(torch.ones((2, 3), dtype="float64", device="cpu"))  # is Tensor
        reveal_type(torch.tensor([[1, 2], [3, 4]]))  # is Tensor
        reveal_type(torch.tensor(np.ones(3)))  # is Tensor
        reveal_type(torch.tensor([x, x]))  # is Tensor
        reveal_type(torch.randint(10, (3,)))  # is Tensor
        reveal_type(torch.arange(10))  # is Tensor
        torch.tensor("abc")  # wrong
        torch.tensor(["a"])  # wrong
        torch.zeros("2")  # wrong
        torch.zeros(2, dtpye="float64")  # wrong
        """,
    "operators": """
        reveal_type(x + 1)  # is Tensor
        reveal_type(2 - x)  # is Tensor
        reveal_type(1.5 * x / x ** 2)  # is Tensor
        reveal_type(x @ x.T)  # is Tensor
        reveal_type(-x)  # is Tensor
        reveal_type(abs(x))  # is Tensor
        reveal_type(x == 1)  # is Tensor
        reveal_type((x > 0) & (x != 3))  # is Tensor
        reveal_type(~(x > 0))  # is Tensor
        reveal_type(x + np.ones(4))  # is Tensor
        reveal_type(x + [1, 2, 3, 4])  # is Tensor
        reveal_type(len(x))  # is int
        reveal_type(bool(x.sum()))  # is bool
        y = x
        y += 1
        reveal_type(y)  # is Tensor
        for row in x:
            reveal_type(row)  # is Tensor
        x + "a"  # wrong
        x + None  # wrong
        """,
    "methods": """
        reveal_type(x.sum())  # is Tensor
        reveal_type(x.mean(dim=0, keepdim=True))  # is Tensor
        reveal_type(x.var(axis=(0, 1)))  # is Tensor
        reveal_type(x.max())  # is Tensor
        values, indices = x.max(1)
        reveal_type(values)  # is Tensor
        reveal_type(x.min(dim=1).indices)  # is Tensor
        reveal_type(x.max(axis=1))  # is Tensor
        reveal_type(x.argmax(1))  # is Tensor
        reveal_type(x.exp().log1p().relu().sigmoid().tanh())  # is Tensor
        reveal_type(x.clamp(min=0))  # is Tensor
        reveal_type(x.view(-1, 2))  # is Tensor
        reveal_type(x.reshape((2, 6)).permute(1, 0).unsqueeze(0).flatten())  # is Tensor
        reveal_type(x.detach().cpu().float())  # is Tensor
        reveal_type(x.to("cpu"))  # is Tensor
        reveal_type(x.to(torch.float64))  # is Tensor
        reveal_type(x.softmax(1).log_softmax(dim=-1))  # is Tensor
        reveal_type(x.zero_().add_(1, alpha=2))  # is Tensor
        reveal_type(x.requires_grad_())  # is Tensor
        reveal_type(x.shape)  # is tuple[int, ...]
        reveal_type(x.shape[0])  # is int
        reveal_type(x.size())  # is tuple[int, ...]
        reveal_type(x.size(0))  # is int
        reveal_type(x.numel() + x.dim() + x.ndim)  # is int
        reveal_type(x.requires_grad)  # is bool
        reveal_type(x.grad)  # is Tensor | None
        reveal_type(x.dtype)  # is dtype[Any]
        reveal_type(x.array)  # is ARRAY
        reveal_type(x.numpy())  # is ARRAY
        reveal_type(np.asarray(x))  # is ARRAY
        reveal_type(x.T)  # is Tensor
        reveal_type(x.data)  # is Tensor
        reveal_type(x.backward())  # is None
        reveal_type(x[0])  # is Tensor
        reveal_type(x[..., 1:, None])  # is Tensor
        reveal_type(x[x > 0])  # is Tensor
        reveal_type(x[[0, 1], labels])  # is Tensor
        x[0] = 3.0
        correct = 0
        correct += (x.argmax(1) == labels).sum().item()
        x.sum(dmi=1)  # wrong
        x.nonsense  # wrong
        x.max(2, 3, 4)  # wrong
        x["a"]  # wrong
        x.reshape("a")  # wrong
        x.grad.sum()  # wrong
        """,
    "functions": """
        reveal_type(torch.exp(x))  # is Tensor
        reveal_type(torch.sum(x, dim=1, keepdim=True))  # is Tensor
        reveal_type(torch.max(x))  # is Tensor
        reveal_type(torch.max(x, 1).values)  # is Tensor
        reveal_type(torch.cat([x, x], dim=1))  # is Tensor
        reveal_type(torch.stack([x, x]))  # is Tensor
        reveal_type(torch.where(x > 0, x, 0.0))  # is Tensor
        reveal_type(torch.matmul(x, x.T))  # is Tensor
        reveal_type(torch.clamp(x, 0, 1))  # is Tensor
        reveal_type(torch.reshape(x, (2, 6)))  # is Tensor
        reveal_type(torch.allclose(x, x))  # is bool
        reveal_type(torch.grad(x.sum(), x))  # is tuple[Tensor, ...]
        reveal_type(torch.grad(x.sum(), [x], allow_unused=True))  # is tuple[Tensor | None, ...]
        reveal_type(F.cross_entropy(x, labels, label_smoothing=0.1))  # is Tensor
        reveal_type(F.one_hot(labels, 3))  # is Tensor
        torch.sum(x, dmi=1)  # wrong
        torch.exp(x, 1)  # wrong
        torch.exp("a")  # wrong
        F.cross_entropy(x, labels, smoothing=0.1)  # wrong

        @torch.no_grad()
        def evaluate(a: Tensor, b: int = 1) -> float:
            return 1.0

        reveal_type(evaluate(x))  # is float
        evaluate(x, "a")  # wrong
        """,
    "layers": """
        reveal_type(model)  # is Sequential
        reveal_type(model(x))  # is Tensor
        reveal_type(model[0])  # is Module
        reveal_type(model[:1])  # is Sequential
        reveal_type(nn.Linear(4, 3)(x))  # is Tensor
        reveal_type(nn.Linear(4, 3).weight)  # is Parameter
        reveal_type(nn.Linear(4, 3).bias)  # is Parameter | Any
        reveal_type(nn.BatchNorm2d(3).running_mean)  # is Tensor | Any
        nn.init.zeros_(nn.Linear(4, 3).bias)
        reveal_type(nn.Conv2d(1, 20, (5, 5), padding="same").to("cpu").eval())  # is Conv2d
        reveal_type(nn.CrossEntropyLoss()(x, labels))  # is Tensor
        reveal_type(list(model.parameters()))  # is list[Parameter]
        reveal_type(dict(model.named_modules()))  # is dict[str, Module]
        reveal_type(model.state_dict())  # is dict[str, Tensor]
        reveal_type(model.load_state_dict(model.state_dict()).missing_keys)  # is list[str]
        reveal_type(model.train().double().requires_grad_(False))  # is Sequential
        reveal_type(nn.init.kaiming_uniform_(nn.Linear(1, 1).weight))  # is Parameter
        reveal_type(nn.utils.clip_grad_norm_(model.parameters(), 1.0))  # is Tensor
        nn.Linear(4)  # wrong
        nn.Linear(4, 3)(x, x)  # wrong
        nn.Linear(4, "a")  # wrong
        nn.CrossEntropyLoss(label_smooth=0.1)  # wrong
        """,
    "a model of one's own": """
        class Net(nn.Module):
            def __init__(self, hidden: int = 128) -> None:
                super().__init__()
                self.l1, self.l2 = nn.Linear(784, hidden), nn.Linear(hidden, 10)
                self.layers = nn.ModuleList([nn.Linear(10, 10)])
                self.register_buffer("mean", torch.zeros(10))

            def forward(self, images: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
                hidden = F.relu(self.l1(images))
                for layer in self.layers:
                    hidden = layer(hidden)
                return self.l2(hidden) - self.mean, hidden

        net = Net()
        reveal_type(net(x))  # is tuple[Tensor, Tensor]
        reveal_type(net(x, scale=2.0)[0])  # is Tensor
        reveal_type(net.l1)  # is Linear
        reveal_type(net.to("cuda").train())  # is Net
        net(x, 1, 2)  # wrong
        net(x, scael=2.0)  # wrong
        net("a")  # wrong

        """,
    "optimizers": """
        reveal_type(optimizer)  # is SGD
        reveal_type(optimizer.param_groups)  # is list[dict[str, Any]]
        reveal_type(optimizer.step())  # is None
        reveal_type(optimizer.step(lambda: model(x).sum()))  # is Tensor
        reveal_type(optimizer.state_dict())  # is dict[str, Any]
        optim.AdamW(model.named_parameters(), betas=(0.9, 0.99), foreach=True)
        optim.SGD([{"params": list(model.parameters()), "lr": 0.1}])
        scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=3)
        reveal_type(scheduler.get_last_lr())  # is list[float]
        optim.SGD(model.parameters(), rl=0.1)  # wrong
        optim.Adam(model.parameters(), lr="0.1")  # wrong
        optim.Adam(model)  # wrong
        optimizer.zero_grads()  # wrong
        optim.lr_scheduler.StepLR(model, 3)  # wrong
        """,
    "data": """
        pairs = TensorDataset(x, labels)
        loader = DataLoader(pairs, batch_size=2, shuffle=True, drop_last=True)
        reveal_type(loader)  # is DataLoader[tuple[Tensor, ...]]
        reveal_type(len(loader))  # is int
        for inputs, targets in loader:
            reveal_type(inputs)  # is Tensor
            reveal_type((model(inputs).argmax(1) == targets).float().mean())  # is Tensor
        for i, (inputs, targets) in enumerate(loader):
            reveal_type(targets)  # is Tensor
        images = datasets.MNIST("data", train=True, download=True, transform=transforms.Compose([transforms.ToTensor()]))
        for inputs, targets in DataLoader(images, 100, True):
            reveal_type(inputs)  # is Tensor
        reveal_type(images.targets)  # is Tensor
        reveal_type(datasets.load_mnist()[0])  # is ARRAY
        reveal_type(datasets.load_mnist.labels)  # is tuple[str, ...]
        for image, label in images:
            model(image), label
        first, second = random_split(pairs, [0.8, 0.2])
        reveal_type(first)  # is Subset[tuple[Tensor, ...]]
        for inputs, targets in DataLoader(Subset(images, [1, 2])):
            reveal_type(inputs)  # is Tensor
        for numbers in DataLoader(range(10)):
            reveal_type(numbers)  # is Tensor
        for batch in DataLoader([(1.0, 2), (3.0, 4)]):
            reveal_type(batch)  # is list[Tensor]
        for names in DataLoader(["a", "b"]):
            reveal_type(names)  # is list[str]
        for count in DataLoader(pairs, collate_fn=len):
            reveal_type(count)  # is Any
        for sample in DataLoader(pairs, batch_size=None):
            reveal_type(sample)  # is Any

        class Squares(Dataset[tuple[Tensor, int]]):
            def __len__(self) -> int:
                return 10

            def __getitem__(self, index: int) -> tuple[Tensor, int]:
                return torch.tensor(index), index * index

        reveal_type(Squares()[3])  # is tuple[Tensor, int]
        for inputs, targets in DataLoader(Squares(), batch_size=2):
            reveal_type(targets)  # is Tensor

        class Named(Dataset[dict[str, Tensor]]):
            def __len__(self) -> int:
                return 10

            def __getitem__(self, index: int) -> dict[str, Tensor]:
                return {"x": torch.tensor(index)}

        for named in DataLoader(Named()):
            reveal_type(named)  # is dict[str, Tensor]

        def epoch(batches: DataLoader[tuple[Tensor, Tensor]]) -> None:
            for inputs, targets in batches:
                reveal_type(model(inputs) - targets)  # is Tensor

        reveal_type(transforms.ToTensor()(np.ones((3, 3))))  # is Tensor
        reveal_type(transforms.Normalize(0.5, 0.5)(x))  # is Tensor
        DataLoader(3)  # wrong
        DataLoader(pairs, batchsize=3)  # wrong
        DataLoader(pairs, shuffel=True)  # wrong
        """,
    "compile": """
        @mulgil.compile(state=[model, optimizer])
        def train_step(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            return loss, inputs

        @mulgil.compile
        def double(a: Tensor) -> Tensor:
            return 2 * a

        def half(a: Tensor, scale: float = 0.5) -> list[Tensor]:
            return [scale * a]

        class Teacher:
            @mulgil.compile
            def lesson(self, a: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
                return scale * a, a

        reveal_type(Teacher().lesson(x, scale=2.0))  # is tuple[Tensor, Tensor]
        Teacher().lesson(x, 1.0, 2.0)  # wrong
        reveal_type(train_step(x, labels))  # is tuple[Tensor, Tensor]
        reveal_type(double(x))  # is Tensor
        reveal_type(mulgil.compile(half, state=model)(x, 2.0))  # is list[Tensor]
        reveal_type(mulgil.compile(model)(x))  # is Tensor
        train_step(x)  # wrong
        double(x, x)  # wrong
        double("a")  # wrong
        mulgil.compile(double, stat=model)  # wrong
        """,
    "training": """
        trainer = mulgil.Trainer(model, optimizer, nn.CrossEntropyLoss(), metrics="accuracy")
        reveal_type(trainer.fit((x, labels), epochs=2))  # is History
        reveal_type(trainer.fit(DataLoader(TensorDataset(x, labels)), (x, labels)))  # is History
        reveal_type(trainer.evaluate((x, labels)).accuracy)  # is float
        reveal_type(trainer.predict(x))  # is ARRAY
        reveal_type(mulgil.Classifier(model, lr=0.1).fit(np.ones((3, 4)), ["a", "b", "c"]))  # is Classifier
        reveal_type(mulgil.interpret(model, (x, labels)).accuracy)  # is float

        class Shout(mulgil.train.Callback):
            def epoch(self, trainer: mulgil.Trainer) -> None:
                reveal_type(trainer.epoch)  # is int
                print(trainer.validation_metrics.accuracy)

        mulgil.Trainer(model, optimizer, nn.CrossEntropyLoss(), callbacks=[Shout()])
        trainer.fit((x, labels), epoch=2)  # wrong
        trainer.fitt  # wrong
        mulgil.Trainer(optimizer, model, nn.CrossEntropyLoss())  # wrong
        """,
    "files": """
        mulgil.save(model, "model.safetensors", info={"by": "me"})
        reveal_type(mulgil.load("model.safetensors", kind=nn.Sequential))  # is Sequential
        reveal_type(mulgil.load("model.safetensors", "cpu", kind=nn.Module)(x))  # is Any
        model.load_state_dict(mulgil.load("weights.safetensors"))
        mulgil.load("checkpoint")["epoch"]
        mulgil.load(3)  # wrong
        mulgil.load("model.safetensors", kind="Net")  # wrong
        """,
    "an op of one's own": """
        class Square(mulgil.Function):
            def forward(self, ctx: mulgil.Context, a: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> object:
                ctx.save(a)
                return a * a

        mulgil.gradcheck(Square(), x.double())

        class Cube(mulgil.Function):
            def forward(self, a: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> object:
                return a**3

            def backward(self, gy: Tensor) -> Tensor:
                (a,) = self.inputs
                gx: Tensor = 3 * a**2 * gy
                return gx
        """,
}
COMPLETIONS = [
    ("import mulgil as torch\ntorch.", ["nn", "optim", "zeros", "Tensor", "compile", "Trainer", "load", "float32"]),
    ("import mulgil\nmulgil.nn.", ["Linear", "Module", "functional"]),
    ("import mulgil\nx = mulgil.zeros(3)\nx.", ["sum", "backward", "shape", "reshape", "exp", "to", "numpy"]),
    ("import mulgil\nx = mulgil.zeros(3)\n(x + 1).exp().", ["sum", "grad", "relu"]),
    ("import mulgil\nx = mulgil.exp(mulgil.zeros(3))\nx.", ["sum", "grad"]),
    ("import mulgil.nn as nn\nm = nn.Sequential(nn.Linear(3, 4))\nm.", ["parameters", "state_dict", "train", "append"]),
    ("import mulgil.optim as optim\noptim.", ["SGD", "Adam", "lr_scheduler"]),
    ("from mulgil.data import DataLoader, datasets\ndatasets.", ["MNIST", "Digits"]),
    ("import mulgil\nt = mulgil.Trainer()\nt.", ["fit", "evaluate", "predict"]),
]


def lines_of(program: str) -> list[str]:
    return (HEAD + textwrap.dedent(program)).splitlines()


def revealing(line: str) -> str:
    """The type that a line promises to reveal, or nothing."""
    found = re.search(r"# is (.*)$", line)
    return found[1].replace("ARRAY", ARRAY) if found else ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each program as a file."""
    where = tmp_path_factory.mktemp("programs")
    for i, program in enumerate(PROGRAMS.values()):
        (where / f"program_{i}.py").write_text("\n".join(lines_of(program)) + "\n", encoding="utf-8")
    return where


Message = tuple[str, int, str, str]  # file, line from 1, "type" or "error", text


def mypy(folder: Path) -> Iterator[Message]:
    pytest.importorskip("mypy", reason="mypy is not installed: pip install 'mulgil[test]'")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--hide-error-context", "--config-file="]
    command += ["--python-version=3.11", f"--cache-dir={folder / 'cache'}", *sorted(p.name for p in folder.glob("*.py"))]
    out = subprocess.run(command, cwd=folder, env={**os.environ, "MYPYPATH": str(SOURCES)}, capture_output=True, text=True)
    assert out.returncode in (0, 1) and not out.stderr, out.stdout + out.stderr
    for line in out.stdout.splitlines():
        if found := re.match(r"(\w+\.py):(\d+): (error|note): (.*)$", line):
            shown = re.match(r'Revealed type is "(.*)"$', found[4])
            if shown:
                yield found[1], int(found[2]), "type", re.sub(r"\b(?:\w+\.)+(?=\w)", "", shown[1])
            elif found[3] == "error":
                yield found[1], int(found[2]), "error", found[4]


def pyright(folder: Path) -> Iterator[Message]:
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = shutil.which("basedpyright", path=places) or shutil.which("pyright", path=places)
    if not command:
        pytest.skip("pyright is not installed: pip install 'mulgil[test]' brings basedpyright, which is pyright with its own node")
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "reportUnusedExpression": False, "reportUnusedImport": False}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}  # searched like site-packages
    arguments = [command, "--outputjson", "--pythonpath", sys.executable, str(folder)]
    out = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True)
    assert out.returncode in (0, 1), out.stdout + out.stderr
    for one in json.loads(out.stdout)["generalDiagnostics"]:
        text = one["message"].replace("\xa0", " ")
        shown = re.match(r'Type of ".*" is "(.*)"$', text)
        kind = "type" if shown else "error" if one["severity"] == "error" else ""
        if kind:
            yield Path(one["file"]).name, one["range"]["start"]["line"] + 1, kind, shown[1] if shown else text


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_programs(checker: Callable[[Path], Iterator[Message]], folder: Path) -> None:
    said: dict[tuple[str, int], dict[str, list[str]]] = {}
    for file, line, kind, text in checker(folder):
        said.setdefault((file, line), {"type": [], "error": []})[kind].append(text)
    faults = []
    for i, (name, program) in enumerate(PROGRAMS.items()):
        for number, line in enumerate(lines_of(program), 1):
            here = said.get((f"program_{i}.py", number), {"type": [], "error": []})
            wanted = revealing(line)
            if wanted and here["type"] != [wanted]:
                faults.append(f"{name}: {line.strip()}: {here['type']}")
            if bool(here["error"]) != line.endswith("# wrong"):
                faults.append(f"{name}: {line.strip()}: {here['error'] or 'no error'}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(("code", "names"), COMPLETIONS, ids=[code.splitlines()[-1] for code, _ in COMPLETIONS])
def test_editors_complete(code: str, names: list[str]) -> None:
    jedi = pytest.importorskip("jedi", reason="jedi is not installed: pip install 'mulgil[test]'")
    project = jedi.Project(str(SOURCES), added_sys_path=[str(SOURCES)])
    offered = {completion.name for completion in jedi.Script(code, project=project).complete()}
    assert set(names) <= offered


def test_what_is_loaded_late_is_what_checkers_are_told() -> None:
    text = inspect.getsource(mulgil)
    told = set(re.findall(r" as (\w+)$", text[text.index("if TYPE_CHECKING:") : text.index("__version__")], re.MULTILINE))
    assert told == set(mulgil._LAZY)
    assert set(mulgil._LAZY) | set(mulgil._DTYPES) <= set(dir(mulgil))
    assert all(getattr(mulgil, name) is not None for name in mulgil._LAZY)


@pytest.mark.parametrize(("name", "hint"), [("Tensr", "did you mean mulgil.Tensor?"), ("nonsense", "has no attribute 'nonsense'")])
def test_an_unknown_name_is_an_error_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=re.escape(hint)):
        getattr(mulgil, name)


# Public functions that take or return Any, and why.
ANY = {
    "apply": "an op may have one output or several, of Tensors or of arrays",
    "Function.__call__": "as apply",
    "Function.apply": "as apply",
    "Tensor.apply_static": "as apply",
    "Function.forward": "an op's arguments are its own",
    "Function.backward": "as forward",
    "Module.forward": "a model's arguments are its own",
    "Tensor.apply_function": "as apply",
    "Operators.apply_function": "as apply",
    "Tensor.seed": "an array or a Tensor, for the walk back",
    "PythonProtocol.item": "int, float or bool: only the dtype says",
    "Conversions.tolist": "lists of lists, or a number",
    "Generator.on": "NumPy's generator or CuPy's",
    "load": "what the file holds; kind= says it",
    "DataLoader.fetch": "what iterating gives",
    "Dataset.fetch": "what default_collate makes of the samples",
    "Subset.fetch": "as Dataset",
    "default_collate": "as its samples",
    "Transform.__call__": "any function of a sample",
    "Compose.__call__": "as its last step",
    "Compose.batch": "as its last step",
    "Lambda.__call__": "any function of a sample",
    "Normalize.batch": "as its argument",
    "Flatten.batch": "as its argument",
    "Flatten.on_tensor": "as batch",
    "apply_batch": "as the transform's last step",
}


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function and method, and each of its overloads."""
    places = [(module, module.__all__) for module in (nn, optim, data, datasets, transforms, io, train, plot, functional)]
    places.append((mulgil, [name for name in dir(mulgil) if not name.startswith("_")]))
    for module in (init, utils):
        here = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        places.append((module, [name for name in here if not name.startswith("_")]))
    for module, names in places:
        for name in names:
            found = getattr(module, name)
            if inspect.isfunction(found) and found.__module__.startswith("mulgil"):
                yield from ((name, form) for form in typing.get_overloads(found) or [found])
            for owner in found.__mro__ if inspect.isclass(found) else ():
                if not owner.__module__.startswith("mulgil"):
                    continue
                for label, method in vars(owner).items():
                    method = getattr(method, "fget", None) or getattr(method, "__func__", None) or method
                    if inspect.isfunction(method) and (not label.startswith("_") or label in ("__call__", "__getitem__", "__iter__")):
                        yield from ((f"{owner.__name__}.{label}", form) for form in typing.get_overloads(method) or [method])


def test_no_public_function_returns_any() -> None:
    results = {(name, str(inspect.signature(form).return_annotation)) for name, form in public()}
    assert len(results) > 400
    vague = {name for name, result in results if result in ("Any", str(inspect.Signature.empty))}
    assert sorted(vague - set(ANY) - {"Module.__call__", "Compiled.__call__"}) == []  # these calls are typed for checkers alone
    assert sorted(set(ANY) - vague) == [], "no longer Any: take it from the table"
