"""Verdicts: after the grace period and enough readings in a row, as long as they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from gansweep.diagnosis.court import Court
from gansweep.diagnosis.rules.base import Rule
from gansweep.errors import ConfigError


@dataclass(frozen=True)
class Nothing:
    pass


class Negative(Rule):
    name = "negative"
    Settings = Nothing

    def holds(self, reading: Mapping[str, float]) -> str | None:
        return f"x is {reading['x']:g}" if reading["x"] < 0 else None


class Odd(Negative):
    name = "odd"

    def holds(self, reading: Mapping[str, float]) -> str | None:
        return "x is odd" if reading["x"] % 2 else None


def court(*, grace: int = 0, patience: int = 3) -> Court:
    return Court([Negative(Nothing()), Odd(Nothing())], grace=grace, patience=patience)


def heard(one: Court, readings: Sequence[float], *, start: int = 10) -> list[list[str]]:
    """The rules whose verdict stands after each reading, one every 10 g_steps."""
    found = []
    for i, x in enumerate(readings):
        one.hear({"x": x}, g_step=start + 10 * i)
        found.append([verdict.rule for verdict in one.verdicts])
    return found


def test_a_rule_must_hold_several_times_in_a_row() -> None:
    assert heard(court(), [-2, -2, 2, -2, -2, -2, -2, 2]) == [
        [], [], [], [], [], ["negative"], ["negative"], [],
    ]  # fmt: skip


def test_once_is_enough_where_patience_is_one() -> None:
    assert heard(court(patience=1), [2, -2, 2]) == [[], ["negative"], []]


def test_nothing_is_heard_before_the_grace_period_is_over() -> None:
    """10, 20 and 30 g_steps do not count: the third reading that does is that of 60."""
    found = heard(court(grace=40), [-2] * 7)
    assert found == [[]] * 5 + [["negative"]] * 2


def test_rules_count_each_for_itself() -> None:
    assert heard(court(patience=2), [-2, -3, 3, 3]) == [[], ["negative"], ["odd"], ["odd"]]
    assert heard(court(patience=2), [-3, -3]) == [[], ["negative", "odd"]]


def test_the_reason_has_the_numbers() -> None:
    one = court()
    heard(one, [2, -2, -4, -6])
    assert one.verdicts[0].reason == "negative (x is -6; 3 times since g_step 20)"


def test_resumed_it_counts_on() -> None:
    whole, first, second = court(), court(), court()
    readings = [-2, 2, -3, -3, -3, -2]
    expected = heard(whole, readings)
    before = heard(first, readings[:4])
    second.load_state_dict(first.state_dict())
    assert before + heard(second, readings[4:], start=50) == expected
    assert second.state_dict() == whole.state_dict()
    assert expected[4] == ["negative", "odd"]


def test_its_state_is_its_own() -> None:
    one = court()
    heard(one, [-2])
    state = one.state_dict()
    heard(one, [-2], start=20)
    assert state == {"negative": [10, 1]}


def test_a_longer_budget_has_a_longer_grace_period() -> None:
    """Counts from before it are dropped, as if it had been there from the start."""
    short, long = court(grace=10), court(grace=100)
    heard(short, [-2, -2, -2])
    long.load_state_dict(short.state_dict())
    assert heard(long, [-2], start=40) == [[]]
    assert long.state_dict() == {}


def test_forgetting_begins_anew() -> None:
    one = court(patience=2)
    assert heard(one, [-2, -2])[-1] == ["negative"]
    one.forget()
    assert one.verdicts == []
    assert heard(one, [-2, -2], start=30) == [[], ["negative"]]


class Truth(Negative):
    name = "truth"

    def holds(self, reading: Mapping[str, float]) -> Any:
        return reading["x"] < 0


def test_a_rule_that_gives_a_truth_value_does_not_hold_by_it() -> None:
    """False is not None: it would hold where it says that it does not."""
    for x in (1.0, -1.0):
        with pytest.raises(ConfigError, match=r"test_court:Truth raises TypeError: holds gives bo"):
            Court([Truth(Nothing())], grace=0, patience=1).hear({"x": x}, g_step=10)


class Unread(Negative):
    name = "unread"

    def holds(self, reading: Mapping[str, float]) -> str | None:
        return str(reading["y"])


def test_a_rule_that_raises_is_told_by_name() -> None:
    one = Court([Unread(Nothing())], grace=0, patience=1)
    with pytest.raises(ConfigError, match=r"test_court:Unread raises KeyError: 'y' \(in holds, "):
        one.hear({"x": 1.0}, g_step=10)
