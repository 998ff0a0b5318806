"""Prepared samples: what is slow to load is decoded once a node and kept in a cache folder."""

from __future__ import annotations

import hashlib
import os
import socket
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from gansweep.data.base import Dataset, Samples

_FORMAT = "1"  # counts changes of what a cache file holds


def cache_folder() -> Path:
    """$GANSWEEP_CACHE, else the user's cache folder (~/.cache/gansweep on Linux).

    Files here can be deleted at any time, also while trials run.
    """
    if chosen := os.environ.get("GANSWEEP_CACHE"):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_dir  # training alone does without it

    return Path(user_cache_dir("gansweep"))


def prepare(dataset: Dataset) -> Samples:
    """All samples of the data set, from the cache where it has a `cache_key`.

    Of several processes one prepares and the others wait for it. A damaged cache file is made
    anew; a cache folder that cannot be used costs a warning and the time of loading. Raises
    ConfigError as the data set's `load` and `cache_key` do.
    """
    key = dataset.cache_key()
    if key is None:
        return dataset.load()
    file = cache_folder() / f"{_name(dataset, key)}.npz"
    # Without the lock: a file under its final name is complete.
    if (samples := _read(file)) is not None:
        return samples
    lock = FileLock(file.with_suffix(".lock"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:  # read-only, full, or a system without locks
        _warn_unusable(file.parent, error)
        return dataset.load()
    try:
        if (samples := _read(file)) is not None:
            return samples
        samples = dataset.load()
        try:
            _write(file, samples)
        except OSError as error:
            _warn_unusable(file.parent, error)
        return samples
    finally:
        lock.release()


def _name(dataset: Dataset, key: str) -> str:
    kind = type(dataset)
    identity = "\n".join((_FORMAT, kind.__module__, kind.__qualname__, key))
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def _read(file: Path) -> Samples | None:
    """The samples in a cache file; None where there is no file or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as archive:  # checks each array's CRC
            x = torch.from_numpy(archive["x"])
            labels = torch.from_numpy(archive["labels"]) if "labels" in archive.files else None
            names = tuple(str(name) for name in archive["class_names"])
    except OSError:  # none there, or none that can be read: the folder's trouble is told later
        return None
    except (ValueError, TypeError, KeyError, EOFError, AttributeError) as error:
        _warn_damaged(file, error)
        return None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError) as error:
        _warn_damaged(file, error)
        return None
    return Samples(x, labels, names)


def _write(file: Path, samples: Samples) -> None:
    """Writes beside the final name, then renames: a reader sees a whole file or none."""
    host = socket.gethostname()
    for abandoned in file.parent.glob(f"{file.stem}.{host}-*.tmp"):  # of a killed process
        abandoned.unlink(missing_ok=True)
    arrays = {"x": samples.x.numpy(), "class_names": np.array(samples.class_names, dtype=np.str_)}
    if samples.labels is not None:
        arrays["labels"] = samples.labels.numpy()
    temporary = file.with_name(f"{file.stem}.{host}-{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _warn_damaged(file: Path, error: Exception) -> None:
    warnings.warn(f"cache file {file} is damaged, making it anew: {error}", stacklevel=4)


def _warn_unusable(folder: Path, error: Exception) -> None:
    warnings.warn(
        f"cannot use the cache folder {folder}, every trial will decode the data itself: {error} "
        "(set GANSWEEP_CACHE to a folder that can be written)",
        stacklevel=3,
    )
