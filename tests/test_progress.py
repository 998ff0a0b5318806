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
    clock.start(10, 100.0)
    first = clock.seconds
    assert 100 <= first < 101
    time.sleep(0.02)
    assert clock.seconds - first >= 0.02


def test_the_rate_is_since_the_last_tick(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = Clock()
    clock.start(10, 5.0)
    assert clock.rate == 0.0
    now[0] = 2.0
    clock.tick(20)
    assert clock.rate == 5.0
    now[0] = 3.0
    clock.tick(30)
    assert clock.rate == 10.0
    assert clock.seconds == 8.0
    clock.tick(30)  # no step and no time: the rate stays
    assert clock.rate == 10.0
