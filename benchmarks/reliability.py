"""Figure `reliability`: what not losing anything adds to a trial, seconds.

The trials of two shipped sweeps, whole `run_trial` calls in one process: a spool with its flushes,
and checkpoints at the default interval with their checksums, on the disk of temporary files. Each
run gives both times, what training waits for spool and checkpoints taken off for the one without:
a difference of two runs would be lost in their noise. MLflow has no part in it (figure `record`).
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, final
from unittest.mock import patch

import torch

from benchmarks import workloads
from benchmarks.measure import ROOT, Case, Ratio
from benchmarks.plan import Plan
from gansweep.pack import Pack
from gansweep.replica import Replica
from gansweep.sweep.file import load_sweep
from gansweep.tracking.spool import SpoolTracker
from gansweep.trial import run_trial
from gansweep.trial_files import CHECKPOINT

WITH, WITHOUT = "kept safe", "not"

SPOOL = ("log_metrics", "log_image", "log_text", "set_tags", "finish")


def run(plan: Plan) -> Iterator[Case]:
    torch.set_num_threads(1)
    for sweep, g_steps in (("wgan_clip", 1500), ("dcgan", 1000)):
        yield measure(sweep, g_steps // 5 if plan.quick else g_steps, plan)


def measure(sweep: str, g_steps: int, plan: Plan) -> Case:
    """The trial of sweeps/`sweep`.yaml."""
    case = Case("reliability", f"trial of sweeps/{sweep}.yaml, {g_steps} g_steps", "s")
    case.times = {WITHOUT: [], WITH: []}
    tree = load_sweep(ROOT / "sweeps" / f"{sweep}.yaml", one_trial=True).trial
    checksums, parts = [], []
    for turn in range(plan.rounds_of(3)):
        config = workloads.resolved(
            {**tree, "seed": turn + 1}, budget={"g_steps": g_steps}, checkpoint={}
        )
        with tempfile.TemporaryDirectory() as name, ExitStack() as patches:
            spool, saves = _Waits(), _Waits()
            for each in SPOOL:
                patches.enter_context(spool.of(SpoolTracker, each))
            patches.enter_context(saves.of(Pack, "_save"))
            written = _Waits()
            patches.enter_context(written.of(Replica, "save"))
            start = time.perf_counter()
            result = run_trial(config, SpoolTracker(Path(name)), folder=Path(name))
            whole = time.perf_counter() - start
            assert result.state == "completed", result
            checksums.append(written.calls * _checksum(Path(name) / CHECKPOINT))
        spent = spool.seconds + saves.seconds
        parts.append((spool.seconds, saves.seconds))
        case.times[WITH].append(whole)
        case.times[WITHOUT].append(whole - spent)
        plan.say(f"{case.name}: {spent:.3g} of {whole:.4g} s, {written.calls} checkpoints")
    case.ratios = [Ratio(WITH, WITHOUT, aim="at most 1.03")]
    added = (statistics.median(case.times[WITH]) / statistics.median(case.times[WITHOUT]) - 1) * 100
    case.facts = {
        "g_steps between checkpoints": config.checkpoint.every,
        "spool, s": round(statistics.median(spool for spool, _ in parts), 4),
        "checkpoints and flushes, s": round(statistics.median(saves for _, saves in parts), 4),
        "their checksums, s": round(statistics.median(checksums), 4),
        "added, per cent": round(added, 2),
    }
    return case


@final
class _Waits:
    """How long, and how often, calls are waited for."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0
        self._lock = threading.Lock()

    def of(self, owner: type[Any], name: str) -> Any:
        """A patch of the method that counts it."""
        method: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*arguments, **options)
            finally:
                with self._lock:
                    self.seconds += time.perf_counter() - start
                    self.calls += 1

        return patch.object(owner, name, timed)


def _checksum(path: Path) -> float:
    """Seconds that the digest of such a file takes."""
    content = path.read_bytes()
    start = time.perf_counter()
    hashlib.sha256(content).digest()
    return time.perf_counter() - start
