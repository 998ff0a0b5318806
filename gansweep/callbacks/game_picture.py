"""The 1-D game through training, as figure 1 of the paper of 2014 draws it."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from gansweep.callbacks.base import TrialCallback
from gansweep.data.base import Samples
from gansweep.latent import Latent
from gansweep.modules.alternating import AlternatingModule, evaluating
from gansweep.objectives import Probabilistic
from gansweep.plots import abscissas, game
from gansweep.seeding import stream
from gansweep.tracking.base import Tracker

ARROWS = 33
"""Latents whose way to the data the picture shows."""

SAMPLES = 10_000
"""Points that a density is drawn from."""


@final
class GamePicture(TrialCallback):
    """Data density, generated density, D(x) and the map from z, to the tracker's series `game`.

    For data of one dimension, every `every` g_steps and at the end (Goodfellow et al. 2014, fig.
    1). A latent of more than one dimension is shown along its first axis, 0 in the others. D is its
    probability where it has one, else its values from the smallest to the largest.
    """

    def __init__(
        self,
        tracker: Tracker,
        latent: Latent,
        samples: Samples,
        *,
        every: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._tracker = tracker
        self._every = every
        self._real = samples.x[:SAMPLES].float().cpu()
        self._x = abscissas(self._real).unsqueeze(1).to(device)
        self._z = latent.draw(SAMPLES, rng=stream(seed, "game")).to(device)
        self._ladder = torch.zeros(ARROWS, latent.dim, device=device)
        self._ladder[:, 0] = latent.ladder(ARROWS).to(device)

    def act(self, module: AlternatingModule, g_step: int) -> None:
        with evaluating(module.sampled) as G, evaluating(module.discriminator) as D:
            fake, moved = G(self._z, None), G(self._ladder, None)
            judged = _shares(module, D(self._x, None))
        picture = game(self._real, fake.cpu(), judged.cpu(), moved[:, 0].cpu())
        self._tracker.log_image("game", picture, step=g_step)


def _shares(module: AlternatingModule, outputs: Tensor) -> Tensor:
    """D's outputs [N] as probabilities, or scaled to [0, 1]."""
    if isinstance(module.formulation.objective, Probabilistic):
        return outputs.sigmoid()
    low, high = outputs.min(), outputs.max()
    return (outputs - low) / (high - low)
