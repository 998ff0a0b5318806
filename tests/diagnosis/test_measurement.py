"""The diagnostics in closed form, and that looking leaves no trace."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from records import equal
from torch import Tensor, nn
from trees import small

from gansweep.assembly import build_module, condition_of, load_samples
from gansweep.config import TrialConfig
from gansweep.data.base import Samples
from gansweep.diagnosis.batch import FixedBatch, draw
from gansweep.diagnosis.measurement import _variety, example, measure
from gansweep.latent import Latent
from gansweep.modules.alternating import AlternatingModule
from gansweep.modules.catalogue import VARIANTS
from tests.modules.game import make, nets

CPU = torch.device("cpu")


class Affine(nn.Module):
    """x -> W x + b, as generator [N, 2] or, with one row, as discriminator [N]."""

    def __init__(self, *rows: tuple[float, ...], bias: tuple[float, ...] | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(len(rows[0]), len(rows)).double()
        self.layer.weight.data = torch.tensor(rows, dtype=torch.float64)
        self.layer.bias.data = torch.tensor(bias or (0.0,) * len(rows), dtype=torch.float64)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layer(x).squeeze(1)  # type: ignore[no-any-return]


def batch(real: Tensor, latent: int = 2, **changed: Any) -> FixedBatch:
    torch.set_default_dtype(torch.float64)
    try:
        return draw(
            Samples(real), count=len(real), latent=Latent(latent), condition=None,
            classify=changed.get("classify"), seed=0, device=CPU,
        )  # fmt: skip
    finally:
        torch.set_default_dtype(torch.float32)


def points(n: int = 50) -> Tensor:
    rng = torch.Generator().manual_seed(3)
    return torch.randn(n, 2, generator=rng, dtype=torch.float64) + 1


def measured(module: AlternatingModule, on: FixedBatch) -> dict[str, float]:
    return {name: value.item() for name, value in measure(module, on).items()}


W = (0.3, -0.4)
"""Of norm 1/2."""


def linear_wgan(clip: float = 0.4) -> AlternatingModule:
    return make("wgan", (Affine((2.0, 0.0), (0.0, 1.0), bias=(1.0, 2.0)), Affine(W)), clip=clip)


def test_a_linear_critic() -> None:
    """D(x) = w.x: slope |w|; W = w.(E real - E fake); dL/dw = E fake - E real, dL/db = 0."""
    on = batch(points())
    found = measured(linear_wgan(), on)
    fake = on.z * torch.tensor([2.0, 1.0]) + torch.tensor([1.0, 2.0])
    w, apart = torch.tensor(W), on.real.mean(0) - fake.mean(0)
    close = {"rel": 1e-6}
    assert found["lipschitz"] == pytest.approx(0.5, **close)
    assert found["lipschitz_max"] == pytest.approx(0.5, **close)
    assert found["d_wasserstein"] == pytest.approx((w.double() @ apart).item(), **close)
    assert found["d_real"] - found["d_fake"] == pytest.approx(found["d_wasserstein"], **close)
    assert found["d_gradient"] == pytest.approx(apart.norm().item(), **close)
    # G = A z + b: dL/dA = -w E[z]^T, dL/db = -w.
    expected = 0.5 * math.sqrt(1 + on.z.mean(0).norm().item() ** 2)
    assert found["g_gradient"] == pytest.approx(expected, **close)
    assert found["clip_pinned"] == pytest.approx(1 / 3)  # of 0.3, -0.4 and the bias 0


def test_a_critic_answers_to_no_threshold() -> None:
    found = measured(linear_wgan(), batch(points()))
    assert not {"d_accuracy", "d_accuracy_real", "d_accuracy_fake", "from_equilibrium"} & set(found)
    assert 0 < found["separation"] < 1


def test_the_gradient_by_layers_under_a_clip() -> None:
    """Two linear layers, D = v.(U x): dD/da of the first layer's outputs is v for each sample."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(2, 3).double(), nn.Linear(3, 1).double()

        def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
            return self.last(self.first(x)).squeeze(1)  # type: ignore[no-any-return]

    critic, generator = Two(), Affine((1.0, 0.0), (0.0, 1.0))
    found = measured(make("wgan", (generator, critic)), batch(points()))
    norm = critic.last.weight.norm().item()
    assert found["d_gradient_layer_01"] == pytest.approx(norm, rel=1e-9)
    assert "d_gradient_layer_02" not in found  # the logit's own gradient says nothing
    free = measured(make("wgan_gp", (generator, critic)), batch(points()))
    assert not [name for name in free if "layer" in name or "clip" in name]


