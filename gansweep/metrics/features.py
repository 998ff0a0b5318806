"""Features of a set of samples: all that scores see of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar, cast, final

from torch import Tensor

T = TypeVar("T")


@final
class Features:
    """What an extractor saw in N samples.

    x: float32 [N, d]. probabilities: of C classes, [N, C]; None where the extractor tells none.
    labels: those that the samples were drawn for, or the data's own; None where there are none.
    statistics: of real samples, what the score itself made of them. real: whether they were drawn
    from the data, where an equal one may be the same sample drawn again.
    """

    def __init__(
        self,
        x: Tensor,
        probabilities: Tensor | None = None,
        labels: Tensor | None = None,
        statistics: Mapping[str, Tensor] | None = None,
        *,
        real: bool = False,
    ) -> None:
        self.x = x
        self.probabilities = probabilities
        self.labels = labels
        self.statistics = statistics or {}
        self.real = real
        self._shared: dict[Hashable, object] = {}

    def __len__(self) -> int:
        return len(self.x)

    def of(self, statistics: Mapping[str, Tensor]) -> Features:
        """The same features with a score's statistics of them."""
        return Features(self.x, self.probabilities, self.labels, statistics, real=self.real)

    def take(self, indices: Tensor) -> Features:
        """The samples at `indices`, without statistics."""
        probabilities, labels = (
            None if part is None else part[indices] for part in (self.probabilities, self.labels)
        )
        return Features(self.x[indices], probabilities, labels, real=self.real)

    def shared(self, key: Hashable, make: Callable[[], T]) -> T:
        """What several scores need of these samples: made by the first that asks."""
        if key not in self._shared:
            self._shared[key] = make()
        return cast(T, self._shared[key])
