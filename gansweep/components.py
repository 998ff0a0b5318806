"""Parts by name: a short name or an import path in a sweep file becomes a class, once."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Generic, TypeVar

from gansweep import trust
from gansweep.errors import (
    ConfigError,
    OwnCodeError,
    Problem,
    in_one_line,
    is_full_disk,
    nearest,
    raised_at,
)
from gansweep.settings import dump, fill

C = TypeVar("C")


@dataclass(frozen=True)
class Part(Generic[C]):
    """A named component with its settings, not built yet."""

    name: str
    cls: type[C]
    settings: Any

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **dump(self.settings)}


class Catalogue(Generic[C]):
    """The built-in components of one kind, imported only when named, and users' own by path.

    `entries` maps a short name to `package.module:Class`; `base` is the class, by path, that
    every component of the kind must extend.
    """

    def __init__(self, kind: str, base: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._base = base
        self._entries = dict(entries)

    @property
    def names(self) -> list[str]:
        return sorted(self._entries)

    def load(self, name: str, *, at: str) -> type[C]:
        """The class called `name`; ConfigError under the key `at` where there is none."""
        if name in self._entries:
            return _import(self._entries[name])  # type: ignore[no-any-return]
        if "." not in name and ":" not in name:
            listed = f"one of {', '.join(self.names)}, or an import path like mylab.parts:Mine"
            hint = nearest(name, self.names)
            remedy = f"{hint} {listed}" if hint.startswith("did") else listed
            raise ConfigError.single(at, f"unknown {self.kind} {name!r}", remedy)
        if not trust.own_code:
            what = f"{name!r} is code that the file brings along, and --trusted-only refuses it"
            raise ConfigError.single(at, what, f"built in: {', '.join(self.names)}")
        try:
            cls = _import(name)
        except Exception as error:  # a user's module may raise anything at import
            raise ConfigError.single(
                at,
                f"cannot import {name!r}: {type(error).__name__}: {error}",
                raised_at(error, _package(name))
                or _instead(_package(name))
                or "is the module on PYTHONPATH?",
            ) from error
        base = _import(self._base)
        if not (isinstance(cls, type) and issubclass(cls, base)):
            what = f"{name!r} is no subclass of {self._base}"
            raise ConfigError.single(at, what, _instead(_package(name)))
        if missing := sorted(_unfinished(cls, base)):
            what = f"{name!r} defines no {', '.join(missing)}"
            raise ConfigError.single(at, what, f"as every subclass of {self._base} does")
        return cls

    def part(
        self, values: Mapping[str, Any], *, at: str, problems: list[Problem]
    ) -> Part[C] | None:
        """The part that a section `{name: ..., key: value}` names; mistakes go to `problems`.

        The class has a dataclass `Settings`, which the section's other keys fill.
        """
        name = values.get("name")
        if not isinstance(name, str):
            problems.append(Problem(f"{at}.name", "is required", f"one of {', '.join(self.names)}"))
            return None
        try:
            cls = self.load(name, at=f"{at}.name")
        except ConfigError as error:
            problems.extend(error.problems)
            return None
        schema = getattr(cls, "Settings", None)
        if not (isinstance(schema, type) and dataclasses.is_dataclass(schema)):
            problems.append(Problem(f"{at}.name", f"{name!r} needs a dataclass called Settings"))
            return None
        common: Any = getattr(_import(self._base), "Settings", None)
        if lacking := _fields(common) - _fields(schema):
            what = f"the Settings of {name!r} have no {', '.join(sorted(lacking))}"
            remedy = f"let them extend {common.__module__}:{common.__qualname__}"
            problems.append(Problem(f"{at}.name", what, remedy))
            return None
        if "name" in _fields(schema):
            what = f"the Settings of {name!r} have a field called name, which names the part"
            problems.append(Problem(f"{at}.name", what, "call it otherwise"))
            return None
        rest = {key: value for key, value in values.items() if key != "name"}
        settings = fill(schema, rest, at=at, problems=problems)
        return None if settings is None else Part(name, cls, settings)


def _unfinished(cls: type[Any], base: type[Any]) -> set[str]:
    """What `base` leaves to its subclasses, and `cls` does not define; `Settings` apart."""
    attributes = {
        name
        for name, kind in vars(base).get("__annotations__", {}).items()
        if str(kind).startswith("ClassVar") and not hasattr(cls, name)
    }
    return (attributes | set(getattr(cls, "__abstractmethods__", ()))) - {"Settings"}


def _fields(schema: type[Any] | None) -> set[str]:
    return {field.name for field in dataclasses.fields(schema)} if schema else set()


def _import(path: str) -> Any:
    module, _, attribute = path.partition(":")
    if not attribute:
        module, _, attribute = path.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def path_of(cls: type[Any]) -> str:
    """Its import path."""
    return f"{cls.__module__}:{cls.__qualname__}"


def is_own(cls: type[Any]) -> bool:
    """Whether a person brought it along."""
    return _package(cls.__module__) != "gansweep"


@contextmanager
def answering(cls: type[Any], *, at: str) -> Iterator[None]:
    """What a person's own `cls` raises is an OwnCodeError under the key `at`, with its place.

    What a built-in class raises stays as it is, and so does a full disk, which is no mistake.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if not is_own(cls) or is_full_disk(error):
            raise
        what = f"{path_of(cls)} raises {in_one_line(error)}"
        raise OwnCodeError.single(at, what, place(error, cls)) from error


def place(error: Exception, cls: type[Any]) -> str:
    """Where in a person's own code of `cls` it was raised, or else where `cls` is; "" where that
    is unknown."""
    if not is_own(cls):
        return ""
    return raised_at(error, _package(cls.__module__)) or _defined_at(cls)


def _defined_at(cls: type[Any]) -> str:
    try:
        return f"in {cls.__name__}, {inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):  # a notebook's, say
        return ""


def _package(path: str) -> str:
    """The outermost one of an import path."""
    return path.partition(":")[0].partition(".")[0]


def _instead(package: str) -> str:
    """What to do about a module of the current folder that is not found, since another one of that
    name is Python's or an installed package's; "" where there is none."""
    here = [own for own in (Path(package), Path(f"{package}.py")) if own.exists()]
    found = getattr(sys.modules.get(package), "__spec__", None)
    if not package or not here or found is None:
        return ""
    places = filter(None, [*(found.submodule_search_locations or ()), found.origin])
    if any(Path(at).resolve().is_relative_to(own.resolve()) for at in places for own in here):
        return ""
    return f"{found.origin or package} is found before {here[-1]} in this folder: rename that"


@functools.cache
def own_source(cls: type[Any]) -> str:
    """A digest of the code of a person's own class: its module's, and that of the same package's
    modules that this draws on. "" of a built-in class, and where there is no source."""
    root = _package(cls.__module__)
    found: dict[str, str] = {}
    ahead = [cls.__module__] if is_own(cls) else []
    while ahead:
        name = ahead.pop()
        module = sys.modules.get(name)
        if name in found or module is None or _package(name) != root:
            continue
        try:
            found[name] = inspect.getsource(module)
        except (OSError, TypeError):  # a notebook's, say
            return ""
        for value in vars(module).values():
            if isinstance(value, ModuleType):
                ahead.append(value.__name__)
            elif isinstance(value, (type, FunctionType)):
                ahead.append(value.__module__)
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:16] if found else ""
