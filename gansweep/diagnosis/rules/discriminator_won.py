"""The discriminator is always right, and the generator learns nothing from it any more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from gansweep.diagnosis.rules.base import Rule
from gansweep.objectives import Objective
from gansweep.settings import setting


@dataclass(frozen=True)
class DiscriminatorWonSettings:
    accuracy: float = setting(
        0.99, "accuracy of D on real and on generated samples that is too good", ge=0, le=1
    )
    stalled: float = setting(
        0.25, "share of training so far that may pass so without progress", ge=0, le=1
    )
    distance: float = setting(
        0.1, "energy distance to the data, in units of their spread, that is good enough", ge=0
    )


@final
class DiscriminatorWon(Rule):
    """D is right on both sides, where 1/2 is the equilibrium: G's gradient vanishes or is noise.

    Arjovsky & Bottou 2017, theorems 2.4 and 2.6, on log losses, which D lowers for ever by larger
    logits. The least squares' labels and the hinge's margin end that: D's best logits are finite,
    and G's loss has a slope in them. A critic may win as well: the better it is, the better its
    gradient (Arjovsky et al. 2017, section 3). While the samples still near the data, or once they
    are near, a D that is ahead does no harm.
    """

    name = "discriminator_won"
    Settings = DiscriminatorWonSettings
    settings: DiscriminatorWonSettings

    @classmethod
    def concerns(cls, objective: Objective) -> bool:
        return objective.saturates

    def holds(self, reading: Mapping[str, float]) -> str | None:
        real, fake = reading.get("d_accuracy_real"), reading.get("d_accuracy_fake")
        if real is None or fake is None or min(real, fake) < self.settings.accuracy:
            return None
        if reading.get("stalled", 0.0) < self.settings.stalled:
            return None
        if reading.get("energy_distance", math.inf) <= self.settings.distance:
            return None
        return f"D is right on {real:.1%} of the real and {fake:.1%} of the generated samples"
