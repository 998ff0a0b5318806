"""Data sets of the package `datasets`, from local files, without a network."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gansweep.data.hub import Hub
from gansweep.data.prepare import prepare
from gansweep.errors import ConfigError

os.environ["HF_HUB_OFFLINE"] = "1"
datasets = pytest.importorskip("datasets", reason="needs the extra hub")
pyarrow = pytest.importorskip("pyarrow", reason="needs the extra hub")
parquet_file = pytest.importorskip("pyarrow.parquet", reason="needs the extra hub")

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)


@pytest.fixture(autouse=True)
def hugging_face_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def png(pixels: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def parquet(folder: Path, *, images: list[Any] | None = None, **columns: Any) -> str:
    """A parquet file with the column `img` and others, each given as (values, feature)."""
    encoded = [{"bytes": png(p), "path": None} for p in PIXELS] if images is None else images
    features = {"img": datasets.Image()} | {k: kind for k, (_, kind) in columns.items()}
    table = datasets.Dataset.from_dict(
        {"img": encoded} | {k: values for k, (values, _) in columns.items()},
        features=datasets.Features(features),
    )
    file = folder / "table.parquet"
    table.to_parquet(str(file))
    return str(file)


def hub(file: str, **settings: Any) -> Hub:
    return Hub(Hub.Settings(path="parquet", data_files=[file], **{"size": 8, **settings}))


def value(kind: str) -> Any:
    return datasets.Value(kind)


def test_parquet_with_class_labels(tmp_path: Path) -> None:
    kind = datasets.ClassLabel(names=["cat", "dog", "eel"])
    file = parquet(tmp_path, fine=([0, 1, 0, 1, 1, 0], kind), id=(list(range(6)), value("int64")))
    samples = hub(file).load()
    assert torch.equal(samples.x, torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).copy()))
    assert samples.x.dtype == torch.uint8
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 0, 1, 1, 0]
    assert samples.class_names == ("cat", "dog", "eel")

    samples = hub(file, split="train[2:4]", size=16, channels=1, label_column="id").load()
    assert samples.x.shape == (2, 1, 16, 16)
    assert samples.labels is not None
    assert samples.labels.tolist() == [2, 3]
    assert samples.class_names == ()


@pytest.mark.parametrize("missing", [-1, None])
@pytest.mark.parametrize("count", [1, 6])
def test_an_unlabelled_split_has_no_labels_unless_they_are_asked_for(
    tmp_path: Path, missing: int | None, count: int
) -> None:
    """-1, as `datasets` writes it in splits to test."""
    kind = datasets.ClassLabel(names=["cat", "dog"])
    file = parquet(tmp_path, fine=([missing] * count + [1] * (6 - count), kind))
    samples = hub(file).load()
    assert len(samples) == 6
    assert (samples.labels, samples.class_names) == (None, ())
    with pytest.raises(ConfigError, match=r"data\.label_column: column 'fine'.*missing"):
        hub(file, label_column="fine").load()


def test_parquet_with_other_labels(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(6, 2)).round(3)
    file = parquet(
        tmp_path,
        name=(list("bacabc"), value("string")),
        attributes=(vectors.tolist(), datasets.Sequence(value("float32"))),
        holes=([0, 1, None, 0, 1, 0], value("int64")),
        unknown=([-1] * 6, value("int64")),
    )
    assert hub(file).load().labels is None  # no ClassLabel: none is guessed
    samples = hub(file, label_column="name").load()
    assert samples.labels is not None
    assert samples.labels.tolist() == [1, 0, 2, 0, 1, 2]
    assert samples.class_names == ("a", "b", "c")
    samples = hub(file, label_column="attributes").load()
    assert samples.labels is not None
    assert samples.labels.dtype == torch.float32
    np.testing.assert_allclose(samples.labels.numpy(), vectors, rtol=1e-6)
    for column in ("holes", "unknown"):
        with pytest.raises(ConfigError, match=rf"data\.label_column: column '{column}'"):
            hub(file, label_column=column).load()
    with pytest.raises(ConfigError, match="did you mean 'name'"):
        hub(file, label_column="nane").load()
    with pytest.raises(ConfigError, match=r"data\.image_column: 'image' is no column"):
        hub(file, image_column="image").load()


def test_local_image_folder(tmp_path: Path) -> None:
    for i, name in enumerate(["cat/a.png", "dog/b.png", "dog/c.png"]):
        file = tmp_path / "pictures" / "train" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[i]).save(file)
    samples = Hub(Hub.Settings(path=str(tmp_path / "pictures"), size=8)).load()
    assert torch.equal(samples.x, torch.from_numpy(PIXELS[:3].transpose(0, 3, 1, 2).copy()))
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 1]
    assert samples.class_names == ("cat", "dog")


def test_damaged_and_missing_pictures_are_named_by_row(tmp_path: Path) -> None:
    good = {"bytes": png(PIXELS[0]), "path": None}
    bad = {"bytes": good["bytes"][:100], "path": None}
    with pytest.raises(ConfigError, match=r"parquet\[train\]\.img, row 1: cannot be decoded"):
        hub(parquet(tmp_path, images=[good, bad, good])).load()
    with pytest.raises(ConfigError, match="row 2: has no picture"):
        hub(parquet(tmp_path, images=[good, good, None])).load()


def test_a_cell_with_neither_bytes_nor_a_file_has_no_picture(tmp_path: Path) -> None:
    features = datasets.Features({"img": datasets.Image()})
    cells = [{"bytes": png(PIXELS[0]), "path": None}, {"bytes": None, "path": None}]
    rows = pyarrow.Table.from_pylist([{"img": cell} for cell in cells], features.arrow_schema)
    parquet_file.write_table(rows, tmp_path / "table.parquet")
    with pytest.raises(ConfigError, match=r"parquet\[train\]\.img, row 1: has no picture"):
        hub(str(tmp_path / "table.parquet")).load()


def test_no_picture_column_lists_the_columns(tmp_path: Path) -> None:
    file = tmp_path / "plain.parquet"
    datasets.Dataset.from_dict({"a": [1], "b": [2]}).to_parquet(str(file))
    with pytest.raises(ConfigError, match=r"has 0 columns of pictures.*its columns are a, b"):
        hub(str(file)).load()


def test_cache_key_follows_the_file_and_the_settings(tmp_path: Path) -> None:
    file = parquet(tmp_path)
    key = hub(file).cache_key()
    assert hub(file, batch_size=3).cache_key() == key
    keys = {key, hub(file, size=16).cache_key(), hub(file, split="train[:2]").cache_key()}
    parquet(tmp_path, images=[{"bytes": png(PIXELS[5]), "path": None}])
    assert hub(file).cache_key() not in keys
    assert len(keys) == 3
    assert len(prepare(hub(file))) == len(prepare(hub(file))) == 1


def test_unreachable_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path: cannot load 'parquet', split 'test'"):
        hub(parquet(tmp_path), split="test").load()
    with pytest.raises(ConfigError, match=r"data\.path: cannot load .*nowhere"):
        Hub(Hub.Settings(path=str(tmp_path / "nowhere"))).load()


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r'pip install "gansweep\[hub\]"'):
        Hub(Hub.Settings(path="x")).load()
