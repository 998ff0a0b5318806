"""Sampling: frozen latents, eval mode, and grids that compare."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gansweep.data.base import Samples
from gansweep.dataspec import Condition
from gansweep.images import tile
from gansweep.latent import Latent
from gansweep.plots import histogram, scatter
from gansweep.sampling import MAX_ROWS, Sampler
from gansweep.seeding import stream

CPU = torch.device("cpu")
DIGITS = Samples(
    torch.zeros(40, 1, 2, 2, dtype=torch.uint8), torch.arange(40) % 4, ("a", "b", "c", "d")
)


class Echo(nn.Module):
    """Gives [z0, z1; label, mode] as an image of 2 x 2, and notes its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(2), nn.Dropout(0.5)
        self.batches = []

    def forward(self, z, labels=None):
        self.batches.append((z.clone(), labels, self.training, torch.is_grad_enabled()))
        self.drop(self.norm(z[:, :2]))
        y = torch.zeros(len(z)) if labels is None else labels / 10
        return torch.stack((z[:, 0], z[:, 1], y, y), 1).view(-1, 1, 2, 2)


def sampler(samples=DIGITS, condition=None, **other):
    arguments = {"grid": (3, 5), "grid_seed": 0, "count": 12, "seed": 0, **other}
    return Sampler(
        latent=Latent(2, "uniform"),
        samples=samples,
        condition=condition,
        device=CPU,
        **arguments,
    )


def test_a_grid_is_the_generators_images_tiled():
    net = Echo()
    one = sampler()
    z = Latent(2, "uniform").draw(15, rng=stream(0, "grid"))
    assert torch.equal(one.grid(net), tile(Echo().eval()(z), columns=5))
    assert one.grid(net).shape == (1, 3 * 3 + 1, 5 * 3 + 1)


def test_the_latents_are_frozen_and_shared():
    """Two trials with other generators, and any time of training: the same z."""
    one, other = Echo(), Echo()
    a, b = sampler(), sampler()
    a.grid(one), a.evaluation(one), a.grid(one), b.grid(other), b.evaluation(other)
    z = [batch[0] for batch in one.batches]
    assert torch.equal(z[0], z[2])
    assert torch.equal(z[0], other.batches[0][0])
    assert torch.equal(z[1], other.batches[1][0])
    third = Echo()
    sampler(grid_seed=1).grid(third)
    assert not torch.equal(third.batches[0][0], z[0])


def test_it_looks_in_eval_mode_and_leaves_no_trace():
    net = Echo()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(0)
    rng = torch.get_rng_state()
    one = sampler()
    one.grid(net)
    one.evaluation(net)
    assert [batch[2:] for batch in net.batches] == [(False, False)] * 2
    assert net.training
    assert net.norm.training
    assert torch.equal(torch.get_rng_state(), rng)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


class Noisy(Echo):
    def forward(self, z, labels=None):
        return super().forward(z, labels) + torch.randn(len(z), 1, 2, 2, device=z.device)


def test_what_a_generator_draws_by_itself_is_always_the_same():
    draws = []
    for seed in range(2):
        torch.manual_seed(seed)
        rng = torch.get_rng_state()
        draws.append((sampler().evaluation(Noisy()), sampler().grid(Noisy())))
        assert torch.equal(torch.get_rng_state(), rng)
    assert torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][1], draws[1][1])
    assert not torch.equal(draws[0][0], sampler().evaluation(Echo()))


def test_one_sampler_serves_the_generators_of_a_pack():
    """Nothing of the one looked at before is in what the next one gives."""
    first, second = Scaled(1.0), Scaled(-0.5)
    one = sampler()
    pictures = [one.grid(net) for net in (first, second, first)]
    draws = [one.evaluation(net) for net in (first, second, first)]
    assert torch.equal(pictures[0], pictures[2])
    assert not torch.equal(pictures[0], pictures[1])
    assert torch.equal(draws[0], draws[2])
    assert torch.equal(draws[1], draws[0] * -0.5)


class Scaled(Echo):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, z, labels=None):
        return super().forward(z, labels) * self.factor


def test_a_conditional_grid_has_a_row_per_class():
    net = Echo()
    picture = sampler(condition=Condition("class", 4)).grid(net)
    assert picture.shape == (1, 4 * 3 + 1, 5 * 3 + 1)
    ((z, labels, _, _),) = net.batches
    assert labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    rows = z.view(4, 5, 2)
    assert all(torch.equal(rows[0], row) for row in rows)  # a column shares its latent
    assert len(rows[0].unique(dim=0)) == 5


def test_many_classes_show_the_first_ones():
    net = Echo()
    samples = Samples(DIGITS.x, torch.arange(40), tuple(map(str, range(40))))
    picture = sampler(samples, Condition("class", 40)).grid(net)
    assert picture.shape == (1, MAX_ROWS * 3 + 1, 16)
    assert net.batches[0][1].unique().tolist() == list(range(MAX_ROWS))


def test_a_condition_of_vectors_takes_real_ones():
    net = Echo()
    labels = torch.randn(40, 4)
    sampler(Samples(DIGITS.x, labels), Condition("vector", 4)).grid(Catcher(net))
    picked = net.caught
    assert picked.shape == (15, 4)
    assert all((labels == row).all(1).any() for row in picked)


class Catcher(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, z, labels):
        self.net.caught = labels
        return torch.zeros(len(z), 1, 2, 2)


def test_evaluation_uses_the_datas_labels():
    net = Echo()
    samples = Samples(DIGITS.x, torch.full((40,), 3), DIGITS.class_names)
    one = sampler(samples, Condition("class", 4), count=50)
    assert one.evaluation(net).shape == (50, 1, 2, 2)
    assert net.batches[0][1].tolist() == [3] * 50


@pytest.mark.parametrize("count", [1, 7, 8, 20])
def test_evaluation_goes_in_batches(count):
    whole, parts = Echo(), Echo()
    expected = sampler(count=count).evaluation(whole)
    assert torch.equal(sampler(count=count, batch_size=8).evaluation(parts), expected)
    sizes = [len(batch[0]) for batch in parts.batches]
    assert sum(sizes) == count
    assert max(sizes) <= 8
    assert len(sizes) == -(-count // 8)


class Points(nn.Module):
    def __init__(self, dimensions):
        super().__init__()
        self.dimensions = dimensions

    def forward(self, z, labels=None):
        return z[:, :1].repeat(1, self.dimensions)


def test_vectors_are_plotted():
    ran = 0
    for dimensions, plot in ((1, histogram), (2, scatter), (3, scatter)):
        real = torch.randn(30, dimensions)
        one = sampler(Samples(real), count=25)
        z = Latent(2, "uniform").draw(25, rng=stream(0, "grid"))
        picture = one.grid(Points(dimensions))
        assert torch.equal(picture, plot(real, z[:, :1].repeat(1, dimensions)))
        ran += 1
    assert ran == 3
