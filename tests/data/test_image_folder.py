"""Folders of pictures: classes, order, damage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gansweep.data.image_folder import ImageFolder
from gansweep.errors import ConfigError
from gansweep.notes import Note


def paint(file: Path, grey: int, shape: tuple[int, int] = (8, 8)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", shape, (grey, grey, grey)).save(file)


def dataset(folder: Path, **settings: Any) -> ImageFolder:
    return ImageFolder(ImageFolder.Settings(path=str(folder), **{"size": 8, **settings}))


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for i, name in enumerate(["c.png", "a.BMP", "b.webp", "d.tiff", "e.gif"]):
        paint(tmp_path / name, 10 * i)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "._c.png").write_bytes(b"a Mac's leftover")
    paint(tmp_path / "__MACOSX" / "x.png", 99)
    samples = dataset(tmp_path).load()
    assert samples.x.shape == (5, 3, 8, 8)
    assert samples.x.dtype == torch.uint8
    assert samples.x[:, 0, 0, 0].tolist() == [10, 20, 0, 30, 40]  # in the order of names
    assert samples.labels is None
    assert samples.spec.condition is None


def test_subfolders_are_classes(tmp_path: Path) -> None:
    paint(tmp_path / "dog" / "a.png", 1)
    paint(tmp_path / "cat" / "deeper" / "b.png", 2)
    paint(tmp_path / "cat" / "z.jpg", 3, (20, 12))
    (tmp_path / "bird").mkdir()
    samples = dataset(tmp_path, channels=1).load()
    assert samples.x.shape == (3, 1, 8, 8)
    assert samples.x[:, 0, 0, 0].tolist() == [2, 3, 1]
    assert samples.class_names == ("cat", "dog")
    assert samples.labels is not None
    assert samples.labels.dtype == torch.int64
    assert samples.labels.tolist() == [0, 0, 1]


def test_a_stray_picture_is_an_error_unless_labels_are_ignored(tmp_path: Path) -> None:
    paint(tmp_path / "cat" / "a.png", 1)
    paint(tmp_path / "stray.png", 2)
    with pytest.raises(ConfigError, match=r"has 1 picture beside its class folders, as stray\.png"):
        dataset(tmp_path).load()
    samples = dataset(tmp_path, labels="ignore").load()
    assert len(samples) == 2
    assert samples.labels is None


def test_links_are_followed_and_do_not_loop(tmp_path: Path) -> None:
    paint(tmp_path / "elsewhere" / "a.png", 1)
    root = tmp_path / "root"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(root)
    samples = dataset(root).load()
    assert len(samples) == 1
    assert samples.class_names == ("cat",)


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passed over, it would take its class along, and the labels of those behind it."""
    for name in ("bird", "cat/deeper", "dog", "lost+found"):
        paint(tmp_path / name / "a.png", 1)
    scandir = os.scandir
    for closed in (tmp_path, tmp_path / "cat", tmp_path / "cat" / "deeper"):

        def refuse(path: str, closed: Path = closed) -> Any:
            if Path(path) == closed:
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(ConfigError, match="cannot be read: Permission denied") as caught:
            dataset(tmp_path).cache_key()
        assert caught.value.problems[0].where == str(closed)
        assert caught.value.problems[0].remedy
    monkeypatch.setattr(os, "scandir", scandir)
    assert dataset(tmp_path).load().class_names == ("bird", "cat", "dog")


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    """It may have been a class."""
    paint(tmp_path / "dog" / "a.png", 1)
    (tmp_path / ".#lock").symlink_to("somebody")
    assert len(dataset(tmp_path).load()) == 1
    (tmp_path / "cat").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match="is a broken link") as caught:
        dataset(tmp_path).load()
    assert caught.value.problems[0].where == str(tmp_path / "cat")


def test_a_folder_of_two_classes_is_refused(tmp_path: Path) -> None:
    """It would be of the first alone; twice in one class, or without labels, it is taken once."""
    paint(tmp_path / "dog" / "a.png", 1)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "dog")
    with pytest.raises(ConfigError, match=r"is the folder .*cat/again once more") as caught:
        dataset(tmp_path).load()
    assert caught.value.problems[0].where == str(tmp_path / "dog")
    assert len(dataset(tmp_path, labels="ignore").load()) == 1
    (tmp_path / "cat" / "again").unlink()
    (tmp_path / "dog" / "again").symlink_to(tmp_path / "dog")
    paint(tmp_path / "cat" / "deeper" / "b.png", 2)
    (tmp_path / "cat" / "twice").symlink_to(tmp_path / "cat" / "deeper")
    samples = dataset(tmp_path).load()
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1]


