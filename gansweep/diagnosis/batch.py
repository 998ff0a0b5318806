"""What a diagnosis looks at: real samples and latents that are the same in every trial."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import pdist

from gansweep.data.base import Samples, to_float
from gansweep.dataspec import Condition
from gansweep.diagnosis.classifier import Classifier
from gansweep.latent import Latent
from gansweep.seeding import stream


@final
@dataclass(frozen=True)
class FixedBatch:
    """Real samples [B, *shape] with their labels, latents [B, dim], and a stream for the rest.

    spread: the real samples' mean pairwise distance. classify: None where nobody can tell.
    """

    real: Tensor
    labels: Tensor | None
    z: Tensor
    seed: int
    spread: float
    classify: Classifier | None

    @cached_property
    def classes(self) -> int:
        """How many classes are among the real samples; 0 where nobody can tell."""
        with torch.no_grad():
            return 0 if self.classify is None else len(torch.unique(self.classify(self.real)))

    def stream(self, name: str) -> torch.Generator:
        """A generator of its own, on the batch's device, that always gives the same."""
        return stream(self.seed, "diagnosis", name, device=self.real.device)


def draw(
    samples: Samples,
    *,
    count: int,
    latent: Latent,
    condition: Condition | None,
    classify: Classifier | None,
    seed: int,
    device: torch.device,
) -> FixedBatch:
    """`count` of the samples, some more than once where there are fewer; from `seed` alone."""
    rng = stream(seed, "diagnosis")
    order = torch.randperm(len(samples), generator=rng)
    picked = order[torch.arange(count) % len(samples)]
    labels = None
    if condition is not None and samples.labels is not None:
        labels = samples.labels[picked].to(device)
    real = to_float(samples.x[picked]).to(device)
    return FixedBatch(
        real=real,
        labels=labels,
        z=latent.draw(count, rng=rng).to(device),
        seed=seed,
        spread=float(spread(real)),
        classify=classify,
    )


def spread(x: Tensor) -> Tensor:
    """Mean Euclidean distance of the pairs of samples [N, *shape], a scalar."""
    return pdist(x.flatten(1)).mean()
