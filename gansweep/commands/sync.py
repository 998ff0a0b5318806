"""`gansweep sync`: what a sweep's trials recorded and MLflow does not have yet is delivered."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from rich.console import Console

from gansweep.commands.home import Home, find_home
from gansweep.commands.scope import Whole
from gansweep.counting import counted
from gansweep.errors import ConfigError, nearest
from gansweep.sweep.plan import Plan, trials_folder
from gansweep.sweep.settle import is_settled, settle_run, sweep_status
from gansweep.tracking.mlflow import (
    Backlog,
    Courier,
    MlflowStore,
    TrialRecord,
    noted_run,
    reason,
    tracking_uri,
)
from gansweep.tracking.spool import spools


@final
@dataclass(frozen=True)
class Synced:
    """records, runs: how many were delivered, and of how many trials; `elsewhere`: how many trials
    have their runs in another store; `missing`: how many whose records were all delivered have none
    in this one."""

    records: int
    runs: int
    left: Backlog
    elsewhere: int
    missing: int

    def __str__(self) -> str:
        return f"{counted(self.records, 'record')} of {counted(self.runs, 'trial')}"


def sync_command(name: str, *, uri: str | None, root: Path | str) -> int:
    """Deliver it and say how much it was; the exit code is 1 where something is left."""
    home = find_home(root, name)
    home.check(write=True)
    names = home.siblings()
    if name not in names:
        raise ConfigError.single(name, f"no such sweep in {root}", nearest(name, names))
    store = MlflowStore(tracking_uri(uri))
    console = Console(soft_wrap=True)
    with home.sole_use(_end_at_once), home.in_use():
        plan = Whole(home.folder).plan(name)
        if any(entry.state == "running" for entry in plan.entries.values()):
            plan.put_aside()
            plan.save()
        if not plan.entries and not spools(trials_folder(home.folder)):
            console.print(f"{name}: everything is in MLflow")
            return 0
        store.check()
        courier = Courier(store.uri)
        try:
            synced = deliver_spools(store, courier, home, plan)
        finally:
            courier.close()
        unknown = synced.elsewhere or synced.missing
        if plan.entries and not (synced.left.is_something or unknown):
            with suppress(ConfigError):  # an experiment of another store, all of it delivered
                of = plan.size - len(plan.left_out)
                store.end_sweep(name, sweep_status(plan.meant, of=of))
    if synced.records:
        console.print(f"{name}: delivered {synced}")
    if synced.elsewhere:
        line = f"{counted(synced.elsewhere, 'trial')} recorded to another store: name it"
        console.print(line, style="yellow")
    if synced.missing:
        console.print(what_is_missing(synced.missing), style="yellow")
    if synced.left.is_something:
        console.print(what_is_left(synced.left, home, name), style="yellow", markup=False)
    if unknown or synced.left.is_something:
        return 1
    if not synced.records:
        console.print(f"{name}: everything is in MLflow")
    return 0


def _end_at_once() -> None:
    """As where a driver has the sweep: what is to be settled and dropped is its affair."""
    os._exit(1)


def what_is_missing(count: int) -> str:
    """One line for a person, on trials that this store knows nothing of."""
    return f"{counted(count, 'trial')} without a run in this store: deleted, or another one has it"


def what_is_left(left: Backlog, home: Home, name: str) -> str:
    """One line for a person."""
    why = f" ({left.reason})" if left.reason else ""
    again = f"the same command again or `gansweep sync {name}`"
    lines = []
    if left.records:
        lines.append(
            f"{counted(left.records, 'record')} of {counted(left.runs, 'trial')} "
            f"{'is' if left.records == 1 else 'are'} not in MLflow yet{why}; what is left lies in "
            f"{home}, and {again} delivers it"
        )
    if left.unread:
        lines.append(
            f"records in {home} cannot be read{why}: whether MLflow has all of them is not "
            f"known; {again} finds out"
        )
    return "\n".join(lines)


def deliver_spools(
    store: MlflowStore,
    courier: Courier,
    home: Home,
    plan: Plan,
    *,
    of: Collection[str] | None = None,
) -> Synced:
    """Deliver what earlier commands left where the sweep is, and settle the runs of `plan`.

    of: the keys of the trials in question; None: all.
    """
    store.warm_up()  # here, lest two threads import MLflow at a time
    elsewhere, refused, why = 0, 0, ""
    found = spools(trials_folder(home.folder))
    waiting = [trial for trial in found if of is None or trial.name in of]
    runs = _records(store, plan) if waiting else {}
    for trial in waiting:
        entry = plan.entries.get(trial.name)
        run_id = entry.run_id if entry and entry.run_id else noted_run(trial)
        if run_id in runs:
            try:
                courier.add(run_id, trial)
            except OSError as error:
                refused, why = refused + 1, reason(error)
        else:
            elsewhere += 1
    before = courier.backlog()
    left = courier.drain().beside(refused, why)
    home.drop_spools()
    missing = 0
    if not left.is_something:
        there = _records(store, plan)
        for run_id, record in there.items():
            entry = plan.entries.get(record.key)
            if entry and entry.run_id == run_id and not is_settled(record, entry):
                settle_run(store, entry)
        spooled = {trial.name for trial in waiting}
        missing = sum(
            bool(entry.run_id) and entry.run_id not in there
            for key, entry in plan.entries.items()
            if key not in spooled and (of is None or key in of)
        )
    records, of_trials = before.records - left.records, before.runs - left.runs
    return Synced(max(0, records), max(0, of_trials), left, elsewhere, missing)


def _records(store: MlflowStore, plan: Plan) -> dict[str, TrialRecord]:
    """The sweep's trials in this store, by run, and how they stand; none where it has none."""
    try:
        return {
            record.run_id: replace(record, params={}, metrics={})  # they are many
            for record in store.each_trial(plan.sweep)
        }
    except ConfigError:
        return {}
