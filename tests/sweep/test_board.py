from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gansweep.sweep.board import LATEST, Board
from gansweep.sweep.plan import Entry, Plan

from .conftest import Clock


def plan_of(*states: Any, budget: int = 100) -> Plan:
    plan = Plan(Path("p"), "s")
    for number, state in enumerate(states):
        key = f"k{number}"
        plan.entries[key] = Entry(key, key, {}, 0, budget, state=state)
    return plan


def advance(board: Board, plan: Plan, key: str, g_steps: int, seconds: float) -> None:
    """As the driver does: the board first, then the entry."""
    board.progress(key, g_steps, seconds)
    plan.entries[key].g_steps, plan.entries[key].seconds = g_steps, seconds


def test_rate_and_time_left_of_a_trial(clock: Clock) -> None:
    plan = plan_of("running")
    board = Board(plan, total=1, workers=1)
    (row,) = board.rows
    assert board.row_seconds_left(row) is None
    assert board.seconds_left() is None
    clock.now = 107.0
    advance(board, plan, "k0", 20, 10.0)
    assert row.rate == 2.0
    assert row.seen == 107.0
    assert board.row_seconds_left(row) == 40.0
    advance(board, plan, "k0", 60, 20.0)  # 4 a second now: 0.7 * 2 + 0.3 * 4
    assert row.rate == pytest.approx(2.6)
    assert board.row_seconds_left(row) == pytest.approx(40 / 2.6)
    assert board.rows[0] is row
    plan.entries["k0"].state = "completed"
    assert board.row_seconds_left(row) is None


def test_of_an_earlier_command_nobody_knows_how_long_its_steps_took(clock: Clock) -> None:
    plan = plan_of("running")
    plan.entries["k0"].g_steps, plan.entries["k0"].seconds = 10, 10.0
    board = Board(plan, total=1, workers=1)
    board.progress("k0", 70.0, 11.0)  # of 100, for ten g_steps with as much work as 70
    plan.entries["k0"].g_steps, plan.entries["k0"].seconds = 11, 11.0
    assert board.row_seconds_left(board.rows[0]) is None
    board.progress("k0", 80.0, 16.0)
    assert board.row_seconds_left(board.rows[0]) == 10.0
    assert board.seconds_left() == 10.0


def test_reports_without_progress_do_not_spoil_the_rate(clock: Clock) -> None:
    plan = plan_of("running")
    board = Board(plan, total=1, workers=1)
    advance(board, plan, "k0", 20, 10.0)
    for g_steps, seconds in ((20, 10.0), (20, 11.0), (10, 12.0), (30, 9.0)):
        board.progress("k0", g_steps, seconds)
    assert board.rows[0].rate == 2.0


def test_time_left_of_the_sweep(clock: Clock) -> None:
    plan = plan_of("running", "running", "waiting", "interrupted", "completed", "failed")
    board = Board(plan, total=8, workers=2)  # two more are not chosen yet
    advance(board, plan, "k0", 50, 25.0)
    advance(board, plan, "k1", 40, 10.0)
    # 50 + 60 + 100 + 100 and 2 * 100 steps at a mean of 3 a second, two at a time.
    assert board.seconds_left() == pytest.approx(510 / 3 / 2)
    assert board.total == 8
    assert Board(plan, total=1, workers=0).total == 6  # the plan knows of more


def test_trials_that_the_file_no_longer_means_do_not_count(clock: Clock) -> None:
    plan = plan_of("running", "interrupted", "waiting")
    keys = {"k0"}
    board = Board(plan, total=1, workers=1, keys=keys)
    assert ([row.entry.key for row in board.rows], board.total) == (["k0"], 1)
    keys.add("k2")
    assert ([row.entry.key for row in board.rows], board.total) == (["k0", "k2"], 2)


def test_rows_appear_as_the_plan_grows(clock: Clock) -> None:
    plan = plan_of("running")
    board = Board(plan, total=2, workers=1)
    assert len(board.rows) == 1
    plan.entries["new"] = Entry("new", "new", {}, 0, 10)
    assert [row.entry.key for row in board.rows] == ["k0", "new"]


