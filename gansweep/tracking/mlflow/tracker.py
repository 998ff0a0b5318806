"""A trial's side of the record: calls go on a queue, one thread delivers them in their order."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from gansweep.tracking.mlflow import tags as tag_names
from gansweep.tracking.mlflow.client import error_code, open_client
from gansweep.tracking.mlflow.uri import sqlite_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from gansweep.tracking.base import RunStatus, Tracker

_log = logging.getLogger(__name__)

_METRICS_PER_CALL = 1000
_CALLS_WAITING = 500  # log calls on the queue that wake the thread before its time
_FIRST_DELAY_SECONDS = 0.1
_LONGEST_DELAY_SECONDS = 5.0

# What the store will refuse again, however often it is asked.
_REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"})


@dataclass(frozen=True, slots=True)
class _Scalar:
    name: str
    value: float
    milliseconds: int
    step: int


@dataclass(frozen=True, slots=True)
class _Metrics:
    values: Mapping[str, float]
    milliseconds: int
    step: int

    def scalars(self) -> list[_Scalar]:
        return [_Scalar(k, v, self.milliseconds, self.step) for k, v in self.values.items()]


@dataclass(frozen=True, slots=True)
class _Image:
    key: str
    pixels: NDArray[np.uint8]  # [H, W, 3 or 1]
    milliseconds: int
    step: int


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    artifact: str


@dataclass(frozen=True, slots=True)
class _Tags:
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _End:
    status: RunStatus


@dataclass(frozen=True, slots=True)
class _Mark:
    """All that was queued before it is dealt with once `passed` is set."""

    passed: threading.Event = field(default_factory=threading.Event)


_Item = _Metrics | _Image | _Text | _Tags | _End | _Mark


@final
class MlflowTracker:
    """The record of the run `run_id`, which the driver has made in the store `uri`.

    Log calls cost microseconds: a thread imports MLflow, opens the store and delivers, every
    `interval_s` seconds or once 500 calls wait. While the store is away or locked, it tries
    again and again in the same order. `flush` and `finish` wait as long as there is progress,
    and give up after `patience_s` seconds without any.

    Dropped with a warning is what the store refuses for good (a run deleted meanwhile, a
    malformed name), and an image or text that cannot be stored for half of `patience_s` while
    the store itself answers (artifacts may lie elsewhere), since it would hold up the rest.
    An image whose delivery broke off half-way may appear twice.

    A trial that went beyond its last checkpoint before it broke off comes by the same steps again:
    what the run had of a metric or a series of images, up to its last step, is not stored twice.

    What waits is lost if the process is killed: flush before a checkpoint.
    """

    def __init__(
        self, uri: str, run_id: str, *, interval_s: float = 2.0, patience_s: float = 60.0
    ) -> None:
        self.uri: Final = uri
        self.run_id: Final = run_id
        self._interval = interval_s
        self._patience = patience_s
        self._queue: deque[_Item] = deque()  # appended by any thread, emptied by ours
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._closed = False
        self._client: Any = None
        self._stored: dict[str, int] = {}  # last step of each metric and series, from before
        self._last_error: BaseException | None = None
        self._progress = time.monotonic()  # when something was last dealt with
        self._busy_since: float | None = None  # when the delivery now under way was first tried
        self._artifact_patience = patience_s / 2
        self._dropped = 0
        self._thread = threading.Thread(target=self._deliver, name="mlflow-tracker", daemon=True)
        self._thread.start()

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Scalars at `step` (g_steps); MLflow keeps NaN, and turns inf into +-1.8e308."""
        values = {name: float(value) for name, value in metrics.items()}
        self._put(_Metrics(values, _now(), step))

    def log_image(self, key: str, image: Tensor, *, step: int) -> None:
        """One picture, uint8 [3 or 1, H, W], in the series `key`; it is copied at once.

        Raises:
            ValueError: another shape or type.
        """
        if image.ndim != 3 or image.shape[0] not in (1, 3) or str(image.dtype) != "torch.uint8":
            raise ValueError(
                f"an image is uint8 [3 or 1, H, W], not {image.dtype} {list(image.shape)}"
            )
        pixels = image.detach().cpu().permute(1, 2, 0).numpy().copy()
        self._put(_Image(key, pixels, _now(), step))

    def log_text(self, text: str, artifact: str) -> None:
        """A text artifact at the relative path `artifact`."""
        self._put(_Text(text, artifact))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags, put under `gansweep.` (except `mlflow.*`); a later value replaces an earlier."""
        self._put(_Tags(tag_names.namespaced(tags)))

    def flush(self) -> None:
        """Wait until all that was logged is stored, or the store has been away too long."""
        if self._closed:
            return
        if not self._passed(grace=False):
            _log.info("MLflow run %s: flush gave up: %s", self.run_id, self._last_error)

    def finish(self, status: RunStatus) -> None:
        """Flush and end the run with `status`. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._queue.append(_End(status))
        delivered = self._passed(grace=True)
        self._stop.set()
        self._wake.set()
        if delivered:
            self._thread.join()
        else:
            waiting = sum(not isinstance(item, (_End, _Mark)) for item in tuple(self._queue))
            _log.warning(
                "MLflow run %s: gave up on %s after %g s without progress; %d calls and the "
                "status %s are not stored: %s",
                self.run_id,
                self.uri,
                self._patience,
                waiting,
                status,
                self._last_error,
            )

    def _put(self, item: _Item) -> None:
        if self._closed:
            _log.warning("MLflow run %s: logged after finish: %.200r", self.run_id, item)
            return
        self._queue.append(item)
        if len(self._queue) >= _CALLS_WAITING and not self._wake.is_set():
            self._wake.set()

    def _passed(self, *, grace: bool) -> bool:
        """Whether all that is queued was dealt with; `grace`: be patient from now at least."""
        mark = _Mark()
        start = time.monotonic()
        self._queue.append(mark)
        self._wake.set()
        while not mark.passed.is_set():
            since = self._busy_since
            if grace or since is None:
                since = max(start, self._progress)
            left = since + self._patience - time.monotonic()
            if left <= 0:
                return False
            mark.passed.wait(min(left, 1.0))
        return True

    # The rest runs in the thread.

    def _deliver(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self._interval)
            self._wake.clear()
            # Only what waits now: who comes meanwhile gathers for the next call.
            waiting = len(self._queue)
            while waiting > 0 and not self._stop.is_set():
                waiting -= self._deliver_next()

    def _deliver_next(self) -> int:
        """Deliver from the queue's left end; how many items left the queue, dealt with."""
        first = self._queue[0]
        count = 1
        if isinstance(first, _Mark):
            first.passed.set()
        elif isinstance(first, _Metrics):
            scalars: list[_Scalar] = []
            item: _Item = first
            count = 0
            while isinstance(item, _Metrics):
                if count and len(scalars) + len(item.values) > _METRICS_PER_CALL:
                    break
                scalars += item.scalars()
                count += 1
                if count == len(self._queue):
                    break
                item = self._queue[count]
            for start in range(0, len(scalars), _METRICS_PER_CALL):
                self._send_scalars(scalars[start : start + _METRICS_PER_CALL])
        else:
            self._attempt(self._call(first), what=first)
        if self._stop.is_set():
            return 0
        for _ in range(count):
            self._queue.popleft()
        return count

    def _send_scalars(self, scalars: list[_Scalar]) -> None:
        """One call; where the store refuses it, halves, so that only the culprit is dropped."""

        def call(client: Any) -> None:
            from mlflow.entities import Metric

            entities = [
                Metric(s.name, s.value, s.milliseconds, s.step)
                for s in scalars
                if s.step > self._stored.get(s.name, -1)
            ]
            client.log_batch(self.run_id, metrics=entities, synchronous=True)

        if len(scalars) == 1:
            self._attempt(call, what=scalars[0])
        elif scalars and not self._attempt(call, what=None) and not self._stop.is_set():
            middle = len(scalars) // 2
            self._send_scalars(scalars[:middle])
            self._send_scalars(scalars[middle:])

    def _send_image(self, client: Any, image: _Image) -> None:
        if image.step > self._stored.get(f"images/{image.key}", -1):
            client.log_image(
                self.run_id,
                image.pixels,
                key=image.key,
                step=image.step,
                timestamp=image.milliseconds,
                synchronous=True,
            )

    def _call(self, item: _Item) -> Callable[[Any], None]:
        run_id = self.run_id
        match item:
            case _Image():
                return lambda client: self._send_image(client, item)
            case _Text(text, artifact):
                return lambda client: client.log_text(run_id, text, artifact)
            case _Tags(tags):
                return lambda client: _send_tags(client, run_id, tags)
            case _End(status):
                return lambda client: client.set_terminated(run_id, status=status)
        raise AssertionError(item)

    def _attempt(self, call: Callable[[Any], None], *, what: object) -> bool:
        """Try until it is stored (True), dropped or stopped (False)."""
        start = self._busy_since = time.monotonic()
        delay = _FIRST_DELAY_SECONDS
        while not self._stop.is_set():
            try:
                if self._client is None:
                    client = self._open()
                    self._stored = _last_steps(client, self.run_id)
                    self._client = client
                call(self._client)
            except Exception as error:
                if self._client is not None and (_refused(error) or self._stuck(what, start)):
                    if what is not None:
                        self._note_drop(error, what)
                    self._dealt_with()
                    return False
                if self._last_error is None:
                    _log.info("MLflow run %s: will try again: %s", self.run_id, error)
                self._last_error = error
                self._stop.wait(delay)
                delay = min(2 * delay, _LONGEST_DELAY_SECONDS)
            else:
                if isinstance(what, (_Image, _Text)):
                    self._artifact_patience = self._patience / 2
                self._dealt_with()
                return True
        return False

    def _open(self) -> Any:
        # Ours are the retries; MLflow's own would sleep for minutes after the server is back.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        path = sqlite_file(self.uri)
        if path and not path.exists():  # MLflow would make an empty one
            raise FileNotFoundError(f"{path} is not on this machine; use an MLflow server")
        return open_client(self.uri)

    def _dealt_with(self) -> None:
        self._last_error = None
        self._progress = time.monotonic()
        self._busy_since = None

    def _stuck(self, what: object, start: float) -> bool:
        """Whether an artifact fails on and on, though the run itself can be read."""
        if not isinstance(what, (_Image, _Text)):
            return False
        if time.monotonic() - start < self._artifact_patience:
            return False
        try:
            self._client.get_run(self.run_id)
        except Exception:
            return False
        self._artifact_patience = 0.0  # the next one gets one try, until one succeeds
        return True

    def _note_drop(self, error: BaseException, what: object) -> None:
        self._dropped += 1
        if self._dropped == 1:
            _log.warning(
                "MLflow run %s: dropped %.200r (further ones without a word): %s",
                self.run_id,
                what,
                error,
            )


