"""The folder of what is computed once on a machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$GANSWEEP_CACHE, else the user's cache folder (~/.cache/gansweep on Linux).

    Files here can be deleted at any time, also while trials run.
    """
    if chosen := os.environ.get("GANSWEEP_CACHE"):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_dir  # training alone does without it

    return Path(user_cache_dir("gansweep"))
