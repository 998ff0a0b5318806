"""Toys: distributions in one and two dimensions whose truth is known in closed form."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from gansweep.data.base import Dataset, Samples
from gansweep.data.settings import DataSettings
from gansweep.dataspec import Modes
from gansweep.settings import setting


@dataclass(frozen=True)
class ToySettings(DataSettings):
    """What every toy has."""

    n: int = setting(100_000, "number of points", ge=1, le=100_000_000)
    seed: int = setting(0, "seed of the points; not the seed of a trial", ge=0, lt=2**63)

    def generator(self) -> torch.Generator:
        """A generator of its own: the points depend on `seed` only."""
        return torch.Generator().manual_seed(self.seed)


@final
class Gaussian1D(Dataset):
    """One Gaussian on the line; x: float32 [n, 1], no labels.

    The illustration of Goodfellow et al. 2014, figure 1; the numbers are ours, chosen so that an
    untrained generator (mean 0) starts off the target.
    """

    @dataclass(frozen=True)
    class Settings(ToySettings):
        mean: float = setting(4.0, "mean", ge=-1e6, le=1e6)
        std: float = setting(1.25, "standard deviation", gt=0, le=1e6)

    def load(self) -> Samples:
        """n points drawn with `seed`."""
        s: Gaussian1D.Settings = self.settings
        return Samples(torch.randn(s.n, 1, generator=s.generator()) * s.std + s.mean)


class GaussianMixture(Dataset):
    """Equal, round Gaussians; the label of a point is its mode.

    x: float32 [n, D]; labels: int64 [n], the row of `centres` that the point was drawn around.
    """

    @property
    @abstractmethod
    def centres(self) -> Tensor:
        """The modes' centres, float32 [K, D]."""

    @property
    def std(self) -> float:
        """Standard deviation of a mode in each dimension."""
        return float(self.settings.std)

    @final
    @property
    def modes(self) -> Modes:
        """`centres` and `std`."""
        return Modes(tuple(tuple(row) for row in self.centres.tolist()), self.std)

    @final
    def load(self) -> Samples:
        """n points drawn with `seed`; each mode equally likely."""
        s: ToySettings = self.settings
        generator, centres = s.generator(), self.centres
        labels = torch.randint(len(centres), (s.n,), generator=generator)
        noise = torch.randn(s.n, centres.shape[1], generator=generator)
        x = noise.mul_(self.std).add_(centres[labels])
        return Samples(x, labels, tuple(f"mode {i}" for i in range(len(centres))))


@final
class Ring8(GaussianMixture):
    """8 Gaussians on a circle, the first at angle 0, then anticlockwise.

    Defaults as in PacGAN (Lin et al. 2018): radius 1, std .01, 100k points.
    """

    @dataclass(frozen=True)
    class Settings(ToySettings):
        radius: float = setting(1.0, "radius of the circle", gt=0, le=1e6)
        std: float = setting(0.01, "standard deviation of a mode", gt=0, le=1e6)

    @property
    def centres(self) -> Tensor:
        """The modes' centres, float32 [8, 2]."""
        # Not linspace(0, 2 pi, 8): its last point is its first, which leaves 7 modes.
        angle = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
        radius: float = self.settings.radius
        return (torch.stack([angle.cos(), angle.sin()], 1) * radius).float()


@final
class Grid25(GaussianMixture):
    """25 Gaussians on the square grid {-4, -2, 0, 2, 4}^2; mode 5 i + j is at (x_i, y_j).

    Defaults as in PacGAN (Lin et al. 2018): spacing 2, std .05, 100k points.
    """

    @dataclass(frozen=True)
    class Settings(ToySettings):
        spacing: float = setting(2.0, "distance of neighbouring modes", gt=0, le=1e6)
        std: float = setting(0.05, "standard deviation of a mode", gt=0, le=1e6)

    @property
    def centres(self) -> Tensor:
        """The modes' centres, float32 [25, 2]."""
        spacing: float = self.settings.spacing
        ticks = torch.arange(-2.0, 3.0) * spacing
        return torch.cartesian_prod(ticks, ticks)


@final
class SwissRoll(Dataset):
    """A spiral in the plane; x: float32 [n, 2], no labels.

    (t cos t, t sin t) with t uniform in [1.5 pi, 4.5 pi], plus Gaussian noise in both
    coordinates, all divided by 7.5: scikit-learn's `make_swiss_roll(noise=.25)`, dimensions x and
    z, as in the toy of WGAN-GP (Gulrajani et al. 2017, igul222/improved_wgan_training).
    """

    @dataclass(frozen=True)
    class Settings(ToySettings):
        noise: float = setting(0.25, "standard deviation of the noise before scaling", ge=0, le=1e6)

    def load(self) -> Samples:
        """n points drawn with `seed`."""
        s: SwissRoll.Settings = self.settings
        generator = s.generator()
        t = 1.5 * math.pi * (1 + 2 * torch.rand(s.n, generator=generator))
        x = torch.stack([t * t.cos(), t * t.sin()], 1)
        x += s.noise * torch.randn(s.n, 2, generator=generator)
        return Samples(x / 7.5)
