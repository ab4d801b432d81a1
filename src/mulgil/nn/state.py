"""state_dict and load_state_dict: values under dotted names, loaded all or nothing, with mismatches explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from mulgil.autograd import Parameter, Tensor, no_grad
from mulgil.backend import to_device, xp_of
from mulgil.errors import ModelFileError, ShapeError

COUNTER = "num_batches_tracked"  # of batch norms; as in PyTorch it may be missing, for many files do not have it
SHOWN = 8  # names listed in a message before "and N more"


class LoadResult(NamedTuple):
    """What `load_state_dict(strict=False)` did not find and did not use."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"LoadResult(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def state_items(module: Any, prefix: str = "") -> Iterator[tuple[str, Tensor, Any]]:
    """(dotted name, tensor, owner) of parameters and persistent buffers in PyTorch's order; a shared tensor under each name."""
    for path, owner in module.named_modules(prefix=prefix.rstrip("."), remove_duplicate=False):
        for kind in ("parameter", "buffer"):
            for name, tensor in owner._members(kind).items():
                if tensor is not None and name not in owner._transient:
                    yield (f"{path}.{name}" if path else name), tensor, owner


def state_dict(module: Any, prefix: str, keep_vars: bool) -> dict[str, Tensor]:
    """See `Module.state_dict`."""
    state = {}
    for name, tensor, owner in state_items(module, prefix):
        if tensor.array is None:
            raise ShapeError(
                f"state_dict: '{name}' has no shape yet, for the input size of {type(owner).__name__} is open",
                repr(owner),
                "send one batch through the model first, or give the layer its input size",
            )
        state[name] = tensor if keep_vars else tensor.detach()
    return state


def load_state_dict(module: Any, state: Mapping[str, Any], strict: bool) -> LoadResult:
    """See `Module.load_state_dict`: every value is checked and converted before the first one is written."""
    if not isinstance(state, Mapping):
        raise TypeError(f"load_state_dict takes a dictionary of names and values, not {type(state).__name__}")
    items = list(state_items(module))
    known = {name for name, _, _ in items}
    missing = [name for name, _, _ in items if name not in state and not name.endswith(COUNTER)]
    unexpected = [name for name in state if name not in known]
    values, wrong = {}, []
    for name, tensor, owner in items:
        if name in state:
            value = _array(name, state[name])
            values[name] = value
            expected = getattr(tensor, "open_shape", ()) if tensor.array is None else tensor.shape
            if tensor.array is None and tensor is not owner.weight and name.removesuffix("bias") + "weight" not in state:
                raise ModelFileError(f"load_state_dict: '{name}' needs its weight, for the layer's input size is open", repr(owner))
            if not _fits(value.shape, expected):
                wrong.append((name, value.shape, expected))
    if wrong or (strict and (missing or unexpected)):
        raise _mismatch(module, items, state, missing, unexpected, wrong)
    for name, tensor, owner in items:
        if name in values:
            _write(owner, tensor, values[name])
    return LoadResult(missing, unexpected)


def _array(name: str, value: Any) -> Any:
    array = value.array if isinstance(value, Tensor) else value
    if not hasattr(array, "dtype") or not hasattr(array, "shape"):
        array = np.asarray(array)
    elif not isinstance(array, np.ndarray) and xp_of(array) is np:  # a torch tensor and the like
        array = np.asarray(array.detach() if hasattr(array, "detach") else array)
    if array.dtype.kind not in "biuf":
        got = f"{type(value).__name__} of dtype {array.dtype}"
        raise ModelFileError(f"load_state_dict: the value of '{name}' must be an array of numbers", got)
    return array


def _fits(shape: tuple, expected: tuple) -> bool:
    """Equal shapes; None in `expected` stands for a size that is still open."""
    return len(shape) == len(expected) and all(want is None or size == want for size, want in zip(shape, expected, strict=True))


def _write(owner: Any, tensor: Tensor, value: Any) -> None:
    if tensor.array is None:
        owner._settle_from(value)
    if isinstance(tensor, Parameter) or tensor.array.dtype.kind == "f":
        value = value.astype(tensor.array.dtype, copy=False)
    with no_grad():
        tensor.copy_(to_device(value, tensor.device))


# ---------------------------------------------------------------------- what to say when names or shapes differ
def _mismatch(module: Any, items: list, state: Mapping, missing: list[str], unexpected: list[str], wrong: list) -> ModelFileError:
    parts = []
    if missing:
        parts.append(f"missing: {_listed(missing)}")
    if unexpected:
        parts.append(f"unexpected: {_listed(unexpected)}")
    for name, came, expected in wrong[:SHOWN]:
        parts.append(f"{name} is {_shape(came)}, the model's is {_shape(expected)}")
    if len(wrong) > SHOWN:
        parts.append(f"and {len(wrong) - SHOWN} more shapes that differ")
    return ModelFileError(
        f"load_state_dict: names and shapes must be those of {type(module).__name__} (nothing was loaded)",
        "\n        ".join(parts),
        _explain(items, state, missing, unexpected, wrong),
    )


def _listed(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _shape(shape: tuple) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _explain(items: list, state: Mapping, missing: list[str], unexpected: list[str], wrong: list) -> str:
    """The likeliest reason, as a hint."""
    prefix = _common_prefix(unexpected)
    if prefix and missing and {name.removeprefix(prefix) for name in unexpected} >= set(missing):
        return f"the names carry the prefix '{prefix}': load {{name.removeprefix('{prefix}'): value for name, value in state.items()}}"
    prefix = _common_prefix(missing)
    if prefix and unexpected and {name.removeprefix(prefix) for name in missing} <= set(unexpected):
        return f"the model's names carry the prefix '{prefix}': load {{'{prefix}' + name: value for name, value in state.items()}}"
    renamed = _renamed(items, state, missing, unexpected)
    if renamed:
        return "renamed layers? " + ", ".join(f"'{old}' has the shapes of '{new}'" for old, new in renamed.items())
    if wrong and all(len(came) == 2 and tuple(reversed(came)) == tuple(expected) for _, came, expected in wrong):
        return "the weights look transposed: a weight is [out, in] here; pass value.T"
    if wrong:
        return "build the model with the sizes that it was saved with"
    return "build the model as it was when saved, or pass strict=False to load what fits"


def _common_prefix(names: list[str]) -> str:
    first = {name.partition(".")[0] for name in names if "." in name}
    return f"{first.pop()}." if len(first) == 1 and all("." in name for name in names) else ""


def _renamed(items: list, state: Mapping, missing: list[str], unexpected: list[str]) -> dict[str, str]:
    """Old layer name -> new layer name, where each unexpected layer has exactly the members and shapes of a missing one."""
    shapes = {name: tensor.shape if tensor.array is not None else None for name, tensor, _ in items}
    new, old = _by_layer(missing, shapes), _by_layer(unexpected, {name: _array(name, state[name]).shape for name in unexpected})
    pairs = {}
    for layer, members in old.items():
        match = next((name for name, its in new.items() if its == members), None)
        if match is None:
            return {}
        pairs[layer] = match
        del new[match]
    return {} if new else pairs


def _by_layer(names: list[str], shapes: dict) -> dict[str, dict]:
    layers: dict[str, dict] = {}
    for name in names:
        layer, _, member = name.rpartition(".")
        layers.setdefault(layer, {})[member] = shapes[name] and tuple(shapes[name])
    return layers
