"""Precision, recall, density and coverage: whose neighbourhoods hold samples of the other set."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar, final

import torch
from torch import Tensor

from gansweep.metrics.base import Score
from gansweep.metrics.features import Features

NEAREST = 5
"""A sample's neighbourhood is the ball that reaches to its fifth nearest neighbour in its set."""

ROWS = 2048
"""Rows of a matrix of distances in memory at a time."""


class NeighbourScore(Score, ABC):
    """A score of the neighbourhoods of real samples R and generated ones F, in [0, 1] but density.

    All four share the distances. Naeem et al. 2020, whose code also says precision and recall
    (Kynkaanniemi et al. 2019) with five neighbours; Euclidean distances, in float64. Of real
    samples that are equal one counts, as where the data are fewer than the reference: a copy is no
    neighbour. Nor is it among real samples in the generated ones' place, for a floor.
    """

    mode = "max"
    takes_extractor = True
    version = "2"
    column: ClassVar[int]
    """Its column in `neighbour_scores`."""

    @final
    def statistics(self, real: Features) -> dict[str, Tensor]:
        return {"radii": real.shared("radii", lambda: squared_radii(distinct(real)))}

    @final
    def __call__(self, fake: Features, real: Features) -> float:
        ones = torch.ones(1, len(fake), device=fake.x.device)
        found = fake.shared("neighbours", lambda: neighbour_scores(fake, real, ones))
        return found[0][self.column]

    @final
    def resampled(self, fake: Features, real: Features, counts: Tensor) -> list[float]:
        """The generated samples' own neighbourhoods stay as they are: copies would shrink them."""
        found = fake.shared("resampled", lambda: neighbour_scores(fake, real, counts))
        return [values[self.column] for values in found]


@final
class Precision(NeighbourScore):
    """Share of F within the neighbourhood of some r."""

    name = "precision"
    column = 0


@final
class Recall(NeighbourScore):
    """Share of R within the neighbourhood of some f."""

    name = "recall"
    column = 1


@final
class Density(NeighbourScore):
    """How many neighbourhoods of R hold a sample of F, on average, over five: 1 for F = R."""

    name = "density"
    column = 2


@final
class Coverage(NeighbourScore):
    """Share of R whose neighbourhood holds a sample of F."""

    name = "coverage"
    column = 3


def neighbour_scores(fake: Features, real: Features, counts: Tensor) -> list[list[float]]:
    """(precision, recall, density, coverage) where sample n is drawn `counts[b, n]` times, [B, 4].

    `real.statistics` has the squared radii. The largest matrices are [2048, N].
    """
    weights = counts.float().T  # [N, B]
    x = distinct(real)
    real_radii = real.statistics["radii"]
    fake_radii = radii_of_copies(fake.x) if fake.real else squared_radii(fake.x)
    held = torch.zeros(len(fake), device=fake.x.device)
    recalled = torch.zeros(len(counts), device=fake.x.device)
    covered = torch.zeros(len(counts), device=fake.x.device)
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        distances = squared_distances(x[rows], fake.x)
        in_real = (distances < real_radii[rows, None]).float()
        held += in_real.sum(0)
        covered += (in_real @ weights > 0).sum(0)
        recalled += ((distances < fake_radii).float() @ weights > 0).sum(0)
    precision = (held > 0).float() @ weights / len(fake)
    density = held @ weights / (NEAREST * len(fake))
    columns = (precision, recalled / len(x), density, covered / len(x))
    found: list[list[float]] = torch.stack(columns, 1).tolist()
    return found


def distinct(real: Features) -> Tensor:
    """The features of real samples without copies, [M, d], in their order."""

    def first_of_each() -> Tensor:
        _, which = torch.unique(real.x, dim=0, return_inverse=True)
        places = torch.arange(len(which), device=which.device)
        first = torch.full_like(which, len(which)).scatter_reduce(0, which, places, "amin")
        return real.x[first[first < len(which)].sort().values]

    x: Tensor = real.shared("distinct", first_of_each)
    return x


def radii_of_copies(x: Tensor) -> Tensor:
    """`squared_radii` of x [N, d] without copies, which have those of their first one, [N]."""
    values, which = torch.unique(x, dim=0, return_inverse=True)
    return squared_radii(values)[which]


def squared_radii(x: Tensor) -> Tensor:
    """Squared distance of each of x [N, d] to its fifth nearest other one, float64 [N]."""
    nearest = min(NEAREST + 1, len(x))  # itself is the nearest
    return torch.cat(
        [
            squared_distances(rows, x).topk(nearest, dim=1, largest=False).values[:, -1]
            for rows in torch.split(x, ROWS)
        ]
    )


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2, float64 [N, M]."""
    x, y = x.double(), y.double()
    product = torch.addmm(y.square().sum(1)[None], x, y.T, alpha=-2)
    return product.add_(x.square().sum(1)[:, None])
