"""Figure `diagnosis`: what diagnosing adds to a trial, seconds of processor time.

The trials of three shipped sweeps, whole `run_trial` calls in one process with a tracker in memory,
all intervals as in the file. Each run gives both times, the diagnoses' own taken off for the one
without: a difference of two runs would be lost in their noise.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch

from benchmarks import workloads
from benchmarks.measure import ROOT, Case, Ratio
from benchmarks.plan import Plan
from gansweep.callbacks.diagnosis import Diagnosis
from gansweep.sweep.file import load_sweep
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial import run_trial

WITH, WITHOUT = "diagnosed", "not"


def run(plan: Plan) -> Iterator[Case]:
    torch.set_num_threads(1)
    for sweep, g_steps in (("wgan_clip", 1200), ("dcgan", 600), ("six_objectives", 2000)):
        yield measure(sweep, g_steps // 6 if plan.quick else g_steps, plan)


def measure(sweep: str, g_steps: int, plan: Plan) -> Case:
    """The trial of sweeps/`sweep`.yaml."""
    case = Case("diagnosis", f"trial of sweeps/{sweep}.yaml, {g_steps} g_steps", "s")
    case.times = {WITHOUT: [], WITH: []}
    tree = load_sweep(ROOT / "sweeps" / f"{sweep}.yaml", one_trial=True).trial
    act, spent = Diagnosis.act, [0.0]

    def timed(*arguments: Any) -> None:
        start = time.process_time()
        act(*arguments)
        spent[0] += time.process_time() - start

    for turn in range(plan.rounds_of(3)):
        config = workloads.resolved({**tree, "seed": turn + 1}, budget={"g_steps": g_steps})
        spent[0], start = 0.0, time.process_time()
        with patch.object(Diagnosis, "act", timed):
            result = run_trial(config, MemoryTracker())
        whole = time.process_time() - start
        assert result.state == "completed", result
        case.times[WITH].append(whole)
        case.times[WITHOUT].append(whole - spent[0])
        plan.say(f"{case.name}: {spent[0]:.3g} of {whole:.4g} s")
    case.ratios = [Ratio(WITH, WITHOUT, aim="at most 1.02")]
    added = (statistics.median(case.times[WITH]) / statistics.median(case.times[WITHOUT]) - 1) * 100
    case.facts = {
        "g_steps between diagnoses": config.diagnosis_every,
        "added, per cent": round(added, 2),
    }
    return case
