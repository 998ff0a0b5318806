"""Reading a sweep file: YAML with a base, overrides on top, every mistake reported at once.

The schema of a trial is imported only where it is asked: it imports torch, which takes seconds.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gansweep.errors import ConfigError, Problem, nearest
from gansweep.excerpt import beginning
from gansweep.redaction import secret_keys
from gansweep.settings import fill, setting
from gansweep.sweep.expansion import MOST, NESTED, spelt_out
from gansweep.sweep.limits import LIMITS, Limits, read_limits
from gansweep.sweep.space import DOMAINS, Space, apply, lookup_tree, parse_space
from gansweep.sweep.whole_keys import keys_of_section, keys_of_trial, whole

TOP = ("name", "base", "trial", "space", "search", "seeds", "resources", *LIMITS)
KEYS = "name, trial"
"""Some of a sweep file's."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


ODD_NUMBER = re.compile(r"(?<![\w.:'\"-])(?:0[0-7_]+|[1-9][\d_]*(?::[0-5]?\d)+)(?![\w.:'\"])")
"""What YAML 1.1 counts in eights or in sixties: `010` is 8, and `1:30` is 90."""

MOST_BYTES = 2_000_000
"""Of a sweep file."""

MOST_TRIALS = 100_000
"""Bound of `samples` and of `seeds`, beyond which a number is a slip of the pen."""


@final
@dataclass(frozen=True)
class Search:
    """How the points are chosen, compared and cut short."""

    method: Literal["grid", "random", "tpe"] = setting("grid", "grid, random, or Optuna's TPE")
    samples: int = setting(
        1, "draws per grid combination; points of random and tpe", ge=1, le=MOST_TRIALS
    )
    metric: str = setting("score/swd", "metric that ranks the trials")
    mode: Literal["min", "max"] = setting(
        "min", "whether smaller or larger is better; of a metric that is no score, you say it"
    )
    scheduler: Literal["none", "asha", "median", "pbt"] = setting(
        "none", "asha and median stop bad trials early; pbt puts them on copies of good ones"
    )
    grace: int | None = setting(
        None, "g_steps that asha and median leave each trial; null: a fifth of the budget", ge=1
    )
    reduction: int = setting(3, "asha keeps one trial in so many at each rung", ge=2)
    interval: int | None = setting(
        None, "g_steps between generations of pbt; null: a tenth of the budget", ge=1
    )
    quantile: float = setting(
        0.25, "share of the trials that pbt replaces by copies of as many best ones", gt=0, le=0.5
    )
    resample: float = setting(
        0.25, "probability that pbt draws a setting anew instead of perturbing it", ge=0, le=1
    )
    seed: int = setting(0, "seed of all draws", ge=0)


@final
@dataclass(frozen=True)
class Resources:
    """What each worker takes, and how many trials share it."""

    cpu: float = setting(1.0, "cores per worker", gt=0)
    gpu: float = setting(
        0.0,
        "GPUs per worker, whole or a fraction below 1; 0 with gpu_memory_gb: as much as that is; "
        "2 and more: so many processes with one each",
        ge=0,
    )
    processes: int = setting(
        1, "that train each trial together, on parts of its batches; each takes cpu and gpu", ge=1
    )
    memory_gb: float | None = setting(
        None, "GB (1e9 bytes) of the host's memory that each trial may take; null: any", gt=0
    )
    gpu_memory_gb: float | None = setting(
        None, "GB of its GPU's memory that each trial may take; null: any", gt=0
    )
    gpu_memory_retries: int = setting(
        0,
        "times that a trial which ran out of GPU memory alone is tried with twice the share",
        ge=0,
        le=8,
    )
    concurrent: int | None = setting(None, "most workers at a time; null: as many as fit", ge=1)
    pack: int | None = setting(
        None, "trials that train together in one worker; null (or auto): as fits", ge=1
    )
    engine: Literal["auto", "interleaved", "stacked"] = setting(
        "auto", "how a pack trains: in turns, or as one; auto: by what a step is made of"
    )

    @property
    def by_memory(self) -> bool:
        """Whether a worker's share of a GPU follows from its memory."""
        return self.gpu == 0 and self.gpu_memory_gb is not None

    @property
    def on_gpu(self) -> bool:
        """Whether its trials train on GPUs."""
        return self.gpu > 0 or self.by_memory

    @property
    def least_gpu(self) -> float:
        """GPUs that a node must have for a worker to be there."""
        return 1.0 if self.by_memory else self.gpu


