"""Which trial comes next: the listed ones, a large search's, or what Optuna's TPE proposes."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import Any, Final, final

from gansweep import __version__
from gansweep.config import KEY_FORMAT, TrialConfig
from gansweep.errors import ConfigError, Problem
from gansweep.sweep.file import Sweep
from gansweep.sweep.params import flatten
from gansweep.sweep.plan import FINAL, Entry, Plan
from gansweep.sweep.space import Assignment
from gansweep.sweep.trials import (
    Trial,
    TrialMaker,
    make_trials,
    point_count,
    points_of,
    trial_count,
)

LOOKED_AT = 128
"""Trials of a large search that are made ahead of their turn, for packs of one shape."""


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

    @property
    @abstractmethod
    def alike(self) -> int:
        """How many of them have the shape of the next one; 0 where that is not known."""

    @property
    def unlisted(self) -> int:
        """How many of them are in no plan yet."""
        return 0

    @property
    def size(self) -> int:
        """How many trials the sweep has, finished ones included, as far as it is known."""
        return self.total

    @property
    def shortfall(self) -> str:
        """Why it has fewer points than the file asks for; "" where it has not."""
        return ""

    @abstractmethod
    def tell(self, trial: Trial, entry: Entry) -> None:
        """How a trial ended."""


@final
class _Queue:
    """Trials that wait, in their order; those of one shape are found without looking at others."""

    def __init__(self, trials: Iterable[Trial] = ()) -> None:
        self._all: deque[Trial] = deque()
        self._by_shape: dict[str, deque[Trial]] = {}
        self._taken: set[str] = set()  # keys of trials that are in `_all` still
        self._length = 0
        for trial in trials:
            self.append(trial)

    def __len__(self) -> int:
        return self._length

    def append(self, trial: Trial) -> None:
        self._all.append(trial)
        self._by_shape.setdefault(trial.config.shape, deque()).append(trial)
        self._length += 1

    @property
    def shape(self) -> str | None:
        """Of the first one."""
        while self._all and self._all[0].key in self._taken:
            self._taken.discard(self._all.popleft().key)
        return self._all[0].config.shape if self._all else None

    @property
    def alike(self) -> int:
        """How many have the shape of the first one."""
        shape = self.shape
        return 0 if shape is None else len(self._by_shape[shape])

    def take(self, most: int, shape: str | None) -> list[Trial]:
        """At most `most` trials: the first ones of `shape`, or of the first one's shape."""
        shape = self.shape if shape is None else shape
        if shape is None:
            return []
        alike = self._by_shape.get(shape, deque())
        taken = [alike.popleft() for _ in range(min(most, len(alike)))]
        if not alike:
            self._by_shape.pop(shape, None)
        self._taken.update(trial.key for trial in taken)
        self._length -= len(taken)
        return taken


@final
class Listed(Proposals):
    """Trials that are all known beforehand."""

    def __init__(self, trials: Iterable[Trial], *, finished: Iterable[Trial] = ()) -> None:
        trials = list(trials)
        self._waiting = _Queue(trials)
        self.total = len(self._waiting)
        self.keys = {trial.key for trial in (*trials, *finished)}

    def take(self, most: int, *, shape: str | None = None) -> list[Trial]:
        return self._waiting.take(most, shape)

    @property
    def alike(self) -> int:
        return self._waiting.alike

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def tell(self, trial: Trial, entry: Entry) -> None:
        pass


