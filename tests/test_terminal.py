from __future__ import annotations

import io
import logging
import os
import pty
import re
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gansweep import terminal
from gansweep.sweep.board import Board
from gansweep.sweep.plan import Entry, Plan
from gansweep.terminal import Display, clock, quiet


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"), (-3, "0s"), (8.4, "8s"), (59.6, "1m00s"), (185, "3m05s"), (3599.4, "59m59s"),
        (3600, "1h00m"), (7650, "2h07m"), (360000, "100h00m"),
    ],
)  # fmt: skip
def test_clock(seconds: float, words: str) -> None:
    assert clock(seconds) == words


STATES = ("running", "completed", "stopped", "diverged", "failed", "interrupted", "waiting")


def board(states: tuple[Any, ...] = STATES, *, total: int = 0) -> Board:
    plan = Plan(Path("p"), "s")
    for number, state in enumerate(states):
        key = f"k{number}"
        plan.entries[key] = Entry(key, f"clip={number} [red]", {}, 0, 100, state=state, g_steps=40)
        plan.entries[key].metrics = {"score/swd": 0.125, "loss/d": None}
    return Board(plan, total=total, workers=2)


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        @staticmethod
        def monotonic() -> float:
            return 1000.0

    monkeypatch.setattr(terminal, "time", Clock)


def test_summary(frozen: None) -> None:
    shown = board(total=9)
    shown.started, shown.message = 1000.0 - 65, ""
    display = Display(Console(), shown, metric="score/swd")
    assert display.summary().plain == (
        "9 trials: 1 running, 1 completed, 1 stopped, 1 diverged, 1 failed, 1 interrupted, "
        "3 waiting; 1m05s gone"
    )
    alone = Display(Console(), board(("running",)), metric="score/swd")
    assert alone.summary().plain.startswith("1 trial: 1 running; ")
    shown.rows[0].rate = 3.0
    shown.message = "stopping"
    # 60 steps each of the running, interrupted and waiting trial, 200 of two to come.
    assert display.summary().plain.endswith("; 1m05s gone, about 1m03s left - stopping")


def test_summary_ends_with_the_last_notes_unless_there_is_a_message(frozen: None) -> None:
    shown = board(("running",))
    shown.started, shown.message = 1000.0, ""
    for words in ("one", "two", "packs of 4: stacked, eager"):
        shown.note(words)
    display = Display(Console(), shown, metric="score/swd")
    assert display.summary().plain.endswith("0s gone - two; packs of 4: stacked, eager")
    shown.message = "stopping"
    assert display.summary().plain.endswith("0s gone - stopping")


def rendered(shown: Board, *, height: int) -> list[str]:
    console = Console(record=True, width=120, height=height, file=io.StringIO())
    console.print(Display(console, shown, metric="score/swd").render())
    return console.export_text().splitlines()


def test_render_shows_what_runs_first_and_names_as_they_are() -> None:
    shown = board(("completed", "failed", "running", "waiting"))
    shown.rows[2].rate = 2.0
    lines = rendered(shown, height=40)
    assert lines[2].split() == [
        "trial", "state", "g_steps", "progress", "score/swd", "loss/d", "left",
    ]  # fmt: skip
    assert lines[3].split()[:4] == ["clip=2", "[red]", "running", "40/100"]
    assert lines[3].split()[-2:] == ["0.125", "30s"]
    assert {lines[4].split()[0], lines[5].split()[0]} == {"clip=0", "clip=1"}
    assert len(lines) == 6  # the waiting one is only counted


def test_render_fits_the_screen() -> None:
    lines = rendered(board(("running",) * 30), height=20)
    assert len(lines) <= 20
    assert "... and 22 more" in lines[-1]


