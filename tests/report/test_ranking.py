from __future__ import annotations

import math
from typing import Any

import pytest

from gansweep.errors import ConfigError
from gansweep.report.ranking import rank
from gansweep.sweep.plan import Entry


def entry(point: Any, value: Any, *, seed: int = 0, state: Any = "completed") -> Entry:
    name = f"clip={point} seed={seed}"
    return Entry(
        f"{point}/{seed}", name, {"clip": point}, seed, 10, state=state, metrics={"m": value}
    )


def printed(point: Any, value: Any, **fingerprint: str) -> Entry:
    made = entry(point, value)
    made.metrics = {"score/fd/digits": value, "best/score/fd/digits": value, "loss/d": value}
    made.fingerprints = {"fd/digits": fingerprint, "swd": {"other": str(point)}}
    return made


def order(entries: list[Entry], mode: Any = "min") -> list[Any]:
    return [r.trials[0].point["clip"] for r in rank(entries, metric="m", mode=mode)]


def test_mean_and_standard_error_over_seeds() -> None:
    entries = [entry("a", value, seed=seed) for seed, value in enumerate([1.0, 2.0, 4.0, 5.0])]
    (result,) = rank(reversed(entries), metric="m", mode="min")
    assert result.mean == 3.0
    # Sample variance (4 + 1 + 1 + 4) / 3, over n = 4.
    assert result.error == pytest.approx(math.sqrt(10 / 3 / 4), rel=1e-12)
    assert [trial.seed for trial in result.trials] == [0, 1, 2, 3]
    assert result.name == "clip=a"  # without the seed
    assert result.states == ("completed",)


def test_one_seed_has_no_error_and_its_own_name() -> None:
    (result,) = rank([entry("a", 1.0)], metric="m", mode="min")
    assert (result.mean, result.error, result.name) == (1.0, None, "clip=a seed=0")


def test_values_whose_squares_are_no_numbers() -> None:
    (result,) = rank([entry("a", 1e200), entry("a", -1e200, seed=1)], metric="m", mode="min")
    assert (result.mean, result.error) == (0.0, math.inf)


def test_min_and_max() -> None:
    entries = [entry("a", 2.0), entry("b", 1.0), entry("c", 3.0)]
    assert order(entries) == ["b", "a", "c"]
    assert order(entries, "max") == ["c", "a", "b"]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_bad_ends_come_last_whatever_they_logged(mode: str) -> None:
    extreme = -1e9 if mode == "min" else 1e9
    entries = [
        entry("none", None),
        entry("diverged", extreme, state="diverged"),
        entry("failed", extreme, state="failed"),
        entry("nan", math.nan),
        entry("half", extreme, seed=0),
        entry("half", extreme, seed=1, state="diverged"),
        entry("good", 1.0),
        entry("stopped", 1.0, state="stopped"),
    ]
    found = order(entries, mode)
    assert found == ["good", "stopped", "half", "none", "nan", "diverged", "failed"]
    by_name = {r.trials[0].point["clip"]: r for r in rank(entries, metric="m", mode=mode)}  # type: ignore[arg-type]
    assert by_name["half"].mean == extreme
    assert by_name["half"].error is None
    assert by_name["half"].states == ("completed", "diverged")
    assert [by_name[k].mean for k in ("none", "diverged", "failed", "nan")] == [None] * 4


