"""The generator gives nearly the same for every latent, or leaves most classes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from gansweep.diagnosis.rules.base import Rule
from gansweep.settings import setting


@dataclass(frozen=True)
class ModeCollapseSettings:
    diversity: float = setting(
        0.1, "least mean pairwise distance of samples, as a share of the data's", ge=0
    )
    classes: float = setting(
        0.25, "least share of the data's classes that is generated", ge=0, le=1
    )


@final
class ModeCollapse(Rule):
    """Samples far less diverse than data (Goodfellow 2016, section 5.1.1: the Helvetica scenario).

    A starved generator that still gives one mean image looks the same, and is judged the same.
    """

    name = "mode_collapse"
    Settings = ModeCollapseSettings
    settings: ModeCollapseSettings

    def holds(self, reading: Mapping[str, float]) -> str | None:
        for what, least in (
            ("diversity", self.settings.diversity),
            ("classes_covered", self.settings.classes),
        ):
            value = reading.get(what)
            if value is not None and value < least:
                return f"{what} {value:.3g} is below {least:g}"
        return None
