"""What a score is: one number for how close generated samples are to real ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from gansweep.dataspec import DataSpec, Modes
from gansweep.errors import ConfigError
from gansweep.metrics.extractors.base import Extractor
from gansweep.metrics.features import Features

Mode = Literal["min", "max"]


@final
@dataclass(frozen=True)
class Subject:
    """What is scored, as it is known before anything trains.

    modes: of a toy whose truth is known. conditional: whether the generator is given labels.
    seed: of the evaluation, for whatever a score draws.
    """

    spec: DataSpec
    modes: Modes | None = None
    conditional: bool = False
    seed: int = 0


class Score(ABC):
    """Compares features of generated samples with those of real ones.

    A score in the features of any extractor (`takes_extractor`) is called `name/EXTRACTOR` in a
    sweep file; one without sees the samples themselves, flattened.
    """

    name: ClassVar[str]
    """Metric name after `score/`."""
    mode: ClassVar[Mode] = "min"
    """Whether smaller ("min") or larger ("max") is better."""
    takes_extractor: ClassVar[bool] = False
    version: ClassVar[str] = ""
    """Names the code: while it stays, statistics of real samples may be kept on disk. "": never."""
    has_floor: ClassVar[bool] = True
    """Whether real samples are scored as if they were generated, once, as a floor."""

    def __init__(self, subject: Subject, extractor: Extractor) -> None:
        """ConfigError where the data or the extractor do not fit: then nothing is launched."""
        self.subject = subject
        self.extractor = extractor

    def statistics(self, real: Features) -> dict[str, Tensor]:
        """What `__call__` needs of the real samples, computed once: `real.statistics` there."""
        return {}

    @abstractmethod
    def __call__(self, fake: Features, real: Features) -> float:
        """The score of `fake`; finite for finite samples."""

    def resampled(self, fake: Features, real: Features, counts: Tensor) -> list[float]:
        """The score of each bootstrap sample of `fake`: it has sample n `counts[b, n]` times.

        counts: int64 [B, N], each row's sum N.
        """
        every = torch.arange(len(fake), device=counts.device)
        return [self(fake.take(every.repeat_interleave(row)), real) for row in counts]

    @final
    def number(self, value: Any) -> float:
        """What a call gave, as a float; TypeError where it is no number."""
        try:
            if isinstance(value, (str, bytes)):
                raise TypeError
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            shape = getattr(value, "shape", None)
            kind = type(value).__name__ + ("" if shape is None else f" {list(shape)}")
            what = f"{self.name} gives {kind}, must give one number: a float"
            raise TypeError(what) from error

    def refuse(self, what: str, remedy: str) -> ConfigError:
        """The error of a score that does not fit."""
        return ConfigError.single("trial.score.names", f"{self.name} {what}", remedy)
