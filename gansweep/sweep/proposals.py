"""Which trial comes next: the planned ones in their order, or what Optuna's TPE proposes."""

from __future__ import annotations

import json
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
    keys: set[str]
    """The keys of the trials that the sweep means, so far: given, to be given, or finished."""

    @abstractmethod
    def take(self, most: int, *, shape: str | None = None) -> list[Trial]:
        """At most `most` trials of one shape: that of the next one, or `shape`."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How many trials are still to be taken, as far as it is known."""

    @abstractmethod
    def tell(self, trial: Trial, entry: Entry) -> None:
        """How a trial ended."""


@final
class Listed(Proposals):
    """Trials that are all known beforehand."""

    def __init__(self, trials: Iterable[Trial], *, finished: Iterable[Trial] = ()) -> None:
        self._waiting = deque(trials)
        self.total = len(self._waiting)
        self.keys = {trial.key for trial in (*self._waiting, *finished)}

    def take(self, most: int, *, shape: str | None = None) -> list[Trial]:
        return _of_one_shape(self._waiting, most, shape)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def tell(self, trial: Trial, entry: Entry) -> None:
        pass


@final
class TreeParzen(Proposals):
    """Points from Optuna's TPE sampler (Bergstra et al. 2011), each trained with every seed.

    A point's value is the mean of the metric over its seeds. Points of an earlier run of the
    sweep come first again, from the plan: how the trials end decides what TPE proposes, and no
    two runs of a sweep see them end in the same order. The search goes on where it stood.
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
        self._earlier = {entry.key: entry for entry in entries}
        points = {
            json.dumps(entry.point, sort_keys=True): entry.point
            for entry in self._earlier.values()
            if any(t.key == entry.key for t in make_trials(sweep, [entry.point], []))
        }  # else it was trained under other settings than the file's present ones
        chosen = [sweep.space.inverse(point) for point in points.values()]
        again = [each for each in chosen if each is not None][: sweep.search.samples]
        self._states = optuna.trial.TrialState
        self._study = optuna.create_study(
            direction="minimize" if sweep.search.mode == "min" else "maximize",
            sampler=optuna.samplers.TPESampler(
                # Other draws than those that gave the earlier points.
                seed=sweep.search.seed + len(again),
                constant_liar=True,
                n_startup_trials=10,
            ),
        )
        self._values: dict[int, list[float]] = {}
        self._open: dict[str, list[int]] = {}  # trial key -> Optuna's numbers of its point
        self._untold: dict[int, set[str]] = {}  # the trial keys that a point waits for
        self._ended: dict[str, Entry] = {}
        self._waiting: deque[Trial] = deque()
        self._finished = finished
        self._asked = 0
        self.keys = set()
        for each in again:
            self._study.enqueue_trial(each)
            self._ask()
        fresh = sweep.search.samples - len(again)
        self.total = len(self._waiting) + fresh * len(sweep.seeds)

    def take(self, most: int, *, shape: str | None = None) -> list[Trial]:
        while len(self._waiting) < most and self._asked < self._sweep.search.samples:
            self._ask()
        return _of_one_shape(self._waiting, most, shape)

    @property
    def waiting(self) -> int:
        to_ask = self._sweep.search.samples - self._asked
        return len(self._waiting) + to_ask * len(self._sweep.seeds)

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
        self._untold[asked.number] = {trial.key for trial in trials}
        self.keys.update(trial.key for trial in trials)
        for trial in trials:
            numbers = self._open.setdefault(trial.key, [])
            numbers.append(asked.number)
            entry = self._ended.get(trial.key) or self._earlier.get(trial.key)
            if entry and (trial.key in self._ended or self._finished(entry)):
                self.tell(trial, entry)
            elif len(numbers) == 1:  # else it trains already: TPE chose the point twice
                self._waiting.append(trial)

    def tell(self, trial: Trial, entry: Entry) -> None:
        self._ended[trial.key] = entry
        value = entry.metrics.get(self._sweep.search.metric)
        for number in self._open.pop(trial.key, []):
            if entry.state in ("completed", "stopped") and value is not None:
                self._values[number].append(value)
            self._untold[number].discard(trial.key)
            if not self._untold[number]:
                self._conclude(number)

    def _conclude(self, number: int) -> None:
        values = self._values[number]
        if len(values) == len(self._sweep.seeds) and all(map(math.isfinite, values)):
            self._study.tell(number, sum(values) / len(values))
        else:
            self._study.tell(number, state=self._states.FAIL)


def _of_one_shape(waiting: deque[Trial], most: int, shape: str | None) -> list[Trial]:
    """Take the first `most` trials of the first one's shape, or of `shape`."""
    taken: list[Trial] = []
    for trial in list(waiting):
        if len(taken) == most:
            break
        if shape is None:
            shape = trial.config.shape
        if trial.config.shape == shape:
            taken.append(trial)
            waiting.remove(trial)
    return taken
