"""Modes, high-quality share and reverse KL of PacGAN's toys."""

from __future__ import annotations

import math

import pytest
import torch

from gansweep.data.toys import Grid25, Ring8
from gansweep.dataspec import Modes
from gansweep.errors import ConfigError
from gansweep.metrics.features import Features
from gansweep.metrics.modes import HighQuality, ModesCovered, ReverseKL
from metrics.judged import build

TWO = Modes(((0.0, 0.0), (10.0, 0.0)), std=0.5)


def value(cls, x, modes=TWO):
    fake = Features(torch.tensor(x) if isinstance(x, list) else x)
    return build(cls, modes=modes)(fake, fake)


def test_a_sample_is_good_within_three_sigmas():
    assert value(HighQuality, [[1.49, 0.0], [1.51, 0.0], [10.0, -1.49], [10.0, 1.51]]) == 0.5
    assert value(ModesCovered, [[1.49, 0.0], [1.51, 0.0]]) == 1
    assert value(ModesCovered, [[1.51, 0.0], [8.49, 0.0]]) == 0  # near both, in neither
    assert value(ModesCovered, [[0.0, 0.0], [10.1, 0.1]]) == 2


def test_reverse_divergence_in_closed_form():
    """Three samples of four in one mode: 3/4 log(3/2) + 1/4 log(1/2)."""
    x = [[0.0, 0.0], [0.1, 0.0], [1.4, 0.0], [10.0, 0.0]]
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert value(ReverseKL, x) == pytest.approx(expected, rel=1e-9)
    assert value(ReverseKL, [[0.0, 0.0]]) == pytest.approx(math.log(2), rel=1e-9)
    assert value(ReverseKL, [[0.0, 0.0], [10.0, 0.0]]) == 0


def test_reverse_divergence_counts_samples_of_high_quality_alone():
    """As the authors' code does: the third is nearest to the first mode, and not counted for it."""
    assert value(ReverseKL, [[0.0, 0.0], [10.0, 0.0], [4.9, 0.0]]) == 0
    none = [[4.9, 0.0], [5.1, 0.0]]
    assert value(ReverseKL, none) == pytest.approx(math.log(2), rel=1e-12)
    assert value(HighQuality, none) == value(ModesCovered, none) == 0


def test_the_authors_procedure():
    """Samples of the ring, off it and between its modes, counted one by one as theirs are."""
    toy = Ring8(Ring8.Settings(n=300, std=0.05))
    x = toy.load().x * torch.linspace(0.9, 1.1, 300)[:, None]
    counts = [0] * 8
    for point in x.tolist():
        far = [math.dist(point, centre) / 0.05 for centre in toy.centres.tolist()]
        if min(far) < 3:
            counts[far.index(min(far))] += 1
    assert 100 < sum(counts) < 300  # both kinds occur
    shares = [count / sum(counts) for count in counts if count]
    entropy = -sum(share * math.log(share) for share in shares)
    assert value(ReverseKL, x, toy.modes) == pytest.approx(math.log(8) - entropy, rel=1e-6)
    assert value(HighQuality, x, toy.modes) == pytest.approx(sum(counts) / 300)
    assert value(ModesCovered, x, toy.modes) == sum(count > 0 for count in counts)


@pytest.mark.parametrize(("cls", "count"), [(Ring8, 8), (Grid25, 25)])
def test_the_data_themselves(cls, count):
    """Of a round Gaussian 1 - exp(-9/2) lies within three sigmas."""
    toy = cls(cls.Settings(n=50_000))
    x = toy.load().x
    assert value(ModesCovered, x, toy.modes) == count
    good = 1 - math.exp(-4.5)
    error = math.sqrt(good * (1 - good) / 50_000)
    assert value(HighQuality, x, toy.modes) == pytest.approx(good, abs=4 * error)
    assert 0 <= value(ReverseKL, x, toy.modes) < count / 50_000  # (K - 1) / 2N on average


def test_collapse_on_one_mode_of_the_ring():
    toy = Ring8(Ring8.Settings())
    x = toy.centres[3].repeat(100, 1)
    values = [value(cls, x, toy.modes) for cls in (ModesCovered, HighQuality, ReverseKL)]
    assert values == [1, 1, pytest.approx(math.log(8), rel=1e-9)]


@pytest.mark.parametrize("cls", [ModesCovered, HighQuality, ReverseKL])
def test_other_data_are_refused(cls):
    with pytest.raises(ConfigError, match="known modes of a toy"):
        build(cls)
