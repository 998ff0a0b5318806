"""The record of submitted jobs: a file for each in the user's state folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from gansweep.drafts import replacing
from gansweep.errors import ConfigError, nearest
from gansweep.launch.base import JobState, Phase, Submitted


@final
@dataclass
class JobRecord:
    """A submitted job. submitted: when, in UTC; settings: those that its launcher needs again.

    phase, reason, code: how it stood when it was looked at last; kept, since clusters forget.
    """

    id: str
    target: str
    sweep: str
    file: str
    submitted: str
    log: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    phase: Phase = "waiting"
    reason: str = ""
    code: int | None = None

    @property
    def job(self) -> Submitted:
        return Submitted(self.id, self.log)

    @property
    def state(self) -> JobState:
        return JobState(self.phase, self.reason, self.code)

    @property
    def _path(self) -> Path:
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{self.target}-{self.id}")
        return jobs_folder() / f"{name}.json"

    def note(self, state: JobState) -> None:
        """Keep how it stands now; on a disk that takes nothing, in memory: the cluster knows it."""
        if state != self.state:
            self.phase, self.reason, self.code = state.phase, state.reason, state.code
            with suppress(OSError):
                self.save()

    def refresh(self) -> None:
        """How it stood when another command looked at it, perhaps after this one had read it."""
        with suppress(OSError, ValueError, TypeError):
            kept = _read(self._path)
            self.phase, self.reason, self.code = kept.phase, kept.reason, kept.code

    def remove(self) -> None:
        """Of a job that there is none of."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def save(self) -> None:
        """Write the file in one step; only its user may read it."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with replacing(self._path) as draft:
            descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(self), file, indent=1)
                file.flush()
                os.fsync(file.fileno())


def jobs_folder() -> Path:
    """$GANSWEEP_STATE/jobs, else in the user's state folder (~/.local/state/gansweep on Linux)."""
    if chosen := os.environ.get("GANSWEEP_STATE"):
        return Path(chosen).expanduser() / "jobs"
    from platformdirs import user_state_path

    return user_state_path("gansweep") / "jobs"


def _read(path: Path) -> JobRecord:
    return JobRecord(**json.loads(path.read_text(encoding="utf-8")))


def all_jobs() -> list[JobRecord]:
    """The oldest first. A file that is no record is left out."""
    found = []
    for path in jobs_folder().glob("*.json"):
        try:
            found.append(_read(path))
        except (OSError, ValueError, TypeError):
            continue
    return sorted(found, key=lambda record: (record.submitted, record.id))


def find_jobs(name: str) -> list[JobRecord]:
    """The job of that id, or all of the sweep of that name, the latest first; else ConfigError."""
    records = all_jobs()[::-1]
    for record in records:
        number = record.id.partition("@")[0]  # of one of several Slurm clusters
        if name in (record.id, number):
            return [record]
    if found := [record for record in records if record.sweep == name]:
        return found
    names = [record.id for record in reversed(records)]
    remedy = nearest(name, names) or "submit one first"
    raise ConfigError.single(name, "no such job", remedy, outcome="nothing was done")
