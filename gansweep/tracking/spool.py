"""A trial's record in a file of its own, which costs it microseconds and waits for no store."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from gansweep.drafts import keep
from gansweep.redaction import redact
from gansweep.tracking.records import End, Image, Metrics, Record, Tags, Text, read_records, to_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from gansweep.tracking.base import RunStatus

_log = logging.getLogger(__name__)

FOLDER, LINES = "spool", "records.jsonl"
"""Names of a trial's spool in the trial's folder, and of the file of its lines therein."""

WRITE_SECONDS = 1.0
"""A log call writes what has waited in memory for longer, so that others see it soon."""

WRITE_LINES = 500
"""A log call writes what waits in memory when it is as much."""


@final
class SpoolTracker:
    """The record of the trial in `folder`: its calls are lines appended to the trial's spool.

    Lines wait in memory for about a second; `flush` writes them and has the disk keep them. A line
    torn by the end of an earlier process is cut off, and the trial goes on in the same file. Where
    the disk refuses, lines and pictures stay in memory with a warning; `flush` alone raises.

    Raises:
        OSError: the spool cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / LINES
        self._file = path.open("ab", buffering=0)
        self._file.truncate(complete_bytes(path))
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._pictures: dict[Path, NDArray[np.uint8]] = {}  # that the disk did not take
        self._written = time.monotonic()
        self._fresh: list[Path] = [self._folder]  # what the disk may not have yet
        self._warned = False
        self._stamp = 0

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Scalars at `step` (g_steps)."""
        self._put(Metrics({name: float(v) for name, v in metrics.items()}, step, self._now()))

    def log_image(self, key: str, image: Tensor, *, step: int) -> None:
        """One picture, uint8 [3 or 1, H, W], in the series `key`; it is written to a file at once.

        Raises:
            ValueError: another shape or type.
        """
        if image.ndim != 3 or image.shape[0] not in (1, 3) or str(image.dtype) != "torch.uint8":
            raise ValueError(
                f"an image is uint8 [3 or 1, H, W], not {image.dtype} {list(image.shape)}"
            )
        import numpy as np

        pixels = np.ascontiguousarray(image.detach().cpu().permute(1, 2, 0).numpy())
        path = self._folder / f"{uuid.uuid4().hex}.npy"
        refused = _save(pixels, path)
        if refused:
            self._warn(refused)
        with self._lock:
            if refused:
                self._pictures[path] = pixels
            self._fresh += [path, self._folder]
        # After the file: readers go by the line.
        self._put(Image(key, path.name, step, self._now()))

    def log_text(self, text: str, artifact: str) -> None:
        """A text artifact at the relative path `artifact`."""
        self._put(Text(redact(text), artifact, self._now()))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags; a later value replaces an earlier one."""
        self._put(Tags({name: redact(value) for name, value in tags.items()}, self._now()))

    def flush(self) -> None:
        """Let the disk have all that was logged.

        Raises:
            OSError: it does not take it. What it has not stays in memory, for the next call.
        """
        with self._lock:
            if self._file.closed:
                return
            refused = self._write()
            if refused:
                raise refused
            fresh, self._fresh = self._fresh, []
            descriptor = os.dup(self._file.fileno())
        try:
            for path in dict.fromkeys(fresh):
                with contextlib.suppress(FileNotFoundError):  # it was delivered meanwhile
                    keep(path)
            os.fsync(descriptor)
        except OSError as error:
            with self._lock:
                self._fresh += fresh
            self._warn(error)
            raise
        finally:
            os.close(descriptor)

    def finish(self, status: RunStatus) -> None:
        """End the record with `status` and flush. A second call does nothing."""
        with self._lock:
            if self._file.closed:
                return
            self._lines.append(to_line(End(status, self._now())))
        with contextlib.suppress(OSError):  # the driver settles what has no end
            self.flush()
        with self._lock:
            self._file.close()

    def _put(self, record: Record) -> None:
        line = to_line(record)
        with self._lock:
            if self._file.closed:
                _log.warning("%s: logged after finish: %.200r", self._folder, line)
                return
            self._lines.append(line)
            waited = time.monotonic() - self._written
            if waited >= WRITE_SECONDS or len(self._lines) >= WRITE_LINES:
                self._write()

    def _write(self) -> OSError | None:
        """Append what waits; the lock is held. What the disk says where it does not take all."""
        for path in list(self._pictures):
            if refused := _save(self._pictures[path], path):
                self._warn(refused)
                return refused
            del self._pictures[path]
        data = b"".join(self._lines)
        done, refused = 0, None
        try:
            while done < len(data):
                done += self._file.write(data[done:]) or 0
        except OSError as error:
            self._warn(error)
            refused = error
        self._lines = [data[done:]] if done < len(data) else []
        self._written = time.monotonic()
        return refused

    def _now(self) -> int:
        """Milliseconds since 1970, never less than before: the clock may step backwards."""
        self._stamp = max(self._stamp, time.time_ns() // 1_000_000)
        return self._stamp

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("%s: the record is not on the disk: %s", self._folder, error)


def spools(folder: Path) -> list[Path]:
    """The folders of the trials below `folder` that have a spool.

    Raises:
        OSError: the disk refuses to tell.
    """
    try:
        trials = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    return [trial for trial in trials if (trial / FOLDER / LINES).exists()]


def is_ended(lines: Path) -> bool:
    """Whether the last line of a spool is its end."""
    # An end is one short line: what precedes it may be read from its middle on.
    records = [record for record, _ in read_records(lines, max(0, lines.stat().st_size - 200))]
    return bool(records) and isinstance(records[-1], End)


def complete_bytes(lines: Path) -> int:
    """Where the last complete line of a spool ends; 0 where there is none."""
    if not lines.exists():
        return 0
    with lines.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _save(pixels: NDArray[np.uint8], path: Path) -> OSError | None:
    """Write a picture; what the disk says where it does not take all of it, and nothing is left."""
    import numpy as np

    try:
        with path.open("wb") as file:
            np.save(file, pixels)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        return error
    return None
