"""The objectives: values and gradients in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from gansweep.objectives import (
    Bidirectional,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticPairing,
    Wasserstein,
)

REAL = torch.tensor([-1.5, 0.0, 0.3, 4.0], dtype=torch.float64)
FAKE = torch.tensor([2.0, -0.7, 0.1, -3.0], dtype=torch.float64)
CHI_SQUARED = LeastSquares(fake_label=-1.0, real_label=1.0, target=0.0)
ALL = [
    Minimax(),
    NonSaturating(),
    LeastSquares(),
    CHI_SQUARED,
    Hinge(),
    RelativisticPairing(),
    Bidirectional(),
    Wasserstein(),
]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def slope(function, x):
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(x), x)
    return gradient


@pytest.mark.parametrize("objective", [Minimax(), NonSaturating(), Bidirectional()])
def test_the_discriminators_loss_is_the_cross_entropy(objective):
    real = sum(-math.log(sigmoid(a)) for a in REAL.tolist()) / 4
    fake = sum(-math.log(1 - sigmoid(a)) for a in FAKE.tolist()) / 4
    assert objective.discriminator(REAL, FAKE).item() == pytest.approx(real + fake, abs=1e-13)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    expected = bce(REAL, torch.ones(4).double()) + bce(FAKE, torch.zeros(4).double())
    torch.testing.assert_close(objective.discriminator(REAL, FAKE), expected, rtol=0, atol=1e-13)


def test_at_the_optimum_d_is_one_half():
    """Goodfellow et al. 2014, theorem 1: D = 1/2 everywhere gives the value -2 log 2."""
    zero = torch.zeros(5, dtype=torch.float64)
    ran = 0
    for objective in (Minimax(), NonSaturating()):
        loss = objective.discriminator(zero, zero).item()
        assert loss == pytest.approx(2 * math.log(2), abs=1e-14)
        watch = objective.diagnostics(zero, zero)
        assert {name: value.item() for name, value in watch.items()} == {
            "d/real": 0.5,
            "d/fake": 0.5,
            "d/accuracy": 0.5,
        }
        ran += 1
    assert ran == 2
    assert Minimax().generator(zero).item() == pytest.approx(-math.log(2), abs=1e-14)
    assert NonSaturating().generator(zero).item() == pytest.approx(math.log(2), abs=1e-14)


def test_generator_losses():
    expected = sum(math.log(1 - sigmoid(a)) for a in FAKE.tolist()) / 4
    assert Minimax().generator(FAKE).item() == pytest.approx(expected, abs=1e-13)
    expected = sum(-math.log(sigmoid(a)) for a in FAKE.tolist()) / 4
    assert NonSaturating().generator(FAKE).item() == pytest.approx(expected, abs=1e-13)
    assert Wasserstein().generator(FAKE).item() == pytest.approx(-FAKE.sum().item() / 4, abs=1e-14)


def test_gradients():
    """d/da of log(1 - D) is -D and of -log D is D - 1, D = sigmoid(a): the first saturates."""
    d = FAKE.sigmoid()
    close = {"rtol": 0, "atol": 1e-14}
    torch.testing.assert_close(slope(Minimax().generator, FAKE), -d / 4, **close)
    torch.testing.assert_close(slope(NonSaturating().generator, FAKE), (d - 1) / 4, **close)
    sure = torch.tensor([-20.0], dtype=torch.float64)
    assert -1e-8 < slope(Minimax().generator, sure).item() < 0
    assert -1 < slope(NonSaturating().generator, sure).item() < -1 + 1e-8
    for objective in (Minimax(), NonSaturating()):
        of_real = slope(lambda a, o=objective: o.discriminator(a, FAKE), REAL)
        of_fake = slope(lambda a, o=objective: o.discriminator(REAL, a), FAKE)
        torch.testing.assert_close(of_real, (REAL.sigmoid() - 1) / 4, **close)
        torch.testing.assert_close(of_fake, d / 4, **close)


@pytest.mark.parametrize("objective", ALL, ids=repr)
def test_what_a_discriminator_that_is_always_right_leaves_the_generator(objective):
    """D(x) = s x, real samples at 1 and generated ones at -1, of which G feels dL_G/dx = s dL_G/dD.

    The log losses fall to 0 as s grows, and G's slope vanishes, as s sigmoid(-s), or grows as s.
    The labels and the margin have a best s, 1, and there G's slope is 1. Wasserstein's loss has
    its best at the largest s that the constraint allows, and G's slope is s.
    """
    one = torch.ones(1, dtype=torch.float64)

    def of_d(s):
        return slope(lambda s: objective.discriminator(s * one, -s * one), s * one).item()

    def of_g(s):
        return slope(lambda x: objective.generator(s * x, s * one), -one).item()

    assert objective.saturates == (0 < objective.discriminator(30 * one, -30 * one) < 1e-12)
    if objective.saturates:
        pushes = {
            Minimax(): 0.0, NonSaturating(): -30.0, Bidirectional(): -30.0,
            RelativisticPairing(): -30.0,
        }  # fmt: skip
        assert of_g(30.0) == pytest.approx(pushes[objective], abs=1e-11)
    elif objective == LeastSquares():  # 1/2 between its labels: a bias is due
        assert objective.discriminator(one, 0 * one) == 0
        assert slope(objective.generator, 0 * one).item() == -1
    else:
        assert of_g(1.0) == -1
        assert of_d(1.0) == (-2 if isinstance(objective, Wasserstein) else 0)


def test_both_players_pull_the_fakes_logits_apart():
    """D wants them down, G up, for every objective; within the labels and the margin of two."""
    real, fake = REAL.clamp(-0.9, 0.9), FAKE.clamp(-0.9, -0.1)
    ran = 0
    for objective in ALL:
        a, b = (fake.clamp(min=0.1), real) if objective == LeastSquares() else (fake, real)
        assert (slope(lambda a, o=objective, b=b: o.discriminator(b, a), a) > 0).all()
        assert (slope(lambda b, o=objective, a=a: o.discriminator(b, a), b) < 0).all()
        assert (slope(lambda a, o=objective, b=b: o.generator(a, b), a) < 0).all()
        ran += 1
    assert ran == 8


def test_wasserstein_signs():
    real, fake = torch.tensor([3.0, 5.0]), torch.tensor([1.0, 2.0])
    assert Wasserstein().discriminator(real, fake).item() == -2.5
    assert Wasserstein().generator(fake).item() == -1.5
    watch = {k: v.item() for k, v in Wasserstein().diagnostics(real, fake).items()}
    assert watch == {"d/real": 4.0, "d/fake": 1.5, "d/wasserstein": 2.5}


def test_least_squares():
    """Mao et al. 2017, eq. 2; the optimal D of eq. 5 is (b p + a q) / (p + q)."""
    for objective, (a, b, c) in ((LeastSquares(), (0, 1, 1)), (CHI_SQUARED, (-1, 1, 0))):
        expected = sum((x - b) ** 2 for x in REAL.tolist()) / 8
        expected += sum((x - a) ** 2 for x in FAKE.tolist()) / 8
        assert objective.discriminator(REAL, FAKE).item() == pytest.approx(expected, abs=1e-13)
        expected = sum((x - c) ** 2 for x in FAKE.tolist()) / 8
        assert objective.generator(FAKE).item() == pytest.approx(expected, abs=1e-13)
        of_fake = slope(lambda x, o=objective: o.discriminator(REAL, x), FAKE)
        torch.testing.assert_close(of_fake, (FAKE - a) / 4, rtol=0, atol=1e-14)
        torch.testing.assert_close(slope(objective.generator, FAKE), (FAKE - c) / 4)
        # Three times as many real samples as generated ones where D says x: 3 (x - b) + (x - a).
        best = torch.tensor([(3 * b + a) / 4], dtype=torch.float64)
        of_real = slope(lambda x, o=objective: o.discriminator(x, FAKE), best)
        of_fake = slope(lambda x, o=objective: o.discriminator(REAL, x), best)
        assert (3 * of_real + of_fake).item() == pytest.approx(0, abs=1e-14)
    watch = CHI_SQUARED.diagnostics(torch.tensor([0.5, -0.5]), torch.tensor([0.2, -1.0, -2.0]))
    assert watch["d/accuracy"].item() == pytest.approx((1 / 2 + 2 / 3) / 2)
    watch = LeastSquares().diagnostics(torch.tensor([0.6, 0.4]), torch.tensor([0.6, 0.4]))
    assert {k: v.item() for k, v in watch.items()} == pytest.approx(
        {"d/real": 0.5, "d/fake": 0.5, "d/accuracy": 0.5}
    )


def test_hinge():
    """Beyond the margin of 1 D gains nothing; G's loss knows no margin."""
    expected = (2.5 + 1.0 + 0.7 + 0.0) / 4 + (3.0 + 0.3 + 1.1 + 0.0) / 4
    assert Hinge().discriminator(REAL, FAKE).item() == pytest.approx(expected, abs=1e-14)
    of_real = slope(lambda x: Hinge().discriminator(x, FAKE), REAL)
    of_fake = slope(lambda x: Hinge().discriminator(REAL, x), FAKE)
    assert of_real.tolist() == [-0.25, -0.25, -0.25, 0.0]
    assert of_fake.tolist() == [0.25, 0.25, 0.25, 0.0]
    assert slope(Hinge().generator, FAKE).tolist() == [-0.25] * 4
    assert Hinge().diagnostics(REAL, FAKE)["d/accuracy"].item() == pytest.approx(0.5)


