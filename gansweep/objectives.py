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
from torch.nn.functional import relu, softplus


class Objective(ABC):
    """The game's two losses. Subclasses are frozen dataclasses."""

    needs_real: ClassVar[bool] = False
    """Whether G's loss depends on D's logits on real samples too."""

    saturates: ClassVar[bool] = False
    """Whether D's loss nears a limit that no finite logits reach: a D that is always right then
    leaves G a gradient that vanishes, or grows without bound."""

    @property
    def undecided(self) -> float | None:
        """The logit above which D takes a sample for real; None where D judges no single one."""
        return None

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """D's loss from its logits on real [N] and generated [N] samples: a scalar to minimise."""

    @abstractmethod
    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """G's loss from D's logits on generated samples [N]: a scalar to minimise.

        `real`: the logits on real samples [N], where the objective needs them; else None.
        """

    @abstractmethod
    def diagnostics(self, real: Tensor, fake: Tensor) -> Mapping[str, Tensor]:
        """What is worth watching besides the losses, as scalars by metric name (`d/...`)."""


class Probabilistic(Objective):
    """D(x) = sigmoid(logit) is the probability that x is real (Goodfellow et al. 2014, eq. 1)."""

    saturates: ClassVar[bool] = True

    @property
    def undecided(self) -> float:
        """D(x) = 1/2."""
        return 0.0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """-E[log D(x)] - E[log(1 - D(G(z)))], in the logits' stable form."""
        return softplus(-real).mean() + softplus(fake).mean()

    def diagnostics(self, real: Tensor, fake: Tensor) -> Mapping[str, Tensor]:
        """Mean D(x) on both sides and D's accuracy; all three tend to 1/2 at the equilibrium."""
        return {
            "d/real": real.sigmoid().mean(),
            "d/fake": fake.sigmoid().mean(),
            "d/accuracy": _accuracy(real, fake, 0.0),
        }


@final
@dataclass(frozen=True)
class Minimax(Probabilistic):
    """The minimax game (Goodfellow et al. 2014, eq. 1); G's loss saturates where D is sure."""

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """E[log(1 - D(G(z)))]."""
        return -softplus(fake).mean()


@final
@dataclass(frozen=True)
class NonSaturating(Probabilistic):
    """The heuristic of the same paper, section 3: G maximises log D(G(z)) instead."""

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """-E[log D(G(z))]."""
        return softplus(-fake).mean()


@final
@dataclass(frozen=True)
class Bidirectional(Probabilistic):
    """BiGAN's game of pairs, [x, E(x)] against [G(z), z] (Donahue et al. 2017, eq. 3).

    G must pass its pairs off as E's, and E its own as G's. Both take D's labels the other way round
    (jeffdonahue/bigan, gan.py: `opp_loss`), since D's loss negated saturates.
    """

    needs_real: ClassVar[bool] = True

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """-E[log D(G(z), z)] - E[log(1 - D(x, E(x)))]."""
        if real is None:
            raise ValueError("BiGAN's objective needs D's logits on real samples")
        return softplus(-fake).mean() + softplus(real).mean()


@final
@dataclass(frozen=True)
class LeastSquares(Objective):
    """LSGAN (Mao et al. 2017, eq. 2): D(x) is pulled towards labels, quadratically.

    real_label b and fake_label a are what D aims at, target c is what G wants of D. (a, b, c) =
    (0, 1, 1) is eq. 9 and the authors' code; (-1, 1, 0) is eq. 8, whose minimum over both players
    is that of Pearson's chi-squared divergence.
    """

    fake_label: float = 0.0
    real_label: float = 1.0
    target: float = 1.0

    @property
    def undecided(self) -> float:
        """The middle of D's two labels."""
        return (self.real_label + self.fake_label) / 2

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """E[(D(x) - b)^2] / 2 + E[(D(G(z)) - a)^2] / 2."""
        pull = ((real - self.real_label) ** 2).mean() + ((fake - self.fake_label) ** 2).mean()
        return pull / 2

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """E[(D(G(z)) - c)^2] / 2."""
        return ((fake - self.target) ** 2).mean() / 2

    def diagnostics(self, real: Tensor, fake: Tensor) -> Mapping[str, Tensor]:
        """Mean D(x) on both sides, and D's accuracy at the middle of its two labels."""
        accuracy = _accuracy(real, fake, self.undecided)
        return {"d/real": real.mean(), "d/fake": fake.mean(), "d/accuracy": accuracy}


@final
@dataclass(frozen=True)
class Hinge(Objective):
    """The hinge loss (Lim & Ye 2017), as in pfnet-research/sngan_projection, updater.py."""

    @property
    def undecided(self) -> float:
        """The middle of D's margin."""
        return 0.0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]: beyond the margin D gains nothing."""
        return relu(1.0 - real).mean() + relu(1.0 + fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """-E[D(G(z))]."""
        return -fake.mean()

    def diagnostics(self, real: Tensor, fake: Tensor) -> Mapping[str, Tensor]:
        """Mean D(x) on both sides, and D's accuracy at 0, the middle of its margin."""
        accuracy = _accuracy(real, fake, self.undecided)
        return {"d/real": real.mean(), "d/fake": fake.mean(), "d/accuracy": accuracy}


@final
@dataclass(frozen=True)
class RelativisticPairing(Objective):
    """RpGAN: D tells which of a pair is the real one (Jolicoeur-Martineau 2019).

    With f(t) = -log(1 + e^-t), as in R3GAN (Huang et al. 2024). Sample i of the real batch is
    paired with sample i of the generated one, in G's step too.
    """

    needs_real: ClassVar[bool] = True
    saturates: ClassVar[bool] = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """-E[log sigmoid(D(x) - D(G(z)))]."""
        return softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """-E[log sigmoid(D(G(z)) - D(x))]."""
        if real is None:
            raise ValueError("a relativistic objective needs D's logits on real samples")
        return softplus(real - fake).mean()

    def diagnostics(self, real: Tensor, fake: Tensor) -> Mapping[str, Tensor]:
        """Mean D(x) on both sides, and the share of pairs that D puts in the right order."""
        accuracy = (real > fake).to(real.dtype).mean()
        return {"d/real": real.mean(), "d/fake": fake.mean(), "d/accuracy": accuracy}


@final
@dataclass(frozen=True)
class Wasserstein(Objective):
    """The Kantorovich-Rubinstein dual (Arjovsky et al. 2017, eq. 2): no sigmoid and no log."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """-(E[D(x)] - E[D(G(z))])."""
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """-E[D(G(z))]."""
        return -fake.mean()

    def diagnostics(self, real: Tensor, fake: Tensor) -> Mapping[str, Tensor]:
        """The critic's estimate of W1, up to its Lipschitz constant, and its two means."""
        real_mean, fake_mean = real.mean(), fake.mean()
        return {"d/real": real_mean, "d/fake": fake_mean, "d/wasserstein": real_mean - fake_mean}


def _accuracy(real: Tensor, fake: Tensor, threshold: float | Tensor) -> Tensor:
    """Share of samples on their own side of `threshold`, each side counting half."""
    right = (real > threshold).to(real.dtype).mean() + (fake <= threshold).to(fake.dtype).mean()
    return right / 2
