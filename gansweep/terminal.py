"""The terminal while a sweep runs: a live table, or a plain line now and then without one."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gansweep.redaction import RedactingFormatter
from gansweep.report.table import STYLES
from gansweep.sweep.board import Board, Row

REFRESH_SECONDS = 0.5
LINE_SECONDS = 15.0
LINES_KEPT = 12
"""Rows that the live table leaves for other things on the screen."""

COUNTED = ("running", "completed", "stopped", "diverged", "failed", "interrupted")


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
    # A terminal that does not know its size says 0.
    width = os.get_terminal_size(saved[0]).columns or 80 if os.isatty(saved[0]) else None
    with log_file.open("ab") as target:
        handler = logging.StreamHandler(io.TextIOWrapper(log_file.open("ab"), write_through=True))
        handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger("gansweep")
        root.addHandler(handler)
        for number in (1, 2):
            os.dup2(target.fileno(), number)
        stream = os.fdopen(os.dup(saved[0]), "w", encoding="utf-8")
        try:
            yield Console(file=stream, width=width, soft_wrap=width is None)
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
        """A live table on a terminal, else plain lines from a thread."""
        if self._console.is_terminal:
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
        counts = dict.fromkeys(COUNTED, 0)
        for row in board.rows:
            if row.entry.state in counts:
                counts[row.entry.state] += 1
        waiting = board.total - sum(counts.values())
        words = [f"{count} {state}" for state, count in counts.items() if count]
        if waiting:
            words.append(f"{waiting} waiting")
        gone = time.monotonic() - board.started
        left = board.seconds_left()
        about = f", about {clock(left)} left" if left else ""
        message = board.message or "; ".join(board.notes[-2:])
        note = f" - {message}" if message else ""
        return Text(f"{board.total} trials: {', '.join(words)}; {clock(gone)} gone{about}{note}")

    def render(self) -> RenderableType:
        """The live table: the running trials first, then the latest that ended."""
        table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
        diagnosed = any(row.entry.diagnosis for row in self._board.rows)
        for column in ("trial", "state", *(["diagnosis"] if diagnosed else [])):
            table.add_column(column, no_wrap=True)
        table.add_column("g_steps", justify="right")
        table.add_column("", width=12)
        table.add_column(self._metric, justify="right")
        table.add_column("loss/d", justify="right")
        table.add_column("left", justify="right")
        rows = self._board.rows
        order = {state: place for place, state in enumerate(COUNTED)}
        shown = sorted(
            (row for row in rows if row.entry.state != "waiting"),
            key=lambda row: (row.entry.state != "running", -row.seen, order[row.entry.state]),
        )
        room = max(3, self._console.size.height - LINES_KEPT)
        for row in shown[:room]:
            table.add_row(*self._cells(row, diagnosed=diagnosed))
        if len(shown) > room:
            table.add_row(f"... and {len(shown) - room} more")
        return Group(self.summary(), Text(), table)

    def _cells(self, row: Row, *, diagnosed: bool) -> list[RenderableType]:
        entry = row.entry
        left = self._board.row_seconds_left(row)
        return [
            Text(entry.name),
            Text(entry.state, style=STYLES.get(entry.state, "dim")),
            *([Text(entry.diagnosis, style="red")] if diagnosed else []),
            f"{entry.g_steps}/{entry.budget}",
            ProgressBar(total=entry.budget, completed=entry.g_steps, width=12),
            _number(entry.metrics.get(self._metric)),
            _number(entry.metrics.get("loss/d")),
            "" if left is None else clock(left),
        ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def clock(seconds: float) -> str:
    """A duration as a person reads it: `8s`, `3m05s`, `2h07m`."""
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
