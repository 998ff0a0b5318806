"""`gansweep jobs`, `logs` and `cancel`: what has become of submitted jobs."""

from __future__ import annotations

import dataclasses
import json
import time

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gansweep.errors import ConfigError
from gansweep.launch.base import JobState, Launcher
from gansweep.launch.profile import make_launcher
from gansweep.launch.record import JobRecord, all_jobs, find_job

CANCEL_SECONDS = 90.0
"""How long `gansweep cancel` looks whether the job has ended."""


def jobs_command(*, as_json: bool) -> int:
    """Print every job that was submitted from here, and how it stands."""
    records = all_jobs()
    for record in records:
        if not record.state.is_over:
            _look(record)
    if as_json:
        print(json.dumps([dataclasses.asdict(record) for record in records], indent=1))
        return 0
    console = Console(soft_wrap=True)
    if not records:
        console.print("no jobs: gansweep submit FILE --to ...")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "target", "sweep", "submitted", "state"):
        table.add_column(column)
    for record in records:
        words = (record.id, record.target, record.sweep, record.submitted, str(record.state))
        table.add_row(*map(escape, words))
    console.print(table)
    return 0


def logs_command(name: str, *, follow: bool) -> int:
    """Print a job's output; with `follow` to its end, and the exit code is 1 unless all is well."""
    record = find_job(name)
    console = Console(soft_wrap=True, stderr=True)
    silent, told = True, ""

    def tell(state: JobState) -> None:
        nonlocal told
        if str(state) != told:
            told = str(state)
            console.print(f"{record.id}: {told}", markup=False)

    for text in _launcher(record).logs(record.job, follow=follow, on_waiting=tell):
        print(text, end="", flush=True)
        silent = False
    if not (follow or silent):
        return 0
    state = _look(record)
    tell(state)
    return 0 if state.phase == "done" or not follow else 1


def cancel_command(name: str) -> int:
    """Have a job end; the exit code is 1 where it has not after a while."""
    record = find_job(name)
    console = Console(soft_wrap=True)
    if not (state := _look(record)).is_over:
        _launcher(record).cancel(record.job)
        end = time.monotonic() + CANCEL_SECONDS
        while not (state := _look(record)).is_over and time.monotonic() < end:
            time.sleep(0.5)
    console.print(f"{record.id}: {state}", markup=False)
    return 0 if state.is_over else 1


def _launcher(record: JobRecord) -> Launcher:
    return make_launcher(record.target, record.settings, at=f"the record of {record.id}")


def _look(record: JobRecord) -> JobState:
    """How it stands now, noted in the record; where the cluster does not tell, as it stood."""
    try:
        state = _launcher(record).state(record.job)
    except ConfigError as error:
        state = JobState("unknown", error.problems[0].what)
    if state.phase == "unknown" and record.state.is_over:
        return record.state
    record.note(state)
    return state
