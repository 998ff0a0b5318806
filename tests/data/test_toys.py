"""The toys' statistics, against their formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from gansweep.data.toys import Gaussian1D, GaussianMixture, Grid25, Ring8, SwissRoll

TOYS: list[type[Any]] = [Gaussian1D, Ring8, Grid25, SwissRoll]


@pytest.mark.parametrize("toy", TOYS)
def test_points_depend_on_the_seed_and_on_nothing_else(toy: type[Any]) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = toy(toy.Settings(n=1000, seed=3)).load()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two = toy(toy.Settings(n=1000, seed=3, batch_size=7)).load()
    other = toy(toy.Settings(n=1000, seed=4)).load()
    assert torch.equal(one.x, two.x)
    assert not torch.equal(one.x, other.x)
    assert one.x.dtype == torch.float32
    assert one.x.shape[0] == len(one) == 1000
    assert toy(toy.Settings()).cache_key() is None


def test_gaussian1d() -> None:
    samples = Gaussian1D(Gaussian1D.Settings(n=200_000, mean=-2.0, std=0.5)).load()
    assert samples.x.shape == (200_000, 1)
    assert samples.labels is None
    x = samples.x.double()
    assert abs(x.mean() + 2) < 4 * 0.5 / math.sqrt(200_000)
    assert abs(x.std() - 0.5) < 4 * 0.5 / math.sqrt(2 * 200_000)
    z = (x + 2) / 0.5
    assert abs((z**4).mean() - 3) < 0.1  # not merely the right two moments
    assert abs((z.abs() < 1).double().mean() - 0.6827) < 0.005


def check_mixture(toy: GaussianMixture, modes: int, std: float) -> None:
    samples = toy.load()
    centres = toy.centres
    n = len(samples)
    assert centres.shape == (modes, 2)
    assert centres.dtype == torch.float32
    assert toy.std == std
    assert torch.cdist(centres, centres).add(torch.eye(modes) * 9).min() > 10 * std
    distance, nearest = torch.cdist(samples.x, centres).min(1)
    assert nearest.unique().numel() == modes
    assert samples.labels is not None
    assert torch.equal(nearest, samples.labels)
    assert samples.spec.condition is not None
    assert samples.spec.condition.size == modes
    # Within r std of its centre lie 1 - exp(-r^2 / 2) of a round Gaussian in the plane.
    for r in (1, 2, 3):
        inside = (distance < r * std).double().mean()
        assert abs(inside - (1 - math.exp(-(r**2) / 2))) < 0.006
    deviation = samples.x - centres[samples.labels]
    assert torch.allclose(deviation.std(0), torch.full((2,), std), rtol=0.02)
    share = samples.labels.bincount(minlength=modes).double() / n
    assert (share - 1 / modes).abs().max() < 5 * math.sqrt(1 / modes / n)


def test_ring8() -> None:
    toy = Ring8(Ring8.Settings())
    check_mixture(toy, 8, 0.01)
    assert len(toy.load()) == 100_000
    centres = toy.centres.double()
    assert torch.allclose(centres.norm(dim=1), torch.ones(8, dtype=torch.float64))
    gaps = (centres - centres.roll(1, 0)).norm(dim=1)  # chords of 45 degrees, all alike
    assert torch.allclose(gaps, torch.full((8,), 2 * math.sin(math.pi / 8), dtype=torch.float64))
    assert torch.allclose(toy.centres[2], torch.tensor([0.0, 1.0]), atol=1e-6)


def test_ring8_radius() -> None:
    toy = Ring8(Ring8.Settings(n=10, radius=2.0))
    assert torch.allclose(toy.centres.norm(dim=1), torch.full((8,), 2.0))
    condition = toy.load().spec.condition
    assert condition is not None
    assert condition.size == 8  # also where 10 points leave modes out


def test_grid25() -> None:
    toy = Grid25(Grid25.Settings())
    check_mixture(toy, 25, 0.05)
    expected = [[float(x), float(y)] for x in range(-4, 5, 2) for y in range(-4, 5, 2)]
    assert toy.centres.tolist() == expected


def test_swiss_roll_without_noise_is_the_spiral() -> None:
    samples = SwissRoll(SwissRoll.Settings(n=50_000, noise=0.0)).load()
    assert samples.labels is None
    x = samples.x.double() * 7.5
    t = x.norm(dim=1)
    assert torch.allclose(torch.stack([t * t.cos(), t * t.sin()], 1), x, atol=1e-4)
    uniform = (t / (1.5 * math.pi) - 1) / 2
    levels = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(uniform.quantile(levels), levels, atol=0.01)


def test_swiss_roll_has_the_moments_of_scikit_learn() -> None:
    from sklearn.datasets import make_swiss_roll

    expected = torch.from_numpy(make_swiss_roll(100_000, noise=0.25, random_state=0)[0][:, [0, 2]])
    x = SwissRoll(SwissRoll.Settings()).load().x.double()
    expected /= 7.5
    assert x.shape == expected.shape
    assert torch.allclose(x.mean(0), expected.mean(0), atol=0.015)
    assert torch.allclose(x.T.cov(), expected.T.cov(), atol=0.02)


def test_swiss_roll_noise() -> None:
    plain = SwissRoll(SwissRoll.Settings(n=50_000, noise=0.0)).load().x
    noisy = SwissRoll(SwissRoll.Settings(n=50_000, noise=0.25)).load().x
    assert torch.allclose((noisy - plain).std(0), torch.full((2,), 0.25 / 7.5), rtol=0.02)


def test_a_point_belongs_to_its_nearest_mode() -> None:
    for toy in (Ring8(Ring8.Settings(n=1000)), Grid25(Grid25.Settings(n=1000))):
        samples = toy.load()
        assert torch.equal(toy.modes.nearest(samples.x)[0], samples.labels)
    mode, distance = Ring8(Ring8.Settings()).modes.nearest(torch.tensor([[4.0, 4.0], [0.0, -0.1]]))
    assert mode.tolist() == [1, 6]
    assert distance.tolist() == pytest.approx([math.sqrt(32) - 1, 0.9])
    assert SwissRoll(SwissRoll.Settings()).modes is None
