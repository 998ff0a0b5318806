"""One .npz file of arrays: images or vectors `x`, and optionally a condition `y`."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gansweep import memory
from gansweep.counting import counted
from gansweep.data.base import Dataset, Samples
from gansweep.data.settings import DataSettings
from gansweep.errors import ConfigError
from gansweep.settings import REQUIRED, setting

_MOST_CLASSES = 100_000

_AT_ONCE = 2**16  # numbers that are checked and rounded at a time

_UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, MemoryError, OverflowError, NotImplementedError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@final
class Npz(Dataset):
    """Arrays saved by `numpy.savez(path, x=..., y=...)`; nothing is ever unpickled.

    `x`, by its type and shape:
      uint8 [N, H, W] or with 1 or 3 channels, last (NHWC) or second (NCHW): images;
      floats of the same shapes: images, in [0, 1] where no value is negative, else in [-1, 1];
      rounded to uint8;
      floats [N, D]: vectors, as float32.
    `y`, where there is one:
      integers or booleans [N], from 0: classes; floats [N, K]: a vector condition, as float32.

    A shape that can be read as both NHWC and NCHW, other types, values out of range, NaN, infinite
    values and pickled objects are ConfigErrors.
    """

    @dataclass(frozen=True)
    class Settings(DataSettings):
        path: str = setting(REQUIRED, "the .npz file")

    def load(self) -> Samples:
        """All samples. Raises ConfigError that names the file and the array."""
        file = Path(os.path.expanduser(self.settings.path))
        arrays = _read(file)
        if "x" not in arrays:
            raise ConfigError.single(
                str(file), "has no array called x", f"it has: {', '.join(arrays) or 'none'}"
            )
        x = _samples(file, arrays["x"])
        y = arrays.get("y")
        return Samples(x, None if y is None else _condition(file, y, len(x)))


def _read(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays x and y, and of others only the names (as empty arrays)."""
    if not os.path.isfile(file):  # Path's own may raise
        kind = "no regular file" if os.path.exists(file) else "no file"
        raise ConfigError.single("data.path", f"{file} is {kind}", "give an existing .npz file")
    name = ""
    try:
        if not zipfile.is_zipfile(file):
            raise ValueError("not an archive of arrays")
        with np.load(file, allow_pickle=False) as archive:
            found: dict[str, NDArray[Any]] = {}
            for name in archive.files:
                if name in ("x", "y"):
                    _check_size(file, name, archive)
                    found[name] = archive[name]
                else:
                    found[name] = np.empty(0)
            return found
    except _UNREADABLE as error:
        if "allow_pickle" in str(error):
            raise ConfigError.single(
                str(file),
                f"array {name} holds Python objects, which are never unpickled",
                "save plain numbers, all rows of one length",
            ) from error
        raise ConfigError.single(
            str(file),
            f"cannot be read{f' (array {name})' if name else ''}: {error}",
            "save it again with numpy.savez(path, x=..., y=...)",
        ) from error


def _check_size(file: Path, name: str, archive: Any) -> None:
    """ConfigError where an array, unpacked, would take more than half of the memory that is left.

    What the archive says of it is no promise of it, but nothing beyond is ever unpacked.
    """
    room, size = memory.available(), archive.zip.getinfo(f"{name}.npy").file_size
    if room is not None and size > room / 2:
        raise ConfigError.single(
            str(file),
            f"array {name} takes {size / 1e9:.3g} GB unpacked, and {room / 1e9:.3g} GB are free",
            "save fewer or smaller samples, images as uint8; where it should be small, the file is "
            "damaged",
        )


def _samples(file: Path, x: NDArray[Any]) -> Tensor:
    if x.size == 0:
        raise ConfigError.single(str(file), f"array x is empty, its shape is {x.shape}")
    if x.dtype.kind == "f":
        _check_finite(file, "x", x)
        return _float32(file, "x", x) if x.ndim == 2 else _as_images(file, x)
    if x.dtype == np.uint8:
        return _as_images(file, x)
    raise ConfigError.single(
        str(file),
        f"array x has type {x.dtype}",
        "save images as uint8, or float, and vectors as float: x.astype(...)",
    )


def _as_images(file: Path, x: NDArray[Any]) -> Tensor:
    """uint8 [N, C, H, W] from bytes or floats [N, H, W], NHWC or NCHW."""
    last, second = x.ndim == 4 and x.shape[3] in (1, 3), x.ndim == 4 and x.shape[1] in (1, 3)
    if last and second:
        raise ConfigError.single(
            str(file),
            f"array x has shape {x.shape}, whose channels may be last or second",
            "save one-channel images as [N, H, W], others at another size",
        )
    if x.ndim != 3 and not last and not second:
        raise ConfigError.single(
            str(file),
            f"array x has type {x.dtype} and shape {x.shape}",
            "images are [N, H, W], [N, H, W, C] or [N, C, H, W] with C 1 or 3; "
            "vectors are floats [N, D]",
        )
    x = _to_bytes(file, x) if x.dtype.kind == "f" else x
    images = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2) if last else x
    return torch.from_numpy(np.ascontiguousarray(images))


def _to_bytes(file: Path, x: NDArray[Any]) -> NDArray[np.uint8]:
    """Float images in [0, 1], or in [-1, 1] where any value is negative, as uint8."""
    low, high = float(x.min()), float(x.max())
    if low < -1 or high > 1:
        raise ConfigError.single(
            str(file),
            f"array x holds float images from {low:.9g} to {high:.9g}",
            "scale them to [0, 1] or [-1, 1], or save 0..255 as uint8",
        )
    least, scale = (0, 255) if low >= 0 else (-1, 127.5)
    images = np.empty_like(x, np.uint8)
    for floats, rounded in zip(_pieces(x), _pieces(images), strict=True):
        rounded[:] = np.rint((floats - np.float32(least)) * np.float32(scale))
    return images


def _condition(file: Path, y: NDArray[Any], count: int) -> Tensor:
    if y.ndim == 0 or len(y) != count:
        raise ConfigError.single(
            str(file),
            f"array y has shape {y.shape} for {counted(count, 'sample')}",
            "one row a sample",
        )
    if y.ndim == 1 and y.dtype.kind in "iub":
        if y.min() < 0 or y.max() >= _MOST_CLASSES:
            raise ConfigError.single(
                str(file),
                f"array y has classes from {y.min()} to {y.max()}",
                "number the classes 0, 1, 2, ...",
            )
        return torch.from_numpy(y.astype(np.int64))
    if y.ndim == 2 and y.shape[1] > 0 and y.dtype.kind == "f":
        _check_finite(file, "y", y)
        return _float32(file, "y", y)
    raise ConfigError.single(
        str(file),
        f"array y has type {y.dtype} and shape {y.shape}",
        "classes are integers [N], a vector condition is floats [N, K]",
    )


def _check_finite(file: Path, name: str, values: NDArray[Any]) -> None:
    bad = values.size - sum(int(np.count_nonzero(np.isfinite(piece))) for piece in _pieces(values))
    if bad:
        raise ConfigError.single(
            str(file),
            f"array {name} has {counted(bad, 'value')} of NaN or infinity",
            "remove those samples",
        )


def _pieces(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Views of an array's numbers as they lie in memory, few enough to be worked on at once."""
    flat = values.ravel(order="K")
    return (flat[start : start + _AT_ONCE] for start in range(0, flat.size, _AT_ONCE))


def _float32(file: Path, name: str, values: NDArray[Any]) -> Tensor:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32, copy=False)
    _check_finite(file, name, narrow)  # a float64 beyond 3.4e38 has become infinite
    return torch.from_numpy(narrow)
