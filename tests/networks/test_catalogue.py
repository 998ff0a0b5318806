"""What holds for every built-in architecture: names, shapes, labels, meta device, torch.func."""

import itertools
import subprocess
import sys

import pytest
import torch
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from gansweep.dataspec import Condition, DataSpec
from gansweep.networks.catalogue import ARCHITECTURES

from .cases import CONDITIONS, IMAGES, LATENT, SMALL, VECTORS, build, labels_for, pair

ANY = IMAGES + VECTORS
SHAPES = {"mlp": ANY, "maxout": ANY, "dcgan": IMAGES, "pacgan": ANY, "bigan": ANY}
DEVICES = ["cpu", "meta"]


def test_names():
    assert ARCHITECTURES.names == ["bigan", "dcgan", "maxout", "mlp", "pacgan"] == sorted(SMALL)


def test_the_names_are_read_without_torch():
    code = "import sys, gansweep.networks.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"name": "dcgan", "discriminator_norm": "instance"}, "network.discriminator_norm"),
        ({"name": "dcgan", "generator_norm": "layer"}, "network.generator_norm"),
        ({"name": "mlp", "dropout": 1.0}, "network.dropout"),
        ({"name": "mlp", "depth": 0}, "network.depth"),
        ({"name": "maxout", "discriminator_irange": 0.0}, "network.discriminator_irange"),
        ({"name": "maxout", "width": 9}, "network.width"),
    ],
)
def test_wrong_settings_are_named(values, key):
    problems = []
    assert ARCHITECTURES.part(values, at="network", problems=problems) is None
    assert [problem.where for problem in problems] == [key]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", sorted(SMALL))
def test_shapes(name, device):
    """Also under the meta device, by which a run checks that networks fit before it starts."""
    ran = 0
    for shape, condition in itertools.product(SHAPES[name], CONDITIONS):
        with torch.device(device):
            G, D = pair(build(name, **SMALL[name]), shape, condition)
            z, labels = torch.randn(4, LATENT), labels_for(condition, 4)
            x = G(z, labels)
            logits = D(x, labels)
        assert x.shape == (4, *shape)
        assert logits.shape == (4,)
        assert x.device.type == logits.device.type == device
        if device == "cpu" and len(shape) == 3:
            assert x.abs().max() <= 1
        ran += 1
    assert ran == 3 * len(SHAPES[name]) == (12 if name == "dcgan" else 18)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_labels_matter_to_both_networks_sample_by_sample(name):
    torch.manual_seed(0)
    ran = 0
    shapes = [(3, 16, 16)] if name == "dcgan" else [(3, 16, 16), (17,)]
    for shape, condition in itertools.product(shapes, CONDITIONS[1:]):
        G, D = pair(build(name, **SMALL[name]), shape, condition)
        G.eval(), D.eval()
        z = torch.randn(1, LATENT).expand(5, -1)
        x = torch.randn(1, *shape).expand(5, *(-1 for _ in shape))
        labels = labels_for(condition, 5)
        order = torch.tensor([3, 1, 4, 0, 2])
        for net, value in ((G, z), (D, x)):
            out = net(value, labels)
            assert len({tuple(row.flatten().tolist()) for row in out}) == 5
            torch.testing.assert_close(net(value, labels[order]), out[order])
            ran += 1
    assert ran == 2 * 2 * len(shapes)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_missing_and_superfluous_labels_are_refused(name):
    classes = Condition("class", 5)
    refused = 0
    for condition, labels in ((classes, None), (None, torch.zeros(2, dtype=torch.int64))):
        G, D = pair(build(name, **SMALL[name]), (1, 8, 8), condition)
        for net, value in ((G, torch.zeros(2, LATENT)), (D, torch.zeros(2, 1, 8, 8))):
            with pytest.raises(ValueError, match="conditional"):
                net(value, labels)
            refused += 1
    assert refused == 4


NORM_FREE = {"generator_norm": "none", "discriminator_norm": "none"}
PACKS = {
    "mlp": ("mlp", NORM_FREE),
    "mlp-layer": ("mlp", NORM_FREE | {"discriminator_norm": "layer"}),
    "mlp-batch": ("mlp", {"generator_norm": "batch", "discriminator_norm": "batch"}),
    "maxout": ("maxout", {"dropout": 0.0, "input_dropout": 0.0, "generator_dropout": 0.0}),
    "dcgan": ("dcgan", NORM_FREE),
    "dcgan-layer": ("dcgan", NORM_FREE | {"discriminator_norm": "layer"}),
    "dcgan-batch": ("dcgan", {}),
    "mlp-spectral": ("mlp", NORM_FREE | {"discriminator_norm": "spectral"}),
    "dcgan-spectral": ("dcgan", NORM_FREE | {"discriminator_norm": "spectral"}),
    "mlp-projection": ("mlp", NORM_FREE | {"discriminator_condition": "projection"}),
    "dcgan-projection": (
        "dcgan",
        NORM_FREE | {"discriminator_norm": "spectral", "discriminator_condition": "projection"},
    ),
    "pacgan": ("pacgan", {}),
}


