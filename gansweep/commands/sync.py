"""`gansweep sync`: what a sweep's trials recorded and MLflow does not have yet is delivered."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

from rich.console import Console

from gansweep.commands.folders import sweep_folder
from gansweep.commands.scope import Whole
from gansweep.errors import ConfigError, nearest
from gansweep.sweep.plan import Plan, trials_folder
from gansweep.sweep.settle import is_settled, settle_run, sweep_status
from gansweep.tracking.mlflow import (
    Backlog,
    Courier,
    MlflowStore,
    TrialRecord,
    noted_run,
    tracking_uri,
)
from gansweep.tracking.spool import spools


@final
@dataclass(frozen=True)
class Synced:
    """records, runs: how many were delivered, and of how many trials; `elsewhere`: how many trials
    have their runs in another store."""

    records: int
    runs: int
    left: Backlog
    elsewhere: int

    def __str__(self) -> str:
        return f"{self.records} records of {_trials(self.runs)}"


def sync_command(name: str, *, uri: str | None, root: Path) -> int:
    """Deliver it and say how much it was; the exit code is 1 where something is left."""
    folder = sweep_folder(root, name)
    if not folder.is_dir():
        names = [path.name for path in root.glob("*") if path.is_dir()]
        raise ConfigError.single(name, f"no such sweep in {root}", nearest(name, names))
    store = MlflowStore(tracking_uri(uri))
    console = Console(soft_wrap=True)
    whole = Whole(folder)
    with whole.sole_use():
        plan = whole.plan(name)
        if not plan.entries and not spools(trials_folder(folder)):
            console.print(f"{name}: everything is in MLflow")
            return 0
        store.check()
        courier = Courier(store.uri)
        try:
            synced = deliver_spools(store, courier, folder, plan)
        finally:
            courier.close()
        if plan.entries and not (synced.left.records or synced.elsewhere):
            with suppress(ConfigError):  # an experiment of another store, all of it delivered
                store.end_sweep(name, sweep_status(plan.entries.values()))
    if synced.records:
        console.print(f"{name}: delivered {synced}")
    if synced.elsewhere:
        line = f"{_trials(synced.elsewhere)} recorded to another store: name it"
        console.print(line, style="yellow")
    if synced.left.records:
        console.print(what_is_left(synced.left, folder, name), style="yellow", markup=False)
    if synced.elsewhere or synced.left.records:
        return 1
    if not synced.records:
        console.print(f"{name}: everything is in MLflow")
    return 0


def what_is_left(left: Backlog, folder: Path, name: str) -> str:
    """One line for a person."""
    reason = f" ({left.reason})" if left.reason else ""
    return (
        f"{left.records} records of {_trials(left.runs)} are not in MLflow yet{reason}; they lie "
        f"in {folder}, and the same command again or `gansweep sync {name}` delivers them"
    )


def deliver_spools(
    store: MlflowStore,
    courier: Courier,
    folder: Path,
    plan: Plan,
    *,
    of: Collection[str] | None = None,
) -> Synced:
    """Deliver what earlier commands left in the sweep's `folder`, and settle the runs of `plan`.

    of: the keys of the trials in question; None: all.
    """
    store.warm_up()  # here, lest two threads import MLflow at a time
    elsewhere = 0
    runs = _records(store, plan)
    for trial in spools(trials_folder(folder)):
        if of is not None and trial.name not in of:
            continue
        entry = plan.entries.get(trial.name)
        run_id = entry.run_id if entry and entry.run_id else noted_run(trial)
        if run_id in runs:
            courier.add(run_id, trial)
        else:
            elsewhere += 1
    before = courier.backlog()
    left = courier.drain()
    if not left.records:
        for run_id, record in _records(store, plan).items():
            entry = plan.entries.get(record.key)
            if entry and entry.run_id == run_id and not is_settled(record, entry):
                settle_run(store, entry)
    return Synced(before.records - left.records, before.runs - left.runs, left, elsewhere)


def _records(store: MlflowStore, plan: Plan) -> dict[str, TrialRecord]:
    """The sweep's trials in this store, by run; none where it has no such experiment."""
    try:
        return {record.run_id: record for record in store.trials(plan.sweep)}
    except ConfigError:
        return {}


def _trials(count: int) -> str:
    return f"{count} trial{'s' * (count != 1)}"
