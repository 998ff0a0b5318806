"""Tensors kept on disk: made once, damage mended, a folder that is no use survived."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from gansweep.kept import kept


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GANSWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scores"


class Maker:
    def __init__(self, seconds=0.0):
        self.calls, self.seconds = 0, seconds

    def __call__(self):
        self.calls += 1
        time.sleep(self.seconds)
        return {"x": torch.arange(3.0), "y": torch.tensor(7)}


def test_it_is_made_once(folder):
    make = Maker()
    for _ in range(3):
        found = kept("one", make)
        assert found["x"].tolist() == [0, 1, 2]
        assert int(found["y"]) == 7
    assert make.calls == 1
    kept("other", make)
    assert make.calls == 2
    assert len(list(folder.glob("*.pt"))) == 2
    assert list(folder.glob(".*")) == []


def test_of_several_one_makes_it(folder):
    make = Maker(seconds=0.1)
    threads = [threading.Thread(target=kept, args=("one", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert make.calls == 1


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_file_is_made_anew(folder, content):
    make = Maker()
    kept("one", make)
    (file,) = folder.glob("*.pt")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.warns(UserWarning, match="is damaged, making it anew"):
        assert kept("one", make)["x"].tolist() == [0, 1, 2]
    assert make.calls == 2
    kept("one", make)
    assert make.calls == 2


def test_a_folder_that_is_no_use_costs_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GANSWEEP_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot use the cache folder"):
        assert kept("one", Maker())["x"].tolist() == [0, 1, 2]


def test_what_fails_is_not_kept(folder):
    def broken():
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        kept("one", broken)
    assert list(folder.glob("*.pt")) == []
    assert kept("one", Maker())["y"] == 7
