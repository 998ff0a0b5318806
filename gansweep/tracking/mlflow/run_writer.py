"""Puts a trial's records into one run of MLflow: what it has already, what it refuses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, final

from gansweep.tracking.mlflow import tags as tag_names
from gansweep.tracking.mlflow.client import is_refusal
from gansweep.tracking.records import End, Image, Metrics, Record, Tags, Text, Unreadable

_log = logging.getLogger(__name__)

PER_CALL = 1000
"""Metrics and tags in one call, as MLflow has it."""


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
class RunWriter:
    """Writes to the run `run_id`; pictures lie in `folder`.

    Calls raise what MLflow raises while the store is away, and ArtifactsAwayError; called again
    with the same records, they store each once. What the run refuses is dropped, with one warning.
    A record of a clock that was set back since gets the time of the last one that the run has.
    """

    def __init__(self, run_id: str, folder: Path, *, artifact_patience_s: float) -> None:
        self.run_id: Final = run_id
        self._folder = folder
        self._steps: dict[str, int] | None = None  # last one of each metric, once known
        self._series: dict[str, int] | None = None  # and of each series of images
        self._tagged = False  # the run says that it may have images
        self._latest = 0  # time of the last metric
        self._gone = False
        self._patience = artifact_patience_s
        self._artifact_patience = artifact_patience_s
        self._failing_since: float | None = None
        self._dropped = 0

    def write(self, client: Any, records: Sequence[Record | Unreadable], *, last: bool) -> None:
        """Metrics and tags, or one other record; `last`: nothing follows it yet."""
        if self._steps is None:
            self._steps = self._last_steps(client)
        if not self._gone:
            self._write(client, records, last=last)

    def _write(self, client: Any, records: Sequence[Record | Unreadable], *, last: bool) -> None:
        run_id = self.run_id
        match records[0]:
            case Metrics() | Tags():
                atoms = self._atoms(records)
                for start in range(0, len(atoms), PER_CALL):
                    self._send(client, atoms[start : start + PER_CALL])
            case Image() as image:
                self._send_image(client, image)
            case Text(text, artifact) as record:
                self._attempt(client, lambda: client.log_text(run_id, text, artifact), record)
            case End(status) as record:
                if last:  # else the trial went on
                    end = partial(client.set_terminated, run_id, status=status)
                    self._attempt(client, end, record)
            case Unreadable() as record:
                self._note_drop("no line of this version", record)

    def _atoms(self, records: Sequence[Record | Unreadable]) -> list[_Scalar | _Tag]:
        """What can be refused by itself, without the steps that the run has already."""
        assert self._steps is not None
        atoms: list[_Scalar | _Tag] = []
        last, latest = dict(self._steps), self._latest
        for record in records:
            if isinstance(record, Metrics):
                latest = max(latest, record.milliseconds)
                for name, value in record.values.items():
                    if record.step > last.get(name, -1):
                        last[name] = record.step
                        atoms.append(_Scalar(name, value, latest, record.step))
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
            self._latest = max([self._latest, *(scalar.milliseconds for scalar in scalars)])
        elif len(atoms) > 1 and not self._gone:
            middle = len(atoms) // 2
            self._send(client, atoms[:middle])
            self._send(client, atoms[middle:])

    def _send_image(self, client: Any, image: Image) -> None:
        from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES

        def call() -> None:
            if self._series is None:
                self._series = self._last_pictures(client) if self._tagged else {}
            if image.step <= self._series.get(series, -1):
                return
            pixels = self._pixels(image)
            if not self._tagged:
                # MLflow does so after the picture: one whose delivery broke off would be unknown.
                client.set_tag(self.run_id, MLFLOW_LOGGED_IMAGES, True)
                self._tagged = True
            client.log_image(
                self.run_id,
                pixels,
                key=image.key,
                step=image.step,
                timestamp=max(self._latest, image.milliseconds),
                synchronous=True,
            )
            self._series[series] = image.step

        series = _series(image.key)
        self._attempt(client, call, image)

    def _pixels(self, image: Image) -> Any:
        """Raises ValueError where they are lost; OSError where the disk refuses them now."""
        import numpy as np

        try:
            return np.load(self._folder / image.file, allow_pickle=False)
        except (FileNotFoundError, EOFError) as error:
            raise ValueError(str(error)) from error

    def _attempt(self, client: Any, call: Callable[[], None], what: object) -> bool:
        """Whether it is stored; else it is refused, and dropped unless `what` is None."""
        try:
            call()
        except Exception as error:
            artifact = isinstance(what, (Image, Text))
            if is_refusal(error):
                self._gone = self._is_gone(client)
            elif not artifact or not self._answers(client):
                self._failing_since = None
                raise
            elif not self._spent():
                raise ArtifactsAwayError(str(error)) from error
            if what is not None or self._gone:
                self._note_drop(error, what or "what it is sent from now on")
            if artifact:
                self._failing_since = None
            return False
        if isinstance(what, (Image, Text)):
            self._artifact_patience = self._patience
            self._failing_since = None
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
            return is_refusal(error)

    def _last_steps(self, client: Any) -> dict[str, int]:
        """The last step of each metric in the run, which says also whether it has pictures."""
        from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES

        try:
            run = client.get_run(self.run_id)
        except Exception as error:
            if is_refusal(error):  # no such run: each call will say so
                return {}
            raise
        steps = {metric.key: metric.step for metric in run.data._metric_objs}
        self._latest = max((metric.timestamp for metric in run.data._metric_objs), default=0)
        self._tagged = MLFLOW_LOGGED_IMAGES in run.data.tags
        return steps

    def _last_pictures(self, client: Any) -> dict[str, int]:
        """The last step of each series of images in the run."""
        steps: dict[str, int] = {}
        try:
            found = client.list_artifacts(self.run_id, "images")
        except Exception as error:
            if not is_refusal(error):  # artifacts may lie where nobody answers now
                raise
            found = []
        for artifact in found:
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


def _series(key: str) -> str:
    # As MLflow names the files of a series.
    return f"images/{key.replace('/', '~')}"
