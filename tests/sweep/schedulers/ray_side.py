"""Ray's schedulers beside ours: the same random reports, decision by decision."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler

from gansweep.sweep.schedulers.base import WORST, Scheduler, Stop

CONTROLLER: Any = SimpleNamespace(
    get_live_trials=lambda: [SimpleNamespace(status="PENDING")], search_alg=None
)
"""Another trial always waits, so that Ray's median rule would pause where it can."""


@dataclass
class Tally:
    """How often trials went on and were stopped over all sequences."""

    reports: int = 0
    stops: int = 0


@dataclass(frozen=True)
class Case:
    """A random sweep: its budget and how its trials report."""

    rng: random.Random
    mode: Any
    budget: int
    grace: int
    reduction: int

    @classmethod
    def draw(cls, seed: int) -> Case:
        rng = random.Random(seed)
        budget = rng.choice([1, 2, 5, 9, 27, 80, 81, 100, 243, 1000])
        grace = min(rng.choice([1, 1, 2, 3, max(1, budget // 5), budget]), budget)
        return cls(rng, rng.choice(["min", "max"]), budget, grace, rng.choice([2, 3, 4, 7]))

    def reports(self) -> list[list[int]]:
        """For each trial the g_steps at which it reports: regular, or any; some end early."""
        trials = []
        for _ in range(self.rng.randint(1, 16)):
            every = self.rng.randint(1, max(1, self.budget // 4))
            steps = list(range(every, self.budget + 1, every))
            if self.rng.random() < 0.4:  # skips rungs
                count = self.rng.randint(0, min(8, self.budget))
                steps = sorted(self.rng.sample(range(1, self.budget + 1), count))
            if self.rng.random() < 0.3:
                steps = steps[: self.rng.randint(0, len(steps))]
            trials.append(steps[:40])
        return trials

    def value(self) -> float:
        """Often equal to another, at times the worst."""
        kinds: list[Callable[[], float]] = [
            lambda: self.rng.gauss(0, 1),
            lambda: float(self.rng.randint(0, 3)),
            lambda: self.rng.choice([0.1, 0.2, 0.3]),
        ]
        if self.rng.random() < 0.03:
            return WORST if self.mode == "min" else -WORST
        return self.rng.choice(kinds)()


class Fake:
    """Of a Tune trial, what the schedulers look at."""

    def __init__(self, key: str) -> None:
        self.trial_id = key


def compare(case: Case, ours: Scheduler, theirs: Any, tally: Tally) -> None:
    """Feed both with one interleaving of all reports until every trial ended or was stopped."""
    waiting = {str(place): list(steps) for place, steps in enumerate(case.reports())}
    fakes = {key: Fake(key) for key in waiting}
    for key, fake in fakes.items():
        ours.begin(key, {})
        theirs.on_trial_add(CONTROLLER, fake)
    while waiting:
        key = case.rng.choice(list(waiting))
        if not waiting[key]:
            del waiting[key]
            assert ours.ended(key) == []
            continue
        g_steps, value = waiting[key].pop(0), case.value()
        result = {"g_steps": g_steps, "objective": value, "training_iteration": g_steps}
        expected = theirs.on_trial_result(CONTROLLER, fakes[key], result)
        [(who, decision)] = ours.report(key, g_steps, value)
        assert who == key
        # A worker cannot be paused: PAUSE is taken as CONTINUE.
        assert isinstance(decision, Stop) == (expected == TrialScheduler.STOP), (case, g_steps)
        tally.reports += 1
        if isinstance(decision, Stop):
            tally.stops += 1
            del waiting[key]
            assert ours.ended(key) == []
