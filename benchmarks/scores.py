"""Figure `scores`: what evaluations take of a trial's time at the default interval, seconds.

Trials of shipped sweeps and of toys, eagerly on one thread: as many generator steps as lie between
two evaluations by default, against one evaluation of 2,000 samples, with all scores that fit the
data and with each alone. What is computed once on a node, statistics of real samples and the
floors, is timed apart, in an empty cache folder.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import torch

from benchmarks import workloads
from benchmarks.measure import ROOT, Case, Ratio, alternate
from benchmarks.plan import Plan
from gansweep.assembly import build_module
from gansweep.config import SampleGrids, TrialConfig
from gansweep.evaluation import Evaluation
from gansweep.replica import Common
from gansweep.sweep.file import load_sweep
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial import run_trial

CPU = torch.device("cpu")
ALL, FLOORS = "all scores", "statistics and floors, once on a node"
AIM = "at most 0.1"

DIGITS = [
    f"{name}/digits"
    for name in (
        *("fd", "kd", "precision", "recall", "density", "coverage"),
        *("classes", "class_kl", "classifier_score"),
    )
]
NEIGHBOURS = [f"{name}/raw" for name in ("precision", "recall", "density", "coverage")]
MODES = ["modes", "high_quality", "reverse_kl"]


def cases() -> list[tuple[str, workloads.Tree, list[str], int]]:
    """Name, trial, all scores that fit it, and g_steps that are trained."""
    shipped = {name: load_sweep(ROOT / "sweeps" / f"{name}.yaml", one_trial=True).trial
               for name in ("wgan_clip", "dcgan", "cgan")}  # fmt: skip
    toy = {"model": {"name": "gan"}, "network": {"name": "mlp", "width": 128, "depth": 3}}
    return [
        ("sweeps/wgan_clip.yaml", shipped["wgan_clip"], ["swd", *DIGITS], 300),
        ("sweeps/dcgan.yaml", shipped["dcgan"], ["swd", *DIGITS], 100),
        ("sweeps/cgan.yaml", shipped["cgan"], ["swd", *DIGITS, "class_accuracy/digits"], 300),
        ("gan on ring8", {**toy, "data": {"name": "ring8"}},
         ["swd", *MODES, "fd/raw", *NEIGHBOURS], 1000),
        ("gan on gaussian1d", {**toy, "data": {"name": "gaussian1d"}}, ["swd", "w1"], 1000),
    ]  # fmt: skip


def run(plan: Plan) -> Iterator[Case]:
    torch.set_num_threads(1)
    for name, tree, scores, g_steps in cases():
        yield measure(name, tree, scores, g_steps // 5 if plan.quick else g_steps, plan)


def measure(name: str, tree: workloads.Tree, scores: list[str], g_steps: int, plan: Plan) -> Case:
    """`g_steps` are trained and taken for as many as lie between two evaluations."""
    every = SampleGrids().every
    steps = f"{every} g_steps"
    case = Case("scores", f"{name}, every {every} g_steps", "s")
    tree = {**tree, "compile": "false"}
    training = workloads.unrecorded(tree, g_steps=g_steps)
    config = workloads.resolved({**tree, "score": {"names": scores}})

    def train(turn: int) -> float:
        result = run_trial(training, MemoryTracker())
        assert result.state == "completed", result
        return result.seconds * every / g_steps

    with tempfile.TemporaryDirectory() as folder, _cache(folder):
        common = Common(config, CPU)
        module = build_module(config, common.samples.spec)
        generator = module.sampled
        common.evaluation(generator)
        _ = common.evaluation.floors
        contenders: dict[str, Callable[[int], float]] = {
            steps: train,
            ALL: lambda turn: seconds(lambda: common.evaluation(generator)),
            **{each: _alone(common, each, generator) for each in scores},
            FLOORS: lambda turn: _once(config),
        }
        case.times = alternate(
            contenders,
            plan.rounds_of(5),
            warm_up=1,
            say=lambda text: plan.say(f"{case.name}: {text}"),
        )
    case.ratios = [
        Ratio(ALL, steps, aim=AIM),
        *(Ratio(each, steps) for each in scores),
        Ratio(FLOORS, steps),
    ]
    return case


def _alone(common: Common, name: str, generator: Any) -> Callable[[int], float]:
    whole = common.evaluation
    one = Evaluation(
        {name: whole.scores[name]}, whole.reference, common.sampler, facts={}, device=CPU
    )
    return lambda turn: seconds(lambda: one(generator))


def _once(config: TrialConfig) -> float:
    """Of what the first trial on a node computes of the real samples."""
    with tempfile.TemporaryDirectory() as folder, _cache(folder):
        evaluation = Common(config, CPU).evaluation
        return seconds(lambda: evaluation.floors)


def _cache(folder: str) -> AbstractContextManager[Any]:
    """The cache folder for a while."""
    return patch.dict(os.environ, GANSWEEP_CACHE=folder)


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