def test_a_condition_is_no_layer_of_depth() -> None:
    """D = v.(U x + E y), of which E y comes first: dD/da of the only hidden layer is v, too."""

    class Conditional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 3)).double()
            self.first, self.last = nn.Linear(2, 3).double(), nn.Linear(3, 1).double()

        def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
            embedded = self.embedding(torch.ones(len(x), 1, dtype=x.dtype))
            logits: Tensor = self.last(self.first(x) + embedded)
            return logits.squeeze(1)

    critic, generator = Conditional(), Affine((1.0, 0.0), (0.0, 1.0))
    found = measured(make("wgan", (generator, critic)), batch(points()))
    norm = critic.last.weight.norm().item()
    assert found["d_gradient_layer_01"] == pytest.approx(norm, rel=1e-9)
    assert "d_gradient_layer_02" not in found


@pytest.mark.parametrize(
    ("network", "settings", "hidden"),
    [
        ("mlp", {"depth": 2}, 2),
        ("mlp", {"depth": 2, "discriminator_condition": "projection"}, 2),
        ("dcgan", {}, 1),
        ("dcgan", {"discriminator_condition": "projection"}, 1),
        ("maxout", {}, 2),
        ("bigan", {}, 2),
    ],
)
def test_layers_of_depth_are_those_of_the_pixels(
    network: str, settings: dict[str, Any], hidden: int
) -> None:
    """However the condition enters: as many as without one."""
    found = [
        sum("d_gradient_layer" in name for name in measure(*of(model, network, settings)))
        for model in ({"conditional": True}, {})
    ]
    assert found == [hidden, hidden]


def of(
    model: dict[str, Any], network: str, settings: dict[str, Any]
) -> tuple[AlternatingModule, FixedBatch]:
    return ready(small("wgan", network, "digits", model=model, network=settings))


def test_the_penalty_belongs_to_the_gradient_of_d() -> None:
    """A linear critic's penalty lambda (|w| - 1)^2 pulls w by 2 lambda (|w| - 1) w / |w|."""
    pair = Affine((1.0, 0.0), (0.0, 1.0)), Affine(W)
    on = batch(points())
    found = measured(make("wgan_gp", pair, penalty_weight=7.0), on)
    game = on.z.mean(0) - on.real.mean(0)
    pull = 2 * 7.0 * (0.5 - 1) * torch.tensor(W, dtype=torch.float64) / 0.5
    assert found["d_gradient"] == pytest.approx((game + pull).norm().item(), rel=1e-9)


def test_the_gradients_are_those_of_the_formulation() -> None:
    """With a curved critic: the whole loss of both players, by hand."""
    module = make("wgan_gp", nets(), penalty_weight=7.0)
    on = batch(points(), latent=3)
    found = measured(module, on)
    G, D, formulation = module.generator, module.discriminator, module.formulation
    noises = formulation.draw(
        1,
        50,
        shape=tuple(on.real.shape[1:]),
        rng=on.stream("penalty"),
        device=CPU,
        dtype=torch.float64,
    )
    assert noises is not None
    noise = noises[0]
    fake = G(on.z)
    of_d = formulation.discriminator_loss(D, on.real, fake.detach(), noise).total
    of_g = formulation.generator_loss(D, fake).total
    for name, loss, network in (("d_gradient", of_d, D), ("g_gradient", of_g, G)):
        gradient = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
        whole = torch.cat([each.flatten() for each in gradient if each is not None])
        assert found[name] == pytest.approx(whole.norm().item(), rel=1e-9)


def test_a_classifier_at_the_equilibrium() -> None:
    """D = 1/2 everywhere: it takes all for generated, and is right on half."""
    found = measured(
        make("gan", (Affine((1.0, 0.0), (0.0, 1.0)), Affine((0.0, 0.0)))), batch(points())
    )
    assert (found["d_real"], found["d_fake"], found["separation"]) == (0.5, 0.5, 0.5)
    assert (found["d_accuracy_real"], found["d_accuracy_fake"]) == (0, 1)
    assert found["from_equilibrium"] == 0
    assert found["lipschitz"] == found["g_gradient"] == 0


def test_a_classifier_that_is_right_and_one_that_is_wrong() -> None:
    """Real samples at x > 0, generated ones at x < 0."""
    real = points().abs() + 0.1
    on = batch(real)
    far = Affine((1e-3, 0.0), (0.0, 1.0), bias=(-1.0, 0.0))
    right = measured(make("gan", (far, Affine((1.0, 0.0)))), on)
    wrong = measured(make("gan", (far, Affine((-1.0, 0.0)))), on)
    assert (right["d_accuracy_real"], right["d_accuracy_fake"], right["separation"]) == (1, 1, 1)
    assert (wrong["d_accuracy_real"], wrong["d_accuracy_fake"], wrong["separation"]) == (0, 0, 0)
    assert right["from_equilibrium"] == wrong["from_equilibrium"] == 0.5


