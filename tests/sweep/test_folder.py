"""The folder of the command, and where Python finds the modules in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gansweep.sweep.folder import begin_in_folder, find_modules_here, python_path


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Of modules, to be changed; the current folder is an empty one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {**os.environ, "PYTHONPATH": ""})
    monkeypatch.setattr(sys, "path", ["/python", "/site"])
    return sys.path


@pytest.mark.parametrize("before", [[], [""], ["HERE"], [".", "HERE", ""]])
def test_the_folder_comes_last(path: list[str], before: list[str]) -> None:
    """Whatever it is called: no variable has to name it."""
    Path("a:b").mkdir()
    os.chdir("a:b")
    here = os.getcwd()
    path[:0] = [here if entry == "HERE" else entry for entry in before]
    for _ in range(2):
        find_modules_here()
        assert sys.path == ["/python", "/site", here]
    assert sys.path is path  # which others may hold


def test_unless_pythonpath_names_it(path: list[str]) -> None:
    os.environ["PYTHONPATH"] = os.pathsep.join(["lab", "."])
    before = path[:] = [os.path.abspath("lab"), os.getcwd(), "/python", "/site"]
    find_modules_here()
    assert path == before


def test_the_folders_of_pythonpath(path: list[str]) -> None:
    for text, folders in [
        ("", []),
        (os.pathsep, []),
        ("lab", [os.path.abspath("lab")]),
        (os.pathsep.join(["/b", "", "/a", "/b"]), ["/b", "/a"]),
    ]:
        os.environ["PYTHONPATH"] = text
        assert python_path() == folders
    del os.environ["PYTHONPATH"]
    assert python_path() == []


def test_a_worker_finds_modules_in_the_folder_that_it_was_told_of(
    path: list[str], tmp_path: Path
) -> None:
    (tmp_path / "command").mkdir()
    os.environ["GANSWEEP_FOLDER"] = str(tmp_path / "command")
    begin_in_folder()
    assert sys.path == ["/python", "/site", str(tmp_path / "command")]
    sys.path[:] = ["/python", "/site"]
    os.chdir(tmp_path)
    (tmp_path / "command").rmdir()
    begin_in_folder()  # its machine has no such folder
    assert sys.path == ["/python", "/site"]
