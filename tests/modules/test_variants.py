"""Each variant against a plain PyTorch loop, step by step, in float64.

The loops below are written from the papers and share no code with the package, except the names
of the streams of randomness.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import mse_loss as mse

from gansweep.errors import ConfigError
from gansweep.modules.catalogue import VARIANTS
from gansweep.optimizers import Adam, AdamSettings, RMSprop, RMSpropSettings
from gansweep.seeding import stream

from .game import BATCH, CLASSES, FEATURES, LATENT, Log, batches, fit, make, nets, nets_for

CLOSE = {"rtol": 0, "atol": 1e-12}
LR_D, LR_G = 0.05, 0.07
STEPS = [2, 5, 1, 3, 2]


def loop(
    pair,
    data,
    *,
    losses,
    conditional=False,
    clip=None,
    timing="before",
    penalty=None,
    pac=1,
    encoder=False,
):
    """A plain GAN loop; returns the weights after every optimizer step.

    losses: D's, of its logits on real and on generated samples, and G's, of those on generated and
    on real ones. penalty: `draw(rng, steps, batch)` and `loss(D, real, fake, noise)`.
    """
    G, D = pair
    opt_d = torch.optim.SGD(D.parameters(), lr=LR_D)
    opt_g = torch.optim.SGD(G.parameters(), lr=LR_G)  # an encoder's weights are among G's
    rng = stream(1, "training")
    d_loss, g_loss = losses
    trajectory = []

    def clamp():
        for p in D.parameters():
            p.data.clamp_(-clip, clip)

    def note():
        trajectory.append([p.detach().clone() for net in pair for p in net.parameters()])

    def sides(x, z, y):
        if not encoder:
            return x, G(z, y)
        return torch.cat([x, G.encoder(x)], 1), torch.cat([G.generator(z), z], 1)

    def tuples(x):
        return torch.stack([torch.cat(list(x[i : i + pac])) for i in range(0, len(x), pac)])

    for batch in data:
        shape = (batch.steps + 1, batch.size, LATENT)
        z = torch.randn(shape, generator=rng, dtype=torch.float64)
        noise = penalty[0](rng, batch.steps, batch.size) if penalty else None
        for i in range(batch.steps):
            y = batch.y[i] if conditional else None
            real, fake = (tuples(each.detach()) for each in sides(batch.x[i], z[i], y))
            if clip and timing == "before":
                clamp()
            loss = d_loss(D(real, y), D(fake, y))
            if penalty:
                loss = loss + penalty[1](lambda x, y=y: D(x, y), real, fake, noise[i])
            opt_d.zero_grad()
            loss.backward()
            opt_d.step()
            note()
            if clip and timing == "after":
                clamp()
        y = batch.y[-1] if conditional else None
        real, fake = sides(batch.x[-1], z[-1], y)
        loss = g_loss(D(tuples(fake), y), D(tuples(real), y))
        opt_g.zero_grad()
        loss.backward()
        opt_g.step()
        note()
    return trajectory


def slopes(D, x):
    """dD/dx [N, F], with a graph of its own."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(D(x).sum(), x, create_graph=True)[0]


def uniform(rng, *shape):
    return torch.rand(shape, generator=rng, dtype=torch.float64)


def gp(weight):
    def loss(D, real, fake, u):
        mixed = real * (1 - u[:, None]) + fake * u[:, None]
        return weight * ((slopes(D, mixed).pow(2).sum(1).sqrt() - 1) ** 2).mean()

    return lambda rng, steps, batch: uniform(rng, steps, batch), loss


def dragan(weight, radius):
    def draw(rng, steps, batch):
        v = uniform(rng, steps, batch, FEATURES)
        return list(zip(v, uniform(rng, steps, batch, 1), strict=True))

    def loss(D, real, fake, noise):
        v, u = noise
        perturbed = real + radius * ((real - real.mean()) ** 2).mean().sqrt() * v
        mixed = real + u * (perturbed - real)
        return weight * ((slopes(D, mixed).pow(2).sum(1).sqrt() - 1) ** 2).mean()

    return draw, loss


def zero_centred(real_gamma, fake_gamma):
    def loss(D, real, fake, noise):
        r1, r2 = (slopes(D, x).pow(2).sum(1).mean() for x in (real, fake))
        return real_gamma / 2 * r1 + fake_gamma / 2 * r2

    return lambda rng, steps, batch: [None] * steps, loss


def ones(a):
    return torch.ones_like(a)


def zeros(a):
    return torch.zeros_like(a)


def game_d(real, fake):
    return bce(real, ones(real)) + bce(fake, zeros(fake))


def squares(a, b, c):
    def d(real, fake):
        return mse(real, b * ones(real)) / 2 + mse(fake, a * ones(fake)) / 2

    return d, lambda fake, real: mse(fake, c * ones(fake)) / 2


