"""WGAN with weight clipping (Arjovsky et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import nn

from gansweep.constraints import WeightClip
from gansweep.formulation import Formulation
from gansweep.modules.alternating import AlternatingModule, Published, VariantSettings
from gansweep.objectives import Wasserstein
from gansweep.optimizers import OptimizerSpec
from gansweep.settings import setting


@dataclass(frozen=True)
class WGANSettings(VariantSettings):
    n_critic: int = setting(5, "critic steps per generator step", ge=1)
    clip: float = setting(0.01, "bound c: every critic weight is clamped to [-c, c]", gt=0)
    clip_timing: Literal["before", "after"] = setting(
        "before", "clamp before each critic step (the authors' code) or after it (Algorithm 1)"
    )
    clip_normalisation: bool = setting(
        True, "clamp the weights of normalisation layers too (the authors' code)"
    )
    burst_n_critic: int = setting(100, "critic steps per generator step in a burst", ge=1)
    burst_first: int = setting(25, "the first g_steps are a burst; 0: none", ge=0)
    burst_every: int = setting(500, "every such g_step is a burst; 0: none", ge=0)


@final
class WGAN(AlternatingModule):
    """Arjovsky et al. 2017, Algorithm 1, as in the authors' code (martinarjovsky/WassersteinGAN).

    A critic without sigmoid, n_critic 5, RMSprop at 5e-5, clip 0.01, and the code's burst of 100
    critic steps for the first 25 generator steps and at every 500th. Algorithm 1 itself is
    `clip_timing: after, burst_first: 0, burst_every: 0`.
    """

    Settings = WGANSettings
    published: ClassVar[Published] = {
        "network": {"name": "dcgan"},
        "latent": {"dim": 100, "distribution": "normal"},
        "optimizer": {"name": "rmsprop", "lr": 5e-5},
        "data": {"batch_size": 64},
    }

    @classmethod
    def formulate(cls, settings: WGANSettings) -> Formulation:
        clip = WeightClip(settings.clip, settings.clip_timing, settings.clip_normalisation)
        return Formulation(Wasserstein(), constraint=clip)

    @classmethod
    def d_steps(cls, settings: WGANSettings, g_step: int) -> int:
        in_burst = g_step < settings.burst_first or (
            settings.burst_every > 0 and g_step % settings.burst_every == 0
        )
        return settings.burst_n_critic if in_burst else settings.n_critic

    @classmethod
    def advice(
        cls, settings: WGANSettings, *, optimizer: OptimizerSpec, discriminator: nn.Module
    ) -> list[str]:
        if optimizer.momentum > 0:
            return [
                "momentum in the critic's optimizer under weight clipping makes training unstable "
                "(Arjovsky et al. 2017, section 4): use rmsprop, or beta1: 0"
            ]
        return []
