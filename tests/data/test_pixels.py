"""Decoding, cropping and resizing against pictures whose answer is known."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gansweep.data import pixels
from gansweep.data.pixels import Picture, decode, decode_all, resize_all
from gansweep.errors import ConfigError


def encoded(image: Image.Image, kind: str = "png", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_pixels_of_the_right_size_are_kept_exactly() -> None:
    original = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    picture = Picture("a", encoded(Image.fromarray(original)))
    np.testing.assert_array_equal(decode(picture, size=16, channels=3), original.transpose(2, 0, 1))


@pytest.mark.parametrize("tall", [False, True])
def test_the_centre_is_kept(tall: bool) -> None:
    """Three squares in a row, red green blue: only the green one remains."""
    row = np.zeros((32, 96, 3), np.uint8)
    row[:, :32, 0] = row[:, 32:64, 1] = row[:, 64:, 2] = 200
    image = Image.fromarray(row.transpose(1, 0, 2).copy() if tall else row)
    out = decode(Picture("a", encoded(image)), size=32, channels=3)
    np.testing.assert_array_equal(
        out, np.array([0, 200, 0])[:, None, None].repeat(32, 1).repeat(32, 2)
    )


def test_shrinking_is_antialiased() -> None:
    """A checkerboard of single pixels becomes its mean; nearest or bilinear points would not."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    out = resize_all(board[None, None], 8)
    assert out.shape == (1, 1, 8, 8)
    inner = out[0, 0, 1:-1, 1:-1].astype(float)
    assert np.abs(inner - 127.5).max() < 3


def test_resizing_equals_whole_resize_then_crop() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (32, 64, 3), np.uint8)
    whole = Image.fromarray(noise).resize((32, 16), Image.Resampling.LANCZOS)
    expected = np.asarray(whole)[:, 8:24].transpose(2, 0, 1).astype(int)
    out = decode(Picture("a", encoded(Image.fromarray(noise))), size=16, channels=3)
    assert np.abs(out.astype(int) - expected).max() <= 1


def test_transparency_is_laid_on_white() -> None:
    pixels_ = np.zeros((8, 8, 4), np.uint8)
    pixels_[:4] = (255, 0, 0, 255)  # above: opaque red; below: black, wholly transparent
    out = decode(Picture("a", encoded(Image.fromarray(pixels_))), size=8, channels=3)
    assert out[:, 0, 0].tolist() == [255, 0, 0]
    assert out[:, 7, 7].tolist() == [255, 255, 255]


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    out = decode(Picture("a", encoded(Image.fromarray(levels))), size=8, channels=1)
    np.testing.assert_allclose(out[0], levels / 257, atol=0.51)


def retagged(image: Image.Image, tags: dict[int, int]) -> bytes:
    """As TIFF, with other numbers in some of its tags."""
    content = bytearray(encoded(image, "tiff"))
    (at,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, at)
    entries = {struct.unpack_from("<H", content, at + 2 + 12 * i)[0]: i for i in range(count)}
    for tag, number in tags.items():
        entry = at + 2 + 12 * entries[tag]
        struct.pack_into("<I" if content[entry + 2] == 4 else "<H", content, entry + 8, number)
    return bytes(content)


WIDTH, BITS, PHOTOMETRIC = 256, 258, 262
SIGNED = {"tiffinfo": {339: 2}}


def test_a_tiffs_white_may_be_zero_and_of_twelve_bits() -> None:
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    negative = retagged(Image.fromarray(65535 - levels), {PHOTOMETRIC: 0})
    out = decode(Picture("a", negative), size=8, channels=1)
    np.testing.assert_allclose(out[0], levels / 257, atol=0.51)
    small = np.linspace(0, 4095, 64).astype(int)
    bits = "".join(f"{level:012b}" for level in small)
    packed = np.array([int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)], np.uint8)
    twelve = retagged(Image.fromarray(packed.reshape(8, 12)), {WIDTH: 8, BITS: 12})
    out = decode(Picture("a", twelve), size=8, channels=1)
    np.testing.assert_allclose(out[0], small.reshape(8, 8) * 255 / 4095, atol=0.51)


