"""Tables of small images as packages ship them: csv.gz, one image a row, its class at the end."""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gansweep.errors import ConfigError


def packaged_file(package: str, relative: str) -> Path:
    """The file `relative` inside an installed package, which is found but not imported.

    Raises ConfigError where the package or the file is missing.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder) / relative).is_file():
            return file
    raise ConfigError.single(
        f"{package}/{relative}",
        "is missing: this data set is part of that package",
        f"pip install --force-reinstall {package.replace('sklearn', 'scikit-learn')}",
    )


def read_pixel_table(file: Path, *, side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels int64 [N, 1, side, side] and classes int64 [N] of a csv.gz of integers 0 to 999.

    Whole-array arithmetic on the bytes: 5,000 images of 28 x 28 take a tenth of a second, where a
    csv reader takes one. Raises ConfigError that names the file.
    """
    try:
        text = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(file, str(error)) from error
    columns = side * side + 1
    ends = np.flatnonzero(text < ord("0"))  # commas and line ends
    lengths = np.diff(ends, prepend=-1) - 1
    if len(ends) == 0 or len(ends) % columns or ends[-1] != len(text) - 1:
        raise _damaged(file, f"is no table of {columns} columns")
    separators = text[ends].reshape(-1, columns)
    if lengths.min() < 1 or lengths.max() > 3 or text.max() > ord("9"):
        raise _damaged(file, "holds something other than integers of 1 to 3 digits")
    if (separators[:, -1] != ord("\n")).any() or (separators[:, :-1] != ord(",")).any():
        raise _damaged(file, f"has lines of other than {columns} columns")
    values = text[ends - 1].astype(np.int64) - ord("0")
    for place, power in ((2, 10), (3, 100)):
        longer = lengths >= place
        values[longer] += power * (text[ends[longer] - place].astype(np.int64) - ord("0"))
    table = values.reshape(-1, columns)
    return table[:, :-1].reshape(-1, 1, side, side), table[:, -1].copy()


def _damaged(file: Path, what: str) -> ConfigError:
    return ConfigError.single(str(file), f"is damaged: {what}", "reinstall the package it is in")
