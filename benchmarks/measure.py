"""Figures as ratios of medians, measured alternately in one run, and the file that keeps them."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, final

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

VERSIONS = ("torch", "pytorch-lightning", "ray", "mlflow", "numpy")

NOT_AVAILABLE = "not available"

Contenders = Mapping[str, Callable[[int], float]]
"""By name, what takes the number of a round and returns a time, in the unit of its case."""


@final
@dataclass(frozen=True)
class Ratio:
    """time of `slow` / time of `fast`: how many times as fast `fast` is, or what `slow` adds."""

    slow: str
    fast: str
    aim: str = ""


@final
@dataclass
class Case:
    """One comparison: raw times of each contender by round, in `unit`, and the ratios to read."""

    figure: str
    name: str
    unit: str = ""
    times: dict[str, list[float]] = field(default_factory=dict)
    ratios: list[Ratio] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    """A word on a contender that has no times, or on the case."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else was found: scores, counts."""

    def median(self, name: str) -> float | None:
        """None where the contender was not measured."""
        return statistics.median(self.times[name]) if self.times.get(name) else None

    def ratio(self, ratio: Ratio) -> float | None:
        """Of the medians; None where one of both was not measured."""
        slow, fast = self.median(ratio.slow), self.median(ratio.fast)
        return slow / fast if slow and fast else None

    def spread(self, ratio: Ratio) -> tuple[float, float] | None:
        """Smallest and largest ratio of a single round."""
        slow, fast = self.times.get(ratio.slow), self.times.get(ratio.fast)
        if not slow or not fast:
            return None
        each = [a / b for a, b in zip(slow, fast, strict=True)]
        return min(each), max(each)

    def to_dict(self) -> dict[str, Any]:
        return {
            "figure": self.figure,
            "name": self.name,
            "unit": self.unit,
            "times": self.times,
            "medians": {name: self.median(name) for name in self.times},
            "ratios": [
                {
                    "slow": each.slow,
                    "fast": each.fast,
                    "aim": each.aim,
                    "ratio": self.ratio(each),
                    "spread": self.spread(each),
                }
                for each in self.ratios
            ],
            "notes": self.notes,
            "facts": self.facts,
        }

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Case:
        ratios = [Ratio(each["slow"], each["fast"], each["aim"]) for each in tree["ratios"]]
        names = ("figure", "name", "unit", "times", "notes", "facts")
        return cls(ratios=ratios, **{name: tree[name] for name in names})


def alternate(
    contenders: Contenders,
    rounds: int,
    *,
    warm_up: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, list[float]]:
    """Times by contender: every round runs each once, odd rounds in the opposite order.

    `warm_up` rounds come before and do not count; their numbers are negative. What slows the
    machine down for a while thus falls on all contenders alike.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(-warm_up, rounds):
        order = list(contenders)[:: 1 if turn % 2 == 0 else -1]
        for name in order:
            spent = contenders[name](turn)
            if turn >= 0:
                times[name].append(spent)
                say(f"round {turn + 1} of {rounds}: {name} {spent:.4g}")
    return times


def machine() -> dict[str, Any]:
    """What a figure depends on besides the code: processor, cores, versions, date, commit."""
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "gpu": _gpu_model(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpu_model() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def write_results(path: Path, cases: Sequence[Case], about: Mapping[str, Any]) -> None:
    """All that was measured so far, raw times included."""
    tree = {"machine": about, "command": sys.argv[1:], "cases": [each.to_dict() for each in cases]}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(tree, indent=1) + "\n")
    temporary.replace(path)


def read_results(path: Path) -> tuple[dict[str, Any], list[Case]]:
    """The machine and the cases of a file that `write_results` wrote."""
    tree = json.loads(path.read_text())
    return tree["machine"], [Case.from_dict(each) for each in tree["cases"]]


COLUMNS = ("figure", "case", "what", "times", "ratio", "rounds", "aim")


def lines(cases: Sequence[Case]) -> list[tuple[str, ...]]:
    """The table's lines: a ratio each, then the facts and the notes of its case."""
    found: list[tuple[str, ...]] = []
    for case in cases:
        ours = (case.figure, case.name)
        for each in case.ratios:
            number = case.ratio(each)
            what = f"{each.slow} / {each.fast}"
            if number is None:
                found.append((*ours, what, NOT_AVAILABLE, "", "", each.aim))
                continue
            times = f"{case.median(each.slow):.4g} / {case.median(each.fast):.4g} {case.unit}"
            rounds = str(len(case.times[each.fast]))
            found.append(
                (*ours, what, times, _with_spread(number, case.spread(each)), rounds, each.aim)
            )
        for name, value in case.facts.items():
            if not isinstance(value, dict):  # else for the file alone
                found.append((*ours, name, str(value), "", "", ""))
        compared = {name for each in case.ratios for name in (each.slow, each.fast)}
        for name, note in case.notes.items():
            if name not in compared:
                found.append((*ours, name, note, "", "", ""))
    return found


def _with_spread(number: float, spread: tuple[float, float] | None) -> str:
    return f"{number:.3g}" if spread is None else f"{number:.3g} ({spread[0]:.3g}-{spread[1]:.3g})"


def show(cases: Sequence[Case], about: Mapping[str, Any]) -> None:
    """The table on the terminal: with rich where it is installed, else plain."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    device = f"{about['gpu']}, " if about["gpu"] else ""
    under = f"{device}{about['cpu']}, {about['cores']} cores; {versions}; {about['date']}"
    try:
        from rich.console import Console
        from rich.table import Table
    except ModuleNotFoundError:
        for line in (COLUMNS, *lines(cases)):
            print("  ".join(cell for cell in line if cell))
        print(under)
        return
    table = Table(*COLUMNS, box=None, header_style="bold")
    for line in lines(cases):
        table.add_row(*line)
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)
    console.print(under, style="dim")
