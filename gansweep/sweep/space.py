"""The space of a sweep: axes over a trial's keys, and the points that they span."""

from __future__ import annotations

import json
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, final

from gansweep.errors import Problem, nearest
from gansweep.seeding import stream_seed
from gansweep.sweep.whole_keys import keys_of_trial, whole

Assignment = dict[str, Any]
"""A point: the value of each swept key, by its dotted key below `trial`."""

DIGITS = 4
"""Significant digits that a drawn float keeps, so that it can be read and typed again."""

FACTORS = (0.8, 1.2)
"""What a perturbed number is multiplied by (Jaderberg et al. 2017)."""

MOST_COMBINATIONS = 500
"""Combinations among the probes of a space, beside every probe of every axis."""


class Suggests(Protocol):
    """What a domain needs of an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...
    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int) -> int: ...


class Domain(ABC):
    """The values of one axis. Subclasses are frozen dataclasses made from the file's list."""

    @abstractmethod
    def draw(self, rng: random.Random) -> Any:
        """One value."""

    @abstractmethod
    def suggest(self, trial: Suggests, name: str) -> Any:
        """One value that Optuna chooses."""

    @abstractmethod
    def perturb(self, value: Any, rng: random.Random) -> Any:
        """A value of the domain near `value`: population based training explores with it.

        Numbers of an interval are multiplied by one of `FACTORS` and kept within the bounds;
        listed options give a neighbour.
        """

    def inverse(self, value: Any) -> Any:
        """What Optuna must choose for `suggest` to give `value`; None where it cannot."""
        low, high = self.probes()
        return value if isinstance(value, (int, float)) and low <= value <= high else None

    def takes(self, value: Any) -> bool:
        """Whether `value` is none of the probes, and yet may be drawn, one among others."""
        return False

    def every(self) -> Iterable[Any]:
        """All its values, one after the other; none of an interval of floats."""
        return ()

    @abstractmethod
    def probes(self) -> list[Any]:
        """Values that together show every mistake in the domain: all options, or both ends."""


@dataclass(frozen=True)
class _Options(Domain):
    options: tuple[Any, ...]

    def draw(self, rng: random.Random) -> Any:
        return rng.choice(self.options)

    def suggest(self, trial: Suggests, name: str) -> Any:
        return self.options[trial.suggest_categorical(name, range(len(self.options)))]

    def perturb(self, value: Any, rng: random.Random) -> Any:
        """The option before or after `value` in the file's list; any where it is not listed."""
        if value not in self.options:
            return self.draw(rng)
        place = self.options.index(value)
        near = [i for i in (place - 1, place + 1) if 0 <= i < len(self.options)]
        return self.options[rng.choice(near)] if near else value

    def inverse(self, value: Any) -> Any:
        return self.options.index(value) if value in self.options else None

    def every(self) -> Iterable[Any]:
        return self.options

    def probes(self) -> list[Any]:
        return list(self.options)

    @classmethod
    def parse(cls, values: Any) -> Self:
        if not isinstance(values, (list, tuple)) or not values:
            raise ValueError("needs a list of at least one value, as in [a, b]")
        return cls(tuple(values))


@final
class Grid(_Options):
    """Every value, under `search.method: grid`; otherwise a choice."""


@final
class Choice(_Options):
    """One of the values at random."""


@dataclass(frozen=True)
class _Interval(Domain):
    low: float
    high: float

    @classmethod
    def parse(cls, values: Any) -> Self:
        if not isinstance(values, (list, tuple)) or len(values) != 2:
            raise ValueError("needs [low, high]")
        low, high = (_number(value) for value in values)
        if not low < high:
            raise ValueError(f"needs low < high, got [{low}, {high}]")
        if math.isinf(high - low):
            raise ValueError(f"[{low}, {high}] is too wide for floating-point numbers")
        return cls(low, high)

    def perturb(self, value: float, rng: random.Random) -> float:
        return self._rounded(value * rng.choice(FACTORS))

    def probes(self) -> list[Any]:
        return [self.low, self.high]

    def _rounded(self, value: float) -> float:
        # More digits where the interval is narrow beside its place: [10000, 10001].
        place = max(abs(self.low), abs(self.high)) / (self.high - self.low)
        digits = DIGITS + max(0, math.floor(math.log10(place)))
        return min(max(float(f"{value:.{digits}g}"), self.low), self.high)


