"""What a data set is: named settings, a quick check, and all samples in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from gansweep.data.settings import DataSettings
from gansweep.dataspec import Condition, DataSpec, Modes


@dataclass(frozen=True)
class Samples:
    """A whole data set in memory.

    x: uint8 [N, C, H, W], or float32 in [-1, 1] (images, C 1 or 3), or float32 [N, D] (vectors).
    labels: int64 [N] (classes), float32 [N, K] (attribute or embedding vectors), or None.
    class_names: names of the classes, in the order of their indices; () where there are none.
    """

    x: Tensor
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.x.shape[0]

    @property
    def spec(self) -> DataSpec:
        """Shape of one sample, and the condition that the labels offer."""
        condition = None
        if self.labels is not None:
            if self.labels.dtype == torch.int64:
                size = len(self.class_names) or int(self.labels.max()) + 1
                condition = Condition("class", size, self.class_names)
            else:
                condition = Condition("vector", self.labels.shape[1])
        return DataSpec(tuple(self.x.shape[1:]), condition)


def to_float(x: Tensor) -> Tensor:
    """uint8 images to [-1, 1] in torch's default type; vectors in it. Any leading dimensions."""
    dtype = torch.get_default_dtype()
    return x.to(dtype).div_(127.5).sub_(1.0) if x.dtype == torch.uint8 else x.to(dtype)


class Dataset(ABC):
    """A source of samples. A subclass names its `Settings` dataclass and loads.

    Every `Settings` holds `batch_size` (real samples per discriminator step) among its keys, by
    extending `DataSettings`.
    """

    Settings: ClassVar[type[Any]] = DataSettings

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def load(self) -> Samples:
        """All samples. Raises ConfigError that names the file and the remedy on bad input."""

    @property
    def modes(self) -> Modes | None:
        """The known modes of a mixture, for scores and diagnoses that count them."""
        return None

    @property
    def held_out(self) -> Dataset | None:
        """Samples of the same kind that are not among these, to look at; None where there are none.

        Loading them may raise ConfigError.
        """
        return None

    def cache_key(self) -> str | None:
        """What identifies the prepared samples on this node; None: loading is quick, no cache.

        Changes whenever the source files (paths, sizes, times) or the settings that shape the
        samples change; of one's own data set the code is part of it anyway. Raises ConfigError
        where the source is missing.
        """
        return None
