"""The trials of a sweep: points and seeds, resolved, named, and checked before anything starts."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from gansweep.assembly import check_fit, load_samples
from gansweep.config import TrialConfig, resolve
from gansweep.dataspec import DataSpec
from gansweep.errors import ConfigError, Problem
from gansweep.sweep.file import Sweep
from gansweep.sweep.params import flatten
from gansweep.sweep.space import Assignment, Axis, apply


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


def make_trials(sweep: Sweep, points: Iterable[Assignment], problems: list[Problem]) -> list[Trial]:
    """Every point with every seed; trials of equal key are one. Mistakes go to `problems`."""
    trials: dict[str, Trial] = {}
    for point in points:
        for seed in sweep.seeds:
            found: list[Problem] = []
            config = resolve(apply(sweep.trial, {**point, "seed": seed}), found)
            problems.extend(sweep.space.at_axis(problem) for problem in found)
            if config:
                trials.setdefault(config.key, Trial(config, point, trial_name(point, seed, sweep)))
    return list(trials.values())


def planned(sweep: Sweep) -> list[Trial]:
    """All trials of a grid or random search, or, of a search by TPE, examples that span its space.

    Raises ConfigError with every mistake in the trials' settings.
    """
    search, space = sweep.search, sweep.space
    if search.method == "tpe" and importlib.util.find_spec("optuna") is None:
        remedy = 'pip install "gansweep[tpe]"'
        raise ConfigError.single("search.method", "tpe needs Optuna", remedy)
    methods: dict[str, Callable[[], list[Assignment]]] = {
        "grid": lambda: space.grid(samples=search.samples, seed=search.seed),
        "random": lambda: space.random(samples=search.samples, seed=search.seed),
        "tpe": lambda: list(space.probes()) or [{}],
    }
    points = methods[search.method]()
    problems: list[Problem] = []
    trials = make_trials(sweep, points, problems)
    if not problems:
        problems.extend(_metric_problems(sweep, trials))
    if not problems:
        problems.extend(_device_problems(sweep, trials))
    if not problems and not sweep.space.axes and len(sweep.seeds) == 1:
        problems.append(
            Problem("space", "is empty: one trial is no sweep", "use gansweep train, or add seeds")
        )
    if problems:
        raise ConfigError(problems)
    return trials


def _metric_problems(sweep: Sweep, trials: Sequence[Trial]) -> list[Problem]:
    metric = sweep.search.metric
    group, _, _ = metric.partition("/")
    if group in ("loss", "d", "time") and sweep.search.scheduler == "none":
        return []
    for trial in trials:
        scores = [f"score/{score.name}" for score in trial.config.scores]
        if metric not in scores:
            what = f"{metric!r} is no score of the trials"
            if group in ("loss", "d", "time"):
                what = f"{metric!r} cannot drive a scheduler, which decides on scores"
            return [Problem("search.metric", what, f"one of {', '.join(scores)}")]
    return []


def _device_problems(sweep: Sweep, trials: Sequence[Trial]) -> list[Problem]:
    """Ray hides the GPUs from a worker that asked for none."""
    if sweep.resources.gpu == 0 and any(t.config.run.device == "cuda" for t in trials):
        return [Problem("trial.device", "is cuda, and resources.gpu is 0", "set resources.gpu")]
    return []


def check_data(trials: Sequence[Trial]) -> dict[str, list[str]]:
    """Prepares every data set and tries every network on it: advice by trial key.

    Raises ConfigError with every mistake in data and networks.
    """
    problems: list[Problem] = []
    specs: dict[str, DataSpec | None] = {}
    verdicts: dict[str, list[str]] = {}
    advice = {}
    for trial in trials:
        config = trial.config
        data = str(config.data.to_dict())
        if data not in specs:
            specs[data] = None
            try:
                specs[data] = load_samples(config).spec
            except ConfigError as error:
                problems.extend(error.problems)
        spec = specs[data]
        if spec is None:
            continue
        shape = str((data, config.model, config.network, config.latent, config.d_optimizer))
        if shape not in verdicts:
            verdicts[shape] = []
            try:
                verdicts[shape] = check_fit(config, spec)
            except ConfigError as error:
                problems.extend(error.problems)
        advice[trial.key] = verdicts[shape]
    if problems:
        raise ConfigError(problems)
    return advice


def trial_name(point: Mapping[str, Any], seed: int, sweep: Sweep) -> str:
    """What differs from the other trials of the sweep: `clip=0.01 lr=5e-05 rmsprop`."""
    axes = sweep.space.axes
    telling = dict.fromkeys(key for axis in axes for key in telling_keys(axis))
    values = flatten(point)
    words = [
        str(values[key])
        if key.endswith(".name")
        else f"{short_key(key, list(telling))}={format_value(values[key])}"
        for key in telling
        if key in values
    ]
    if len(sweep.seeds) > 1 or not words:
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