def test_relativistic_pairing():
    """Sample i against sample i; where D is the same on both sides it is log 2."""
    objective = RelativisticPairing()
    pairs = list(zip(REAL.tolist(), FAKE.tolist(), strict=True))
    expected = sum(-math.log(sigmoid(x - y)) for x, y in pairs) / 4
    assert objective.discriminator(REAL, FAKE).item() == pytest.approx(expected, abs=1e-13)
    expected = sum(-math.log(sigmoid(y - x)) for x, y in pairs) / 4
    assert objective.generator(FAKE, REAL).item() == pytest.approx(expected, abs=1e-13)
    assert objective.generator(REAL, REAL).item() == pytest.approx(math.log(2), abs=1e-14)
    d = (REAL - FAKE).sigmoid()
    of_fake = slope(lambda x: objective.generator(x, REAL), FAKE)
    torch.testing.assert_close(of_fake, -d / 4, rtol=0, atol=1e-14)
    of_real = slope(lambda x: objective.discriminator(x, FAKE), REAL)
    torch.testing.assert_close(of_real, (d - 1) / 4, rtol=0, atol=1e-14)
    shuffled = objective.discriminator(REAL, FAKE.flip(0)).item()
    assert abs(shuffled - objective.discriminator(REAL, FAKE).item()) > 0.1
    shift = objective.discriminator(REAL + 5, FAKE + 5)  # only differences count
    torch.testing.assert_close(shift, objective.discriminator(REAL, FAKE), rtol=0, atol=1e-13)
    watch = objective.diagnostics(REAL, FAKE)
    assert watch["d/accuracy"].item() == 3 / 4
    with pytest.raises(ValueError, match="real samples"):
        objective.generator(FAKE)


