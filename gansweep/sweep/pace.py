"""How long trials take, by what a step of them does: measured as they end, read by estimates."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import final

from gansweep.config import TrialConfig
from gansweep.drafts import replacing

log = logging.getLogger("gansweep")

PACES_FORMAT = 1


def pace_of(config: TrialConfig, *, on_gpu: bool) -> str:
    """Trials of equal name take equally long for a step: the same shape, whatever its budget."""
    shape = replace(config, budget=replace(config.budget, g_steps=1)).shape
    return f"{shape} on {'gpu' if on_gpu else 'cpu'}"


@final
@dataclass(frozen=True)
class Pace:
    """Of `trials` trials together: their g_steps, and the seconds of training charged to them."""

    trials: int = 0
    g_steps: int = 0
    seconds: float = 0.0

    def __add__(self, other: Pace) -> Pace:
        return Pace(
            self.trials + other.trials, self.g_steps + other.g_steps, self.seconds + other.seconds
        )

    @property
    def seconds_per_g_step(self) -> float:
        return self.seconds / self.g_steps


def read_paces(files: Iterable[Path]) -> dict[str, Pace]:
    """By name, the trials of all files together; what cannot be read is nothing known."""
    paces: dict[str, Pace] = {}
    for file in files:
        try:
            tree = json.loads(file.read_text(encoding="utf-8"))
            if tree["format"] != PACES_FORMAT:
                continue
            found = {name: Pace(**each) for name, each in tree["paces"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if not isinstance(error, FileNotFoundError):
                log.warning("%s does not tell how long trials took: %s", file, error)
            continue
        for name, pace in found.items():
            if pace.g_steps > 0:
                paces[name] = paces.get(name, Pace()) + pace
    return paces


def add_paces(file: Path, new: dict[str, Pace]) -> None:
    """Write `new` beside what the file says already; a disk that is full costs the knowledge."""
    if not new:
        return
    paces = read_paces([file])
    for name, pace in new.items():
        paces[name] = paces.get(name, Pace()) + pace
    tree = {"format": PACES_FORMAT, "paces": {name: asdict(each) for name, each in paces.items()}}
    try:
        with replacing(file) as draft:
            draft.write_text(json.dumps(tree, indent=1), encoding="utf-8")
    except OSError as error:
        log.warning("how long trials took is not on the disk: %s", error)
