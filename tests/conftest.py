"""What several tests of compiled functions need."""

import pytest

from mulgil.native import threads


@pytest.fixture
def three_cores(monkeypatch):
    """Kernels are cut into three shares, however small they are, and two helpers take some, whatever this machine has."""
    monkeypatch.setattr(threads, "cores", lambda: 3)
    monkeypatch.setattr(threads, "WORTH", 0)
    monkeypatch.setattr(threads, "_allowed", 0)
    threads.helpers.cache_clear()
    yield
    threads.helpers.cache_clear()