def hinge_d(real, fake):
    return (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()


def pairs_d(real, fake):
    return -torch.log(torch.sigmoid(real - fake)).mean()


LOSSES = {
    "non_saturating": (game_d, lambda fake, real: bce(fake, ones(fake))),
    "minimax": (game_d, lambda fake, real: -bce(fake, zeros(fake))),
    "wasserstein": (lambda real, fake: fake.mean() - real.mean(), lambda fake, real: -fake.mean()),
    "hinge": (hinge_d, lambda fake, real: -fake.mean()),
    "pairs": (pairs_d, lambda fake, real: pairs_d(fake, real)),
    "both ways": (game_d, lambda fake, real: game_d(fake, real)),
}

CASES = {
    "gan": ("gan", {}, {"losses": LOSSES["non_saturating"]}),
    "gan minimax": ("gan", {"loss": "minimax"}, {"losses": LOSSES["minimax"]}),
    "gan in pairs": ("gan", {"pac": 2}, {"losses": LOSSES["non_saturating"], "pac": 2}),
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
    "wgan_gp": ("wgan_gp", {}, {"losses": LOSSES["wasserstein"], "penalty": gp(10.0)}),
    "wgan_gp light": (
        "wgan_gp",
        {"penalty_weight": 0.1, "conditional": True},
        {"losses": LOSSES["wasserstein"], "penalty": gp(0.1), "conditional": True},
    ),
    "wgan_gp in threes": (
        "wgan_gp",
        {"pac": 3},
        {
            "losses": LOSSES["wasserstein"],
            "penalty": (lambda rng, steps, batch: uniform(rng, steps, batch // 3), gp(10.0)[1]),
            "pac": 3,
        },
    ),
    "cgan": ("cgan", {}, {"losses": LOSSES["non_saturating"], "conditional": True}),
    "cgan minimax": (
        "cgan",
        {"loss": "minimax"},
        {"losses": LOSSES["minimax"], "conditional": True},
    ),
    "lsgan": ("lsgan", {}, {"losses": squares(0, 1, 1)}),
    "lsgan chi squared": (
        "lsgan",
        {"fake_label": -1.0, "real_label": 1.0, "target": 0.0},
        {"losses": squares(-1, 1, 0)},
    ),
    "hinge": ("hinge", {}, {"losses": LOSSES["hinge"]}),
    "dragan": (
        "dragan",
        {},
        {"losses": LOSSES["non_saturating"], "penalty": dragan(10.0, 0.5)},
    ),
    "dragan minimax": (
        "dragan",
        {"loss": "minimax", "penalty_weight": 1.0, "radius": 2.0},
        {"losses": LOSSES["minimax"], "penalty": dragan(1.0, 2.0)},
    ),
    "r1gan": (
        "r1gan",
        {},
        {"losses": LOSSES["non_saturating"], "penalty": zero_centred(10.0, 0.0)},
    ),
    "r3gan": ("r3gan", {}, {"losses": LOSSES["pairs"], "penalty": zero_centred(0.05, 0.05)}),
    "r3gan in pairs": (
        "r3gan",
        {"gamma": 2.0, "pac": 2},
        {"losses": LOSSES["pairs"], "penalty": zero_centred(2.0, 2.0), "pac": 2},
    ),
    "r3gan with labels": (
        "r3gan",
        {"gamma": 1.0, "conditional": True},
        {"losses": LOSSES["pairs"], "penalty": zero_centred(1.0, 1.0), "conditional": True},
    ),
    "bigan": ("bigan", {}, {"losses": LOSSES["both ways"], "encoder": True}),
    "bigan in threes": (
        "bigan",
        {"pac": 3},
        {"losses": LOSSES["both ways"], "encoder": True, "pac": 3},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_whole_trajectory_equals_a_plain_loop(case):
    name, settings, reference = CASES[case]
    shape = {"classes": CLASSES if reference.get("conditional") else 0}
    shape["pac"] = reference.get("pac", 1)
    data = batches(STEPS, size=6)
    expected = loop(nets_for(name, **shape), data, **reference)
    log = Log()
    fit(make(name, nets_for(name, **shape), log=log, lr=(LR_D, LR_G), **settings), data)
    assert len(log.weights) == len(expected) == sum(STEPS) + len(STEPS)
    ran = 0
    for ours, theirs in zip(log.weights, expected, strict=True):
        for a, b in zip([*ours[0], *ours[1]], theirs, strict=True):
            torch.testing.assert_close(a, b, **CLOSE)
            ran += 1
    assert ran == 18 * (12 if name == "bigan" else 8)


def test_the_cases_differ():
    """Else a comparison above would prove nothing; a "CGAN" with squares is LSGAN, say."""
    ends = set()
    for name, _, reference in CASES.values():
        shape = {"classes": CLASSES if reference.get("conditional") else 0}
        shape["pac"] = reference.get("pac", 1)
        G = loop(nets_for(name, **shape), batches(STEPS, size=6), **reference)[-1][:4]
        ends.add(tuple(torch.cat([p.flatten() for p in G]).tolist()))
    assert len(ends) == len(CASES) - 1 == 21  # dcgan is gan's game on other networks


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


@pytest.mark.parametrize(
    ("labels", "key"),
    [
        ((1.0, 0.0, 0.0), "real_label"),
        ((1.0, 1.0, 1.0), "real_label"),
        ((0.0, 1.0, 0.0), "target"),
        ((0.0, 1.0, -1.0), "target"),
    ],
)
def test_least_squares_with_labels_the_wrong_way_round_are_refused(labels, key):
    """D would take generated samples for real ones, or G have nothing to gain."""
    lsgan = VARIANTS.load("lsgan", at="")
    with pytest.raises(ConfigError, match=rf"trial\.model\.{key}: .*above fake_label"):
        lsgan.mathematics(lsgan.Settings(**dict(zip(LABELS, labels, strict=True))))
    for right in ((0.0, 1.0, 1.0), (-1.0, 1.0, 0.0), (0.0, 0.5, 2.0)):
        lsgan.mathematics(lsgan.Settings(**dict(zip(LABELS, right, strict=True))))


LABELS = ("fake_label", "real_label", "target")


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
