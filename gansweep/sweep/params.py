"""What a trial's run records as params, and as a text."""

from __future__ import annotations

import functools
import json
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml


def tree_params(tree: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of a trial by its dotted key, and the swept keys as the sweep file has them."""
    return {**flatten(tree), **flatten(point)}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted keys; lists as JSON."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = json.dumps(value) if isinstance(value, (list, tuple)) else value
    return flat


def settings_text(tree: Mapping[str, Any]) -> str:
    """A trial's tree as YAML, under `trial:`; what trials have in common is written once."""
    sections = (_section(json.dumps({name: part})) for name, part in tree.items())
    return "trial:\n" + "".join(sections)


@functools.lru_cache(maxsize=1000)
def _section(text: str) -> str:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's, which is faster
    return textwrap.indent(yaml.dump(json.loads(text), Dumper=dumper, sort_keys=False), "  ")
