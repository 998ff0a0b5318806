"""A compiled function's program: it is found where it is all that there is of the function."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gansweep.modules import compiled, program
from gansweep.modules.program import Program, program_of


@dataclass(frozen=True)
class Rows:
    weights: Tensor
    state: dict[str, Tensor]


def given(shift: float = 0.0) -> tuple[Any, ...]:
    numbers = torch.arange(6.0).view(2, 3) + shift
    return None, Rows(numbers, {"mean": numbers + 1}), [numbers.mT * 2, numbers + 7], None


@pytest.fixture(autouse=True)
def _new_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


def made(function: Callable[..., Any], *arguments: Any) -> Program | None:
    return program_of(compiled._compile(function, arguments), arguments)


def same_as(function: Callable[..., Any], run: Callable[..., Any], shift: float) -> bool:
    one, other = given(shift), given(shift)
    expected, found = function(*one), run(*other)
    pairs = [(expected[name], found.pop(name)) for name in expected]
    pairs += [(one[1].weights, other[1].weights), (one[1].state["mean"], other[1].state["mean"])]
    return not found and all(torch.allclose(*pair) for pair in pairs)


def step(_: None, rows: Rows, x: list[Tensor], shift: Tensor | None) -> dict[str, Tensor]:
    rows.weights.add_(x[1])
    rows.state["mean"].lerp_(x[0].mT, 0.5)
    return {"total": rows.weights.sum(1), "first": x[0] * 2}


def test_it_takes_and_gives_what_the_function_does(tmp_path: Path) -> None:
    arguments = given()
    found = made(step, *arguments)
    assert found is not None
    assert sorted(found.inputs) == ["a[1].state['mean']", "a[1].weights", "a[2][0]", "a[2][1]"]
    assert sorted(found.outputs) == ["first", "total"]
    assert torch.equal(arguments[1].weights, given()[1].weights)  # it was found with copies
    kept = Program(shutil.copy(found.library, tmp_path / "kept.so"), found.inputs, found.outputs)
    for each in (found, kept):
        run = each.load()
        assert all(same_as(step, run, shift) for shift in (0.0, 1.0, 5.0))


def test_what_it_gives_lives_on(tmp_path: Path) -> None:
    found = made(step, *given())
    assert found is not None
    run = found.load()
    outputs = [run(*given(float(i)))["first"] for i in range(50)]
    del run
    gc.collect()
    assert all(torch.equal(out, given(float(i))[2][0] * 2) for i, out in enumerate(outputs))


def not_a_number(_: None, x: Tensor) -> dict[str, Tensor]:
    return {"root": x.sqrt()}


def test_numbers_that_are_none_are_the_same() -> None:
    assert made(not_a_number, None, torch.tensor([-1.0, 4.0])) is not None


def with_input(_: None, x: Tensor) -> dict[str, Tensor]:
    return {"x": x, "y": x + 1}


def with_view(_: None, x: Tensor) -> dict[str, Tensor]:
    return {"x": x.view(-1), "y": x + 1}


def with_a_number(_: None, x: Tensor) -> dict[str, Any]:
    return {"y": x + 1, "number": 3}


def twice(_: None, x: Tensor) -> dict[str, Tensor]:
    y = x + 1
    return {"y": y, "again": y}


def no_dict(_: None, x: Tensor) -> Tensor:
    return x + 1


def with_a_constant(_: None, x: Tensor) -> dict[str, Tensor]:
    return {"y": x + torch.tensor([1.0, 2.0, 3.0, 4.0])}


def drawn(_: None, x: Tensor) -> dict[str, Tensor]:
    return {"y": x + torch.rand(4)}


class Holder:
    def __init__(self) -> None:
        self.shift = torch.ones(4)

    def step(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": x + self.shift}


@pytest.mark.parametrize(
    "function", [with_input, with_view, with_a_number, twice, no_dict, drawn, Holder.step]
)
def test_more_than_a_program_is_none(function: Callable[..., Any]) -> None:
    subject = Holder() if function is Holder.step else None
    assert made(function, subject, torch.arange(4.0)) is None


def added(_: None, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    return {"sum": x + y}


def test_of_a_tensor_in_two_places_neither_can_be_told() -> None:
    x = torch.arange(4.0)
    assert made(added, None, x, x + 1) is not None
    assert made(added, None, x, x) is None


def test_a_small_constant_is_part_of_it() -> None:
    found = made(with_a_constant, None, torch.arange(4.0))
    assert found is not None
    x = torch.arange(4.0) * 3
    assert torch.equal(found.load()(None, x)["y"], with_a_constant(None, x)["y"])


def with_a_large_constant(_: None, x: Tensor) -> dict[str, Tensor]:
    return {"y": x + torch.tensor([float(i * 7 % 13) for i in range(160)])}


def test_a_large_constant_is_handed_over_after_the_inputs() -> None:
    assert made(with_a_large_constant, None, torch.ones(160)) is None


def test_another_torch_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AttributeError("no such thing")

    monkeypatch.setattr(program, "_found", fail)
    assert made(not_a_number, None, torch.ones(4)) is None
