"""The MLP: its layers, its parameter count, its initialisation."""

import math

import torch
from torch import nn

from gansweep.dataspec import Condition

from .cases import LATENT, build, count, pair


def kinds(net):
    return [type(module).__name__ for module in net.body]


def test_defaults():
    settings = build("mlp").settings
    assert (settings.width, settings.depth, settings.leak, settings.dropout) == (256, 3, 0.2, 0.0)
    assert (settings.generator_norm, settings.discriminator_norm) == ("none", "none")


def test_layers_of_the_generator():
    G, _ = pair(build("mlp", depth=2, generator_norm="batch"), (1, 8, 8))
    hidden = ["Linear", "BatchNorm1d", "ReLU"]
    assert kinds(G) == [*hidden, *hidden, "Linear", "Tanh", "Unflatten"]
    G, _ = pair(build("mlp", depth=1), (2,))
    assert kinds(G) == ["Linear", "ReLU", "Linear", "Unflatten"]


def test_layers_of_the_discriminator():
    ran = 0
    for norm, names in {"none": [], "batch": ["BatchNorm1d"], "layer": ["LayerNorm"]}.items():
        architecture = build("mlp", depth=2, discriminator_norm=norm, leak=0.1, dropout=0.3)
        G, D = pair(architecture, (1, 8, 8))
        hidden = ["Linear", *names, "LeakyReLU", "Dropout"]
        assert kinds(D) == [*hidden, *hidden, "Linear"]
        assert {m.negative_slope for m in D.body if isinstance(m, nn.LeakyReLU)} == {0.1}
        assert {m.p for m in D.body if isinstance(m, nn.Dropout)} == {0.3}
        assert not any(isinstance(m, nn.Dropout) for m in G.modules())
        ran += 1
    assert ran == 3


def test_parameter_counts():
    ran = 0
    for condition, extra in ((None, 0), (Condition("class", 10), 10), (Condition("vector", 7), 7)):
        G, D = pair(build("mlp", width=32, depth=3), (1, 28, 28), condition)
        assert count(G) == (LATENT + extra + 1) * 32 + 2 * 33 * 32 + 33 * 784
        assert count(D) == (784 + extra + 1) * 32 + 2 * 33 * 32 + 33
        ran += 1
    assert ran == 3


def test_initialisation_is_pytorchs_default():
    torch.manual_seed(0)
    G, D = pair(build("mlp"), (1, 28, 28))
    ran = 0
    for net in (G, D):
        for layer in (m for m in net.body if isinstance(m, nn.Linear)):
            bound = 1 / math.sqrt(layer.in_features)
            assert layer.weight.abs().max() <= bound
            assert layer.bias.abs().max() <= bound
            std = layer.weight.std().item() / (bound / math.sqrt(3))
            assert 0.9 < std < 1.1
            ran += 1
    assert ran == 8


def test_forward_equals_the_formula():
    torch.manual_seed(0)
    G, D = pair(build("mlp", width=3, depth=1), (1, 2, 2), Condition("class", 2))
    z, y = torch.randn(5, LATENT), torch.tensor([0, 1, 1, 0, 1])
    one_hot = torch.eye(2)[y]
    (first, _, last), body = list(G.body)[:3], D.body
    hidden = (torch.cat((z, one_hot), 1) @ first.weight.T + first.bias).clamp(min=0)
    x = torch.tanh(hidden @ last.weight.T + last.bias).reshape(5, 1, 2, 2)
    torch.testing.assert_close(G(z, y), x)
    hidden = torch.cat((x.flatten(1), one_hot), 1) @ body[0].weight.T + body[0].bias
    hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
    torch.testing.assert_close(D(x, y), (hidden @ body[2].weight.T + body[2].bias)[:, 0])
