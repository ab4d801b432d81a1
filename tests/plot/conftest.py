"""Pictures are drawn without windows, and none is left open."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True)
def no_windows():
    if find_spec("matplotlib") is None:  # graphs are drawn without it
        yield
        return
    import matplotlib

    matplotlib.use("Agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")
