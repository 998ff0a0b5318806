"""What a trial says of itself while it trains: the Tracker protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from torch import Tensor

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker(Protocol):
    """One trial's record. Every step is in g_steps. No call waits for a store."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Scalars at `step`; names are `group/name`. Non-finite values are allowed."""

    def log_image(self, key: str, image: Tensor, *, step: int) -> None:
        """One picture, uint8 [3 or 1, H, W] on the CPU, in the series `key`."""

    def log_text(self, text: str, artifact: str) -> None:
        """A text artifact at the relative path `artifact`."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags; a later value replaces an earlier one."""

    def flush(self) -> None:
        """Make all that was logged outlast this process and this machine's power.

        Raises:
            OSError: that is impossible now.
        """

    def finish(self, status: RunStatus) -> None:
        """Flush and end the run with `status`."""
