"""A batch is one generator step's data."""

from __future__ import annotations

import pytest
import torch

from gansweep.data.base import Samples, to_float
from gansweep.data.batch import Batch, resident
from gansweep.data.stream import BatchOrder

CPU = torch.device("cpu")
IMAGES = Samples(
    torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).repeat(1, 1, 2, 2) * 12,
    torch.arange(20) % 3,
)


def taken(samples=IMAGES, *, steps=(1, 2, 3, 1, 2, 3)):
    order = BatchOrder(len(samples), 0)
    return [Batch.take(samples, order, steps=k, size=4, device=CPU) for k in steps]


def test_the_data_follow_the_order():
    expected = BatchOrder(20, 0).take(4 * 12)
    seen = torch.cat([b.real(i)[:, 0, 0, 0] for b in taken() for i in range(b.steps)])
    torch.testing.assert_close(seen, to_float(IMAGES.x)[expected, 0, 0, 0])
    labels = torch.cat([b.labels(i) for b in taken() for i in range(b.steps)])
    assert torch.equal(labels, IMAGES.labels[expected])


def test_images_come_as_floats_in_minus_one_to_one():
    real = taken()[0].real(0)
    assert real.dtype == torch.float32
    assert real.shape == (4, 1, 2, 2)
    assert -1 <= real.min() < real.max() <= 1


def test_vectors_come_as_copies():
    samples = Samples(torch.randn(20, 2))
    kept = samples.x.clone()
    batch = taken(samples)[0]
    batch.real(0).zero_()
    assert torch.equal(samples.x, kept)
    assert batch.labels(0) is None


def test_batches_larger_than_the_data():
    samples = Samples(torch.arange(3.0).view(3, 1))
    batches = taken(samples, steps=(1, 2, 3))
    epochs = torch.cat([b.real(i)[:, 0] for b in batches for i in range(b.steps)]).view(-1, 3)
    assert epochs.sort(1).values.tolist() == [[0, 1, 2]] * 8


@pytest.mark.parametrize("labels", [None, torch.arange(5), torch.randn(5, 2)])
def test_resident_keeps_what_it_is_given(labels):
    samples = Samples(torch.zeros(5, 2), labels, ("a",))
    there = resident(samples, CPU)
    assert torch.equal(there.x, samples.x)
    assert there.class_names == ("a",)
    assert (there.labels is None) == (labels is None)


def test_a_batch_knows_its_size():
    (batch,) = taken(steps=[7])
    assert (batch.steps, batch.size, batch.shape) == (7, 4, (1, 2, 2))
    assert batch.real(6).shape == (4, 1, 2, 2)
