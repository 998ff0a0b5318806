"""`gansweep submit`: a sweep as a batch job on the cluster that a person has."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from gansweep.counting import counted
from gansweep.errors import ConfigError, Problem, noting
from gansweep.launch.base import Job, Launcher, Submitted
from gansweep.launch.profile import find_launcher
from gansweep.launch.record import JobRecord, jobs_folder
from gansweep.redaction import has_credentials
from gansweep.storage import check_url, is_url
from gansweep.sweep.file import load_sweep
from gansweep.sweep.trials import check_data, planned
from gansweep.tracking.mlflow import tracking_uri

RUNS = "runs"
"""The folder where neither profile nor command names one."""

FORGOTTEN = ("setup",)
"""Settings that submitting alone needs; they may hold secrets, so no record has them."""


def submit_command(
    path: Path,
    overrides: Sequence[str],
    *,
    target: str | None,
    profile: str | None,
    array: int | None,
    uri: str | None,
    root: str | None,
    flags: Sequence[str],
    dry_run: bool,
) -> int:
    """Check everything, then submit the job and say how to follow it, or print it alone.

    uri, root: over the profile's. ConfigError before anything is sent.
    """
    folder = root if root is None or is_url(root) else str(Path(root).resolve())
    name, launcher = find_launcher(target, profile, {"array": array, "storage": folder})
    problems: list[Problem] = []
    settings = launcher.profile
    where = ""
    with noting(problems):
        where = tracking_uri(uri or settings.tracking_uri)
    try:
        sweep = load_sweep(path, overrides)
        trials = planned(sweep)
        wanted = sweep.resources
        advice = check_data(trials, stacked=wanted.engine == "stacked", processes=wanted.processes)
    except ConfigError as error:
        raise ConfigError([*error.problems, *problems]) from None
    if has_credentials(where):
        problems.append(
            Problem(
                "tracking uri",
                "has a password or a key, which would be written into the job",
                "leave it out; the nodes take it from MLFLOW_TRACKING_USERNAME and _PASSWORD",
            )
        )
    storage: Path | str = settings.storage or str(Path(RUNS).resolve())
    if is_url(storage):
        with noting(problems):
            check_url(str(storage))  # whether it can be used, the nodes say
    else:
        storage = Path(storage).expanduser()
        if not storage.is_absolute():
            problems.append(Problem("storage", f"{storage} is relative", "give an absolute folder"))
    named = bool(uri or settings.tracking_uri)
    job = Job(sweep, tuple(trials), Path.cwd(), storage, where, tuple(flags), named)
    problems.extend(launcher.problems(job))
    if problems:
        raise ConfigError(problems)
    if dry_run:
        print(launcher.render(job), end="")
        return 0
    launcher = launcher.spelt_out()
    records: list[JobRecord] = []

    def keep(submitted: Submitted) -> None:
        record = JobRecord(
            id=submitted.id,
            target=name,
            sweep=sweep.name,
            file=str(path.resolve()),
            submitted=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            log=submitted.log,
            settings={
                key: value
                for key, value in dataclasses.asdict(launcher.profile).items()
                if key not in FORGOTTEN
            },
        )
        try:
            record.save()
        except OSError as error:
            raise ConfigError.single(
                str(jobs_folder()),
                f"cannot be written: {error.strerror}",
                "GANSWEEP_STATE=FOLDER names another folder for the records of jobs",
            ) from None
        records.append(record)

    try:
        submitted = launcher.submit(job, on_id=keep)  # who is killed here leaves the record
    except ConfigError:
        for record in records:
            record.remove()
        raise
    if not records:
        try:
            keep(submitted)
        except ConfigError as error:
            raise _taken_back(launcher, submitted, error.problems[0]) from None
    console = Console(soft_wrap=True)
    of_trials = {line for lines in advice.values() for line in lines}
    for line in [*launcher.notes(job), *sorted(of_trials)]:
        console.print(f"[yellow]note[/]: {escape(line)}")
    console.print(f"submitted [bold]{submitted.id}[/] to {name}: {counted(len(trials), 'trial')}")
    console.print(f"follow    gansweep logs {submitted.id} --follow")
    console.print(f"cancel    gansweep cancel {submitted.id}")
    return 0


def _taken_back(launcher: Launcher, job: Submitted, why: Problem) -> ConfigError:
    """End a job that nothing here would know of; what to say of it."""
    try:
        launcher.cancel(job)
    except ConfigError as error:
        lost = Problem(job.id, "could not be taken back", f"{launcher.by_hand(job)} ends it")
        outcome = "the job is in the cluster, and in no record"
        return ConfigError([why, *error.problems, lost], outcome=outcome)
    return ConfigError([why])
