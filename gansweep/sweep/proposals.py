"""Which trial comes next: the planned ones in their order, or what Optuna's TPE proposes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, final

from gansweep.errors import ConfigError
from gansweep.sweep.file import Sweep
from gansweep.sweep.plan import Entry
from gansweep.sweep.trials import Trial, make_trials


class Proposals(ABC):
    """A source of trials for the workers."""

    total: int
    """How many trials the source gives in all, as far as it is known."""

    @abstractmethod
    def next(self) -> Trial | None:
        """The next trial to train; None when there is no more."""

    @abstractmethod
    def tell(self, trial: Trial, entry: Entry) -> None:
        """How a trial ended."""


@final
class Listed(Proposals):
    """Trials that are all known beforehand."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._waiting = deque(trials)
        self.total = len(self._waiting)

    def next(self) -> Trial | None:
        return self._waiting.popleft() if self._waiting else None

    def tell(self, trial: Trial, entry: Entry) -> None:
        pass


@final
class TreeParzen(Proposals):
    """Points from Optuna's TPE sampler (Bergstra et al. 2011), each trained with every seed.

    A point's value is the mean of the metric over its seeds. Points of an earlier run of the
    sweep are told again from the plan, so that the search goes on where it stood.
    """

    def __init__(
        self,
        sweep: Sweep,
        entries: Iterable[Entry],
        *,
        finished: Callable[[Entry], bool],
    ) -> None:
        """`finished` says whether an entry needs no more training."""
        try:
            import optuna
        except ImportError:
            raise ConfigError.single(
                "search.method", "tpe needs Optuna", 'pip install "gansweep[tpe]"'
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sweep = sweep
        self._states = optuna.trial.TrialState
        self._study = optuna.create_study(
            direction="minimize" if sweep.search.mode == "min" else "maximize",
            sampler=optuna.samplers.TPESampler(
                seed=sweep.search.seed, constant_liar=True, n_startup_trials=10
            ),
        )
        self._values: dict[int, list[float]] = {}
        self._open: dict[str, int] = {}  # trial key -> Optuna's number of its point
        self._waiting: deque[Trial] = deque()
        self._earlier = {entry.key: entry for entry in entries}
        self._finished = finished
        self._asked = 0
        self.total = sweep.search.samples * len(sweep.seeds)

    def next(self) -> Trial | None:
        while not self._waiting:
            if self._asked >= self._sweep.search.samples:
                return None
            self._ask()
        return self._waiting.popleft()

    def _ask(self) -> None:
        """Ask for one point; its trials that earlier runs finished are told at once."""
        self._asked += 1
        asked = self._study.ask()
        point = self._sweep.space.suggest(asked)
        problems: list[Any] = []
        trials = make_trials(self._sweep, [point], problems)
        if problems:
            raise ConfigError(problems)
        self._values[asked.number] = []
        for trial in trials:
            self._open[trial.key] = asked.number
        for trial in trials:
            entry = self._earlier.get(trial.key)
            if entry and self._finished(entry):
                self.tell(trial, entry)
            else:
                self._waiting.append(trial)

    def tell(self, trial: Trial, entry: Entry) -> None:
        number = self._open.pop(trial.key, None)
        if number is None:
            return
        value = entry.metrics.get(self._sweep.search.metric)
        if entry.state in ("completed", "stopped") and value is not None:
            self._values[number].append(value)
        if number in self._open.values():
            return
        values = self._values[number]
        if len(values) == len(self._sweep.seeds) and all(map(math.isfinite, values)):
            self._study.tell(number, sum(values) / len(values))
        else:
            self._study.tell(number, state=self._states.FAIL)
