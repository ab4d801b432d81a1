"""`python -m mulgil`: the command line."""

from __future__ import annotations

from mulgil.cli import main

if __name__ == "__main__":
    main()
