"""Missing pixels filled in by an encoder and its generator."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from gansweep.callbacks.encoder_picture import EncoderPicture
from gansweep.networks.encoding import EncodingGenerator

ROUNDS = 10
"""Times that the missing pixels are encoded and decoded."""


@final
class Inpainted(EncoderPicture):
    """x, below it x with its middle missing (grey), and below that with the middle filled in."""

    series: ClassVar[str] = "inpainted"

    def strips(self, G: EncodingGenerator, x: Tensor, mean: Tensor) -> tuple[Tensor, ...]:
        missing = middle(x)
        return x, torch.where(missing, 0.0, x), inpaint(G, x, missing, mean)


def middle(x: Tensor) -> Tensor:
    """bool [H, W] of images [N, C, H, W]: the block in the middle, half as high and as wide."""
    height, width = x.shape[-2:]
    mask = torch.zeros(height, width, dtype=torch.bool, device=x.device)
    mask[height // 4 : height // 4 + height // 2, width // 4 : width // 4 + width // 2] = True
    return mask


def inpaint(G: EncodingGenerator, x: Tensor, missing: Tensor, mean: Tensor) -> Tensor:
    """x [N, C, H, W] with the pixels `missing` [H, W] filled in; the others stay as they are.

    First they are those of `mean` [C, H, W], the mean of the training images. Then, `ROUNDS` times:
    the image as it stands is encoded, the code decoded, and the decoded pixels put in their place,
    x_missing <- G(E(x))_missing. What lay there in x itself has no part in it.
    """
    filled = torch.where(missing, mean, x)
    for _ in range(ROUNDS):
        filled = torch.where(missing, G.reconstruct(filled), x)
    return filled
