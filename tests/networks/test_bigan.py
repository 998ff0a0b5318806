"""BiGAN's networks for permutation-invariant data: layers and initial weights as in its code."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import leaky_relu

from gansweep.dataspec import Condition, DataSpec

from .cases import build, count

DIGITS = DataSpec((1, 28, 28))


def networks() -> tuple[nn.Module, nn.Module, nn.Module]:
    torch.manual_seed(0)
    paper = build("bigan")
    return (
        paper.generator(latent_dim=50, spec=DIGITS, condition=None),
        paper.discriminator(spec=DIGITS, condition=Condition("vector", 50)),
        paper.encoder(latent_dim=50, spec=DIGITS),
    )


def test_sizes() -> None:
    """Weights alone: no layer has a bias, and BatchNorm nothing to learn."""
    G, D, E = networks()
    inner = 1024 * 1024
    assert count(G) == 2 * 50 * 1024 + inner + 1024 * 784
    assert count(D) == 784 * 1024 + inner + 50 * 1024 + 1024
    assert count(E) == 784 * 1024 + inner + 1024 * 50
    norms = [m for net in (G, D, E) for m in net.modules() if isinstance(m, nn.BatchNorm1d)]
    assert [(m.affine, m.eps) for m in norms] == [(False, 1e-8)] * 4
    assert not any(getattr(net, "separable", False) for net in (G, D, E))


def test_initial_weights() -> None:
    ran = 0
    for net in networks():
        for layer in (m for m in net.modules() if isinstance(m, nn.Linear)):
            assert layer.bias is None
            n = layer.weight.numel()
            assert abs(layer.weight.std().item() / 0.02 - 1) < 5 / (2 * n) ** 0.5
            ran += 1
    assert ran == 4 + 4 + 3


def test_by_hand() -> None:
    G, D, E = networks()
    z, x = torch.rand(8, 50) * 2 - 1, torch.rand(8, 1, 28, 28) * 2 - 1

    def norm(h: torch.Tensor) -> torch.Tensor:
        return (h - h.mean(0)) / h.std(0, correction=0)

    h = norm(z @ G.first.weight.T).relu()
    h = norm(h @ G.second.weight.T + z @ G.again.weight.T).relu()
    pixels = torch.sigmoid(h @ G.last[0].weight.T)  # theirs, in [0, 1]
    torch.testing.assert_close(G(z).flatten(1), 2 * pixels - 1, rtol=1e-4, atol=1e-5)
    unit = (x.flatten(1) + 1) / 2
    h = leaky_relu(unit @ D.first.weight.T, 0.2) @ D.second.weight.T + z @ D.again.weight.T
    logits = leaky_relu(norm(h), 0.2) @ D.last[0].weight.T
    torch.testing.assert_close(D(x, z), logits.squeeze(1), rtol=1e-4, atol=1e-5)
    h = leaky_relu(unit @ E.first.weight.T, 0.2) @ E.second.weight.T
    codes = leaky_relu(norm(h), 0.2) @ E.last.weight.T
    torch.testing.assert_close(E(x), codes, rtol=1e-4, atol=1e-5)
