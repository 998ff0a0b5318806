"""What a trial's run records as params."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it imports torch, and who flattens alone needs none
    from gansweep.config import TrialConfig


def trial_params(config: TrialConfig, point: Mapping[str, Any]) -> dict[str, Any]:
    """Every resolved setting by its dotted key, and the swept keys as the sweep file has them."""
    return {**flatten(config.to_dict()), **flatten(point)}


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
