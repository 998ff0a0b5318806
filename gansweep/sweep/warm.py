"""What a worker needs, imported by Ray as a local worker process starts: its trial comes later.

Modules of one's own come with the trial: by then they must be found.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

from gansweep.imports import importing
from gansweep.sweep.folder import begin_in_folder

NEEDED: Final = "gansweep.sweep.tune"
"""As a name: a linter would take away an import of which nothing is used here."""

with importing():
    import_module(NEEDED)
begin_in_folder()
