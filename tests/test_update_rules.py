"""Each update rule takes torch.optim's steps, row by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from gansweep.optimizers import OPTIMIZERS, OptimizerSpec

CASES = {
    "sgd": [{"lr": 0.1}, {"lr": 0.03}],
    "sgd decay": [{"lr": 0.1, "weight_decay": 0.2}, {"lr": 0.03, "weight_decay": 0.1}],
    "sgd momentum": [{"lr": 0.1, "momentum": 0.9}, {"lr": 0.02, "momentum": 0.5}],
    "rmsprop": [{"lr": 1e-3}, {"lr": 5e-5, "alpha": 0.9, "eps": 1e-6}],
    "rmsprop momentum decay": [
        {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.01},
        {"lr": 1e-2, "momentum": 0.1, "weight_decay": 0.3},
    ],
    "adam": [{"lr": 2e-4}, {"lr": 1e-2, "beta1": 0.0, "beta2": 0.9}],
    "adam decay": [{"weight_decay": 0.1}, {"lr": 1e-2, "beta1": 0.9, "weight_decay": 0.02}],
    "adamw": [{"lr": 2e-4, "weight_decay": 0.1}, {"lr": 1e-2, "beta1": 0.9, "weight_decay": 0.3}],
}
STEPS = 50
SIZE = 7


def specs(case: str) -> Iterator[OptimizerSpec]:
    cls = OPTIMIZERS.load(case.split()[0], at="")
    for settings in CASES[case]:
        yield cls(cls.Settings(**settings))


def gradient(theta: Tensor, turn: int) -> Tensor:
    return theta.cos() * (1 + turn % 3) + 0.1


@pytest.mark.parametrize("case", CASES)
def test_rows_step_as_torch_does(case: str) -> None:
    torch.manual_seed(0)
    start = torch.randn(len(CASES[case]), SIZE, dtype=torch.float64)
    chosen = list(specs(case))
    theta = start.clone()
    rule = chosen[0].rule
    assert rule is not None
    assert all(spec.rule == rule for spec in chosen)
    state = {name: torch.zeros_like(theta) for name in rule.state}
    columns = {
        field.name: torch.tensor(
            [[getattr(spec.settings, field.name)] for spec in chosen], dtype=torch.float64
        )
        for field in dataclasses.fields(chosen[0].settings)
    }
    for turn in range(STEPS):
        step = torch.full((len(chosen), 1), float(turn + 1))
        rule.update(theta, gradient(theta, turn), state, step, columns)
    for row, spec in enumerate(chosen):
        alone = nn.Parameter(start[row].clone())
        optimizer = spec.build([alone])
        for turn in range(STEPS):
            alone.grad = gradient(alone.detach(), turn)
            optimizer.step()
        torch.testing.assert_close(theta[row], alone.detach(), rtol=1e-12, atol=0)
        kept = optimizer.state[alone]
        assert rule.counts == ("step" in kept)
        tensors = {name for name, value in kept.items() if torch.is_tensor(value)} - {"step"}
        assert tensors == set(rule.state)
        for name in rule.state:
            torch.testing.assert_close(state[name][row], kept[name], rtol=1e-12, atol=0)


def test_all_built_in_optimizers_have_a_case() -> None:
    assert {case.split()[0] for case in CASES} == set(OPTIMIZERS.names)
