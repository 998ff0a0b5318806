"""The rules that judge every trial; a new one is one file and one line here."""

from __future__ import annotations

from gansweep.components import Catalogue
from gansweep.diagnosis.rules.base import Rule

RULES: Catalogue[Rule] = Catalogue(
    "rule",
    "gansweep.diagnosis.rules.base:Rule",
    {
        "discriminator_won": "gansweep.diagnosis.rules.discriminator_won:DiscriminatorWon",
        "mode_collapse": "gansweep.diagnosis.rules.mode_collapse:ModeCollapse",
        "clip_saturated": "gansweep.diagnosis.rules.clip_saturated:ClipSaturated",
        "no_progress": "gansweep.diagnosis.rules.no_progress:NoProgress",
    },
)
"""Built-in rules by name."""
