"""The sliced Wasserstein distance: closed forms and invariances."""

from __future__ import annotations

import math

import pytest
import torch

from gansweep.dataspec import DataSpec
from gansweep.metrics.base import Subject
from gansweep.metrics.extractors.raw import Raw
from gansweep.metrics.features import Features
from gansweep.metrics.swd import PROJECTIONS, SlicedWasserstein


class Swd:
    """The distance to `real`."""

    def __init__(self, real, *, seed=0):
        spec = DataSpec(tuple(real.shape[1:]))
        self.score = SlicedWasserstein(Subject(spec, seed=seed), Raw(spec))
        self.real = self.seen(real)
        self.real = self.real.of(self.score.statistics(self.real))

    def seen(self, x):
        return Features(self.score.extractor(x).features)

    def __call__(self, fake):
        return self.score(self.seen(fake), self.real)


def points(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_in_one_dimension_it_is_w1():
    """Of sorted samples the mean of |x_(i) - y_(i)|."""
    real = torch.tensor([[3.0], [0.0], [10.0]])
    score = Swd(real, seed=0)
    assert score(torch.tensor([[1.0], [9.0], [5.0]])) == pytest.approx((1 + 2 + 1) / 3, abs=1e-6)
    assert score(real + 2.5) == pytest.approx(2.5, abs=1e-6)
    assert score(real - 2.5) == pytest.approx(2.5, abs=1e-6)
    assert score(real.flip(0)) == 0
    assert Swd(real, seed=7)(real + 1) == pytest.approx(1, abs=1e-6)


def test_equal_sets_are_at_distance_zero():
    real = points(50, 6)
    score = Swd(real, seed=0)
    assert score(real.clone()) == 0
    assert score(real[torch.randperm(50)]) == pytest.approx(0, abs=1e-6)
    assert score(real + 1e-3) > 0


def test_a_shift_by_its_closed_form():
    """Shifted by v: E|theta . v| = |v| E|theta_1|, in two dimensions |v| 2 / pi."""
    real = points(30, 2)
    distances = [Swd(real, seed=seed)(real + torch.tensor([3.0, 4.0])) for seed in range(20)]
    mean = sum(distances) / 20
    expected = 5 * 2 / math.pi
    sigma = 5 * math.sqrt(0.5 - (2 / math.pi) ** 2) / math.sqrt(PROJECTIONS * 20)
    assert mean == pytest.approx(expected, abs=4.5 * sigma)


def test_it_scales_with_the_data():
    real, fake = points(40, 5), points(40, 5, 1)
    one = Swd(real, seed=0)(fake)
    assert Swd(3 * real, seed=0)(3 * fake) == pytest.approx(3 * one, rel=1e-5)
    assert Swd(fake, seed=0)(real) == pytest.approx(one, rel=1e-6)


def test_it_grows_with_the_shift():
    real = points(40, 5)
    score = Swd(real, seed=0)
    distances = [score(real + shift) for shift in (0.0, 0.1, 0.5, 2.0)]
    assert distances == sorted(distances)
    assert distances[3] == pytest.approx(20 * distances[1], rel=1e-4)


def test_images_are_flattened():
    real, fake = points(20, 12), points(20, 12, 1)
    flat = Swd(real, seed=0)(fake)
    assert Swd(real.view(20, 3, 2, 2), seed=0)(fake.view(20, 3, 2, 2)) == flat


def test_it_is_deterministic_by_its_seed():
    real, fake = points(20, 4), points(20, 4, 1)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    score = Swd(real, seed=3)
    first = score(fake)
    assert score(fake) == first == Swd(real, seed=3)(fake)
    assert Swd(real, seed=4)(fake) != first
    assert torch.equal(torch.get_rng_state(), before)


def test_nan_is_told():
    assert math.isnan(Swd(points(9, 2), seed=0)(torch.full((9, 2), math.nan)))


def test_directions_are_of_unit_length():
    directions = Swd(points(9, 5), seed=0).score.extractor.directions
    assert directions.shape == (5, PROJECTIONS)
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(PROJECTIONS))


def test_name_and_mode():
    assert (SlicedWasserstein.name, SlicedWasserstein.mode) == ("swd", "min")
