"""Penalties on the discriminator: a term added to its loss, pure in everything but D's weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

Discriminator = Callable[[Tensor], Tensor]
"""D with its labels bound: x [N, ...] -> logits [N]."""


class Penalty(ABC):
    """A term of D's loss. Subclasses are frozen dataclasses."""

    @abstractmethod
    def draw(
        self,
        steps: int,
        batch: int,
        *,
        shape: tuple[int, ...],
        rng: torch.Generator,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> Tensor:
        """The noise of `steps` evaluations on batches of `batch` samples of `shape`: [steps, ...].

        Of a penalty without noise [steps, 0].
        """

    @abstractmethod
    def __call__(self, D: Discriminator, real: Tensor, fake: Tensor, noise: Tensor) -> Tensor:
        """The weighted penalty, a scalar, with what `draw` gave for one step as `noise`.

        `D` must not write to tensors outside itself.
        """


def input_gradient(D: Discriminator, x: Tensor) -> Tensor:
    """dD(x_i)/dx_i for each sample, [N, ...] as x, itself differentiable in D's weights.

    By `torch.func`, so that it holds under `vmap`; D must not mix the samples of a batch.
    """
    slopes: Tensor = torch.func.grad(lambda points: D(points).sum())(x)
    return slopes


def _from_unit_norm(D: Discriminator, x: Tensor) -> Tensor:
    """E[(||dD(x)/dx||_2 - 1)^2], the norm over all dimensions of a sample: a scalar."""
    norms = torch.linalg.vector_norm(input_gradient(D, x).flatten(1), dim=1)
    squares: Tensor = (norms - 1.0) ** 2
    return squares.mean()


@final
@dataclass(frozen=True)
class GradientPenalty(Penalty):
    """WGAN-GP's penalty on straight lines between real and generated samples.

    weight * E[(||dD(x^)/dx^||_2 - 1)^2], x^ = real + u (fake - real), one u ~ U(0, 1) a sample,
    the norm over all dimensions of a sample (Gulrajani et al. 2017, eq. 3 and Algorithm 1).
    """

    weight: float = 10.0

    def draw(
        self,
        steps: int,
        batch: int,
        *,
        shape: tuple[int, ...],
        rng: torch.Generator,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> Tensor:
        """u [steps, batch], one a sample."""
        return torch.rand(steps, batch, generator=rng, device=device, dtype=dtype)

    def __call__(self, D: Discriminator, real: Tensor, fake: Tensor, noise: Tensor) -> Tensor:
        u = noise.reshape(-1, *[1] * (real.dim() - 1))
        return self.weight * _from_unit_norm(D, torch.lerp(real, fake, u))


@final
@dataclass(frozen=True)
class LocalGradientPenalty(Penalty):
    """DRAGAN's penalty in the neighbourhood of the data alone (Kodali et al. 2017).

    weight * E[(||dD(x^)/dx^||_2 - 1)^2], x^ = x + u s std(x) v, with v ~ U(0, 1) for each number
    of a sample, u ~ U(0, 1) one a sample, std over the whole batch and s the `radius`: the
    authors' code (kodalinaveen3/DRAGAN), lambda 10 and s 0.5. The paper's delta is normal.
    """

    weight: float = 10.0
    radius: float = 0.5

    def draw(
        self,
        steps: int,
        batch: int,
        *,
        shape: tuple[int, ...],
        rng: torch.Generator,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> Tensor:
        """u v [steps, batch, *shape]."""
        size = (steps, batch, *shape)
        v = torch.rand(size, generator=rng, device=device, dtype=dtype)
        each = (steps, batch, *(1 for _ in shape))
        return v.mul_(torch.rand(each, generator=rng, device=device, dtype=dtype))

    def __call__(self, D: Discriminator, real: Tensor, fake: Tensor, noise: Tensor) -> Tensor:
        near = real + self.radius * real.std(correction=0) * noise
        return self.weight * _from_unit_norm(D, near)


@final
@dataclass(frozen=True)
class ZeroCentred(Penalty):
    """R1 and R2: D's slope is pulled to 0 on real and on generated samples (Mescheder et al. 2018).

    R1 = real / 2 E[||dD(x)/dx||^2], R2 = fake / 2 E[||dD(x')/dx'||^2] at x' = G(z): section 4.1,
    where both weights are called gamma. None leaves a term out.
    """

    real: float | None = 10.0
    fake: float | None = None

    def draw(
        self,
        steps: int,
        batch: int,
        *,
        shape: tuple[int, ...],
        rng: torch.Generator,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> Tensor:
        """Nothing: [steps, 0]."""
        return torch.empty(steps, 0, device=device, dtype=dtype)

    def __call__(self, D: Discriminator, real: Tensor, fake: Tensor, noise: Tensor) -> Tensor:
        terms = [
            weight / 2 * input_gradient(D, x).square().flatten(1).sum(1).mean()
            for weight, x in ((self.real, real), (self.fake, fake))
            if weight is not None
        ]
        return torch.stack(terms).sum()
