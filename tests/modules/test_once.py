"""What a compiled step computes once per row: equal numbers, no power in a loop over them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._inductor.utils import run_and_get_code

from gansweep.modules.compiled import Compiled
from gansweep.update_rules import AdamRule, once

ROWS, WIDTH = 3, 1237
RULE = AdamRule(decoupled=False, with_decay=False)


def step(_: None, theta: Tensor, grad: Tensor, state: dict[str, Tensor], number: Tensor) -> Tensor:
    columns = {
        name: torch.full((ROWS, 1), value, dtype=torch.float64)
        for name, value in {"lr": 1e-3, "beta1": 0.5, "beta2": 0.99, "eps": 1e-8}.items()
    }
    moved, own = theta.clone(), {name: tensor.clone() for name, tensor in state.items()}
    RULE.update(moved, grad.clone(), own, number + 1, columns)
    return moved


def arguments() -> tuple[Tensor, Tensor, dict[str, Tensor], Tensor]:
    rng = torch.Generator().manual_seed(0)
    theta, grad, mean = (torch.randn(ROWS, WIDTH, generator=rng) for _ in range(3))
    state = {"exp_avg": mean, "exp_avg_sq": grad.square()}
    return theta, grad, state, torch.tensor([[0.0], [6.0], [90.0]])


@pytest.fixture(autouse=True)
def _new_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


def test_adam_steps_as_it_does_eagerly() -> None:
    given = arguments()
    out = Compiled(step, None, about=None)(*given)
    assert torch.allclose(out, step(None, *given), rtol=1e-6, atol=1e-8)
    assert not torch.equal(out, given[0])


def test_powers_are_not_computed_for_each_number() -> None:
    """Loops over rows are over x0, those within over x1."""
    _, code = run_and_get_code(lambda: Compiled(step, None, about=None)(*arguments()))
    loops = "\n".join(code).split("for(int64_t x0")
    with_power = [loop for loop in loops if ".pow(" in loop or "std::pow(" in loop]
    assert with_power
    assert not any("for(int64_t x1" in loop for loop in with_power)
    assert any("for(int64_t x1" in loop for loop in loops)


def test_eagerly_nothing_is_copied() -> None:
    column = torch.ones(2, 1)
    assert once(column) is column
