"""An encoder beside a generator, and a discriminator of pairs of samples and latents.

A pair (x, z) is one vector, x flattened and z behind it: objectives, penalties and packing see it
as a sample like any other.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from gansweep.networks.condition import refuse_labels


@final
class EncodingGenerator(nn.Module):
    """G with an encoder E [N, *shape] -> [N, latent_dim], trained as one player.

    forward(z, labels) -> G's samples [N, *shape], as of any generator;
    forward(z, None, real) -> the pairs [x, E(x)] of the real samples x, and [G(z), z].
    """

    def __init__(self, generator: nn.Module, encoder: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.encoder = encoder

    def forward(
        self, z: Tensor, labels: Tensor | None = None, real: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        refuse_labels(labels)
        x: Tensor = self.generator(z)
        if real is None:
            return x
        return torch.cat((real.flatten(1), self.encoder(real)), 1), torch.cat((x.flatten(1), z), 1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """G(E(x)), as x."""
        decoded: Tensor = self.generator(self.encoder(x))
        return decoded


@final
class PairDiscriminator(nn.Module):
    """D(x, z) by a conditional discriminator whose condition is the vector z.

    forward(pairs [N, pac (prod(shape) + latent_dim)]) -> logits [N]; `pac` pairs lie end to end.
    Raises ValueError on labels.
    """

    def __init__(
        self, discriminator: nn.Module, *, shape: tuple[int, ...], latent_dim: int, pac: int
    ) -> None:
        """`shape` is a sample's; `discriminator` sees `pac` of them, channel by channel."""
        super().__init__()
        self.discriminator = discriminator
        self.separable = bool(getattr(discriminator, "separable", False))
        self._seen = (pac * shape[0], *shape[1:])
        self._pac = pac
        self._parts = [math.prod(shape), latent_dim]

    def forward(self, pairs: Tensor, labels: Tensor | None = None) -> Tensor:
        refuse_labels(labels)
        count = pairs.shape[0]
        x, z = torch.split(pairs.reshape(count, self._pac, -1), self._parts, 2)
        logits: Tensor = self.discriminator(x.reshape(count, *self._seen), z.flatten(1))
        return logits
