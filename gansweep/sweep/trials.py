"""The trials of a sweep: points and seeds, resolved, named, and checked before anything starts."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from torch import nn

from gansweep.assembly import (
    advise,
    check_engine,
    fitting,
    load_samples,
    on_classes,
    try_parts,
)
from gansweep.config import NOT_IDENTITY, ROLES, TrialConfig, resolve
from gansweep.counting import counted
from gansweep.errors import ConfigError, Problem, nearest, noting
from gansweep.presets import PRESETS
from gansweep.reference import try_scores
from gansweep.sweep.file import Sweep
from gansweep.sweep.logged import GROUPS, logged
from gansweep.sweep.params import flatten
from gansweep.sweep.schedulers.catalogue import grace
from gansweep.sweep.schedulers.pbt import generation_interval
from gansweep.sweep.space import Assignment, Axis, Choice, Grid, QUniform, apply

MOST_LISTED = 1000
"""Trials of a sweep up to which each one is made and checked beforehand, and listed in the plan."""


@final
@dataclass(frozen=True)
class Trial:
    """One point with one seed."""

    config: TrialConfig
    point: Assignment
    name: str

    @property
    def key(self) -> str:
        return self.config.key

    @property
    def seed(self) -> int:
        return self.config.run.seed


@final
class TrialMaker:
    """Makes the trials of a sweep, one by one."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._names = Names(sweep)

    def resolve(self, point: Assignment, problems: list[Problem]) -> TrialConfig | None:
        """The point's settings with the first seed; None where mistakes went to `problems`."""
        sweep = self._sweep
        found: list[Problem] = []
        config = resolve(apply(sweep.trial, {**point, "seed": sweep.seeds[0]}), found)
        problems.extend(sweep.space.at_axis(problem) for problem in found)
        return config

    def trial(self, config: TrialConfig, point: Assignment, seed: int) -> Trial:
        """The trial of a point and a seed; `config` is the point's with any seed."""
        config = replace(config, run=replace(config.run, seed=seed))
        return Trial(config, point, self._names.of(point, seed))


def make_trials(
    sweep: Sweep,
    points: Iterable[Assignment],
    problems: list[Problem],
    *,
    seeds: Sequence[int] | None = None,
) -> list[Trial]:
    """Every point with every seed; trials of equal key are one. Mistakes go to `problems`."""
    maker = TrialMaker(sweep)
    trials: dict[str, Trial] = {}
    for point in points:
        config = maker.resolve(point, problems)
        if config is None:
            continue
        for seed in sweep.seeds if seeds is None else seeds:
            trial = maker.trial(config, point, seed)
            trials.setdefault(trial.key, trial)
    return list(trials.values())


def is_listed(sweep: Sweep) -> bool:
    """Whether all trials are made, and checked, before the first one starts.

    Else examples are, and each trial is made when its turn has come.
    """
    search = sweep.search
    if search.method == "tpe":
        return False
    return search.scheduler == "pbt" or trial_count(sweep) <= MOST_LISTED


def trial_count(sweep: Sweep) -> int:
    """How many trials the sweep has, at most: points may come twice, and trials be equal."""
    return point_count(sweep) * len(sweep.seeds)


def point_count(sweep: Sweep) -> int:
    """How many points; a grid or random search may come to one twice, which TPE is not given."""
    search = sweep.search
    if search.method == "grid":
        return sweep.space.size(samples=search.samples, seed=search.seed)
    if search.method == "tpe":
        return sweep.space.distinct(search.samples)
    return search.samples


def points_of(sweep: Sweep) -> Iterator[Assignment]:
    """The points of a grid or random search, one after the other."""
    search, space = sweep.search, sweep.space
    if search.method == "grid":
        return space.walk(samples=search.samples, seed=search.seed)
    return (space.draw(search.seed, count) for count in range(search.samples))


