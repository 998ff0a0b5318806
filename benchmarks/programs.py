"""Whole sweeps as a user starts them: a command in an empty folder, wall clock to its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import yaml

from benchmarks.measure import ROOT

LOG = "output.log"


@final
@dataclass(frozen=True)
class Finished:
    """What a program left: its wall clock in seconds, and the score of each trial."""

    seconds: float
    scores: list[float]


class ProgramError(Exception):
    """A program failed; the message ends with what it printed."""


def environment() -> dict[str, str]:
    """The checkout first, so that it is measured and not another installed version."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def timed(
    command: Sequence[str], scores: Callable[[Path], list[float]], files: dict[str, str]
) -> Finished:
    """Run `command` in a new folder that holds `files`; `scores` reads the folder afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in files.items():
            (folder / file).write_text(text)
        with (folder / LOG).open("w") as log:
            start = time.perf_counter()
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
            seconds = time.perf_counter() - start
        if done.returncode:
            tail = (folder / LOG).read_text(errors="replace")[-2000:]
            raise ProgramError(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")
        return Finished(seconds, scores(folder))


def gansweep_run(tree: dict[str, Any], *overrides: str) -> Finished:
    """`gansweep run sweep.yaml`."""
    command = [sys.executable, "-m", "gansweep.cli", "run", "sweep.yaml", *overrides]
    return timed(
        command,
        lambda folder: [trial["metrics"]["score/swd"] for trial in shown(folder, tree["name"])],
        {"sweep.yaml": yaml.safe_dump(tree)},
    )


def shown(folder: Path, name: str) -> list[dict[str, Any]]:
    """The trials, ranked, of `gansweep show NAME --json`; all must have been completed."""
    command = [sys.executable, "-m", "gansweep.cli", "show", name, "--json"]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=True
    )
    trials: list[dict[str, Any]] = json.loads(done.stdout)["trials"]
    ends = {trial["state"] for trial in trials}
    if ends != {"completed"}:
        raise ProgramError(f"trials of {name} ended as {ends}")
    return trials


def baseline(name: str, model: str, *, width: int, g_steps: int, lean: bool = False) -> Finished:
    """`python -m benchmarks.baselines.NAME`."""
    numbers = {"--width": width, "--g-steps": g_steps, "--workers": cores()}
    command = [sys.executable, "-m", f"benchmarks.baselines.{name}", model]
    command += [word for option, value in numbers.items() for word in (option, str(value))]
    if lean:
        command.append("--lean")
    return timed(
        command,
        lambda folder: [each["swd"] for each in json.loads((folder / "summary.json").read_text())],
        {},
    )


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def ranked(tree: dict[str, Any], *overrides: str) -> dict[str, list[float]]:
    """Scores of each point over its seeds, by the point, of `gansweep run`."""
    points: dict[str, list[float]] = {}

    def read(folder: Path) -> list[float]:
        for trial in shown(folder, tree["name"]):
            point = json.dumps(trial["point"], sort_keys=True)
            points.setdefault(point, []).append(trial["metrics"]["score/swd"])
        return []

    command = [sys.executable, "-m", "gansweep.cli", "run", "sweep.yaml", *overrides]
    timed(command, read, {"sweep.yaml": yaml.safe_dump(tree)})
    return points
