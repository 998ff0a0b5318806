"""The plan of a sweep: its trials and how each one stands, durable and readable."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from gansweep.drafts import replacing
from gansweep.errors import ConfigError
from gansweep.metrics.fingerprint import Fingerprint
from gansweep.sweep.changes import Changes, changes_file, read_changes

if TYPE_CHECKING:
    from gansweep.sweep.trials import Trial

PLAN_FORMAT = 2
"""Version of the layout of a plan file. In the first, no changes lay beside it."""

READABLE = (1, 2)
"""Versions that this one opens."""

SMALL_BYTES = 64 * 1024
"""A plan up to this size is always written whole: that costs no more than to append a line."""

EntryState = Literal[
    "waiting", "running", "completed", "diverged", "stopped", "interrupted", "failed"
]
FINAL = ("completed", "diverged", "stopped")
"""States that are not trained further (but `completed` under a longer budget is)."""

KILLED = "its command was killed"
"""Why a trial is interrupted that is said to train, and that nobody trains."""


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
    code: str = ""
    """The own code that it last began with, as `TrialConfig.own_code`."""

    @property
    def recipe(self) -> str:
        """None: whoever ranks entries takes those of one sweep file."""
        return ""

    def is_finished(self, budget: int, *, retry_failed: bool) -> bool:
        """Whether nothing of it is left to do under `budget` g_steps."""
        if self.state == "completed":
            return self.g_steps >= budget
        if self.state == "failed":
            return not retry_failed
        return self.state in FINAL

    def take_up(self, budget: int, *, retry_failed: bool = False) -> None:
        """It is to be trained under `budget` g_steps: where something is left to do, it waits.

        A trial that completed a shorter budget is not complete any more; nor does one wait that a
        longer budget was meant for before.
        """
        self.budget = budget
        if self.state == "waiting" and not self.reason and 0 < budget <= self.g_steps:
            self.state = "completed"
        over = self.state in ("completed", "failed")
        if over and not self.is_finished(budget, retry_failed=retry_failed):
            self.state = "waiting"


@final
class Plan:
    """The entries of a sweep by trial key, in the order in which they were planned.

    `population` are the settings of the population that its trials are, "" where they are none: it
    decides what they learn, as their own settings do. `basis` names what all its trials have in
    common beside point and seed, "" where they have not, or where nobody asked. `size` is how many
    entries there will be once the trials of a large search are all drawn. `left_out` are the keys
    of those that the sweep file meant before and does not mean any more.

    The file is replaced in one step, and what changes afterwards is appended to another beside it,
    until that is as long: whatever the number of trials, a change costs what it is long. A reader
    sees the plan before a `save` or after it.
    """

    def __init__(self, path: Path, sweep: str) -> None:
        self.path = path
        self.sweep = sweep
        self.population = ""
        self.basis = ""
        self.size = 0
        self.left_out: set[str] = set()
        self.entries: dict[str, Entry] = {}
        self._changes = Changes(path)
        self._written = ""  # names the last writing of the whole, where changes may follow it
        self._bytes = 0  # of it

    @classmethod
    def load(cls, path: Path, sweep: str) -> Plan:
        """The plan at `path`, or an empty one; ConfigError where the file is damaged."""
        plan = cls(path, sweep)
        if not path.exists():
            return plan
        try:
            plan._read()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError.single(
                str(path), f"is no plan of a sweep: {error}", "move it away to begin anew"
            ) from error
        return plan

    def add(self, trial: Trial, *, retry_failed: bool = False) -> Entry:
        """The trial's entry, made where it is new; its budget is the present one, as `take_up`."""
        entry = self.entries.get(trial.key)
        budget = trial.config.budget.g_steps
        if entry is None:
            entry = Entry(trial.key, trial.name, dict(trial.point), trial.seed, budget)
            self.entries[trial.key] = entry
        entry.take_up(budget, retry_failed=retry_failed)
        entry.name, entry.point = trial.name, dict(trial.point)
        return entry

    def put_aside(self) -> None:
        """None of them trains: who says so is of a command that was killed, and is to go on."""
        for entry in self.entries.values():
            if entry.state == "running":
                entry.state, entry.reason = "interrupted", KILLED

    def meet(self, basis: str) -> None:
        """Trials that have `basis` in common are to come into the plan, beside those in it."""
        self.basis = "" if self.entries and self.basis != basis else basis

    def mean(self, keys: Set[str], *, unlisted: int) -> None:
        """The sweep file means the entries of `keys`, and so many trials that are none yet."""
        self.left_out = self.entries.keys() - keys
        self.size = len(self.entries) + unlisted

    @property
    def meant(self) -> list[Entry]:
        """The entries that the sweep file means, as far as is known."""
        return [entry for key, entry in self.entries.items() if key not in self.left_out]

    def save(self, *changed: Entry) -> None:
        """Have the disk keep these entries, which alone have changed since the last call; or all.

        Raises:
            OSError: it does not. The next call writes all.
        """
        lines = [_line(entry) + b"\n" for entry in changed]
        appended = sum(map(len, lines))
        room = self._bytes - self._changes.bytes if self._bytes > SMALL_BYTES else 0
        if not (changed and self._written and appended <= room):
            self._save_whole()
            return
        try:
            self._changes.append(b"".join(lines), follows=self._written)
        except OSError:
            self._written = ""
            raise

    def _save_whole(self) -> None:
        """Write the file: to a temporary name, flushed, renamed; one entry a line."""
        self._written = ""
        written = secrets.token_hex(8)
        head = {
            "format": PLAN_FORMAT,
            "written": written,
            "sweep": self.sweep,
            "population": self.population,
            "basis": self.basis,
            "size": self.size,
            "left_out": sorted(self.left_out),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as draft, draft.open("wb") as file:
            file.write(json.dumps(head).encode()[:-1] + b', "trials": [')
            for place, entry in enumerate(self.entries.values()):
                file.write((b",\n" if place else b"\n") + _line(entry))
            file.write(b"\n]}\n")
            file.flush()
            os.fsync(file.fileno())
            self._bytes = file.tell()
        self._changes.forget()
        self._written = written

    def _read(self) -> None:
        tree, changed = _read_pair(self.path)
        self.population = tree.get("population", "")
        self.basis = tree.get("basis", "")
        self.size = int(tree.get("size", 0))
        self.left_out = set(tree.get("left_out", ()))
        self.entries = {each["key"]: Entry(**each) for each in (*tree["trials"], *changed)}


def _read_pair(path: Path) -> tuple[dict[str, Any], Iterable[dict[str, Any]]]:
    """The tree of a plan, and what has changed since it was written.

    The changes are read first: a plan that was written since then has them in it.
    """
    follows, changed = read_changes(path)
    tree = json.loads(path.read_text(encoding="utf-8"))
    if tree["format"] not in READABLE:
        raise ValueError(f"format {tree['format']}, this version reads {PLAN_FORMAT}")
    return tree, changed if follows == tree.get("written", "") else ()


def _line(entry: Entry) -> bytes:
    return json.dumps(vars(entry), allow_nan=False).encode()


def remove_plan(path: Path) -> None:
    """Remove the plan at `path`, with what has changed since it was written."""
    path.unlink(missing_ok=True)
    changes_file(path).unlink(missing_ok=True)


def trials_folder(folder: Path) -> Path:
    """Where the trials of the sweep in `folder` have their folders."""
    return folder / "trials"


def trial_folder(folder: Path, key: str) -> Path:
    """Where a trial of the sweep in `folder` keeps its checkpoint and its spool."""
    return trials_folder(folder) / key


def alone(key: str) -> str:
    """Name of a trial's folder and run where it trains by itself, apart from the sweep's own."""
    return f"{key}-alone"
