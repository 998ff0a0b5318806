"""The pictures beside the samples: the 1-D game, and a clipped critic's weights."""

from __future__ import annotations

import torch
from trees import small

from gansweep.callbacks.clip_histogram import ClipHistogram
from gansweep.callbacks.game_picture import GamePicture
from gansweep.plots import GAME, SIDE, abscissas, bars, game
from gansweep.replica import Common, Job, Replica
from gansweep.tracking.memory import MemoryTracker

CPU = torch.device("cpu")


def replica(model, data, **sections):
    config = small(model, "mlp", data, **sections)
    return Replica(Job(config, MemoryTracker()), Common(config, CPU))


def test_a_clipped_critic_shows_its_weights():
    one, tracker = replica("wgan", "ring8"), MemoryTracker()
    histogram = ClipHistogram(tracker, every=5)
    assert [g for g in range(1, 13) if histogram.due(g, last=g == 12)] == [5, 10, 12]
    histogram.act(one.module, 5)
    weights = torch.cat([p.detach().flatten() for p in one.module.discriminator.parameters()])
    assert [(i.key, i.step) for i in tracker.images] == [("critic_weights", 5)]
    assert torch.equal(tracker.images[0].image, bars(weights, 0.01))


def test_no_clip_no_picture():
    one, tracker = replica("wgan_gp", "ring8"), MemoryTracker()
    ClipHistogram(tracker, every=5).act(one.module, 5)
    assert tracker.images == []


def test_the_game_in_one_dimension():
    one, tracker = replica("gan", "gaussian1d", latent={"dim": 1}), MemoryTracker()
    samples = one._common.samples
    picture = GamePicture(tracker, one.config.latent, samples, every=5, seed=0, device=CPU)
    assert [g for g in range(1, 13) if picture.due(g, last=g == 12)] == [5, 10, 12]
    chance = torch.get_rng_state()
    picture.act(one.module, 5)
    picture.act(one.module, 10)
    assert torch.equal(torch.get_rng_state(), chance)
    assert [(i.key, i.step) for i in tracker.images] == [("game", 5), ("game", 10)]
    first, again = (i.image for i in tracker.images)
    assert first.shape == (3, GAME, SIDE)
    assert torch.equal(first, again)  # of the same latents
    assert one.module.discriminator.training


def test_it_is_drawn_from_g_and_d(monkeypatch):
    """What reaches the plot: D's probabilities, and G of evenly spaced latents."""
    one = replica("gan", "gaussian1d", latent={"dim": 2, "distribution": "uniform"})
    drawn = []
    monkeypatch.setattr(
        "gansweep.callbacks.game_picture.game", lambda *args: drawn.append(args) or torch.zeros(1)
    )
    samples, latent = one._common.samples, one.config.latent
    GamePicture(MemoryTracker(), latent, samples, every=5, seed=0, device=CPU).act(one.module, 5)
    real, fake, judged, moved = drawn[0]
    assert torch.equal(real, samples.x)
    assert fake.shape == (10_000, 1)
    with torch.no_grad():
        x = abscissas(real).unsqueeze(1)
        torch.testing.assert_close(judged, one.module.discriminator(x).sigmoid())
        z = torch.zeros(33, 2)
        z[:, 0] = (torch.arange(33) + 0.5) / 33 * 2 - 1
        torch.testing.assert_close(moved, one.module.generator(z)[:, 0])


def test_a_critics_values_fill_the_height(monkeypatch):
    one = replica("wgan", "gaussian1d", latent={"dim": 1})
    one.module.discriminator.body[-1].bias.data.fill_(50.0)
    drawn = []
    monkeypatch.setattr(
        "gansweep.callbacks.game_picture.game", lambda *args: drawn.append(args) or torch.zeros(1)
    )
    samples, latent = one._common.samples, one.config.latent
    GamePicture(MemoryTracker(), latent, samples, every=5, seed=0, device=CPU).act(one.module, 5)
    assert (drawn[0][2].min(), drawn[0][2].max()) == (0, 1)


