"""Damaged and hostile files: each is named, with a remedy, and none costs much memory."""

from __future__ import annotations

import gzip
import io
import json
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gansweep import memory
from gansweep.data import pixels
from gansweep.data.npz import Npz
from gansweep.data.pixels import Picture, decode
from gansweep.errors import ConfigError

MB = 10**6
LIMIT = 400 * MB
"""What loading may add at its peak. One picture of the largest size that is taken, 67 million
pixels of 3 bytes, decoded and cut, is 400 MB; none here is as large."""


def png(width: int, height: int, *, rows: int = 0) -> bytes:
    """A PNG that declares this size and holds that many rows of black."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    packed = zlib.compress(bytes((width + 1) * rows))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*each) for each in ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    )


def jpeg(width: int, height: int) -> bytes:
    """A small JPEG whose header declares another size."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "jpeg")
    data = bytearray(stream.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def npy(shape: str, *, descr: str = "|u1", body: bytes = b"") -> bytes:
    """A NumPy file whose header says anything."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + body


def npz(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def picture(size: tuple[int, int], kind: str = "png", mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.effect_noise(size, 50).convert(mode).save(stream, kind)
    return stream.getvalue()


PICTURES = {
    "cut.png": (picture((64, 64))[:-200], "cannot be decoded"),
    "cut.jpg": (picture((64, 64), "jpeg")[:200], "cannot be decoded"),
    "huge.png": (png(60_000, 60_000), "too large a picture"),
    "bomb.png": (png(20_000, 20_000, rows=100), "too large a picture"),
    "short.png": (png(8_000, 8_000, rows=10)[:-20], "cannot be decoded"),
    "huge.jpg": (jpeg(65_500, 65_500), "too large a picture"),
    "huge.ppm": (b"P6 60000 60000 255\n" + bytes(100), "too large a picture"),
    "huge.gif": (b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(20), "picture"),
    "huge.bmp": (
        b"BM" + struct.pack("<IIIIiiHHIIIIII", 100, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6),
        "too large a picture",
    ),
    "text.webp": (b"no picture at all", "cannot be decoded"),
    "empty.tif": (b"", "cannot be decoded"),
}
"""Each in a folder of its own, beside a good one; what is said of it."""

NPZ = {
    "terabytes": (npz(x=npy("(1000000000000, 8, 8)", body=bytes(64))), "cannot be read"),
    "more than there is": (npz(x=npy("(400000, 28, 28)", body=bytes(784))), "cannot be read"),
    "too many to count": (npz(x=npy("(4611686018427387904, 8)", descr="<f8")), "array"),
    "negative": (npz(x=npy("(-5, 8, 8)", body=bytes(64))), "cannot be read"),
    "objects": (npz(x=npy("(3,)", descr="|O", body=b"cos\nsystem\n.")), "never unpickled"),
    "no header": (npz(x=b"\x93NUMPY\x09\x09"), "cannot be read"),
    "a header without end": (npz(x=b"\x93NUMPY\x02\x00\xff\xff\xff\xff{" + bytes(100)), "cannot"),
    "NaN": (npz(x=npy("(2, 2)", descr="<f4", body=struct.pack("<4f", 1, 2, np.nan, 4))), "NaN"),
}  # fmt: skip

IDX = {
    "huge": struct.pack(">4I", 0x803, 2**32 - 1, 28, 28),
    "a million": struct.pack(">4I", 0x803, 10**6, 28, 28) + bytes(784),
    "wide": struct.pack(">4I", 0x803, 3, 2**31, 2**31),
    "a bomb": gzip.compress(struct.pack(">4I", 0x803, 3, 28, 28) + bytes(100 * MB)),
}

CHILD = """
import json, re, resource, sys
from pathlib import Path
import torch
from gansweep.data.idx import Mnist
from gansweep.data.image_folder import ImageFolder
from gansweep.data.npz import Npz
from gansweep.errors import ConfigError
import PIL.Image, PIL.ImageOps

def status(name):
    return int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

parts = {"image": ImageFolder, "npz": Npz, "idx": Mnist}
# As a hard end; what is resident is measured below it.
resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + 2 * 1024**3,) * 2)
for kind, path in json.load(sys.stdin):
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    try:
        parts[kind](parts[kind].Settings(path=path)).load()
        said = ""
    except ConfigError as error:
        said = str(error)
    print(json.dumps([said, status("VmHWM") - before]))
