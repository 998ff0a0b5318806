"""Scores of the generated samples through training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from gansweep.callbacks.base import TrialCallback
from gansweep.callbacks.best import Best
from gansweep.evaluation import Evaluation
from gansweep.metrics.fingerprint import TAG, score_of, to_text
from gansweep.modules.alternating import AlternatingModule
from gansweep.progress import Outcome
from gansweep.tracking.base import Tracker


@final
class Scores(TrialCallback):
    """`score/NAME` of freshly generated samples every `every` g_steps and at the end.

    Where a value is the best so far, it is `best/score/NAME` as well, and its g_step
    `best_step/score/NAME`. With the first values come the floors, `floor/score/NAME` with the
    standard error `floor_error/score/NAME`, and the fingerprints as tags.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        tracker: Tracker,
        outcome: Outcome,
        *,
        every: int,
        keep: str | None = None,
    ) -> None:
        """`keep` is the score whose best steps are worth a checkpoint."""
        self._evaluation = evaluation
        self._tracker = tracker
        self._outcome = outcome
        self._every = every
        self._keep = keep
        self._best = Best()
        self._told = False
        self._at: int | None = None  # g_step of the last values, where that is known
        self.improved_at = -1
        """g_step of the best value of `keep` so far."""

    def act(self, module: AlternatingModule, g_step: int) -> None:
        scores = self._evaluation(module.sampled)
        self._at = g_step
        values = {f"score/{name}": value for name, value in scores.items()}
        if not self._told:
            values |= self._tell()
        for name, value in scores.items():
            mode = self._evaluation.scores[name].mode
            if self._best.offer(name, value, g_step, mode=mode):
                values[f"best/score/{name}"] = value
                values[f"best_step/score/{name}"] = float(g_step)
                if name == self._keep:
                    self.improved_at = g_step
        self._tracker.log_metrics(values, step=g_step)
        self._outcome.record(values, g_step=g_step)

    def _tell(self) -> dict[str, float]:
        """What the values are to be read with: once in each run of the trial."""
        self._told = True
        fingerprints = self._evaluation.fingerprints
        self._outcome.fingerprints.update(fingerprints)
        self._tracker.set_tags({f"{TAG}{k}": to_text(each) for k, each in fingerprints.items()})
        floors: dict[str, float] = {}
        for name, floor in self._evaluation.floors.items():
            if f"floor/score/{name}" not in self._outcome.metrics:
                floors[f"floor/score/{name}"] = floor.value
                floors[f"floor_error/score/{name}"] = floor.error
        return floors

    def stands_at(self, g_step: int) -> bool:
        """Whether every score has a value that was taken at `g_step`, and as it would be now."""
        named = (f"score/{name}" in self._outcome.metrics for name in self._evaluation.scores)
        return self._at in (g_step, None) and all(named)

    def state_dict(self) -> dict[str, Any]:
        """The best values so far, what they were values of, and when the last were taken."""
        fingerprints = {name: dict(each) for name, each in self._outcome.fingerprints.items()}
        return {"best": self._best.state_dict(), "fingerprints": fingerprints, "at": self._at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, but for the scores that mean something else now."""
        self._best.load_state_dict(state["best"])
        self._at = state.get("at")  # older versions kept none
        self._outcome.fingerprints.update(state["fingerprints"])
        now = self._evaluation.fingerprints
        for name, before in state["fingerprints"].items():
            if now.get(name) != before:
                self._best.forget(name)
                del self._outcome.fingerprints[name]
                for metric in [m for m in self._outcome.metrics if is_of(m, name)]:
                    del self._outcome.metrics[metric]


def is_of(metric: str, score: str) -> bool:
    """Whether `metric` is a value of `score`: its own, its best or its floor."""
    return "score/" in metric and score_of(metric) == score
