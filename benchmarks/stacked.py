"""Figures `engines` and `memory`: a pack in turns and stacked, eagerly and compiled.

ms per generator step of one replica, the engines alone: data, noise, step and meters, without the
record. Memory: what a stacked pack of K adds to a process, against K times what one trial adds.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import workloads
from benchmarks.measure import ROOT, Case, Ratio, alternate
from benchmarks.plan import Plan
from gansweep.engines import Choice, build
from gansweep.modules.engine import Engine
from gansweep.replica import Common, Job, Replica
from gansweep.tracking.memory import MemoryTracker

REPLICAS = 8

CHOICES = {
    "in turns": Choice(False, False, ""),
    "in turns, compiled": Choice(False, True, ""),
    "stacked": Choice(True, False, ""),
    "stacked, compiled": Choice(True, True, ""),
}


def shapes() -> dict[str, workloads.Tree]:
    """What is trained, by name."""
    penalised = {"name": "wgan_gp", "n_critic": 5}
    return {
        "WGAN, MLP of width 64, 8x8": workloads.wgan(64),
        "WGAN, MLP of width 128, 8x8": workloads.wgan(128),
        "WGAN, MLP of width 256, 8x8": workloads.wgan(256),
        "WGAN-GP, MLP of width 128, 8x8": {**workloads.wgan(128), "model": penalised},
        "WGAN, MLP of width 64, ring": workloads.wgan(64, data={"name": "ring8"}, latent=2),
        "WGAN, MLP of width 256, 28x28": workloads.wgan(256, data={"name": "mnist5k"}),
        "DCGAN of width 16, 28x28": workloads.dcgan(16),
    }


def run(plan: Plan) -> Iterator[Case]:
    torch.set_num_threads(1)
    chosen = list(shapes().items())[: 1 if plan.quick else None]
    for name, tree in chosen:
        yield measure(name, tree, plan, replicas=REPLICAS, figure="engines")


def measure(
    name: str,
    tree: Mapping[str, Any],
    plan: Plan,
    *,
    replicas: int,
    figure: str,
    choices: Mapping[str, Choice] = CHOICES,
    device: str = "cpu",
    seconds: float = 1.0,
) -> Case:
    """ms per g_step and replica of each engine."""
    case = Case(figure, f"{name}, {replicas} replicas", "ms/g_step and replica")
    packs = {}
    for label, choice in choices.items():
        start = time.perf_counter()
        packs[label] = Timed(tree, choice, replicas=replicas, device=device)
        packs[label].steps(2)
        case.facts[f"{label}: first two steps, s"] = time.perf_counter() - start
    case.times = alternate(
        {label: partial(pack.measure, seconds=seconds) for label, pack in packs.items()},
        plan.rounds_of(5),
        warm_up=1,
        say=lambda text: plan.say(f"{name}: {text}"),
    )
    first = next(iter(choices))
    case.ratios = [Ratio(first, label) for label in list(choices)[1:]]
    return case


class Timed:
    """A pack without its record."""

    def __init__(
        self, tree: Mapping[str, Any], choice: Choice, *, replicas: int, device: str
    ) -> None:
        self._device = torch.device(device)
        jobs = [Job(workloads.resolved(tree, seed=s), MemoryTracker()) for s in range(replicas)]
        common = Common(jobs[0].config, self._device)
        self._replicas = [Replica(job, common) for job in jobs]
        first = self._replicas[0]
        self.first = first.module
        self._engine: Engine = build(choice, first.module, slots=replicas, shape=first.config.shape)
        for slot, replica in enumerate(self._replicas):
            self._engine.put(slot, replica.module)

    def steps(self, count: int) -> None:
        for _ in range(count):
            batches = {slot: replica.batch() for slot, replica in enumerate(self._replicas)}
            failures = self._engine.step(batches)
            assert not failures, failures
        for replica in self._replicas:
            replica.module.read_meters()  # waits for a GPU, too

    def measure(self, turn: int, *, seconds: float) -> float:
        """ms per g_step and replica, over about `seconds`."""
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            self.steps(10)
            count += 10
        return (time.perf_counter() - start) / count / len(self._replicas) * 1e3


def run_memory(plan: Plan) -> Iterator[Case]:
    """What training adds at its peak to a process that has data and libraries: one trial, K."""
    width = 256 if plan.quick else 1024
    case = Case("memory", f"WGAN, MLP of width {width}, 28x28, {REPLICAS} replicas", "MiB")
    counts = {"one trial": 1, f"{REPLICAS} stacked": REPLICAS}
    case.times = alternate(
        {name: partial(_peak, width=width, replicas=k) for name, k in counts.items()},
        plan.rounds_of(3),
        say=lambda text: plan.say(f"memory: {text}"),
    )
    one, many = (case.median(name) or 0.0 for name in counts)
    case.facts["stacked over K times one"] = many / (REPLICAS * one)
    yield case


def _peak(turn: int, *, width: int, replicas: int) -> float:
    """MiB; the process ends by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.stacked", str(width), str(replicas)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def _main() -> None:
    """Train a few steps of as many replicas as asked; print what they add at the peak, in MiB."""
    width, replicas = map(int, sys.argv[1:])
    torch.set_num_threads(1)
    tree = workloads.wgan(width, data={"name": "mnist5k"})
    choice = CHOICES["stacked"] if replicas > 1 else CHOICES["in turns"]
    Timed(workloads.wgan(8, data={"name": "mnist5k"}), choice, replicas=2, device="cpu").steps(3)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _status("VmRSS")
    Timed(tree, choice, replicas=replicas, device="cpu").steps(3)
    print(json.dumps(_status("VmHWM") - before))


def _status(name: str) -> float:
    """A line of this process's status, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


if __name__ == "__main__":
    _main()
