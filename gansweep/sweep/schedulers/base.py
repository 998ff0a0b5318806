"""Schedulers: whether a trial goes on after a score. Per trial, all in one place, without Ray."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from gansweep.progress import Continue, Stop

WORST = 1e30
"""What schedulers see for a metric that is not finite or missing (times -1 under `max`)."""

SIGN: dict[Literal["min", "max"], float] = {"min": 1.0, "max": -1.0}
"""What a value is multiplied by for smaller to be better."""


@final
@dataclass(frozen=True)
class Inherit:
    """The trial goes on from another's state and with other settings."""

    donor: str
    """Key of the trial whose state is copied."""
    g_step: int
    """Where both stand then."""
    settings: Mapping[str, Any]
    """The new values of the swept settings, by dotted key."""


Decision = Continue | Stop | Inherit
Answers = list[tuple[str, Decision]]
"""Decisions by trial key."""

__all__ = [
    "SIGN",
    "WORST",
    "Answers",
    "AtOnce",
    "Continue",
    "Decision",
    "Inherit",
    "Scheduler",
    "Stop",
]


class Scheduler(ABC):
    """Decides at scored reports whether trials go on.

    Pure and deterministic: the same calls in the same order give the same decisions, and a
    resumed sweep rebuilds a scheduler by replaying what was recorded. The same report again (a
    trial that was taken up from a checkpoint before it) gets the same answer and changes nothing.
    """

    waits: ClassVar[bool]
    """Whether training waits for the answer after each scored report."""

    @abstractmethod
    def begin(self, key: str, settings: Mapping[str, Any]) -> None:
        """A trial starts or resumes, with its swept settings by dotted key."""

    @abstractmethod
    def report(self, key: str, g_steps: int, value: float) -> Answers:
        """A trial's objective after `g_steps`, finite (see `WORST`): all answers ready now.

        Not always one for `key`, and not for `key` alone.
        """

    @abstractmethod
    def ended(self, key: str) -> Answers:
        """A trial is over, for any reason; others may have waited for it."""


class AtOnce(Scheduler):
    """Schedulers that answer every report at once, and that trial alone."""

    waits: ClassVar[bool] = True

    def __init__(self) -> None:
        self._answered: dict[tuple[str, int], Decision] = {}

    def begin(self, key: str, settings: Mapping[str, Any]) -> None:
        pass

    @final
    def report(self, key: str, g_steps: int, value: float) -> Answers:
        if (key, g_steps) not in self._answered:
            self._answered[key, g_steps] = self.decide(key, g_steps, value)
        return [(key, self._answered[key, g_steps])]

    @abstractmethod
    def decide(self, key: str, g_steps: int, value: float) -> Decision:
        """Take note of a report, which is new, and decide on its trial."""

    def ended(self, key: str) -> Answers:
        return []
