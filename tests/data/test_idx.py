"""IDX files, true and false."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from gansweep.data.idx import FashionMnist, IdxImages, Mnist, read_idx
from gansweep.errors import ConfigError


def images(
    count: int = 3, *, magic: int = 0x803, side: int = 28, declared: int | None = None
) -> bytes:
    header = struct.pack(">4I", magic, count if declared is None else declared, side, side)
    return header + bytes(i % 251 for i in range(count * side * side))


def labels(values: bytes = b"\x07\x00\x09", *, magic: int = 0x801) -> bytes:
    return struct.pack(">2I", magic, len(values)) + values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(images())
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels())
    return tmp_path


def mnist(folder: Path, size: int = 28) -> Mnist:
    return Mnist(Mnist.Settings(path=str(folder), size=size))


def test_pixels_and_labels(folder: Path) -> None:
    samples = mnist(folder).load()
    expected = torch.arange(3 * 784).remainder(251).to(torch.uint8).reshape(3, 1, 28, 28)
    assert torch.equal(samples.x, expected)
    assert samples.labels is not None
    assert samples.labels.dtype == torch.int64
    assert samples.labels.tolist() == [7, 0, 9]
    assert samples.class_names == tuple("0123456789")


def test_packed_and_dotted_names(folder: Path) -> None:
    plain = mnist(folder).load()
    for kind in ("images-idx3", "labels-idx1"):
        file = folder / f"train-{kind}-ubyte"
        packed = folder / f"train-{kind.replace('-', '.')}-ubyte.gz"
        packed.write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert torch.equal(mnist(folder).load().x, plain.x)


def test_fashion_has_its_names(folder: Path) -> None:
    samples = FashionMnist(FashionMnist.Settings(path=str(folder))).load()
    assert len(samples.class_names) == 10
    assert samples.class_names[0] == "T-shirt/top"
    assert samples.class_names[9] == "Ankle boot"


def test_the_real_test_split(shared_mnist: Path) -> None:
    samples = Mnist(Mnist.Settings(path=str(shared_mnist), split="test")).load()
    assert samples.x.shape == (10_000, 1, 28, 28)
    assert samples.labels is not None
    # The published class counts of MNIST's test set.
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert samples.labels.bincount().tolist() == counts
    assert abs(samples.x.float().mean() / 255 - 0.1325) < 0.0005


def test_the_real_training_split(shared_mnist: Path) -> None:
    samples = mnist(shared_mnist).load()
    assert samples.x.shape == (60_000, 1, 28, 28)
    assert samples.labels is not None
    assert samples.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert abs(samples.x.float().mean() / 255 - 0.1307) < 0.0001


def test_resizing_has_a_cache_key_that_follows_the_files(folder: Path) -> None:
    assert mnist(folder).cache_key() is None
    assert mnist(folder, 32).load().x.shape == (3, 1, 32, 32)
    key = mnist(folder, 32).cache_key()
    assert key is not None
    assert key == mnist(folder, 32).cache_key()
    assert key != mnist(folder, 16).cache_key()
    (folder / "train-labels-idx1-ubyte").write_bytes(labels(b"\x01\x02\x03\x04"))
    assert key != mnist(folder, 32).cache_key()


FALSE_IMAGES = {
    "empty": (b"", "header has 0 of 16"),
    "short header": (images()[:15], "header has 15 of 16"),
    "truncated": (images()[:-1], "declares 2352 bytes, it holds 2351"),
    "too long": (images() + b"\0", "holds more"),
    "labels in place of images": (images(magic=0x801), "magic number is 0x00000801"),
    "floats": (images(magic=0xD03), "magic number"),
    "little-endian": (struct.pack("<4I", 0x803, 3, 28, 28) + bytes(2352), "magic number"),
    "other side": (images(side=32), "items of 32 x 32, not 28 x 28 .*npz"),
    "none": (images(0), "declares 0 items"),
    "huge count": (images(declared=2**32 - 1), "declares 4294967295 items"),
    "large count": (images(declared=1_000_000), "declares 784000000 bytes, it holds 2352"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("case", FALSE_IMAGES)
def test_false_image_files_are_named_and_cost_no_memory(
    folder: Path, case: str, packed: bool
) -> None:
    content, message = FALSE_IMAGES[case]
    file = folder / "train-images-idx3-ubyte"
    if packed:
        file.unlink()
        file = file.with_name(file.name + ".gz")
        content = gzip.compress(content)
    file.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=message) as caught:
            mnist(folder).load()
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert caught.value.problems[0].where == str(file)


@pytest.mark.parametrize("damage", ["cut", "flipped", "no gzip"])
def test_damaged_packing_is_named(folder: Path, damage: str) -> None:
    (folder / "train-images-idx3-ubyte").unlink()
    packed = bytearray(gzip.compress(images()))
    packed[len(packed) // 2] ^= 0xFF
    whole = gzip.compress(images())
    content = {"cut": whole[: len(whole) // 2], "flipped": bytes(packed), "no gzip": images()}
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(content[damage])
    with pytest.raises(ConfigError) as caught:
        mnist(folder).load()
    assert caught.value.problems[0].where == str(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (labels(b"\1\2"), "has 2 labels for the 3 images"),
        (labels(b"\1\2\x0a"), "has a label 10"),
        (labels(magic=0x803), "magic number"),
    ],
)
def test_false_label_files_are_named(folder: Path, content: bytes, message: str) -> None:
    file = folder / "train-labels-idx1-ubyte"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        mnist(folder).load()
    assert caught.value.problems[0].where == str(file)


def test_missing_files_and_folder_are_named(folder: Path) -> None:
    dataset: IdxImages = Mnist(Mnist.Settings(path=str(folder), split="test"))
    with pytest.raises(ConfigError, match="has no file t10k-images-idx3-ubyte"):
        dataset.load()
    with pytest.raises(ConfigError, match=r"^data\.path: .*nowhere is no folder"):
        mnist(folder / "nowhere").cache_key()


@pytest.mark.timeout(20, method="thread")
def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    """Nor is it said to be missing, unless the file is there under another name."""
    file = folder / "train-labels-idx1-ubyte"
    content = file.read_bytes()
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ConfigError, match=r"train-labels-idx1-ubyte: is no regular file"):
        mnist(folder).load()
    (folder / "train-labels.idx1-ubyte").write_bytes(content)
    assert len(mnist(folder).load()) == 3


def test_more_than_one_piece_is_read_whole(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, 3_000_001 // 784 * 784, np.uint8)
    file = tmp_path / "a"
    file.write_bytes(struct.pack(">4I", 0x803, len(values) // 784, 28, 28) + values.tobytes())
    np.testing.assert_array_equal(read_idx(file, item_shape=(28, 28)).ravel(), values)


@pytest.mark.parametrize("path", ["x" * 300, "~nobody.of.this.name/x"])
def test_a_path_that_the_system_refuses_is_named(path: str) -> None:
    """As one within a folder that is not ours."""
    with pytest.raises(ConfigError, match=rf"^data\.path: {path} is no folder"):
        Mnist(Mnist.Settings(path=path)).load()
