"""Clocks and outcomes."""

from __future__ import annotations

import math
import time
from typing import get_args

import pytest

from gansweep.progress import RUN_STATUS, Clock, Outcome, State


def test_every_state_has_a_status():
    assert set(RUN_STATUS) == set(get_args(State))
    assert {k: v for k, v in RUN_STATUS.items() if v != "FINISHED"} == {
        "interrupted": "KILLED",
        "failed": "FAILED",
    }


def test_an_outcome_keeps_the_last_values():
    outcome = Outcome()
    assert outcome.record({"a": 1.0, "b": 2.0}, g_step=3)
    assert outcome.record({"b": 3.0}, g_step=4)
    assert (outcome.state, outcome.reason) == ("completed", "")
    assert outcome.metrics == {"a": 1.0, "b": 3.0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_value_that_is_not_finite_is_the_reason(value):
    outcome = Outcome()
    assert not outcome.record({"a": 1.0, "b": value, "c": math.nan}, g_step=7)
    assert not outcome.record({"d": math.nan}, g_step=8)
    assert (outcome.state, outcome.reason) == ("diverged", f"b was {value} at g_step 7")


def test_a_clock_goes_on_through_interruptions():
    clock = Clock()
    assert clock.seconds == 0.0
    clock.start(10, 100.0)
    assert clock.seconds == 100.0
    clock.charge(0.5)
    clock.charge(0.25)
    assert clock.seconds == 100.75


def test_a_clock_runs_only_when_charged():
    """Time in which the others of a pack train, or a verdict is awaited, is not the trial's."""
    clock = Clock()
    clock.start(0, 0.0)
    time.sleep(0.01)
    assert clock.seconds == 0.0


def test_the_rate_is_since_the_last_tick():
    clock = Clock()
    clock.start(10, 5.0)
    assert clock.rate == 0.0
    clock.charge(2.0)
    clock.tick(20)
    assert clock.rate == 5.0
    clock.charge(1.0)
    clock.tick(30)
    assert clock.rate == 10.0
    assert clock.seconds == 8.0
    clock.tick(30)  # no step and no time: the rate stays
    assert clock.rate == 10.0
