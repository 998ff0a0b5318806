"""The loader: a batch is one generator step's data."""

from __future__ import annotations

import pytest
import torch

from gansweep.data.base import Samples, to_float
from gansweep.data.loader import Batch, ResidentLoader, resident
from gansweep.data.stream import BatchOrder

CPU = torch.device("cpu")
IMAGES = Samples(
    torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).repeat(1, 1, 2, 2) * 12,
    torch.arange(20) % 3,
)


def loader(samples=IMAGES, *, start=0, stop=6, order=None, d_steps=lambda g: 1 + g % 3):
    return ResidentLoader(
        samples,
        order=order or BatchOrder(len(samples), 0),
        batch_size=4,
        d_steps=d_steps,
        start=start,
        stop=stop,
        device=CPU,
    )


def test_each_batch_has_its_discriminator_steps():
    batches = list(loader())
    assert [b.steps for b in batches] == [1, 2, 3, 1, 2, 3]
    assert {b.size for b in batches} == {4}
    assert len(loader()) == 6
    assert len(loader(start=4)) == 2
    assert len(loader(start=9)) == 0
    assert list(loader(start=9)) == []


def test_the_data_follow_the_order():
    expected = BatchOrder(20, 0).take(4 * 12)
    seen = torch.cat([b.real(i)[:, 0, 0, 0] for b in loader() for i in range(b.steps)])
    torch.testing.assert_close(seen, to_float(IMAGES.x)[expected, 0, 0, 0])
    labels = torch.cat([b.labels(i) for b in loader() for i in range(b.steps)])
    assert torch.equal(labels, IMAGES.labels[expected])


def test_images_come_as_floats_in_minus_one_to_one():
    real = next(iter(loader())).real(0)
    assert real.dtype == torch.float32
    assert real.shape == (4, 1, 2, 2)
    assert -1 <= real.min() < real.max() <= 1


def test_vectors_come_as_copies():
    samples = Samples(torch.randn(20, 2))
    kept = samples.x.clone()
    batch = next(iter(loader(samples)))
    batch.real(0).zero_()
    assert torch.equal(samples.x, kept)
    assert batch.labels(0) is None


def test_batches_larger_than_the_data():
    samples = Samples(torch.arange(3.0).view(3, 1))
    batches = list(loader(samples, stop=3))
    epochs = torch.cat([b.real(i)[:, 0] for b in batches for i in range(b.steps)]).view(-1, 3)
    assert epochs.sort(1).values.tolist() == [[0, 1, 2]] * 8


def test_the_order_stands_where_training_stands():
    """Nothing is taken ahead: a state saved after a batch resumes with the next."""
    order = BatchOrder(20, 0)
    whole = [b.indices for b in loader()]
    ran = 0
    iterator = iter(loader(order=order))
    for g_step in range(5):
        next(iterator)
        other = BatchOrder(20, 99)
        other.load_state_dict(order.state_dict())
        rest = [b.indices for b in loader(order=other, start=g_step + 1)]
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[g_step + 1 :], strict=True))
        ran += 1
    assert ran == 5


@pytest.mark.parametrize("labels", [None, torch.arange(5), torch.randn(5, 2)])
def test_resident_keeps_what_it_is_given(labels):
    samples = Samples(torch.zeros(5, 2), labels, ("a",))
    there = resident(samples, CPU)
    assert torch.equal(there.x, samples.x)
    assert there.class_names == ("a",)
    assert (there.labels is None) == (labels is None)


def test_a_batch_knows_its_size():
    batch = Batch(IMAGES, torch.zeros(7, 3, dtype=torch.int64), CPU)
    assert (batch.steps, batch.size) == (7, 3)
    assert batch.real(6).shape == (3, 1, 2, 2)
