"""The folder where a command was given: relative paths of data lead from there."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

_VARIABLE: Final = "GANSWEEP_FOLDER"


def folder_variable() -> dict[str, str]:
    """By which a cluster's workers are told of it: they begin where their Ray was started."""
    return {_VARIABLE: os.getcwd()}


def begin_in_folder() -> None:
    """Have this process work there, where it was told of it and its machine has it."""
    with suppress(OSError):
        os.chdir(os.environ.get(_VARIABLE, os.curdir))
