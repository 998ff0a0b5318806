"""What a rule is: a condition on a trial's diagnostics that says what is wrong with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, final

from gansweep.objectives import Objective


class Rule(ABC):
    """Judges one reading of the diagnostics. It sees no loss, and keeps nothing between readings.

    A subclass has a name, names its dataclass `Settings` with its thresholds, and says when it
    holds. That it must hold at several readings in a row, and none before the grace period is over,
    is no matter of the rule's.
    """

    name: ClassVar[str]
    """What is wrong where it holds, as tag and table say it."""
    Settings: ClassVar[type[Any]]

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @classmethod
    def concerns(cls, objective: Objective) -> bool:
        """Whether it judges trials of this objective: all, unless a rule says otherwise."""
        return True

    @abstractmethod
    def holds(self, reading: Mapping[str, float]) -> str | None:
        """The evidence, with its numbers, where it holds; None where not.

        `reading` has the diagnostics by name, without `diagnosis/`; what does not apply to the
        trial is not among them.
        """

    @final
    def evidence(self, reading: Mapping[str, float]) -> str | None:
        """What `holds` gives; TypeError where that is neither evidence nor None."""
        given: Any = self.holds(reading)
        if given is None or isinstance(given, str):
            return given
        what = f"holds gives {type(given).__name__}, must give the evidence, a str, or None"
        raise TypeError(what)
