"""Checkpoint files: whole or seen to be damaged, and loaded without running code.

A file is what `torch.save` writes, with its SHA-256 behind: torch itself finds a torn file, but
loads one with a wrong bit. `torch.load` opens these files as any other.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from pathlib import Path
from typing import IO, Any, Final, cast, final

import torch

from gansweep.drafts import keep, replacing
from gansweep.errors import ConfigError
from gansweep.trial_files import previous

log = logging.getLogger("gansweep")

FORMAT = 3
"""Version of the layout of a checkpoint."""

MARK: Final = b"gansweep"
"""Stands before the digest."""

_END = len(MARK) + hashlib.sha256().digest_size


class DamagedCheckpointError(Exception):
    """A checkpoint file that is not as it was written."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) to `path`: flushed, then renamed into place.

    Raises:
        OSError: the disk is full, say; what was at `path` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft, draft.open("wb") as file:
        digesting = _Digesting(file)
        torch.save({"format": FORMAT, **state}, cast("IO[bytes]", digesting))
        if digesting.refused:
            raise digesting.refused
        file.write(MARK + digesting.hash.digest())
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(OSError):  # some file systems do not let a folder be opened
        keep(path.parent)


def read_checkpoint(path: Path, *, place: str = "") -> dict[str, Any] | None:
    """The state at `path`, on the CPU; None where there is none.

    place: what messages name in its place, where `path` is a copy.

    Raises:
        DamagedCheckpointError: the file is torn or changed.
        ConfigError: it has another format.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            whole = size > _END and _digest(file, size - _END) == file.read(_END)
            if not whole:
                raise DamagedCheckpointError(f"{place or path} is torn or was changed")
            file.seek(0)
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    if state.get("format") != FORMAT:
        raise ConfigError.single(
            place or str(path),
            f"has checkpoint format {state.get('format')}, this version reads {FORMAT}",
            "train the trial anew, or use the version that wrote it",
        )
    return state


def on_host(state: Any) -> Any:
    """A copy of a state (dictionaries, lists, tensors, plain values) in this machine's memory."""
    match state:
        case torch.Tensor():
            return state.detach().to("cpu", copy=True)
        case dict():
            return {name: on_host(value) for name, value in state.items()}
        case list() | tuple():
            return type(state)(on_host(value) for value in state)
    return state


def keep_previous(path: Path) -> None:
    """Give the checkpoint at `path`, where there is one, the name under which it outlasts it."""
    if not path.exists():
        return
    try:
        with replacing(previous(path)) as draft:
            os.link(path, draft)
    except OSError:  # a file system without hard links
        path.replace(previous(path))


def read_newest(path: Path) -> dict[str, Any] | None:
    """The state at `path`, or where it is damaged or gone, the one before; None without both.

    A damaged one is reported in the log, and the work since the one before is done again. It is
    removed then, lest `keep_previous` put it in the place of the good one.
    """
    damaged = False
    for each in (path, previous(path)):
        try:
            state = read_checkpoint(each)
        except DamagedCheckpointError as error:
            log.warning("%s: training goes on from an earlier state", error)
            damaged = damaged or each == path
            continue
        if state is not None:
            if damaged:
                path.unlink(missing_ok=True)
            return state
    return None


@final
class _Digesting:
    """A file to write to that digests what passes.

    What the disk refuses is kept for later: torch's writer, ended by it, would raise an error of
    its own in its place.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.refused: OSError | None = None

    def write(self, data: bytes) -> int:
        if not self.refused:
            self.hash.update(data)
            try:
                self._file.write(data)
            except OSError as error:
                self.refused = error
        return len(data)

    def flush(self) -> None:
        if not self.refused:
            self._file.flush()


def _digest(file: IO[bytes], size: int) -> bytes:
    """The end that a whole file of `size` bytes before it has; the file then stands there."""
    found, left = hashlib.sha256(), size
    while left > 0 and (part := file.read(min(left, 1 << 20))):
        found.update(part)
        left -= len(part)
    return MARK + found.digest()
