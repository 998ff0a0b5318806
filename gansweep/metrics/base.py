"""What a score is: one number for how close generated samples are to real ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor


class Score(ABC):
    """Compares generated samples with real ones, both float32 [N, *shape].

    Real statistics are computed once, in `__init__`; each call scores one set of samples.
    """

    name: ClassVar[str]
    """Metric name after `score/`."""
    mode: ClassVar[str] = "min"
    """Whether smaller ("min") or larger ("max") is better."""

    @abstractmethod
    def __init__(self, real: Tensor, *, seed: int) -> None:
        """`real` as the data are; `seed` fixes whatever the score draws."""

    @abstractmethod
    def __call__(self, fake: Tensor) -> float:
        """The score of `fake` [N, *shape]; finite for finite samples."""
