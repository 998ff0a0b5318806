"""Optimizers as update rules on rows: one tensor holds a network of every replica of a pack.

torch's own optimizers take one learning rate for all; here each row has its own, as a column.
Each rule takes the step of the torch.optim class of its name, on the same state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

Columns = Mapping[str, Tensor]
"""Hyperparameters by name, float64 [K, 1]."""


@torch.library.custom_op("gansweep::once", mutates_args=())
def _once(x: Tensor) -> Tensor:
    return x.clone()


@_once.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def once(column: Tensor) -> Tensor:
    """`column` [K, 1] as it is; a compiled step computes it before the loop that takes it.

    Else it would be computed anew for each number of a row, powers and all (`modules/once.py`).
    """
    return _once(column) if torch.compiler.is_compiling() else column


class UpdateRule(ABC):
    """One step of an optimizer on K rows at once. Subclasses are frozen dataclasses.

    Rules that compare equal may share a stack: their hyperparameters alone differ, and none is
    without momentum or weight decay where another has it, which saves those their work.
    """

    counts: ClassVar[bool] = True
    """Whether torch.optim keeps a count of steps in the state of each parameter."""

    @property
    @abstractmethod
    def state(self) -> tuple[str, ...]:
        """Names of the state tensors, as in torch.optim; each is [K, P] and begins at zero."""

    @abstractmethod
    def update(
        self,
        theta: Tensor,
        grad: Tensor,
        state: Mapping[str, Tensor],
        step: Tensor,
        columns: Columns,
    ) -> None:
        """Move `theta` [K, P] in place, and its state, along `grad` [K, P], which is used up.

        A temporary is as large as `theta`, so there is one at most.

        step: float [K, 1], the number of this step, counted from 1.
        """


@final
@dataclass(frozen=True)
class SGDRule(UpdateRule):
    """torch.optim.SGD without dampening."""

    counts = False
    with_momentum: bool
    with_decay: bool

    @property
    def state(self) -> tuple[str, ...]:
        return ("momentum_buffer",) if self.with_momentum else ()

    def update(
        self,
        theta: Tensor,
        grad: Tensor,
        state: Mapping[str, Tensor],
        step: Tensor,
        columns: Columns,
    ) -> None:
        c = {name: column.to(theta.dtype) for name, column in columns.items()}
        if self.with_decay:
            grad.add_(c["weight_decay"] * theta)
        if self.with_momentum:
            grad.copy_(state["momentum_buffer"].mul_(c["momentum"]).add_(grad))
        theta.sub_(grad.mul_(c["lr"]))


@final
@dataclass(frozen=True)
class RMSpropRule(UpdateRule):
    """torch.optim.RMSprop, not centered."""

    with_momentum: bool
    with_decay: bool

    @property
    def state(self) -> tuple[str, ...]:
        return ("square_avg", "momentum_buffer") if self.with_momentum else ("square_avg",)

    def update(
        self,
        theta: Tensor,
        grad: Tensor,
        state: Mapping[str, Tensor],
        step: Tensor,
        columns: Columns,
    ) -> None:
        c = {name: column.to(theta.dtype) for name, column in columns.items()}
        if self.with_decay:
            grad.add_(c["weight_decay"] * theta)
        square = state["square_avg"]
        spare = grad.square().mul_((1 - columns["alpha"]).to(theta.dtype))
        square.mul_(c["alpha"]).add_(spare)
        grad.div_(spare.copy_(square).sqrt_().add_(c["eps"]))
        if self.with_momentum:
            grad.copy_(state["momentum_buffer"].mul_(c["momentum"]).add_(grad))
        theta.sub_(grad.mul_(c["lr"]))


@final
@dataclass(frozen=True)
class AdamRule(UpdateRule):
    """torch.optim.Adam (Kingma & Ba 2015, Algorithm 1), or AdamW with `decoupled` decay."""

    decoupled: bool
    with_decay: bool

    @property
    def state(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def update(
        self,
        theta: Tensor,
        grad: Tensor,
        state: Mapping[str, Tensor],
        step: Tensor,
        columns: Columns,
    ) -> None:
        c = {name: column.to(theta.dtype) for name, column in columns.items()}
        if self.with_decay and self.decoupled:
            theta.mul_((1 - columns["lr"] * columns["weight_decay"]).to(theta.dtype))
        elif self.with_decay:
            grad.add_(c["weight_decay"] * theta)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(grad, (1 - columns["beta1"]).to(theta.dtype))
        grad.square_().mul_((1 - columns["beta2"]).to(theta.dtype))
        square.mul_(c["beta2"]).add_(grad)
        unbiased = 1 - columns["beta1"] ** step.double()
        scale = (1 - columns["beta2"] ** step.double()).sqrt()
        size = once((columns["lr"] / unbiased).to(theta.dtype))
        grad.copy_(square).sqrt_().div_(once(scale.to(theta.dtype))).add_(c["eps"])
        theta.sub_(torch.div(mean, grad).mul_(size))
