"""Importing heavy packages in two thirds of the time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Without the garbage collector, which looks for cycles again and again as modules fill up.

    It finds next to none, and a third of the time of importing Lightning or MLflow is its. What was
    made until the block ends is not looked at later either: modules live as long as the process.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
