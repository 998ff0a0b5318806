"""Optimizers: every setting reaches torch, and steps by the book."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from gansweep.optimizers import OPTIMIZERS

GIVEN = {
    "sgd": {"lr": 0.3, "momentum": 0.7, "weight_decay": 0.01},
    "rmsprop": {"lr": 0.3, "alpha": 0.8, "eps": 1e-3, "momentum": 0.6, "weight_decay": 0.02},
    "adam": {"lr": 0.3, "beta1": 0.4, "beta2": 0.8, "eps": 1e-3, "weight_decay": 0.03},
    "adamw": {"lr": 0.3, "beta1": 0.4, "beta2": 0.8, "eps": 1e-3, "weight_decay": 0.03},
}
CLASSES = {
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def spec(name, **settings):
    problems = []
    part = OPTIMIZERS.part({"name": name, **settings}, at="optimizer", problems=problems)
    assert part is not None, problems
    return part.cls(part.settings)


def test_every_optimizer_is_here():
    assert set(OPTIMIZERS.names) == set(GIVEN) == set(CLASSES)


@pytest.mark.parametrize("name", GIVEN)
def test_every_setting_reaches_torch(name):
    given, parameter = GIVEN[name], nn.Parameter(torch.zeros(3))
    built = spec(name, **given)
    assert {f.name for f in dataclasses.fields(built.settings)} == set(given)
    optimizer = built.build([parameter])
    assert type(optimizer) is CLASSES[name]
    (group,) = optimizer.param_groups
    assert group["params"] == [parameter]
    ran = 0
    for key, value in given.items():
        if key in ("beta1", "beta2"):
            assert group["betas"][key == "beta2"] == value
        else:
            assert group[key] == value
        ran += 1
    assert ran == len(given) >= 3


@pytest.mark.parametrize("name", GIVEN)
def test_a_step_scales_with_the_learning_rate(name):
    moved = {}
    for lr in (0.1, 0.2):
        parameter = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = spec(name, lr=lr).build([parameter])
        parameter.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
        moved[lr] = parameter.item()
    assert moved[0.1] < 0
    assert moved[0.2] == pytest.approx(2 * moved[0.1], rel=1e-9)


def test_momentum():
    assert spec("sgd").momentum == 0.0
    assert spec("sgd", momentum=0.5).momentum == 0.5
    assert spec("rmsprop").momentum == 0.0
    assert spec("rmsprop", momentum=0.9).momentum == 0.9
    assert spec("adam").momentum == 0.5
    assert spec("adam", beta1=0.0).momentum == 0.0
    assert spec("adamw", beta1=0.3).momentum == 0.3


def test_two_steps_by_hand():
    """SGD with momentum: v = m v + g, x -= lr v. Adam: the bias-corrected ratio."""
    gradients, lr = (2.0, -1.0), 0.1
    x, v = 0.0, 0.0
    for g in gradients:
        v = 0.5 * v + g
        x -= lr * v
    assert run(spec("sgd", lr=lr, momentum=0.5), gradients) == pytest.approx(x, abs=1e-12)
    x, m, s = 0.0, 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        m, s = 0.5 * m + 0.5 * g, 0.9 * s + 0.1 * g * g
        x -= lr * (m / (1 - 0.5**t)) / ((s / (1 - 0.9**t)) ** 0.5 + 1e-8)
    adam = spec("adam", lr=lr, beta1=0.5, beta2=0.9)
    assert run(adam, gradients) == pytest.approx(x, abs=1e-12)


def run(built, gradients) -> float:
    parameter = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = built.build([parameter])
    for g in gradients:
        parameter.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
    return parameter.item()


def test_ranges():
    ran = 0
    for name, key, value in (
        ("sgd", "lr", 0),
        ("sgd", "momentum", 1.0),
        ("adam", "beta1", 1.0),
        ("adam", "beta2", -0.1),
        ("rmsprop", "alpha", 1.5),
        ("adamw", "weight_decay", -1),
    ):
        problems = []
        assert OPTIMIZERS.part({"name": name, key: value}, at="o", problems=problems) is None
        assert [p.where for p in problems] == [f"o.{key}"]
        ran += 1
    assert ran == 6