def planned(sweep: Sweep, *, listed: bool | None = None) -> list[Trial]:
    """All trials of a grid or random search, or, where they are not listed, examples of them.

    The examples span the space: they take every listed value, and both ends of every interval.
    listed: whether they are, whatever `is_listed` says. Raises ConfigError with every mistake in
    the trials' settings.
    """
    search, space = sweep.search, sweep.space
    if search.method == "tpe" and importlib.util.find_spec("optuna") is None:
        remedy = 'pip install "gansweep[tpe]"'
        raise ConfigError.single("search.method", "tpe needs Optuna", remedy)
    if search.method == "tpe" and search.scheduler == "pbt":
        what = "tpe chooses settings by how trials end, which pbt changes in mid-training"
        raise ConfigError.single("search.method", what, "random or grid, or another scheduler")
    problems = list(_vain_axes(sweep))
    listed = is_listed(sweep) if listed is None else listed
    points = _distinct(points_of(sweep)) if listed else list(space.probes()) or [{}]
    # What decides on mistakes is not the seed; a large sweep may be one of seeds alone.
    of_all = listed or search.method == "tpe"
    trials = make_trials(sweep, points, problems, seeds=None if of_all else sweep.seeds[:1])
    if not problems:
        problems.extend(_metric_problems(sweep, trials))
    if not problems and search.scheduler == "pbt":
        problems.extend(_population_problems(sweep, trials))
    if not problems:
        problems.extend(_device_problems(sweep, trials))
        problems.extend(_process_problems(sweep, trials))
    if not problems and not sweep.space.axes and len(sweep.seeds) == 1:
        problems.append(
            Problem("space", "is empty: one trial is no sweep", "use gansweep train, or add seeds")
        )
    if not problems and search.scheduler == "pbt" and len(_shapes(sweep, trials)) > 1:
        what = "a population's trials must be equal but for numbers, none 0 where another's is not"
        problems.append(Problem("space", what, "leave 0 out of momentum and weight_decay"))
    if problems:
        raise ConfigError(problems)
    return trials


def _vain_axes(sweep: Sweep) -> Iterator[Problem]:
    """Axes over what does not decide what a trial learns: all their values are one trial."""
    for axis in sweep.space.axes:
        if all(key.partition(".")[0] in NOT_IDENTITY for key in axis.keys):
            what = f"{' and '.join(sorted(axis.keys))} does not change what a trial learns, so that"
            what += " all its values are the same trial"
            yield Problem(f"space.{axis.name}", what, "make a sweep of each value, named apart")
        elif all(_of_both(key) for key in axis.keys) and not _tells_apart(sweep, axis):
            what = f"{' and '.join(sorted(axis.keys))} is under what generator and discriminator"
            what += " have of their own, so that all its values are the same trial"
            remedy = "sweep optimizer.generator or optimizer.discriminator, or take theirs away"
            yield Problem(f"space.{axis.name}", what, remedy)


def _of_both(key: str) -> bool:
    """Whether it is a setting of both optimizers, over which each may have its own."""
    section, _, rest = key.partition(".")
    return section == "optimizer" and rest.partition(".")[0] not in ("", *ROLES)


def _tells_apart(sweep: Sweep, axis: Axis) -> bool:
    """Whether some trial is another one for another value of the axis; so where it has but one."""
    values = [axis.assign(value) for value in axis.domain.probes()]
    if len(_distinct(values)) == 1:
        return True
    maker = TrialMaker(sweep)
    for point in sweep.space.probes():
        keys = set()
        for value in values if axis.keys & point.keys() else ():
            config = maker.resolve({**point, **value}, [])
            keys.add(config.key if config else None)  # None: a mistake, told as such
            if len(keys) > 1 or None in keys:
                return True
    return False


def _distinct(points: Iterable[Assignment]) -> list[Assignment]:
    return list({json.dumps(point, sort_keys=True): point for point in points}.values())


