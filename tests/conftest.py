"""What several tests of compiled functions need."""

import pytest

from mulgil.native import hardware, threads


@pytest.fixture
def three_cores(monkeypatch):
    """Kernels are cut into three shares, however small they are, and two helpers take some, whatever this machine has."""
    monkeypatch.setattr(threads, "cores", lambda: 3)
    monkeypatch.setattr(threads, "WORTH", 0)
    monkeypatch.setattr(threads, "_allowed", 0)
    threads.helpers.cache_clear()
    yield
    threads.helpers.cache_clear()


@pytest.fixture(params=[16, 32, 64], ids="vectors of {} bytes".format)
def vector_bytes(request, monkeypatch):
    """Kernels as processors with such vectors have them. `MULGIL_VECTOR_BYTES=16 make test` runs all tests so."""
    if request.param not in hardware.widths():
        pytest.skip(f"this processor has no vectors of {request.param} bytes: {hardware.widths() or 'not an x86'}")
    monkeypatch.setenv(hardware.SWITCH, str(request.param))
    return request.param
