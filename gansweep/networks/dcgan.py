"""The deep convolutional networks of Radford et al. 2015, for square images of 8 to 128 pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, final

from torch import Tensor, nn

from gansweep.dataspec import Condition, DataSpec
from gansweep.networks.base import Architecture, require_image
from gansweep.networks.condition import ConditionJoin
from gansweep.networks.convolution import Conv2d, ConvTranspose2d
from gansweep.networks.projection import Projection
from gansweep.networks.spectral import SpectralConv2d, SpectralLinear
from gansweep.settings import setting

SIDES = (8, 128)
"""Smallest and largest side of an image, pixels."""

_LEAK = 0.2
_WEIGHT_STD = 0.02

_NORMS: dict[str, Callable[[int], list[nn.Module]]] = {
    "none": lambda channels: [],
    "batch": lambda channels: [nn.BatchNorm2d(channels)],
    "layer": lambda channels: [nn.GroupNorm(1, channels)],
    "spectral": lambda channels: [],
}


@dataclass(frozen=True)
class DCGANSettings:
    width: int = setting(
        64,
        "feature maps next to the image, in both networks (ngf, ndf); doubled at each halving",
        ge=1,
    )
    generator_norm: Literal["none", "batch"] = setting(
        "batch", "normalisation of every layer of the generator but its output"
    )
    discriminator_norm: Literal["none", "batch", "layer", "spectral"] = setting(
        "batch",
        "normalisation of the discriminator's layers but its first and its logit "
        "(below 16 pixels no layer is left); spectral: of all its weights",
    )
    discriminator_condition: Literal["join", "projection"] = setting(
        "join", "how a condition enters the discriminator: joined with x, or projected on features"
    )


@final
class DCGAN(Architecture):
    """DCGAN (Radford et al. 2015) as in pytorch/examples dcgan, after soumith/dcgan.torch main.lua.

    Strided 4x4 convolutions in D and transposed ones in G, no pooling, no fully connected layer;
    norm in both except at G's output and D's input; ReLU and tanh in G, LeakyReLU .2 in D.
    Convolutions have no bias and weights N(0, .02); BatchNorm's weights are N(1, .02), its biases
    0. At 64x64 these are exactly the published networks (width 64, z 100, colour: 3,576,704 and
    2,765,568 parameters; D's sigmoid belongs to the loss).

    Any other side follows one rule, `side_chain`: halve, rounding down, until the side is 4 to 7.
    G starts with a transposed convolution of that whole side and goes the chain backwards,
    doubling, with one pixel more (output padding) where the side is odd; D goes it forwards and
    ends with a convolution of the whole remaining side. 64 is 64-32-16-8-4, 28 is 28-14-7. The
    maps double from `width` at each halving, so at 128 there are 1024 where there were 512.

    norm "layer" is GroupNorm with one group: statistics over C, H, W of one sample, one weight
    (initially 1) and bias (0) per channel; it stands in D in BatchNorm's place under a gradient
    penalty (Gulrajani et al. 2017, sec. 4). "spectral" divides every weight of D by its spectral
    norm; its convolutions then have a bias, since no norm stands for one (Miyato et al. 2018).

    A condition is joined with z, and with x as constant feature maps at D's input: one map per
    class or per number of the vector. Or it is projected on D's last feature maps. An encoder has
    D's layers with G's norm, and as many outputs as z.

    Raises ConfigError for vectors, for oblong images and for sides outside 8 to 128.
    """

    Settings: ClassVar[type[Any]] = DCGANSettings
    settings: DCGANSettings

    def generator(
        self, *, latent_dim: int, spec: DataSpec, condition: Condition | None
    ) -> nn.Module:
        require_image(spec, name="dcgan", sides=SIDES)
        return DCGANGenerator(latent_dim, spec, condition, self.settings)

    def discriminator(self, *, spec: DataSpec, condition: Condition | None) -> nn.Module:
        require_image(spec, name="dcgan", sides=SIDES)
        return DCGANDiscriminator(spec, condition, self.settings)

    def encoder(self, *, latent_dim: int, spec: DataSpec) -> nn.Module:
        require_image(spec, name="dcgan", sides=SIDES)
        channels, side, _ = spec.shape
        widths = _widths(side, self.settings.width)
        layers = _halvings(channels, widths, self.settings.generator_norm)
        last = Conv2d(widths[-1], latent_dim, side_chain(side)[-1], bias=False)
        return nn.Sequential(*layers, last, nn.Flatten()).apply(_initialise)


def side_chain(side: int) -> list[int]:
    """`side` and its halves, rounded down, to the first below 8: [28, 14, 7], [33, 16, 8, 4]."""
    chain = [side]
    while chain[-1] >= 8:
        chain.append(chain[-1] // 2)
    return chain


@final
class DCGANGenerator(nn.Module):
    """forward(z [N, latent_dim], labels) -> [N, C, side, side] in [-1, 1]."""

    def __init__(
        self, latent_dim: int, spec: DataSpec, condition: Condition | None, settings: DCGANSettings
    ) -> None:
        super().__init__()
        image_channels, side, _ = spec.shape
        norm = _NORMS[settings.generator_norm]
        sides = side_chain(side)[::-1]
        widths = [settings.width * 2**i for i in reversed(range(len(sides) - 1))]

        self.join = ConditionJoin(condition)
        inputs = latent_dim + self.join.width
        layers: list[nn.Module] = [
            ConvTranspose2d(inputs, widths[0], sides[0], bias=False),
            *norm(widths[0]),
            nn.ReLU(),
        ]
        for (before, after), larger in zip(pairwise(widths), sides[1:-1], strict=True):
            layers += [_doubling(before, after, larger), *norm(after), nn.ReLU()]
        layers += [_doubling(widths[-1], image_channels, side), nn.Tanh()]
        self.body = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        x: Tensor = self.body(self.join(z[:, :, None, None], labels))
        return x


@final
class DCGANDiscriminator(nn.Module):
    """forward(x [N, C, side, side], labels) -> logits [N]."""

    def __init__(
        self, spec: DataSpec, condition: Condition | None, settings: DCGANSettings
    ) -> None:
        super().__init__()
        image_channels, side, _ = spec.shape
        spectral = settings.discriminator_norm == "spectral"
        widths = _widths(side, settings.width)
        projected = condition if settings.discriminator_condition == "projection" else None
        self.join = ConditionJoin(None if projected else condition)
        linear = SpectralLinear if spectral else nn.Linear
        self.projection = Projection(projected, widths[-1], linear) if projected else None
        layers = _halvings(image_channels + self.join.width, widths, settings.discriminator_norm)
        conv = SpectralConv2d if spectral else Conv2d
        layers += [conv(widths[-1], 1, side_chain(side)[-1], bias=spectral)]
        self.body = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.projection is not None:
            logits: Tensor = self.projection(self.body, x, labels)
            return logits
        logits = self.body(self.join(x, labels))
        return logits.flatten(1).squeeze(1)


def _widths(side: int, first: int) -> list[int]:
    """Feature maps at each halving of `side_chain`."""
    return [first * 2**i for i in range(len(side_chain(side)) - 1)]


def _halvings(channels: int, widths: list[int], norm: str) -> list[nn.Module]:
    """[N, channels, side, side] -> [N, widths[-1], side / 2^n, side / 2^n], n widths."""
    spectral = norm == "spectral"
    conv = SpectralConv2d if spectral else Conv2d

    def halving(before: int, after: int) -> Conv2d:
        return conv(before, after, 4, stride=2, padding=1, bias=spectral)

    layers: list[nn.Module] = [halving(channels, widths[0]), nn.LeakyReLU(_LEAK)]
    for before, after in pairwise(widths):
        layers += [halving(before, after), *_NORMS[norm](after), nn.LeakyReLU(_LEAK)]
    return layers


def _doubling(before: int, after: int, side: int) -> ConvTranspose2d:
    """[N, before, side // 2, side // 2] -> [N, after, side, side]."""
    return ConvTranspose2d(
        before, after, 4, stride=2, padding=1, output_padding=side % 2, bias=False
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, _WEIGHT_STD)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, _WEIGHT_STD)
        nn.init.zeros_(module.bias)
