"""Tensors kept on disk: made once, damage mended, a folder that is no use survived."""

from __future__ import annotations

import os
import socket
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
        found = kept("one", make, within="scores")
        assert found["x"].tolist() == [0, 1, 2]
        assert int(found["y"]) == 7
    assert make.calls == 1
    kept("other", make, within="scores")
    assert make.calls == 2
    assert len(list(folder.glob("*.npz"))) == 2
    assert list(folder.glob(".*")) == []


def test_of_several_one_makes_it(folder):
    make = Maker(seconds=0.1)
    threads = [
        threading.Thread(target=kept, args=("one", make), kwargs={"within": "scores"})
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert make.calls == 1


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "encrypted"])
def test_a_damaged_file_is_made_anew(folder, damage):
    make = Maker()
    kept("one", make, within="scores")
    (file,) = folder.glob("*.npz")
    whole = file.read_bytes()
    place = whole.index(torch.arange(3.0).numpy().tobytes())
    flipped = bytearray(whole)
    flipped[place + 4] ^= 1  # a bit of a number: every header stays right
    encrypted = bytearray(whole)
    encrypted[whole.index(b"PK\x01\x02") + 8] ^= 1  # of the archive's directory
    spoilt = {
        "empty": b"",
        "text": b"text",
        "cut": whole[: len(whole) // 2],
        "flipped": flipped,
        "encrypted": encrypted,
    }
    file.write_bytes(spoilt[damage])
    with pytest.warns(UserWarning, match="is damaged, making it anew"):
        assert kept("one", make, within="scores")["x"].tolist() == [0, 1, 2]
    assert make.calls == 2
    kept("one", make, within="scores")
    assert make.calls == 2


def test_a_folder_that_is_no_use_costs_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GANSWEEP_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot use the cache folder"):
        assert kept("one", Maker(), within="scores")["x"].tolist() == [0, 1, 2]


def test_a_full_disk_costs_a_warning_and_leaves_nothing(folder, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    make = Maker()
    with pytest.warns(UserWarning, match="No space left"):
        assert kept("one", make, within="scores")["x"].tolist() == [0, 1, 2]
    assert make.calls == 1
    assert [file.suffix for file in folder.iterdir()] == [".lock"]


def test_a_type_that_cannot_be_kept_costs_a_warning(folder):
    with pytest.warns(UserWarning, match="BFloat16"):
        found = kept("one", lambda: {"x": torch.ones(2, dtype=torch.bfloat16)}, within="scores")
    assert found["x"].tolist() == [1, 1]


def test_leftovers_of_a_killed_process_are_removed(folder):
    kept("one", Maker(), within="scores")
    (file,) = folder.glob("*.npz")
    file.unlink()
    (folder / f"{file.stem}.{socket.gethostname()}-999999.tmp").write_text("half")
    kept("one", Maker(), within="scores")
    assert sorted(each.suffix for each in folder.iterdir()) == [".lock", ".npz"]


def test_what_fails_is_not_kept(folder):
    def broken():
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        kept("one", broken, within="scores")
    assert list(folder.glob("*.npz")) == []
    assert kept("one", Maker(), within="scores")["y"] == 7
