"""Tensors that are computed once on a node and kept in the cache folder."""

from __future__ import annotations

import hashlib
import os
import socket
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from gansweep.cache import cache_folder
from gansweep.notes import Note

Tensors = dict[str, Tensor]

FORMAT = "3"
"""Counts changes of what a file holds."""


def kept(identity: str, make: Callable[[], Tensors], *, within: str = "") -> Tensors:
    """What `make` gives, on the CPU, from the disk where it was made before under `identity`.

    The files lie in the folder `within` of the cache: npz archives of plain arrays, each with its
    checksum. Of several processes one makes it and the others wait. A damaged file is made anew;
    a folder that cannot be used costs a Note and the time of `make`. Raises what `make` raises.
    """
    name = hashlib.sha256(f"{FORMAT}\n{identity}".encode()).hexdigest()[:32]
    file = cache_folder() / within / f"{name}.npz"
    if (found := _read(file)) is not None:  # without the lock: under its final name it is whole
        return found
    lock = FileLock(file.with_suffix(".lock"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:  # read-only, full, or a system without locks
        _warn_unusable(file.parent, error)
        return make()
    try:
        if (found := _read(file)) is not None:
            return found
        made = {key: value.cpu() for key, value in make().items()}
        try:
            _write(file, made)
        except (OSError, TypeError) as error:  # TypeError: of a type that numpy does not have
            _warn_unusable(file.parent, error)
        return made
    finally:
        lock.release()


def _read(file: Path) -> Tensors | None:
    """The tensors in a file; None where there is none or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as archive:  # checks each array's CRC
            return {key: torch.from_numpy(archive[key]) for key in archive.files}
    except OSError:  # none there, or none that can be read: the folder's trouble is told later
        return None
    except (ValueError, TypeError, KeyError, EOFError, AttributeError) as error:
        _warn_damaged(file, error)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError) as error:
        _warn_damaged(file, error)
    return None


def _write(file: Path, tensors: Tensors) -> None:
    """Writes beside the final name, then renames: a reader sees a whole file or none."""
    host = socket.gethostname()
    for abandoned in file.parent.glob(f"{file.stem}.{host}-*.tmp"):  # of a killed process
        abandoned.unlink(missing_ok=True)
    arrays = {key: value.numpy() for key, value in tensors.items()}
    temporary = file.with_name(f"{file.stem}.{host}-{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _warn_damaged(file: Path, error: Exception) -> None:
    warnings.warn(f"cache file {file} is damaged, making it anew: {error}", Note, stacklevel=4)


def _warn_unusable(folder: Path, error: Exception) -> None:
    warnings.warn(
        f"cannot use the cache folder {folder}, so that every trial loads its data and computes "
        f"their statistics itself: {error} (set GANSWEEP_CACHE to a folder that can be written)",
        Note,
        stacklevel=3,
    )
