"""Kernel distance between two sets of features."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from gansweep.metrics.base import Score, Subject
from gansweep.metrics.extractors.base import Extractor
from gansweep.metrics.features import Features

ROWS = 2048
"""Rows of a kernel matrix in memory at a time."""


@final
class KernelDistance(Score):
    """The squared maximum mean discrepancy with the kernel (x . y / d + 1)^3.

    The unbiased estimator over all pairs, in float64: it may be below 0, and its expectation does
    not depend on N. Binkowski et al. 2018, who average it over subsets of 1,000 samples: the same
    expectation, with more noise. In Inception's features, and only there, it is the KID.
    """

    name = "kd"
    takes_extractor = True
    version = "1"

    def __init__(self, subject: Subject, extractor: Extractor) -> None:
        super().__init__(subject, extractor)
        if extractor.name == "raw" and not subject.spec.is_image:
            raise self.refuse(
                "needs features with bounds: a cubic kernel of far-off vectors is noise",
                "use swd or fd/raw",
            )

    def statistics(self, real: Features) -> dict[str, Tensor]:
        every = torch.ones(1, len(real), dtype=torch.float64, device=real.x.device)
        return {"within": within(real.x, every)}

    def __call__(self, fake: Features, real: Features) -> float:
        return self._values(fake, real, torch.ones(1, len(fake), device=fake.x.device))[0]

    def resampled(self, fake: Features, real: Features, counts: Tensor) -> list[float]:
        return self._values(fake, real, counts)

    def _values(self, fake: Features, real: Features, counts: Tensor) -> list[float]:
        counts = counts.double()
        across = torch.zeros(len(counts), dtype=torch.float64, device=fake.x.device)
        for rows in torch.split(real.x, ROWS):
            across += (counts @ kernel(fake.x, rows)).sum(1)
        across /= len(fake) * len(real)
        values = real.statistics["within"] + within(fake.x, counts) - 2 * across
        found: list[float] = values.tolist()
        return found


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """k(x_i, y_j), float64 [N, M]."""
    product = (x.double() @ y.double().T).div_(x.shape[1]).add_(1.0)
    return product.square().mul_(product)


def within(x: Tensor, counts: Tensor) -> Tensor:
    """The mean of k over pairs of different draws, where sample n is drawn `counts[b, n]` times.

    x [N, d], counts float64 [B, N] with sums N -> [B].
    """
    total = torch.zeros(len(counts), dtype=torch.float64, device=x.device)
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        total += ((counts @ kernel(x, x[rows])) * counts[:, rows]).sum(1)
    itself = (x.double().square().sum(1) / x.shape[1] + 1) ** 3
    return (total - counts @ itself) / (len(x) * (len(x) - 1))
