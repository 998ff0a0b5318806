"""The exact Wasserstein-1 distance on the line."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch

from gansweep.errors import ConfigError
from gansweep.metrics.w1 import Wasserstein1
from metrics.judged import build, judge


def points(n, seed=0):
    return torch.randn(n, 1, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "m"), [(200, 200), (150, 60), (1, 40), (7, 1)])
def test_it_is_scipys(n, m):
    fake, real = points(n) * 2 + 0.3, points(m, 1)
    expected = scipy.stats.wasserstein_distance(fake[:, 0].numpy(), real[:, 0].numpy())
    assert judge(Wasserstein1, fake, real, shape=(1,)) == pytest.approx(expected, rel=1e-6)


def test_closed_forms():
    real = points(300)
    for shift in (2.5, -2.5):
        assert judge(Wasserstein1, real + shift, real, shape=(1,)) == pytest.approx(2.5, rel=1e-6)
    assert judge(Wasserstein1, real.flip(0), real, shape=(1,)) == 0
    doubled = judge(Wasserstein1, real.repeat(2, 1), real, shape=(1,))
    assert doubled == pytest.approx(0, abs=1e-12)
    zero = torch.zeros(300, 1)
    assert judge(Wasserstein1, zero, real, shape=(1,)) == pytest.approx(
        real.abs().mean().item(), rel=1e-6
    )


def test_nan_is_told():
    assert math.isnan(judge(Wasserstein1, torch.full((9, 1), math.nan), points(9), shape=(1,)))


def test_other_shapes_are_refused():
    with pytest.raises(ConfigError, match=r"data on the line, these have shape \(2,\)"):
        build(Wasserstein1)