def test_bidirectional():
    """G's and E's loss is D's with the labels exchanged: each side against the other."""
    objective = Bidirectional()
    expected = sum(-math.log(sigmoid(a)) for a in FAKE.tolist()) / 4
    expected += sum(-math.log(1 - sigmoid(a)) for a in REAL.tolist()) / 4
    assert objective.generator(FAKE, REAL).item() == pytest.approx(expected, abs=1e-13)
    torch.testing.assert_close(
        objective.generator(FAKE, REAL), objective.discriminator(FAKE, REAL), rtol=0, atol=1e-14
    )
    of_fake = slope(lambda a: objective.generator(a, REAL), FAKE)
    torch.testing.assert_close(of_fake, (FAKE.sigmoid() - 1) / 4, rtol=0, atol=1e-14)
    of_real = slope(lambda a: objective.generator(FAKE, a), REAL)
    torch.testing.assert_close(of_real, REAL.sigmoid() / 4, rtol=0, atol=1e-14)
    zero = torch.zeros(3).double()
    assert objective.generator(zero, zero).item() == pytest.approx(2 * math.log(2), abs=1e-14)
    with pytest.raises(ValueError, match="real samples"):
        objective.generator(FAKE)


def test_accuracy_counts_both_sides():
    watch = NonSaturating().diagnostics(torch.tensor([1.0, 1.0, -1.0, 2.0]), torch.tensor([1.0]))
    assert watch["d/accuracy"].item() == pytest.approx((3 / 4 + 0) / 2)
    probabilities = torch.tensor([1.0, 1.0, -1.0, 2.0]).sigmoid()
    assert watch["d/real"].item() == pytest.approx(probabilities.mean().item())


def test_extreme_logits_stay_finite():
    far = torch.tensor([1e4, -1e4])
    ran = 0
    for objective in ALL:
        assert objective.discriminator(far, far.flip(0)).isfinite()
        assert objective.generator(far, far.flip(0)).isfinite()
        of_fake = slope(lambda a, o=objective: o.generator(a, far.flip(0)), far)
        assert of_fake.isfinite().all()
        ran += 1
    assert ran == 8


def test_the_mean_is_over_each_side_alone():
    ran = 0
    for objective in (o for o in ALL if not o.needs_real):
        loss = objective.discriminator(REAL, FAKE)
        torch.testing.assert_close(objective.discriminator(REAL, FAKE.repeat(3)), loss)
        torch.testing.assert_close(objective.discriminator(REAL.repeat(2), FAKE), loss)
        assert loss.shape == objective.generator(FAKE).shape == ()
        ran += 1
    assert ran == 6


def test_replicas_under_vmap_equal_single_ones():
    torch.manual_seed(0)
    real, fake = torch.randn(3, 5).double(), torch.randn(3, 5).double()
    ran = 0
    for objective in ALL:
        together = torch.func.vmap(objective.discriminator)(real, fake)
        single = [objective.discriminator(*pair) for pair in zip(real, fake, strict=True)]
        # Not bit for bit: which of five values share a vector is the processor's matter.
        torch.testing.assert_close(together, torch.stack(single), rtol=1e-12, atol=0)
        gradients = torch.func.vmap(torch.func.grad(objective.generator))(fake, real)
        alone = slope(lambda a, o=objective: o.generator(a, real[1]), fake[1])
        torch.testing.assert_close(gradients[1], alone)
        watch = torch.func.vmap(lambda r, f, o=objective: dict(o.diagnostics(r, f)))(real, fake)
        for name, value in objective.diagnostics(real[2], fake[2]).items():
            torch.testing.assert_close(watch[name][2], value)
        ran += 1
    assert ran == 8
