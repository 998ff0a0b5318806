"""The Frechet distance: closed forms, and scipy's matrix square root."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from gansweep.metrics.frechet import FrechetDistance, moments, root
from metrics.judged import judge


def features(n, d, seed=0):
    """Correlated, skewed, of unequal scales."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=rng) @ torch.randn(d, d, generator=rng)
    return (x + torch.randn(d, generator=rng)).relu() * torch.logspace(-1, 1, d)


def by_scipy(real, fake):
    """As pytorch-fid and torch-fidelity have it."""
    a, b = real.double().numpy(), fake.double().numpy()
    c, e = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    between = scipy.linalg.sqrtm(c @ e)
    shift = a.mean(0) - b.mean(0)
    return shift @ shift + np.trace(c) + np.trace(e) - 2 * np.trace(between.real)


@pytest.mark.parametrize(("n", "d"), [(500, 1), (500, 7), (400, 64), (2000, 64)])
def test_it_is_scipys(n, d):
    real, fake = features(n, d), features(n, d, 1)
    if d == 1:  # numpy's covariance is a number then
        expected = (real.mean() - fake.mean()).item() ** 2
        expected += (real.double().std() - fake.double().std()).item() ** 2
    else:
        expected = by_scipy(real, fake)
    assert judge(FrechetDistance, fake, real) == pytest.approx(expected, rel=1e-4)


def test_fewer_samples_than_features():
    """The covariances are singular then; the true square root is that of the smaller space."""
    real, fake = features(30, 64), features(30, 64, 1)
    a, b = ((x - x.mean(0)) / math.sqrt(29) for x in (real.double(), fake.double()))
    overlap = torch.linalg.svdvals(a @ b.T).sum()  # tr (C_r C_f)^1/2 is the nuclear norm
    shift = (real.double().mean(0) - fake.double().mean(0)).square().sum()
    expected = shift + a.square().sum() + b.square().sum() - 2 * overlap
    assert judge(FrechetDistance, fake, real) == pytest.approx(expected.item(), rel=1e-4)


def test_shift_and_scale_in_closed_form():
    real = features(300, 5)
    assert judge(FrechetDistance, real, real) == pytest.approx(0, abs=1e-6)
    step = torch.tensor([3.0, 0, 4, 0, 0])
    assert judge(FrechetDistance, real + step, real) == pytest.approx(25, rel=1e-4)
    _, covariance = moments(real)
    mean = real.mean(0)
    twice = mean + 2 * (real - mean)  # C' = 4 C: tr(C + 4 C - 2 * 2 C) = tr C
    expected = covariance.trace().item()
    assert judge(FrechetDistance, twice, real) == pytest.approx(expected, rel=1e-4)


def test_root_squared_is_the_covariance():
    _, covariance = moments(features(300, 9))
    half = root(covariance)
    torch.testing.assert_close(half @ half, covariance, rtol=1e-9, atol=1e-9)


def test_nan_is_told():
    real = features(50, 3)
    assert math.isnan(judge(FrechetDistance, torch.full((50, 3), math.nan), real))