def png(pixels_: Any, key: tuple[int, ...], *, bits: int = 16) -> bytes:
    """Grey [H, W] or RGB [H, W, 3] of 16 bits, or rows of bytes, with a transparent colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    height, width = len(pixels_), pixels_.shape[1] * (8 // bits or 1)
    kind = 0 if pixels_.ndim == 2 else 2
    rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in pixels_)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*each)
        for each in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)),
            (b"tRNS", struct.pack(f">{len(key)}H", *key)),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        )
    )


def test_the_transparent_grey_of_sixteen_bits_is_white() -> None:
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    content = png(levels, (int(levels[2, 2]),))
    expected = levels / 257
    expected[2, 2] = 255
    for channels in (1, 3):
        out = decode(Picture("a", content), size=8, channels=channels)
        assert len(out) == channels
        np.testing.assert_allclose(out, expected[None].repeat(channels, 0), atol=0.51)


@pytest.mark.parametrize("bits", [2, 4])
def test_the_transparent_grey_of_few_bits_is_white(bits: int) -> None:
    packed = np.full((8, bits), 0b00_01_10_11 if bits == 2 else 0x12, np.uint8)
    out = decode(Picture("a", png(packed, (1,), bits=bits)), size=8, channels=1)
    assert out[0, 0].tolist() == ([0, 255, 170, 255] * 2 if bits == 2 else [255, 34] * 4)


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)
NO_RANGE: dict[str, tuple[bytes, str]] = {
    "32-bit integers": (encoded(Image.fromarray(GREY.astype(np.int32)), "tiff"), "mode I "),
    "16 bits, signed": (
        encoded(Image.fromarray(GREY.astype(np.uint16)), "tiff", **SIGNED), "mode I "
    ),
    "8 bits, signed": (encoded(Image.fromarray(GREY), "tiff", **SIGNED), "mode L "),
    "floats": (encoded(Image.fromarray(GREY.astype(np.float32)), "ppm"), "mode F "),
    "a colour of 16 bits": (
        png(np.full((8, 8, 3), 48 * 257, np.uint16), (48, 48, 48)), "mode RGB "
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_RANGE)
def test_pixels_that_would_be_guessed_are_refused(case: str) -> None:
    content, mode = NO_RANGE[case]
    with pytest.raises(ConfigError, match=f"my.file: cannot be decoded: ValueError.*{mode}"):
        decode(Picture("my.file", content), size=8, channels=1)


def test_exif_orientation_is_applied() -> None:
    half = np.zeros((8, 8), np.uint8)
    half[:, 4:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: right becomes below
    out = decode(Picture("a", encoded(Image.fromarray(half), exif=exif)), size=8, channels=1)
    assert out[0, :4].max() == 0
    assert out[0, 4:].min() == 255


def test_grey_and_colour_convert() -> None:
    red = Picture("a", encoded(Image.new("RGB", (8, 8), (255, 0, 0))))
    assert decode(red, size=8, channels=1)[0, 0, 0] == 76  # ITU-R 601: .299 * 255
    grey = Picture("a", encoded(Image.new("L", (8, 8), 9)))
    assert (decode(grey, size=8, channels=3) == 9).all()
    cases = 0
    for kind, mode in [
        ("gif", "P"),
        ("bmp", "RGB"),
        ("webp", "RGB"),
        ("tiff", "CMYK"),
        ("png", "1"),
    ]:
        out = decode(Picture(kind, encoded(Image.new(mode, (9, 12)), kind)), size=8, channels=3)
        assert out.shape == (3, 8, 8)
        cases += 1
    assert cases == 5


def test_the_grey_of_a_lab_picture_is_that_of_its_colour() -> None:
    lab = encoded(Image.new("LAB", (8, 8), (150, 10, 20)), "tiff")
    colour = decode(Picture("a", lab), size=8, channels=3)
    expected = Image.fromarray(colour.transpose(1, 2, 0)).convert("L")
    np.testing.assert_array_equal(decode(Picture("a", lab), size=8, channels=1)[0], expected)


@pytest.mark.parametrize("cut", [0, 10, 40, 100])
def test_damaged_pictures_are_named(cut: int) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
    for kind in ("png", "jpeg"):
        with pytest.raises(ConfigError, match=r"my\.file: cannot be decoded.*replace or remove"):
            decode(Picture("my.file", encoded(noise, kind)[:cut]), size=16, channels=3)


def test_floating_point_pixels_are_refused() -> None:
    image = Image.fromarray(np.zeros((8, 8), np.float32))
    with pytest.raises(ConfigError, match="no known range"):
        decode(Picture("a", encoded(image, "tiff")), size=8, channels=1)


def test_decompression_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Picture("bomb.png", encoded(Image.new("L", (100, 100))))
    monkeypatch.setattr(pixels, "MOST_PIXELS", 10_000)
    assert decode(image, size=8, channels=1).shape == (1, 8, 8)
    monkeypatch.setattr(pixels, "MOST_PIXELS", 9_999)
    with pytest.raises(ConfigError, match=r"bomb\.png: is too large.*100 x 100"):
        decode(image, size=8, channels=1)


def test_a_real_bomb_is_refused_before_it_is_decoded() -> None:
    """A PNG header of 60,000 x 60,000 with nothing behind it: the size alone must do."""
    small = encoded(Image.new("L", (1, 1)))
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    with pytest.raises(ConfigError, match="is too large a picture"):
        decode(Picture("bomb.png", bomb), size=8, channels=1)


def test_decode_all_keeps_the_order_over_many_batches() -> None:
    count = 600  # more than two batches of 256
    pictures = (
        Picture(str(i), encoded(Image.new("RGB", (8, 8), (i % 256, i // 256, 7)), "bmp"))
        for i in range(count)
    )
    out = decode_all(pictures, count=count, size=8, channels=3)
    assert out.shape == (count, 3, 8, 8)
    assert out.dtype == np.uint8
    assert [int(o[0, 0, 0]) + 256 * int(o[1, 0, 0]) for o in out] == list(range(count))


def test_decode_all_names_every_damaged_picture(tmp_path: Path) -> None:
    good = encoded(Image.new("L", (8, 8)))
    contents = [good, b"", good, b"no picture", good]
    with pytest.raises(ConfigError) as caught:
        decode_all(
            (Picture(f"p{i}", c) for i, c in enumerate(contents)), count=5, size=8, channels=1
        )
    assert [problem.where for problem in caught.value.problems] == ["p1", "p3"]


@pytest.mark.parametrize("count", [1, 3])
def test_decode_all_refuses_a_wrong_count(count: int) -> None:
    good = encoded(Image.new("L", (8, 8)))
    with pytest.raises(ValueError, match="zip"):
        decode_all((Picture("p", good) for _ in range(2)), count=count, size=8, channels=1)
