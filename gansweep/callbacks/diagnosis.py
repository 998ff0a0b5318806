"""Diagnoses a trial through training: diagnostics to the tracker, verdicts to the outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch

from gansweep.callbacks.base import TrialCallback
from gansweep.diagnosis.batch import FixedBatch
from gansweep.diagnosis.court import Court, Ruling
from gansweep.diagnosis.measurement import measure
from gansweep.diagnosis.stall import Stall
from gansweep.modules.alternating import AlternatingModule
from gansweep.progress import Outcome
from gansweep.tracking.base import Tracker


@final
class Diagnosis(TrialCallback):
    """`diagnosis/NAME` every `every` g_steps and at the end; 0: never.

    Sets the outcome's diagnosis to the rules whose verdicts stand, and tags the run with it. A last
    reading off the interval is logged, but no rule hears it: a longer budget goes on without it.
    """

    def __init__(
        self,
        tracker: Tracker,
        outcome: Outcome,
        batch: FixedBatch,
        court: Court,
        *,
        every: int,
        stop: Sequence[str],
    ) -> None:
        """`stop` are the rules whose verdict ends the trial."""
        self._tracker = tracker
        self._outcome = outcome
        self._batch = batch
        self._court = court
        self._every = every
        self._stop = stop
        self._stall = Stall()

    def due(self, g_step: int, *, last: bool) -> bool:
        return self._every > 0 and super().due(g_step, last=last)

    def act(self, module: AlternatingModule, g_step: int) -> None:
        heard = g_step % self._every == 0
        values = measure(module, self._batch)
        numbers = torch.stack([value.float() for value in values.values()]).tolist()
        reading = dict(zip(values, numbers, strict=True))
        if heard and "energy_distance" in reading:
            reading["stalled"] = self._stall.after(reading["energy_distance"], g_step=g_step)
        named = {f"diagnosis/{name}": value for name, value in reading.items()}
        self._tracker.log_metrics(named, step=g_step)
        if self._outcome.record(named, g_step=g_step) and heard:
            self._court.hear(reading, g_step=g_step)
            self._tell()

    @property
    def fatal(self) -> Ruling | None:
        """The verdict that ends the trial, if one stands."""
        return next((v for v in self._court.verdicts if v.rule in self._stop), None)

    def _tell(self) -> None:
        verdicts = self._court.verdicts
        words = ", ".join(verdict.rule for verdict in verdicts)
        if words != self._outcome.diagnosis:
            reasons = "; ".join(verdict.reason for verdict in verdicts)
            self._tracker.set_tags({"gansweep.diagnosis": words, "gansweep.evidence": reasons})
            self._outcome.diagnosis = words

    def forget(self) -> None:
        """The trial goes on from another one's state."""
        self._court.forget()
        self._stall.forget()
        self._tell()

    def state_dict(self) -> dict[str, Any]:
        """What the next diagnosis depends on, besides the trial itself."""
        return {"court": self._court.state_dict(), "stall": self._stall.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._court.load_state_dict(state["court"])
        self._stall.load_state_dict(state["stall"])
