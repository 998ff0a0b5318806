"""IDX: MNIST and Fashion-MNIST from the four files in which they are published."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray

from gansweep.counting import counted
from gansweep.data.base import Dataset, Samples
from gansweep.data.fingerprint import fingerprint
from gansweep.data.pixels import resize_all
from gansweep.data.settings import DataSettings
from gansweep.errors import ConfigError
from gansweep.settings import REQUIRED, setting

SIDE = 28
_MOST_IMAGES = 1_000_000  # a header that declares more is taken for damaged
_MOST_SIDE = 2**16  # nor are images as wide
_PIECE_BYTES = 1 << 20
_STEMS = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class IdxSettings(DataSettings):
    path: str = setting(REQUIRED, "folder of the IDX files, packed (.gz) or not")
    split: Literal["train", "test"] = setting("train", "60,000 or 10,000 images")
    size: int = setting(SIDE, "side of the images in pixels", ge=8, le=128)


class IdxImages(Dataset):
    """28 x 28 grey images of ten classes from `{train,t10k}-{images-idx3,labels-idx1}-ubyte`.

    x: uint8 [N, 1, size, size], 0 is background; labels: int64 [N]. At `size` 28 the pixels are
    the originals, else resized with PIL's Lanczos (antialiased). The files may end in .gz, and a
    dot in place of the second hyphen (`train-images.idx3-ubyte`) is understood.
    """

    Settings = IdxSettings
    class_names: ClassVar[tuple[str, ...]]

    @final
    def load(self) -> Samples:
        """One split. Raises ConfigError that names the folder or the file on bad input."""
        images, labels = self._files()
        pixels = read_idx(images, item_shape=(SIDE, SIDE))
        classes = read_idx(labels, item_shape=())
        if len(pixels) != len(classes):
            raise ConfigError.single(
                str(labels),
                f"has {counted(len(classes), 'label')} for the {counted(len(pixels), 'image')} of "
                f"{images.name}",
                "the two files must come from the same data set",
            )
        if classes.max() >= len(self.class_names):
            raise ConfigError.single(
                str(labels),
                f"has a label {classes.max()}, the classes are 0 to {len(self.class_names) - 1}",
                "use the image_folder or npz data set for other classes",
            )
        x = resize_all(pixels[:, None], self.settings.size)
        y = torch.from_numpy(classes.astype(np.int64))
        return Samples(torch.from_numpy(x), y, self.class_names)

    @property
    @final
    def held_out(self) -> Dataset | None:
        """The images to test."""
        if self.settings.split == "test":
            return None
        return type(self)(replace(self.settings, split="test"))

    @final
    def cache_key(self) -> str | None:
        """None at the original size, where reading is quick."""
        files = self._files()
        return None if self.settings.size == SIDE else fingerprint(self.settings, files)

    def _files(self) -> tuple[Path, Path]:
        s: IdxSettings = self.settings
        folder = Path(os.path.expanduser(s.path))
        if not os.path.isdir(folder):  # Path's own may raise
            raise ConfigError.single(
                "data.path", f"{folder} is no folder", "give the folder of the IDX files"
            )
        stem = _STEMS[s.split]
        return _find(folder, f"{stem}-images", "idx3"), _find(folder, f"{stem}-labels", "idx1")


@final
class Mnist(IdxImages):
    """Handwritten digits (LeCun, Cortes and Burges), 60,000 to train and 10,000 to test."""

    class_names = tuple(str(i) for i in range(10))


@final
class FashionMnist(IdxImages):
    """Clothes (Xiao, Rasul and Vollgraf 2017), 60,000 to train and 10,000 to test."""

    class_names = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )


def read_idx(file: Path, *, item_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A file of unsigned bytes in IDX format, packed where its name ends in .gz.

    Returns uint8 [N, *item_shape]. The header (big-endian: two zero bytes, type 8, number of
    dimensions, then each dimension) is checked before anything is allocated, and the memory used
    grows with what the file really holds. Raises ConfigError that names the file.
    """
    dimensions = 1 + len(item_shape)
    header_bytes = 4 + 4 * dimensions
    try:
        with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as stream:
            header = stream.read(header_bytes)
            if len(header) < header_bytes:
                raise _damaged(file, f"its header has {len(header)} of {header_bytes} bytes")
            magic, count, *shape = struct.unpack(f">{1 + dimensions}I", header)
            if magic != 0x0800 + dimensions:
                expected = f"{0x0800 + dimensions:#010x}"
                raise _damaged(file, f"its magic number is {magic:#010x}, not {expected}")
            if tuple(shape) != item_shape:
                found, wanted = (" x ".join(map(str, sides)) for sides in (shape, item_shape))
                if not 1 <= min(shape) <= max(shape) <= _MOST_SIDE:
                    raise _damaged(file, f"its header declares items of {found}")
                raise ConfigError.single(
                    str(file),
                    f"has items of {found}, not {wanted}",
                    "use the image_folder or npz data set for images of another size",
                )
            if not 1 <= count <= _MOST_IMAGES:
                raise _damaged(file, f"its header declares {count} items")
            declared = count * int(np.prod(item_shape, dtype=np.int64))
            body = bytearray()
            # In pieces, since read(declared) allocates all that a false header asks for; one byte
            # beyond the end is asked for, since a file that goes on is false as well.
            while len(body) <= declared:
                piece = stream.read(min(_PIECE_BYTES, declared + 1 - len(body)))
                if not piece:
                    break
                body += piece
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(file, f"{type(error).__name__}: {error}") from error
    if len(body) != declared:
        holds = "more" if len(body) > declared else str(len(body))
        raise _damaged(file, f"its header declares {declared} bytes, it holds {holds}")
    return np.frombuffer(body, np.uint8).reshape(count, *item_shape)


def _find(folder: Path, stem: str, kind: str) -> Path:
    names = (f"{stem}-{kind}-ubyte", f"{stem}.{kind}-ubyte")
    places = [folder / (name + ending) for name in names for ending in ("", ".gz")]
    if file := next(filter(os.path.isfile, places), None):  # a pipe would be waited for
        return file
    if other := next(filter(os.path.exists, places), None):
        raise ConfigError.single(str(other), "is no regular file", "put the IDX file in its place")
    raise ConfigError.single(
        str(folder),
        f"has no file {stem}-{kind}-ubyte or {stem}-{kind}-ubyte.gz",
        "data.path must be the folder that holds the IDX files",
    )


def _damaged(file: Path, what: str) -> ConfigError:
    return ConfigError.single(str(file), f"is no valid IDX file: {what}", "fetch the file again")
