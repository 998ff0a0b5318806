"""How much a run of the benchmarks measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Plan:
    """`rounds`: the user's wish, else each figure's own; `quick`: minutes, for a smoke test.

    width: of the networks in `mlp`; None: all of that figure's.
    """

    rounds: int | None
    quick: bool
    say: Callable[[str], None]
    width: int | None = None

    def rounds_of(self, usual: int) -> int:
        """Of a figure that usually takes `usual` rounds."""
        return self.rounds or (1 if self.quick else usual)
