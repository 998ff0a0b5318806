"""Arrays of every kind, understood or refused."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gansweep.data.base import Samples, to_float
from gansweep.data.npz import Npz
from gansweep.errors import ConfigError

RNG = np.random.default_rng(0)
BYTES: NDArray[np.uint8] = RNG.integers(0, 256, (5, 6, 7, 3), np.uint8)
VECTORS = RNG.normal(size=(5, 4))


def load(folder: Path, **arrays: Any) -> Samples:
    file = folder / "data.npz"
    np.savez(file, **arrays)
    return Npz(Npz.Settings(path=str(file))).load()


def test_image_layouts(tmp_path: Path) -> None:
    expected = torch.from_numpy(BYTES.transpose(0, 3, 1, 2).copy())
    cases: list[tuple[NDArray[np.uint8], torch.Tensor]] = [
        (BYTES, expected),
        (BYTES.transpose(0, 3, 1, 2), expected),
        (BYTES[..., 0], expected[:, :1]),
        (BYTES[..., :1], expected[:, :1]),
        (BYTES.transpose(0, 3, 1, 2)[:, :1], expected[:, :1]),
    ]
    for array, wanted in cases:
        samples = load(tmp_path, x=array)
        assert torch.equal(samples.x, wanted)
        assert samples.x.dtype == torch.uint8
        assert samples.x.is_contiguous()
        assert samples.labels is None
    assert len(cases) == 5


@pytest.mark.parametrize("shape", [(5, 3, 8, 3), (5, 1, 8, 1), (5, 3, 8, 1), (5, 1, 3, 3)])
def test_ambiguous_layouts_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="channels may be last or second"):
        load(tmp_path, x=np.zeros(shape, np.uint8))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_float_images_become_bytes(tmp_path: Path, kind: type[Any]) -> None:
    levels = np.arange(256).reshape(1, 16, 16)
    unit = load(tmp_path, x=(levels / 255).astype(kind)).x
    signed = load(tmp_path, x=(levels / 127.5 - 1).astype(kind)).x
    slack = 1 if kind is np.float16 else 0
    assert (unit.int() - torch.from_numpy(levels)).abs().max() <= slack
    assert (signed.int() - torch.from_numpy(levels)).abs().max() <= slack
    # and back: what the discriminator sees is what was saved in [-1, 1]
    assert np.abs(to_float(signed)[0, 0].numpy() - (levels[0] / 127.5 - 1)).max() < 0.008


def test_vectors_and_conditions(tmp_path: Path) -> None:
    samples = load(tmp_path, x=VECTORS, y=np.array([2, 0, 1, 1, 0], np.uint8), note=np.ones(9))
    np.testing.assert_array_equal(samples.x.numpy(), VECTORS.astype(np.float32))
    assert samples.x.dtype == torch.float32
    assert samples.labels is not None
    assert samples.labels.dtype == torch.int64
    assert samples.labels.tolist() == [2, 0, 1, 1, 0]
    assert samples.spec.condition is not None
    assert samples.spec.condition.size == 3

    samples = load(tmp_path, x=BYTES, y=VECTORS)
    assert samples.labels is not None
    assert samples.labels.dtype == torch.float32
    assert samples.labels.shape == (5, 4)
    assert samples.spec.condition is not None
    assert (samples.spec.condition.kind, samples.spec.condition.size) == ("vector", 4)


def spoilt(array: NDArray[Any], value: float) -> NDArray[Any]:
    copy = array.copy()
    copy[1, 2] = value
    return copy


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "NaN": ({"x": spoilt(VECTORS, np.nan)}, "array x has 1 value of NaN"),
    "infinite": ({"x": spoilt(VECTORS, -np.inf)}, "array x has 1 value of NaN"),
    "float64 beyond float32": ({"x": spoilt(VECTORS, 1e300)}, "array x has 1 value of"),
    "NaN image": ({"x": np.full((2, 8, 8), np.nan)}, "array x has 128 values"),
    "NaN condition": ({"x": VECTORS, "y": spoilt(VECTORS, np.nan)}, "array y has 1 value of"),
    "floats of 0..255": ({"x": BYTES.astype(np.float32)}, "float images from 0 to 255"),
    "below -1": ({"x": np.full((2, 8, 8), -1.01)}, "float images from -1.01"),
    "int64": ({"x": BYTES.astype(np.int64)}, "array x has type int64"),
    "flat bytes": ({"x": BYTES.reshape(5, -1)}, "array x has type uint8 and shape"),
    "four channels": ({"x": np.zeros((2, 8, 8, 4), np.uint8)}, "C 1 or 3"),
    "four channels of floats": ({"x": np.zeros((2, 8, 8, 4))}, "type float64 and shape"),
    "one dimension": ({"x": np.arange(5.0)}, r"type float64 and shape \(5,\)"),
    "just above 1": ({"x": np.full((2, 8, 8), 1 + 1e-7)}, "images from 1.0000001 to"),
    "empty": ({"x": np.zeros((0, 8, 8), np.uint8)}, "is empty"),
    "no x": ({"images": BYTES}, "no array called x.*it has: images"),
    "objects": ({"x": np.array([{}, None], object)}, "array x holds Python objects"),
    "object labels": ({"x": VECTORS, "y": np.array(list("abcde"), object)}, "array y holds Python"),
    "text labels": ({"x": VECTORS, "y": np.array(list("abcde"))}, "array y has type <U1"),
    "negative class": ({"x": VECTORS, "y": np.arange(5) - 1}, "classes from -1 to 3"),
    "absurd class": ({"x": VECTORS, "y": np.arange(5) * 10**6}, "classes from 0 to 4000000"),
    "float classes": ({"x": VECTORS, "y": np.zeros(5)}, r"type float64 and shape \(5,\)"),
    "integer table": ({"x": VECTORS, "y": np.zeros((5, 2), int)}, "array y has type int64"),
    "too few labels": ({"x": VECTORS, "y": np.zeros(4, int)}, r"shape \(4,\) for 5 samples"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    arrays, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, **arrays)
    assert caught.value.problems[0].where == str(tmp_path / "data.npz")


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("sprung"),))


def test_other_files_are_refused_and_nothing_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    load(tmp_path, x=VECTORS)
    whole = (tmp_path / "data.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[200] ^= 0xFF  # a byte of the numbers: only the CRC can tell
    contents = [b"", b"text", whole[:100], whole[:-30], bytes(flipped), pickle.dumps(Trap())]
    for content in contents:
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(ConfigError, match=r"bad\.npz: cannot be read"):
            Npz(Npz.Settings(path="bad.npz")).load()
    with pytest.raises(ConfigError, match="Python objects"):
        load(tmp_path, x=np.array([Trap()], object))
    assert not (tmp_path / "sprung").exists()
    assert len(contents) == 6


def test_floats_take_little_more_memory_than_they_have(tmp_path: Path) -> None:
    """What is checked and rounded goes by in pieces."""
    cases = 0
    for shape in ((500, 4000), (200, 10, 1000), (200, 100, 100, 1), (200, 1, 100, 100)):
        for order in ("C", "F"):
            x = np.linspace(-1, 1, 2_000_000, dtype=np.float32).reshape(shape, order=order)
            np.savez(tmp_path / "data.npz", x=x)
            tracemalloc.start()
            try:
                loaded = Npz(Npz.Settings(path=str(tmp_path / "data.npz"))).load().x
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak < 1.6 * x.nbytes, f"{shape}: {peak / x.nbytes:.2f} times"
            expected = x if x.ndim == 2 else np.rint((x + 1) * np.float32(127.5))
            np.testing.assert_array_equal(loaded.numpy().reshape(shape), expected)
            cases += 1
    assert cases == 8


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^data\.path: .*none\.npz is no file"):
        Npz(Npz.Settings(path=str(tmp_path / "none.npz"))).load()


@pytest.mark.timeout(20, method="thread")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(ConfigError, match=r"^data\.path: .*a\.npz is no regular file"):
        Npz(Npz.Settings(path=str(tmp_path / "a.npz"))).load()


@pytest.mark.parametrize("path", ["x" * 300, "~nobody.of.this.name/x"])
def test_a_path_that_the_system_refuses_is_named(path: str) -> None:
    """As one within a folder that is not ours."""
    with pytest.raises(ConfigError, match=rf"^data\.path: {path} is no file"):
        Npz(Npz.Settings(path=path)).load()
