"""The samples themselves as features."""

from __future__ import annotations

from typing import final

from torch import Tensor

from gansweep.metrics.extractors.base import Extractor, Seen


@final
class Raw(Extractor):
    """Samples flattened: for vectors, and for scores in pixel space."""

    name = "raw"
    version = "1"
    cheap = True

    def forward(self, x: Tensor) -> Seen:
        return Seen(x.flatten(1))
