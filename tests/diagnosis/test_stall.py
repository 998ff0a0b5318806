"""For how long there was no progress."""

from __future__ import annotations

import pytest

from gansweep.diagnosis.stall import Stall


def test_the_share_of_training_since_the_best() -> None:
    stall = Stall()
    assert stall.after(1.0, g_step=10) == 0
    assert stall.after(0.96, g_step=20) == 0.5  # less than 5 % better
    assert stall.after(0.94, g_step=30) == 0
    assert stall.after(2.0, g_step=40) == pytest.approx(1 / 4)
    assert stall.after(0.94, g_step=60) == pytest.approx(1 / 2)
    assert stall.after(0.1, g_step=61) == 0


def test_many_small_steps_are_progress() -> None:
    """What counts is the best, not the last reading."""
    stall, shares = Stall(), []
    for i in range(30):
        shares.append(stall.after(0.98**i, g_step=10 * (i + 1)))
    assert max(shares[5:]) < 0.4
    assert shares.count(0.0) == 10  # every third: 0.98^3 is 6 % less


def test_resumed_it_goes_on() -> None:
    one, other = Stall(), Stall()
    one.after(1.0, g_step=10)
    one.after(1.0, g_step=20)
    other.load_state_dict(one.state_dict())
    assert other.after(1.0, g_step=40) == one.after(1.0, g_step=40) == 0.75


def test_forgetting_begins_anew() -> None:
    stall = Stall()
    stall.after(1.0, g_step=10)
    stall.forget()
    assert stall.state_dict() == Stall().state_dict()
    assert stall.after(5.0, g_step=20) == 0


def test_a_worse_distance_below_zero_is_no_progress() -> None:
    """The unbiased estimate may be below 0 where G has the data's distribution."""
    stall = Stall()
    assert stall.after(-0.0100, g_step=10) == 0
    assert stall.after(-0.0097, g_step=20) == 0.5
    assert stall.after(-0.0104, g_step=40) == 0.75
    assert stall.after(-0.0106, g_step=50) == 0
