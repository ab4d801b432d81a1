"""PyTorch's sample inputs, a few for each operation and dtype (all of them: `python -m tests.ops.opinfo`)."""

from __future__ import annotations

import pytest

from tests.ops import opinfo

SAMPLES = 6  # for each operation and dtype


def covered() -> list:
    pytest.importorskip("torch")
    if missing := opinfo.importable():
        pytest.skip(missing)
    return [info for info in opinfo.infos() if any(True for _ in opinfo.callables(info))]


def test_mulgil_answers_as_pytorch_or_refuses():
    tried, equal, wrong = 0, 0, []
    for info in covered():
        for report in opinfo.check(info, ("float32", "float64", "int64", "uint8", "bool"), SAMPLES):
            tried, equal = tried + report.counts["tried"], equal + report.counts["equal"]
            wrong += report.wrong
    assert not wrong, "\n".join(wrong)
    assert tried > 2000
    assert equal > tried / 2
