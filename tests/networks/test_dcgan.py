"""DCGAN: the published network at 64x64, every other side, initial weights, norms."""

import pytest
import torch
from torch import nn

from gansweep.dataspec import Condition, DataSpec
from gansweep.errors import ConfigError
from gansweep.networks.convolution import Conv2d, ConvTranspose2d
from gansweep.networks.dcgan import SIDES, side_chain
from gansweep.networks.spectral import SpectralConv2d

from .cases import LATENT, build, count, pair


def published(condition=None):
    architecture = build("dcgan")
    spec = DataSpec((3, 64, 64), condition)
    return (
        architecture.generator(latent_dim=100, spec=spec, condition=condition),
        architecture.discriminator(spec=spec, condition=condition),
    )


def outline(net):
    """Convolutions as (in, out, kernel, stride, padding), other modules by their names."""
    return [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.padding[0])
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))
        else type(m).__name__
        for m in net.body
    ]


def test_published_generator():
    G, _ = published()
    inner = ["BatchNorm2d", "ReLU"]
    assert outline(G) == [
        (100, 512, 4, 1, 0),
        *inner,
        (512, 256, 4, 2, 1),
        *inner,
        (256, 128, 4, 2, 1),
        *inner,
        (128, 64, 4, 2, 1),
        *inner,
        (64, 3, 4, 2, 1),
        "Tanh",
    ]
    assert count(G) == 3_576_704


def test_published_discriminator():
    _, D = published()
    inner = ["BatchNorm2d", "LeakyReLU"]
    assert outline(D) == [
        (3, 64, 4, 2, 1),
        "LeakyReLU",
        (64, 128, 4, 2, 1),
        *inner,
        (128, 256, 4, 2, 1),
        *inner,
        (256, 512, 4, 2, 1),
        *inner,
        (512, 1, 4, 1, 0),
    ]
    assert count(D) == 2_765_568
    assert {m.negative_slope for m in D.body if isinstance(m, nn.LeakyReLU)} == {0.2}


