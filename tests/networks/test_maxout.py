"""The 2014 networks: maxout in closed form, sizes and initial weights as published."""

import math

import pytest
import torch
from torch import nn

from gansweep.dataspec import Condition, DataSpec
from gansweep.networks.maxout import Maxout, SignedSigmoid, UnitPixels

from .cases import LATENT, SMALL, build, count, pair

MNIST = (1, 28, 28)


def linears(net):
    return [module for module in net.modules() if isinstance(module, nn.Linear)]


def published(condition=None):
    architecture = build("maxout")
    spec = DataSpec(MNIST, condition)
    return (
        architecture.generator(latent_dim=100, spec=spec, condition=condition),
        architecture.discriminator(spec=spec, condition=condition),
    )


def test_maxout_closed_form():
    """Two units of two pieces: h_0 = max(x, -x) = |x|, h_1 = max(2x + 1, 3)."""
    layer = Maxout(1, 2, 2)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0], [2.0], [-1.0], [0.0]]))
        layer.linear.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 3.0]))
    x = torch.tensor([[-2.0], [0.5], [4.0]])
    assert layer(x).tolist() == [[2.0, 3.0], [0.5, 3.0], [4.0, 9.0]]


def test_pixels_in_and_out():
    pixels = torch.tensor([-1.0, 0.0, 1.0])
    assert UnitPixels()(pixels).tolist() == [0.0, 0.5, 1.0]
    a = torch.tensor([-50.0, 0.0, math.log(3), 50.0])
    torch.testing.assert_close(SignedSigmoid()(a), torch.tensor([-1.0, 0.0, 0.5, 1.0]))


def test_unconditional_sizes():
    G, D = published()
    assert [(m.in_features, m.out_features) for m in linears(G)] == [
        (100, 1200),
        (1200, 1200),
        (1200, 784),
    ]
    assert [(m.in_features, m.out_features) for m in linears(D)] == [
        (784, 240 * 5),
        (240, 240 * 5),
        (240, 1),
    ]
    assert (count(G), count(D)) == (2_503_984, 1_231_441)


def test_conditional_sizes():
    G, D = published(Condition("class", 10))
    assert [(m.in_features, m.out_features) for m in linears(G)] == [
        (100, 200),
        (10, 1000),
        (1200, 1200),
        (1200, 784),
    ]
    assert [(m.in_features, m.out_features) for m in linears(D)] == [
        (784, 240 * 5),
        (10, 50 * 5),
        (290, 240 * 4),
        (240, 1),
    ]
    assert (count(G), count(D)) == (2_413_984, 1_224_351)


@pytest.mark.parametrize("condition", [None, Condition("class", 10)])
def test_initial_weights_are_uniform_and_biases_0(condition):
    torch.manual_seed(0)
    checked = 0
    for net, irange in zip(published(condition), (0.05, 0.005), strict=True):
        layers = linears(net)
        for layer in layers:
            assert layer.weight.abs().max() <= irange
            assert not layer.bias.any()
            checked += 1
        weights = torch.cat([layer.weight.flatten() for layer in layers])
        assert weights.abs().max() > 0.999 * irange
        assert abs(weights.mean()) < 0.01 * irange
        assert 0.995 < weights.std() * math.sqrt(3) / irange < 1.005
    assert checked == (6 if condition is None else 8)


def test_dropout_as_published():
    G, D = published()
    assert [m.p for m in G.modules() if isinstance(m, nn.Dropout)] == []
    assert [m.p for m in D.modules() if isinstance(m, nn.Dropout)] == [0.2, 0.5, 0.5]
    G, D = published(Condition("class", 10))
    assert [m.p for m in G.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert [m.p for m in D.modules() if isinstance(m, nn.Dropout)] == [0.2, 0.5, 0.5]


def test_settings_reach_the_networks():
    small = SMALL["maxout"] | {"discriminator_pieces": 3, "discriminator_joint_pieces": 2}
    drops = {"dropout": 0.1, "input_dropout": 0.3, "generator_dropout": 0.4}
    G, D = pair(build("maxout", **small | drops), (2,), Condition("vector", 3))
    assert [m.out_features for m in linears(G)] == [5, 4, 8, 2]
    assert [m.out_features for m in linears(D)] == [7 * 3, 3 * 3, 7 * 2, 1]
    assert [m.p for m in G.modules() if isinstance(m, nn.Dropout)] == [0.4, 0.4]
    assert [m.p for m in D.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.1, 0.1]


def test_the_discriminator_sees_pixels_from_0_to_1_and_vectors_unchanged():
    torch.manual_seed(0)
    ran = 0
    for shape, scale in (((1, 2, 2), lambda x: (x + 1) / 2), ((4,), lambda x: x)):
        _, D = pair(build("maxout", **SMALL["maxout"]), shape)
        D.eval()
        x = torch.rand(3, *shape) * 2 - 1
        h = scale(x).flatten(1)
        for layer in linears(D)[:2]:
            h = (h @ layer.weight.T + layer.bias).reshape(3, 5, 7).max(1).values
        last = linears(D)[2]
        torch.testing.assert_close(D(x), (h @ last.weight.T + last.bias)[:, 0])
        ran += 1
    assert ran == 2


def test_vectors_leave_the_generator_linearly():
    torch.manual_seed(0)
    G, _ = pair(build("maxout", **SMALL["maxout"] | {"generator_irange": 5.0}), (2,))
    assert G(torch.randn(8, LATENT)).abs().max() > 1
