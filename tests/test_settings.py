"""Typed settings: every mistake named, nothing ignored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import pytest

from gansweep import settings as module
from gansweep.errors import Problem
from gansweep.settings import REQUIRED, dump, fill, setting


@dataclass(frozen=True)
class Oven:
    side: int = setting(REQUIRED, "side in pixels", ge=8, le=64)
    lr: float = setting(0.1, "rate", gt=0, lt=1)
    on: bool = setting(False, "whether")
    kind: Literal["warm", "hot"] = setting("warm", "which")
    every: int | None = setting(None, "how often", ge=1)
    names: list[str] = setting(["a"], "names")


def mistakes(**values):
    problems = []
    settings = fill(Oven, values, at="oven", problems=problems)
    assert (settings is None) == bool(problems)
    return problems


def filled(**values):
    problems = []
    settings = fill(Oven, values, at="oven", problems=problems)
    assert not problems
    return settings


def test_values_and_defaults():
    assert filled(side=8) == Oven(side=8)
    full = {"side": 9, "lr": 0.5, "on": True, "kind": "hot", "every": 3, "names": ["b", "c"]}
    assert dump(filled(**full)) == full
    assert filled(**dump(filled(**full))) == filled(**full)


def test_the_result_is_the_dataclass_with_exact_types():
    settings = filled(side=9, lr=0.5, names=["x"])
    assert type(settings) is Oven
    assert type(settings.side) is int
    assert type(settings.lr) is float
    assert type(settings.names) is list
    with pytest.raises(AttributeError):
        settings.side = 3


def test_an_int_for_a_float_is_accepted():
    @dataclass(frozen=True)
    class Weight:
        weight: float = setting(10.0, "weight", ge=0)

    problems = []
    settings = fill(Weight, {"weight": 3}, at="", problems=problems)
    assert settings == Weight(3.0)
    assert type(settings.weight) is float
    assert fill(Weight, {"weight": "1e-3"}, at="", problems=problems) == Weight(1e-3)
    assert not problems


def test_an_unknown_key_names_the_nearest():
    (problem,) = mistakes(side=8, evry=3)
    assert (problem.where, problem.what) == ("oven.evry", "unknown key")
    assert problem.remedy == "did you mean 'every'?"
    (problem,) = mistakes(side=8, zzzzz=3)
    assert problem.remedy == "valid: every, kind, lr, names, on, side"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("side", "wide"),
        ("side", 8.5),
        ("side", True),
        ("side", None),
        ("lr", "fast"),
        ("lr", [0.1]),
        ("lr", None),
        ("on", "perhaps"),
        ("kind", "cold"),
        ("names", {"a": 1}),
    ],
)
def test_a_wrong_type(key, value):
    (problem,) = mistakes(**{"side": 8, key: value})
    assert problem.where == f"oven.{key}"
    assert "\n" not in problem.what
    words = "not Optional" if value is None else "" if isinstance(value, list | dict) else value
    assert str(words) in problem.what


@dataclass(frozen=True)
class Shelf:
    names: list[str] = setting([], "names")
    labels: dict[str, str] = setting({}, "labels")
    any: dict[str, Any] = setting({}, "anything")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("names", "a", "names: is 'a', must be a list ([a])"),
        ("names", 3, "names: is 3, must be a list ([3])"),
        ("names", {"a": "b"}, "names: is {'a': 'b'}, must be a list ([A, B])"),
        ("names", ["x", {"echo a": "b"}], "names: has {'echo a': 'b'} in it, where single values"),
        (
            "names",
            [["x"]],
            "names: has ['x'] in it, where single values belong (a text with a colon",
        ),
        ("labels", "a", "labels: is 'a', must be a mapping ({KEY: VALUE})"),
        ("labels", ["a"], "labels: is ['a'], must be a mapping ({KEY: VALUE})"),
        ("labels", {"a": ["b"]}, "labels: has ['b'] in it, where single values belong"),
    ],
)
def test_lists_and_mappings(key, value, words):
    problems = []
    assert fill(Shelf, {key: value}, at="", problems=problems) is None
    (problem,) = problems
    assert str(problem).startswith(words)


@pytest.mark.parametrize(
    ("at", "remedy"),
    [("trial.oven", "one value; to try several, make it an axis of space"), ("oven", "one value")],
)
def test_several_values_in_the_place_of_one(at, remedy):
    """Which a sweep's axis may have, and a cluster's profile may not."""
    problems = []
    fill(Oven, {"side": 8, "lr": [0.1, 0.2], "names": [None]}, at=at, problems=problems)
    assert [(p.where, p.remedy) for p in problems] == [(f"{at}.lr", remedy), (f"{at}.names", "")]


def test_a_mapping_of_anything():
    problems = []
    whole = {"names": ["a"], "labels": {"a": "b"}, "any": {"a": {"b": [1]}, "c": 2}}
    assert fill(Shelf, whole, at="", problems=problems) == Shelf(**whole)
    assert problems == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("side", 7, "is 7, must be at least 8"),
        ("side", 65, "is 65, must be at most 64"),
        ("lr", 0.0, "is 0.0, must be greater than 0"),
        ("lr", 1, "is 1.0, must be less than 1"),
        ("lr", float("nan"), "is nan, must be finite"),
        ("lr", float("inf"), "is inf, must be finite"),
        ("every", 0, "is 0, must be at least 1"),
    ],
)
def test_a_value_out_of_range(key, value, words):
    (problem,) = mistakes(**{"side": 8, key: value})
    assert (problem.where, problem.what) == (f"oven.{key}", words)


def test_the_ends_of_a_range_are_in_it():
    assert filled(side=8).side == 8
    assert filled(side=64, every=1).side == 64


def test_a_missing_value():
    (problem,) = mistakes(lr=0.5)
    assert (problem.where, problem.what, problem.remedy) == (
        "oven.side",
        "is required",
        "side in pixels",
    )


def test_all_mistakes_at_once():
    problems = mistakes(lr=2, kind="cold", sid=3)
    assert [p.where for p in problems] == ["oven.kind", "oven.sid", "oven.side", "oven.lr"]


def test_defaults_are_not_shared():
    filled(side=8).names.append("mine")
    Oven(side=8).names.append("mine")
    assert filled(side=8).names == ["a"]
    assert Oven(side=8).names == ["a"]


def test_an_interpolation_that_leads_nowhere():
    """Told as a mistake with its key, not raised."""
    ran = 0
    for key, value in (("side", "${no.such}"), ("kind", "${oc.decode:cold}"), ("lr", "${nothing}")):
        (problem,) = mistakes(**{"side": 8, key: value})
        assert problem.where == f"oven.{key}"
        ran += 1
    assert ran == 3


def test_no_prefix():
    problems = []
    fill(Oven, {"side": 1}, at="", problems=problems)
    assert [p.where for p in problems] == ["side"]


@dataclass(frozen=True)
class Pan:
    kind: Literal["flat", "deep"] = setting("flat", "which")
    size: float = setting(1.0, "size", gt=0, le=2)
    depth: float | None = setting(None, "depth", ge=0)
    count: int = setting(1, "how many")


def test_what_differs_by_numbers_alone_is_read_once(monkeypatch):
    """The trials of a sweep do. Ranges hold all the same, and what is no number is read anew."""
    read = []
    real = module._fill

    def counted(cls, values, **rest):
        read.append(values)
        return real(cls, values, **rest)

    monkeypatch.setattr(module, "_fill", counted)
    problems = []

    def pan(**values):
        return fill(Pan, values, at="pan", problems=problems)

    sizes = [0.1 * (place + 1) for place in range(20)]
    assert [pan(size=size, depth=2 * size) for size in sizes] == [
        Pan(size=size, depth=2 * size) for size in sizes
    ]
    assert len(read) == 1
    assert pan(size=0.5, kind="deep") == Pan("deep", 0.5)
    assert pan(size=0.6, kind="deep") == Pan("deep", 0.6)
    assert pan(size=1, depth=None) == Pan(size=1.0)
    assert len(read) == 3
    assert problems == []
    assert pan(size=2.5, depth=-1.0) is None
    assert pan(size=math.nan, depth=0.5) is None
    assert [str(problem) for problem in problems] == [
        "pan.size: is 2.5, must be at most 2",
        "pan.depth: is -1.0, must be at least 0",
        "pan.size: is nan, must be finite",
    ]
    assert len(read) == 3
    assert pan(size=0.5, count=1.5) is None  # no whole number, and so no number to put in
    assert pan(size=0.7, count=1.5) is None


def test_settings_that_nobody_can_change_are_shared():
    problems = []
    one, other = (fill(Pan, {"size": 0.25}, at="", problems=problems) for _ in range(2))
    assert one == other == Pan(size=0.25)
    first, second = (filled(side=8), filled(side=8))
    assert first.names is not second.names


@dataclass(frozen=True)
class Even:
    width: int = setting(8, "units")
    rate: float = setting(1.0, "rate")

    def __post_init__(self) -> None:
        if self.width % 2 or self.rate > 1:
            raise ValueError("must be even, and slow")


def test_what_a_dataclass_checks_as_it_is_made():
    """Whatever was filled before: two that differ by numbers alone are made by its own rule too."""
    for values in ({"width": 4, "rate": 0.5}, {"width": 4, "rate": 1.0}):
        assert fill(Even, values, at="here", problems=[]) == Even(**values)
    for values in ({"width": 3}, {"width": 4, "rate": 2.0}):
        problems: list[Problem] = []
        assert fill(Even, values, at="here", problems=problems) is None
        assert [str(each) for each in problems] == [
            "here: is refused: ValueError: must be even, and slow"
        ]


def test_settings_of_a_type_that_no_file_can_say():
    @dataclass(frozen=True)
    class Odd:
        layer: Fraction = setting(Fraction(1, 2), "a fraction")

    problems: list[Problem] = []
    assert fill(Odd, {}, at="here", problems=problems) is None
    (problem,) = problems
    assert problem.where == "here"
    assert "Odd cannot be filled: " in problem.what
    assert problem.remedy