@final
class Streamed(Proposals):
    """The trials of a large grid or random search, each made when it is to be taken.

    They come in the order of the search. What an earlier run finished is passed over: by point and
    seed where the plan is of the sweep's basis, so that no trial is made for it, else by its key.
    What is to be trained further waits from the start.
    """

    def __init__(self, sweep: Sweep, plan: Plan, *, finished: Callable[[Entry], bool]) -> None:
        """`finished` says whether an entry needs no more training."""
        self._sweep = sweep
        self._maker = TrialMaker(sweep)
        self._finished = finished
        self._earlier = dict(plan.entries)
        done = [entry for entry in plan.entries.values() if finished(entry)]
        same = plan.basis == basis_of(sweep) and self._have_their_keys(done)
        self._done = _places_of(sweep, done) if same else {}
        if not same:  # the budget may be another one
            take_up(sweep, plan.entries.values())
        self.keys = set(self._done.values())
        self._put_aside: set[str] = set()  # by an earlier run; made, and not taken yet
        self._source = self._stream()
        self._waiting = _Queue()
        self._left = self._size = trial_count(sweep)
        self._make(1)
        self.total = self.waiting

    def take(self, most: int, *, shape: str | None = None) -> list[Trial]:
        self._make(max(most, LOOKED_AT))
        taken = self._waiting.take(most, shape)
        self._put_aside.difference_update(trial.key for trial in taken)
        return taken

    @property
    def alike(self) -> int:
        self._make(LOOKED_AT)
        return self._waiting.alike if len(self._waiting) == self.waiting else 0

    @property
    def waiting(self) -> int:
        return len(self._waiting) + self._left - len(self._done)

    @property
    def unlisted(self) -> int:
        return self.waiting - len(self._put_aside)

    @property
    def size(self) -> int:
        return self._size

    def tell(self, trial: Trial, entry: Entry) -> None:
        pass

    def _make(self, fewest: int) -> None:
        """Have so many trials at hand, or all that are left."""
        missing = max(0, fewest - len(self._waiting))
        for trial in islice(self._source, missing):
            self._waiting.append(trial)

    def _stream(self) -> Iterator[Trial]:
        """The trials that are not finished, each once."""
        for point in points_of(self._sweep):
            config: TrialConfig | None = None
            for seed in self._sweep.seeds:
                self._left -= 1
                if self._passes(point, seed):
                    continue
                problems: list[Problem] = []
                config = config or self._maker.resolve(point, problems)
                if config is None:
                    raise ConfigError(problems)
                trial = self._maker.trial(config, point, seed)
                if self._is_wanted(trial):
                    yield trial

    def _is_wanted(self, trial: Trial) -> bool:
        if trial.key in self.keys:
            return False
        self.keys.add(trial.key)
        entry = self._earlier.pop(trial.key, None)
        if entry is None:
            return True
        entry.take_up(trial.config.budget.g_steps)
        if self._finished(entry):
            return False
        if entry.state == "failed":  # which is to be tried again
            entry.state = "waiting"
        self._put_aside.add(trial.key)
        return True

    def _passes(self, point: Assignment, seed: int) -> bool:
        return bool(self._done) and self._done.pop(_place(point, seed), None) is not None

    def _have_their_keys(self, entries: Iterable[Entry]) -> bool:
        """Whether the trials of these entries still have, by an example of each choice of names.

        A class of the user's own may have other defaults than it had.
        """
        examples: dict[str, Entry] = {}
        for entry in entries:
            names = [value for value in flatten(entry.point).values() if isinstance(value, str)]
            examples[json.dumps(names)] = entry
        for entry in examples.values():
            config = self._maker.resolve(entry.point, [])
            if config and self._maker.trial(config, entry.point, entry.seed).key != entry.key:
                return False
        return True


OLD_POINTS_IN_A_ROW: Final = 50
"""Choices of TPE after which the points that a small space still has are given to it."""


