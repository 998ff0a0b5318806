"""Checkpoint files: whole or not there."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
import torch

from gansweep.checkpoint import (
    FORMAT,
    DamagedCheckpointError,
    keep_previous,
    on_host,
    read_checkpoint,
    read_newest,
    write_checkpoint,
)
from gansweep.errors import ConfigError
from gansweep.trial_files import previous


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "er" / "checkpoint.pt"
    assert read_checkpoint(path) is None
    state = {"x": torch.randn(3), "n": 1, "nested": {"s": "t", "f": 0.1, "none": None}}
    write_checkpoint(path, state)
    again = read_checkpoint(path)
    assert torch.equal(again["x"], state["x"])
    assert (again["n"], again["nested"]) == (1, state["nested"])
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"n": 1})

    def broken(state, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        write_checkpoint(path, {"n": 2})
    monkeypatch.undo()
    assert read_checkpoint(path)["n"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("where", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_one_wrong_bit_is_seen(tmp_path, where):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"x": torch.arange(10_000.0)})
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 4
    path.write_bytes(data)
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint\.pt is torn or was changed"):
        read_checkpoint(path)


@pytest.mark.parametrize("left", [0, 1, 40, 1000, -1])
def test_a_torn_file_is_seen(tmp_path, left):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"x": torch.arange(10_000.0)})
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DamagedCheckpointError):
        read_checkpoint(path)


def test_torch_itself_reads_it(tmp_path):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"x": torch.arange(3.0)})
    assert torch.equal(torch.load(path, weights_only=True)["x"], torch.arange(3.0))


def write(path, n):
    keep_previous(path)
    write_checkpoint(path, {"n": n})


@pytest.mark.parametrize("linked", [True, False])
def test_the_one_before_is_used_where_the_newest_is_damaged(tmp_path, monkeypatch, caplog, linked):
    if not linked:
        monkeypatch.setattr("os.link", refuse)
    path = tmp_path / "checkpoint.pt"
    assert read_newest(path) is None
    for n in range(3):
        write(path, n)
        assert read_newest(path)["n"] == n
    assert read_checkpoint(previous(path))["n"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint.previous.pt",
        "checkpoint.pt",
    ]
    path.write_bytes(path.read_bytes()[:-5])
    assert read_newest(path)["n"] == 1
    assert "checkpoint.pt is torn or was changed: training goes on from an earlier" in caplog.text
    assert not path.exists()  # else it would take the good one's place
    keep_previous(path)
    assert read_newest(path)["n"] == 1
    previous(path).write_bytes(b"")
    assert read_newest(path) is None


@pytest.mark.parametrize("room", [100, 5_000, 300_000, 900_000])
def test_a_disk_that_fills_within_a_tensor_is_told_as_such(tmp_path, monkeypatch, room):
    """torch's own writer would say RuntimeError."""
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"n": 1})
    at_once = Path.open

    class Small:
        def __init__(self, file):
            self.file, self.left = file, room

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            if len(data) > self.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.left -= len(data)
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    def opened(self, mode="r", *rest, **options):
        file = at_once(self, mode, *rest, **options)
        return Small(file) if mode == "wb" else file

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, {"w": [torch.zeros(60_000) for _ in range(5)]})
    monkeypatch.undo()
    assert read_checkpoint(path)["n"] == 1
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]


def refuse(*paths):
    raise PermissionError("no links here")


@pytest.mark.parametrize("linked", [True, False])
def test_killed_between_two_renames_nothing_is_lost(tmp_path, monkeypatch, linked):
    if not linked:
        monkeypatch.setattr("os.link", refuse)
    path = tmp_path / "checkpoint.pt"
    write(path, 1)
    keep_previous(path)
    assert path.exists() == linked  # and then both names are of one file
    assert read_newest(path)["n"] == 1
    write(path, 2)
    assert read_newest(path)["n"] == 2
    assert read_checkpoint(previous(path))["n"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint.previous.pt",
        "checkpoint.pt",
    ]


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("code ran",))


def test_loading_runs_no_code(tmp_path):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"x": Evil()})
    with pytest.raises(pickle.UnpicklingError):
        read_checkpoint(path)


def test_another_format_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    monkeypatch.setattr("gansweep.checkpoint.FORMAT", 99)
    write_checkpoint(path, {})
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=f"has checkpoint format 99, this version reads {FORMAT}"):
        read_checkpoint(path)


def test_a_copy_on_the_host_shares_nothing():
    state = {"a": torch.zeros(2, 3), "b": [{"c": torch.ones(4)[1:3]}, (1, "x")], "d": None}
    copy = on_host(state)
    state["a"] += 1
    state["b"][0]["c"] += 1
    state["b"].append(2)
    assert copy["a"].sum() == 0
    assert copy["b"][0]["c"].tolist() == [1, 1]
    assert copy["b"][0]["c"].untyped_storage().nbytes() == 8  # of the view alone
    assert (copy["b"][1:], copy["d"]) == ([(1, "x")], None)