@final
@dataclass(frozen=True)
class Sweep:
    """A sweep file, read and checked; `tree` is the whole file with base and overrides."""

    name: str
    tree: dict[str, Any]
    trial: dict[str, Any]
    space: Space
    search: Search
    seeds: tuple[int, ...]
    resources: Resources
    limits: Limits
    files: tuple[Path, ...]
    overrides: tuple[str, ...]

    def to_yaml(self) -> str:
        """The file as it was meant: base merged, overrides applied."""
        text: str = yaml.safe_dump(self.tree, sort_keys=False)
        return text


def load_sweep(path: Path, overrides: Sequence[str] = (), *, one_trial: bool = False) -> Sweep:
    """The sweep of a file; ConfigError carries every mistake in its form.

    one_trial: the file's `trial:` alone is meant, which may then name its seed.
    """
    from gansweep.config import KEYS, SECTIONS
    from gansweep.sweep.spelling import typed

    files: list[Path] = []
    tree = _load(path, files)
    tree.pop("base", None)
    problems: list[Problem] = []
    tree = _overridden(tree, overrides, problems)
    for key in (key for key in tree if key not in TOP):
        remedy = "it belongs below trial: indent it" if key in KEYS else nearest(key, TOP)
        problems.append(Problem(key, "unknown key", remedy))
    if secrets := dict.fromkeys(secret_keys(tree)):
        raise ConfigError(map(_secret_problem, secrets))  # alone: others would quote it
    name = tree.get("name", path.stem)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        remedy = "letters, digits, '.', '_' and '-', 64 at most"
        remedy += "" if isinstance(name, str) else "; what YAML takes for a number, in quotes"
        problems.append(Problem("name", f"{name!r} is no name", remedy))
    sections = {}
    for section in ("trial", "space", "search", "resources"):
        value = tree.get(section) or {}
        if not isinstance(value, Mapping):
            problems.append(Problem(section, f"is {value!r}, must be a section"))
            value = {}
        sections[section] = dict(value)
    for key in [key for key in sections["trial"] if key in TOP]:
        del sections["trial"][key]
        problems.append(Problem(f"trial.{key}", "belongs beside trial", "indent it as trial is"))
    search = fill(Search, sections["search"], at="search", problems=problems)
    resources = _resources(sections["resources"], problems)
    problems.extend(_gpu_problems(resources))
    sweepable = ("preset", *SECTIONS, "precision", "device")
    problems.extend(_ceiling_problems(resources))
    limits = read_limits(tree, problems, gpus=resources is None or resources.on_gpu)
    space = parse_space(sections["space"], sections["trial"], sweepable, problems)
    if not one_trial:
        problems.extend(_vain_overrides(overrides, space))
    problems.extend(_beaten_overrides(overrides, sections["trial"].get("optimizer")))
    seeds = _seeds(tree.get("seeds", 1), problems)
    if "seed" in sections["trial"] and not one_trial:
        problems.append(Problem("trial.seed", "is set by the sweep", "write seeds: [0, 1, 2]"))
    if "space" in tree and not sections["space"] and not one_trial:
        problems.append(
            Problem("space", "is empty", "add an axis, or leave `space` out and raise `seeds`")
        )
    if problems:
        problems.extend(_trial_problems(sections["trial"], sections["space"], space))
        raise ConfigError(problems)
    assert search is not None
    assert resources is not None
    return Sweep(
        name=str(name),
        tree=tree,
        trial=sections["trial"],
        space=typed(space, sections["trial"]),
        search=search,
        seeds=seeds,
        resources=resources,
        limits=limits,
        files=tuple(files),
        overrides=tuple(overrides),
    )


