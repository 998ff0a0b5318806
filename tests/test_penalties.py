"""The gradient penalty: closed forms, and the mistakes that popular code makes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gansweep.penalties import (
    GradientPenalty,
    LocalGradientPenalty,
    Penalty,
    ZeroCentred,
    input_gradient,
)

CLOSE = {"rtol": 0, "atol": 1e-12}


def images(seed: int, n: int = 4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, 3, 3, generator=generator, dtype=torch.float64)


def test_a_linear_critic_has_the_norm_of_its_weights():
    """D(x) = w.x + b: the penalty is weight (|w| - 1)^2, w over channels and pixels."""
    w = images(0, 1)[0]
    real, fake = images(1), images(2)
    u = torch.tensor([0.0, 0.2, 0.7, 1.0], dtype=torch.float64)
    for weight in (10.0, 0.1):
        penalty = GradientPenalty(weight)(lambda x: (x * w).sum((1, 2, 3)) + 5, real, fake, u)
        norm = math.sqrt(sum(v * v for v in w.flatten().tolist()))
        assert penalty.item() == pytest.approx(weight * (norm - 1) ** 2, abs=1e-12)
        assert penalty.shape == ()


def test_a_quadratic_critic():
    """D(x) = a |x|^2 / 2 has slope a x: the mean of (a |x^_i| - 1)^2, each sample by itself."""
    real, fake = images(1), images(2)
    u, a = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=torch.float64), 0.7
    expected = 0.0
    for i in range(4):
        x = real[i] + u[i] * (fake[i] - real[i])
        expected += (a * math.sqrt((x * x).sum().item()) - 1) ** 2 / 4
    penalty = GradientPenalty(3.0)(lambda x: a * (x * x).sum((1, 2, 3)) / 2, real, fake, u)
    assert penalty.item() == pytest.approx(3 * expected, abs=1e-12)


def test_the_ends_of_the_lines():
    """u = 0 is the real sample, u = 1 the generated one."""
    real, fake = images(1), images(2)

    def D(x):  # noqa: N802
        return (x * x).sum((1, 2, 3)) / 2

    ran = 0
    for u, x in ((0.0, real), (1.0, fake)):
        penalty = GradientPenalty(1.0)(D, real, fake, torch.full((4,), u, dtype=torch.float64))
        expected = ((x.flatten(1).norm(dim=1) - 1) ** 2).mean()
        torch.testing.assert_close(penalty, expected, **CLOSE)
        ran += 1
    assert ran == 2


def drawn(rng, *, steps: int = 2, batch: int = 4, dtype=torch.float64):
    size = {"shape": (2, 3, 3), "device": "cpu", "dtype": dtype}
    return GradientPenalty().draw(steps, batch, rng=rng, **size)


def test_one_u_a_sample():
    """And new ones for each of the steps that are drawn at once."""
    u = drawn(torch.Generator().manual_seed(0), steps=5, batch=1000)
    assert u.shape == (5, 1000)
    assert u.dtype == torch.float64
    assert len(u.unique()) == 5000
    assert 0 <= u.min() < 0.01
    assert 0.99 < u.max() < 1
    assert abs(u.mean().item() - 0.5) < 4.5 / math.sqrt(12 * 5000)
    assert torch.equal(u, drawn(torch.Generator().manual_seed(0), steps=5, batch=1000))
    single = drawn(torch.Generator().manual_seed(0), dtype=torch.float32)
    assert (single.shape, single.dtype) == ((2, 4), torch.float32)


def test_draw_moves_the_given_generator_alone():
    torch.manual_seed(3)
    before, rng = torch.get_rng_state(), torch.Generator().manual_seed(0)
    first = drawn(rng)
    assert not torch.equal(first, drawn(rng))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_default_weight_is_the_papers():
    assert GradientPenalty().weight == 10.0


def critic() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(2, 3, 2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(12, 4),
        nn.Softplus(),
        nn.Linear(4, 1),
    ).double()


def assert_differences(value, weights, *, every):
    """Gradients of `value()` equal central differences, at each `every`th number of each weight.

    How many were compared, and the largest slope.
    """
    gradients = torch.autograd.grad(value(), weights, allow_unused=True)
    ran, step = 0, 1e-6
    for weight, gradient in zip(weights, gradients, strict=True):
        flat = weight.data.view(-1)
        for i in range(0, len(flat), every):
            old = flat[i].item()
            flat[i] = old + step
            above = value().item()
            flat[i] = old - step
            below = value().item()
            flat[i] = old
            expected = (above - below) / (2 * step)
            assert gradient.reshape(-1)[i].item() == pytest.approx(expected, abs=2e-7, rel=1e-6)
            ran += 1
    return ran, max(g.abs().max().item() for g in gradients)


def test_its_gradient_in_the_weights_by_finite_differences():
    """Without `create_graph` it would be zero, or none."""
    D, real, fake = critic(), images(1), images(2)
    u = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=torch.float64)

    def penalty():
        return GradientPenalty(10.0)(lambda x: D(x)[:, 0], real, fake, u)

    ran, largest = assert_differences(penalty, list(D.parameters())[:-1], every=3)
    assert ran == 8 + 1 + 16 + 2 + 2
    assert largest > 0.01


def test_it_equals_the_usual_double_backward():
    D, real, fake = critic(), images(1), images(2)
    u = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=torch.float64)
    penalty = GradientPenalty(10.0)(lambda x: D(x)[:, 0], real, fake, u)
    points = (real + u.view(-1, 1, 1, 1) * (fake - real)).requires_grad_()
    (slopes,) = torch.autograd.grad(D(points).sum(), points, create_graph=True)
    expected = 10 * ((slopes.pow(2).sum((1, 2, 3)).sqrt() - 1) ** 2).mean()
    torch.testing.assert_close(penalty, expected, **CLOSE)
    weights = list(D.parameters())[:-1]
    ours = torch.autograd.grad(penalty, weights)
    theirs = torch.autograd.grad(expected, weights)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_a_flat_critic_has_a_finite_gradient():
    """Where the slope is 0 the norm has no derivative; it must not be NaN."""
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    x = torch.ones(3, 2, dtype=torch.float64)
    penalty = GradientPenalty(10.0)(lambda x: x @ w, x, x, torch.zeros(3).double())
    assert penalty.item() == 10.0
    (gradient,) = torch.autograd.grad(penalty, w)
    assert gradient.isfinite().all()


def test_the_inputs_are_left_alone():
    real, fake = images(1), images(2)
    kept = real.clone(), fake.clone()
    slopes = input_gradient(lambda x: (x**3).sum((1, 2, 3)), real)
    torch.testing.assert_close(slopes, 3 * real**2, **CLOSE)
    GradientPenalty()(lambda x: x.sum((1, 2, 3)), real, fake, torch.rand(4).double())
    assert torch.equal(real, kept[0])
    assert torch.equal(fake, kept[1])
    assert not real.requires_grad


def test_replicas_under_vmap_equal_single_ones():
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64)
    real, fake = torch.randn(2, 3, 6, 4, generator=generator, dtype=torch.float64)
    u = torch.rand(3, 6, generator=generator, dtype=torch.float64)

    def penalty(w, real, fake, u):
        return GradientPenalty(10.0)(lambda x: torch.tanh(x @ w).sum(1), real, fake, u)

    together = torch.func.vmap(torch.func.grad_and_value(penalty))(w, real, fake, u)
    for i in range(3):
        gradient, value = torch.func.grad_and_value(penalty)(w[i], real[i], fake[i], u[i])
        torch.testing.assert_close(together[0][i], gradient, **CLOSE)
        torch.testing.assert_close(together[1][i], value, **CLOSE)


# --- DRAGAN's penalty, and the zero-centred ones


def quadratic(a: float):
    """D(x) = a |x|^2 / 2, whose slope is a x."""
    return lambda x: a * (x * x).flatten(1).sum(1) / 2


def test_dragan_looks_near_the_data_alone():
    """x^ = x + s std v, per number of a sample; generated samples play no part."""
    real, noise = images(1), images(3).sigmoid()
    std = math.sqrt(((real - real.mean()) ** 2).sum().item() / real.numel())
    expected = 0.0
    for x, v in zip(real, noise, strict=True):
        near = x + 0.3 * std * v
        expected += 4 * (0.7 * math.sqrt((near * near).sum().item()) - 1) ** 2 / 4
    penalty = LocalGradientPenalty(4.0, 0.3)
    assert penalty(quadratic(0.7), real, images(2), noise).item() == pytest.approx(expected)
    assert torch.equal(
        penalty(quadratic(0.7), real, images(2), noise),
        penalty(quadratic(0.7), real, 1e6 * images(5), noise),
    )
    assert LocalGradientPenalty() == LocalGradientPenalty(10.0, 0.5)


def test_dragans_noise():
    """v for each number times u for each sample, both uniform: mean 1/4, variance 7/144."""
    size = {"shape": (2, 3, 3), "device": "cpu", "dtype": torch.float64}
    rng = torch.Generator().manual_seed(0)
    noise = LocalGradientPenalty().draw(4, 500, rng=rng, **size)
    assert (noise.shape, noise.dtype) == ((4, 500, 2, 3, 3), torch.float64)
    assert 0 <= noise.min() < 0.001
    assert 0.95 < noise.max() < 1
    assert noise.mean().item() == pytest.approx(1 / 4, abs=0.015)
    assert noise.var().item() == pytest.approx(7 / 144, abs=0.005)
    largest = noise.flatten(2).amax(2)  # about u 18 / 19
    assert largest.std().item() == pytest.approx(18 / 19 / math.sqrt(12), abs=0.015)
    again = LocalGradientPenalty().draw(4, 500, rng=torch.Generator().manual_seed(0), **size)
    assert torch.equal(noise, again)


def test_r1_and_r2_of_a_quadratic_critic():
    """gamma / 2 E[a^2 |x|^2]: on real samples, on generated ones, or on both."""
    real, fake, none = images(1), images(2), torch.empty(0)
    r1, r2 = (0.49 * (x * x).sum().item() / 4 for x in (real, fake))
    ran = 0
    for penalty, expected in (
        (ZeroCentred(10.0), 5 * r1),
        (ZeroCentred(None, 3.0), 1.5 * r2),
        (ZeroCentred(0.2, 0.4), 0.1 * r1 + 0.2 * r2),
        (ZeroCentred(0.0, 0.0), 0.0),
    ):
        value = penalty(quadratic(0.7), real, fake, none)
        assert value.item() == pytest.approx(expected, abs=1e-12)
        assert value.shape == ()
        ran += 1
    assert ran == 4


def test_zero_centred_penalties_draw_nothing():
    rng = torch.Generator().manual_seed(0)
    before = rng.get_state()
    noise = ZeroCentred().draw(3, 4, shape=(2,), rng=rng, device="cpu", dtype=torch.float32)
    assert noise.shape == (3, 0)
    assert torch.equal(rng.get_state(), before)


@pytest.mark.parametrize("penalty", [LocalGradientPenalty(10.0), ZeroCentred(2.0, 3.0)])
def test_their_gradients_in_the_weights_by_finite_differences(penalty: Penalty):
    D, real, fake = critic(), images(1), images(2)
    size = {"shape": (2, 3, 3), "device": "cpu", "dtype": torch.float64}
    (noise,) = penalty.draw(1, 4, rng=torch.Generator().manual_seed(0), **size)

    def value():
        return penalty(lambda x: D(x)[:, 0], real, fake, noise)

    ran, largest = assert_differences(value, list(D.parameters())[:-1], every=5)
    assert ran == 5 + 1 + 10 + 1 + 1
    assert largest > 0.001


@pytest.mark.parametrize("penalty", [LocalGradientPenalty(10.0), ZeroCentred(2.0, 3.0)])
def test_their_replicas_under_vmap_equal_single_ones(penalty: Penalty):
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64)
    real, fake = torch.randn(2, 3, 6, 4, generator=generator, dtype=torch.float64)
    size = {"shape": (4,), "device": "cpu", "dtype": torch.float64}
    noise = penalty.draw(3, 6, rng=generator, **size)

    def value(w, real, fake, noise):
        return penalty(lambda x: torch.tanh(x @ w).sum(1), real, fake, noise)

    together = torch.func.vmap(torch.func.grad_and_value(value))(w, real, fake, noise)
    for i in range(3):
        gradient, alone = torch.func.grad_and_value(value)(w[i], real[i], fake[i], noise[i])
        torch.testing.assert_close(together[0][i], gradient, **CLOSE)
        torch.testing.assert_close(together[1][i], alone, **CLOSE)