def test_variety_against_the_data() -> None:
    """The same distribution: ratio 1 and distance 0; a point mass at the mean; far away."""
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(2000, 1, generator=rng, dtype=torch.float64)
    on = batch(real, latent=1)

    def of(scale: float, shift: float) -> dict[str, float]:
        generator = nn.Linear(1, 1).double()
        generator.weight.data.fill_(scale)
        generator.bias.data.fill_(shift)

        class G(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = generator

            def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
                return self.layer(z)  # type: ignore[no-any-return]

        return measured(make("gan", (G(), Affine((1.0,)))), on)

    same = of(1.0, 0.0)
    assert same["diversity"] == pytest.approx(1, abs=0.04)
    assert same["energy_distance"] == pytest.approx(0, abs=0.005)
    assert of(3.0, 0.0)["diversity"] == pytest.approx(3, abs=0.12)
    # E|x - 0| = sqrt(2 / pi), E|x - x'| = 2 / sqrt(pi): 2 sqrt(2/pi) / (2/sqrt(pi)) - 1.
    collapsed = of(0.0, 0.0)
    assert collapsed["diversity"] == 0
    assert collapsed["energy_distance"] == pytest.approx(math.sqrt(2) - 1, abs=0.02)
    far = of(1.0, 100.0)
    assert far["energy_distance"] == pytest.approx(200 / (2 / math.sqrt(math.pi)) - 2, rel=0.03)


def test_data_that_lie_far_from_0_are_as_near_to_one_another() -> None:
    """In single precision: what is far off loses digits, but not all of them."""
    rng = torch.Generator().manual_seed(5)
    real, fake = torch.randn(2, 500, 1, generator=rng) + 1e4
    on = replace(batch(real.double()), real=real)

    values = _variety(fake, on)
    assert abs(values["energy_distance"].item()) < 0.05


def test_classes_that_are_covered() -> None:
    """Four quadrants, of which the generator knows two."""

    def quadrant(x: Tensor) -> Tensor:
        return (x[:, 0] > 0).long() * 2 + (x[:, 1] > 0).long()

    rng = torch.Generator().manual_seed(0)
    real = torch.randn(200, 2, generator=rng, dtype=torch.float64)
    on = batch(real, classify=quadrant)
    right = Affine((0.1, 0.0), (0.0, 1.0), bias=(9.0, 0.0))
    found = measured(make("gan", (right, Affine((0.0, 0.0)))), on)
    assert found["classes_covered"] == 0.5
    assert "classes_covered" not in measured(make("gan", (right, Affine(W))), batch(real))


CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "dropout": ("gan", "maxout", "digits", {}),
    "buffers": ("dcgan", "dcgan", "digits", {}),
    "a critic's buffers": ("wgan_gp", "mlp", "ring8", {"network": {"discriminator_norm": "batch"}}),
    "a clip": ("wgan", "dcgan", "digits", {}),
    "labels": ("cgan", "maxout", "digits", {}),
    "label vectors": ("cgan", "mlp", "own_parts:Attributes", {}),
}


def of_case(case: str) -> tuple[AlternatingModule, FixedBatch]:
    model, network, data, sections = CASES[case]
    return ready(small(model, network, data, **sections))


def ready(config: TrialConfig) -> tuple[AlternatingModule, FixedBatch]:
    samples = load_samples(config)
    module = build_module(config, samples.spec)
    module.setup("fit")
    module.configure_optimizers()
    on = draw(
        samples, count=9, latent=config.latent, condition=condition_of(config, samples.spec),
        classify=None, seed=0, device=CPU,
    )  # fmt: skip
    return module, on


@pytest.mark.parametrize("case", CASES)
def test_looking_leaves_no_trace(case: str) -> None:
    module, on = of_case(case)
    before = deepcopy(module.training_state())
    torch.manual_seed(4)
    chance = torch.get_rng_state()
    first = measure(module, on)
    assert equal(module.training_state(), before)
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(p.grad is None for p in module.parameters())
    assert module.generator.training
    assert module.discriminator.training
    torch.manual_seed(5)
    again = measure(module, on)
    assert equal(first, again)  # and it looks at the same each time
    assert all(value.isfinite() and not value.requires_grad for value in first.values())


def test_what_raises_leaves_no_trace_either() -> None:
    module, on = of_case("buffers")
    before = deepcopy(module.training_state())
    module.formulation = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        measure(module, on)
    assert equal(module.training_state(), before)


def test_looking_works_without_gradients_around() -> None:
    module, on = of_case("a clip")
    with torch.no_grad():
        quiet = measure(module, on)
    assert equal(quiet, measure(module, on))


@pytest.mark.parametrize("model", VARIANTS.names)
def test_the_example_of_a_reading_has_what_a_trial_measures(model: str) -> None:
    """And nothing else, but for what the data, or the length of training, decide."""
    module, on = ready(small(model, "mlp", "digits"))
    named, found = set(example(module.formulation)), set(measure(module, on))
    assert found <= named
    assert {name for name in named - found if "layer" not in name} == {"stalled", "classes_covered"}
    assert any("layer" in name for name in named) == (model == "wgan")
