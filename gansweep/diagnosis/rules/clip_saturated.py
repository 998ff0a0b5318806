"""Nearly all of the critic's weights lie at +-clip, and its slope is of no use to the generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from gansweep.diagnosis.rules.base import Rule
from gansweep.settings import setting


@dataclass(frozen=True)
class ClipSaturatedSettings:
    pinned: float = setting(0.9, "largest share of the critic's weights at +-clip", gt=0, le=1)
    flat: float = setting(1e-3, "least gradient norm of a useful critic at interpolates", ge=0)
    steep: float = setting(1e3, "largest gradient norm of a useful critic at interpolates", gt=0)


@final
class ClipSaturated(Rule):
    """Clipping has made the critic as simple as it can be (Gulrajani et al. 2017, section 3).

    Many pinned weights alone are no fault: with the published settings, too, most end at both ends.
    """

    name = "clip_saturated"
    Settings = ClipSaturatedSettings
    settings: ClipSaturatedSettings

    def holds(self, reading: Mapping[str, float]) -> str | None:
        pinned, slope = reading.get("clip_pinned"), reading.get("lipschitz")
        if pinned is None or slope is None or pinned < self.settings.pinned:
            return None
        if self.settings.flat <= slope <= self.settings.steep:
            return None
        return f"{pinned:.0%} of the critic's weights are at +-clip, and its slope is {slope:.3g}"
