"""The whole names of keys, for who wrote only the end of one: `lr` is `optimizer.lr`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from gansweep.sweep.params import flatten


def keys_of_trial(trial: Mapping[str, Any]) -> list[str]:
    """All that a trial has as a file names it; where it has mistakes, what the file sets alone."""
    from gansweep.config import ROLES, resolve

    config = resolve(trial, [])
    keys = flatten(config.to_dict() if config else trial)
    for role in ROLES:  # what both have in common is said once
        keys = {key.replace(f"optimizer.{role}.", "optimizer."): None for key in keys}
    return list(keys)


def keys_of_section(name: str, schema: type[Any]) -> list[str]:
    """Those of a section without a name of its own."""
    return [f"{name}.{field.name}" for field in dataclasses.fields(schema)]


def whole(word: str, keys: Iterable[str]) -> str:
    """`did you mean 'optimizer.lr'?`, or several, that end in `word`; else nothing."""
    found = " or ".join(repr(key) for key in keys if key.endswith(f".{word}"))
    return f"did you mean {found}?" if found else ""
