"""BiGAN: both players' gradients and D's optimum in closed form, and that E comes to invert G."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gansweep.assembly import build_module
from gansweep.config import resolved
from gansweep.data.base import Samples
from gansweep.data.batch import Batch
from gansweep.data.stream import BatchOrder
from gansweep.modules.alternating import AlternatingModule, evaluating
from gansweep.networks.encoding import EncodingGenerator
from gansweep.objectives import Bidirectional

from .game import Log, PlainBatch, make

LR_D, LR_G = 0.05, 0.07


class Factor(nn.Module):
    """x -> weight x, the same number for all."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


class Plane(nn.Module):
    """Logits a x + b z + c of pairs [N, 2]."""

    def __init__(self, a: float, b: float, c: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([a, b], dtype=torch.float64))
        self.level = nn.Parameter(torch.tensor(c, dtype=torch.float64))

    def forward(self, pairs: Tensor, labels: None = None) -> Tensor:
        return pairs @ self.slope + self.level


def test_both_gradients_of_a_linear_game() -> None:
    """G(z) = g z, E(x) = e x, D(x, z) = a x + b z + c: each step by hand."""
    g, e, a, b, c = 0.8, -0.3, 0.7, -1.1, 0.2
    log, D = Log(), Plane(a, b, c)
    G = EncodingGenerator(Factor(g), Factor(e))
    module = make("bigan", (G, D), log=log, lr=(LR_D, LR_G))
    module.setup("fit")
    module.configure_optimizers()
    z = torch.randn(2, 6, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    module.draw = lambda batch: (z, None)  # type: ignore[method-assign]
    x = torch.linspace(-1, 2, 6, dtype=torch.float64).view(1, 6, 1)
    module.training_step(PlainBatch(x, None), 0)  # type: ignore[arg-type]
    assert log.events == ["d", "g"]

    def sigmoids(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        real = torch.sigmoid(a * x + b * e * x + c)
        return real, torch.sigmoid(a * g * z + b * z + c)

    x, (first, second) = x.flatten(), z.flatten(1)
    real, fake = sigmoids(x, first)
    slope = [((real - 1) * x).mean() + (fake * g * first).mean()]
    slope += [((real - 1) * e * x).mean() + (fake * first).mean()]
    level = (real - 1).mean() + fake.mean()
    torch.testing.assert_close(log.gradients[0][1], [torch.stack(slope), level])
    assert log.gradients[0][0] == [None, None]  # no D step leaves gradients in G or E
    a, b, c = a - LR_D * slope[0].item(), b - LR_D * slope[1].item(), c - LR_D * level.item()
    real, fake = sigmoids(x, second)
    of_g = ((fake - 1) * a * second).mean()  # z is what it is: G moves x alone
    of_e = (real * b * x).mean()  # and E moves z alone
    torch.testing.assert_close(log.gradients[1][0], [of_g, of_e])
    torch.testing.assert_close(G.generator.weight.item(), g - LR_G * of_g.item())
    torch.testing.assert_close(G.encoder.weight.item(), e - LR_G * of_e.item())


class Table(nn.Module):
    """A logit of its own for each pair of signs."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float64))

    def forward(self, pairs: Tensor) -> Tensor:
        x, z = (pairs > 0).long().unbind(1)
        return self.logits[2 * x + z]


def test_the_optimal_discriminator_of_pairs() -> None:
    """On four pairs: log(p / q) for P(x, E(x)) = p, P(G(z), z) = q; Donahue et al., prop. 1-2."""
    one, other = torch.tensor([[-1.0]]).double(), torch.tensor([[1.0]]).double()
    x = torch.cat([one, other, other, other])
    z = torch.cat([one, one, one, other])

    def slope(E: float, logits: list[float]) -> Tensor:
        """Of D's loss in its table, where G(z) = z and E(x) = E x."""
        real, fake = EncodingGenerator(Factor(1.0), Factor(E))(z, None, x)
        D = Table(logits)
        loss = Bidirectional().discriminator(D(real.detach()), D(fake.detach()))
        return torch.autograd.grad(loss, D.logits)[0]

    best = [-math.log(3), 0.0, 0.0, math.log(3)]  # p = 1/4, 3/4 and q = 3/4, 1/4 on the diagonal
    assert slope(1.0, best).abs().max().item() < 1e-15
    assert slope(1.0, [0.0] * 4).tolist() == pytest.approx([0.25, 0, 0, -0.25])
    for logits in ([-1.0, 0.0, 0.0, math.log(3)], [-math.log(3), 0.0, 0.0, 1.2]):
        assert slope(1.0, logits).abs().max().item() > 0.01
    # E(x) = -x is no inverse: no pair is of both sides, and D grows without bounds.
    apart = slope(-1.0, [-9.0, 9.0, 9.0, -9.0])
    assert apart.abs().max() < 1e-3
    assert slope(-1.0, [0.0] * 4).abs().min() > 0.1


def test_where_e_inverts_g_the_game_is_at_rest() -> None:
    """Theorem 2: then both sides' pairs are equal in distribution, and D = 1/2 is D's best."""
    x = torch.tensor([[-1.5], [-0.5], [0.5], [3.5]]).double()
    for e, rests in ((0.5, True), (0.4, False), (0.6, False)):
        D = Plane(0.0, 0.0, 0.0)
        real, fake = EncodingGenerator(Factor(2.0), Factor(e))(x / 2, None, x)
        loss = Bidirectional().discriminator(D(real.detach()), D(fake.detach()))
        slope, level = torch.autograd.grad(loss, list(D.parameters()))
        expected = torch.tensor([0.0, (0.5 - e) * x.mean().item() / 2], dtype=torch.float64)
        torch.testing.assert_close(slope, expected, rtol=0, atol=1e-15)
        assert level.item() == 0
        assert (slope.abs().max().item() < 1e-15) == rests


def errors(module: AlternatingModule, x: Tensor) -> tuple[float, float]:
    """Mean ||z - E(G(z))||, and mean ||x - G(E(x))|| in shares of it with another sample for x."""
    rng = torch.Generator().manual_seed(8)
    with evaluating(module.sampled) as G:
        z = module.latent.draw(500, rng=rng)
        codes = (z - G.encoder(G(z))).norm(dim=1).mean().item()
        again = G.reconstruct(x).flatten(1)
    own, others = ((again - each.flatten(1)).norm(dim=1).mean() for each in (x, x.roll(1, 0)))
    return codes, (own / others).item()


def test_the_encoder_learns_to_invert_the_generator() -> None:
    """On the line, from both ends: z by way of G's samples, and the data's own points."""
    config = resolved(
        {
            "model": {"name": "bigan"},
            "network": {"name": "mlp", "width": 32, "depth": 2},
            "latent": {"dim": 1, "distribution": "normal"},
            "optimizer": {"name": "adam", "lr": 2e-3, "beta1": 0.5},
            "data": {"name": "gaussian1d", "batch_size": 64},
            "ema": {"decay": 0.99},
        }
    )
    rng = torch.Generator().manual_seed(0)
    samples = Samples(torch.randn(2000, 1, generator=rng) * 0.7 + 1)
    module = build_module(config, samples.spec)
    module.setup("fit")
    module.configure_optimizers()
    before = errors(module, samples.x[:500])
    order = BatchOrder(2000, 0)
    for _ in range(600):
        batch = Batch.take(samples, order, steps=1, size=64, device=torch.device("cpu"))
        module.training_step(batch, module.g_step)
    after = errors(module, samples.x[:500])
    assert before[0] > 0.7 > 0.2 > after[0]
    assert before[1] > 0.9 > 0.2 > after[1]
