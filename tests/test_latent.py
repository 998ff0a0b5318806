"""Latent vectors: their moments, their range, their generator."""

from __future__ import annotations

import math

import torch

from gansweep.latent import Latent


def draw(distribution: str, n: int = 20_000):
    rng = torch.Generator().manual_seed(0)
    return Latent(3, distribution).draw(n, rng=rng)


def test_shapes():
    rng = torch.Generator().manual_seed(0)
    assert Latent(5).draw(2, 4, rng=rng).shape == (2, 4, 5)
    assert Latent(5, "uniform").draw(7, rng=rng).shape == (7, 5)


def test_normal():
    z = draw("normal")
    assert z.mean().abs() < 4.5 / math.sqrt(z.numel())
    assert abs(z.var().item() - 1) < 4.5 * math.sqrt(2 / z.numel())
    assert z.abs().max() > 3.5


def test_uniform_from_minus_one_to_one():
    z = draw("uniform")
    assert -1 <= z.min() < -0.999
    assert 0.999 < z.max() <= 1
    assert z.mean().abs() < 4.5 * math.sqrt(1 / 3 / z.numel())
    assert abs(z.var().item() - 1 / 3) < 4.5 * math.sqrt(4 / 45 / z.numel())


def test_only_the_given_generator_moves():
    torch.manual_seed(0)
    before, rng = torch.get_rng_state(), torch.Generator().manual_seed(1)
    a, b = Latent(4).draw(3, rng=rng), Latent(4).draw(3, rng=rng)
    assert not torch.equal(a, b)
    assert torch.equal(a, Latent(4).draw(3, rng=torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_ladder_of_quantiles() -> None:
    """Uniform: evenly spaced in [-1, 1]; normal: as many rungs on each side of any quantile."""
    even = Latent(3, "uniform").ladder(4)
    assert even.tolist() == [-0.75, -0.25, 0.25, 0.75]
    normal = Latent(3, "normal").ladder(1001)
    assert normal[500].item() == 0
    assert torch.equal(normal, normal.sort().values)
    share = (normal.abs() < 1).double().mean().item()
    assert abs(share - 0.6827) < 0.002