@pytest.mark.parametrize("mode", ["min", "max"])
def test_what_has_not_trained_to_the_end_comes_after_what_has(mode: str) -> None:
    """A stopped trial's value is one of an earlier g_step, however good."""
    extreme = -1e9 if mode == "min" else 1e9
    good, bad = (1.0, 2.0) if mode == "min" else (2.0, 1.0)
    entries = [
        entry("stopped", extreme / 2, state="stopped"),
        entry("running", extreme, state="running"),
        entry("interrupted", bad, state="interrupted"),
        entry("partly", extreme / 3, seed=0),
        entry("partly", extreme / 3, seed=1, state="stopped"),
        entry("broken", extreme, seed=0, state="stopped"),
        entry("broken", extreme, seed=1, state="failed"),
        entry("waiting", None, state="waiting"),
        entry("worse", bad),
        entry("better", good),
    ]
    results = rank(entries, metric="m", mode=mode)  # type: ignore[arg-type]
    assert [result.trials[0].point["clip"] for result in results] == [
        "better", "worse", "running", "stopped", "partly", "interrupted", "broken", "waiting",
    ]  # fmt: skip
    assert [result.is_complete for result in results] == [True] * 2 + [False] * 6
    assert [result.is_open for result in results] == [False] * 2 + [True] * 4 + [False] * 2


def test_metric_that_nobody_has_keeps_the_order() -> None:
    results = rank([entry("b", 1.0), entry("a", 2.0)], metric="other", mode="min")
    assert [r.mean for r in results] == [None, None]
    assert [r.trials[0].point["clip"] for r in results] == ["b", "a"]
    assert rank([], metric="m", mode="min") == []


def test_points_are_grouped_whatever_the_order_of_their_keys() -> None:
    one = Entry("a", "n", {"x": 1, "y": [1, 2]}, 0, 1, state="completed", metrics={"m": 1.0})
    two = Entry("b", "n", {"y": [1, 2], "x": 1}, 1, 1, state="completed", metrics={"m": 3.0})
    (result,) = rank([one, two], metric="m", mode="min")
    assert result.mean == 2.0


def test_points_are_one_however_their_numbers_were_written() -> None:
    one, other = rank(
        [entry(1, 2.0), entry(1.0, 4.0, seed=1), entry("1", 9.0)], metric="m", mode="min"
    )
    assert (one.mean, len(one.trials)) == (3.0, 2)
    assert other.mean == 9.0  # a text


@pytest.mark.parametrize("metric", ["score/fd/digits", "best/score/fd/digits"])
def test_values_of_different_fingerprints_are_refused(metric: str) -> None:
    """Twice the samples give a smaller distance: the mistake of comparing FIDs across counts."""
    few, many = {"fake_count": "2000", "seed": "0"}, {"fake_count": "50000", "seed": "0"}
    trials = [printed("a", 2.0, **few), printed("b", 1.0, **many), printed("c", 3.0, **few)]
    with pytest.raises(ConfigError) as caught:
        rank(trials, metric=metric, mode="min")
    words = "its values cannot be compared: fake_count is 2000 of 2 trials, 50000 of 1 trial ("
    assert words in str(caught.value)
    assert "seed" not in str(caught.value).partition("(score")[0]
    assert caught.value.problems[0].where == metric
    assert len(rank(trials, metric="loss/d", mode="min")) == 3
    assert len(rank(trials[::2], metric=metric, mode="min")) == 2
    assert len(rank(trials, metric=metric, mode="min", across=["fake_count"])) == 3


def test_all_that_differs_is_named() -> None:
    one = printed("a", 2.0, ema="yes", weights="abc", extractor="digits")
    other = printed("b", 2.0, ema="no", weights="", extractor="raw")
    with pytest.raises(ConfigError, match="ema is yes of 1 trial, no of 1 trial") as caught:
        rank([one, other], metric="score/fd/digits", mode="min")
    words = "weights is abc of 1 trial, none of 1 trial; extractor is digits of 1 trial, raw"
    assert words in str(caught.value)


def test_trials_without_a_value_or_a_fingerprint_do_not_count() -> None:
    bad = printed("b", None, seed="1")
    diverged = printed("c", 1.0, seed="2")
    diverged.state = "diverged"
    old = printed("d", 5.0)
    old.fingerprints = {}
    trials = [printed("a", 2.0, seed="0"), bad, diverged, old]
    assert len(rank(trials, metric="score/fd/digits", mode="min")) == 4