def _metric_problems(sweep: Sweep, trials: Sequence[Trial]) -> list[Problem]:
    metric = sweep.search.metric
    group, _, _ = metric.partition("/")
    if group in GROUPS and sweep.search.scheduler == "none":
        return _logged_problems(metric, trials) + _unsaid_mode(sweep)
    for trial in trials:
        modes = {f"score/{score.name}": score.mode for score in trial.config.scores}
        score = metric.removeprefix("best/")
        if score not in modes:
            what = f"{metric!r} is no score of the trials"
            if group in GROUPS:
                what = f"{metric!r} cannot drive a scheduler, which decides on scores"
            return [Problem("search.metric", what, f"one of {', '.join(modes)}")]
        if sweep.search.mode != modes[score]:
            better = "smaller" if modes[score] == "min" else "larger"
            what = f"is {sweep.search.mode}, and of {metric} {better} is better"
            return [Problem("search.mode", what, f"set mode: {modes[score]}")]
    data = {json.dumps(scored_data(trial.config), sort_keys=True) for trial in trials}
    if len(data) > 1 and (sweep.search.scheduler != "none" or sweep.search.method == "tpe"):
        what = f"values of {metric} on several data sets cannot be compared, as the search would"
        return [Problem("search.metric", what, "make a sweep of each data set")]
    return []


def _unsaid_mode(sweep: Sweep) -> list[Problem]:
    """That a metric which is no score ranks by the default: nothing says that it is right."""
    if "mode" in sweep.tree["search"]:
        return []
    what = f"whether smaller or larger values of {sweep.search.metric} are better is not known"
    return [Problem("search.mode", what, "set it: min or max")]


def _logged_problems(metric: str, trials: Sequence[Trial]) -> list[Problem]:
    """That no trial logs `metric`: at least one must."""
    known: set[str] = set()
    for config in {str(trial.config.model): trial.config for trial in trials}.values():
        names = logged(config)
        if names is None or metric in names:
            return []
        known.update(names)
    group = metric.partition("/")[0]
    choices = sorted(name for name in known if name.startswith(f"{group}/"))
    near = nearest(metric, choices)
    return [Problem("search.metric", f"{metric!r} is logged by no trial", near)]


def scored_data(config: TrialConfig) -> dict[str, Any]:
    """What decides which real samples a score compares with."""
    return {k: v for k, v in config.data.to_dict().items() if k != "batch_size"}


def compared_across(sweep: Sweep) -> list[str]:
    """The keys of fingerprints that the sweep's own space varies: it asks how these compare."""
    swept = {key.partition(".")[0] for axis in sweep.space.axes for key in axis.keys}
    averaged = {
        "ema" in PRESETS[name].trial
        for axis in sweep.space.axes
        if "preset" in axis.keys and "ema" not in sweep.trial
        for value in axis.domain.probes()
        if (name := axis.assign(value).get("preset", sweep.trial.get("preset"))) in PRESETS
    }
    return ["ema"] if "ema" in swept or len(averaged) > 1 else []