"""


def test_each_is_named_with_a_remedy_within_bounded_memory(tmp_path: Path) -> None:
    cases: list[tuple[str, str]] = []
    expected: list[tuple[str, str]] = []
    for name, (content, words) in PICTURES.items():
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_bytes(content)
        (folder / "good.png").write_bytes(picture((40, 30)))
        cases.append(("image", str(folder)))
        expected.append((str(folder / name), words))
    for name, (content, words) in NPZ.items():
        file = tmp_path / f"{name.replace(' ', '_')}.npz"
        file.write_bytes(content)
        cases.append(("npz", str(file)))
        expected.append((str(file), words))
    for name, content in IDX.items():
        folder = tmp_path / name.replace(" ", "_")
        folder.mkdir()
        end = ".gz" if content[:2] == b"\x1f\x8b" else ""
        file = folder / f"train-images-idx3-ubyte{end}"
        file.write_bytes(content)
        (folder / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 3) + b"\1\2\3")
        cases.append(("idx", str(folder)))
        expected.append((str(file), "is no valid IDX file"))
    ended = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps(cases),
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(found) == len(expected) == len(PICTURES) + len(NPZ) + len(IDX) == 23
    for (said, peak), (file, words) in zip(found, expected, strict=True):
        assert said.startswith(f"{file}: "), said
        assert words in said
        assert peak < LIMIT, f"{peak / MB:.0f} MB: {said}"


def test_pictures_of_any_size_make_one_set_and_an_empty_class_is_none(tmp_path: Path) -> None:
    from gansweep.data.image_folder import ImageFolder

    for name, content in {
        "a/tall.png": picture((9, 70)),
        "a/grey.png": picture((40, 40), mode="L"),
        "b/clear.png": picture((33, 20), mode="RGBA"),
        "b/print.jpg": picture((50, 30), "jpeg", "CMYK"),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "empty").mkdir()
    samples = ImageFolder(ImageFolder.Settings(path=str(tmp_path), size=16)).load()
    assert tuple(samples.x.shape) == (4, 3, 16, 16)
    assert samples.class_names == ("a", "b")
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 0, 1, 1]


def test_an_archive_that_unpacks_to_more_than_half_of_what_is_free_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is unpacked; zeros of 20 MB are 20 kB in the file."""
    file = tmp_path / "zeros.npz"
    np.savez_compressed(file, x=np.zeros((20_000, 1000), np.float32)[:250], z=np.zeros(10))
    size = 1_000_000 + 128
    monkeypatch.setattr(memory, "available", lambda: 2 * size)
    assert Npz(Npz.Settings(path=str(file))).load().x.shape == (250, 1000)
    monkeypatch.setattr(memory, "available", lambda: 2 * size - 2)
    with pytest.raises(ConfigError, match=r"zeros\.npz: array x takes 0\.001 GB") as caught:
        Npz(Npz.Settings(path=str(file))).load()
    assert caught.value.problems[0].remedy
    monkeypatch.setattr(memory, "available", lambda: None)  # a system that does not tell
    assert Npz(Npz.Settings(path=str(file))).load().x.shape == (250, 1000)


def test_pictures_that_do_not_fit_are_refused_before_one_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gansweep.data.image_folder import ImageFolder

    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(picture((40, 40)))
    data = ImageFolder(ImageFolder.Settings(path=str(tmp_path), size=16))
    monkeypatch.setattr(memory, "available", lambda: 3 * 3 * 16 * 16)
    assert data.load().x.shape == (3, 3, 16, 16)
    monkeypatch.setattr(memory, "available", lambda: 3 * 3 * 16 * 16 - 1)
    monkeypatch.setattr(pixels, "decode", None)
    with pytest.raises(
        ConfigError, match=r"^data\.size: 3 images .* 2\.3e-06 GB .* free"
    ) as caught:
        data.load()
    assert "smaller size" in caught.value.problems[0].remedy


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    busy: list[int] = []
    square = pixels._square
    lock = pixels._large

    def noting(*arguments: Any) -> Any:
        busy.append(lock.locked())
        return square(*arguments)

    monkeypatch.setattr(pixels, "_square", noting)
    monkeypatch.setattr(pixels, "LARGE_PIXELS", 99)
    decode(Picture("p", picture((10, 10))), size=8, channels=1)
    decode(Picture("p", picture((9, 11))), size=8, channels=1)
    assert busy == [True, False]
    assert not lock.locked()
