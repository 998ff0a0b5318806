"""Checkpoint files: whole or not there."""

from __future__ import annotations

import pickle

import pytest
import torch

from gansweep.checkpoint import read_checkpoint, write_checkpoint
from gansweep.errors import ConfigError


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


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("code ran",))


def test_loading_runs_no_code(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"format": 1, "x": Evil()}, path)
    with pytest.raises(pickle.UnpicklingError):
        read_checkpoint(path)


def test_another_format_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"format": 99}, path)
    with pytest.raises(ConfigError, match="has checkpoint format 99, this version reads 2"):
        read_checkpoint(path)
