"""The driver's side of a sweep: runs are made, the plan is kept, every status is settled."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import yaml

from gansweep.progress import RUN_STATUS
from gansweep.sweep.board import Board
from gansweep.sweep.file import Sweep
from gansweep.sweep.params import trial_params
from gansweep.sweep.plan import Entry, Plan
from gansweep.sweep.proposals import Proposals
from gansweep.sweep.trials import Trial
from gansweep.sweep.tune import Assigned, Driver
from gansweep.tracking.mlflow import MlflowStore

log = logging.getLogger("gansweep")


@final
class SweepDriver(Driver):
    """Keeps plan, board and MLflow in step with the workers."""

    def __init__(
        self,
        sweep: Sweep,
        plan: Plan,
        board: Board,
        store: MlflowStore,
        proposals: Proposals,
        *,
        experiment: str,
        parent: str,
        folder: Path,
        tags: Mapping[str, str],
        advice: Mapping[str, list[str]],
    ) -> None:
        self._sweep = sweep
        self._plan = plan
        self._board = board
        self._store = store
        self._proposals = proposals
        self._experiment = experiment
        self._parent = parent
        self._folder = folder
        self._tags = tags
        self._advice = advice
        self._trials: dict[str, Trial] = {}

    def begin(self, trial: Trial) -> Assigned:
        entry = self._plan.add(trial)
        self._trials[trial.key] = trial
        tags = {
            **self._tags,
            "seed": str(trial.seed),
            "point": json.dumps(trial.point),
            "state": "waiting",
            "reason": "",
        }
        if self._advice.get(trial.key):
            tags["warning"] = "; ".join(self._advice[trial.key])
        entry.run_id = self._store.trial_run(
            self._experiment,
            self._parent,
            trial.key,
            trial.name,
            trial_params(trial.config, trial.point),
            tags,
        )
        self._store.set_tags(entry.run_id, tags)
        self._store.settle(entry.run_id, "RUNNING")
        tree = trial.config.to_dict()
        self._store.log_text(
            entry.run_id, yaml.safe_dump({"trial": tree}, sort_keys=False), "config.yaml"
        )
        entry.state, entry.reason = "running", ""
        self._plan.save()
        self._board.message = ""
        search = self._sweep.search
        return Assigned(
            key=trial.key,
            tree=json.dumps(tree),
            run_id=entry.run_id,
            uri=self._store.uri,
            folder=str(trial_folder(self._folder, trial.key)),
            metric=search.metric,
            mode=search.mode,
            waits=search.scheduler != "none",
        )

    def report(self, key: str, result: dict[str, Any]) -> None:
        entry = self._plan.entries[key]
        done = bool(result.get("state"))
        if not done or result["g_steps"] > entry.g_steps:
            self._board.progress(key, result["g_steps"], result["seconds"])
        if not done or result["g_steps"]:
            entry.g_steps = result["g_steps"]
            entry.seconds = result["seconds"]
        entry.metrics.update(_storable(result["metrics"]))
        if done:
            self._ended(entry, result["state"], result["reason"])

    def stopped(self, key: str) -> None:
        entry = self._plan.entries[key]
        self._ended(entry, "stopped", f"stopped by the scheduler at g_step {entry.g_steps}")

    def lost(self, key: str, reason: str) -> None:
        entry = self._plan.entries[key]
        self._ended(entry, "failed", f"the worker died: {reason}")

    def _ended(self, entry: Entry, state: Any, reason: str) -> None:
        entry.state, entry.reason = state, reason
        self._plan.save()
        self._proposals.tell(self._trials[entry.key], entry)

    def settle(self) -> None:
        """After the workers are gone: every run begun gets the status that its trial ended with."""
        open_ones = [key for key in self._trials if self._plan.entries[key].state == "running"]
        told = self._told() if open_ones else {}
        for key in self._trials:
            entry = self._plan.entries[key]
            if entry.state == "running":
                tags = told.get(key, {})
                if tags.get("state") == "interrupted":  # it went on after its last report
                    entry.g_steps = int(tags.get("g_steps", entry.g_steps))
                entry.state, entry.reason = "interrupted", f"interrupted at g_step {entry.g_steps}"
            try:
                self._store.set_tags(
                    entry.run_id, {"state": entry.state, "reason": entry.reason[:5000]}
                )
                self._store.settle(entry.run_id, RUN_STATUS[entry.state])  # type: ignore[index]
            except Exception:
                log.exception("the status of trial %s could not be recorded", entry.name)
        self._plan.save()

    def _told(self) -> dict[str, Mapping[str, str]]:
        """What the workers themselves recorded of their trials last, by trial key."""
        try:
            return {record.key: record.tags for record in self._store.trials(self._sweep.name)}
        except Exception:
            log.exception("the trials' own record could not be read")
            return {}


def trial_folder(folder: Path, key: str) -> Path:
    """Where a trial of the sweep in `folder` keeps its checkpoint."""
    return folder / "trials" / key


def _storable(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
