"""The terminal while a sweep runs: a live table, or a plain line now and then without one."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import final

from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from gansweep.counting import counted
from gansweep.redaction import RedactingFormatter
from gansweep.report.columns import Column, Fitted, middle
from gansweep.report.table import LEAST_NAME, STYLES, diagnosis_column
from gansweep.sweep.board import Board, Row
from gansweep.sweep.plan import Entry

REFRESH_SECONDS = 0.5
LINE_SECONDS = 15.0
LINES_KEPT = 12
"""Rows that the live table leaves for other things on the screen."""
BAR = 12
"""Characters of a progress bar."""

COUNTED = ("running", "completed", "stopped", "diverged", "failed", "interrupted")


@final
class _Screen(Console):
    """A console as large as its own terminal is by now: rich asks descriptors that are turned."""

    @property
    def size(self) -> ConsoleDimensions:
        columns, lines = os.get_terminal_size(self.file.fileno())
        return ConsoleDimensions(columns or 80, lines or 25)  # one that does not know says 0

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        raise AttributeError("the terminal says it")


def hush_lightning() -> None:
    """For trials in this process: it lists devices that it does not use, and what to install."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="The `srun` command is available")


@contextmanager
def quiet(log_file: Path) -> Iterator[Console]:
    """A console on the real terminal, while all else that is printed goes to `log_file`.

    Ray, its workers and C++ libraries write to the process's own descriptors; these are turned to
    the file, and the console keeps copies of the old ones.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with log_file.open("ab") as target:
        handler = logging.StreamHandler(io.TextIOWrapper(log_file.open("ab"), write_through=True))
        handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger("gansweep")
        root.addHandler(handler)
        for number in (1, 2):
            os.dup2(target.fileno(), number)
        stream = os.fdopen(os.dup(saved[0]), "w", encoding="utf-8")
        try:
            yield _Screen(file=stream) if stream.isatty() else Console(file=stream, soft_wrap=True)
        finally:
            stream.flush()
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), saved, strict=True):
                os.dup2(old, number)
                os.close(old)
            stream.close()
            root.removeHandler(handler)
            handler.stream.close()


@final
class Display:
    """Shows a board until the block ends."""

    def __init__(self, console: Console, board: Board, *, metric: str) -> None:
        self._console = console
        self._board = board
        self._metric = metric

    @contextmanager
    def showing(self) -> Iterator[None]:
        """A live table on a terminal that can move its cursor, else plain lines from a thread."""
        if self._console.is_interactive:
            with Live(
                get_renderable=self.render,
                console=self._console,
                refresh_per_second=1 / REFRESH_SECONDS,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            ):
                yield
            return
        ended = threading.Event()
        thread = threading.Thread(target=self._lines, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._console.print(self.summary())

    def _lines(self, ended: threading.Event) -> None:
        self._console.print(self.summary())
        while not ended.wait(LINE_SECONDS):
            self._console.print(self.summary())

    def summary(self) -> Text:
        """One line: how many trials in each state, time gone and left."""
        board = self._board
        found = board.counts
        counts = {state: found[state] for state in COUNTED}
        waiting = board.total - sum(counts.values())
        words = [f"{count} {state}" for state, count in counts.items() if count]
        if waiting:
            words.append(f"{waiting} waiting")
        gone = time.monotonic() - board.started
        left = board.seconds_left()
        about = f", about {clock(left)} left" if left else ""
        message = board.message or "; ".join(board.notes[-2:])
        note = f" - {message}" if message else ""
        return Text(
            f"{counted(board.total, 'trial')}: {', '.join(words)}; {clock(gone)} gone{about}{note}"
        )

    def render(self) -> RenderableType:
        """The live table: the running trials first, then the latest that ended."""
        rows = [*self._board.open_rows, *self._board.latest_rows]
        order = {state: place for place, state in enumerate(COUNTED)}
        room = max(3, self._console.size.height - LINES_KEPT)
        shown = sorted(
            (row for row in rows if row.entry.state != "waiting"),
            key=lambda row: (row.entry.state != "running", -row.seen, order[row.entry.state]),
        )[:room]
        more = sum(self._board.counts[state] for state in COUNTED) - len(shown)
        notes = [f"... and {more} more"] if more > 0 else []
        return Group(self.summary(), Text(), Fitted(self._columns(shown), notes))

    def _columns(self, rows: Sequence[Row]) -> list[Column]:
        entries = [row.entry for row in rows]
        columns = [
            Column("trial", [Text(each.name) for each in entries], least=LEAST_NAME, elide=middle),
            Column("state", [Text(e.state, STYLES.get(e.state, "dim")) for e in entries]),
        ]
        if any(entry.diagnosis for entry in entries):
            columns.append(diagnosis_column((entry.diagnosis for entry in entries), leaves=4))
        steps = [Text(f"{each.g_steps}/{each.budget}") for each in entries]
        bars = [
            ProgressBar(total=each.budget, completed=each.g_steps, width=BAR) for each in entries
        ]
        return [
            *columns,
            Column("g_steps", steps, right=True, leaves=5),
            Column("progress", bars, width=BAR, leaves=2),
            Column(self._metric, _numbers(entries, self._metric), right=True),
            Column("loss/d", _numbers(entries, "loss/d"), right=True, leaves=1),
            Column("left", [Text(self._left(row)) for row in rows], right=True, leaves=3),
        ]

    def _left(self, row: Row) -> str:
        seconds = self._board.row_seconds_left(row)
        return "" if seconds is None else clock(seconds)


def _numbers(entries: Sequence[Entry], metric: str) -> list[Text]:
    values = [entry.metrics.get(metric) for entry in entries]
    return [Text("" if value is None else f"{value:.4g}") for value in values]


def clock(seconds: float) -> str:
    """A duration as a person reads it: `8s`, `3m05s`, `2h07m`."""
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
