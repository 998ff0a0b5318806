"""What a trial logs beside its scores, by name, as it is known before anything trains."""

from __future__ import annotations

from gansweep.callbacks.readout import CLOCKS
from gansweep.config import TrialConfig
from gansweep.diagnosis.measurement import names_of

GROUPS = ("loss", "d", "time", "diagnosis")
"""Groups of metrics that are no scores."""


def logged(config: TrialConfig) -> list[str] | None:
    """The names, groups and all; None where a variant of one's own does not show its own."""
    try:
        played = config.model.cls.mathematics(config.model.settings).metrics()
    except Exception:  # a user's own mathematics may ask for more than a number a sample
        return None
    diagnosed = names_of(played) if config.diagnosis_every else []
    return [*played, *CLOCKS, *(f"diagnosis/{name}" for name in diagnosed)]
