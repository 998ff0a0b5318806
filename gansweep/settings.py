"""Typed settings: a dataclass declares them, a mapping fills them, every mistake is named.

Types are checked by OmegaConf's structured configs; ranges by the bounds that `setting` records.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import copy, deepcopy
from functools import partial
from typing import Any, TypeVar, get_args, get_type_hints

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gansweep.errors import ConfigError, Problem, in_one_line, nearest

S = TypeVar("S")

REQUIRED: Any = MISSING
"""Default of a setting that the user must give."""

_BOUNDS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "ge": (lambda value, bound: value >= bound, "at least"),
    "gt": (lambda value, bound: value > bound, "greater than"),
    "le": (lambda value, bound: value <= bound, "at most"),
    "lt": (lambda value, bound: value < bound, "less than"),
}


def setting(
    default: Any,
    help: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> Any:
    """A dataclass field with a one-line meaning (with its unit) and the range of valid values."""
    bounds = {"ge": ge, "gt": gt, "le": le, "lt": lt}
    metadata = {"help": help, "bounds": {k: v for k, v in bounds.items() if v is not None}}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=partial(copy, default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def fill(cls: type[S], values: Mapping[str, Any], *, at: str, problems: list[Problem]) -> S | None:
    """An instance of the dataclass `cls` from `values`; None where a mistake was found.

    Each mistake (unknown key, wrong type, out of range, missing) is appended to `problems`
    under the key `at.name`.
    """
    floats = {k: v for k, v in values.items() if type(v) is float and k in _floats(cls)}
    like = (cls, tuple(floats), repr({k: v for k, v in values.items() if k not in floats}))
    if floats and like in _alike:  # but for numbers, which trials differ by
        wrong = _range_problems(cls, floats, at=at)
        problems.extend(wrong)
        return None if wrong else dataclasses.replace(_alike[like], **floats)
    kind = (cls, repr(dict(values)))
    if kind not in _filled:
        found = _fill(cls, values, at=at, problems=problems)
        if found is None:
            return None
        if len(_filled) >= _MOST_FILLED:
            _filled.clear()
            _alike.clear()
        _filled[kind] = found
        if floats and _is_immutable(found) and not hasattr(cls, "__post_init__"):
            _alike[like] = found
    filled: S = _filled[kind]
    return filled if _is_immutable(filled) else deepcopy(filled)  # lists are nobody's to share


_filled: dict[tuple[type[Any], str], Any] = {}
"""Sections already filled: the trials of a sweep have most of theirs in common."""

_alike: dict[tuple[type[Any], tuple[str, ...], str], Any] = {}
"""One of each section that had no mistake, by all but its floating-point numbers."""

_MOST_FILLED = 10_000


def _fill(cls: type[S], values: Mapping[str, Any], *, at: str, problems: list[Problem]) -> S | None:
    before = len(problems)
    try:
        config = OmegaConf.structured(cls)
    except OmegaConfBaseException as error:  # of a person's own
        what = f"{cls.__module__}:{cls.__qualname__} cannot be filled: {_first_line(error)}"
        problems.append(Problem(at, what, "numbers, strings, truth values, and lists of these"))
        return None
    OmegaConf.set_readonly(config, False)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    refused = set()
    for key, value in values.items():
        where = f"{at}.{key}" if at else str(key)
        if key not in names:
            problems.append(Problem(where, "unknown key", nearest(str(key), names)))
            continue
        try:
            OmegaConf.update(config, key, value)
        except OmegaConfBaseException as error:
            if isinstance(value, float) and value.is_integer():  # 1e4 is a whole number too
                with contextlib.suppress(OmegaConfBaseException):
                    OmegaConf.update(config, key, int(value))
                    continue
            problems.append(_refused(where, value, error, kind=type(config.get(key))))
            refused.add(key)
            continue
        if inner := _nested(cls, key, value):
            what = f"has {inner[0]!r} in it, where single values belong"
            problems.append(Problem(where, what, "a text with a colon needs quotes"))
            refused.add(key)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        where = f"{at}.{field.name}" if at else field.name
        if field.name in refused:
            continue
        if OmegaConf.is_missing(config, field.name):
            problems.append(Problem(where, "is required", field.metadata.get("help", "")))
            continue
        try:
            value = config[field.name]
        except OmegaConfBaseException as error:  # an interpolation that leads nowhere
            problems.append(Problem(where, _first_line(error)))
            continue
        problems.extend(_out_of_range(value, field, where))
    if len(problems) > before:
        return None
    try:
        return OmegaConf.to_object(config)  # type: ignore[return-value]
    except ConfigError as error:
        problems.extend(error.problems)
    except Exception as error:  # what a dataclass of a person's own checks as it is made
        problems.append(Problem(at, f"is refused: {in_one_line(error)}"))
    return None


def _refused(where: str, value: Any, error: Exception, *, kind: type[Any]) -> Problem:
    """Why a value is of no type that its setting may have. kind: of the setting's default."""
    if kind is ListConfig and value is not None and not isinstance(value, list):
        remedy = "[A, B]" if isinstance(value, dict) else f"[{value}]"
        return Problem(where, f"is {value!r}, must be a list", remedy)
    if kind is DictConfig and value is not None and not isinstance(value, dict):
        return Problem(where, f"is {value!r}, must be a mapping", "{KEY: VALUE}")
    remedy = "it cannot be null; leave it out for the default" if value is None else ""
    if isinstance(value, list) and kind is not ListConfig:
        several = "; to try several, make it an axis of space" * where.startswith("trial.")
        remedy = f"one value{several}"
    return Problem(where, _first_line(error), remedy)


