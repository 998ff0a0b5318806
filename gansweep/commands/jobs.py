"""`gansweep jobs`, `logs` and `cancel`: what has become of submitted jobs."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from gansweep.errors import AwayError, ConfigError
from gansweep.launch.base import JobState, Launcher
from gansweep.launch.profile import make_launcher
from gansweep.launch.record import JobRecord, all_jobs, find_jobs
from gansweep.report.columns import Column, Fitted, texts
from gansweep.report.table import LEAST_NAME

CANCEL_SECONDS = 90.0
"""How long `gansweep cancel` looks whether the job has ended, before it insists and after it."""


PATIENCE_SECONDS = 5.0
"""How long `gansweep jobs` waits for a cluster more than once."""


def jobs_command(*, as_json: bool) -> int:
    """Print every job that was submitted from here, and how it stands."""
    records = all_jobs()
    silent: set[str] = set()
    for record in records:
        if not record.state.is_over or record.phase == "forgotten":  # accounts may come late
            _look(record, silent)
    if as_json:
        print(json.dumps([dataclasses.asdict(record) for record in records], indent=1))
        return 0
    console = Console(soft_wrap=True)
    if not records:
        console.print("no jobs: gansweep submit FILE --to ...")
        return 0
    columns = [
        Column("id", texts(record.id for record in records)),
        Column("target", texts(record.target for record in records), leaves=2),
        Column("sweep", texts(record.sweep for record in records), least=LEAST_NAME),
        Column("submitted", texts(record.submitted for record in records), leaves=1),
        Column("state", texts(record.state for record in records), least=LEAST_NAME),
    ]
    console.print(Fitted(columns))
    return 0


def logs_command(name: str, *, follow: bool) -> int:
    """Print a job's output; with `follow` to its end, and the exit code is 1 unless all is well."""
    record, *_ = find_jobs(name)
    console = Console(soft_wrap=True, stderr=True)
    heard: list[JobState] = []
    silent, told = True, ""

    def tell(state: JobState) -> None:
        """Only what a person does not see by the output, and nothing twice."""
        nonlocal told
        if str(state) != told and (told or state.phase != "running"):
            told = str(state)
            console.print(f"{record.id}: {told}", markup=False)

    def hear(state: JobState) -> None:
        heard[:] = [state]
        if not state.is_over:
            tell(state)

    with _left_as_it_is():
        for text in _launcher(record).logs(record.job, follow=follow, on_state=hear):
            print(text, end="", flush=True)
            silent = False
    if not (follow or silent):
        return 0
    state = _noted(record, heard[0]) if heard else _look(record)
    tell(state)
    return 0 if state.phase == "done" or not follow else 1


def cancel_command(name: str) -> int:
    """Have a job end, of a sweep's the latest that has not ended.

    The exit code is 1 where it goes on after a while, or was not reached.
    """
    record, *earlier = find_jobs(name)
    state = _look(record)
    for each in earlier if state.is_over else ():
        if not each.state.is_over and not (found := _look(each)).is_over:
            record, state = each, found
            break
    console = Console(soft_wrap=True)
    if not state.is_over:
        launcher = _launcher(record)
        for ask in (launcher.stop, launcher.cancel):
            with _left_as_it_is():
                ask(record.job)
            end = time.monotonic() + CANCEL_SECONDS
            while not (state := _look(record)).is_over and time.monotonic() < end:
                time.sleep(0.5)
            if state.is_over:
                break
        if state.phase == "forgotten":  # so soon it is by our word
            state = _noted(record, JobState("cancelled"))
    console.print(f"{record.id}: {state}", markup=False)
    is_elsewhere = state.phase == "forgotten" and not _launcher(record).place_is_known
    return 0 if state.is_over and not is_elsewhere else 1


@contextmanager
def _left_as_it_is() -> Iterator[None]:
    """What cannot be done with a job does not change it, which a person is told."""
    try:
        yield
    except ConfigError as error:
        error.outcome = "the job was left as it is"
        raise


def _launcher(record: JobRecord) -> Launcher:
    return make_launcher(record.target, record.settings, at=f"the record of {record.id}")


def _look(record: JobRecord, silent: set[str] | None = None) -> JobState:
    """How it stands now, noted in the record; where the cluster does not tell, as it stood.

    silent: clusters that were waited for in vain, as long as a minute: they are not asked again.
    """
    silent = set() if silent is None else silent
    known = [record.settings.get(name) for name in ("address", "context", "namespace")]
    place = json.dumps([record.target, record.id.partition("@")[2], *known])
    if place in silent:
        return _noted(record, JobState("unknown", "its cluster does not answer"))
    began = time.monotonic()
    try:
        state = _launcher(record).state(record.job)
    except AwayError as error:
        if time.monotonic() - began > PATIENCE_SECONDS and error.problems[0].where != "sacct":
            silent.add(place)
        state = JobState("unknown", error.problems[0].what)
    except ConfigError as error:
        state = JobState("unknown", error.problems[0].what)
    return _noted(record, state)


def _noted(record: JobRecord, state: JobState) -> JobState:
    """The same, kept in the record; or as it ended, where the cluster knows that no more."""
    record.refresh()
    if state.phase in ("unknown", "forgotten") and record.state.is_over:
        return record.state
    if state.phase == "forgotten":
        state = dataclasses.replace(
            state,
            reason=f"{state.reason}: its output, or `gansweep show {record.sweep}`, says how far "
            "it came",
        )
    record.note(state)
    return state
