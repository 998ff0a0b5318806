"""What a worker needs, imported by Ray as a local worker process starts: its trial comes later."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from gansweep.imports import importing

NEEDED: Final = "gansweep.sweep.tune"
"""As a name: a linter would take away an import of which nothing is used here."""

with importing():
    import_module(NEEDED)