def _nested(cls: type[Any], name: str, value: Any) -> list[Any]:
    """Lists and mappings among single values, which OmegaConf lets pass."""
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    inner = [each for each in values if isinstance(each, list | dict)]
    of = get_args(get_type_hints(cls)[name])[-1:] if inner else ()
    return inner if of and of[0] in (str, int, float, bool) else []


def _out_of_range(value: Any, field: dataclasses.Field[Any], where: str) -> Iterator[Problem]:
    for name, bound in field.metadata.get("bounds", {}).items():
        holds, words = _BOUNDS[name]
        if isinstance(value, float) and not math.isfinite(value):
            yield Problem(where, f"is {value}, must be finite")
            break
        if isinstance(value, (int, float)) and not holds(value, bound):
            yield Problem(where, f"is {value}, must be {words} {bound}")


def _range_problems(cls: type[Any], floats: Mapping[str, float], *, at: str) -> list[Problem]:
    """Of numbers that have the right types."""
    return [
        problem
        for field in dataclasses.fields(cls)
        if field.name in floats
        for problem in _out_of_range(
            floats[field.name], field, f"{at}.{field.name}" if at else field.name
        )
    ]


def _floats(cls: type[Any]) -> Collection[str]:
    """The fields that are numbers and nothing else."""
    if cls not in _known_floats:
        types = (float, "float", float | None, "float | None")
        names = (each.name for each in dataclasses.fields(cls) if each.type in types)
        _known_floats[cls] = frozenset(names)
    return _known_floats[cls]


_known_floats: dict[type[Any], Collection[str]] = {}


def dump(settings: Any) -> dict[str, Any]:
    """The plain mapping of a settings instance; `fill` of it gives an equal instance."""
    values = {name: getattr(settings, name) for name in _names(type(settings))}
    if all(type(value) in _ATOMS for value in values.values()):
        return values
    return dataclasses.asdict(settings)


_ATOMS = frozenset({int, float, str, bool, type(None)})


def _names(cls: type[Any]) -> Collection[str]:
    if cls not in _known_names:
        _known_names[cls] = tuple(field.name for field in dataclasses.fields(cls))
    return _known_names[cls]


_known_names: dict[type[Any], Collection[str]] = {}


def _is_immutable(settings: Any) -> bool:
    """Whether nobody can change it, so that the trials of a sweep may have it in common."""
    cls = type(settings)
    values = (getattr(settings, name) for name in _names(cls))
    return cls.__dataclass_params__.frozen and all(type(value) in _ATOMS for value in values)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].strip()
