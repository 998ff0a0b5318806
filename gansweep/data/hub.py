"""A Hugging Face data set of pictures, from the hub or from local files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from gansweep.data.base import Dataset, Samples
from gansweep.data.fingerprint import fingerprint
from gansweep.data.pixels import Picture, decode_all
from gansweep.data.settings import DataSettings
from gansweep.errors import ConfigError, nearest
from gansweep.settings import REQUIRED, setting

_ROWS_AT_ONCE = 256


@final
class Hub(Dataset):
    """Pictures of one split, read with the package `datasets` (extra `hub`).

    x: uint8 [N, channels, size, size]; the shorter side is resized to `size` with PIL's Lanczos
    (antialiased), the centre is kept.
    Labels, by the type of their column: ClassLabel, integers from 0 or strings (in the order of
    their names): classes, int64 [N]; lists of K floats: a vector condition, float32 [N, K]. Where
    some are missing (None, or -1) there are none, and it is a ConfigError to name the column.
    """

    @dataclass(frozen=True)
    class Settings(DataSettings):
        path: str = setting(
            REQUIRED, "hub id, local folder, or a format (parquet, imagefolder) with data_files"
        )
        subset: str = setting("", "configuration of the data set; empty: its default")
        revision: str = setting("", "commit, tag or branch on the hub; empty: the newest")
        data_files: list[str] = setting([], "files or patterns to read, where path is a format")
        split: str = setting("train", "split, or a slice such as train[:1000]")
        image_column: str = setting("", "column of the pictures; empty: the only one there is")
        label_column: str = setting("", "column of the labels; empty: the only ClassLabel, if any")
        size: int = setting(32, "side of the images in pixels", ge=8, le=128)
        channels: Literal[1, 3] = setting(3, "1: grey, 3: RGB")

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._table: Any = None

    def load(self) -> Samples:
        """All rows. Raises ConfigError that names the key, or the row of a damaged picture."""
        s: Hub.Settings = self.settings
        table = self._open()
        column = self._image_column(table)
        labels, names = self._labels(table)
        where = f"{s.path}[{s.split}].{column}"
        pictures = _pictures(table, column, where)
        x = decode_all(pictures, count=len(table), size=s.size, channels=s.channels)
        return Samples(torch.from_numpy(x), labels, names)

    def cache_key(self) -> str:
        """The fingerprint that `datasets` gives the files (it holds their times), and settings."""
        return fingerprint(self.settings, [], extra=str(self._open()._fingerprint))

    def _open(self) -> Any:
        if self._table is not None:
            return self._table
        s: Hub.Settings = self.settings
        try:
            import datasets
        except ImportError as error:
            raise ConfigError.single(
                "data.name",
                "hub needs the package datasets, which is not installed",
                'pip install "gansweep[hub]"',
            ) from error
        try:
            table = datasets.load_dataset(
                os.path.expanduser(s.path),
                name=s.subset or None,
                revision=s.revision or None,
                data_files=[os.path.expanduser(file) for file in s.data_files] or None,
                split=s.split,
            )
        except Exception as error:  # the hub, the network and a dozen readers may raise anything
            raise ConfigError.single(
                "data.path",
                f"cannot load {s.path!r}, split {s.split!r}: {type(error).__name__}: {error}",
                "check path, subset, split and data_files, and that the hub can be reached",
            ) from error
        if len(table) == 0:
            raise ConfigError.single("data.split", f"{s.split!r} of {s.path!r} has no rows")
        self._table = table
        return table

    def _image_column(self, table: Any) -> str:
        import datasets

        wanted: str = self.settings.image_column
        images: list[str] = [
            name for name, kind in table.features.items() if isinstance(kind, datasets.Image)
        ]
        if wanted in images:
            return wanted
        if wanted:
            raise ConfigError.single(
                "data.image_column", f"{wanted!r} is no column of pictures", nearest(wanted, images)
            )
        if len(images) == 1:
            return images[0]
        raise ConfigError.single(
            "data.image_column",
            f"{self.settings.path!r} has {len(images)} columns of pictures",
            f"choose one of {', '.join(images)}"
            if images
            else f"its columns are {', '.join(table.column_names)}",
        )

    def _labels(self, table: Any) -> tuple[Tensor | None, tuple[str, ...]]:
        import datasets

        column: str = self.settings.label_column
        asked_for = bool(column)
        if not asked_for:
            classes = [
                n for n, kind in table.features.items() if isinstance(kind, datasets.ClassLabel)
            ]
            if len(classes) != 1:
                return None, ()
            column = classes[0]
        if column not in table.column_names:
            raise ConfigError.single(
                "data.label_column", f"no column {column!r}", nearest(column, table.column_names)
            )
        values = list(table.select_columns([column])[column])
        if not asked_for and any(value is None or value < 0 for value in values):
            return None, ()
        kind = table.features[column]
        names = tuple(kind.names) if isinstance(kind, datasets.ClassLabel) else ()
        if all(isinstance(value, str) for value in values):
            names = tuple(sorted(set(values)))
            index = {name: i for i, name in enumerate(names)}
            values = [index[value] for value in values]
        return self._tensor(column, values), names

    def _tensor(self, column: str, values: list[Any]) -> Tensor:
        """int64 [N] of whole numbers from 0, or float32 [N, K] of lists of finite floats."""
        try:
            array = np.asarray(values)
        except ValueError:  # lists of several lengths
            array = np.empty(0, object)
        if array.ndim == 1 and array.dtype.kind in "iub" and array.min() >= 0:
            return torch.from_numpy(array.astype(np.int64))
        if array.ndim == 2 and array.dtype.kind == "f" and np.isfinite(array).all():
            return torch.from_numpy(array.astype(np.float32))
        raise ConfigError.single(
            "data.label_column",
            f"column {column!r} holds labels that are missing, negative or of an unknown kind",
            "labels are whole numbers from 0, strings, or lists of K floats; none may be missing",
        )


def _pictures(table: Any, column: str, where: str) -> Iterator[Picture]:
    """The pictures still encoded (bytes or a file), in the order of the rows."""
    import datasets

    raw = table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    for start in range(0, len(raw), _ROWS_AT_ONCE):
        for i, item in enumerate(raw[start : start + _ROWS_AT_ONCE][column]):
            row = f"{where}, row {start + i}"
            cell = item or {"bytes": None, "path": None}
            content = cell["path"] if cell["bytes"] is None else cell["bytes"]
            if content is None:
                raise ConfigError.single(row, "has no picture", "filter such rows out")
            yield Picture(row, Path(content) if isinstance(content, str) else content)
