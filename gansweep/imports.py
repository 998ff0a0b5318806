"""Importing heavy packages in half the time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any


@contextmanager
def importing() -> Iterator[None]:
    """Without what no package needs as it is imported.

    The garbage collector looks for cycles again and again as modules fill up, and finds next to
    none: a third of the time of importing Lightning or MLflow. What was made until the block ends
    is not looked at later either, since modules live as long as the process.

    Two packages that Lightning's torchmetrics imports take another third, and are imported once
    somebody uses them: scipy.signal, to mend its `hamming` for one audio metric, and matplotlib,
    for the plots of a metric.
    """
    plots = _Plots()
    sys.meta_path.insert(0, plots)
    gc.disable()
    try:
        with _standing_in(_Later("scipy.signal", hamming=None)):
            yield
    finally:
        gc.freeze()
        gc.enable()
        sys.meta_path.remove(plots)


class _Later(ModuleType):
    """Stands for a module until an attribute of it is asked for that is not given."""

    def __init__(self, name: str, **given: object) -> None:
        super().__init__(name)
        self.__dict__.update(given)
        self.beside: Sequence[_Later] = [self]

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__") and attribute != "__path__":  # a package's, for what is below
            raise AttributeError(attribute)
        _leave(self.beside)
        return getattr(import_module(self.__name__), attribute)


@contextmanager
def _standing_in(*modules: _Later) -> Iterator[None]:
    """In the places of modules of which none is imported, until one of them is used."""
    if not any(module.__name__ in sys.modules for module in modules):
        for module in modules:
            module.beside = modules
            sys.modules[module.__name__] = module
    try:
        yield
    finally:
        _leave(modules)


def _leave(modules: Sequence[_Later]) -> None:
    for module in modules:
        if sys.modules.get(module.__name__) is module:
            del sys.modules[module.__name__]


class _Plots(MetaPathFinder):
    """Finds torchmetrics' plots, and has them meet a matplotlib that is imported later."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As Python asks for it."""
        if fullname != "torchmetrics.utilities.plot":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _LoaderOfPlots(spec.loader.name, spec.loader.path)
        return spec


class _LoaderOfPlots(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with _standing_in(*_matplotlib()):
            super().exec_module(module)


def _matplotlib() -> list[_Later]:
    """What the plots ask of it: types to annotate with, and a style to plot in."""
    axes = _Later("matplotlib.axes", Axes=object)
    colors = _Later("matplotlib.colors", Colormap=object)
    pyplot = _Later("matplotlib.pyplot", Figure=object, style=_Style)
    return [_Later("matplotlib", axes=axes, colors=colors, pyplot=pyplot), axes, colors, pyplot]


class _Style:
    @staticmethod
    @contextmanager
    def context(*arguments: Any, **options: Any) -> Iterator[None]:
        with import_module("matplotlib.pyplot").style.context(*arguments, **options):
            yield
