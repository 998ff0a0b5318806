"""Tensors that are computed once on a node and kept in the cache folder."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from gansweep.data.prepare import cache_folder

Tensors = dict[str, Tensor]

FORMAT = "1"
"""Counts changes of what a file holds."""


def kept(identity: str, make: Callable[[], Tensors]) -> Tensors:
    """What `make` gives, on the CPU, from the disk where it was made before under `identity`.

    Of several processes one makes it and the others wait. A damaged file is made anew; a folder
    that cannot be used costs a warning and the time of `make`.
    """
    name = hashlib.sha256(f"{FORMAT}\n{identity}".encode()).hexdigest()[:32]
    file = cache_folder() / "scores" / f"{name}.pt"
    if (found := _read(file)) is not None:  # without the lock: under its final name it is whole
        return found
    lock = FileLock(file.with_suffix(".lock"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:  # read-only, full, or a system without locks
        _warn(file.parent, error)
        return make()
    try:
        if (found := _read(file)) is not None:
            return found
        made = {key: value.cpu() for key, value in make().items()}
        try:
            _write(file, made)
        except OSError as error:
            _warn(file.parent, error)
        return made
    finally:
        lock.release()


def _read(file: Path) -> Tensors | None:
    try:
        tensors: Tensors = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:  # none there
        return None
    except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        warnings.warn(f"cache file {file} is damaged, making it anew: {error}", stacklevel=3)
        return None
    return tensors


def _write(file: Path, tensors: Tensors) -> None:
    temporary = file.with_name(f".{file.name}.{socket.gethostname()}-{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            torch.save(tensors, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _warn(folder: Path, error: Exception) -> None:
    warnings.warn(
        f"cannot use the cache folder {folder}, statistics of real samples are computed again: "
        f"{error} (set GANSWEEP_CACHE to a folder that can be written)",
        stacklevel=3,
    )