@final
class TreeParzen(Proposals):
    """Points from Optuna's TPE sampler (Bergstra et al. 2011), each trained with every seed.

    A point's value is the mean of the metric over its seeds. Where one of them was stopped, it is
    worse than those that completed, and the better the further it came; where one diverged, it is
    worse than all. Of one that failed nothing is learnt.

    Points of an earlier run of the sweep come first again, from the plan: how the trials end
    decides what TPE proposes, and no two runs of a sweep see them end in the same order. The search
    goes on where it stood.
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
                seed=(sweep.search.seed + len(again)) % 2**32,  # Optuna takes no larger ones
                constant_liar=True,
                n_startup_trials=10,
            ),
        )
        self._points: dict[int, Any] = {}  # Optuna's, by its number, of those that have not ended
        self._ends: dict[int, list[Entry]] = {}  # of the trials of such a point
        self._open: dict[str, list[int]] = {}  # trial key -> Optuna's numbers of its point
        self._untold: dict[int, set[str]] = {}  # the trial keys that a point waits for
        self._ended: dict[str, Entry] = {}
        self._waiting = _Queue()
        self._put_aside: set[str] = set()  # of those that wait, by an earlier run
        self._finished = finished
        self._asked = 0
        self._end = point_count(sweep)  # of what is asked for
        self._in_vain = 0  # choices in a row that were old points
        self._others = self._in_turn()
        self.keys = set()
        for each in again:
            self._study.enqueue_trial(each)
            self._ask()
        if again and not len(self._waiting):  # it may have been at its end
            self._fill(1)
        self.total = self.waiting

    def take(self, most: int, *, shape: str | None = None) -> list[Trial]:
        self._fill(most)
        taken = self._waiting.take(most, shape)
        self._put_aside.difference_update(trial.key for trial in taken)
        return taken

    @property
    def alike(self) -> int:
        return 0

    @property
    def waiting(self) -> int:
        return len(self._waiting) + (self._end - self._asked) * len(self._sweep.seeds)

    @property
    def unlisted(self) -> int:
        return self.waiting - len(self._put_aside)

    @property
    def shortfall(self) -> str:
        samples = self._sweep.search.samples
        if self._end == samples:
            return ""
        points = f"{self._end} point{'s' * (self._end != 1)}"
        return f"search.samples is {samples}, and the space has no more than {points}"

    def _fill(self, most: int) -> None:
        """Ask until so many trials wait, or the search is at its end.

        A point that TPE chooses again is none of the sweep's number: another run of it would know
        of the first choice alone, and go on. Where it chooses old ones only, it is given those
        that are left.
        """
        while len(self._waiting) < most and self._asked < self._end:
            self._in_vain = 0 if self._ask() else self._in_vain + 1
            if self._in_vain >= OLD_POINTS_IN_A_ROW and not self._ask_for_another():
                self._end = self._asked

    def _ask_for_another(self) -> bool:
        """Ask for a point that was not chosen yet; whether there is one."""
        for point in self._others:
            chosen = self._sweep.space.inverse(point)
            keys = {trial.key for trial in make_trials(self._sweep, [point], [])}
            if chosen is not None and not keys <= self.keys:
                self._study.enqueue_trial(chosen)
                return self._ask()
        return False

    def _in_turn(self) -> Iterator[Assignment]:
        """The points of a random search, then all that there are."""
        every = self._sweep.space.every(seed=self._sweep.search.seed)
        return chain(points_of(self._sweep), every)

    def _ask(self) -> bool:
        """Ask for one point; whether it is a new one.

        Its trials that have ended, in this run or an earlier one, are told at once.
        """
        asked = self._study.ask()
        point = self._sweep.space.suggest(asked)
        problems: list[Any] = []
        trials = make_trials(self._sweep, [point], problems)
        if problems:
            raise ConfigError(problems)
        self._points[asked.number], self._ends[asked.number] = asked, []
        self._untold[asked.number] = {trial.key for trial in trials}
        is_new = not self._untold[asked.number] <= self.keys
        self._asked += is_new
        self.keys.update(self._untold[asked.number])
        for trial in trials:
            numbers = self._open.setdefault(trial.key, [])
            numbers.append(asked.number)
            entry = self._ended.get(trial.key) or self._earlier.get(trial.key)
            if entry and trial.key not in self._ended:
                entry.take_up(trial.config.budget.g_steps)
            if entry and (trial.key in self._ended or self._finished(entry)):
                self.tell(trial, entry)
            elif len(numbers) == 1:  # else it trains already: TPE chose the point twice
                self._waiting.append(trial)
                if entry:
                    self._put_aside.add(trial.key)
                    if entry.state == "failed":  # which is to be tried again
                        entry.state = "waiting"
        return is_new

    def tell(self, trial: Trial, entry: Entry) -> None:
        self._ended[trial.key] = entry
        for number in self._open.pop(trial.key, []):
            self._ends[number].append(entry)
            self._untold[number].discard(trial.key)
            if not self._untold[number]:
                self._conclude(number)

    def _conclude(self, number: int) -> None:
        """Tell Optuna how the point's trials ended; it ranks what is PRUNED by its last step."""
        asked, ends = self._points.pop(number), self._ends.pop(number)
        states = {entry.state for entry in ends}
        found = (entry.metrics.get(self._sweep.search.metric) for entry in ends)
        values = [value for value in found if value is not None and math.isfinite(value)]
        if "diverged" in states:
            self._study.tell(number, state=self._states.PRUNED)  # at no step at all: the last
        elif len(values) < len(ends) or not states <= {"completed", "stopped"}:
            self._study.tell(number, state=self._states.FAIL)
        elif "stopped" in states:
            step = min(entry.g_steps for entry in ends if entry.state == "stopped")
            asked.report(sum(values) / len(values), step)
            self._study.tell(number, state=self._states.PRUNED)
        else:
            self._study.tell(number, sum(values) / len(values))


def basis_of(sweep: Sweep) -> str:
    """Names what all trials of the sweep have in common: with point and seed it decides the key."""
    tree = {"format": KEY_FORMAT, "version": __version__, "trial": sweep.trial}
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def meant(sweep: Sweep, entries: Iterable[Entry]) -> set[str]:
    """The keys of those trials that the sweep's file means, where they are not listed."""
    entries = [replace(entry) for entry in entries]  # a search takes them up
    if sweep.search.method == "tpe":
        return TreeParzen(sweep, entries, finished=lambda entry: entry.state in FINAL).keys
    return take_up(sweep, entries)


def take_up(sweep: Sweep, entries: Iterable[Entry]) -> set[str]:
    """Have those that the search of the sweep's file comes to wait, or not, by its budget; keys."""
    maker = TrialMaker(sweep)
    configs: dict[str, TrialConfig | None] = {}
    known: dict[str, tuple[Entry, TrialConfig]] = {}
    for entry in entries:
        name = json.dumps(entry.point, sort_keys=True)
        if name not in configs:
            configs[name] = maker.resolve(entry.point, [])
        config = configs[name]
        if config and maker.trial(config, entry.point, entry.seed).key == entry.key:
            known[entry.key] = entry, config
    keys = set(_places_of(sweep, (entry for entry, _ in known.values())).values())
    for entry, config in (known[key] for key in keys):
        entry.take_up(config.budget.g_steps)
    return keys


def _places_of(sweep: Sweep, entries: Iterable[Entry]) -> dict[str, str]:
    """The keys of those that the search comes to, by their places in it."""
    known = {_place(entry.point, entry.seed): entry.key for entry in entries}
    found: dict[str, str] = {}
    for point in points_of(sweep):
        if len(found) == len(known):
            break
        places = [_place(point, seed) for seed in sweep.seeds]
        found.update((place, known[place]) for place in places if place in known)
    return found


def _place(point: Mapping[str, Any], seed: int) -> str:
    return json.dumps([point, seed], sort_keys=True)
