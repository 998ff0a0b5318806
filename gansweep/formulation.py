"""A formulation: objective + penalty + constraint, the mathematics of a variant.

Free of optimizers and of randomness: D arrives as a callable, all noise as arguments. The same
object serves one trial, a pack of replicas under `vmap`, and a float64 test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import Tensor

from gansweep.constraints import Constraint
from gansweep.objectives import Objective
from gansweep.penalties import Discriminator, Penalty


@final
@dataclass(frozen=True)
class Loss:
    """A scalar to minimise and the scalars to watch, by metric name, still on the device."""

    total: Tensor
    metrics: dict[str, Tensor]


@final
@dataclass(frozen=True)
class Formulation:
    """One variant's mathematics."""

    objective: Objective
    penalty: Penalty | None = None
    constraint: Constraint | None = None

    def discriminator_loss(
        self,
        D: Discriminator,
        real: Tensor,
        fake: Tensor,
        noise: Tensor | None = None,
        *,
        D_pure: Discriminator | None = None,
        D_both: Callable[[Tensor, Tensor], tuple[Tensor, ...]] | None = None,
    ) -> Loss:
        """D's loss on real and generated samples [N, ...]; `fake` must be detached.

        Real and generated samples pass through D as separate batches, so that BatchNorm sees
        each alone; where that makes no difference, `D_both` may pass them as one. `noise` is what
        `penalty.draw` gave. `D_pure` is D without side effects on its buffers, for the penalty's
        derivative; D itself where None.
        """
        real_logits, fake_logits = D_both(real, fake) if D_both else (D(real), D(fake))
        game = self.objective.discriminator(real_logits, fake_logits)
        watch = self.objective.diagnostics(real_logits.detach(), fake_logits.detach())
        if self.penalty is None:
            return Loss(game, {"loss/d": game.detach(), **watch})
        if noise is None:
            raise ValueError("a formulation with a penalty needs the noise that it drew")
        penalty = self.penalty(D_pure or D, real, fake, noise)
        total = game + penalty
        metrics = {"loss/d": total.detach(), "loss/penalty": penalty.detach(), **watch}
        return Loss(total, metrics)

    def generator_loss(self, D: Discriminator, fake: Tensor) -> Loss:
        """G's loss on its samples [N, ...], which must carry G's graph."""
        total = self.objective.generator(D(fake))
        return Loss(total, {"loss/g": total.detach()})
