"""Each variant against a plain PyTorch loop, step by step, in float64.

The loops below are written from the papers and share no code with the package, except the names
of the streams of randomness.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from gansweep.modules.catalogue import VARIANTS
from gansweep.optimizers import Adam, AdamSettings, RMSprop, RMSpropSettings
from gansweep.seeding import stream

from .game import BATCH, CLASSES, FEATURES, LATENT, Log, batches, fit, make, nets

CLOSE = {"rtol": 0, "atol": 1e-12}
LR_D, LR_G = 0.05, 0.07
STEPS = [2, 5, 1, 3, 2]


def loop(pair, data, *, losses, conditional=False, clip=None, timing="before", penalty=0.0):
    """A plain GAN loop; returns the weights after every optimizer step."""
    G, D = pair
    opt_d = torch.optim.SGD(D.parameters(), lr=LR_D)
    opt_g = torch.optim.SGD(G.parameters(), lr=LR_G)
    rng = stream(1, "training")
    d_loss, g_loss = losses
    trajectory = []

    def clamp():
        for p in D.parameters():
            p.data.clamp_(-clip, clip)

    def note():
        trajectory.append([p.detach().clone() for net in pair for p in net.parameters()])

    for batch in data:
        shape = (batch.steps + 1, BATCH, LATENT)
        z = torch.randn(shape, generator=rng, dtype=torch.float64)
        for i in range(batch.steps):
            y = batch.y[i] if conditional else None
            real, fake = batch.x[i], G(z[i], y).detach()
            if clip and timing == "before":
                clamp()
            loss = d_loss(D(real, y), D(fake, y))
            if penalty:
                u = torch.rand(BATCH, generator=rng, dtype=torch.float64)
                mixed = real * (1 - u[:, None]) + fake * u[:, None]
                mixed.requires_grad_()
                slope = torch.autograd.grad(D(mixed, y).sum(), mixed, create_graph=True)[0]
                loss = loss + penalty * ((slope.pow(2).sum(1).sqrt() - 1) ** 2).mean()
            opt_d.zero_grad()
            loss.backward()
            opt_d.step()
            note()
            if clip and timing == "after":
                clamp()
        y = batch.y[-1] if conditional else None
        loss = g_loss(D(G(z[-1], y), y))
        opt_g.zero_grad()
        loss.backward()
        opt_g.step()
        note()
    return trajectory


def ones(a):
    return torch.ones_like(a)


def zeros(a):
    return torch.zeros_like(a)


def game_d(real, fake):
    return bce(real, ones(real)) + bce(fake, zeros(fake))


LOSSES = {
    "non_saturating": (game_d, lambda fake: bce(fake, ones(fake))),
    "minimax": (game_d, lambda fake: -bce(fake, zeros(fake))),
    "wasserstein": (lambda real, fake: fake.mean() - real.mean(), lambda fake: -fake.mean()),
}

CASES = {
    "gan": ("gan", {}, {"losses": LOSSES["non_saturating"]}),
    "gan minimax": ("gan", {"loss": "minimax"}, {"losses": LOSSES["minimax"]}),
    "dcgan": ("dcgan", {}, {"losses": LOSSES["non_saturating"]}),
    "wgan before": (
        "wgan",
        {"clip": 0.3},
        {"losses": LOSSES["wasserstein"], "clip": 0.3, "timing": "before"},
    ),
    "wgan after": (
        "wgan",
        {"clip": 0.3, "clip_timing": "after"},
        {"losses": LOSSES["wasserstein"], "clip": 0.3, "timing": "after"},
    ),
    "wgan_gp": ("wgan_gp", {}, {"losses": LOSSES["wasserstein"], "penalty": 10.0}),
    "wgan_gp light": (
        "wgan_gp",
        {"penalty_weight": 0.1, "conditional": True},
        {"losses": LOSSES["wasserstein"], "penalty": 0.1, "conditional": True},
    ),
    "cgan": ("cgan", {}, {"losses": LOSSES["non_saturating"], "conditional": True}),
    "cgan minimax": (
        "cgan",
        {"loss": "minimax"},
        {"losses": LOSSES["minimax"], "conditional": True},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_whole_trajectory_equals_a_plain_loop(case):
    name, settings, reference = CASES[case]
    classes = CLASSES if reference.get("conditional") else 0
    expected = loop(nets(classes=classes), batches(STEPS), **reference)
    log = Log()
    fit(make(name, nets(classes=classes), log=log, lr=(LR_D, LR_G), **settings), batches(STEPS))
    assert len(log.weights) == len(expected) == sum(STEPS) + len(STEPS)
    ran = 0
    for ours, theirs in zip(log.weights, expected, strict=True):
        for a, b in zip([*ours[0], *ours[1]], theirs, strict=True):
            torch.testing.assert_close(a, b, **CLOSE)
            ran += 1
    assert ran == 18 * 8


def test_the_cases_differ():
    """Else a comparison above would prove nothing."""
    ends = []
    for name, _, reference in CASES.values():
        if not reference.get("conditional"):
            end = loop(nets(), batches(STEPS), **reference)[-1]
            ends.append((name, torch.cat([p.flatten() for p in end])))
    assert len(ends) == 6
    distinct = {tuple(end.tolist()) for _, end in ends}
    assert len(distinct) == 5  # dcgan is gan's game on other networks


def test_every_variant_has_a_case():
    assert {name for name, _, _ in CASES.values()} == set(VARIANTS.names)


def test_clipping_before_leaves_the_last_step_unclamped():
    """The authors' order: G sees a critic that one step has moved out of the box."""
    ran = 0
    for timing in ("before", "after"):
        pair = nets()
        fit(make("wgan", pair, lr=(0.5, 0.1), clip=0.01, clip_timing=timing), batches([2]))
        largest = max(p.abs().max().item() for p in pair[1].parameters())
        if timing == "after":
            assert largest == pytest.approx(0.01, abs=1e-12)
        else:
            assert largest > 0.02
        assert max(p.abs().max().item() for p in pair[0].parameters()) > 0.1
        ran += 1
    assert ran == 2


