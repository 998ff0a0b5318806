"""Pixels: encoded pictures and arrays of them become square uint8 images of one size.

One filter for everything, PIL's Lanczos, which is antialiased when it shrinks. Scores such as FID
move by several points between resize filters, so data of two filters must not be compared.
"""

from __future__ import annotations

import io
import itertools
import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gansweep import memory
from gansweep.errors import ConfigError, Problem

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

MOST_PIXELS = 2**26
"""Pictures of more pixels than this (67 million) are refused: they are decompression bombs."""

LARGE_PIXELS = 2**23
"""Pictures of more pixels than this (8 million) are decoded one at a time."""

_large = threading.Lock()

# Formats and modes of more than 8 bits whose range PIL makes 16 bits, or a TIFF's own.
_WIDE = {
    ("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B"), ("JPEG2000", "I;16"), ("PPM", "I"),
}  # fmt: skip
_STEPS = {"L;2": 85, "L;4": 17}  # of 8 bits, from one grey to the next
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of a TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2  # of the last two; PIL sees to the first in pixels of 8 bits

_AT_ONCE = 256  # pictures held encoded at a time
_MOST_PROBLEMS = 20  # damaged pictures listed before giving up


@dataclass(frozen=True)
class Picture:
    """One encoded picture: its file or bytes, and what to call it in an error."""

    where: str
    content: Path | bytes


def decode_all(
    pictures: Iterable[Picture], *, count: int, size: int, channels: int
) -> NDArray[np.uint8]:
    """Decodes `count` pictures on a pool of threads; uint8 [count, channels, size, size].

    The result is allocated once; beside it only a few pictures are in memory at a time.
    Raises ConfigError that names every damaged picture (at most 20 and those beside them).
    """
    out = empty(count, channels, size)
    problems: list[Problem] = []
    indexed = zip(range(count), pictures, strict=True)
    with _pool() as pool:
        while batch := list(itertools.islice(indexed, _AT_ONCE)):

            def place(item: tuple[int, Picture]) -> Problem | None:
                index, picture = item
                try:
                    out[index] = decode(picture, size=size, channels=channels)
                except ConfigError as error:
                    return error.problems[0]
                return None

            problems += [found for found in pool.map(place, batch) if found is not None]
            if len(problems) >= _MOST_PROBLEMS:
                break
    if problems:
        raise ConfigError(problems)
    return out


def decode(picture: Picture, *, size: int, channels: int) -> NDArray[np.uint8]:
    """One picture as uint8 [channels, size, size].

    The shorter side is resized to `size`, the centre is kept. EXIF orientation is applied,
    transparency is laid on white, greys of 12 and 16 bits are scaled to 8, of an animation the
    first frame is taken. Raises ConfigError that names the picture.
    """
    from PIL import Image, ImageOps

    content = picture.content
    try:
        if isinstance(content, Path) and not S_ISREG(content.stat().st_mode):
            raise OSError("is no regular file")  # a pipe would be waited for
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            large = image.width * image.height > LARGE_PIXELS
            with _large if large else nullcontext():
                black_and_white = _black_and_white(image)  # the upright one knows no format
                _widen_transparent(image)
                upright = ImageOps.exif_transpose(image)
                return _square(_opaque(upright, channels, *black_and_white), size)
    except Image.DecompressionBombError as error:
        raise ConfigError.single(
            picture.where,
            f"is too large a picture: {error}",
            f"scale it down to at most {MOST_PIXELS} pixels, or remove it",
        ) from error
    except Exception as error:  # a decoder of untrusted bytes may raise anything
        raise ConfigError.single(
            picture.where,
            f"cannot be decoded: {type(error).__name__}: {error}",
            "the picture is damaged or of an unknown kind: replace or remove it",
        ) from error


def resize_all(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Grey images uint8 [N, 1, H, H] at [N, 1, size, size]; the same pixels where H is `size`."""
    if images.shape[2:] == (size, size):
        return images
    from PIL import Image

    out = empty(len(images), 1, size)

    def place(indices: range) -> None:
        for i in indices:
            out[i] = _square(Image.fromarray(images[i, 0]), size)

    starts = range(0, len(images), _AT_ONCE)
    with _pool() as pool:
        list(pool.map(place, (range(s, min(s + _AT_ONCE, len(images))) for s in starts)))
    return out


def empty(count: int, channels: int, size: int) -> NDArray[np.uint8]:
    """Room for the images, uint8 [count, channels, size, size]; ConfigError where there is none."""
    need, room = count * channels * size * size, memory.available()
    try:
        if room is not None and need > room:  # the system would promise more than it has
            raise MemoryError
        return np.empty((count, channels, size, size), np.uint8)
    except MemoryError as error:
        free = "" if room is None else f", and {room / 1e9:.2g} GB are free"
        raise ConfigError.single(
            "data.size",
            f"{count} images of {channels} x {size} x {size} take {need / 1e9:.2g} GB{free}",
            "use a smaller size or fewer images",
        ) from error


def _black_and_white(image: ImageFile) -> tuple[int, int]:
    """Their levels in a picture that was just opened, where it is one of more than 8 bits.

    Raises ValueError where the file does not tell them, or PIL does not.
    """
    tags = getattr(image, "tag_v2", {})
    wide = image.mode.startswith(("I", "F")) and (image.format, image.mode) not in _WIDE
    if wide or _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        raise ValueError(
            f"signed, 32-bit or floating point pixels (mode {image.mode} of {image.format}) have "
            "no known range: save them in 8 bits, or 16 without a sign"
        )
    most = 2 ** tags.get(_BITS, (16,))[0] - 1
    return (most, 0) if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else (0, most)


def _widen_transparent(image: ImageFile) -> None:
    """Make a PNG's transparent colour one of 8 bits, as PIL makes the pixels.

    Raises ValueError where it was of 16, of which PIL takes the low ones.
    """
    if image.format == "PNG" and "transparency" in image.info:
        raw = image.tile[0].args
        if raw == "RGB;16B":
            raise ValueError("a transparent colour of 16 bits (mode RGB of PNG): save it in 8 bits")
        if raw in _STEPS:
            image.info["transparency"] *= _STEPS[raw]


def _opaque(image: Image, channels: int, black: int, white: int) -> Image:
    """The picture as 8-bit grey (1 channel) or RGB (3), transparency laid on white.

    black, white: of a picture of more than 8 bits, their levels.
    """
    from PIL import Image

    if image.mode.startswith("I"):  # convert("L") would clip, not scale
        wide = np.asarray(image).astype(np.int64)
        most = abs(white - black)
        grey = (abs(wide - black) * 255 + most // 2) // most
        grey[wide == image.info.get("transparency")] = 255
        image = Image.fromarray(grey.astype(np.uint8))
    if image.has_transparency_data:
        front = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", front.size, "white"), front)
    if image.mode == "LAB":  # which PIL converts to RGB alone
        image = image.convert("RGB")
    return image.convert({1: "L", 3: "RGB"}[channels])


def _square(image: Image, size: int) -> NDArray[np.uint8]:
    """The centre square of an L or RGB picture at `size`, uint8 [C, size, size]."""
    from PIL import Image

    width, height = image.size
    if (width, height) != (size, size):
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        # Resizing within a box is resizing the whole and cropping, in one pass.
        image = image.resize(
            (size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side)
        )
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _pool() -> ThreadPoolExecutor:
    """PIL decodes and resizes outside the interpreter's lock, so that threads do help."""
    return ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