def peek_resources(path: Path, overrides: Sequence[str] = ()) -> Resources | None:
    """What each trial takes, without the imports of `load_sweep`; None where it has mistakes."""
    try:
        tree = _load(path, [])
    except ConfigError:
        return None
    problems: list[Problem] = []
    own = [override for override in overrides if override.startswith("resources")]
    section = _overridden(tree, own, problems).get("resources") or {}
    if problems or not isinstance(section, Mapping):
        return None
    return _resources(section, problems)


def _resources(section: Mapping[str, Any], problems: list[Problem]) -> Resources | None:
    values = dict(section)
    if values.get("pack") == "auto":
        values["pack"] = None
    resources = fill(Resources, values, at="resources", problems=problems)
    if resources and resources.gpu > 1 == resources.processes and resources.gpu.is_integer():
        return replace(resources, gpu=1.0, processes=int(resources.gpu))
    return resources


def _secret_problem(key: str) -> Problem:
    what = "is or holds a secret, and settings are recorded in many places"
    remedy = "have your own part read it from the environment, or rename the key if it is none"
    return Problem(key, what, remedy)


def _gpu_problems(resources: Resources | None) -> list[Problem]:
    """Cards that no process would use, or that processes would have to share."""
    if resources is None:
        return []
    if resources.gpu > 1:
        what = f"is {resources.gpu:g}"
        if resources.gpu != int(resources.gpu):
            return [Problem("resources.gpu", what, "a fraction below 1, or a whole number")]
        what += f" for each of {resources.processes} processes, which use one"
        return [Problem("resources.gpu", what, "set it to 1")]
    if resources.processes == 1:
        return []
    problems = []
    where, count = "resources.processes", resources.processes
    if resources.by_memory or 0 < resources.gpu < 1:
        what = f"is {count}: processes of a trial cannot share a card"
        problems.append(Problem(where, what, "set resources.gpu: 1"))
    if (resources.pack or 1) > 1:
        what = f"is {count}: processes train one trial at a time"
        problems.append(Problem(where, what, "leave resources.pack out, or set it to 1"))
    if resources.engine == "stacked":
        what = f"is {count}: the step of several processes cannot be stacked"
        problems.append(Problem(where, what, "leave resources.engine out"))
    return problems


def _ceiling_problems(resources: Resources | None) -> list[Problem]:
    """Ceilings on memory that nothing would hold."""
    if resources and resources.gpu_memory_retries and not resources.least_gpu:
        what = "is set, and no worker has a GPU"
        return [Problem("resources.gpu_memory_retries", what, "set gpu or gpu_memory_gb as well")]
    if resources and resources.memory_gb and sys.platform != "linux":
        what = f"cannot be held on {sys.platform}: it is Linux that does"
        return [Problem("resources.memory_gb", what, "leave it out")]
    return []


def _vain_overrides(overrides: Sequence[str], space: Space) -> list[Problem]:
    """Overrides of what an axis sets in every trial: they would be lost without a word."""
    setters = {key: axis.name for axis in space.axes if not axis.when for key in axis.keys}
    problems = []
    for override in overrides:
        path = _override_path(override.partition("=")[0]) or [""]
        key = ".".join(path[1:])
        for swept, name in setters.items():
            if path[0] == "trial" and (key == swept or key.startswith(swept + ".")):
                remedy = f"space.{name}=null takes the axis away"
                what = f"the axis space.{name} sets it in every trial"
                problems.append(Problem(override, what, remedy))
    return problems