def test_the_settings_reach_the_mathematics():
    wgan = VARIANTS.load("wgan", at="")
    clip = wgan.formulate(
        wgan.Settings(clip=0.3, clip_timing="after", clip_normalisation=False)
    ).constraint
    assert (clip.bound, clip.timing, clip.normalisation) == (0.3, "after", False)
    gp = VARIANTS.load("wgan_gp", at="")
    assert gp.formulate(gp.Settings(penalty_weight=2.5)).penalty.weight == 2.5
    assert gp.formulate(gp.Settings()).penalty.weight == 10.0


class NormCritic(nn.Module):
    """A critic with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(FEATURES, 4), nn.BatchNorm1d(4)
        self.last = nn.Linear(4, 1)

    def forward(self, x, labels=None):
        return self.last(torch.tanh(self.norm(self.first(x)))).squeeze(1)


def norm_critic() -> NormCritic:
    torch.manual_seed(4)
    return NormCritic().double()


def test_batchnorm_under_a_penalty_keeps_its_statistics():
    """The penalty's points leave no trace in the running statistics: real, fake and G's do."""
    data = batches([2, 1])
    D = norm_critic()
    pair = (nets()[0], D)
    fit(make("wgan_gp", pair), data)
    assert D.norm.num_batches_tracked == 2 * 3 + 2
    assert D.norm.running_var.isfinite().all()

    # the first D step by hand: two passes in train mode; the penalty's third is undone
    data, D, G = batches([1]), norm_critic(), nets()[0]
    rng = stream(1, "training")
    z = torch.randn(2, BATCH, LATENT, generator=rng, dtype=torch.float64)
    u = torch.rand(BATCH, generator=rng, dtype=torch.float64)[:, None]
    real, fake = data[0].x[0], G(z[0]).detach()
    loss = -D(real).mean() + D(fake).mean()
    statistics = D.norm.running_mean.clone()
    mixed = (real + u * (fake - real)).requires_grad_()
    slope = torch.autograd.grad(D(mixed).sum(), mixed, create_graph=True)[0]
    loss = loss + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()
    loss.backward()
    D.norm.running_mean.copy_(statistics)
    torch.optim.SGD(D.parameters(), lr=LR_D).step()
    expected = [p.detach().clone() for p in D.parameters()]
    D(G(z[1]))  # G's step passes through D once more
    other, log = norm_critic(), Log()
    fit(make("wgan_gp", (nets()[0], other), log=log, lr=(LR_D, LR_G)), data)
    assert log.events == ["d", "g"]
    for a, b in zip(log.weights[0][1], expected, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    torch.testing.assert_close(other.norm.running_mean, D.norm.running_mean, **CLOSE)


def advice(name, optimizer, discriminator, **settings):
    cls = VARIANTS.load(name, at="")
    return cls.advice(cls.Settings(**settings), optimizer=optimizer, discriminator=discriminator)


def test_advice_against_batchnorm_under_a_penalty():
    adam = Adam(AdamSettings())
    (line,) = advice("wgan_gp", adam, norm_critic())
    assert "BatchNorm" in line
    assert "discriminator_norm: layer" in line
    assert advice("wgan_gp", adam, nets()[1]) == []
    assert advice("wgan_gp", adam, nn.Sequential(nn.LayerNorm(3), nn.GroupNorm(1, 2))) == []
    assert advice("wgan", RMSprop(RMSpropSettings()), norm_critic()) == []


def test_advice_against_momentum_under_clipping():
    (line,) = advice("wgan", Adam(AdamSettings()), nets()[1])
    assert "momentum" in line
    assert advice("wgan", Adam(AdamSettings(beta1=0.0)), nets()[1]) == []
    assert advice("wgan", RMSprop(RMSpropSettings()), nets()[1]) == []
    assert len(advice("wgan", RMSprop(RMSpropSettings(momentum=0.5)), nets()[1])) == 1
    ran = 0
    for name in ("gan", "dcgan", "wgan_gp", "cgan"):
        assert advice(name, Adam(AdamSettings()), nets()[1]) == []
        ran += 1
    assert ran == 4
