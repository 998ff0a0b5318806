"""`gansweep run`: a sweep from its file to the ranked table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from gansweep.commands.folders import sweep_folder
from gansweep.errors import ConfigError, Problem
from gansweep.provenance import environment_text, version_tags
from gansweep.report.contact_sheet import write_contact_sheet
from gansweep.report.ranking import rank
from gansweep.report.table import ranked_table
from gansweep.sweep.board import Board
from gansweep.sweep.file import Resources, Sweep, load_sweep
from gansweep.sweep.plan import Entry, Plan
from gansweep.sweep.proposals import Listed, Proposals, TreeParzen
from gansweep.sweep.trials import Trial, check_data, planned
from gansweep.terminal import Display, clock, quiet
from gansweep.tracking.mlflow import MlflowStore, tracking_uri

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: all well; a trial failed; the input is wrong; interrupted, to be gone on with."""


def run_command(
    path: Path,
    overrides: Sequence[str],
    *,
    address: str | None,
    uri: str | None,
    root: Path,
    retry_failed: bool,
) -> int:
    """Train what is left of the sweep; the exit code. ConfigError before anything starts."""
    sweep = load_sweep(path, overrides)
    trials = planned(sweep)
    store = MlflowStore(tracking_uri(uri))
    advice = _check(sweep, trials, store, local=address is None)
    folder = sweep_folder(root, sweep.name)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError.single(
            str(folder), "another gansweep drives this sweep", "wait for it, or use another --dir"
        ) from None
    try:
        return _run(
            sweep,
            trials,
            store,
            folder,
            advice=advice,
            address=address,
            retry_failed=retry_failed,
        )
    finally:
        lock.release()


def _check(
    sweep: Sweep, trials: Sequence[Trial], store: MlflowStore, *, local: bool
) -> dict[str, list[str]]:
    """Everything that can be wrong, found before anything is started or written."""
    problems: list[Problem] = []
    advice: dict[str, list[str]] = {}
    try:
        advice = check_data(trials)
    except ConfigError as error:
        problems.extend(error.problems)
    try:
        store.check()
    except ConfigError as error:
        problems.extend(error.problems)
    if local:
        problems.extend(_local_problems(sweep.resources))
    if problems:
        raise ConfigError(problems)
    return advice


def _local_problems(resources: Resources) -> list[Problem]:
    import torch

    have = {"cpu": os.cpu_count() or 1, "gpu": torch.cuda.device_count()}
    wanted = {"cpu": resources.cpu, "gpu": resources.gpu}
    return [
        Problem(
            f"resources.{name}",
            f"a trial takes {wanted[name]:g}, this machine has {have[name]}",
            "lower it, or name a cluster with --address",
        )
        for name in have
        if wanted[name] > have[name]
    ]


def _run(
    sweep: Sweep,
    trials: Sequence[Trial],
    store: MlflowStore,
    folder: Path,
    *,
    advice: dict[str, list[str]],
    address: str | None,
    retry_failed: bool,
) -> int:
    plan = Plan.load(folder / "plan.json", sweep.name)
    budget = max(trial.config.budget.g_steps for trial in trials)

    def finished(entry: Entry) -> bool:
        return entry.is_finished(entry.budget, retry_failed=retry_failed)

    if sweep.search.method == "tpe":
        for entry in plan.entries.values():
            entry.budget = budget
        proposals: Proposals = TreeParzen(sweep, plan.entries.values(), finished=finished)
        mine = None
    else:
        mine = [plan.add(trial) for trial in trials]
        entries = {entry.key: entry for entry in mine}
        proposals = Listed(trial for trial in trials if not finished(entries[trial.key]))
    log_file = folder / "driver.log"
    with quiet(log_file) as console:
        for line in sorted({line for lines in advice.values() for line in lines}):
            console.print(f"[yellow]note[/]: {line}")
        plan.save()
        experiment = store.experiment(sweep.name)
        tags = version_tags(Path.cwd())
        parent = _parent_run(sweep, store, experiment, tags)
        interrupted = False
        if proposals.total:
            interrupted = _train(
                sweep, plan, store, proposals, console, folder,
                experiment=experiment, parent=parent, tags=tags, advice=advice,
                address=address, budget=budget, log_file=log_file,
            )  # fmt: skip
        entries_now = mine if mine is not None else list(plan.entries.values())
        return _conclude(
            sweep, entries_now, store, console, folder,
            experiment=experiment, parent=parent, interrupted=interrupted, log_file=log_file,
        )  # fmt: skip