def test_values_between_0_and_1_are_no_probabilities(monkeypatch):
    """A clipped critic's are often as small, which drew a flat line."""
    one = replica("wgan", "gaussian1d")
    drawn = []
    monkeypatch.setattr(
        "gansweep.callbacks.game_picture.game", lambda *args: drawn.append(args) or torch.zeros(1)
    )
    with torch.no_grad():
        for parameter in one.module.discriminator.parameters():
            parameter.mul_(1e-3)
        one.module.discriminator.body[-1].bias.fill_(0.01)
    samples = one._common.samples
    latent = one.config.latent
    GamePicture(MemoryTracker(), latent, samples, every=5, seed=0, device=CPU).act(one.module, 5)
    ((_, _, judged, _),) = drawn
    assert (judged.min().item(), judged.max().item()) == (0, 1)


def test_only_unconditional_data_of_one_dimension_have_it():
    shown = [
        any(isinstance(each, GamePicture) for each in replica(*names)._callbacks)
        for names in (("gan", "gaussian1d"), ("wgan", "gaussian1d"), ("gan", "ring8"))
    ]
    assert shown == [True, True, False]


def test_where_the_columns_of_a_plot_lie():
    """From a quarter below the data to a quarter above, from left to right."""
    x = abscissas(torch.tensor([[2.0], [6.0]]))
    assert x.shape == (SIDE,)
    assert (x[0], x[-1]) == (1, 7)
    assert torch.equal(x, x.sort().values)


def test_the_picture_of_a_game_that_is_won():
    """G maps z to where the data are, D is 1/2: colours where they are expected."""
    torch.manual_seed(0)
    real = torch.rand(20_000, 1)
    picture = game(real, real, torch.full((SIDE,), 0.5), torch.linspace(0, 1, 5))
    assert picture.shape == (3, GAME, SIDE)
    assert picture.dtype == torch.uint8

    def blueish(row, column):
        r, _, b = picture[:, row, column].tolist()
        return b > r + 30

    middle = SIDE // 2
    assert blueish(SIDE - 5, middle)  # inside the density
    assert not blueish(SIDE - 5, 10)  # a quarter more on each side
    half = SIDE - SIDE * 15 // 32
    line = picture[:, half - 2 : half + 2, 10].float().mean(0)
    assert line.min() < 140  # D's black line
    assert picture[:, 5, middle].tolist() == [255, 255, 255]
    # The arrows start at evenly spaced points of the lower edge and end over [0, 1].
    band = picture[:, SIDE:].float().mean(0) < 220
    low, high = band[-4].nonzero().flatten(), band[4].nonzero().flatten()
    assert (low.min(), low.max()) <= (4, SIDE)
    assert low.max() - low.min() > SIDE * 0.9
    assert abs(int(high.max() - high.min()) - SIDE * 2 / 3) < 8


def test_a_hopeless_game_still_makes_a_picture():
    real = torch.linspace(0, 1, 30).unsqueeze(1)
    for value in (float("nan"), float("inf"), 1e30):
        lost = torch.full((9, 1), value)
        assert game(real, lost, torch.full((SIDE,), value), lost[:, 0]).shape == (3, GAME, SIDE)


def test_bars():
    """Half of the weights at the upper bound, a quarter beyond the lower, the rest about 0."""
    values = torch.tensor([0.01] * 4 + [-3.0] * 2 + [0.0001] * 2)
    picture = bars(values, 0.01)
    dark = (picture < 100).all(0)
    heights = dark.sum(0)
    full, half = SIDE - 8, (SIDE - 8) // 2
    assert heights[-4:].tolist() == [full] * 4
    assert heights[:4].tolist() == [half] * 4
    assert heights[128:132].tolist() == [half] * 4
    assert heights.sum() == 4 * (full + 2 * half)
    assert dark[SIDE - 1, -1]
    assert not dark[0].any()
