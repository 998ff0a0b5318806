"""The samples are far from the data and have come no nearer for long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from gansweep.diagnosis.rules.base import Rule
from gansweep.settings import setting


@dataclass(frozen=True)
class NoProgressSettings:
    distance: float = setting(
        0.1, "energy distance to the data, in units of their spread, that is good enough", ge=0
    )
    stalled: float = setting(
        0.5, "share of training so far that may pass without progress", gt=0, le=1
    )


@final
class NoProgress(Rule):
    """No progress in the energy distance, which is one of samples (Szekely & Rizzo 2013), no loss.

    A trial that stands still because it is done is near the data, and not meant.
    """

    name = "no_progress"
    Settings = NoProgressSettings
    settings: NoProgressSettings

    def holds(self, reading: Mapping[str, float]) -> str | None:
        distance, stalled = reading.get("energy_distance"), reading.get("stalled")
        if distance is None or stalled is None:
            return None
        if distance <= self.settings.distance or stalled < self.settings.stalled:
            return None
        return f"energy_distance {distance:.3g}, no better for {stalled:.0%} of training so far"
