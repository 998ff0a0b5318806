"""One trial's spool on its way into MLflow: what of it has arrived, and how the rest is put there.

It runs in a courier's thread.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from gansweep.tracking.mlflow import tags as tag_names
from gansweep.tracking.mlflow.client import error_code
from gansweep.tracking.records import (
    End,
    Image,
    Metrics,
    Record,
    Tags,
    Text,
    Unreadable,
    count_records,
    read_records,
)
from gansweep.tracking.spool import FOLDER, LINES, complete_bytes, is_ended

_log = logging.getLogger(__name__)

NOTE = "delivered.json"
"""File of a spool that says which run has it, and up to which byte."""

NOTE_FORMAT = 1

_PER_CALL = 1000  # metrics and tags together, as MLflow has it

# What the store will refuse again, however often it is asked.
_REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"})


class ArtifactsAwayError(Exception):
    """An artifact cannot be stored, though the store itself answers."""


@dataclass(frozen=True, slots=True)
class _Scalar:
    name: str
    value: float
    milliseconds: int
    step: int


@dataclass(frozen=True, slots=True)
class _Tag:
    name: str
    value: str


@final
class Delivery:
    """The spool in the trial's folder `folder`, for the run `run_id`.

    `advance` raises what MLflow raises while the store is away, and ArtifactsAwayError; called
    again, it goes on with what it broke off at.
    """

    def __init__(self, run_id: str, folder: Path, *, artifact_patience_s: float) -> None:
        self.run_id: Final = run_id
        self.folder: Final = folder / FOLDER
        self.retry_at = 0.0  # by the monotonic clock
        self.delay = 0.0
        self._lines = self.folder / LINES
        # After a loss of power the note may know of lines that the disk does not.
        self._offset: int = min(_noted(self.folder).get("offset", 0), self.complete)
        self._torn = (0, 0)  # size and time of the file when nothing but a torn line was left
        self._steps: dict[str, int] | None = None  # last one of each metric and series, once known
        self._gone = False
        self._patience = artifact_patience_s
        self._artifact_patience = artifact_patience_s
        self._failing_since: float | None = None
        self._dropped = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        self._note(self._offset)

    @property
    def size(self) -> int:
        """Bytes of the lines that were written, the last one perhaps in part."""
        return self._stat()[0]

    @property
    def complete(self) -> int:
        """Bytes of the complete lines."""
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
        """Remove a spool whose end was delivered; whether it was."""
        over = 0 < self._offset == self.size and is_ended(self._lines)
        if over:
            shutil.rmtree(self.folder, ignore_errors=True)
        return over

    def advance(self, client: Any) -> Iterator[None]:
        """Deliver about 1 MiB of what waits; yields after each call, once it is noted."""
        if self._steps is None:
            self._steps = self._last_steps(client)
        now, begun = self._stat(), self._offset
        for records, end in _grouped(read_records(self._lines, begun)):
            self._deliver(client, records, last=end >= self.size)
            self._note(end)
            for record in records:
                if isinstance(record, Image):
                    (self.folder / record.file).unlink(missing_ok=True)
            self._offset = end
            self._failing_since = None
            yield
        if self._offset == begun:
            self._torn = now

    def _stat(self) -> tuple[int, int]:
        try:
            found = self._lines.stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_size, found.st_mtime_ns

    def _note(self, offset: int) -> None:
        temporary = self.folder / f".{NOTE}.{os.getpid()}"
        note = {"format": NOTE_FORMAT, "run_id": self.run_id, "offset": offset}
        temporary.write_text(json.dumps(note), encoding="utf-8")
        temporary.replace(self.folder / NOTE)

    def _deliver(self, client: Any, records: list[Record | Unreadable], *, last: bool) -> None:
        if self._gone:
            return
        run_id = self.run_id
        match records[0]:
            case Metrics() | Tags():
                atoms = self._atoms(records)
                for start in range(0, len(atoms), _PER_CALL):
                    self._send(client, atoms[start : start + _PER_CALL])
            case Image() as image:
                self._send_image(client, image)
            case Text(text, artifact) as record:
                self._attempt(client, lambda: client.log_text(run_id, text, artifact), record)
            case End(status) as record:
                if last:  # else the trial went on
                    end = lambda: client.set_terminated(run_id, status=status)  # noqa: E731
                    self._attempt(client, end, record)
            case Unreadable() as record:
                self._note_drop("no line of this version", record)

    def _atoms(self, records: list[Record | Unreadable]) -> list[_Scalar | _Tag]:
        """What can be refused by itself, without the steps that the run has already."""
        assert self._steps is not None
        atoms: list[_Scalar | _Tag] = []
        last = dict(self._steps)
        for record in records:
            if isinstance(record, Metrics):
                for name, value in record.values.items():
                    if record.step > last.get(name, -1):
                        last[name] = record.step
                        atoms.append(_Scalar(name, value, record.milliseconds, record.step))
            elif isinstance(record, Tags):
                atoms += [_Tag(*item) for item in tag_names.namespaced(record.tags).items()]
        return atoms

    def _send(self, client: Any, atoms: list[_Scalar | _Tag]) -> None:
        """One call; where the store refuses it, halves, so that only the culprit is dropped."""
        from mlflow.entities import Metric, RunTag

        assert self._steps is not None
        scalars = [atom for atom in atoms if isinstance(atom, _Scalar)]
        tags = {atom.name: atom.value for atom in atoms if isinstance(atom, _Tag)}

        def call() -> None:
            client.log_batch(
                self.run_id,
                metrics=[Metric(s.name, s.value, s.milliseconds, s.step) for s in scalars],
                tags=[RunTag(*item) for item in tags.items()],
                synchronous=True,
            )

        if self._attempt(client, call, atoms[0] if len(atoms) == 1 else None):
            self._steps.update((scalar.name, scalar.step) for scalar in scalars)
        elif len(atoms) > 1 and not self._gone:
            middle = len(atoms) // 2
            self._send(client, atoms[:middle])
            self._send(client, atoms[middle:])

    def _send_image(self, client: Any, image: Image) -> None:
        import numpy as np

        assert self._steps is not None
        series = _series(image.key)
        if image.step <= self._steps.get(series, -1):
            return
        try:
            pixels = np.load(self.folder / image.file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            self._note_drop(error, image)
            return

        def call() -> None:
            client.log_image(
                self.run_id,
                pixels,
                key=image.key,
                step=image.step,
                timestamp=image.milliseconds,
                synchronous=True,
            )

        if self._attempt(client, call, image):
            self._steps[series] = image.step

    def _attempt(self, client: Any, call: Callable[[], None], what: object) -> bool:
        """Whether it is stored; else it is refused, and dropped unless `what` is None."""
        try:
            call()
        except Exception as error:
            artifact = isinstance(what, (Image, Text))
            if _refused(error):
                self._gone = self._is_gone(client)
            elif not artifact or not self._answers(client):
                self._failing_since = None
                raise
            elif not self._spent():
                raise ArtifactsAwayError(str(error)) from error
            if what is not None or self._gone:
                self._note_drop(error, what or "what it is sent from now on")
            return False
        if isinstance(what, (Image, Text)):
            self._artifact_patience = self._patience
        return True

    def _answers(self, client: Any) -> bool:
        try:
            client.get_run(self.run_id)
        except Exception:
            return False
        return True

    def _spent(self) -> bool:
        """Whether an artifact has failed for long enough."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since < self._artifact_patience:
            return False
        self._artifact_patience = 0.0  # the next one gets one try, until one succeeds
        return True

    def _is_gone(self, client: Any) -> bool:
        """Whether nothing can be stored in the run."""
        try:
            return bool(client.get_run(self.run_id).info.lifecycle_stage == "deleted")
        except Exception as error:
            return _refused(error)

    def _last_steps(self, client: Any) -> dict[str, int]:
        """The last step of each metric and of each series of images in the run."""
        try:
            run = client.get_run(self.run_id)
        except Exception as error:
            if _refused(error):  # no such run: each call will say so
                return {}
            raise
        steps = {metric.key: metric.step for metric in run.data._metric_objs}
        with contextlib.suppress(Exception):  # artifacts may lie where nobody answers now
            for artifact in client.list_artifacts(self.run_id, "images"):
                series, _, rest = artifact.path.partition("+step+")
                step = rest.partition("+")[0]
                if step.isdigit() and artifact.path.endswith(".png"):
                    steps[series] = max(int(step), steps.get(series, -1))
        return steps

    def _note_drop(self, reason: object, what: object) -> None:
        self._dropped += 1
        if self._dropped == 1:
            _log.warning(
                "MLflow run %s: dropped %.200r (further ones without a word): %s",
                self.run_id,
                what,
                reason,
            )


