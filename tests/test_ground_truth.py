"""The mathematics against truths that are known in closed form, with the library's own modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from gansweep.assembly import build_module
from gansweep.config import TrialConfig, resolve
from gansweep.constraints import WeightClip
from gansweep.dataspec import DataSpec
from gansweep.modules.alternating import AlternatingModule
from gansweep.modules.catalogue import VARIANTS
from gansweep.objectives import Minimax, NonSaturating, Objective, Wasserstein
from gansweep.penalties import GradientPenalty, Penalty
from gansweep.sweep.file import load_sweep
from gansweep.sweep.trials import planned
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial import run_trial

SWEEPS = Path(__file__).parents[1] / "sweeps"
OBJECTIVES: list[Objective] = [Minimax(), NonSaturating(), Wasserstein()]
PENALTIES: list[Penalty] = [GradientPenalty(), GradientPenalty(0.1)]


def of_settings(**tree: Any) -> TrialConfig:
    problems: list[Any] = []
    config = resolve({"data": {"name": "gaussian1d"}, **tree}, problems)
    assert config is not None, problems
    return config


def ready(config: TrialConfig, dim: int) -> AlternatingModule:
    """The module for vectors of `dim`, with its optimizers, not trained."""
    module = build_module(config, DataSpec((dim,)))
    module.setup("fit")
    module.configure_optimizers()
    return module


Draw = Callable[[int], tuple[Tensor, Tensor]]
"""Real and generated samples of a step."""


def trained_critic(module: AlternatingModule, draw: Draw, *, steps: int, lr: float) -> None:
    """D's own steps, G apart, the learning rate falling linearly to 0."""
    penalty = module.formulation.penalty
    for step in range(steps):
        for group in module.d_optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        real, fake = draw(step)
        noise = None
        if penalty is not None:
            shape = tuple(real.shape[1:])
            noise = penalty.draw(
                1, len(real), shape=shape, rng=module.rng, device="cpu", dtype=real.dtype
            )[0]
        module._discriminator_step(real, None, fake, noise)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


