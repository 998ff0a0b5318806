"""What travels with a job: the sweep file with its bases, and the code that it names."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, final

import gansweep
from gansweep.drafts import replacing
from gansweep.errors import ConfigError, Problem
from gansweep.sweep.file import Sweep, load_sweep

NEVER = ("__pycache__", ".git", ".gitignore", ".rayignore")
"""What no job needs; Ray would leave out what the last two of them name."""


@final
@dataclass(frozen=True)
class Bundle:
    """Files by the path that each has in the bundle; `sweep` is the sweep file's."""

    files: Mapping[PurePosixPath, Path]
    sweep: PurePosixPath

    @property
    def digest(self) -> str:
        """Of all paths and contents."""
        whole = hashlib.sha256()
        for path, source in sorted(self.files.items()):
            content = source.read_bytes()
            whole.update(f"{path}\0{len(content)}\0".encode())
            whole.update(content)
        return whole.hexdigest()[:16]

    def write(self, folder: Path) -> None:
        """Copy the files into `folder`, where a job may read them as they are written again."""
        for path, source in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as draft:
                shutil.copyfile(source, draft)

    def check(self, folder: Path, overrides: Sequence[str]) -> None:
        """ConfigError where the sweep file in `folder`, where the bundle was written, is not whole.

        It must read nothing from outside: that would not be there on the cluster.
        """
        inside = folder.resolve()
        for file in load_sweep(folder / self.sweep, overrides).files:
            if not file.is_relative_to(inside):
                raise ConfigError.single(
                    "base", f"{file} does not travel with the job", "name it by a relative path"
                )


def sweep_bundle(sweep: Sweep) -> Bundle:
    """The sweep file and its bases, laid out as they lie, so that a relative `base` still leads."""
    common = Path(os.path.commonpath([file.parent for file in sweep.files]))
    files = {PurePosixPath("sweep", file.relative_to(common)): file for file in sweep.files}
    return Bundle(files, PurePosixPath("sweep", sweep.files[0].relative_to(common)))


def with_code(bundle: Bundle, sweep: Sweep) -> Bundle:
    """The same with gansweep itself, and with the packages of one's own that the sweep names."""
    package = _below(Path(gansweep.__file__).parent, PurePosixPath("gansweep"))
    return with_own_code(Bundle({**bundle.files, **package}, bundle.sweep), sweep)


def with_own_code(bundle: Bundle, sweep: Sweep) -> Bundle:
    """The same with the packages of one's own that the sweep names."""
    files = dict(bundle.files)
    for module in sorted(own_modules(sweep.tree)):
        files.update(_module_files(module))
    return Bundle(files, bundle.sweep)


def with_files(bundle: Bundle, names: Sequence[str], folder: Path, *, at: str) -> Bundle:
    """The same with further files and folders, by their paths relative to `folder`.

    Raises:
        ConfigError: one is missing, or lies outside.
    """
    files, problems = dict(bundle.files), []
    for name in names:
        path = folder / name
        relative = PurePosixPath(os.path.normpath(name))
        if relative.is_absolute() or ".." in relative.parts:
            problems.append(Problem(at, f"{name} is not below {folder}", "give a relative path"))
        elif path.is_dir():
            files.update(_below(path, relative))
        elif path.is_file():
            files[relative] = path
        else:
            problems.append(Problem(at, f"there is no {path}", "it has to travel with the job"))
    if problems:
        raise ConfigError(problems)
    return Bundle(files, bundle.sweep)


def own_modules(tree: Any) -> set[str]:
    """The modules outside the installed packages that a sweep's import paths have led to.

    Their neighbours that they imported are among them. Whoever checked the sweep imported them.
    """
    named = {module for text in _texts(tree) for module in _prefixes(text)} & set(sys.modules)
    roots = {root for root in map(_root, named) if root is not None}
    return {name for name in set(sys.modules) if roots and _root(name) in roots}


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield str(key)
            yield from _texts(value)
    elif isinstance(tree, Sequence):
        for value in tree:
            yield from _texts(value)


def _prefixes(text: str) -> Iterator[str]:
    """The modules that an import path may mean: `a.b:C` is a.b, `a.b.C` is a.b or a."""
    module, colon, _ = text.partition(":")
    if colon:
        yield module
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def _root(module: str) -> Path | None:
    """The folder on Python's path that a module of one's own lies in; None of others."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file or module.partition(".")[0] in ("gansweep", "__main__"):
        return None
    path = Path(file).resolve()
    if path.suffix != ".py" or any(path.is_relative_to(place) for place in _installed()):
        return None
    place = path.parent if path.name == "__init__.py" else path.with_suffix("")
    names = tuple(module.split("."))
    if place.parts[-len(names) :] != names:  # not imported by that name: made by a compiler, say
        return None
    return place.parents[len(names) - 1]


@functools.cache
def _installed() -> tuple[Path, ...]:
    """Where packages are installed, and Python itself."""
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    places = {*(paths[name] for name in names), site.getusersitepackages(), *site.getsitepackages()}
    return tuple(Path(place).resolve() for place in places)


def _module_files(module: str) -> dict[PurePosixPath, Path]:
    """A module's file, or all of its package: what a package reads beside its code, too."""
    top = module.partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None)
    if file and Path(file).name == "__init__.py":
        return _below(Path(file).resolve().parent, PurePosixPath(top))
    path, root = Path(str(sys.modules[module].__file__)).resolve(), _root(module)
    assert root is not None
    return {PurePosixPath(path.relative_to(root)): path}


def _below(folder: Path, at: PurePosixPath) -> dict[PurePosixPath, Path]:
    return {
        at / path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not set(NEVER) & set(path.relative_to(folder).parts)
    }
