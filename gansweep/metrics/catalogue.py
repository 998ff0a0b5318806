"""The built-in scores by name."""

from __future__ import annotations

from gansweep.components import Catalogue
from gansweep.metrics.base import Score

SCORES: Catalogue[Score] = Catalogue(
    "score",
    "gansweep.metrics.base:Score",
    {"swd": "gansweep.metrics.swd:SlicedWasserstein"},
)
