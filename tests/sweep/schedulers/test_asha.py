from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler

from gansweep.sweep.schedulers.asha import ASHA, _Rung
from gansweep.sweep.schedulers.base import Continue, Stop

from .ray_side import Case, Tally, compare

SEQUENCES = 2000


def asha(**options: Any) -> ASHA:
    return ASHA(**{"mode": "min", "budget": 100, "grace": 10, "reduction": 2, **options})


def told(scheduler: ASHA, *reports: tuple[str, int, float]) -> list[bool]:
    """For each report whether its trial was stopped."""
    decisions = [scheduler.report(*report) for report in reports]
    assert [[key for key, _ in each] for each in decisions] == [[r[0]] for r in reports]
    return [isinstance(each[0][1], Stop) for each in decisions]


@pytest.mark.parametrize(
    ("budget", "grace", "reduction", "rungs"),
    [
        (100, 10, 3, [10, 30, 90]),
        (90, 10, 3, [10, 30, 90]),
        (89, 10, 3, [10, 30]),
        (243, 1, 3, [1, 3, 9, 27, 81, 243]),  # a floor of floating logarithms would lose one
        (5, 5, 2, [5]),
    ],
)
def test_rungs(budget: int, grace: int, reduction: int, rungs: list[int]) -> None:
    made = asha(budget=budget, grace=grace, reduction=reduction)
    assert list(made._rungs) == rungs[::-1]


@pytest.mark.parametrize(("mode", "sign"), [("min", 1.0), ("max", -1.0)])
def test_the_best_of_a_rung_go_on(mode: Any, sign: float) -> None:
    values = [3.0, 2.0, 2.5, 2.6, 2.0, 2.1]
    reports = [(str(place), 10, sign * value) for place, value in enumerate(values)]
    # Against the medians of those before: none, 3, 2.5, 2.5, 2.55, 2.5.
    assert told(asha(mode=mode), *reports) == [False, False, False, True, False, False]


def test_the_share_that_goes_on() -> None:
    others = [(str(place), 10, float(place)) for place in range(5)]  # 0, 1, 2, 3, 4
    for reduction, bar in ((2, 2.0), (4, 1.0)):  # quantiles 1/2 and 1/4 from the best
        for value, stopped in ((bar, False), (bar + 1e-9, True)):
            made = asha(reduction=reduction)
            told(made, *others)
            assert told(made, ("x", 10, value)) == [stopped]


def test_grace_is_left_and_each_rung_decides_once() -> None:
    made = asha()
    assert told(made, ("a", 10, 1.0), ("a", 20, 1.0)) == [False, False]
    assert told(made, ("z", 9, 9.0)) == [False]
    assert told(made, ("b", 10, 0.5), ("b", 15, 9.0)) == [False, False]
    assert told(made, ("b", 20, 9.0)) == [True]


def test_a_skipped_rung_is_made_up_at_the_next_report() -> None:
    made = asha()
    told(made, ("a", 10, 1.0), ("a", 20, 0.5))
    assert told(made, ("b", 20, 0.4)) == [False]  # at the rung of 20
    assert told(made, ("b", 21, 1.1)) == [True]  # at that of 10, older than the others were
    other = asha()
    told(other, ("a", 10, 1.0), ("a", 20, 0.5))
    assert told(other, ("b", 20, 0.4), ("b", 21, 0.9)) == [False, False]


def test_what_is_recorded_does_not_depend_on_the_order_of_the_trials() -> None:
    curves = {"a": [3.0, 2.0, 1.0], "b": [2.0, 2.5, 0.1], "c": [1.0, 1.5, 0.7]}
    steps = [10, 20, 40]
    by_trial = [(k, g, v) for k, curve in curves.items() for g, v in zip(steps, curve, strict=True)]
    by_step = sorted(by_trial, key=lambda report: report[1])
    one, other = asha(), asha()
    told(one, *by_trial)
    told(other, *by_step)
    assert one._rungs == other._rungs
    assert [len(rung) for rung in one._rungs.values()] == [0, 3, 3, 3]


def test_the_reason_names_rung_and_share() -> None:
    made = asha(mode="max", reduction=3)
    told(made, ("a", 30, 1.0), ("b", 30, 0.5))
    [(key, decision)] = made.report("c", 35, 0.25)
    assert key == "c"
    assert decision == Stop("asha: 0.25 is not in the best 1/3 of 3 at the rung of 30 g_steps")
    first = asha(mode="max", reduction=3, grace=1)
    told(first, ("a", 1, 1.0), ("b", 1, 0.5))
    [(_, decision)] = first.report("c", 1, 0.25)
    assert decision == Stop("asha: 0.25 is not in the best 1/3 of 3 at the rung of 1 g_step")
    assert made.ended("c") == []
    assert made.report("a", 31, 2.0) == [("a", Continue())]


def test_decisions_are_those_of_ray() -> None:
    tally = Tally()
    for seed in range(SEQUENCES):
        case = Case.draw(seed)
        theirs = AsyncHyperBandScheduler(
            time_attr="g_steps",
            metric="objective",
            mode=case.mode,
            max_t=case.budget + 1,
            grace_period=case.grace,
            reduction_factor=case.reduction,
            brackets=1,
        )
        ours = ASHA(mode=case.mode, budget=case.budget, grace=case.grace, reduction=case.reduction)
        compare(case, ours, theirs, tally)
    assert tally.stops > 2_000
    assert tally.reports - tally.stops > 20_000


@pytest.mark.parametrize("reduction", [2, 3, 4, 6, 7, 12])
def test_a_rungs_bar_is_numpys_percentile_to_the_last_bit(reduction: int) -> None:
    rng = random.Random(reduction)
    rung, values, compared = _Rung(), [], 0
    share = asha(reduction=reduction)._share
    assert rung.quantile(share) is None
    for place in range(300):
        value = rng.choice([rng.gauss(0, 1), 0.5, -1e30, 10 ** rng.uniform(-8, 8)])
        values.append(value)
        rung.add(str(place), value)
        assert rung.quantile(share) == np.percentile(values, (1 - 1 / reduction) * 100)
        compared += 1
    assert compared == 300
