"""Constraints on the discriminator: a projection of its weights around each D step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

_NORMALISATION = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
)


class Constraint(ABC):
    """Keeps D's weights in a set. Subclasses are frozen dataclasses."""

    timing: Literal["before", "after"]
    """Whether `project` runs before D's forward pass or after its optimizer step."""
    elementwise: ClassVar[bool] = False
    """Whether `project` treats each number by itself, whatever the shape of its tensor."""

    @abstractmethod
    def select(self, discriminator: nn.Module) -> list[Tensor]:
        """The parameters that are constrained."""

    @abstractmethod
    def project(self, parameters: list[Tensor]) -> None:
        """Move the parameters, in place, to the nearest point of the set."""

    def pinned(self, parameters: list[Tensor]) -> Tensor | None:
        """Share of the numbers that the set's bounds hold, a scalar; None where it has none."""
        return None


@final
@dataclass(frozen=True)
class WeightClip(Constraint):
    """Every weight clamped to [-bound, bound] (Arjovsky et al. 2017, Algorithm 1, line 7).

    timing: "after" D's optimizer step is Algorithm 1; "before" D's forward pass is the authors'
    code, where G sees a critic whose last step was not clamped. normalisation: whether the
    weights of normalisation layers are clamped too, as the authors' code does (their running
    statistics are buffers and stay).
    """

    elementwise: ClassVar[bool] = True
    bound: float
    timing: Literal["before", "after"] = "before"
    normalisation: bool = True

    def select(self, discriminator: nn.Module) -> list[Tensor]:
        return [
            parameter
            for module in discriminator.modules()
            if self.normalisation or not isinstance(module, _NORMALISATION)
            for parameter in module.parameters(recurse=False)
        ]

    def project(self, parameters: list[Tensor]) -> None:
        with torch.no_grad():
            if isinstance(self.bound, Tensor):  # under vmap, each replica has its own
                for parameter in parameters:
                    parameter.clamp_min_(-self.bound).clamp_max_(self.bound)
            else:
                torch._foreach_clamp_min_(parameters, -self.bound)
                torch._foreach_clamp_max_(parameters, self.bound)

    def pinned(self, parameters: list[Tensor]) -> Tensor:
        """Share of the weights at +-bound: within 1 % of it, or beyond until the next clamp."""
        flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
        return (flat.abs() >= 0.99 * self.bound).float().mean()