def _parent_run(sweep: Sweep, store: MlflowStore, experiment: str, tags: dict[str, str]) -> str:
    described = {
        **tags,
        "file": str(sweep.files[0].name),
        "overrides": " ".join(sweep.overrides),
        "metric": sweep.search.metric,
        "mode": sweep.search.mode,
        "mlflow.note.content": f"The sweep `{sweep.name}`; its trials are the runs below it.",
    }
    parent = store.parent_run(experiment, sweep.name, described)
    store.set_tags(parent, described)
    store.settle(parent, "RUNNING")
    store.log_text(parent, sweep.to_yaml(), "sweep.yaml")
    for file in sweep.files:
        store.log_text(parent, file.read_text(encoding="utf-8"), f"source/{file.name}")
    store.log_text(parent, environment_text(), "environment.txt")
    return parent


def _train(
    sweep: Sweep,
    plan: Plan,
    store: MlflowStore,
    proposals: Proposals,
    console: Console,
    folder: Path,
    *,
    experiment: str,
    parent: str,
    tags: dict[str, str],
    advice: dict[str, list[str]],
    address: str | None,
    budget: int,
    log_file: Path,
) -> bool:
    """Train the proposals on Ray; True where it was interrupted."""
    from gansweep.sweep.driver import SweepDriver
    from gansweep.sweep.tune import run_trials, slots, start_ray, stop_ray

    console.print(f"[bold]{sweep.name}[/]: training; the log is {log_file}")
    have = start_ray(address, sweep.resources)
    workers = slots(sweep.resources, have)
    board = Board(plan, total=proposals.total, workers=workers)
    driver = SweepDriver(
        sweep, plan, board, store, proposals,
        experiment=experiment, parent=parent, folder=folder, tags=tags, advice=advice,
    )  # fmt: skip
    asked_to_stop: list[str] = []

    def on_interrupt() -> None:
        asked_to_stop.append("interrupt")
        board.message = "stopping: the trials write their checkpoints (again to end at once)"

    try:
        with Display(console, board, metric=sweep.search.metric).showing():
            run_trials(
                proposals,
                driver,
                search=sweep.search,
                resources=sweep.resources,
                budget=budget,
                concurrent=workers,
                folder=folder,
                on_interrupt=on_interrupt,
            )
    except KeyboardInterrupt:
        asked_to_stop.append("at once")
    finally:
        driver.settle()
        stop_ray()
    return bool(asked_to_stop)


def _conclude(
    sweep: Sweep,
    entries: Sequence[Entry],
    store: MlflowStore,
    console: Console,
    folder: Path,
    *,
    experiment: str,
    parent: str,
    interrupted: bool,
    log_file: Path,
) -> int:
    """The end of a run: table, best point, where everything is; the parent's status."""
    search = sweep.search
    results = rank(entries, metric=search.metric, mode=search.mode)
    console.print()
    console.print(ranked_table(results, metric=search.metric))
    console.print()
    failed = [entry for entry in entries if entry.state == "failed"]
    open_ones = [entry for entry in entries if entry.state in ("waiting", "running", "interrupted")]
    best = next((result for result in results if result.mean is not None), None)
    if best:
        console.print(f"best    [bold]{best.name}[/] ({search.metric} {best.mean:.4g})")
    seconds = sum(entry.seconds for entry in entries)
    console.print(f"trained {len(entries)} trials, {clock(seconds)} of training in all")
    sheet = folder / "samples.png"
    if write_contact_sheet(sheet, results, metric=search.metric, picture=store.last_image):
        store.log_image_file(parent, sheet, sheet.name)
        console.print(f"samples {sheet}, and the series `samples` of each run in MLflow")
    console.print(f"compare gansweep ui {sweep.name}")
    for entry in failed[:5]:
        console.print(f"[red]failed[/]  {entry.name}: {entry.reason}")
    if failed:
        console.print(
            "        tracebacks: artifact traceback.txt of the run; "
            "--retry-failed trains them again"
        )
    status = "FINISHED"
    code = OK
    if interrupted or open_ones:
        console.print(
            f"[yellow]interrupted[/] with {len(open_ones)} trials to go: the same command goes on"
        )
        status, code = "KILLED", INTERRUPTED
    elif failed:
        status, code = "FAILED", FAILED
    store.settle(parent, status)  # type: ignore[arg-type]
    return code
