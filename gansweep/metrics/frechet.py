"""Frechet distance between two sets of features."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from gansweep.metrics.base import Score
from gansweep.metrics.features import Features


@final
class FrechetDistance(Score):
    """The squared Frechet (2-Wasserstein) distance between Gaussians with the sets' moments.

    |m_r - m_f|^2 + tr(C_r + C_f - 2 (C_r^1/2 C_f C_r^1/2)^1/2), covariances with N - 1, in float64
    (Dowson and Landau 1982; as a score Heusel et al. 2017). In Inception's features, and only
    there, it is the FID. Its expectation falls as N grows: compare equal counts alone.
    """

    name = "fd"
    takes_extractor = True
    version = "1"

    def statistics(self, real: Features) -> dict[str, Tensor]:
        mean, covariance = moments(real.x)
        return {"mean": mean, "root": root(covariance)}

    def __call__(self, fake: Features, real: Features) -> float:
        mean, covariance = moments(fake.x)
        its_root = real.statistics["root"]
        if not bool(covariance.isfinite().all()):
            return float("nan")  # eigvalsh would raise
        between = torch.linalg.eigvalsh(its_root @ covariance @ its_root)
        shift = (mean - real.statistics["mean"]).square().sum()
        spread = its_root.square().sum() + covariance.trace()
        return float(shift + spread - 2 * between.clamp(min=0).sqrt().sum())


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [d] and covariance [d, d] of x [N, d], float64."""
    x = x.double()
    return x.mean(0), torch.cov(x.T).reshape(x.shape[1], x.shape[1])


def root(covariance: Tensor) -> Tensor:
    """The symmetric square root; eigenvalues below 0, which rounding makes, are 0."""
    values, vectors = torch.linalg.eigh(covariance)
    rooted: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return rooted
