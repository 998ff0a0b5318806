"""The fixed batch: drawn from its seed alone, with the statistics of what it holds."""

from __future__ import annotations

import math

import pytest
import torch

from gansweep.data.base import Samples
from gansweep.data.toys import Ring8
from gansweep.dataspec import Condition
from gansweep.diagnosis.batch import FixedBatch, draw, spread
from gansweep.latent import Latent

CPU = torch.device("cpu")


def drawn(samples: Samples, count: int = 6, **changed: object) -> FixedBatch:
    options: dict[str, object] = {
        "latent": Latent(3), "condition": None, "classify": None, "seed": 0, **changed,
    }  # fmt: skip
    return draw(samples, count=count, device=CPU, **options)  # type: ignore[arg-type]


def points(n: int = 20) -> Samples:
    return Samples(torch.arange(2.0 * n).view(n, 2), torch.arange(n) % 4, ("a", "b", "c", "d"))


def test_it_depends_on_the_seed_and_on_nothing_else() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = drawn(points())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = drawn(points()), drawn(points(), seed=1)
    assert torch.equal(one.real, again.real)
    assert torch.equal(one.z, again.z)
    assert not torch.equal(one.real, other.real)
    assert not torch.equal(one.z, other.z)
    assert (one.real.shape, one.z.shape) == ((6, 2), (6, 3))
    assert len({tuple(x) for x in one.real.tolist()}) == 6  # no sample twice


def test_its_streams_always_give_the_same() -> None:
    one = drawn(points())
    first, again, other = (torch.rand(4, generator=one.stream(name)) for name in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_labels_belong_to_their_samples() -> None:
    one = drawn(points(), condition=Condition("class", 4))
    assert one.labels is not None
    assert torch.equal(one.labels, (one.real[:, 0] / 2).long() % 4)
    assert drawn(points()).labels is None


def test_few_samples_come_more_than_once() -> None:
    one = drawn(points(4), count=10)
    assert one.real.unique(dim=0).shape == (4, 2)
    assert one.real.shape == (10, 2)


def test_images_are_scaled() -> None:
    one = drawn(Samples(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)), count=2)
    assert sorted(one.real.flatten().tolist()) == [-1, 1]
    assert one.spread == 2


def test_spread_is_the_mean_distance_of_pairs() -> None:
    corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    assert spread(corners).item() == pytest.approx((3 + 4 + 5) / 3)
    torch.manual_seed(0)
    line = torch.randn(3000, 1, dtype=torch.float64)  # E|x - y| = 2 / sqrt(pi)
    assert spread(line).item() == pytest.approx(2 / math.sqrt(math.pi), rel=0.03)


def test_classes_are_counted_where_someone_can_tell() -> None:
    ring = Ring8(Ring8.Settings(n=400))
    assert drawn(ring.load(), count=100, classify=lambda x: ring.modes.nearest(x)[0]).classes == 8
    assert drawn(points()).classes == 0