def idle_scheduler(sweep: Sweep, trials: Iterable[Trial]) -> list[str]:
    """A word on ASHA or the median rule where no score comes in time for it to stop a trial."""
    search = sweep.search
    if search.scheduler not in ("asha", "median"):
        return []
    told = {}
    for config in (trial.config for trial in trials):
        budget, every = config.budget.g_steps, config.score_every
        first = grace(search, budget)
        if -(-first // every) * every < budget:  # the last score decides nothing
            return []
        told[budget, every] = (
            f"{search.scheduler} stops no trial: it would by scores from g_step {first} to before "
            f"{budget}, and they come every {counted(every, 'g_step')}: lower score.every or "
            "search.grace"
        )
    return list(told.values())


def _population_problems(sweep: Sweep, trials: Sequence[Trial]) -> list[Problem]:
    """What population based training cannot vary: it changes settings between generator steps."""
    problems = []
    if len(trials) < 2:
        what = "pbt is for a population, and the sweep has one trial"
        problems.append(Problem("search.scheduler", what, "raise search.samples, or add values"))
    scalars = {name for trial in trials for name in _scalars(trial.config)}
    swept = {key for axis in sweep.space.axes for key in assigned(axis)}
    for axis in sweep.space.axes:
        at = f"space.{axis.name}"
        for key in sorted(assigned(axis)):
            if key not in scalars:
                what = f"{key} cannot change in mid-training, as pbt would have it"
                remedy = "only float settings of model and optimizer can: take this axis out, or \
use another scheduler"
                problems.append(Problem(at, what, remedy))
        if len({frozenset(flatten(axis.assign(v))) for v in axis.domain.probes()}) > 1:
            what = "its values set different keys, and pbt moves a trial from one to another"
            problems.append(Problem(at, what, "let every value set the same keys"))
        for key in sorted(swept & axis.when.keys()):
            what = f"depends on {key}, which pbt changes in mid-training"
            problems.append(Problem(f"{at}.when", what, "leave the condition out"))
    if not problems:
        problems.extend(_generation_problems(sweep, trials))
    return problems


def _shapes(sweep: Sweep, trials: Sequence[Trial]) -> set[str]:
    """The shapes of a population's trials, as they begin and as pbt may change them.

    An interval's bounds are drawn by no trial, and may be 0.
    """
    maker, points = TrialMaker(sweep), [trial.point for trial in trials]
    for axis in sweep.space.axes:
        if isinstance(axis.domain, (Grid, Choice, QUniform)):
            points += [{**trials[0].point, **axis.assign(v)} for v in axis.domain.probes()]
    found = (maker.resolve(point, []) for point in points)
    return {config.shape for config in found if config}


def _generation_problems(sweep: Sweep, trials: Sequence[Trial]) -> list[Problem]:
    """Generations of pbt that have no score, or none at all before the budget's end."""
    config = trials[0].config  # pbt varies neither budget nor scores
    budget, every = config.budget.g_steps, config.score_every
    interval = generation_interval(sweep.search, budget)
    if interval % every:
        steps = counted(interval, "g_step")
        what = f"a generation of pbt every {steps}, and scores every {every}"
        remedy = f"set search.interval to a multiple of {every}, or score.every to {interval}"
        return [Problem("search.interval", what, remedy)]
    if interval >= budget:
        steps = counted(budget, "g_step")
        what = f"is {interval}: no generation of pbt before the budget of {steps} ends"
        return [Problem("search.interval", what, f"at most {budget - 1}, better a tenth of it")]
    return []


def assigned(axis: Axis) -> set[str]:
    """The keys that an axis may set, those within a section that it sets as a whole included."""
    return {key for value in axis.domain.probes() for key in flatten(axis.assign(value))}


def _scalars(config: TrialConfig) -> set[str]:
    """The float settings of model and optimizer, by the keys that a sweep file may give them."""
    flat = flatten(config.to_dict())
    names = {
        name
        for name, value in flat.items()
        if isinstance(value, float) and name.startswith(("model.", "optimizer."))
    }
    of_role = [{n.partition(f".{r}.")[2] for n in names if f".{r}." in n} for r in ROLES]
    return names | {f"optimizer.{name}" for name in set.intersection(*of_role)}


def _device_problems(sweep: Sweep, trials: Sequence[Trial]) -> list[Problem]:
    """Ray hides the GPUs from a worker that asked for none."""
    if not sweep.resources.least_gpu and any(t.config.run.device == "cuda" for t in trials):
        return [Problem("trial.device", "is cuda, and resources.gpu is 0", "set resources.gpu")]
    return []


def _process_problems(sweep: Sweep, trials: Sequence[Trial]) -> list[Problem]:
    """Batches that several processes cannot share, and steps that are to be compiled."""
    count = sweep.resources.processes
    if count == 1:
        return []
    problems = []
    wrong = {
        (t.config.data.settings.batch_size, t.config.model.settings.pac)
        for t in trials
        if t.config.data.settings.batch_size % (count * t.config.model.settings.pac)
    }
    for size, pac in sorted(wrong):
        judged = f", {pac} samples at a time" if pac > 1 else ""
        what = f"is {size}, which {count} processes cannot share equally{judged}"
        remedy = f"a multiple of {count * pac}"
        problems.append(Problem("trial.data.batch_size", what, remedy))
    if any(t.config.run.compile == "true" for t in trials):
        what = f"is true, and the step of {count} processes cannot be compiled"
        problems.append(Problem("trial.compile", what, "leave it out"))
    return problems


def check_data(
    trials: Sequence[Trial], *, stacked: bool = False, processes: int = 1
) -> dict[str, list[str]]:
    """Prepares every data set and tries every network and score on it: advice by trial key.

    stacked: whether the trials are to train stacked. processes: that train each of them. Raises
    ConfigError with every mistake in data, networks, scores and engine.
    """
    problems: list[Problem] = []
    advice: dict[str, list[str]] = {}
    by_data: dict[str, list[TrialConfig]] = {}
    for trial in trials:
        by_data.setdefault(str(trial.config.data), []).append(trial.config)
    for configs in by_data.values():
        try:
            samples = load_samples(configs[0])
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        spec, classes = samples.spec, on_classes(samples)
        fits: dict[str, nn.Module | None] = {}  # what trials of one shape have in common
        tried: dict[str, list[str]] = {}
        verdicts: dict[str, list[str]] = {}
        for config in configs:
            conditional = config.model.settings.conditional
            if config.shape not in fits:
                fits[config.shape] = None
                with noting(problems):
                    try_parts(config, spec)
                with noting(problems):
                    fits[config.shape] = fitting(config, spec, processes=processes)
                    check_engine(config, spec, stacked=stacked)
            scores = str((config.scores, config.score, conditional))
            if scores not in tried:
                tried[scores] = []
                with noting(problems):
                    tried[scores] = try_scores(config, samples)
            discriminator = fits[config.shape]
            numbers = str((config.shape, config.model, config.d_optimizer))
            if numbers not in verdicts:
                verdicts[numbers] = []
                with noting(problems):
                    verdicts[numbers] = advise(config, discriminator) if discriminator else []
            labelled = classes if conditional else []
            advice[config.key] = verdicts[numbers] + labelled + tried[scores]
    if problems:
        raise ConfigError(problems)
    return advice


@final
class Names:
    """Tells the trials of a sweep apart: `clip=0.01 lr=5e-05 rmsprop`."""

    def __init__(self, sweep: Sweep) -> None:
        self._seeds = len(sweep.seeds) > 1
        telling = dict.fromkeys(key for axis in sweep.space.axes for key in telling_keys(axis))
        self._short = {
            key: "" if key.endswith(".name") or key == "preset" else short_key(key, list(telling))
            for key in telling
        }

    def of(self, point: Mapping[str, Any], seed: int) -> str:
        """What differs from the other trials of the sweep."""
        values = flatten(point)
        words = [
            f"{short}={format_value(values[key])}" if short else str(values[key])
            for key, short in self._short.items()
            if key in values
        ]
        if self._seeds or not words:
            words.append(f"seed={seed}")
        return " ".join(words)


def telling_keys(axis: Axis) -> list[str]:
    """The fewest keys, names before others, that tell the options of an axis apart."""
    options = [flatten(axis.assign(value)) for value in axis.domain.probes()]
    keys = dict.fromkeys(key for option in options for key in option)
    ordered = sorted(keys, key=lambda key: not key.endswith(".name"))
    telling: list[str] = []
    told = 1
    for key in ordered:
        count = len({repr([option.get(each) for each in [*telling, key]]) for option in options})
        if count > told:
            telling.append(key)
            told = count
    return telling or ordered[:1]


def short_key(key: str, keys: Sequence[str]) -> str:
    """The shortest end of a dotted key that no other key of `keys` ends with."""
    parts = key.split(".")
    for length in range(1, len(parts)):
        tail = ".".join(parts[-length:])
        if sum(other == tail or other.endswith("." + tail) for other in keys) <= 1:
            return tail
    return key


def format_value(value: Any) -> str:
    """A value as a person would write it: floats with 4 significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
