from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest
from sweep_files import TEXT

from gansweep.errors import ConfigError
from gansweep.launch.bundle import (
    Bundle,
    own_modules,
    sweep_bundle,
    with_code,
    with_files,
)
from gansweep.sweep.file import load_sweep


def names(bundle: Bundle) -> set[str]:
    return {str(path) for path in bundle.files}


@pytest.fixture
def sweeps(work: Path) -> Path:
    """A sweep file in a folder, its base in another."""
    (work / "sweeps").mkdir()
    (work / "common").mkdir()
    (work / "common" / "base.yaml").write_text(TEXT)
    (work / "sweeps" / "mine.yaml").write_text("name: mine\nbase: ../common/base.yaml\nseeds: 2")
    return work / "sweeps" / "mine.yaml"


def test_a_base_travels_to_where_the_file_looks_for_it(sweeps: Path, tmp_path: Path) -> None:
    sweep = load_sweep(sweeps)
    bundle = sweep_bundle(sweep)
    assert names(bundle) == {"sweep/sweeps/mine.yaml", "sweep/common/base.yaml"}
    bundle.write(tmp_path / "there")
    bundle.check(tmp_path / "there", ())
    assert load_sweep(tmp_path / "there" / bundle.sweep).tree == sweep.tree


def test_who_reads_a_copy_that_is_written_again_finds_it_whole(
    sweeps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of the same files that starts meanwhile."""
    bundle = sweep_bundle(load_sweep(sweeps))
    bundle.write(tmp_path / "there")
    seen: list[str] = []

    def copied(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"")
        seen.append((tmp_path / "there" / bundle.sweep).read_text())
        Path(target).write_bytes(source.read_bytes())

    monkeypatch.setattr(shutil, "copyfile", copied)
    bundle.write(tmp_path / "there")
    assert seen == [sweeps.read_text()] * 2
    assert len(list((tmp_path / "there").rglob("*.yaml"))) == 2
    assert len([path for path in (tmp_path / "there").rglob("*") if path.is_file()]) == 2


def test_a_base_by_an_absolute_path_is_refused(sweeps: Path, tmp_path: Path) -> None:
    base = sweeps.parents[1] / "common" / "base.yaml"
    sweeps.write_text(f"base: {base}")
    bundle = sweep_bundle(load_sweep(sweeps))
    bundle.write(tmp_path / "there")
    with pytest.raises(ConfigError, match="does not travel"):
        bundle.check(tmp_path / "there", ())


def test_the_digest_is_that_of_paths_and_contents(sweeps: Path) -> None:
    bundle = sweep_bundle(load_sweep(sweeps))
    before = bundle.digest
    assert sweep_bundle(load_sweep(sweeps)).digest == before
    moved = {PurePosixPath("x") / path: source for path, source in bundle.files.items()}
    assert Bundle(moved, bundle.sweep).digest != before
    sweeps.write_text(sweeps.read_text() + "\n")
    assert bundle.digest != before


@pytest.fixture
def lab(work: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package and a module of one's own, ignored by git, the package importing the module."""
    monkeypatch.syspath_prepend(str(work))
    package = work / "mylab"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text("import myhelp\nclass Mine: pass\n")
    (package / "table.csv").write_text("1,2")
    (package / ".gitignore").write_text("table.csv")
    (work / ".gitignore").write_text("mylab/\nmyhelp.py")
    (work / "myhelp.py").write_text("")
    (work / "other.py").write_text("")
    yield work
    for name in ("mylab", "mylab.models", "myhelp"):
        sys.modules.pop(name, None)


def test_named_code_travels_whole_and_no_ignore_file_counts(lab: Path, sweeps: Path) -> None:
    importlib.import_module("mylab.models")
    tree = {"trial": {"model": {"name": "mylab.models:Mine"}, "data": {"name": "ring8"}}}
    assert own_modules(tree) == {"mylab", "mylab.models", "myhelp"}
    assert own_modules({"model": {"name": "wgan", "x": "1.5"}, "rules": {"a.b:C": {}}}) == set()
    assert own_modules({"rules": {"mylab.models:Mine": {}}}) == own_modules(tree)  # keys as well
    sweeps.write_text(sweeps.read_text() + "\n")
    sweep = load_sweep(sweeps)
    sweep.tree["trial"]["model"] = {"name": "mylab.models.Mine"}
    found = names(with_code(sweep_bundle(sweep), sweep))
    own = {name for name in found if not name.startswith("gansweep/")}
    assert own == {
        "sweep/sweeps/mine.yaml", "sweep/common/base.yaml",
        "mylab/__init__.py", "mylab/models.py", "mylab/table.csv", "myhelp.py",
    }  # fmt: skip
    assert {"gansweep/cli.py", "gansweep/launch/slurm_nodes.sh"} <= found
    assert "gansweep/metrics/extractors/digits.safetensors" in found
    assert not [name for name in found if "__pycache__" in name]


def test_modules_that_no_file_of_their_name_holds_do_not_travel(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler's, deep in its own names, whose file lies wherever its cache does."""
    made = ModuleType("torch.made.by.a.compiler.in.many.deep.places.of.its.own.c1")
    made.__file__ = str(lab / "c1.py")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    importlib.import_module("mylab.models")
    tree = {"model": {"name": "mylab.models:Mine"}, "loss": {f"{made.__name__}:C": {}}}
    assert own_modules(tree) == {"mylab", "mylab.models", "myhelp"}


def test_where_nothing_of_ones_own_is_named_no_module_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There are thousands."""
    looked: list[str] = []
    monkeypatch.setattr("gansweep.launch.bundle._root", looked.append)
    assert own_modules({"model": {"name": "wgan", "x": "1.5"}, "rules": {"a.b:C": {}}}) == set()
    assert looked == []


def test_further_files(work: Path, sweeps: Path) -> None:
    (work / "photos" / "cats").mkdir(parents=True)
    (work / "photos" / "cats" / "1.png").write_bytes(b"1")
    (work / "x.npz").write_bytes(b"2")
    bundle = with_files(
        sweep_bundle(load_sweep(sweeps)), ["photos", "./x.npz"], work, at="profile.files"
    )
    assert {"photos/cats/1.png", "x.npz"} < names(bundle)
    with pytest.raises(ConfigError) as caught:
        with_files(bundle, ["absent", "../work", "/etc"], work, at="profile.files")
    first, second, third = caught.value.problems
    assert str(first).startswith("profile.files: there is no ")
    assert "not below" in str(second)
    assert "not below" in str(third)
