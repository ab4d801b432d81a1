"""A model out of a file, which may be anybody's, at work: what goes wrong in it is told as a fault of that file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mulgil.errors import DataError, ModelFileError, MulgilError


def load_model(path: str, device: Any = None) -> Any:
    """The Module of a file, or of a run's folder.

    Raises ModelFileError for a file that holds something else, such as weights without their model.
    """
    from mulgil import nn
    from mulgil.io import load

    found = load(model_file(path), device)
    if not isinstance(found, nn.Module):
        kind = "weights without their model" if isinstance(found, dict) else f"a {type(found).__name__}"
        hint = "build the model, model.load_state_dict(mulgil.load(path)), and mulgil.save(model, path)"
        raise ModelFileError("the file must hold a whole model", f"{path}: {kind}", hint)
    return found


def model_file(path: str) -> str:
    """The model file that `path` is, or that lies in the folder of a run. Raises DataError where a run has none yet."""
    if not Path(path).is_dir():
        return path
    from mulgil.train.folder import RunFolder

    folder = RunFolder(path)
    if not folder.model.is_file():
        hint = f"let it end: mulgil train --resume {path}" if folder.config.exists() else "mulgil runs list shows the runs"
        raise DataError("the folder of a run that has ended holds its model", f"{path}: there is no {folder.model.name}", hint)
    return str(folder.model)


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