def test_plain_lines_without_a_terminal() -> None:
    output = io.StringIO()
    shown = board(("running",))
    with Display(Console(file=output, width=100), shown, metric="m").showing():
        shown.rows[0].entry.state = "completed"
    lines = output.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[-1].startswith("1 trial: 1 completed; ")


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines() -> None:
    found = {}
    for kind in ("dumb", "xterm"):
        output = io.StringIO()
        console = Console(file=output, force_terminal=True, _environ={"TERM": kind})
        with Display(console, board(("running",)), metric="m").showing():
            pass
        found[kind] = output.getvalue()
    assert [line[:20] for line in found["dumb"].splitlines()] == ["1 trial: 1 running; "] * 2
    assert "\x1b[?25l" in found["xterm"]  # the table is drawn over and over, without a cursor


def test_the_console_of_quiet_follows_its_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    before = os.dup(1)
    os.dup2(theirs, 1)
    try:
        with quiet(tmp_path / "driver.log") as console:
            assert console.is_terminal
            for lines, columns in ((24, 80), (12, 41), (50, 200)):
                termios.tcsetwinsize(theirs, (lines, columns))
                assert (console.height, console.width) == (lines, columns)
            termios.tcsetwinsize(theirs, (0, 0))  # it does not know
            assert (console.height, console.width) == (25, 80)
    finally:
        os.dup2(before, 1)
        for each in (before, ours, theirs):
            os.close(each)


def test_quiet_turns_everything_else_to_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log_file = tmp_path / "new" / "driver.log"
    with pytest.raises(RuntimeError, match="boom"), quiet(log_file) as console:  # noqa: PT012
        console.print("for the person")
        os.write(1, b"from a library\n")
        os.write(2, b"from another\n")
        logging.getLogger("gansweep").warning("from us to http://me:hunter2@host")
        raise RuntimeError("boom")
    print("after")
    print("after, too", file=sys.stderr)
    sys.stdout.flush()
    os.write(1, b"by a library, after\n")
    captured = capfd.readouterr()
    assert captured.out == "for the person\nafter\nby a library, after\n"
    assert captured.err == "after, too\n"
    text = log_file.read_text()
    for words in ("from a library", "from another", "WARNING gansweep: from us to http://***@host"):
        assert words in text
    assert logging.getLogger("gansweep").handlers == []
    with quiet(log_file):
        os.write(1, b"second run\n")
    assert "from a library" in log_file.read_text()  # the log is continued


def test_render_says_what_is_wrong_where_anything_is() -> None:
    shown = board(("running", "stopped"))
    assert "diagnosis" not in rendered(shown, height=20)[2]
    shown.rows[1].entry.diagnosis = "mode_collapse"
    lines = rendered(shown, height=20)
    assert lines[2].split()[:3] == ["trial", "state", "diagnosis"]
    assert "mode_collapse" in next(line for line in lines if "stopped" in line and "clip=1" in line)


NAME, WRONG = "clip=0.003 rmsprop lr=0.0003 seed=0", "clip_saturated, mode_collapse, no_progress"


@pytest.mark.parametrize(
    ("width", "name", "wrong", "gone"),
    [
        (80, "clip=0.003 rms…=0.0003 seed=0", "clip_saturated +2", "progress, loss/d, left"),
        (100, "clip=0.003 rms…=0.0003 seed=0", "clip_saturated +2", "loss/d"),
        (140, NAME, WRONG, ""),
    ],
)
def test_render_fits_the_width_and_cuts_no_number(
    width: int, name: str, wrong: str, gone: str
) -> None:
    shown = board(("running", "completed"))
    for row in shown.rows:
        row.entry.name, row.entry.diagnosis = NAME, WRONG
        row.entry.g_steps, row.entry.budget = 640, 1200
    console = Console(record=True, width=width, height=40, file=io.StringIO(), force_terminal=True)
    console.print(Display(console, shown, metric="score/swd").render())
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    words = re.split("  +", lines[3])
    assert max(map(len, lines[2:])) <= width
    assert words[:4] == [name, "running", wrong, "640/1200"]
    assert "0.125" in words
    assert lines[-1] == f"too narrow for: {gone}" if gone else len(lines) == 5
