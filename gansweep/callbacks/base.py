"""What happens between generator steps: callbacks that act at intervals of g_steps."""

from __future__ import annotations

from abc import ABC, abstractmethod

from gansweep.modules.alternating import AlternatingModule


class TrialCallback(ABC):
    """Acts after a generator step when it is due; the last step of the budget is always offered.

    One belongs to one trial, alone or a replica of a pack. `g_step` is the number of generator
    steps done, never Lightning's `global_step`.
    """

    _every: int
    """g_steps between its turns."""

    def due(self, g_step: int, *, last: bool) -> bool:
        """Whether to act after `g_step` generator steps; `last` at the end of the budget."""
        return last or g_step % self._every == 0

    @abstractmethod
    def act(self, module: AlternatingModule, g_step: int) -> None:
        """Do it. The module is in train mode and must be left so."""
