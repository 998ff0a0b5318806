"""From readings to verdicts: a rule must hold several times in a row, and not too early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from gansweep.components import answering
from gansweep.counting import counted
from gansweep.diagnosis.rules.base import Rule


@final
@dataclass(frozen=True)
class Ruling:
    """A rule that has held at enough readings in a row."""

    rule: str
    reason: str


@final
class Court:
    """Hears the readings of one trial in turn; `verdicts` are those that stand now.

    grace: g_steps before which nothing is heard; patience: readings in a row at which a rule must
    hold. Its state is part of the trial's checkpoint, so that a resumed trial is judged alike.
    """

    def __init__(self, rules: Sequence[Rule], *, grace: int, patience: int) -> None:
        self.verdicts: list[Ruling] = []
        self._rules = rules
        self._grace = grace
        self._patience = patience
        self._held: dict[str, list[int]] = {}  # since when each rule holds, at how many readings

    def hear(self, reading: Mapping[str, float], *, g_step: int) -> None:
        """The reading after `g_step` generator steps."""
        self.verdicts = []
        if g_step < self._grace:  # also under a longer budget than the one before
            self._held.clear()
            return
        for rule in self._rules:
            with answering(type(rule), at="trial.diagnosis.rules"):
                evidence = rule.evidence(reading)
            if evidence is None:
                self._held.pop(rule.name, None)
                continue
            held = self._held.setdefault(rule.name, [g_step, 0])
            held[1] += 1
            since, times = held
            if times >= self._patience:
                reason = f"{rule.name} ({evidence}; {counted(times, 'time')} since g_step {since})"
                self.verdicts.append(Ruling(rule.name, reason))

    def forget(self) -> None:
        """What was heard says nothing of what comes: the trial goes on from another one's state."""
        self.verdicts = []
        self._held.clear()

    def state_dict(self) -> dict[str, Any]:
        """Since when each rule holds, and for how many readings."""
        return {name: list(held) for name, held in self._held.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; the verdicts come with the next reading."""
        self._held = {name: list(held) for name, held in state.items()}
