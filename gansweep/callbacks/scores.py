"""Scores of the generated samples through training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from gansweep.callbacks.base import TrialCallback
from gansweep.metrics.base import Score
from gansweep.modules.alternating import AlternatingModule
from gansweep.progress import Outcome
from gansweep.sampling import Sampler
from gansweep.tracking.base import Tracker


@final
class Scores(TrialCallback):
    """`score/NAME` of freshly generated samples every `every` g_steps and at the end."""

    def __init__(
        self,
        scores: Sequence[Score],
        tracker: Tracker,
        sampler: Sampler,
        outcome: Outcome,
        *,
        every: int,
    ) -> None:
        self._scores = scores
        self._tracker = tracker
        self._sampler = sampler
        self._outcome = outcome
        self._every = every

    def due(self, g_step: int, *, last: bool) -> bool:
        return last or g_step % self._every == 0

    def act(self, module: AlternatingModule, g_step: int) -> None:
        fake = self._sampler.evaluation(module.sampled)
        values = {f"score/{score.name}": score(fake) for score in self._scores}
        self._tracker.log_metrics(values, step=g_step)
        self._outcome.record(values, g_step=g_step)