@pytest.mark.parametrize("pack", sorted(PACKS))
def test_stacked_replicas_under_vmap_equal_each_alone(pack):
    """In train mode, with the condition, and with BatchNorm's buffers stacked and updated."""
    torch.manual_seed(0)
    name, settings = PACKS[pack]
    architecture = build(name, **SMALL[name] | settings)
    ran = 0
    for condition in CONDITIONS:
        pairs = [pair(architecture, (3, 16, 16), condition) for _ in range(3)]
        labels = labels_for(condition, 12)
        labels = None if labels is None else labels.unflatten(0, (3, 4))
        for nets, shape in zip(zip(*pairs, strict=True), ((LATENT,), (3, 16, 16)), strict=True):
            nets = [net.double() for net in nets]
            value = torch.randn(3, 4, *shape, dtype=torch.float64)
            parameters, buffers = stack_module_state(nets)

            def call(p, b, v, y, net=nets[0]):
                return functional_call(net, (p, b), (v, y))

            together = vmap(call, in_dims=(0, 0, 0, None if labels is None else 0))(
                parameters, buffers, value, labels
            )
            for i, net in enumerate(nets):
                alone = net(value[i], None if labels is None else labels[i])
                torch.testing.assert_close(together[i], alone, rtol=1e-9, atol=1e-12)
                for key, buffer in net.named_buffers():
                    torch.testing.assert_close(buffers[key][i], buffer)
                ran += 1
    assert ran == 3 * 2 * 3


BATCHNORM = {"mlp": (1e-5, 0.1), "dcgan": (1e-5, 0.1), "pacgan": (1e-4, 0.05)}
"""eps and momentum, in PyTorch's sense: what a batch counts in the running statistics."""


@pytest.mark.parametrize("name", BATCHNORM)
def test_eps_and_momentum_of_batchnorm_are_not_mixed_up(name):
    """Popular code says BatchNorm2d(maps, 0.8) and means the momentum; it is eps."""
    norms = {"generator_norm": "batch", "discriminator_norm": "batch"}
    architecture = build(name, **SMALL[name] | ({} if name == "pacgan" else norms))
    nets = pair(architecture, (3, 16, 16))
    found = [m for net in nets for m in net.modules() if isinstance(m, _BatchNorm)]
    assert len(found) >= 2
    assert {(m.eps, m.momentum) for m in found} == {BATCHNORM[name]}


def test_dropout_differs_between_replicas_under_vmap():
    torch.manual_seed(0)
    ran = 0
    for name, settings in (("mlp", {"dropout": 0.5}), ("maxout", {})):
        _, D = pair(build(name, **SMALL[name] | settings), (17,))
        parameters, buffers = stack_module_state([D, D])
        out = vmap(
            lambda p, b, x, net=D: functional_call(net, (p, b), (x,)),
            in_dims=(0, 0, None),
            randomness="different",
        )(parameters, buffers, torch.randn(8, 17))
        assert not torch.equal(out[0], out[1])
        D.eval()
        assert torch.equal(D(torch.ones(8, 17)), D(torch.ones(8, 17)))
        ran += 1
    assert ran == 2


WRITE = {"dcgan-batch", "mlp-batch", "mlp-spectral", "dcgan-spectral", "dcgan-projection"}
"""Discriminators that write to buffers, of which a penalty is given copies."""


@pytest.mark.parametrize("pack", sorted(set(PACKS) - WRITE))
def test_gradient_penalty_reaches_the_discriminators_parameters(pack):
    """d/dparameters of |dD/dx|^2 through torch.func agrees with a central difference."""
    torch.manual_seed(0)
    name, settings = PACKS[pack]
    _, D = pair(build(name, **SMALL[name] | settings), (3, 16, 16))
    D = D.double()
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    parameters = {key: p.detach() for key, p in D.named_parameters()}

    def penalty(p):
        slope = grad(lambda v: functional_call(D, p, (v,)).sum())(x)
        return slope.square().flatten(1).sum(1).mean()

    step = {key: torch.randn_like(p) for key, p in parameters.items()}
    slope = sum((g * step[key]).sum() for key, g in grad(penalty)(parameters).items())
    h = 1e-6
    ahead, behind = (
        penalty({key: p + sign * h * step[key] for key, p in parameters.items()})
        for sign in (1, -1)
    )
    assert slope.abs() > 0
    torch.testing.assert_close(slope, (ahead - behind) / (2 * h), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_the_spec_may_offer_a_condition_that_the_model_does_not_use(name):
    spec = DataSpec((1, 8, 8), Condition("class", 5))
    architecture = build(name, **SMALL[name])
    G = architecture.generator(latent_dim=LATENT, spec=spec, condition=None)
    D = architecture.discriminator(spec=spec, condition=None)
    assert D(G(torch.randn(2, LATENT))).shape == (2,)