def _beaten_overrides(overrides: Sequence[str], optimizer: Any) -> list[Problem]:
    """Overrides of what each optimizer has of its own: they would be lost without a word."""
    problems = []
    for override in overrides:
        path = _override_path(override.partition("=")[0]) or [""]
        if path[:2] != ["trial", "optimizer"] or len(path) != 3:
            continue
        roles = ("generator", "discriminator")
        if all(lookup_tree(optimizer, f"{role}.{path[2]}") is not None for role in roles):
            what = f"both generator and discriminator have {path[2]} of their own"
            remedy = f"set optimizer.generator.{path[2]} or optimizer.discriminator.{path[2]}"
            problems.append(Problem(override, what, remedy))
    return problems


def _trial_problems(
    trial: Mapping[str, Any], axes: Mapping[str, Any], space: Space
) -> list[Problem]:
    """The mistakes in the trials of a file that has others, to be reported together."""
    from gansweep.config import resolve

    if len(space.axes) < len([name for name, axis in axes.items() if axis is not None]):
        return []  # what a refused axis would set might be missed
    problems: list[Problem] = []
    for point in list(space.probes()) or [{}]:
        found: list[Problem] = []
        resolve(apply(trial, point), found)
        problems.extend(space.at_axis(problem) for problem in found)
    return problems


def _seeds(value: Any, problems: list[Problem]) -> tuple[int, ...]:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_TRIALS:
        return tuple(range(value))
    if (
        isinstance(value, list)
        and value
        and all(
            isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in value
        )
        and len(set(value)) == len(value)
    ):
        return tuple(value)
    problems.append(
        Problem("seeds", f"is {value!r}", "a number of seeds from 1, or a list of different seeds")
    )
    return (0,)


def _load(path: Path, files: list[Path]) -> dict[str, Any]:
    """The tree of `path` over those of its bases, which are relative to the file."""
    path = path.resolve()
    if path in files:
        chain = " -> ".join(file.name for file in [*files, path])
        raise ConfigError.single(str(path), f"is its own base ({chain})", "remove one `base`")
    files.append(path)
    tree = read_yaml(path)
    base = tree.get("base")
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError.single("base", f"is {base!r}, must be the path of a sweep file")
    below = _load(path.parent / base, files)
    return merge(below, tree)


