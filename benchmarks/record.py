"""Figure `record`: what tracking, samples, checkpoints and diagnoses add to a trial, seconds.

The trials of two shipped sweeps with the files' budgets, whole `run_trial` calls in one process.
With: MLflow on a SQLite store, until all has arrived, a folder for checkpoints, the file's own
intervals. Without: a tracker in memory, no folder, no diagnoses, and intervals beyond the budget,
so that one grid and one reading of the meters remain, at the last step. Both are scored at the
file's intervals: what that takes is the figure `scores`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import workloads
from benchmarks.measure import ROOT, Case, Ratio, alternate
from benchmarks.plan import Plan
from gansweep.config import TrialConfig
from gansweep.sweep.file import load_sweep
from gansweep.tracking.base import Tracker
from gansweep.tracking.memory import MemoryTracker
from gansweep.tracking.mlflow import Courier, MlflowStore, tracking_uri
from gansweep.tracking.spool import SpoolTracker
from gansweep.trial import run_trial

WITH, WITHOUT = "with its record", "without"


def run(plan: Plan) -> Iterator[Case]:
    torch.set_num_threads(1)
    for sweep, g_steps in (("wgan_clip", 1200), ("dcgan", 600)):
        if plan.quick:
            g_steps //= 6
        yield measure(sweep, g_steps, plan)


def measure(sweep: str, g_steps: int, plan: Plan) -> Case:
    """The trial of sweeps/`sweep`.yaml."""
    case = Case("record", f"trial of sweeps/{sweep}.yaml, {g_steps} g_steps", "s")
    tree = load_sweep(ROOT / "sweeps" / f"{sweep}.yaml", one_trial=True).trial
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = MlflowStore(tracking_uri(f"sqlite:///{folder}/mlflow.db"))
        experiment = store.experiment("bench")

        def with_record(turn: int) -> float:
            config = workloads.resolved({**tree, "seed": turn + 1}, budget={"g_steps": g_steps})
            run_id = store.trial_run(experiment, None, config.key, "bench", {})
            own = folder / config.key
            courier = Courier(store.uri)
            courier.add(run_id, own)
            spent = seconds(config, SpoolTracker(own), folder=own)
            start = time.perf_counter()
            left = courier.drain()
            assert not left.records, left
            courier.close()
            return spent + time.perf_counter() - start

        def without(turn: int) -> float:
            bare: dict[str, Any] = {**tree, "seed": turn + 1}
            config = workloads.unrecorded(
                bare, g_steps=g_steps, log_every=workloads.BEYOND, scored=True
            )
            return seconds(config, MemoryTracker(), folder=None)

        case.times = alternate(
            {WITHOUT: without, WITH: with_record},
            plan.rounds_of(7),
            warm_up=1,
            say=lambda text: plan.say(f"{case.name}: {text}"),
        )
    case.ratios = [Ratio(WITH, WITHOUT, aim="at most 1.05")]
    return case


def seconds(config: TrialConfig, tracker: Tracker, *, folder: Path | None) -> float:
    """Of the whole trial."""
    start = time.perf_counter()
    result = run_trial(config, tracker, folder=folder)
    spent = time.perf_counter() - start
    assert result.state == "completed", result
    return spent
