"""A formulation: objective + penalty + constraint, and how many samples D judges at a time.

Free of optimizers and of randomness: D arrives as a callable, all noise as arguments. The same
object serves one trial, a pack of replicas under `vmap`, and a float64 test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from gansweep.constraints import Constraint
from gansweep.objectives import Objective
from gansweep.penalties import Discriminator, Penalty

Both = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""D with its labels bound: real and generated samples [N, ...] -> logits of each, [N]."""


@final
@dataclass(frozen=True)
class Loss:
    """A scalar to minimise and the scalars to watch, by metric name, still on the device."""

    total: Tensor
    metrics: dict[str, Tensor]


@final
@dataclass(frozen=True)
class Formulation:
    """One variant's mathematics.

    pac: the samples that D judges together, real ones or generated ones (PacGAN, Lin et al. 2018).
    Objective and penalty see such a tuple as one sample, of the product distribution.
    """

    objective: Objective
    penalty: Penalty | None = None
    constraint: Constraint | None = None
    pac: int = 1

    def packed(self, x: Tensor) -> Tensor:
        """What D sees of samples [N, C, ...]: `pac` neighbours as one, [N / pac, pac C, ...]."""
        if self.pac == 1:
            return x
        return x.reshape(-1, self.pac * x.shape[1], *x.shape[2:])

    def draw(
        self,
        steps: int,
        batch: int,
        *,
        shape: tuple[int, ...],
        rng: torch.Generator,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> Tensor | None:
        """The penalty's noise for `steps` losses of D on batches of `batch` samples of `shape`.

        [steps, ...]; None without a penalty. TypeError where the penalty gives other noise.
        """
        if self.penalty is None:
            return None
        seen = (self.pac * shape[0], *shape[1:])
        noise = self.penalty.draw(
            steps, batch // self.pac, shape=seen, rng=rng, device=device, dtype=dtype
        )
        if not isinstance(noise, Tensor) or noise.shape[:1] != (steps,):
            gives = f"gives {_kind(noise)}, must give a tensor [{steps}, ...]"
            raise TypeError(f"{type(self.penalty).__qualname__}.draw {gives}")
        return noise

    def metrics(self) -> tuple[str, ...]:
        """The names of the scalars to watch: of one round on samples of one number each."""
        d, g = self._round((1,), batch=2 * self.pac)
        return *d.metrics, *g.metrics

    def tried(self, shape: tuple[int, ...], *, batch: int) -> None:
        """Raises where a round on `batch` samples of `shape` gives no losses to descend.

        Or where the constraint is to run at no time that there is.
        """
        self._check_objective(torch.ones(batch // self.pac))
        timing = self.constraint.timing if self.constraint else "before"
        if timing not in ("before", "after"):
            raise ValueError(f"the constraint's timing is {timing!r}, must be before or after")
        for role, loss in zip("DG", self._round(shape, batch=batch), strict=True):
            if not loss.total.requires_grad:
                raise ValueError(f"the loss of {role} has no gradient to descend")
            for name, value in loss.metrics.items():
                if not _is_scalar(value):
                    must = "must be a tensor of no dimension: a mean"
                    raise ValueError(f"{name} is {_kind(value)}, {must}")

    def _check_objective(self, logits: Tensor) -> None:
        """TypeError where what the objective makes of D's logits [N] is no loss, or no mapping."""
        objective, kind = self.objective, type(self.objective).__qualname__
        real = logits if objective.needs_real else None
        for name, given, wanted in (
            ("discriminator", objective.discriminator(logits, logits), Tensor),
            ("generator", objective.generator(logits, real), Tensor),
            ("diagnostics", objective.diagnostics(logits, logits), Mapping),
        ):
            if not isinstance(given, wanted):
                gives = f"gives {type(given).__name__}, must give a {wanted.__name__}"
                raise TypeError(f"{kind}.{name} {gives}")

    def _round(self, shape: tuple[int, ...], *, batch: int) -> tuple[Loss, Loss]:
        """D's and G's loss on `batch` samples of `shape`, which a D judges by their sums."""
        x, weight = torch.zeros(batch, *shape), torch.ones((), requires_grad=True)
        rng = torch.Generator()
        noise = self.draw(1, batch, shape=shape, rng=rng, device="cpu", dtype=x.dtype)

        def total(x: Tensor) -> Tensor:
            return weight * x.flatten(1).sum(1)

        d = self.discriminator_loss(total, x, x, None if noise is None else noise[0])
        return d, self.generator_loss(total, x, x)

    def discriminator_loss(
        self,
        D: Discriminator,
        real: Tensor,
        fake: Tensor,
        noise: Tensor | None = None,
        *,
        D_pure: Discriminator | None = None,
        D_both: Both | None = None,
    ) -> Loss:
        """D's loss on real and generated samples [N, ...]; `fake` must be detached.

        Real and generated samples pass through D as separate batches, so that BatchNorm sees
        each alone; where that makes no difference, `D_both` may pass them as one. `noise` is what
        `draw` gave for this step. `D_pure` is D without side effects on its buffers, for the
        penalty's derivative; D itself where None. TypeError where the penalty gives no scalar.
        """
        real, fake = self.packed(real), self.packed(fake)
        real_logits, fake_logits = D_both(real, fake) if D_both else (D(real), D(fake))
        game = self.objective.discriminator(real_logits, fake_logits)
        watch = self.objective.diagnostics(real_logits.detach(), fake_logits.detach())
        if self.penalty is None:
            return Loss(game, {"loss/d": game.detach(), **watch})
        if noise is None:
            raise ValueError("a formulation with a penalty needs the noise that it drew")
        penalty = self.penalty(D_pure or D, real, fake, noise)
        if not _is_scalar(penalty):
            gives = f"gives {_kind(penalty)}, must give a scalar tensor"
            raise TypeError(f"{type(self.penalty).__qualname__}.__call__ {gives}")
        total = game + penalty
        metrics = {"loss/d": total.detach(), "loss/penalty": penalty.detach(), **watch}
        return Loss(total, metrics)

    def generator_loss(
        self,
        D: Discriminator,
        fake: Tensor,
        real: Tensor | None = None,
        *,
        D_both: Both | None = None,
    ) -> Loss:
        """G's loss on its samples [N, ...], which must carry G's graph.

        `real`: real samples [N, ...], which some objectives need and others ignore.
        """
        fake, real_logits = self.packed(fake), None
        if self.objective.needs_real:
            if real is None:
                raise ValueError("this objective needs real samples in G's step too")
            real = self.packed(real)
            real_logits, fake_logits = D_both(real, fake) if D_both else (D(real), D(fake))
        else:
            fake_logits = D(fake)
        total = self.objective.generator(fake_logits, real_logits)
        return Loss(total, {"loss/g": total.detach()})


def _is_scalar(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0


def _kind(value: object) -> str:
    """A tensor's shape; what else it is."""
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__
