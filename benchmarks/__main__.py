"""`make bench`: every benchmark in turn. Each can also be run alone: `python -m benchmarks.step --help`."""

import subprocess
import sys

for name in ("step", "loader"):
    print(f"\n== benchmarks.{name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
