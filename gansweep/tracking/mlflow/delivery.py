"""One trial's spool on its way into MLflow: what of it has arrived, and what comes next.

It runs in a courier's thread.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, final

from gansweep.drafts import replacing
from gansweep.tracking.mlflow.run_writer import RunWriter
from gansweep.tracking.records import (
    Image,
    Metrics,
    Tags,
    count_records,
    read_records,
)
from gansweep.tracking.spool import FOLDER, LINES, complete_bytes, is_ended

NOTE = "delivered.json"
"""File of a spool that says which run has it, and up to which byte."""

NOTE_FORMAT = 1


@final
class Delivery:
    """The spool in the trial's folder `folder`, for the run `run_id`.

    `advance` raises what MLflow raises while the store is away, and ArtifactsAwayError; called
    again, it goes on with what it broke off at.
    """

    def __init__(self, run_id: str, folder: Path, *, artifact_patience_s: float) -> None:
        self.run_id: Final = run_id
        self.trial: Final = folder
        self.folder: Final = folder / FOLDER
        self.released = False  # nothing is written to it any more
        self.forgotten = False  # it is someone else's
        self.retry_at = 0.0  # by the monotonic clock
        self.delay = 0.0
        self._lines = self.folder / LINES
        note = _noted(self.folder)
        had = note.get("offset", 0) if note.get("run_id") == run_id else 0  # another run has none
        # After a loss of power the note may know of lines that the disk does not.
        self._offset: int = min(had, self.complete)
        self._torn = (0, 0)  # size and time of the file when nothing but a torn line was left
        self._writer = RunWriter(run_id, self.folder, artifact_patience_s=artifact_patience_s)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._note(self._offset)

    @property
    def size(self) -> int:
        """Bytes of the lines that were written, the last one perhaps in part."""
        return self._stat()[0]

    @property
    def complete(self) -> int:
        """Bytes of the complete lines; OSError where the disk refuses to tell, as in `waiting`."""
        return complete_bytes(self._lines)

    @property
    def has_news(self) -> bool:
        """Whether there may be complete lines to deliver."""
        now = self._stat()
        return now[0] > self._offset and now != self._torn

    @property
    def offset(self) -> int:
        """Bytes of the lines that were delivered or dropped."""
        return self._offset

    @property
    def waiting(self) -> int:
        """How many complete lines were not delivered yet."""
        return count_records(self._lines, self._offset)

    def remove_if_over(self) -> bool:
        """Remove a spool whose end was delivered; whether it was, as far as the disk tells."""
        try:
            over = 0 < self._offset == self.size and is_ended(self._lines)
        except OSError:
            return False
        if over:
            shutil.rmtree(self.folder, ignore_errors=True)
        return over

    def advance(self, client: Any) -> Iterator[None]:
        """Deliver about 1 MiB of what waits; yields after each call, and when all is noted.

        Metrics and tags go first, in one call. Where it breaks off before all is noted, the writer
        knows what the run has.
        """
        now = self._stat()
        read = list(read_records(self._lines, self._offset))
        if not read:
            self._torn = now
            return
        records, end = [record for record, _ in read], read[-1][1]
        batched = [record for record in records if isinstance(record, (Metrics, Tags))]
        if batched:
            self._writer.write(client, batched, last=False)
            yield
        for record in records:
            if not isinstance(record, (Metrics, Tags)):
                last = record is records[-1] and end >= self.size
                self._writer.write(client, [record], last=last)
                yield
        self._note(end)
        self._offset = end
        for record in records:
            if isinstance(record, Image):
                (self.folder / record.file).unlink(missing_ok=True)
        yield

    def _stat(self) -> tuple[int, int]:
        try:
            found = self._lines.stat()
        except OSError:  # there is none yet, or a shared file system that has a bad moment
            return 0, 0
        return found.st_size, found.st_mtime_ns

    def _note(self, offset: int) -> None:
        note = {"format": NOTE_FORMAT, "run_id": self.run_id, "offset": offset}
        with replacing(self.folder / NOTE) as draft:
            draft.write_text(json.dumps(note), encoding="utf-8")


def noted_run(folder: Path) -> str:
    """The run that the spool in the trial's folder `folder` was last delivered to, or nothing."""
    return str(_noted(folder / FOLDER).get("run_id", ""))


def _noted(folder: Path) -> Mapping[str, Any]:
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) and note.get("format") == NOTE_FORMAT else {}