def test_seconds_left_needs_a_running_trial() -> None:
    plan = plan_of("waiting", "running", budget=10)
    plan.entries["k1"].g_steps = 4
    board = Board(plan, total=2, workers=1)
    waiting, running = board.rows
    waiting.rate, running.rate = 1.0, 2.0
    assert board.row_seconds_left(waiting) is None
    assert board.row_seconds_left(running) == 3


@pytest.mark.parametrize(("workers", "sharing"), [(1, 4), (2, 2), (3, 4 / 3), (4, 1), (9, 1)])
def test_trials_of_a_pack_share_their_worker(workers: int, sharing: float) -> None:
    """Each is charged a part of the worker's time, and so shows more speed than it has."""
    board = Board(plan_of("running", "running", "running", "running"), total=4, workers=workers)
    for row in board.rows:
        row.rate = 2.0
    assert board.row_seconds_left(board.rows[0]) == pytest.approx(100 / 2 * sharing)


def test_a_note_is_kept_once() -> None:
    board = Board(plan_of("running"), total=1, workers=1)
    for words in ("one", "two", "one"):
        board.note(words)
    assert board.notes == ["one", "two"]


def test_what_ended_is_counted_and_looked_at_no_more(clock: Clock) -> None:
    plan = plan_of(*["running"] * 5, "waiting", "interrupted")
    board = Board(plan, total=9, workers=2)
    assert board.counts == {"running": 5, "waiting": 1, "interrupted": 1}
    for number, state in enumerate(("completed", "stopped", "diverged", "failed")):
        clock.now += 1
        advance(board, plan, f"k{number}", 10, 1.0)
        plan.entries[f"k{number}"].state = state
    assert [row.entry.key for row in board.open_rows] == ["k4", "k5", "k6"]
    assert [row.entry.key for row in board.latest_rows] == ["k3", "k2", "k1", "k0"]
    assert board.counts == {
        "completed": 1, "stopped": 1, "diverged": 1, "failed": 1,
        "running": 1, "waiting": 1, "interrupted": 1,
    }  # fmt: skip
    assert board.total == 9
    assert [row.entry.key for row in board.rows] == list(plan.entries)
    assert len(board._open) == 3  # all that another look goes through


def test_a_trial_that_ended_before_is_taken_up_again(clock: Clock) -> None:
    """Under a longer budget, or where failed ones are tried again."""
    plan = plan_of("completed", "failed", "waiting")
    board = Board(plan, total=3, workers=1)
    advance(board, plan, "k0", 10, 1.0)
    advance(board, plan, "k1", 20, 1.0)
    assert board.counts == {"completed": 1, "failed": 1, "waiting": 1}
    left = board.seconds_left()
    for key in ("k0", "k1", "k2"):
        plan.entries[key].state = "running"
        board.began(key)
    assert board.counts == {"running": 3}
    assert board.latest_rows == []
    assert [row.entry.key for row in board.open_rows] == ["k2", "k0", "k1"]
    plan.entries["k0"].state = plan.entries["k1"].state = "completed"
    assert board.counts == {"completed": 2, "running": 1}
    plan.entries["k0"].state = "running"
    board.began("k0")
    assert board.counts == {"completed": 1, "running": 2}
    plan.entries["k0"].state = "completed"
    assert board.seconds_left() == left == pytest.approx(100 / 15)  # each speed counts once


def test_of_many_that_ended_the_latest_are_at_hand(clock: Clock) -> None:
    plan = plan_of(*["running"] * 300)
    board = Board(plan, total=300, workers=1)
    for number in range(300):
        clock.now += 1
        advance(board, plan, f"k{number}", 10, 1.0)
        plan.entries[f"k{number}"].state = "completed"
        if number % 7 == 0:
            assert board.counts["completed"] == number + 1
    latest = [row.entry.key for row in board.latest_rows]
    assert latest == [f"k{number}" for number in range(299, 299 - LATEST, -1)]
