"""The networks of both baselines, as a person writes them for one data set."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class View(nn.Module):
    """[N, ...] -> [N, *shape]."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), *self.shape)


def mlp(size: int, *, width: int, latent: int, depth: int = 3) -> tuple[nn.Module, nn.Module]:
    """G and D for grey images [1, size, size], with `depth` hidden layers each."""
    generator: list[nn.Module] = []
    discriminator: list[nn.Module] = [nn.Flatten()]
    g_in, d_in = latent, size * size
    for _ in range(depth):
        generator += [nn.Linear(g_in, width), nn.ReLU()]
        discriminator += [nn.Linear(d_in, width), nn.LeakyReLU(0.2)]
        g_in = d_in = width
    generator += [nn.Linear(width, size * size), nn.Tanh(), View(1, size, size)]
    discriminator += [nn.Linear(width, 1), nn.Flatten(0)]
    return nn.Sequential(*generator), nn.Sequential(*discriminator)


def dcgan(size: int, *, width: int, latent: int, channels: int = 1) -> tuple[nn.Module, nn.Module]:
    """G and D after pytorch/examples/dcgan, for a side that halves evenly down to 4 to 7."""
    levels = 1
    while size // 2**levels >= 8:
        levels += 1
    side = size // 2**levels
    maps = [width * 2**level for level in range(levels)]
    discriminator: list[nn.Module] = [
        nn.Conv2d(channels, maps[0], 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2),
    ]
    for few, many in pairwise(maps):
        discriminator += [
            nn.Conv2d(few, many, 4, 2, 1, bias=False),
            nn.BatchNorm2d(many),
            nn.LeakyReLU(0.2),
        ]
    discriminator += [nn.Conv2d(maps[-1], 1, side, bias=False), nn.Flatten(0)]
    generator: list[nn.Module] = [
        View(latent, 1, 1),
        nn.ConvTranspose2d(latent, maps[-1], side, bias=False),
        nn.BatchNorm2d(maps[-1]),
        nn.ReLU(),
    ]
    maps.reverse()
    for many, few in pairwise(maps):
        generator += [
            nn.ConvTranspose2d(many, few, 4, 2, 1, bias=False),
            nn.BatchNorm2d(few),
            nn.ReLU(),
        ]
    generator += [nn.ConvTranspose2d(maps[-1], channels, 4, 2, 1, bias=False), nn.Tanh()]
    G, D = nn.Sequential(*generator), nn.Sequential(*discriminator)
    G.apply(_normal)
    D.apply(_normal)
    return G, D


@torch.no_grad()
def _normal(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