def read_yaml(
    path: Path, *, kind: str = "sweep file", keys: str = KEYS, odd_numbers: bool = False
) -> dict[str, Any]:
    """The mapping in a YAML file, interpolations resolved; ConfigError with line and column.

    kind, keys: what it is, and keys that one has, for messages. odd_numbers: whether it may have
    some that YAML does not count in tens.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)  # it may be a device, without an end
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError.single(str(path), "no such file") from None
    except IsADirectoryError:
        raise ConfigError.single(str(path), f"is a folder, not a {kind}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError.single(str(path), f"cannot be read: {error}") from None
    if len(content) > MOST_BYTES:
        what = f"has more than {MOST_BYTES / 1e6:g} MB: it is no {kind}"
        raise ConfigError.single(str(path), what, f"name the YAML file that is the {kind}")
    return parse_yaml(
        text, str(path), keys=f"a {kind} has keys like {keys}", odd_numbers=odd_numbers
    )


def parse_yaml(
    text: str, where: str, *, keys: str = "", odd_numbers: bool = False
) -> dict[str, Any]:
    """The mapping in a YAML text; ConfigError names `where`, the line and the column."""
    try:
        if nested := NESTED.search(text):  # whose size cannot be told
            what = f"has an interpolation within another one: {beginning(nested[0], 60)}"
            raise ConfigError.single(where, what, "write out the key that it leads to")
        if spelt_out(text) > MOST:
            what = "is far too large once its aliases and interpolations are spelt out"
            raise ConfigError.single(where, what, "let fewer of them refer to one another")
        if odd := None if odd_numbers else _odd_number(text):
            place = f"{where}:{odd.start_mark.line + 1}:{odd.start_mark.column + 1}"
            what = f"{odd.value} is {yaml.safe_load(odd.value)} to YAML, which is hardly meant"
            raise ConfigError.single(place, what, "put it in quotes, or write it in another way")
        tree = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        what = error.problem or error.context or "cannot be read"
        line = text.splitlines()[mark.line : mark.line + 1] if mark else []
        remedy = "indent with spaces, not tabs" if line and line[0].lstrip(" ")[:1] == "\t" else ""
        raise ConfigError.single(place, f"broken YAML: {what}", remedy) from None
    except AssertionError:  # OmegaConf's, of a text that is one number
        raise ConfigError.single(where, "is no mapping", keys) from None
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError.single(where, first) from None
    if not isinstance(tree, dict):
        raise ConfigError.single(where, "is no mapping", keys)
    bad = [key for key in tree if not isinstance(key, str)]
    if bad:
        raise ConfigError.single(where, f"has the key {bad[0]!r}, which is no word")
    return {str(key): value for key, value in tree.items()}


def _odd_number(text: str) -> yaml.ScalarToken | None:
    """The first number without quotes that YAML does not count in tens."""
    if not ODD_NUMBER.search(text):
        return None
    scalars = (t for t in yaml.scan(text, yaml.SafeLoader) if isinstance(t, yaml.ScalarToken))
    return next((t for t in scalars if t.plain and ODD_NUMBER.fullmatch(t.value)), None)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on `base`, section by section; lists and single values are replaced, null removes.

    The distribution of an axis is replaced by another kind, too.
    """
    result = dict(base)
    if DOMAINS.keys() & over.keys():
        result = {key: value for key, value in base.items() if key not in DOMAINS}
    for key, value in over.items():
        below = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = merge(below, value)
        else:
            result[key] = value
    return result


def _overridden(
    tree: dict[str, Any], overrides: Sequence[str], problems: list[Problem]
) -> dict[str, Any]:
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            problems.append(Problem(override, "is no override", "write KEY=VALUE"))
            continue
        if not text.strip():  # an empty variable of a shell, say
            problems.append(Problem(override, "has no value", f"{key}=null removes it"))
            continue
        path = _override_path(key)
        if path == ["base"]:
            problems.append(Problem(override, "a base is named in the file only"))
            continue
        if path is None:
            problems.append(Problem(key, "unknown key", _remedy(key, tree)))
            continue
        try:
            value = parse_yaml(f"value: {text}", override)["value"]
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        tree = _set(tree, path, value)
    return tree


def _remedy(key: str, tree: Mapping[str, Any]) -> str:
    """What an override's key, of no section, may have meant."""
    from gansweep.config import KEYS

    trial = tree.get("trial")
    keys = keys_of_trial(trial) if isinstance(trial, Mapping) else []
    keys += keys_of_section("search", Search) + keys_of_section("resources", Resources)
    return whole(key, keys) or nearest(key.split(".")[0], (*TOP, *KEYS))


def _override_path(key: str) -> list[str] | None:
    """The path of an override's key; a trial's own sections may be named without `trial.`."""
    parts = key.split(".")
    if parts[0] == "space" and len(parts) > 1:
        if len(parts) > 2 and parts[-1] in (*DOMAINS, "when"):
            return ["space", ".".join(parts[1:-1]), parts[-1]]
        return ["space", ".".join(parts[1:])]
    if parts[0] in TOP:
        return parts
    from gansweep.config import KEYS

    if parts[0] in KEYS:
        return ["trial", *parts]
    return None


def _set(tree: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    head, *rest = path
    result = dict(tree)
    if not rest:
        if value is None:
            result.pop(head, None)
            return result
        return merge(result, {head: value}) if head in DOMAINS else {**result, head: value}
    below = result.get(head)
    if value is None and not isinstance(below, Mapping):
        return result
    result[head] = _set(below if isinstance(below, Mapping) else {}, rest, value)
    return result
