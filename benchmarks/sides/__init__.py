"""The sides that are measured: a file a library, each with `make(workload, variant) -> step` and `version()`.

`step(i)` does a training step with the i-th set of labels and gives its loss, or an inference and gives its output; when it comes
back, the work is done. `numpy(result)` makes an array of what it gave. A file imports its library at its top: a side whose library
is not installed fails there, and its worker says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.workloads import Workload


@dataclass(frozen=True)
class Side:
    """name: of the side. package: the library's, for `--python`. file: in this folder. label: its column in the tables, shared by
    variants of which the best one counts. variant: given to `make`."""

    name: str
    package: str
    file: str
    label: str
    variant: str = ""

    def takes(self, workload: Workload) -> bool:
        """Layout matters to convolutions alone; MyGrad and DeZero take a minute where others take a second."""
        if "channels-last" in self.name:
            return workload.convolves
        return workload.simple or self.package not in ("mygrad", "dezero")


_ALL = (
    Side("mulgil-eager", "mulgil", "mulgil_side", "mulgil eager", "eager"),
    Side("mulgil", "mulgil", "mulgil_side", "mulgil compiled", "compiled"),
    Side("torch", "torch", "torch_side", "PyTorch"),
    Side("torch-channels-last", "torch", "torch_side", "PyTorch", "channels-last"),
    Side("torch-compile", "torch", "torch_side", "torch.compile", "compile"),
    Side("torch-compile-channels-last", "torch", "torch_side", "torch.compile", "compile channels-last"),
    Side("jax", "jax", "jax_side", "JAX jit"),
    Side("tinygrad", "tinygrad", "tinygrad_side", "tinygrad"),
    Side("mygrad", "mygrad", "mygrad_side", "MyGrad"),
    Side("dezero", "dezero", "dezero_side", "DeZero"),
)
SIDES = {side.name: side for side in _ALL}
