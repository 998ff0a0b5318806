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
        rng: torch.Generator,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> Tensor:
        """The noise of `steps` evaluations on batches of `batch` samples: [steps, ...]."""

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
        rng: torch.Generator,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> Tensor:
        """u [steps, batch], one a sample."""
        return torch.rand(steps, batch, generator=rng, device=device, dtype=dtype)

    def __call__(self, D: Discriminator, real: Tensor, fake: Tensor, noise: Tensor) -> Tensor:
        u = noise.reshape(-1, *[1] * (real.dim() - 1))
        slopes = input_gradient(D, torch.lerp(real, fake, u)).flatten(1)
        norms = torch.linalg.vector_norm(slopes, dim=1)
        penalty: Tensor = self.weight * ((norms - 1.0) ** 2).mean()
        return penalty
