"""What an extractor is: a fixed map from samples to features, known by its name and weights."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from gansweep.dataspec import Condition, DataSpec
from gansweep.errors import ConfigError

SLACK = 0.01
"""How far from 1 probabilities may sum, which may have been computed in 16 bits."""


@final
@dataclass(frozen=True)
class Seen:
    """What an extractor sees in B samples.

    features: float32 [B, d]. probabilities: of C classes, float32 [B, C]; None where it tells none.
    """

    features: Tensor
    probabilities: Tensor | None = None


class Extractor(nn.Module, ABC):
    """Maps samples [B, *shape], as the data are (images in [-1, 1]), to features.

    A subclass loads its weights in `__init__`, which takes the shape of the data, and never trains.
    Values in the features of two extractors are comparable only where `name` and `weights` agree.
    """

    name: ClassVar[str]
    """The metric's name after `fd/` and so on."""
    classes: ClassVar[int | None] = None
    """How many classes its probabilities are of; None where it gives none."""
    class_names: ClassVar[tuple[str, ...]] = ()
    """Their names in the order of their indices, where it says them."""
    resize: ClassVar[str] = "none"
    """How it brings samples to the size that it works at."""
    version: ClassVar[str] = ""
    """Names the code: while it stays, what real samples give may be kept on disk. "": never."""
    cheap: ClassVar[bool] = False
    """Whether features are as quickly computed as read from the disk."""

    def __init__(self, spec: DataSpec) -> None:
        """ConfigError where data of this shape cannot be seen, or the weights are not there."""
        super().__init__()
        self.spec = spec
        self._weights: str | None = None

    @abstractmethod
    def forward(self, x: Tensor) -> Seen:
        """What it sees in `x` [B, *shape]."""

    @final
    def knows(self, condition: Condition) -> bool:
        """Whether its classes are the data's: as many, of the same names where both have names."""
        if condition.kind != "class" or self.classes != condition.size:
            return False
        names = self.class_names
        return not names or not condition.names or names == condition.names

    @final
    def classify(self, x: Tensor) -> Tensor:
        """The likeliest class of each sample [N, *shape], int64 [N]; of one with `classes`."""
        probabilities = self(x).probabilities
        if probabilities is None:
            raise TypeError(f"the extractor {self.name} tells no classes")
        classes: Tensor = probabilities.argmax(1)
        return classes

    @property
    def weights(self) -> str:
        """12 hex digits of a hash of all parameters and buffers; "" where there are none."""
        if self._weights is None:
            self._weights = self._hashed()
        return self._weights

    def _hashed(self) -> str:
        state = self.state_dict()
        if not state:
            return ""
        digest = hashlib.sha256()
        for name in sorted(state):
            value = state[name].detach().cpu().contiguous()
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:12]

    @final
    def tried(self) -> Extractor:
        """Itself, in eval mode, once two samples have passed; ConfigError where they do not."""
        self.eval().requires_grad_(False)
        try:
            with torch.no_grad():
                seen = self(torch.zeros(2, *self.spec.shape))
            if not isinstance(seen, Seen):
                raise TypeError(f"it gives {type(seen).__name__}, must give Seen")
            expected = (2, seen.features.shape[-1])
            if tuple(seen.features.shape) != expected:
                raise ValueError(f"features of two samples are {tuple(seen.features.shape)}")
            given = None if seen.probabilities is None else tuple(seen.probabilities.shape)
            if given != (None if self.classes is None else (2, self.classes)):
                raise ValueError(f"probabilities of two samples are {given}, of {self.classes}")
            if seen.probabilities is not None:
                _check_probabilities(seen.probabilities)
            if self.class_names and len(self.class_names) != self.classes:
                what = f"class_names has {len(self.class_names)} names"
                raise ValueError(f"{what}, of {self.classes} classes")
        except ConfigError:
            raise
        except Exception as error:  # a user's module may raise anything
            raise ConfigError.single(
                "trial.score.names",
                f"the extractor {self.name} cannot see data of shape {self.spec.shape}: "
                f"{type(error).__name__}: {error}",
                "name another extractor",
            ) from error
        return self


def _check_probabilities(given: Tensor) -> None:
    """ValueError where a row [B, C] is no distribution, as logits are none."""
    least, sums = given.float().amin(), given.float().sum(1)
    if least < 0 or (sums - 1).abs().amax() > SLACK:
        what = f"are from {float(least):.3g}, and sum to {float(sums[0]):.3g}"
        raise ValueError(f"probabilities of a sample {what}: logits want a softmax")
