"""Tables of results: lines for the terminal and Markdown for the page. Nothing here measures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.sides import SIDES
from benchmarks.workloads import WORKLOADS

LABELS = list(dict.fromkeys(side.label for side in SIDES.values()))
OURS = ("mulgil eager", "mulgil compiled")
Result = dict[str, dict[str, Any]]  # side -> {"ms", "spread", "turns", "version"} or {"missing"}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; every column but the first to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def by_label(result: Result) -> dict[str, dict[str, Any]]:
    """Label -> the best of its variants; sides that are missing are left out."""
    best: dict[str, dict[str, Any]] = {}
    for name, figure in result.items():
        label = SIDES[name].label
        if "ms" in figure and (label not in best or figure["ms"] < best[label]["ms"]):
            best[label] = {**figure, "side": name}
    return best


def ratio(result: Result, ours: str = "mulgil compiled") -> tuple[float, str] | None:
    """(ours / the best of the others, that other's label), or None where one of them is missing."""
    best = by_label(result)
    others = {label: figure["ms"] for label, figure in best.items() if label not in OURS}
    if ours not in best or not others:
        return None
    rival = min(others, key=others.__getitem__)
    return best[ours]["ms"] / others[rival], rival


def floors(name: str, machine: dict[str, Any]) -> tuple[float, float]:
    """Milliseconds: of the matrix products at the machine's peak, and of the bytes at its speed of copying."""
    workload = WORKLOADS[name]
    return workload.operations() / machine["gflops"] / 1e6, workload.bytes() / machine["gbytes"] / 1e6


def number(ms: float) -> str:
    """Three digits that mean something."""
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}" if ms >= 0.1 else f"{ms:.3f}"


def step_header() -> str:
    return f"{'workload':22} {'side':28} {'ms':>9} {'spread':>7}   mulgil compiled / it"


def step_lines(name: str, result: Result, machine: dict[str, Any]) -> str:
    """For the terminal: a line a side."""
    ours = result.get("mulgil", {}).get("ms")
    lines = []
    for side, figure in result.items():
        if "missing" in figure:
            lines.append(f"{name:22} {side:28} not available: {figure['missing']}")
            continue
        against = f"   {ours / figure['ms']:.2f}" if ours and not side.startswith("mulgil") else ""
        lines.append(f"{name:22} {side:28} {number(figure['ms']):>9} {figure['spread']:>+7.0%}{against}")
    arithmetic, memory = floors(name, machine)
    lines.append(f"{name:22} {'floor: arithmetic, memory':28} {number(arithmetic):>9} {number(memory):>7}")
    return "\n".join(lines)


def steps(results: dict[str, Result], machine: dict[str, Any]) -> str:
    """The page's table of steps, and below it the table of models."""
    measured = [name for name in WORKLOADS if name in results]
    best = {name: by_label(results[name]) for name in measured}
    labels = [label for label in LABELS if any(label in b for b in best.values())]
    rows = []
    for name in measured:
        cells = [f"{number(f['ms'])} ({f['spread']:+.0%})" if (f := best[name].get(label)) else "" for label in labels]
        against = ratio(results[name])
        verdict = f"**{against[0]:.2f}** ({against[1]})" if against else ""
        rows.append([f"`{name}`", *cells, verdict, *map(number, floors(name, machine))])
    models = [[f"`{name}`", _optimizer(name), f"{WORKLOADS[name].batch}", WORKLOADS[name].summary] for name in measured]
    return (
        markdown(["workload", *labels, "ratio (to)", "floor", "memory"], rows)
        + "\n"
        + markdown(["workload", "optimizer", "batch", "model"], models)
    )


def _optimizer(name: str) -> str:
    workload = WORKLOADS[name]
    return " ".join([workload.optimizer or "none", *(f"{key} {value:g}" for key, value in workload.settings.items())])


def absent(results: dict[str, Result]) -> str:
    """A paragraph on what could not be measured, with the reasons; empty if there is none."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, result in results.items():
        for side, figure in result.items():
            if "missing" in figure:
                reasons.setdefault((side, figure["missing"]), []).append(f"`{name}`")
    lines = [f"- {side}: {reason} ({', '.join(names)})" for (side, reason), names in reasons.items()]
    return "\nNot available:\n\n" + "\n".join(lines) + "\n" if lines else ""


def versions(data: dict[str, Any]) -> list[str]:
    """Of the libraries that took part."""
    found = {f["version"]: None for result in data.get("steps", {}).values() for f in result.values() if f.get("version")}
    return list(found)


def programs(results: dict[str, Any]) -> str:
    """Rows of {"side", "seconds": [...], "accuracy"} by program; the ratio is to PyTorch's seconds."""
    rows = []
    for name, sides in results.items():
        reference = min(sides["torch"]["seconds"]) if sides.get("torch", {}).get("seconds") else None
        for side, figure in sides.items():
            if "missing" in figure:
                rows.append([f"`{name}`", side, "", f"not available: {figure['missing']}", ""])
                continue
            low, high = min(figure["seconds"]), max(figure["seconds"])
            against = f"{low / reference:.2f}" if reference and side != "torch" else ""
            rows.append([f"`{name}`", side, f"{low:.1f} ({high:.1f})", f"{figure['accuracy']:.4f}", against])
    return markdown(["program", "side", "seconds", "test accuracy", "ratio to PyTorch"], rows)


def race(results: dict[str, Any]) -> str:
    rows = []
    for side, figure in results.items():
        if "missing" in figure:
            rows.append([side, "", "", "", "", "", f"not available: {figure['missing']}"])
            continue
        reached = [run["training"] for run in figure["runs"] if run["reached"]]
        span = f"{min(reached):.1f} to {max(reached):.1f}" if reached else "not reached"
        accuracy = f"{min(r['accuracy'] for r in figure['runs']):.4f} to {max(r['accuracy'] for r in figure['runs']):.4f}"
        extra = [f"{max(r[key] for r in figure['runs']):.1f}" for key in ("evaluation", "preparation")]
        rows.append([side, span, f"{len(reached)} of {len(figure['runs'])}", accuracy, *extra, figure["recipe"]])
    return markdown(["side", "seconds of training", "seeds that reach it", "accuracy", "evaluation", "preparation", "recipe"], rows)


def loader(results: dict[str, Any]) -> str:
    rows = [[name, f"{figure['median']:.3f}", f"{figure['best']:.3f}"] for name, figure in results.items()]
    return markdown(["loader", "seconds for an epoch of 60,000 images, shuffled", "best"], rows)