def test_neither_pooling_nor_linear_layers_nor_biases_of_convolutions():
    allowed = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU, nn.LeakyReLU, nn.Tanh)
    ran = 0
    for net in published():
        assert all(isinstance(m, allowed) for m in net.body)
        convolutions = [m for m in net.body if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
        assert all(m.bias is None for m in convolutions)
        ran += len(convolutions)
    assert ran == 10


def test_initial_weights():
    torch.manual_seed(0)
    nets = published()
    convolutions = norms = 0
    scales = []
    for module in (m for net in nets for m in net.body):
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            n = module.weight.numel()
            assert abs(module.weight.mean()) < 5 * 0.02 / n**0.5
            assert abs(module.weight.std() / 0.02 - 1) < 5 / (2 * n) ** 0.5
            convolutions += 1
        if isinstance(module, nn.BatchNorm2d):
            assert not module.bias.any()
            scales.append(module.weight.detach())
            norms += 1
    assert (convolutions, norms) == (10, 7)
    scale = torch.cat(scales)
    assert 0.998 < scale.mean() < 1.002
    assert 0.0185 < scale.std() < 0.0215


def test_side_chains():
    chains = {
        8: [8, 4],
        15: [15, 7],
        16: [16, 8, 4],
        28: [28, 14, 7],
        32: [32, 16, 8, 4],
        33: [33, 16, 8, 4],
        64: [64, 32, 16, 8, 4],
        127: [127, 63, 31, 15, 7],
        128: [128, 64, 32, 16, 8, 4],
    }
    assert {side: side_chain(side) for side in chains} == chains


def test_every_side_is_met_exactly_and_no_pixel_is_left_out():
    """With every weight .02, a pixel of G is 0 only if no path leads to it; likewise for D."""
    architecture = build("dcgan", width=1, generator_norm="none", discriminator_norm="none")
    ran = 0
    for side in range(SIDES[0], SIDES[1] + 1):
        G, D = pair(architecture, (1, side, side))
        for parameter in (*G.parameters(), *D.parameters()):
            nn.init.constant_(parameter, 0.02)
        x = G(torch.ones(2, LATENT))
        assert x.shape == (2, 1, side, side)
        assert (x > 0).all(), f"G leaves a pixel out at side {side}"
        x = x.detach().requires_grad_()
        logits = D(x)
        assert logits.shape == (2,)
        assert 4 <= D.body[-1].kernel_size[0] <= 7
        (slope,) = torch.autograd.grad(logits.sum(), x)
        assert (slope > 0).all(), f"D leaves a pixel out at side {side}"
        ran += 1
    assert ran == 121


def test_maps_double_at_each_halving():
    widths = {}
    with torch.device("meta"):
        for side in (8, 28, 32, 64, 128):
            G, D = pair(build("dcgan"), (1, side, side))
            up = [m.out_channels for m in G.body if isinstance(m, nn.ConvTranspose2d)]
            down = [m.out_channels for m in D.body if isinstance(m, nn.Conv2d)]
            assert up[:-1] == down[:-1][::-1]
            widths[side] = down[:-1]
    assert widths == {
        8: [64],
        28: [64, 128],
        32: [64, 128, 256],
        64: [64, 128, 256, 512],
        128: [64, 128, 256, 512, 1024],
    }


def test_norms_are_absent_at_the_generators_output_and_the_discriminators_input():
    norms = (nn.BatchNorm2d, nn.GroupNorm)
    expected = {"none": 0, "batch": 3, "layer": 3, "spectral": 0}
    ran = 0
    for norm, number in expected.items():
        _, D = pair(build("dcgan", width=2, discriminator_norm=norm), (3, 64, 64))
        conv = SpectralConv2d if norm == "spectral" else Conv2d
        assert [type(m) for m in list(D.body)[:2]] == [conv, nn.LeakyReLU]
        assert isinstance(D.body[-1], nn.Conv2d)
        assert sum(isinstance(m, norms) for m in D.body) == number
        ran += 1
    for norm, number in {"none": 0, "batch": 4}.items():
        G, _ = pair(build("dcgan", width=2, generator_norm=norm), (3, 64, 64))
        assert [type(m) for m in list(G.body)[-2:]] == [ConvTranspose2d, nn.Tanh]
        assert sum(isinstance(m, norms) for m in G.body) == number
        ran += 1
    assert ran == 6


def test_norm_layer_is_over_one_whole_sample_with_a_weight_per_channel():
    _, D = pair(build("dcgan", width=4, discriminator_norm="layer"), (3, 16, 16))
    (norm,) = (m for m in D.body if isinstance(m, nn.GroupNorm))
    assert norm.weight.tolist() == [1.0] * 8
    assert norm.bias.tolist() == [0.0] * 8
    x = torch.randn(2, 8, 4, 4)
    centred = x - x.mean((1, 2, 3), keepdim=True)
    expected = centred / (centred.square().mean((1, 2, 3), keepdim=True) + norm.eps).sqrt()
    torch.testing.assert_close(norm(x), expected)


def test_a_sample_meets_no_other_in_the_discriminator_without_batch_norm():
    torch.manual_seed(0)
    x = torch.randn(4, 3, 32, 32)
    moved = x.clone()
    moved[1:] += 1
    same = {}
    for norm in ("none", "layer", "batch"):
        _, D = pair(build("dcgan", width=4, discriminator_norm=norm), (3, 32, 32))
        same[norm] = torch.allclose(D(x)[0], D(moved)[0], rtol=1e-4, atol=1e-8)
    assert same == {"none": True, "layer": True, "batch": False}


def test_a_condition_adds_inputs_to_the_first_layers_only():
    plain = published()
    ran = 0
    for condition in (Condition("class", 10), Condition("vector", 40)):
        G, D = published(condition)
        assert count(G) == count(plain[0]) + condition.size * 512 * 16
        assert count(D) == count(plain[1]) + condition.size * 64 * 16
        ran += 1
    assert ran == 2


@pytest.mark.parametrize("shape", [(2,), (3, 32, 64), (1, 7, 7), (1, 129, 129)])
def test_data_that_do_not_fit_are_refused_by_both(shape):
    spec = DataSpec(shape)
    architecture = build("dcgan")
    with pytest.raises(ConfigError, match="dcgan needs"):
        architecture.generator(latent_dim=LATENT, spec=spec, condition=None)
    with pytest.raises(ConfigError, match="dcgan needs"):
        architecture.discriminator(spec=spec, condition=None)
