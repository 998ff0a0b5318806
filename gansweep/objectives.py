"""Adversarial objectives: what D and G minimise, as pure functions of D's logits.

Each takes logits [N] (for the Wasserstein objective: the critic's values) and returns a scalar,
the mean over the batch. No state, no randomness, safe under `torch.func.vmap` and in float64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor
from torch.nn.functional import softplus


class Objective(ABC):
    """The game's two losses. Subclasses are frozen dataclasses."""

    undecided: ClassVar[float | None] = None
    """The logit above which D takes a sample for real; None where D is a critic, no classifier."""

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """D's loss from its logits on real [N] and generated [N] samples: a scalar to minimise."""

    @abstractmethod
    def generator(self, fake: Tensor) -> Tensor:
        """G's loss from D's logits on generated samples [N]: a scalar to minimise."""

    @abstractmethod
    def diagnostics(self, real: Tensor, fake: Tensor) -> Mapping[str, Tensor]:
        """What is worth watching besides the losses, as scalars by metric name (`d/...`)."""


class _Probabilistic(Objective):
    """D(x) = sigmoid(logit) is the probability that x is real (Goodfellow et al. 2014, eq. 1)."""

    undecided = 0.0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """-E[log D(x)] - E[log(1 - D(G(z)))], in the logits' stable form."""
        return softplus(-real).mean() + softplus(fake).mean()

    def diagnostics(self, real: Tensor, fake: Tensor) -> Mapping[str, Tensor]:
        """Mean D(x) on both sides and D's accuracy; all three tend to 1/2 at the equilibrium."""
        accuracy = ((real > 0).to(real.dtype).mean() + (fake <= 0).to(fake.dtype).mean()) / 2
        return {
            "d/real": real.sigmoid().mean(),
            "d/fake": fake.sigmoid().mean(),
            "d/accuracy": accuracy,
        }


@final
@dataclass(frozen=True)
class Minimax(_Probabilistic):
    """The minimax game (Goodfellow et al. 2014, eq. 1); G's loss saturates where D is sure."""

    def generator(self, fake: Tensor) -> Tensor:
        """E[log(1 - D(G(z)))]."""
        return -softplus(fake).mean()


@final
@dataclass(frozen=True)
class NonSaturating(_Probabilistic):
    """The heuristic of the same paper, section 3: G maximises log D(G(z)) instead."""

    def generator(self, fake: Tensor) -> Tensor:
        """-E[log D(G(z))]."""
        return softplus(-fake).mean()


@final
@dataclass(frozen=True)
class Wasserstein(Objective):
    """The Kantorovich-Rubinstein dual (Arjovsky et al. 2017, eq. 2): no sigmoid and no log."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """-(E[D(x)] - E[D(G(z))])."""
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor) -> Tensor:
        """-E[D(G(z))]."""
        return -fake.mean()

    def diagnostics(self, real: Tensor, fake: Tensor) -> Mapping[str, Tensor]:
        """The critic's estimate of W1, up to its Lipschitz constant, and its two means."""
        real_mean, fake_mean = real.mean(), fake.mean()
        return {"d/real": real_mean, "d/fake": fake_mean, "d/wasserstein": real_mean - fake_mean}
