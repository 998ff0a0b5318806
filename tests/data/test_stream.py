"""The order of samples: permutations, resume, and a generator of its own."""

from __future__ import annotations

import io
import time

import pytest
import torch

from gansweep.data.stream import BatchOrder
from gansweep.errors import ConfigError


@pytest.mark.parametrize("count", [1, 3, 7, 10, 11, 25, 64])
def test_each_epoch_is_a_permutation(count: int) -> None:
    n, order = 10, BatchOrder(10, 0)
    stream = torch.cat([order.take(count) for _ in range(7 * n)])
    assert stream.dtype == torch.int64
    epochs = stream[: 7 * n].reshape(7, n)
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(n))
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 7
    assert order.state_dict()["epoch"] == (7 * n * count - 1) // n


def test_the_stream_does_not_depend_on_the_batches() -> None:
    one, other = BatchOrder(100, 5), BatchOrder(100, 5)
    whole = one.take(1000)
    pieces = torch.cat([other.take(c) for c in (1, 99, 100, 0, 250, 33, 17, 500)])
    assert torch.equal(whole, pieces)
    assert not torch.equal(whole, BatchOrder(100, 6).take(1000))


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = BatchOrder(50, 3)
    first = one.take(120)
    one.load_state_dict(one.state_dict())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(BatchOrder(50, 3).take(120), first)


@pytest.mark.parametrize("taken", [0, 1, 49, 50, 51, 100, 175])
def test_resume_is_exact(taken: int) -> None:
    order = BatchOrder(50, 9)
    order.take(taken)
    stream = io.BytesIO()
    torch.save(order.state_dict(), stream)
    assert stream.tell() < 10_000
    expected = [order.take(32) for _ in range(20)]

    stream.seek(0)
    resumed = BatchOrder(50, 1234)
    resumed.take(77)
    resumed.load_state_dict(torch.load(stream, weights_only=True))
    assert all(torch.equal(resumed.take(32), batch) for batch in expected)
    a, b = resumed.state_dict(), order.state_dict()
    assert torch.equal(a.pop("generator"), b.pop("generator"))
    assert a == b


def test_a_state_is_a_copy() -> None:
    order = BatchOrder(5, 0)
    state = order.state_dict()
    expected = order.take(20)
    for _ in range(2):
        order.load_state_dict(state)
        batch = order.take(20)
        assert torch.equal(batch, expected)
        batch.zero_()  # a batch is a copy too


def test_a_batch_is_no_view_of_the_order() -> None:
    """A view could be written through, and would carry the whole order when pickled."""
    order = BatchOrder(1000, 0)
    for count in (4, 990, 6, 1000):  # within, up to the end of, and across an epoch
        assert order.take(count).untyped_storage().nbytes() == 8 * count


def test_every_place_is_uniform() -> None:
    """First index of 4000 epochs: each of 8 samples 500 times, give or take 4.5 sigma."""
    stream = BatchOrder(8, 0).take(8 * 4000).reshape(4000, 8)
    for place in (0, 3, 7):
        counts = stream[:, place].bincount(minlength=8)
        assert (counts - 500).abs().max() < 4.5 * (4000 / 8 * 7 / 8) ** 0.5


def test_another_number_of_samples_is_refused() -> None:
    with pytest.raises(ConfigError, match="has 10 samples, this one has 11"):
        BatchOrder(11, 0).load_state_dict(BatchOrder(10, 0).state_dict())


def test_bounds() -> None:
    assert BatchOrder(1, 0).take(3).tolist() == [0, 0, 0]
    assert BatchOrder(3, 0).take(0).shape == (0,)
    with pytest.raises(ValueError, match="n is 0"):
        BatchOrder(0, 0)
    with pytest.raises(ValueError, match="count is -1"):
        BatchOrder(3, 0).take(-1)


def test_take_is_cheap() -> None:
    order = BatchOrder(60_000, 0)
    began = time.process_time()
    for _ in range(10_000):
        order.take(64)
    assert time.process_time() - began < 0.5  # 50 us each; about 5 are usual
