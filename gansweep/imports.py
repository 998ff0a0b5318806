"""Importing heavy packages in half the time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


@contextmanager
def importing() -> Iterator[None]:
    """Without what no package needs as it is imported.

    The garbage collector looks for cycles again and again as modules fill up, and finds next to
    none: a third of the time of importing Lightning or MLflow. What was made until the block ends
    is not looked at later either, since modules live as long as the process.

    scipy.signal, which Lightning's torchmetrics imports to mend its `hamming` for one audio metric,
    takes another third; it is imported once somebody uses it.
    """
    name = "scipy.signal"
    later = None if name in sys.modules else _Later(name)
    if later is not None:
        sys.modules[name] = later
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        if later is not None and sys.modules.get(name) is later:
            del sys.modules[name]


class _Later(ModuleType):
    """Stands for a module until an attribute of it is asked for."""

    hamming = None

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__") and attribute != "__path__":  # a package's, for what is below
            raise AttributeError(attribute)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), attribute)
