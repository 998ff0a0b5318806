"""How the weights of a clipped critic are spread between the bounds, through training."""

from __future__ import annotations

from typing import final

import torch

from gansweep.callbacks.base import TrialCallback
from gansweep.constraints import WeightClip
from gansweep.modules.alternating import AlternatingModule
from gansweep.plots import bars
from gansweep.tracking.base import Tracker


@final
class ClipHistogram(TrialCallback):
    """A histogram over [-clip, clip] to the tracker's series `critic_weights`.

    Clipping pushes the weights to both ends (Gulrajani et al. 2017, figure 1b, right). Every
    `every` g_steps and at the end, where the critic is clipped at all.
    """

    def __init__(self, tracker: Tracker, *, every: int) -> None:
        self._tracker = tracker
        self._every = every

    def act(self, module: AlternatingModule, g_step: int) -> None:
        constraint = module.formulation.constraint
        if isinstance(constraint, WeightClip):
            weights = constraint.select(module.discriminator)
            flat = torch.cat([weight.detach().reshape(-1) for weight in weights])
            picture = bars(flat, float(constraint.bound))
            self._tracker.log_image("critic_weights", picture, step=g_step)
