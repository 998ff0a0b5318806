from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import MedianStoppingRule

from gansweep.sweep.schedulers import median as module
from gansweep.sweep.schedulers.base import Stop
from gansweep.sweep.schedulers.median import MedianRule

from .ray_side import CONTROLLER, Case, Fake, Tally, compare

SEQUENCES = 2000


def told(rule: MedianRule, *reports: tuple[str, int, float]) -> list[bool]:
    """For each report whether its trial was stopped."""
    decisions = [rule.report(*report) for report in reports]
    assert [[key for key, _ in each] for each in decisions] == [[r[0]] for r in reports]
    return [isinstance(each[0][1], Stop) for each in decisions]


@pytest.mark.parametrize(("mode", "sign"), [("min", 1.0), ("max", -1.0)])
def test_the_best_value_against_the_median_of_running_means(mode: Any, sign: float) -> None:
    for value, stopped in ((3.0, False), (3.0 + 1e-9, True)):
        rule = MedianRule(mode=mode, grace=10)
        curves = {"a": (1.0, 3.0), "b": (2.0, 4.0), "c": (5.0, 9.0)}  # means 2, 3, 7
        for key, (first, second) in curves.items():
            assert told(rule, (key, 10, sign * first))[0] in (False, key == "c")
            told(rule, (key, 20, sign * second))
        assert told(rule, ("x", 20, sign * value)) == [stopped]


def test_fewer_than_two_others_are_no_median() -> None:
    rule = MedianRule(mode="min", grace=1)
    assert told(rule, ("a", 10, 1.0), ("x", 10, 9.0)) == [False, False]
    assert told(rule, ("b", 10, 1.0), ("x", 11, 9.0)) == [False, False]  # a and b are at 10 yet
    assert told(rule, ("a", 12, 1.0), ("b", 12, 1.0), ("x", 12, 9.0)) == [False, False, True]


def test_grace() -> None:
    rule = MedianRule(mode="min", grace=20)
    told(rule, *((key, step, value) for key in "ab" for step, value in ((10, 0.0), (20, 5.0))))
    assert told(rule, ("x", 19, 9.0)) == [False]
    # Neither do the others' values before `grace` count: means 5, not 2.5.
    assert told(rule, ("x", 20, 4.0)) == [False]
    assert told(rule, ("y", 20, 5.1)) == [True]
    # A trial's own best may be older.
    assert told(rule, ("z", 10, 1.0), ("z", 20, 9.0)) == [False, False]


def test_others_count_up_to_the_same_step() -> None:
    rule = MedianRule(mode="min", grace=1)
    told(rule, *((key, step, value) for key in "ab" for step, value in ((10, 5.0), (20, 1.0))))
    assert told(rule, ("x", 10, 4.0)) == [False]  # means 5 up to 10, 3 up to 20
    assert told(rule, ("x", 20, 4.0)) == [True]


def test_the_reason_tells_both_figures() -> None:
    rule = MedianRule(mode="max", grace=1)
    told(rule, ("a", 10, 1.0), ("b", 10, 0.5))
    assert rule.report("c", 10, 0.25) == [
        ("c", Stop("median: 0.25 at best, the median of 2 is 0.75"))
    ]
    assert rule.ended("c") == []


def test_what_is_recorded_does_not_depend_on_the_order_of_the_trials() -> None:
    curves = {"a": [3.0, 2.0], "b": [2.0, 2.5], "c": [2.9, 1.5]}
    by_trial = [(k, g, v) for k, c in curves.items() for g, v in zip((10, 20), c, strict=True)]
    found = []
    for reports in (by_trial, sorted(by_trial, key=lambda report: report[1])):
        rule = MedianRule(mode="min", grace=1)
        told(rule, *reports)
        found.append(told(rule, ("x", 20, 2.25), ("y", 20, 2.26)))
    assert found == [[False, True]] * 2  # means 2.5, 2.25, 2.2; then 2.25 again: 2.25


def rays(case_mode: Any, grace: int, budget: int) -> Any:
    return MedianStoppingRule(
        time_attr="g_steps",
        metric="objective",
        mode=case_mode,
        grace_period=grace,
        min_samples_required=2,
        min_time_slice=budget + 1,
    )


def test_decisions_are_those_of_ray() -> None:
    tally = Tally()
    for seed in range(SEQUENCES):
        case = Case.draw(seed)
        theirs = rays(case.mode, case.grace, case.budget)
        compare(case, MedianRule(mode=case.mode, grace=case.grace), theirs, tally)
    assert tally.stops > 2_000
    assert tally.reports - tally.stops > 20_000


def test_the_last_value_of_a_completed_trial_counts_once_and_twice_in_ray() -> None:
    """Tune hands a trial's last result in again when it completes."""
    theirs, ours = rays("min", 1, 100), MedianRule(mode="min", grace=1)
    fakes = {key: Fake(key) for key in "abx"}
    for key in "ab":
        for step, value in ((50, 1.0), (100, 4.0)):  # mean 2.5; in Ray (1 + 4 + 4) / 3 = 3
            result = {"g_steps": step, "objective": value}
            theirs.on_trial_result(CONTROLLER, fakes[key], result)
            ours.report(key, step, value)
        theirs.on_trial_complete(CONTROLLER, fakes[key], result)
        ours.ended(key)
    result = {"g_steps": 100, "objective": 2.75}
    assert theirs.on_trial_result(CONTROLLER, fakes["x"], result) == "CONTINUE"
    assert told(ours, ("x", 100, 2.75)) == [True]


def test_the_bar_is_the_median_of_the_others_to_the_last_bit() -> None:
    rng = random.Random(0)
    column, means, compared = module._Column(), {}, 0
    for place in range(200):
        key, mean = str(place), rng.choice([rng.gauss(0, 1), 0.5, 1e30])
        means[key] = mean
        column.add(key, mean)
        for asked in (key, "0", "none"):
            others = [value for other, value in means.items() if other != asked]
            assert column.count_without(asked) == len(others)
            if others:
                assert column.median_without(asked) == np.median(others)
                compared += 1
    assert compared == 3 * 200 - 2


@pytest.mark.parametrize("count", [50, 100, 200])
def test_a_report_costs_no_look_at_all_trials(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of a trial is taken once for each g_step that is asked about."""
    taken = 0
    real = MedianRule._mean

    def counted(self: MedianRule, key: str, g_steps: int) -> Any:
        nonlocal taken
        taken += 1
        return real(self, key, g_steps)

    monkeypatch.setattr(MedianRule, "_mean", counted)
    rule, steps = MedianRule(mode="min", grace=1), range(1, 11)
    for step in steps:
        for trial in range(count):
            rule.report(str(trial), step, trial / count)
    assert taken == count * len(steps)