# --- gradients by finite differences, in float64


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_the_gradients_of_objectives(objective: Objective) -> None:
    real, fake = numbers(7).requires_grad_(), 3 * numbers(5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(objective.discriminator, (real, fake))
    assert torch.autograd.gradcheck(objective.generator, (fake,))
    assert torch.autograd.gradgradcheck(objective.discriminator, (real, fake))


class Network(nn.Module):
    """A smooth function of two numbers: tanh, so that second derivatives are there to be wrong."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, outputs)
        self.double()
        for seed, parameter in enumerate(self.parameters()):
            parameter.data = numbers(*parameter.shape, seed=seed)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.tanh(self.first(x)))
        return y


def by_weights(network: nn.Module) -> tuple[list[str], list[Tensor]]:
    named = dict(network.named_parameters())
    return list(named), [p.detach().clone().requires_grad_() for p in named.values()]


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_the_gradients_of_penalties(penalty: Penalty) -> None:
    """In D's weights, through the derivative in its inputs."""
    D, real, fake = Network(1), numbers(4, 2, seed=5), numbers(4, 2, seed=6)
    rng = torch.Generator().manual_seed(0)
    noise = penalty.draw(1, 4, shape=(2,), rng=rng, device="cpu", dtype=torch.float64)[0]
    names, weights = by_weights(D)

    def value(*weights: Tensor) -> Tensor:
        held = dict(zip(names, weights, strict=True))
        return penalty(lambda x: functional_call(D, held, (x,)).squeeze(1), real, fake, noise)

    assert value(*weights).item() > 0.01
    assert torch.autograd.gradcheck(value, weights)


@pytest.mark.parametrize("name", VARIANTS.names)
def test_the_gradients_of_each_variants_losses(name: str) -> None:
    """Both players' losses as the steps take them: D's in D's weights, G's in G's."""
    cls = VARIANTS.load(name, at="")
    formulation = cls.formulate(cls.Settings())
    G, D = Network(2), Network(1)
    z, real = numbers(4, 2, seed=5), numbers(4, 2, seed=6) + 1
    noise = None
    if formulation.penalty:
        rng = torch.Generator().manual_seed(0)
        noise = formulation.penalty.draw(
            1, 4, shape=(2,), rng=rng, device="cpu", dtype=torch.float64
        )[0]

    def of_d(*weights: Tensor) -> Tensor:
        held = dict(zip(d_names, weights, strict=True))
        critic = lambda x: functional_call(D, held, (x,)).squeeze(1)  # noqa: E731
        return formulation.discriminator_loss(critic, real, G(z).detach(), noise).total

    def of_g(*weights: Tensor) -> Tensor:
        held = dict(zip(g_names, weights, strict=True))
        fake = functional_call(G, held, (z,))
        return formulation.generator_loss(lambda x: D(x).squeeze(1), fake, real).total

    d_names, d_weights = by_weights(D)
    g_names, g_weights = by_weights(G)
    assert torch.autograd.gradcheck(of_d, d_weights)
    assert torch.autograd.gradcheck(of_g, g_weights)


def test_a_clip_is_the_projection_onto_its_box() -> None:
    """No point of the box is nearer, and its derivative is 1 inside and 0 beyond."""
    bound, x = 0.3, numbers(50)
    parameter = nn.Parameter(x.clone())
    WeightClip(bound).project([parameter])
    nearest = parameter.detach()
    assert nearest.abs().max() <= bound
    others = (torch.rand(1000, 50, dtype=torch.float64) * 2 - 1) * bound
    assert ((others - x).norm(dim=1) >= (nearest - x).norm()).all()
    moved, step = nn.Parameter(x + 1e-6), 1e-6
    WeightClip(bound).project([moved])
    slope = (moved.detach() - nearest) / step
    inside = x.abs() < bound
    assert 5 < inside.sum() < 45
    torch.testing.assert_close(slope, inside.double(), rtol=0, atol=1e-8)


# --- the optimum of D


def quantiles(mean: float, std: float, n: int = 1000) -> Tensor:
    """n points of N(mean, std^2), one at each of as many equal shares: [n, 1], free of noise."""
    return torch.special.ndtri((torch.arange(n) + 0.5) / n).unsqueeze(1) * std + mean


def density(x: Tensor, mean: float, std: float) -> Tensor:
    """Up to a factor that all have in common."""
    return torch.exp(-(((x - mean) / std) ** 2) / 2) / std


@pytest.mark.parametrize(
    ("loss", "p", "q"),
    [
        ("minimax", (-1.0, 1.0), (1.0, 1.0)),
        pytest.param("minimax", (0.0, 1.0), (0.0, 2.0), marks=pytest.mark.slow),
        pytest.param("non_saturating", (0.0, 0.7), (1.0, 1.5), marks=pytest.mark.slow),
    ],
)
def test_the_optimal_discriminator_is_p_over_p_plus_q(
    loss: str, p: tuple[float, float], q: tuple[float, float]
) -> None:
    """Goodfellow et al. 2014, proposition 1: within .02, where 98 % of the samples are."""
    config = of_settings(
        model={"name": "gan", "loss": loss},
        network={"name": "mlp", "width": 64, "depth": 2},
        optimizer={"name": "adam", "beta1": 0.9},
    )
    module = ready(config, 1)
    real, fake = quantiles(*p), quantiles(*q)
    trained_critic(module, lambda step: (real, fake), steps=700, lr=3e-3)
    both = torch.cat([real, fake]).flatten()
    x = torch.linspace(both.quantile(0.01).item(), both.quantile(0.99).item(), 500).unsqueeze(1)
    truth = density(x, *p) / (density(x, *p) + density(x, *q))
    assert truth.max() - truth.min() > 0.4
    with torch.no_grad():
        found = module.discriminator(x).sigmoid().unsqueeze(1)
    off = (found - truth).abs().max().item()
    print(f"\n{loss} p N{p} q N{q}: D is within {off:.4f} of p / (p + q)")
    assert off < 0.02


@pytest.mark.slow
def test_at_the_equilibrium_d_is_right_on_half() -> None:
    """G gives the data's own distribution: D tends to 1/2, on samples that it has not seen."""
    config = of_settings(
        model={"name": "gan"},
        network={"name": "mlp", "width": 64, "depth": 2},
        optimizer={"name": "adam", "beta1": 0.9},
    )
    module = ready(config, 1)
    rng = torch.Generator().manual_seed(0)

    def draw(step: int) -> tuple[Tensor, Tensor]:
        return torch.randn(512, 1, generator=rng) + 4, torch.randn(512, 1, generator=rng) + 4

    with torch.no_grad():
        module.discriminator.body[-1].bias.fill_(2.0)  # it begins far off: D is .88
    trained_critic(module, draw, steps=1500, lr=3e-3)
    real, fake = (torch.randn(100_000, 1, generator=rng) + 4 for _ in range(2))
    with torch.no_grad():
        watched = module.formulation.objective.diagnostics(
            module.discriminator(real), module.discriminator(fake)
        )
    values = {name: round(value.item(), 4) for name, value in watched.items()}
    print(f"\nG at the data's distribution: {values}")
    assert values["d/accuracy"] == pytest.approx(0.5, abs=0.01)
    assert values["d/real"] == pytest.approx(0.5, abs=0.01)
    assert values["d/fake"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.slow
def test_the_whole_game_tends_to_its_equilibrium() -> None:
    """Trials of sweeps/gan_1d.yaml: W1 falls, and D's accuracy comes to 1/2."""
    ran, quick = 0, ("space.model.n_critic.grid=[1]",)
    for trial in planned(load_sweep(SWEEPS / "gan_1d.yaml", quick)):
        tracker = MemoryTracker()
        result = run_trial(trial.config, tracker)
        assert result.state == "completed"
        off = [value for _, value in tracker.history("diagnosis/from_equilibrium")]
        distances = [value for _, value in tracker.history("score/swd")]
        last = sum(off[-5:]) / 5
        print(f"\n{trial.name}: accuracy off 1/2 by {last:.3f}, W1 {distances[-1]:.3f}", end="")
        assert last < 0.06
        assert distances[-1] < 0.35
        assert result.diagnosis == ""
        ran += 1
    assert ran == 2


# --- the distance that a critic estimates


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.5, 0.8])
def test_a_gradient_penalty_critic_estimates_the_wasserstein_distance(shift: float) -> None:
    """W1 of N(0, I) and N(delta, I) is |delta|: within 5 %, and off by what the penalty explains.

    A linear critic of slope s gains s |delta| - lambda (s - 1)^2: the best s is 1 + |delta| /
    (2 lambda), and the estimate so much too large. In one dimension, where a slope cannot turn
    round, the two-sided penalty has a second optimum of the wrong sign.
    """
    config = of_settings(
        model={"name": "wgan_gp", "penalty_weight": 10.0},
        network={"name": "mlp", "width": 64, "depth": 2},
        optimizer={"name": "adam", "beta1": 0.0, "beta2": 0.9},
    )
    module = ready(config, 2)
    rng, delta = torch.Generator().manual_seed(1), torch.tensor([shift, 0.0])

    def draw(step: int) -> tuple[Tensor, Tensor]:
        real, fake = torch.randn(2, 256, 2, generator=rng)
        return real, fake + delta

    trained_critic(module, draw, steps=2000, lr=1e-3)
    x = torch.randn(100_000, 2, generator=rng)
    with torch.no_grad():  # the same noise on both sides, which cancels
        found = (module.discriminator(x) - module.discriminator(x + delta)).mean().item()
    explained = shift * (1 + shift / 20)
    print(f"\nW1 is {shift}: the critic says {found:.4f}; lambda 10 explains {explained:.4f}")
    assert found == pytest.approx(shift, rel=0.05)
    assert found == pytest.approx(explained, rel=0.015)
