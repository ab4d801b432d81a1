"""Programs that were wrong once, as the fuzzer left them when it had made them small. Each stays right.

A row is what `python -m tests.fuzz` prints behind `# row:`, with a name that says what was wrong.
"""

from __future__ import annotations

from tests.fuzz.expressions import Expression
from tests.fuzz.networks import Network

FOUND: dict[str, Expression | Network] = {}
