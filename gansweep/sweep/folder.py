"""The folder where a command was given: relative paths of data lead from there, and modules of
one's own lie there."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final

_VARIABLE: Final = "GANSWEEP_FOLDER"


def folder_variable() -> dict[str, str]:
    """By which a cluster's workers are told of it: they begin where their Ray was started."""
    return {_VARIABLE: os.getcwd()}


def begin_in_folder() -> None:
    """Have this process work there, where it was told of it and its machine has it.

    Trials come to workers as plain settings: modules of one's own are imported after this.
    """
    with suppress(OSError):
        os.chdir(os.environ.get(_VARIABLE, os.curdir))
        find_modules_here()


def find_modules_here() -> None:
    """Have Python find modules in the current folder: those that it finds nowhere else.

    A file there may be called `random.py` or `requests.py`, and is not what a package means that
    imports such a module, now or later. Where PYTHONPATH names the folder, that says when its turn
    is.
    """
    folder = os.getcwd()
    if folder not in python_path():
        sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != folder]
        sys.path.append(folder)


def python_path() -> list[str]:
    """The folders of PYTHONPATH, absolute.

    An empty one is none: left over from an unset variable, as a rule, it is Python's word for the
    current folder, before all others.
    """
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return list(dict.fromkeys(map(os.path.abspath, filter(None, folders))))
