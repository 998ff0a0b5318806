"""Spectral normalisation: the largest singular value is 1, by power iteration."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from gansweep.networks.spectral import SpectralConv2d, SpectralLinear, normalised

from .cases import build, pair

LAYERS = [lambda: SpectralLinear(5, 3), lambda: SpectralConv2d(2, 3, 4, stride=2, padding=1)]


def weight(layer: nn.Module) -> torch.Tensor:
    return normalised(layer.weight, layer.u, keep=False).flatten(1)


@pytest.mark.parametrize("make", LAYERS)
def test_the_largest_singular_value_becomes_one(make) -> None:
    torch.manual_seed(0)
    layer = make().double()
    x = torch.randn(2, 5) if isinstance(layer, nn.Linear) else torch.randn(2, 2, 8, 8)
    for _ in range(200):
        layer(x.double())
    largest = torch.linalg.svdvals(layer.weight.flatten(1))[0]
    torch.testing.assert_close(weight(layer), layer.weight.flatten(1) / largest)
    assert torch.linalg.svdvals(weight(layer))[0].item() == pytest.approx(1, abs=1e-12)


def test_it_is_the_layer_with_that_weight() -> None:
    torch.manual_seed(0)
    for layer, plain, x in (
        (SpectralLinear(5, 3), nn.Linear(5, 3), torch.randn(4, 5)),
        (
            SpectralConv2d(2, 3, 4, stride=2, padding=1),
            nn.Conv2d(2, 3, 4, stride=2, padding=1),
            torch.randn(4, 2, 8, 8),
        ),
    ):
        layer.eval()
        plain.weight.data = weight(layer).detach().view_as(layer.weight)
        plain.bias.data = layer.bias.data
        torch.testing.assert_close(layer(x), plain(x))
    assert SpectralLinear(5, 3, bias=False).bias is None


def test_it_is_pytorchs_own_in_values_and_gradients() -> None:
    """Once the power iteration has converged."""
    torch.manual_seed(0)
    ours = SpectralLinear(5, 3).double()
    theirs = nn.Linear(5, 3).double()
    theirs.load_state_dict({"weight": ours.weight.data, "bias": ours.bias.data})
    parametrizations.spectral_norm(theirs)
    x = torch.randn(4, 5).double()
    for _ in range(200):
        ours(x), theirs(x)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-12)
    (mine,) = torch.autograd.grad(ours(x).square().sum(), ours.weight)
    original = theirs.parametrizations.weight.original
    (other,) = torch.autograd.grad(theirs(x).square().sum(), original)
    torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


def test_the_gradient_is_across_the_weight() -> None:
    """W / sigma(W) does not change along W: Miyato et al. 2018, section 2.3."""
    torch.manual_seed(0)
    layer = SpectralLinear(5, 3, bias=False).double()
    for _ in range(200):
        layer(torch.randn(2, 5).double())
    loss = layer(torch.randn(4, 5).double()).square().sum()
    (gradient,) = torch.autograd.grad(loss, layer.weight)
    assert gradient.norm() > 0.01
    assert (gradient * layer.weight).sum().item() == pytest.approx(0, abs=1e-12)


def test_each_training_call_is_one_power_iteration() -> None:
    torch.manual_seed(0)
    layer = SpectralLinear(5, 3)
    u = layer.u.clone()
    layer.eval()(torch.randn(2, 5))
    assert torch.equal(layer.u, u)
    layer.train()(torch.randn(2, 5))
    v = nn.functional.normalize(layer.weight.T @ u, dim=0)
    torch.testing.assert_close(layer.u, nn.functional.normalize(layer.weight @ v, dim=0))
    assert not layer.u.requires_grad
    assert "u" in layer.state_dict()


def test_two_calls_before_a_backward_pass() -> None:
    """D sees real and generated samples in turn, and u moves in between."""
    torch.manual_seed(0)
    layer = SpectralLinear(5, 3)
    (layer(torch.randn(2, 5)).sum() - layer(torch.randn(2, 5)).sum()).backward()
    assert layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", ["mlp", "dcgan"])
def test_every_weight_of_a_spectral_discriminator_is_normalised(name: str) -> None:
    small = {"mlp": {"width": 8, "depth": 2}, "dcgan": {"width": 4}}[name]
    torch.manual_seed(0)
    G, D = pair(build(name, **small, discriminator_norm="spectral"), (1, 16, 16))
    kinds = (nn.Linear, nn.Conv2d)
    layers = [m for m in D.modules() if isinstance(m, kinds)]
    assert len(layers) == 3
    assert all(isinstance(m, (SpectralLinear, SpectralConv2d)) for m in layers)
    assert all(m.bias is not None for m in layers)
    assert not any(isinstance(m, (SpectralLinear, SpectralConv2d)) for m in G.modules())
    assert not getattr(D, "separable", False)
    for _ in range(300):
        D(torch.randn(1, 1, 16, 16))
    x = torch.randn(50, 1, 16, 16)
    scaled = [p.data.mul_(7) for p in D.parameters() if p.dim() > 1]  # W / sigma(W) stays
    assert len(scaled) == 3
    if name == "mlp":  # a product of 1-Lipschitz layers is 1-Lipschitz
        y = torch.randn(50, 1, 16, 16)
        steepest = ((D(x) - D(y)).abs() / (x - y).flatten(1).norm(dim=1)).max()
        assert 0 < steepest <= 1
