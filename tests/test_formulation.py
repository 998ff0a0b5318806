"""A formulation: what the losses are made of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gansweep.formulation import Formulation
from gansweep.objectives import NonSaturating, RelativisticPairing, Wasserstein
from gansweep.penalties import GradientPenalty, ZeroCentred

REAL = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
FAKE = torch.tensor([[0.5, 0.5], [-2.0, 1.0]], dtype=torch.float64)
W = torch.tensor([0.6, 1.7], dtype=torch.float64)
U = torch.tensor([0.3, 0.8], dtype=torch.float64)


def D(x):  # noqa: N802
    return x @ W


def test_without_a_penalty_the_loss_is_the_game():
    loss = Formulation(NonSaturating()).discriminator_loss(D, REAL, FAKE)
    assert torch.equal(loss.total, NonSaturating().discriminator(D(REAL), D(FAKE)))
    assert set(loss.metrics) == {"loss/d", "d/real", "d/fake", "d/accuracy"}
    assert loss.metrics["loss/d"] == loss.total


def test_a_penalty_is_added_and_reported():
    formulation = Formulation(Wasserstein(), GradientPenalty(10.0))
    loss = formulation.discriminator_loss(D, REAL, FAKE, U)
    penalty = 10 * (W.norm().item() - 1) ** 2
    game = (D(FAKE).mean() - D(REAL).mean()).item()
    assert loss.total.item() == pytest.approx(game + penalty, abs=1e-12)
    assert loss.metrics["loss/penalty"].item() == pytest.approx(penalty, abs=1e-12)
    assert loss.metrics["loss/d"].item() == loss.total.item()
    assert loss.metrics["d/wasserstein"].item() == pytest.approx(-game, abs=1e-12)


def test_a_penalty_needs_its_noise():
    with pytest.raises(ValueError, match="noise"):
        Formulation(Wasserstein(), GradientPenalty()).discriminator_loss(D, REAL, FAKE)


def test_the_generators_loss_carries_the_graph():
    fake = FAKE.clone().requires_grad_()
    loss = Formulation(Wasserstein()).generator_loss(D, fake)
    (slope,) = torch.autograd.grad(loss.total, fake)
    torch.testing.assert_close(slope, -W.expand(2, 2) / 2)
    assert set(loss.metrics) == {"loss/g"}


def test_metrics_are_detached():
    weights = W.clone().requires_grad_()
    formulation = Formulation(Wasserstein(), GradientPenalty())
    loss = formulation.discriminator_loss(lambda x: x @ weights, REAL, FAKE, U)
    metrics = {**loss.metrics, **formulation.generator_loss(lambda x: x @ weights, FAKE).metrics}
    assert len(metrics) == 6
    assert not any(value.requires_grad for value in metrics.values())
    assert loss.total.requires_grad


def test_real_and_fake_pass_in_batches_of_their_own():
    """BatchNorm must see each alone (soumith/dcgan.torch)."""
    seen = []

    def spy(x):
        seen.append(x)
        return x.sum(1)

    Formulation(NonSaturating()).discriminator_loss(spy, REAL, FAKE)
    assert [id(x) for x in seen] == [id(REAL), id(FAKE)]


def test_only_the_penalty_uses_the_pure_discriminator():
    calls = []

    def pure(x):
        calls.append(tuple(x.shape))
        return x @ (2 * W)

    formulation = Formulation(Wasserstein(), GradientPenalty(1.0))
    loss = formulation.discriminator_loss(D, REAL, FAKE, U, D_pure=pure)
    assert calls == [(2, 2)]
    assert loss.metrics["loss/penalty"].item() == pytest.approx((2 * W.norm().item() - 1) ** 2)
    assert loss.metrics["d/real"].item() == pytest.approx(D(REAL).mean().item())


def test_replicas_under_vmap_equal_single_ones():
    formulation = Formulation(Wasserstein(), GradientPenalty(10.0))
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double() for _ in range(3)]
    stacked, _ = torch.func.stack_module_state(nets)
    real, fake = torch.randn(2, 3, 5, 2).double()
    u = torch.rand(3, 5).double()

    def loss(parameters, real, fake, u):
        def critic(x):
            return torch.func.functional_call(nets[0], parameters, (x,))[:, 0]

        return formulation.discriminator_loss(critic, real, fake, u).total

    gradients, values = torch.func.vmap(torch.func.grad_and_value(loss))(stacked, real, fake, u)
    for i, net in enumerate(nets):
        one = formulation.discriminator_loss(lambda x, n=net: n(x)[:, 0], real[i], fake[i], u[i])
        torch.testing.assert_close(values[i], one.total, rtol=0, atol=1e-12)
        (expected,) = torch.autograd.grad(one.total, [net[0].weight])
        torch.testing.assert_close(gradients["0.weight"][i], expected, rtol=0, atol=1e-12)


# --- relativistic objectives and packed samples


def test_a_relativistic_generator_loss_sees_real_samples():
    formulation = Formulation(RelativisticPairing())
    fake = FAKE.clone().requires_grad_()
    loss = formulation.generator_loss(D, fake, REAL)
    assert torch.equal(loss.total, RelativisticPairing().generator(D(FAKE), D(REAL)))
    assert torch.autograd.grad(loss.total, fake)[0].abs().min() > 0
    with pytest.raises(ValueError, match="real samples"):
        formulation.generator_loss(D, FAKE)


def test_other_generator_losses_leave_real_samples_alone():
    seen = []

    def spy(x):
        seen.append(x)
        return D(x)

    loss = Formulation(NonSaturating()).generator_loss(spy, FAKE, REAL)
    assert torch.equal(loss.total, NonSaturating().generator(D(FAKE)))
    assert len(seen) == 1


def test_both_may_pass_as_one_in_either_step():
    calls = []

    def both(real, fake):
        calls.append(len(real))
        return D(real), D(fake)

    formulation = Formulation(RelativisticPairing())
    formulation.discriminator_loss(D, REAL, FAKE, D_both=both)
    loss = formulation.generator_loss(D, FAKE, REAL, D_both=both)
    assert calls == [2, 2]
    assert torch.equal(loss.total, formulation.generator_loss(D, FAKE, REAL).total)


def test_packed_samples_are_neighbours_side_by_side():
    """PacGAN: D(x_1, ..., x_m); vectors end to end, images channel by channel."""
    x = torch.arange(12.0).view(6, 2)
    assert Formulation(NonSaturating()).packed(x) is x
    assert Formulation(NonSaturating(), pac=2).packed(x).tolist() == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]
    assert Formulation(NonSaturating(), pac=3).packed(x).shape == (2, 6)
    images = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    packed = Formulation(NonSaturating(), pac=2).packed(images)
    assert packed.shape == (2, 6, 5, 5)
    assert torch.equal(packed[1, :3], images[2])
    assert torch.equal(packed[1, 3:], images[3])


def test_losses_of_packed_samples():
    """Objective and penalty see a pair as one sample: one logit, one slope, one u."""
    weights = torch.tensor([0.6, 1.7, -0.4, 0.9], dtype=torch.float64)

    def pairwise(x):
        assert x.shape[1:] == (4,)
        return x @ weights

    torch.manual_seed(0)
    real, fake = torch.randn(2, 6, 2, dtype=torch.float64)
    formulation = Formulation(Wasserstein(), GradientPenalty(10.0), pac=2)
    size = {"shape": (2,), "device": "cpu", "dtype": torch.float64}
    noise = formulation.draw(5, 6, rng=torch.Generator().manual_seed(0), **size)
    assert noise.shape == (5, 3)
    loss = formulation.discriminator_loss(pairwise, real, fake, noise[0])
    game = (fake - real).view(3, 4).mean(0) @ weights
    penalty = 10 * (weights.norm() - 1) ** 2
    assert loss.total.item() == pytest.approx((game + penalty).item(), abs=1e-12)
    loss = formulation.generator_loss(pairwise, fake)
    assert loss.total.item() == pytest.approx(-(fake.view(3, 4).mean(0) @ weights).item())
    pairs = Formulation(RelativisticPairing(), ZeroCentred(2.0, 2.0), pac=2)
    assert pairs.generator_loss(pairwise, fake, real).total.isfinite()


def test_without_a_penalty_there_is_no_noise():
    rng = torch.Generator().manual_seed(0)
    size = {"shape": (2,), "device": "cpu", "dtype": torch.float64}
    assert Formulation(Wasserstein()).draw(2, 4, rng=rng, **size) is None


class Played(NonSaturating):
    """Gives what it is told to."""

    d, g, watched = staticmethod(torch.mean), staticmethod(torch.mean), staticmethod(torch.mean)

    def discriminator(self, real, fake):
        assert len(real) == len(fake) == 6
        return self.d(real)

    def generator(self, fake, real=None):
        return self.g(fake)

    def diagnostics(self, real, fake):
        given = self.watched(real)
        return given if given is None else {"d/own": given}


@pytest.mark.parametrize(
    ("part", "gives", "told"),
    [
        ("d", lambda x: x, r"loss/d is \[6\], must be a tensor of no dim"),
        ("g", lambda x: x, r"loss/g is \[6\], must be a tensor of no dim"),
        ("d", lambda x: x.mean().detach(), "the loss of D has no gradient"),
        ("g", lambda x: x.mean().detach(), "the loss of G has no gradient"),
        ("watched", lambda x: float(x.mean()), "d/own is float, must be a tensor"),
        ("watched", lambda x: x[:1], r"d/own is \[1\], must be a tensor"),
        ("d", lambda x: float(x.mean()), "Played.discriminator gives float, must give a Tensor"),
        ("g", lambda x: None, "Played.generator gives NoneType, must give a Tensor"),
        ("watched", lambda x: None, "Played.diagnostics gives NoneType, must give a Mapping"),
    ],
)
def test_a_round_is_tried(monkeypatch, part, gives, told):
    Formulation(Played()).tried((1, 4, 4), batch=6)
    monkeypatch.setattr(Played, part, staticmethod(gives))
    with pytest.raises((ValueError, TypeError), match=told):
        Formulation(Played()).tried((1, 4, 4), batch=6)


def test_every_penalty_can_be_tried():
    for penalty in (None, GradientPenalty(10.0), ZeroCentred(1.0)):
        for pac in (1, 2):
            Formulation(Wasserstein(), penalty, pac=pac).tried((3, 4, 4), batch=6)
