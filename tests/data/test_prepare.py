"""The cache: quick, whole, made once, and never in the way."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import pytest
import torch
from PIL import Image

from gansweep.data.base import Dataset, Samples
from gansweep.data.image_folder import ImageFolder
from gansweep.data.prepare import prepare
from gansweep.data.settings import DataSettings
from gansweep.errors import ConfigError
from gansweep.settings import setting


@final
class Counted(Dataset):
    """Counts its loads in a file, one byte each, so that other processes are seen."""

    @dataclass(frozen=True)
    class Settings(DataSettings):
        log: str = setting("", "file to count in")
        key: str = setting("k", "the cache key; empty: none")
        seconds: float = setting(0.0, "how long a load takes")
        labels: str = setting("int64", "type of the labels; empty: none")

    def load(self) -> Samples:
        with open(self.settings.log, "a") as log:
            log.write("x")
        time.sleep(self.settings.seconds)
        x = torch.arange(6 * 3 * 8 * 8).remainder(256).to(torch.uint8).reshape(6, 3, 8, 8)
        if self.settings.labels == "int64":
            return Samples(x, torch.arange(6) % 3, ("a", "bä", "c c"))
        if self.settings.labels == "float32":
            return Samples(x.flatten(1)[:, :4].float(), torch.randn(6, 2))
        return Samples(x)

    def cache_key(self) -> str | None:
        return self.settings.key or None

    @property
    def loads(self) -> int:
        return len(Path(self.settings.log).read_text())


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "log")


def files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix != ".lock")


def same(a: Samples, b: Samples) -> bool:
    if (a.labels is None) != (b.labels is None) or a.class_names != b.class_names:
        return False
    pairs = [(a.x, b.x)]
    if a.labels is not None and b.labels is not None:
        pairs.append((a.labels, b.labels))
    return all(one.dtype == two.dtype and torch.equal(one, two) for one, two in pairs)


@pytest.mark.parametrize("labels", ["int64", "float32", ""])
def test_the_second_time_comes_from_the_cache(log: str, cache: Path, labels: str) -> None:
    dataset = Counted(Counted.Settings(log=log, labels=labels))
    first, second = prepare(dataset), prepare(dataset)
    assert dataset.loads == 1
    assert same(first, second)
    assert [file.suffix for file in files(cache)] == [".npz"]
    second.x.add_(1)  # a tensor of one's own
    assert same(first, prepare(dataset))


def test_no_key_no_cache(log: str, cache: Path) -> None:
    dataset = Counted(Counted.Settings(log=log, key=""))
    prepare(dataset)
    prepare(dataset)
    assert dataset.loads == 2
    assert files(cache) == []


def test_another_key_is_another_file(log: str, cache: Path) -> None:
    for key in ("a", "b", "../../etc/passwd", "x" * 10_000):
        prepare(Counted(Counted.Settings(log=log, key=key)))
    assert Counted(Counted.Settings(log=log)).loads == 4
    assert len(files(cache)) == 4


def test_other_code_is_another_file(log: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who mends a data set of their own may not think of its key."""
    for code in ("a", "b", "b"):
        monkeypatch.setattr("gansweep.data.prepare.own_source", lambda cls, code=code: code)
        prepare(Counted(Counted.Settings(log=log)))
    assert Counted(Counted.Settings(log=log)).loads == 2


def test_nothing_is_pickled(log: str, cache: Path) -> None:
    prepare(Counted(Counted.Settings(log=log)))
    with np.load(files(cache)[0], allow_pickle=False) as archive:
        assert sorted(archive.files) == ["class_names", "labels", "x"]
        assert all(archive[name].dtype != object for name in archive.files)


def test_an_unusable_folder_costs_a_warning(
    log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("GANSWEEP_CACHE", str(blocked / "cache"))
    dataset = Counted(Counted.Settings(log=log))
    with pytest.warns(UserWarning, match="cannot use the cache folder") as told:
        assert len(prepare(dataset)) == 6
    assert len(told) == 1
    assert dataset.loads == 1


WORKERS = r"""
import os, sys
from tests.data.test_prepare import Counted
from gansweep.data.prepare import prepare
log, *caches = sys.argv[1:]
workers = {}
for cache in caches:
    if not (process := os.fork()):
        os.environ["GANSWEEP_CACHE"] = cache
        samples = prepare(Counted(Counted.Settings(log=log, seconds=0.3)))
        said = f"{len(samples)} {int(samples.x.sum())} {samples.class_names}"
        print(said + "\n", end="")  # at once, where nothing is buffered
        sys.exit()
    workers[process] = cache
sys.exit(any(os.wait()[1] for _ in workers))
"""


def prepared_at_once(log: str, *caches: Path) -> list[str]:
    """What as many processes say that prepare the data at once, each with its cache folder."""
    ended = subprocess.run(
        [sys.executable, "-c", WORKERS, log, *map(str, caches)],  # which imports torch once
        cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")  # and no warning
    return ended.stdout.splitlines()


def test_two_processes_prepare_once(log: str, cache: Path) -> None:
    said = prepared_at_once(log, cache, cache)
    assert len(said) == 2
    assert said[0] == said[1]
    assert said[0].startswith("6 ")
    assert Counted(Counted.Settings(log=log)).loads == 1
    assert len(files(cache)) == 1


def test_each_node_prepares_its_own_once_and_shares_no_disk(log: str, tmp_path: Path) -> None:
    """Two nodes are two cache folders, with two workers on each."""
    nodes = [tmp_path / name for name in ("one", "two")]
    said = prepared_at_once(log, *nodes, *nodes)
    assert len(said) == 4
    assert len(set(said)) == 1
    assert said[0].startswith("6 ")
    assert Counted(Counted.Settings(log=log)).loads == len(nodes)
    assert [len(files(node)) for node in nodes] == [1, 1]


def test_errors_of_the_data_set_pass(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    dataset = ImageFolder(ImageFolder.Settings(path=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"bad\.png"):
        prepare(dataset)
    assert files(cache) == []
    Image.new("RGB", (8, 8)).save(tmp_path / "bad.png")
    assert len(prepare(dataset)) == 1  # the lock was given back