def _send_tags(client: Any, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    entities = [RunTag(name, value) for name, value in tags.items()]
    client.log_batch(run_id, tags=entities, synchronous=True)


def _last_steps(client: Any, run_id: str) -> dict[str, int]:
    """The last step of each metric and of each series of images (`images/KEY`) in the run."""
    try:
        run = client.get_run(run_id)
    except Exception as error:
        if _refused(error):  # no such run: each call will say so
            return {}
        raise
    steps = {metric.key: metric.step for metric in run.data._metric_objs}
    with contextlib.suppress(Exception):  # artifacts may lie where nobody answers now
        for artifact in client.list_artifacts(run_id, "images"):
            key, _, rest = artifact.path.removeprefix("images/").partition("+step+")
            step = rest.partition("+")[0]
            if step.isdigit() and artifact.path.endswith(".png"):
                steps[f"images/{key}"] = max(int(step), steps.get(f"images/{key}", -1))
    return steps


def _refused(error: BaseException) -> bool:
    if isinstance(error, (OSError, json.JSONDecodeError)):  # a connection's, a proxy's
        return False
    return error_code(error) in _REFUSALS or isinstance(error, (TypeError, ValueError))


def _now() -> int:
    return time.time_ns() // 1_000_000


if TYPE_CHECKING:

    def _conforms(tracker: MlflowTracker) -> Tracker:
        return tracker