@final
class Uniform(_Interval):
    """A float between low and high."""

    def draw(self, rng: random.Random) -> float:
        return self._rounded(rng.uniform(self.low, self.high))

    def suggest(self, trial: Suggests, name: str) -> float:
        return self._rounded(trial.suggest_float(name, self.low, self.high))


@final
class LogUniform(_Interval):
    """A float whose logarithm is uniform between those of low and high."""

    @classmethod
    def parse(cls, values: Any) -> Self:
        interval = super().parse(values)
        if not interval.low > 0:
            raise ValueError("needs low > 0 for a logarithmic scale")
        return interval

    def draw(self, rng: random.Random) -> float:
        return self._rounded(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))

    def suggest(self, trial: Suggests, name: str) -> float:
        return self._rounded(trial.suggest_float(name, self.low, self.high, log=True))


@final
@dataclass(frozen=True)
class RandInt(Domain):
    """A whole number from low to high, both included."""

    low: int
    high: int

    @classmethod
    def parse(cls, values: Any) -> Self:
        if not isinstance(values, (list, tuple)) or len(values) != 2:
            raise ValueError("needs [low, high]")
        if any(isinstance(value, bool) or not isinstance(value, int) for value in values):
            raise ValueError("needs whole numbers")
        low, high = values
        if not low <= high:
            raise ValueError(f"needs low <= high, got [{low}, {high}]")
        return cls(low, high)

    def draw(self, rng: random.Random) -> int:
        return rng.randint(self.low, self.high)

    def suggest(self, trial: Suggests, name: str) -> int:
        return trial.suggest_int(name, self.low, self.high)

    def perturb(self, value: int, rng: random.Random) -> int:
        """At least 1 away from `value`, unless that is beyond the bounds."""
        return min(max(_moved(value, rng), self.low), self.high)

    def takes(self, value: Any) -> bool:
        return isinstance(value, int) and self.low < value < self.high

    def every(self) -> Iterable[int]:
        return range(self.low, self.high + 1)

    def probes(self) -> list[Any]:
        return [self.low, self.high]


@final
@dataclass(frozen=True)
class QUniform(Domain):
    """A multiple of step, counted from low, up to high; whole numbers where low and step are."""

    low: float
    high: float
    step: float

    @classmethod
    def parse(cls, values: Any) -> Self:
        if not isinstance(values, (list, tuple)) or len(values) != 3:
            raise ValueError("needs [low, high, step]")
        low, high, step = (_number(value) for value in values)
        if not (low < high and 0 < step <= high - low):
            raise ValueError("needs low < high and 0 < step <= high - low")
        return cls(low, high, step)

    def draw(self, rng: random.Random) -> float:
        return self._value(rng.randint(0, self._steps))

    def suggest(self, trial: Suggests, name: str) -> float:
        return self._value(trial.suggest_int(name, 0, self._steps))

    def perturb(self, value: float, rng: random.Random) -> float:
        """At least one step away from `value`, unless that is beyond the bounds."""
        place = (value - self.low) / self.step
        steps = _moved(place, rng, start=self.low / self.step)
        return self._value(min(max(steps, 0), self._steps))

    def inverse(self, value: Any) -> int | None:
        if super().inverse(value) is None:
            return None
        steps = round((value - self.low) / self.step)
        return steps if math.isclose(self._value(steps), value, abs_tol=1e-12) else None

    def takes(self, value: Any) -> bool:
        steps = self.inverse(value)
        return steps is not None and 0 < steps < self._steps and self._value(steps) == value

    def every(self) -> Iterable[float]:
        return map(self._value, range(self._steps + 1))

    def probes(self) -> list[Any]:
        return [self._value(0), self._value(self._steps)]

    @property
    def _steps(self) -> int:
        return math.floor((self.high - self.low) / self.step + 1e-9)

    def _value(self, steps: int) -> float:
        value = float(f"{self.low + self.step * steps:.12g}")
        whole = self.low.is_integer() and self.step.is_integer()
        return int(value) if whole else value


