"""What is compiled is kept, found again, and made anew where it would be another."""

from __future__ import annotations

import importlib
import json
import linecache
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import nn
from torch._dynamo.utils import counters
from torch._inductor import cpu_vec_isa

from gansweep.modules import compiled
from gansweep.modules.compiled import FOLDER, Compiled, describe, prepare

SOURCE = """
class Subject:
    def __init__(self, factor):
        self.factor = factor

    def step(self, x):
        return {"y": x * self.factor + 0.5}
"""


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what is kept, empty."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    in_another_process()
    return tmp_path / "inductor" / FOLDER


@pytest.fixture
def subjects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "some_subjects.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("some_subjects")
    del sys.modules["some_subjects"]


def in_another_process() -> None:
    """Where nothing is at hand yet."""
    compiled._at_hand.clear()


def files(kept: Path) -> list[Path]:
    return sorted(path for path in kept.iterdir() if path.suffix == ".json")


def graphs() -> int:
    """How often something was traced."""
    return int(counters["stats"]["unique_graphs"])


X = torch.arange(4.0)


def test_what_came_last_is_at_hand(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_load", lambda path, names: path)
    monkeypatch.setattr(compiled, "MOST_AT_HAND", 2)
    found: list[Any] = [compiled._kept(graphs, about, ()) for about in ("a", "b", "b", "c")]
    assert found[1] == found[2]
    assert list(compiled._at_hand) == [found[1], found[3]]
    in_another_process()


@pytest.mark.long
def test_kept_and_found_again(kept: Path, subjects: Any) -> None:
    subject = subjects.Subject(3.0)
    first = Compiled(subjects.Subject.step, subject, about="3")(X)
    assert torch.equal(first["y"], X * 3 + 0.5)
    assert len(files(kept)) == 1
    before = graphs()
    in_another_process()
    again = Compiled(subjects.Subject.step, subject, about="3")
    assert torch.equal(again(X)["y"], first["y"])
    assert torch.equal(again(X + 1)["y"], (X + 1) * 3 + 0.5)
    assert graphs() == before


def test_a_process_loads_it_once(kept: Path, subjects: Any) -> None:
    Compiled(subjects.Subject.step, subjects.Subject(3.0), about="3")(X)
    shutil.rmtree(kept)
    before = graphs()
    kept.mkdir()
    again = Compiled(subjects.Subject.step, subjects.Subject(3.0), about="3")(X)
    assert torch.equal(again["y"], X * 3 + 0.5)
    assert graphs() == before
    assert files(kept) == []


def test_another_subject_or_kind_of_argument_is_another(kept: Path, subjects: Any) -> None:
    step = subjects.Subject.step
    Compiled(step, subjects.Subject(3.0), about="3")(X)
    other = Compiled(step, subjects.Subject(4.0), about="4")(X)
    assert torch.equal(other["y"], X * 4 + 0.5)
    double = Compiled(step, subjects.Subject(3.0), about="3")(X.double())
    assert double["y"].dtype == torch.float64
    assert len(files(kept)) == 3


def test_changed_sources_are_compiled_anew(kept: Path, subjects: Any, tmp_path: Path) -> None:
    Compiled(subjects.Subject.step, subjects.Subject(3.0), about="3")(X)
    changed = tmp_path / "some_subjects.py"
    changed.write_text(SOURCE.replace("0.5", "0.75"))
    linecache.clearcache()
    importlib.invalidate_caches()
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    subjects = importlib.reload(subjects)
    in_another_process()
    out = Compiled(subjects.Subject.step, subjects.Subject(3.0), about="3")(X)
    assert torch.equal(out["y"], X * 3 + 0.75)
    assert len(files(kept)) == 1


ELSEWHERE = """
from some_constants import FACTOR, Sizes
import some_constants

class Subject:
    def step(self, x):
        return {"y": x * FACTOR + some_constants.SHIFTS["y"] + Sizes.width}
"""

CONSTANTS = """
FACTOR = 3.0
SHIFTS = {"y": 0.5}
class Sizes:
    width = 2
"""


@pytest.mark.parametrize(
    ("before", "after", "y"),
    [("3.0", "4.0", X * 4 + 2.5), ("0.5", "0.75", X * 3 + 2.75), ("= 2", "= 5", X * 3 + 5.5)],
)
def test_a_constant_of_another_module_is_no_part_of_what_is_kept(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, y: Any
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("some_constants", "elsewhere")
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE)

    def step(constants: str) -> Any:
        (tmp_path / "some_constants.py").write_text(constants)
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        linecache.clearcache()
        importlib.invalidate_caches()
        for name in names:
            sys.modules.pop(name, None)
        in_another_process()
        subject = importlib.import_module("elsewhere").Subject()
        return Compiled(type(subject).step, subject, about="")(X)["y"]

    assert torch.equal(step(CONSTANTS), X * 3 + 2.5)
    traced = graphs()
    assert torch.equal(step(CONSTANTS), X * 3 + 2.5)
    assert graphs() == traced
    assert torch.equal(step(CONSTANTS.replace(before, after)), y)
    for name in names:
        del sys.modules[name]


def test_what_was_damaged_is_compiled_anew(kept: Path, subjects: Any) -> None:
    subject = subjects.Subject(3.0)
    Compiled(subjects.Subject.step, subject, about="3")(X)
    torn = kept / "torn"  # a new file: this process has the old one loaded
    torn.write_bytes(b"torn")
    torn.replace(next(kept.glob("*.so")))
    before = graphs()
    in_another_process()
    out = Compiled(subjects.Subject.step, subject, about="3")(X)
    assert torch.equal(out["y"], X * 3 + 0.5)
    assert graphs() == before + 1
    in_another_process()
    Compiled(subjects.Subject.step, subject, about="3")(X)
    assert graphs() == before + 1


def test_what_cannot_be_told_is_not_kept(kept: Path, subjects: Any) -> None:
    out = Compiled(subjects.Subject.step, subjects.Subject(3.0), about=None)(X)
    assert torch.equal(out["y"], X * 3 + 0.5)
    assert not kept.exists()


def test_processes_that_begin_alike_share_the_work(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another one compiles comes last, when it is done there."""

    def first(subject: None, x: int) -> int:
        return x + 1

    def second(subject: None, x: int) -> int:
        return x + 2

    made: dict[Any, Path] = {}

    def make(function: Any, arguments: Any, path: Path, names: Any) -> Any:
        made[function] = path
        return function

    monkeypatch.setattr(compiled, "_load", lambda path, names: None)
    monkeypatch.setattr(compiled, "_make", make)
    Compiled(second, None, about="b").prepare((1,), wait=True)
    elsewhere = FileLock(made.pop(second).with_suffix(".lock"))
    in_another_process()

    def make_beside(function: Any, *others: Any) -> Any:
        elsewhere.release()
        return make(function, *others)

    monkeypatch.setattr(compiled, "_make", make_beside)
    one, other = Compiled(first, None, about="a"), Compiled(second, None, about="b")
    with elsewhere:
        prepare((other, (1,)), (one, (1,)))
    assert list(made) == [first, second]
    assert (one(1), other(1)) == (2, 3)
    in_another_process()


def test_vectors_are_trusted(kept: Path, subjects: Any) -> None:
    """A check of what the C++ compiler knows takes seconds of each machine's first sweep."""
    config = torch._inductor.config.cpp
    Compiled(subjects.Subject.step, subjects.Subject(3.0), about="3")(X)
    assert config.vec_isa_ok is True
    (beside,) = files(kept)
    assert json.loads(beside.read_text())["vectors"] is True


VECTORS = 'case "$*" in *-mavx*) exit 1;; esac'
PROGRAMS = 'for each in "$@"; do grep -qs -e inductor_entry_impl -- "$each" && exit 1; done'


@pytest.mark.long
@pytest.mark.skipif(not cpu_vec_isa.x86_isa_checker(), reason="no x86 with AVX")
@pytest.mark.parametrize("lack", [VECTORS, PROGRAMS])
def test_a_compiler_that_knows_less(
    lack: str, kept: Path, subjects: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first complaint has Inductor check after all, and do without what it does not know."""
    old = tmp_path / "old_compiler"
    old.write_text(f'#!/bin/sh\n{lack}\nexec g++ "$@"\n')
    old.chmod(0o700)
    config = torch._inductor.config.cpp
    compiled._Vectors().doubt()  # forget what was found of the real one
    vectors = compiled._Vectors()
    monkeypatch.setattr(compiled, "_vectors", vectors)
    before = graphs()
    asked = {"cpp.vec_isa_ok": None, "cpp.cxx": (None, str(old))}
    with torch._inductor.config.patch(asked):
        first = Compiled(subjects.Subject.step, subjects.Subject(3.0), about="3")
        second = Compiled(subjects.Subject.step, subjects.Subject(4.0), about="4")
        assert torch.equal(first(X)["y"], X * 3 + 0.5)
        assert torch.equal(second(X)["y"], X * 4 + 0.5)
        assert graphs() > before + 2  # it was refused, and neither runs as it is
        assert config.vec_isa_ok is None
        assert [json.loads(each.read_text())["vectors"] for each in files(kept)] == [False] * 2
        vectors.doubt()  # forget what was found of the old one


class Counter:
    """One method gives new tensors alone, another what it was given, too."""

    def step(self, total: torch.Tensor, x: torch.Tensor) -> dict[str, torch.Tensor]:
        total.add_(x)
        return {"y": total * 2}

    def step_and_view(self, total: torch.Tensor, x: torch.Tensor) -> dict[str, torch.Tensor]:
        total.add_(x)
        return {"y": total * 2, "total": total.view(2, 2)}


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(("name", "direct"), [("step", True), ("step_and_view", False)])
def test_a_call_goes_straight_to_the_program(
    name: str, direct: bool, again: bool, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is done around it: a view of what came in is made there."""
    from torch._inductor.output_code import CompiledFxGraph

    if again:
        Compiled(getattr(Counter, name), Counter(), about="it").prepare((X + 0, X), wait=True)
        in_another_process()
    step = Compiled(getattr(Counter, name), Counter(), about="it")
    calls = []
    call = CompiledFxGraph.__call__

    def counted(graph: Any, inputs: Any) -> Any:
        calls.append(inputs)
        return call(graph, inputs)

    total, other = X + 0, X + 1  # the first call's tensors are not the others'
    step(other, X)
    monkeypatch.setattr(CompiledFxGraph, "__call__", counted)
    for times in (1, 2, 3):
        out = step(total, X)
        assert torch.equal(total, X * (times + 1))
        assert torch.equal(out["y"], total * 2)
        if "total" in out:
            assert out["total"].data_ptr() == total.data_ptr()
    assert torch.equal(other, X * 2 + 1)
    assert len(calls) == (0 if direct else 3)


def test_another_way_of_compiling_is_compiled_anew(
    kept: Path, subjects: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ways in (compiled._WAYS, compiled._WAYS[:1], compiled._WAYS):
        monkeypatch.setattr(compiled, "_WAYS", ways)
        in_another_process()
        Compiled(subjects.Subject.step, subjects.Subject(3.0), about="3")(X)
    assert len(files(kept)) == 2


class Branching:
    def step(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": x + 1} if x.sum() > 0 else {"y": x - 1}


@pytest.mark.parametrize("about", [None, "it"])
def test_what_cannot_be_compiled_runs_as_it_is(
    kept: Path, about: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    step = Compiled(Branching.step, Branching(), about=about)
    assert torch.equal(step(X)["y"], X + 1)
    assert torch.equal(step(-X)["y"], -X - 1)
    said = [record.message for record in caplog.records if record.name == "gansweep"]
    assert len(said) == 1
    assert "cannot be compiled and runs as it is" in said[0]


class Scaled(nn.Module):
    def __init__(self, factor: Any) -> None:
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(2, 3)


def test_describe_tells_networks_apart() -> None:
    one = describe(Scaled(0.5))
    assert one == describe(Scaled(0.5))
    assert one is not None
    others = [Scaled(0.6), Scaled((0.5,)), nn.Sequential(Scaled(0.5)), Scaled(0.5).eval()]
    others += [Scaled(0.5).double()]
    assert len({one, *map(describe, others)}) == 6


def test_describe_gives_up_on_what_it_does_not_know() -> None:
    assert describe(Scaled(object())) is None
    assert describe(Scaled(lambda x: x)) is None
    hooked = Scaled(0.5)
    hooked.register_forward_hook(lambda module, inputs, output: output * 2)
    assert describe(hooked) is None
    hidden: Any = type("Hidden", (nn.Module,), {})  # without a source
    assert describe(nn.Sequential(hidden())) is None
