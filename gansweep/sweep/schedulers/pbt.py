"""Population based training (Jaderberg et al. 2017), in generations."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, final

from gansweep.seeding import stream_seed
from gansweep.sweep.file import Search
from gansweep.sweep.params import flatten
from gansweep.sweep.schedulers.base import (
    SIGN,
    Answers,
    Continue,
    Decision,
    Inherit,
    Scheduler,
)
from gansweep.sweep.space import Axis


def generation_interval(search: Search, budget: int) -> int:
    """g_steps between generations."""
    return search.interval or max(1, budget // 10)


@final
class PBT(Scheduler):
    """The worst trials go on from copies of the best, with settings near theirs.

    Jaderberg et al. 2017, Algorithm 1, with truncation selection, here in generations: at every
    multiple of `interval` below the budget, the living members that have not gone past it wait
    for each other. Of n, the worst max(1, floor(n * quantile)) then exploit: each copies a donor
    drawn from as many best ones, and explores: each swept setting of the donor is drawn anew from
    its axis with probability `resample`, else perturbed (`Domain.perturb`). The others go on.

    Generations make it deterministic: a decision depends on the members of a generation, their
    values and settings, on the seed, the g_step and the member's own key, and on no order of
    arrival; equal values rank by key. Every draw has a stream of its own.

    All members must have begun before the first report, or early ones go on without the others.
    A member that begins again while it lives keeps the settings that it has here. Trials that
    begin after a generation was decided form one of their own there.
    """

    waits: ClassVar[bool] = True

    def __init__(
        self,
        axes: Sequence[Axis],
        *,
        mode: Literal["min", "max"],
        budget: int,
        interval: int,
        quantile: float,
        resample: float,
        seed: int,
    ) -> None:
        """Budget and interval in g_steps; quantile: a share of the members, at most a half."""
        self._axes = axes
        self._sign = SIGN[mode]
        self._budget = budget
        self._interval = interval
        self._quantile = quantile
        self._resample = resample
        self._seed = seed
        self._settings: dict[str, dict[str, Any]] = {}  # of the living members
        self._furthest: dict[str, int] = {}
        self._reported: dict[int, dict[str, float]] = defaultdict(dict)  # in undecided generations
        self._decided: dict[int, dict[str, Decision]] = defaultdict(dict)
        self._awaited: dict[int, set[str]] = {}  # members that undecided generations wait for

    def begin(self, key: str, settings: Mapping[str, Any]) -> None:
        self._settings.setdefault(key, flatten(settings))
        for g_step, awaited in self._awaited.items():
            if self._is_awaited(key, g_step):
                awaited.add(key)

    def report(self, key: str, g_steps: int, value: float) -> Answers:
        if key not in self._settings or not self._is_generation(g_steps):
            return [(key, Continue())]
        if key in self._decided[g_steps]:
            decision = self._decided[g_steps][key]
            if not any(key in later for g, later in self._decided.items() if g > g_steps):
                self._take_over(key, decision)
            return [(key, decision)]
        self._reported[g_steps][key] = self._sign * value
        self._furthest[key] = max(g_steps, self._furthest.get(key, 0))
        for g_step, awaited in self._awaited.items():
            if g_step <= self._furthest[key]:
                awaited.discard(key)
        return self._complete()

    def ended(self, key: str) -> Answers:
        self._settings.pop(key, None)
        self._furthest.pop(key, None)
        for reported in self._reported.values():
            reported.pop(key, None)
        for awaited in self._awaited.values():
            awaited.discard(key)
        return self._complete()

    def _is_generation(self, g_steps: int) -> bool:
        return g_steps % self._interval == 0 and g_steps < self._budget

    def _complete(self) -> Answers:
        """The answers of all generations that wait for nobody any more, the earliest first."""
        answers: Answers = []
        for g_step in sorted(self._reported):
            if g_step not in self._awaited:
                members = {key for key in self._settings if self._is_awaited(key, g_step)}
                self._awaited[g_step] = members
            if self._awaited[g_step]:
                continue
            del self._awaited[g_step]
            decisions = self._decide(g_step, self._reported.pop(g_step))
            for key, decision in decisions.items():
                self._take_over(key, decision)
            self._decided[g_step].update(decisions)
            answers.extend(decisions.items())
        return answers

    def _is_awaited(self, key: str, g_step: int) -> bool:
        here = key in self._reported[g_step] or key in self._decided[g_step]
        return not here and self._furthest.get(key, 0) < g_step

    def _take_over(self, key: str, decision: Decision) -> None:
        if isinstance(decision, Inherit):
            self._settings[key].update(decision.settings)

    def _decide(self, g_step: int, values: Mapping[str, float]) -> dict[str, Decision]:
        """The decisions of one generation on its members' values (smaller is better)."""
        ranked = sorted(values, key=lambda key: (values[key], key))
        count = max(1, math.floor(len(ranked) * self._quantile + 1e-9)) if len(ranked) > 1 else 0
        worst = ranked[len(ranked) - count :]
        return {
            key: self._exploit(key, ranked[:count], g_step) if key in worst else Continue()
            for key in sorted(values)
        }

    def _exploit(self, key: str, best: Sequence[str], g_step: int) -> Inherit:
        donor = self._rng(g_step, key).choice(best)
        settings = self._settings[donor]
        explored: dict[str, Any] = {}
        for axis in self._axes:
            options = [flatten(axis.assign(value)) for value in axis.domain.probes()]
            if not any(option.keys() <= settings.keys() for option in options):
                continue  # its condition does not hold
            rng = self._rng(g_step, key, axis.name)
            if rng.random() < self._resample:
                value = axis.domain.draw(rng)
            else:
                value = axis.domain.perturb(_present(axis, settings), rng)
            explored.update(flatten(axis.assign(value)))
        return Inherit(donor, g_step, explored)

    def _rng(self, g_step: int, *names: str) -> random.Random:
        return random.Random(stream_seed(self._seed, "pbt", g_step, *names))


def _present(axis: Axis, settings: Mapping[str, Any]) -> Any:
    """The value of the axis that gave these settings; None of an option no longer listed."""
    if axis.name in settings:
        return settings[axis.name]
    for value in axis.domain.probes():
        if flatten(axis.assign(value)).items() <= settings.items():
            return value
    return None
