"""What a worker needs, imported by Ray as a local worker process starts: its trial comes later."""

from __future__ import annotations

from gansweep.imports import importing

with importing():
    pass
