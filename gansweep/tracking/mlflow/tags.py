"""Names of tags: those of gansweep live under `gansweep.`, out of the way of a user's own."""

from __future__ import annotations

from collections.abc import Mapping

PREFIX = "gansweep."
SWEEP = f"{PREFIX}sweep"
KEY = f"{PREFIX}key"


def namespaced(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags with `gansweep.` before each name; `gansweep.*` and `mlflow.*` stay as they are."""
    return {
        name if name.startswith((PREFIX, "mlflow.")) else PREFIX + name: value
        for name, value in tags.items()
    }


def own(tags: Mapping[str, str]) -> dict[str, str]:
    """The `gansweep.*` tags among `tags`, without the prefix."""
    return {
        name.removeprefix(PREFIX): value for name, value in tags.items() if name.startswith(PREFIX)
    }