def noted_run(folder: Path) -> str:
    """The run that the spool in the trial's folder `folder` was last delivered to, or nothing."""
    return str(_noted(folder / FOLDER).get("run_id", ""))


def _noted(folder: Path) -> Mapping[str, Any]:
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) and note.get("format") == NOTE_FORMAT else {}


def _series(key: str) -> str:
    # As MLflow names the files of a series.
    return f"images/{key.replace('/', '~')}"


def _grouped(
    records: Iterator[tuple[Record | Unreadable, int]],
) -> Iterator[tuple[list[Record | Unreadable], int]]:
    """What one call may deliver, with the byte where it ends."""
    group: list[Record | Unreadable] = []
    size, group_end = 0, 0
    for record, end in records:
        small = isinstance(record, (Metrics, Tags))
        count = len(record.values) if isinstance(record, Metrics) else 1
        if isinstance(record, Tags):
            count = len(record.tags)
        if group and (not small or size + count > _PER_CALL):
            yield group, group_end
            group, size = [], 0
        group.append(record)
        size, group_end = size + count, end
        if not small:
            yield group, group_end
            group, size = [], 0
    if group:
        yield group, group_end


def _refused(error: BaseException) -> bool:
    if isinstance(error, (OSError, json.JSONDecodeError)):  # a connection's, a proxy's
        return False
    return error_code(error) in _REFUSALS or isinstance(error, (TypeError, ValueError))