DOMAINS: dict[str, Any] = {
    "grid": Grid,
    "choice": Choice,
    "uniform": Uniform,
    "loguniform": LogUniform,
    "randint": RandInt,
    "quniform": QUniform,
}


@final
@dataclass(frozen=True)
class Axis:
    """One axis: a domain over the key `name`, or over several keys where values are mappings.

    when: keys and the values that they must have for the axis to apply.
    """

    name: str
    domain: Domain
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    several: bool = False

    def assign(self, value: Any) -> Assignment:
        """The keys that `value` sets."""
        return dict(value) if self.several else {self.name: value}

    @property
    def keys(self) -> set[str]:
        """All keys that the axis may set."""
        if not self.several:
            return {self.name}
        return {key for value in self.domain.probes() for key in value}


@final
@dataclass(frozen=True)
class Space:
    """Axes in an order in which each one's conditions stand before it."""

    axes: tuple[Axis, ...]
    base: Mapping[str, Any]
    """The trial's tree, on which conditions are tested where no axis sets their key."""

    def walk(self, *, samples: int, seed: int) -> Iterator[Assignment]:
        """Every combination of the grid axes, `samples` times with the other axes drawn anew.

        A draw depends on the seed, its axis, its combination and its count alone: an extended
        space leaves the earlier points as they were. Some points may come twice.
        """
        for count in range(samples if self._draws else 1):
            yield from self._expand({}, self.axes, seed, count)

    def every(self, *, seed: int) -> Iterator[Assignment]:
        """All points, one after the other; of an interval of floats each has one value, drawn."""
        yield from self._expand({}, self.axes, seed, 0, whole=True)

    def distinct(self, most: int) -> int:
        """How many points it has, which are different; `most` where there are as many, or more.

        An interval of floats has any number, also where it is under a condition.
        """
        if not all(axis.domain.every() for axis in self.axes):
            return most
        found: set[str] = set()
        for point in self.every(seed=0):
            found.add(json.dumps(point, sort_keys=True))
            if len(found) >= most:
                break
        return len(found)

    def size(self, *, samples: int, seed: int) -> int:
        """How many points `walk` gives; only those that conditions depend on are looked at."""
        deciding = [
            axis
            for axis in self.axes
            if self._decides(axis) or (axis.when and isinstance(axis.domain, Grid))
        ]
        if any(not isinstance(axis.domain, Grid) for axis in deciding):  # it depends on draws
            return sum(1 for _ in self.walk(samples=samples, seed=seed))
        listed = [
            len(axis.domain.options)
            for axis in self.axes
            if axis not in deciding and isinstance(axis.domain, Grid)
        ]
        combined = sum(1 for _ in self._expand({}, deciding, seed, 0))
        return math.prod(listed) * combined * (samples if self._draws else 1)

    @property
    def _draws(self) -> bool:
        return any(not isinstance(axis.domain, Grid) for axis in self.axes)

    def _decides(self, axis: Axis) -> bool:
        """Whether another axis applies or not by what this one sets."""
        keys = [key for other in self.axes for key in other.when]
        return any(_touches(key, axis.keys) or _within(key, axis.keys) for key in keys)

    def draw(self, seed: int, count: int) -> Assignment:
        """The point number `count` of a random search: every axis has a stream of its own."""
        point: Assignment = {}
        for axis in self.axes:
            if self._applies(axis, point):
                rng = random.Random(stream_seed(seed, "axis", axis.name, count))
                point.update(axis.assign(axis.domain.draw(rng)))
        return point

    def suggest(self, trial: Suggests) -> Assignment:
        """A point that Optuna chooses, axis by axis under the conditions."""
        point: Assignment = {}
        for axis in self.axes:
            if self._applies(axis, point):
                point.update(axis.assign(axis.domain.suggest(trial, axis.name)))
        return point

    def inverse(self, point: Assignment) -> dict[str, Any] | None:
        """What Optuna must choose, by axis, for `suggest` to give `point`; None where it cannot."""
        chosen = {}
        rest = set(point)
        for axis in self.axes:
            if not self._applies(axis, point):
                continue
            value = point.get(axis.name)
            if axis.several:
                fitting = (v for v in axis.domain.probes() if v.items() <= point.items())
                value = max(fitting, key=len, default=None)  # one may be a part of another
            chosen[axis.name] = axis.domain.inverse(value)
            if chosen[axis.name] is None:
                return None
            rest -= set(axis.assign(value))
        return None if rest else chosen

    def probes(self) -> Iterator[Assignment]:
        """Points that together take every probe of every axis, to be checked beforehand."""
        for target in self.axes:
            for turn, value in enumerate(target.domain.probes()):
                point = self.reach(target, turn)
                if point is not None:
                    yield self._completed({**point, **target.assign(value)}, target, turn)
        widest = max((len(axis.domain.probes()) for axis in self.axes), default=0)
        turns = min(widest * (len(self.axes) + 1), max(widest, MOST_COMBINATIONS))
        for turn in range(turns):  # other combinations, a sample
            yield self._completed({}, None, turn, shift=turn // widest)

    def reach(self, target: Axis, turn: int = 0) -> Assignment | None:
        """A point of the axes before `target` under which it applies; None where it never does."""
        before = self.axes[: self.axes.index(target)]
        deciding: dict[str, list[Any]] = {}  # axes, with what conditions ask of them
        conditions = dict(target.when)
        for axis in reversed(before):
            if any(_touches(key, axis.keys) or _within(key, axis.keys) for key in conditions):
                deciding[axis.name] = list(conditions.get(axis.name, ()))
                for key, values in axis.when.items():
                    conditions[key] = (*conditions.get(key, ()), *values)
        paths = self._paths({}, before, deciding, turn)
        return next((point for point in paths if self._applies(target, point)), None)

    def at_axis(self, problem: Problem) -> Problem:
        """A problem of a swept key, or of what it lies in, under the axis that sets it."""
        key = problem.where.removeprefix("trial.")
        for axis in self.axes:
            if key in axis.keys or ("." in key and _within(key, axis.keys)):
                return Problem(f"space.{axis.name}", f"{key} {problem.what}", problem.remedy)
        return problem

    def _paths(
        self, point: Assignment, axes: Sequence[Axis], deciding: Mapping[str, list[Any]], turn: int
    ) -> Iterator[Assignment]:
        if not axes:
            yield point
            return
        axis, rest = axes[0], axes[1:]
        values: list[Any] = [None]
        if self._applies(axis, point):
            values = axis.domain.probes()
            if axis.name in deciding:
                values += filter(axis.domain.takes, deciding[axis.name])
            else:
                values = [values[turn % len(values)]]
            values = [axis.assign(value) for value in values]
        for assigned in values:
            yield from self._paths({**point, **(assigned or {})}, rest, deciding, turn)

    def _completed(
        self, point: Assignment, after: Axis | None, turn: int, shift: int = 0
    ) -> Assignment:
        point = dict(point)
        start = self.axes.index(after) + 1 if after else 0
        for place, axis in enumerate(self.axes[start:], start=start):
            if self._applies(axis, point):
                values = axis.domain.probes()
                point.update(axis.assign(values[(turn + shift * place) % len(values)]))
        return point

    def _expand(
        self,
        point: Assignment,
        axes: Sequence[Axis],
        seed: int,
        count: int,
        *,
        whole: bool = False,
    ) -> Iterator[Assignment]:
        """`whole`: with every value of other axes than those of a grid, too."""
        if not axes:
            yield point
            return
        axis, rest = axes[0], axes[1:]
        if not self._applies(axis, point):
            yield from self._expand(point, rest, seed, count, whole=whole)
            return
        values = axis.domain.every() if whole or isinstance(axis.domain, Grid) else ()
        if not values:
            place = json.dumps(point, sort_keys=True)
            values = [
                axis.domain.draw(random.Random(stream_seed(seed, "axis", axis.name, place, count)))
            ]
        for value in values:
            yield from self._expand({**point, **axis.assign(value)}, rest, seed, count, whole=whole)

    def _applies(self, axis: Axis, point: Assignment) -> bool:
        return all(
            lookup(point, key, lookup_tree(self.base, key)) in values
            for key, values in axis.when.items()
        )


def parse_space(
    tree: Mapping[str, Any],
    base: Mapping[str, Any],
    sections: Sequence[str],
    problems: list[Problem],
) -> Space:
    """The space of a file's `space:`; mistakes go to `problems` under `space.AXIS`.

    base: the trial's tree; sections: the valid first parts of a key.
    """
    axes = []
    for name, body in tree.items():
        if body is None:  # a child file removes an axis of its base with null
            continue
        axis = _parse_axis(str(name), body, base, sections, problems)
        if axis:
            axes.append(axis)
    setters: dict[str, str] = {}
    for axis in axes:
        for key in axis.keys & setters.keys():
            if not axis.when:
                problems.append(
                    Problem(f"space.{axis.name}", f"sets {key}, as the axis {setters[key]} does")
                )
        setters.update(dict.fromkeys(axis.keys, axis.name))
    space = Space(_ordered(axes, problems), base)
    problems.extend(_keys_in_values(space))
    if not problems:
        problems.extend(_idle_axes(space))
    return space


def _keys_in_values(space: Space) -> Iterator[Problem]:
    """Keys below a setting that has a value: `apply` would drop them without a word."""
    given = [axis.assign(value) for axis in space.axes for value in axis.domain.probes()]
    for axis in space.axes:
        for key in sorted(axis.keys):
            parts = key.split(".")
            for above in (".".join(parts[:count]) for count in range(2, len(parts))):
                values = [lookup_tree(space.base, above), *(point.get(above) for point in given)]
                single = [v for v in values if v is not None and not isinstance(v, Mapping)]
                if single:
                    what = f"{above} is {single[0]!r}, which nothing can lie in"
                    yield Problem(f"space.{axis.name}", what, f"sweep {above} itself")


def _idle_axes(space: Space) -> Iterator[Problem]:
    """Conditions that never hold: a misspelt one would drop its axis without a word."""
    for axis in space.axes:
        if space.reach(axis) is not None:
            continue
        settable = {key for other in space.axes for key in other.keys}
        for key in axis.when:
            if not (_touches(key, settable) or lookup_tree(space.base, key) is not None):
                what = f"nothing in the file sets {key!r}, neither trial nor space (what a preset "
                what += "or a variant has by itself does not count)"
                yield Problem(f"space.{axis.name}.when", what, nearest(key, sorted(settable)))
                break
        else:
            words = ", ".join(f"{key}: {list(values)}" for key, values in axis.when.items())
            remedy = f"correct it, or leave the axis out: space.{axis.name}=null"
            yield Problem(f"space.{axis.name}.when", f"never holds: {words}", remedy)


def _parse_axis(
    name: str,
    body: Any,
    base: Mapping[str, Any],
    sections: Sequence[str],
    problems: list[Problem],
) -> Axis | None:
    at = f"space.{name}"
    kinds = ", ".join(DOMAINS)
    if not isinstance(body, Mapping):
        problems.append(Problem(at, f"is {body!r}, must be like {{grid: [...]}}", kinds))
        return None
    rest = {key: value for key, value in body.items() if key != "when"}
    unknown = [str(key) for key in rest if key not in DOMAINS]
    if unknown:
        inner = rest.get(unknown[0])
        if isinstance(inner, Mapping) and DOMAINS.keys() & inner.keys():
            what, key = f"holds {unknown[0]!r}, and the key of an axis is dotted", unknown[0]
            problems.append(Problem(at, what, f"write {name}.{key}: {{{next(iter(inner))}: ...}}"))
            return None
        hint = nearest(unknown[0], list(DOMAINS))
        problems.append(Problem(at, f"unknown distribution {unknown[0]!r}", hint))
        return None
    if len(rest) != 1:
        problems.append(Problem(at, "needs exactly one distribution", f"one of {kinds}"))
        return None
    kind, values = next(iter(rest.items()))
    try:
        domain: Domain = DOMAINS[kind].parse(values)
    except ValueError as error:
        problems.append(Problem(f"{at}.{kind}", str(error)))
        return None
    when = _parse_when(body.get("when") or {}, at, problems)
    options = domain.probes()
    root = name.split(".")[0]
    several = root not in sections and all(isinstance(option, Mapping) for option in options)
    for key in {key for option in options for key in option} if several else {name}:
        if str(key).split(".")[0] not in sections:
            head, _, rest_of_key = str(key).partition(".")
            near = whole(str(key), keys_of_trial(base)) or nearest(head, list(sections))
            remedy = f"write {rest_of_key}" if head == "trial" else near
            problems.append(Problem(at, f"{key!r} names no setting of a trial", remedy))
            return None
    return Axis(name, domain, when, several)


def _parse_when(when: Any, at: str, problems: list[Problem]) -> dict[str, tuple[Any, ...]]:
    if not isinstance(when, Mapping):
        problems.append(Problem(f"{at}.when", "must be like {model.name: wgan}"))
        return {}
    return {
        str(key): tuple(value) if isinstance(value, (list, tuple)) else (value,)
        for key, value in when.items()
    }


def _ordered(axes: Sequence[Axis], problems: list[Problem]) -> tuple[Axis, ...]:
    """The axes with each behind those that set the keys of its conditions; else as in the file."""
    ordered: list[Axis] = []
    waiting = list(axes)
    while waiting:
        later = {id(axis): axis.keys for axis in waiting}
        ready = next(
            (
                axis
                for axis in waiting
                if not any(
                    _touches(key, keys)
                    for key in axis.when
                    for other, keys in later.items()
                    if other != id(axis)
                )
            ),
            None,
        )
        if ready is None:
            names = ", ".join(axis.name for axis in waiting)
            problems.append(Problem("space", f"the conditions of {names} wait for each other"))
            return tuple(axes)
        waiting.remove(ready)
        ordered.append(ready)
    return tuple(ordered)


def _touches(key: str, keys: set[str]) -> bool:
    return any(key == other or key.startswith(other + ".") for other in keys)


def _within(key: str, keys: set[str]) -> bool:
    return any(other.startswith(key + ".") for other in keys)


def lookup(point: Assignment, key: str, default: Any) -> Any:
    """The value that a point gives to `key`, also inside a section that it sets as a whole."""
    if key in point:
        return point[key]
    for other, value in point.items():
        if key.startswith(other + ".") and isinstance(value, Mapping):
            return lookup_tree(value, key[len(other) + 1 :])
    return default


def lookup_tree(tree: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key in nested mappings; None where there is none."""
    value: Any = tree
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def apply(tree: Mapping[str, Any], point: Assignment) -> dict[str, Any]:
    """A copy of `tree` with the point's keys set; a value that is a mapping replaces a section.

    Whole sections are set first, single keys within them afterwards. A key below something that
    is no section is left out, for the check of `tree` to name the mistake.
    """
    result = dict(tree)
    for key, value in sorted(point.items(), key=lambda item: item[0].count(".")):
        *parents, last = key.split(".")
        node: Any = result
        for part in parents:
            child = node.get(part)
            if child is not None and not isinstance(child, Mapping):
                node = {}
                break
            node[part] = dict(child or {})
            node = node[part]
        node[last] = dict(value) if isinstance(value, Mapping) else value
    return result


def _moved(place: float, rng: random.Random, *, start: float = 0.0) -> int:
    """The lattice's place nearest to a factor times `start + place`; never that of `place`."""
    factor = rng.choice(FACTORS)
    away = round((start + place) * (factor - 1))
    return round(place) + (away or (1 if factor > 1 else -1))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"needs finite numbers, got {value!r}")
    return float(value)
