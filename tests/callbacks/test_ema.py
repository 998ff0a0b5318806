"""The averaged generator, against its closed form."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gansweep.callbacks.ema import EMA


def net(value: float) -> nn.Module:
    module = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)).double()
    put(module, value)
    return module


def put(module: nn.Module, value: float) -> None:
    for tensor in (*module.parameters(), module[1].running_mean, module[1].running_var):
        tensor.data.fill_(value)


def run(values, decay):
    G = net(100.0)
    ema = EMA(G, decay=decay)
    for value in values:
        put(G, value)
        ema.on_train_batch_end(None, SimpleNamespace(generator=G), None, None, 0)
    return ema, G


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_closed_form(decay):
    """e_n = decay^(n-1) x_1 + (1 - decay) sum_{i>1} decay^(n-i) x_i.

    The initial weights play no part.
    """
    values = [3.0, -1.0, 4.0, 1.0, -5.0]
    ema, G = run(values, decay)
    n = len(values)
    expected = decay ** (n - 1) * values[0] + (1 - decay) * sum(
        decay ** (n - i) * x for i, x in enumerate(values[1:], 2)
    )
    ran = 0
    averaged = ema.generator
    for tensor in (*averaged.parameters(), averaged[1].running_mean, averaged[1].running_var):
        assert tensor.item() == pytest.approx(expected, abs=1e-12)
        ran += 1
    assert ran == 6
    assert G[0].weight.item() == values[-1]  # G itself is left alone


def test_it_starts_from_the_first_steps_weights():
    ema, _ = run([7.0], 0.99)
    assert ema.generator[0].weight.item() == 7.0


def test_the_state_round_trips():
    ema, G = run([3.0, 5.0], 0.9)
    other = EMA(net(0.0), decay=0.9)
    other.load_state_dict(ema.state_dict())
    for one in (ema, other):
        put(G, 11.0)
        one.on_train_batch_end(None, SimpleNamespace(generator=G), None, None, 0)
    for a, b in zip(ema.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert other.generator[0].weight.item() == pytest.approx(0.9 * 3.2 + 0.1 * 11, abs=1e-12)


def test_sampling_the_average_needs_no_gradient():
    ema, G = run([1.0, 2.0], 0.5)
    assert ema.generator is not G
    assert all(
        a.data_ptr() != b.data_ptr()
        for a, b in zip(ema.generator.parameters(), G.parameters(), strict=True)
    )
