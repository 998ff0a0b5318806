"""What a worker needs, imported by Ray as a local worker process starts: its trial comes later."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from gansweep.imports import importing

NEEDED: Final = ("gansweep.sweep.tune", "gansweep.tracking.mlflow.tracker")
"""As names: a linter would take away imports of which nothing is used here."""

with importing():
    for name in NEEDED:
        import_module(name)
