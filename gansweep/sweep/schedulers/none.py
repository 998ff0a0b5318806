"""No scheduler: every trial trains its whole budget."""

from __future__ import annotations

from typing import ClassVar, final

from gansweep.sweep.schedulers.base import AtOnce, Continue, Decision


@final
class NoScheduler(AtOnce):
    """Lets every trial go on; training need not wait to hear it."""

    waits: ClassVar[bool] = False

    def decide(self, key: str, g_steps: int, value: float) -> Decision:
        return Continue()
