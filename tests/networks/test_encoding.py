"""An encoder of each architecture, and pairs as D sees them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gansweep.dataspec import Condition, DataSpec
from gansweep.errors import ConfigError
from gansweep.networks.base import Architecture, require_image
from gansweep.networks.catalogue import ARCHITECTURES
from gansweep.networks.encoding import EncodingGenerator, PairDiscriminator

from .cases import IMAGES, LATENT, SMALL, VECTORS, build


@pytest.mark.parametrize("name", ARCHITECTURES.names)
def test_an_encoder_gives_latents(name: str) -> None:
    """Each sample its own, in eval mode; in both directions the same data."""
    torch.manual_seed(0)
    ran = 0
    for shape in IMAGES + ([] if name == "dcgan" else VECTORS):
        E = build(name, **SMALL[name]).encoder(latent_dim=LATENT, spec=DataSpec(shape)).eval()
        x = torch.rand(3, *shape)
        z = E(x)
        assert z.shape == (3, LATENT)
        torch.testing.assert_close(E(x[1:2]), z[1:2], rtol=1e-4, atol=1e-6)
        assert not torch.allclose(z[0], z[1], rtol=1e-3)
        assert z.dtype == torch.float32
        ran += 1
    assert ran == (4 if name == "dcgan" else 6)


def test_one_latent_dimension() -> None:
    ran = 0
    for name in ARCHITECTURES.names:
        E = build(name, **SMALL[name]).encoder(latent_dim=1, spec=DataSpec((1, 8, 8)))
        assert E(torch.rand(3, 1, 8, 8)).shape == (3, 1)
        ran += 1
    assert ran == 5


def test_the_norm_of_an_encoder_is_the_generators() -> None:
    spec = DataSpec((1, 28, 28))
    for name, norm in (("mlp", nn.BatchNorm1d), ("dcgan", nn.BatchNorm2d)):
        counts = [
            sum(
                isinstance(part, norm)
                for part in build(
                    name, **SMALL[name], generator_norm=own, discriminator_norm="none"
                )
                .encoder(latent_dim=3, spec=spec)
                .modules()
            )
            for own in ("none", "batch")
        ]
        assert counts == [0, {"mlp": 2, "dcgan": 1}[name]]


class OfImages(Architecture):
    """A user's own, without an encoder."""

    def generator(self, *, latent_dim: int, spec: DataSpec, condition: object) -> nn.Module:
        require_image(spec, name="mine", sides=(8, 64))
        return nn.Linear(latent_dim, 64)

    def discriminator(self, *, spec: DataSpec, condition: object) -> nn.Module:
        return nn.Linear(64, 1)


def test_an_architecture_of_images_alone_says_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match=r"network\.name: OfImages has no encoder.*`encoder`"):
        OfImages(None).encoder(latent_dim=3, spec=DataSpec((1, 8, 8)))


class Halves(nn.Module):
    """Notes what it is given; logits are 0."""

    separable = True

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        self.seen = x, labels
        return torch.zeros(len(x))


def test_pairs() -> None:
    """[x, E(x)] and [G(z), z], x flattened, and back again as D sees them."""
    G = EncodingGenerator(
        nn.Sequential(nn.Linear(2, 12), nn.Unflatten(1, (3, 2, 2))),
        nn.Sequential(nn.Flatten(), nn.Linear(12, 2)),
    )
    z, x = torch.randn(5, 2), torch.randn(5, 3, 2, 2)
    real, fake = G(z, None, x)
    assert torch.equal(real, torch.cat([x.flatten(1), G.encoder(x)], 1))
    assert torch.equal(fake, torch.cat([G(z).flatten(1), z], 1))
    assert G(z).shape == x.shape
    assert torch.equal(G.reconstruct(x), G(G.encoder(x)))
    inner = Halves()
    D = PairDiscriminator(inner, shape=(3, 2, 2), latent_dim=2, pac=1)
    assert D.separable
    assert D(real).shape == (5,)
    assert torch.equal(inner.seen[0], x)
    assert torch.equal(inner.seen[1], G.encoder(x))
    for network in (G, D):
        with pytest.raises(ValueError, match="unconditional"):
            network(real[:, :2] if network is G else real, torch.zeros(5))


def test_pairs_in_packs() -> None:
    """Two pairs end to end: samples channel by channel, latents behind each other."""
    x, z = torch.randn(4, 3, 2, 2), torch.randn(4, 2)
    inner = Halves()
    D = PairDiscriminator(inner, shape=(3, 2, 2), latent_dim=2, pac=2)
    pairs = torch.cat([x.flatten(1), z], 1)
    assert D(pairs.reshape(2, -1)).shape == (2,)
    assert torch.equal(inner.seen[0][0], torch.cat([x[0], x[1]]))
    assert torch.equal(inner.seen[1][1], torch.cat([z[2], z[3]]))
    with pytest.raises(RuntimeError):
        D(pairs[:, 1:].reshape(2, -1))


def test_a_pair_discriminator_knows_both_parts() -> None:
    torch.manual_seed(0)
    ran = 0
    for name in ARCHITECTURES.names:
        inner = build(name, **SMALL[name]).discriminator(
            spec=DataSpec((1, 8, 8)), condition=Condition("vector", LATENT)
        )
        D = PairDiscriminator(inner, shape=(1, 8, 8), latent_dim=LATENT, pac=1).eval()
        pairs = torch.randn(3, 64 + LATENT, requires_grad=True)
        (slope,) = torch.autograd.grad(D(pairs).sum(), pairs)
        assert slope[:, :64].abs().sum(1).min() > 0
        assert slope[:, 64:].abs().sum(1).min() > 0
        ran += 1
    assert ran == 5
