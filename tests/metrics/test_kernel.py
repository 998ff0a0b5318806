"""The kernel distance: the estimator pair by pair, and that it is unbiased."""

from __future__ import annotations

import pytest
import torch

from gansweep.dataspec import DataSpec
from gansweep.errors import ConfigError
from gansweep.metrics import kernel
from gansweep.metrics.base import Subject
from gansweep.metrics.extractors.raw import Raw
from gansweep.metrics.features import Features
from gansweep.metrics.kernel import KernelDistance
from metrics.judged import build, judge, known


def points(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def pair_by_pair(fake, real):
    """Binkowski et al. 2018, equation 4, with their kernel."""

    def k(x, y):
        return (float(x.double() @ y.double()) / len(x) + 1) ** 3

    def off_diagonal(x):
        n = len(x)
        return sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    across = sum(k(x, y) for x in fake for y in real) / (len(fake) * len(real))
    return off_diagonal(fake) + off_diagonal(real) - 2 * across


@pytest.mark.parametrize("rows", [5, 2048])
def test_pair_by_pair(rows, monkeypatch):
    monkeypatch.setattr(kernel, "ROWS", rows)
    fake, real = points(13, 4) * 2, points(17, 4, 1)
    assert judge(KernelDistance, fake, real) == pytest.approx(pair_by_pair(fake, real), rel=1e-9)


def test_it_is_zero_on_average_for_one_distribution():
    """Below 0 as often as above: no count of samples is favoured."""
    values = torch.tensor(
        [judge(KernelDistance, points(20, 3, 2 * i), points(20, 3, 2 * i + 1)) for i in range(300)]
    )
    error = values.std() / 300**0.5
    assert abs(values.mean()) < 4 * error
    assert 0.3 < (values < 0).float().mean() < 0.9


def test_bootstrap_samples_are_those_of_their_draws():
    """Copies count as pairs of different draws."""
    score = build(KernelDistance)
    real = known(score, Features(points(9, 3, 1)))
    fake = points(6, 3)
    counts = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 2, 1, 0, 3, 0]])
    drawn = [pair_by_pair(fake.repeat_interleave(row, 0), real.x) for row in counts]
    assert score.resampled(Features(fake), real, counts) == pytest.approx(drawn, rel=1e-9)


def test_vectors_without_bounds_are_refused():
    """The cube of what lies far off is larger than any difference: the worst G would rank first."""
    for shape, refused in (((2,), True), ((1, 8, 8), False)):
        spec = DataSpec(shape)
        if not refused:
            KernelDistance(Subject(spec), Raw(spec))
            continue
        with pytest.raises(ConfigError, match=r"kd needs features with bounds.*use swd or fd/raw"):
            KernelDistance(Subject(spec), Raw(spec))
