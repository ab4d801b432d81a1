"""A model out of a file, which may be anybody's, at work: what goes wrong in it is told as a fault of that file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mulgil.errors import ModelFileError, MulgilError


def load_model(path: str, device: Any = None) -> Any:
    """The Module of a file. Raises ModelFileError for a file that holds something else, such as weights without their model."""
    from mulgil import nn
    from mulgil.io import load

    found = load(path, device)
    if not isinstance(found, nn.Module):
        kind = "weights without their model" if isinstance(found, dict) else f"a {type(found).__name__}"
        hint = "build the model, model.load_state_dict(mulgil.load(path)), and mulgil.save(model, path)"
        raise ModelFileError("the file must hold a whole model", f"{path}: {kind}", hint)
    return found


@contextmanager
def at_work(path: str) -> Iterator[None]:
    """Errors that settings from a file provoke in a model become ModelFileErrors. Raises MemoryError as it comes."""
    try:
        yield
    except (MulgilError, MemoryError):
        raise
    except Exception as error:
        rule, hint = "a model must work on the images that it was made for", "save it again with the program that made it"
        raise ModelFileError(rule, f"{path}: {type(error).__name__}: {error}", hint) from error
