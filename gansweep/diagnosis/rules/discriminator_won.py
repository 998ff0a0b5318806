"""The discriminator is always right, and the generator learns nothing from it any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from gansweep.diagnosis.rules.base import Rule
from gansweep.settings import setting


@dataclass(frozen=True)
class DiscriminatorWonSettings:
    accuracy: float = setting(
        0.99, "accuracy of D on real and on generated samples that is too good", ge=0, le=1
    )
    stalled: float = setting(
        0.25, "share of training so far that may pass so without progress", ge=0, le=1
    )


@final
class DiscriminatorWon(Rule):
    """D is right on both sides, where 1/2 is the equilibrium: G's gradient vanishes or is noise.

    Arjovsky & Bottou 2017, theorems 2.4 and 2.6. While the samples still near the data, a D that
    is ahead does no harm. A critic is no classifier and may win: the better it is, the better its
    gradient (Arjovsky et al. 2017, section 3).
    """

    name = "discriminator_won"
    Settings = DiscriminatorWonSettings
    settings: DiscriminatorWonSettings

    def holds(self, reading: Mapping[str, float]) -> str | None:
        real, fake = reading.get("d_accuracy_real"), reading.get("d_accuracy_fake")
        if real is None or fake is None or min(real, fake) < self.settings.accuracy:
            return None
        if reading.get("stalled", 0.0) < self.settings.stalled:
            return None
        return f"D is right on {real:.1%} of the real and {fake:.1%} of the generated samples"
