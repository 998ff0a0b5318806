"""The best value so far."""

from __future__ import annotations

import math

import pytest

from gansweep.callbacks.best import Best


@pytest.mark.parametrize(
    ("mode", "values", "taken"),
    [
        ("min", [3.0, 1.0, 2.0, 1.0, 0.5], [1, 1, 0, 0, 1]),
        ("max", [3.0, 1.0, 4.0, 4.0], [1, 0, 1, 0]),
        ("min", [math.nan, 2.0, -math.inf, math.nan, 1.0], [0, 1, 0, 0, 1]),
        ("min", [0.0, -1.0], [1, 1]),
    ],
)
def test_offers(mode, values, taken):
    best = Best()
    assert [best.offer("s", value, i, mode=mode) for i, value in enumerate(values)] == [
        bool(each) for each in taken
    ]


def test_state():
    one, other = Best(), Best()
    one.offer("a", 2.0, 7, mode="min")
    one.offer("b", 3.0, 8, mode="max")
    assert one.state_dict() == {"a": [2.0, 7], "b": [3.0, 8]}
    other.load_state_dict(one.state_dict())
    assert not other.offer("a", 2.5, 9, mode="min")
    other.forget("a")
    assert other.offer("a", 2.5, 9, mode="min")