def test_all_damaged_files_are_named(tmp_path: Path) -> None:
    paint(tmp_path / "good.png", 1)
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    with pytest.raises(ConfigError, match="replace or remove") as caught:
        dataset(tmp_path).load()
    names = [Path(problem.where).name for problem in caught.value.problems]
    assert names == ["half.png", "text.jpg"]


@pytest.mark.timeout(20, method="thread")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 1)
    os.mkfifo(tmp_path / "b.png")
    with pytest.raises(ConfigError, match=r"b\.png: .* no regular file .*remove it\)$"):
        dataset(tmp_path).load()


def test_empty_and_missing_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / ".hidden.png").write_text("passed over")
    with pytest.raises(ConfigError, match=r"holds no pictures \(give the folder") as caught:
        dataset(tmp_path).load()
    assert caught.value.problems[0].where == str(tmp_path)
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ConfigError, match=r"holds no pictures, but .* \(convert them") as caught:
        dataset(tmp_path).load()
    assert caught.value.problems[0].where == str(tmp_path)
    with pytest.raises(ConfigError, match=r"^data\.path: .*nowhere is no folder"):
        dataset(tmp_path / "nowhere").cache_key()


def test_a_folder_of_files_that_are_no_pictures_is_no_class(tmp_path: Path) -> None:
    """Passed over, it would take its class along."""
    paint(tmp_path / "cat" / "a.png", 1)
    for name in ("dog/a.AVIF", "dog/deeper/b.jfif", "dog/c.avif", "dog/licence"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"of a kind of its own")
    (tmp_path / "dog" / ".hidden.db").touch()
    with pytest.raises(
        ConfigError, match=r"no pictures, but files that end in \.avif, \.jfif or have no"
    ) as caught:
        dataset(tmp_path).load()
    (problem,) = caught.value.problems
    assert problem.where == str(tmp_path / "dog")
    assert "move it out of data.path" in problem.remedy
    assert len(dataset(tmp_path, labels="ignore").load()) == 1
    paint(tmp_path / "dog" / "deeper" / "d.png", 2)
    assert dataset(tmp_path).load().class_names == ("cat", "dog")


def test_pictures_of_other_kinds_are_told(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    paint(tmp_path / "a.png", 1)
    (tmp_path / "a.txt").touch()
    assert len(dataset(tmp_path).load()) == 1
    assert not recwarn
    (tmp_path / "b.HEIC").touch()
    with pytest.warns(Note, match=r": 1 picture passed over \(\.heic\), as .*b\.HEIC: convert"):
        assert len(dataset(tmp_path).load()) == 1
    for name in ("c.heic", "d.jfif"):
        (tmp_path / name).touch()
    with pytest.warns(Note, match=r": 3 pictures passed over \(\.heic, \.jfif\), as .*b\.HEIC"):
        assert len(dataset(tmp_path).load()) == 1
    (tmp_path / "a.png").unlink()
    with pytest.raises(
        ConfigError, match=r"no pictures, but files that end in \.heic, \.jfif, \.t"
    ):
        dataset(tmp_path).load()


def test_cache_key_follows_files_and_settings(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 1)
    key = dataset(tmp_path).cache_key()
    assert dataset(tmp_path, batch_size=5).cache_key() == key
    keys = {key, dataset(tmp_path, size=16).cache_key(), dataset(tmp_path, channels=1).cache_key()}
    os.utime(tmp_path / "a.png", ns=(1, 1))
    keys.add(dataset(tmp_path).cache_key())
    paint(tmp_path / "b.png", 1)
    keys.add(dataset(tmp_path).cache_key())
    assert len(keys) == 5


def test_cache_key_names_a_broken_link(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ConfigError, match=r"a\.png: cannot be read"):
        dataset(tmp_path).cache_key()


@pytest.mark.parametrize("path", ["x" * 300, "~nobody.of.this.name/x"])
def test_a_path_that_the_system_refuses_is_named(path: str) -> None:
    """As one within a folder that is not ours."""
    with pytest.raises(ConfigError, match=rf"^data\.path: {path} is no folder"):
        ImageFolder(ImageFolder.Settings(path=path)).load()
