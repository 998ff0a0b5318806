"""PacGAN's networks for the plane: layers, sizes and initial weights as in the authors' code."""

from __future__ import annotations

import torch
from torch import nn

from gansweep.networks.maxout import Maxout

from .cases import build, count, pair


def networks():
    torch.manual_seed(0)
    return pair(build("pacgan"), (4,))


def test_layers() -> None:
    G, D = networks()
    hidden = ["Linear", "BatchNorm1d", "ReLU"]
    assert [type(m).__name__ for m in G.body] == [*hidden * 4, "Linear", "Unflatten"]
    assert [type(m).__name__ for m in D.body] == ["Maxout"] * 3 + ["Linear"]
    assert count(G) == 6 * 400 + 3 * 400 * 400 + 4 * 2 * 400 + 401 * 4  # z of 6 dimensions
    assert count(D) == 5 * 1000 + 2 * 201 * 1000 + 201
    assert all(m.linear.out_features == 1000 for m in D.body if isinstance(m, Maxout))
    assert D.separable
    assert not getattr(G, "separable", False)


def test_the_generators_norm() -> None:
    """eps 1e-4, and a batch counts 0.05 (blocks' default; pacgan_task.py)."""
    norms = [m for m in networks()[0].body if isinstance(m, nn.BatchNorm1d)]
    assert [(m.eps, m.momentum) for m in norms] == [(1e-4, 0.05)] * 4


def test_initial_weights() -> None:
    ran = 0
    for net in networks():
        for layer in (m for m in net.modules() if isinstance(m, nn.Linear)):
            n = layer.weight.numel()
            assert abs(layer.weight.std().item() / 0.02 - 1) < 5 / (2 * n) ** 0.5
            assert layer.bias is None or not layer.bias.any()
            ran += 1
    assert ran == 9


def test_images_end_in_tanh() -> None:
    G, D = pair(build("pacgan", generator_width=8, discriminator_width=4), (1, 8, 8))
    x = G(torch.randn(5, 6))
    assert isinstance(G.body[-1], nn.Tanh)
    assert D(x).shape == (5,)
