"""The plan of a sweep: its trials and how each one stands, durable in one readable file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, final

from gansweep.drafts import replacing
from gansweep.errors import ConfigError
from gansweep.metrics.fingerprint import Fingerprint
from gansweep.sweep.trials import Trial

PLAN_FORMAT = 1
"""Version of the layout of a plan file."""

EntryState = Literal[
    "waiting", "running", "completed", "diverged", "stopped", "interrupted", "failed"
]
FINAL = ("completed", "diverged", "stopped")
"""States that are not trained further (but `completed` under a longer budget is)."""


@final
@dataclass
class Entry:
    """One trial of the plan. Metrics that are not finite are None."""

    key: str
    name: str
    point: dict[str, Any]
    seed: int
    budget: int
    state: EntryState = "waiting"
    run_id: str = ""
    reason: str = ""
    diagnosis: str = ""
    g_steps: int = 0
    seconds: float = 0.0
    metrics: dict[str, float | None] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    """Of the scores among the metrics."""
    lineage: list[dict[str, Any]] = field(default_factory=list)
    """In a population: whose state it took over at which g_step, and the settings since."""
    gpu_times: int = 1
    """How many times the usual share of a GPU it takes: with less it ran out of memory."""

    def is_finished(self, budget: int, *, retry_failed: bool) -> bool:
        """Whether nothing of it is left to do under `budget` g_steps."""
        if self.state == "completed":
            return self.g_steps >= budget
        if self.state == "failed":
            return not retry_failed
        return self.state in FINAL


@final
class Plan:
    """The entries of a sweep by trial key, in the order in which they were planned.

    `population` are the settings of the population that its trials are, "" where they are none: it
    decides what they learn, as their own settings do.

    `save` replaces the file in one step; a reader sees the old plan or the new one.
    """

    def __init__(self, path: Path, sweep: str) -> None:
        self.path = path
        self.sweep = sweep
        self.population = ""
        self.entries: dict[str, Entry] = {}

    @classmethod
    def load(cls, path: Path, sweep: str) -> Plan:
        """The plan at `path`, or an empty one; ConfigError where the file is damaged."""
        plan = cls(path, sweep)
        if not path.exists():
            return plan
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            if tree["format"] != PLAN_FORMAT:
                raise ValueError(f"format {tree['format']}, this version reads {PLAN_FORMAT}")
            plan.population = tree.get("population", "")
            plan.entries = {entry["key"]: Entry(**entry) for entry in tree["trials"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError.single(
                str(path), f"is no plan of a sweep: {error}", "move it away to begin anew"
            ) from error
        return plan

    def add(self, trial: Trial) -> Entry:
        """The trial's entry, made where it is new; its budget is the present one."""
        entry = self.entries.get(trial.key)
        budget = trial.config.budget.g_steps
        if entry is None:
            entry = Entry(trial.key, trial.name, dict(trial.point), trial.seed, budget)
            self.entries[trial.key] = entry
        entry.budget = budget
        entry.name = trial.name
        return entry

    def save(self) -> None:
        """Write the file: to a temporary name, flushed, renamed."""
        tree = {
            "format": PLAN_FORMAT,
            "sweep": self.sweep,
            "population": self.population,
            "trials": [asdict(entry) for entry in self.entries.values()],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as draft, draft.open("w", encoding="utf-8") as file:
            json.dump(tree, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())


def trials_folder(folder: Path) -> Path:
    """Where the trials of the sweep in `folder` have their folders."""
    return folder / "trials"


def trial_folder(folder: Path, key: str) -> Path:
    """Where a trial of the sweep in `folder` keeps its checkpoint and its spool."""
    return trials_folder(folder) / key
