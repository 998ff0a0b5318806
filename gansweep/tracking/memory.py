"""A record kept in memory: for tests, and for training without a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from torch import Tensor

from gansweep.tracking.base import RunStatus


@dataclass(frozen=True, slots=True)
class LoggedMetrics:
    """One call of `log_metrics`; `step` in g_steps."""

    values: Mapping[str, float]
    step: int


@dataclass(frozen=True, slots=True, eq=False)
class LoggedImage:
    """One picture, uint8 [3 or 1, H, W]; `step` in g_steps."""

    key: str
    image: Tensor
    step: int


@final
class MemoryTracker:
    """A trial's record in lists and dicts, in the order of the calls."""

    def __init__(self) -> None:
        self.metrics: list[LoggedMetrics] = []
        self.images: list[LoggedImage] = []
        self.texts: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.flushes = 0
        self.status: RunStatus | None = None

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Scalars at `step`."""
        values = {name: float(value) for name, value in metrics.items()}
        self.metrics.append(LoggedMetrics(values, step))

    def log_image(self, key: str, image: Tensor, *, step: int) -> None:
        """One picture, uint8 [3 or 1, H, W]; it is copied."""
        self.images.append(LoggedImage(key, image.detach().clone(), step))

    def log_text(self, text: str, artifact: str) -> None:
        """A text artifact; a later one replaces an earlier one of the same path."""
        self.texts[artifact] = text

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags; a later value replaces an earlier one."""
        self.tags.update(tags)

    def flush(self) -> None:
        """Counted; everything is stored already."""
        self.flushes += 1

    def finish(self, status: RunStatus) -> None:
        """End the record with `status`."""
        self.status = status

    def history(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of each time that `name` was logged."""
        return [(call.step, call.values[name]) for call in self.metrics if name in call.values]
