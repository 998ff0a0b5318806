"""How long the rest of a sweep takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep_files import load, text

from gansweep.sweep.estimate import estimate, paces_of, unknown_trials
from gansweep.sweep.pace import Pace, pace_of
from gansweep.sweep.plan import Entry, EntryState
from gansweep.sweep.trials import Trial, planned

SPACE = {"model.clip": {"grid": [0.01, 0.02, 0.03]}, "network.width": {"grid": [8, 16]}}


@pytest.fixture
def trials(tmp_path: Path) -> list[Trial]:
    """Three of width 8, three of width 16, each of 100 g_steps."""
    found = planned(load(tmp_path, text(space=SPACE), ["budget.g_steps=100"]))
    return sorted(found, key=lambda trial: trial.point["network.width"])


def entry(trial: Trial, state: EntryState, g_steps: int, seconds: float = 0.0) -> Entry:
    return Entry(trial.key, trial.name, {}, 0, 100, state=state, g_steps=g_steps, seconds=seconds)


def name(trial: Trial) -> str:
    return pace_of(trial.config, on_gpu=False)


def test_what_is_left_times_what_a_step_took(trials: list[Trial]) -> None:
    narrow, wide = trials[:3], trials[3:]
    assert [t.point["network.width"] for t in trials] == [8] * 3 + [16] * 3
    entries = {
        trial.key: each
        for trial, each in (
            (narrow[0], entry(narrow[0], "completed", 100)),
            (narrow[1], entry(narrow[1], "interrupted", 40)),
            (wide[0], entry(wide[0], "stopped", 10)),
            (wide[1], entry(wide[1], "failed", 0)),
        )
    }
    paces = {name(narrow[0]): Pace(4, 400, 200.0), name(wide[0]): Pace(0, 100, 300.0)}
    found = estimate(trials, entries, paces, on_gpu=False)
    assert (found.trials, found.unknown, found.known) == (3, 0, 3)
    assert found.seconds == pytest.approx(0.5 * 60 + 0.5 * 100 + 3.0 * 100, rel=1e-12)
    assert (found.finished, found.probed) == (4, 1)
    assert found.clock_seconds(1) == pytest.approx(380, rel=1e-12)
    assert found.clock_seconds(2) == pytest.approx(300, rel=1e-12)  # the longest trial
    assert found.gpu_hours(0.25) == pytest.approx(380 * 0.25 / 3600, rel=1e-12)
    assert estimate(trials, entries, paces, on_gpu=True).known == 0


def test_what_is_unknown_is_said(trials: list[Trial]) -> None:
    paces = {name(trials[0]): Pace(1, 100, 50.0)}
    found = estimate(trials, {}, paces, on_gpu=False)
    assert (found.trials, found.unknown, found.seconds) == (6, 3, pytest.approx(150))
    unknown = unknown_trials(trials, {}, paces, on_gpu=False)
    assert unknown == {name(trials[3]): trials[3]}
    done = {trial.key: entry(trial, "completed", 100) for trial in trials[3:]}
    assert unknown_trials(trials, done, paces, on_gpu=False) == {}
    assert estimate(trials, done, paces, on_gpu=False).unknown == 0
    nothing = estimate([], {}, {}, on_gpu=False)
    assert (nothing.trials, nothing.seconds, nothing.clock_seconds(3)) == (0, 0.0, 0.0)


def test_examples_stand_for_all_trials(trials: list[Trial]) -> None:
    paces = {name(trials[0]): Pace(1, 100, 50.0), name(trials[3]): Pace(1, 100, 100.0)}
    done = {"gone": Entry("gone", "", {}, 0, 100, state="completed", g_steps=100)}
    found = estimate(trials, done, paces, on_gpu=False, total=61)
    assert (found.trials, found.unknown) == (60, 0)
    assert found.seconds == pytest.approx(30 * 50 + 30 * 100, rel=1e-12)
    half = estimate(trials, done, {name(trials[0]): Pace(1, 100, 50.0)}, on_gpu=False, total=61)
    assert (half.trials, half.unknown) == (60, 30)


def test_examples_that_are_finished_stand_for_the_others_too(trials: list[Trial]) -> None:
    """As where `search.samples` of a TPE search over a small space was raised."""
    done = {trial.key: entry(trial, "completed", 100) for trial in trials}
    paces = {name(trials[0]): Pace(1, 100, 50.0), name(trials[3]): Pace(1, 100, 100.0)}
    found = estimate(trials, done, paces, on_gpu=False, total=10)
    assert (found.trials, found.unknown, found.finished) == (4, 0, 2)
    assert found.seconds == pytest.approx(2 * 50 + 2 * 100, rel=1e-12)
    over = estimate(trials, done, paces, on_gpu=False, total=6)
    assert (over.trials, over.unknown, over.seconds) == (0, 0, 0.0)


def test_the_plan_itself_tells_of_trials_that_ended(trials: list[Trial]) -> None:
    entries = {
        trial.key: entry(trial, state, 80, 4.0)
        for trial, state in zip(trials, ("completed", "stopped", "interrupted"), strict=False)
    }
    assert paces_of(trials, entries, on_gpu=False) == {name(trials[0]): Pace(2, 160, 8.0)}


def test_examples_of_a_large_search_under_a_longer_budget(trials: list[Trial]) -> None:
    """What was completed under a shorter one is to go on; what diverged is not."""
    entries = {}
    for trial, state in zip(trials, ["completed"] * 4 + ["diverged", "stopped"], strict=True):
        each = entries[trial.key] = entry(trial, state, 50)  # type: ignore[arg-type]
        each.budget = 50
    paces = {name(trial): Pace(1, 100, 50.0) for trial in trials}
    found = estimate(trials, entries, paces, on_gpu=False, total=60)
    assert (found.trials, found.unknown) == (58, 0)
    assert found.seconds == pytest.approx(58 * 25, rel=1e-12)


def test_examples_with_budgets_of_their_own(tmp_path: Path) -> None:
    budgets = {"wgan": 50, "gan": 100}
    options = [{"model.name": name, "budget.g_steps": steps} for name, steps in budgets.items()]
    sweep = load(tmp_path, text(space={"kind": {"grid": options}}))
    short, long = trials = planned(sweep)
    entries = {trial.key: entry(trial, "completed", 50) for trial in trials}
    entries[short.key].budget = 50
    assert (short.config.budget.g_steps, long.config.budget.g_steps) == (50, 100)
    assert estimate(trials, entries, {}, on_gpu=False, total=10).trials == 9
