"""Sweep files for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gansweep.errors import ConfigError
from gansweep.sweep.file import Sweep, load_sweep

TEXT = """\
name: small
trial:
  model: {name: wgan}
  network: {name: mlp, width: 8, depth: 1}
  data: {name: ring8, n: 1000}
  budget: {g_steps: 5}
space:
  model.clip: {grid: [0.01, 0.02]}
"""


def text(**sections: Any) -> str:
    """TEXT with top-level keys replaced; None removes one."""
    tree = {**yaml.safe_load(TEXT), **sections}
    return yaml.safe_dump({k: v for k, v in tree.items() if v is not None}, sort_keys=False)


def load(folder: Path, content: str, overrides: Sequence[str] = (), **options: Any) -> Sweep:
    """The sweep of a file of that content."""
    path = folder / "file.yaml"
    path.write_text(content, encoding="utf-8")
    return load_sweep(path, overrides, **options)


def mistakes(folder: Path, content: str, overrides: Sequence[str] = ()) -> list[str]:
    """The problems of a file of that content, as a person reads them."""
    try:
        load(folder, content, overrides)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []
