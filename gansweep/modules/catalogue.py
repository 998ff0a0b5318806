"""The built-in variants by name."""

from __future__ import annotations

from gansweep.components import Catalogue
from gansweep.modules.alternating import AlternatingModule

VARIANTS: Catalogue[AlternatingModule] = Catalogue(
    "model",
    "gansweep.modules.alternating:AlternatingModule",
    {
        "gan": "gansweep.modules.gan:GAN",
        "dcgan": "gansweep.modules.dcgan:DCGAN",
        "wgan": "gansweep.modules.wgan:WGAN",
        "wgan_gp": "gansweep.modules.wgan_gp:WGANGP",
        "cgan": "gansweep.modules.cgan:ConditionalGAN",
        "lsgan": "gansweep.modules.lsgan:LSGAN",
        "hinge": "gansweep.modules.hinge:HingeGAN",
        "dragan": "gansweep.modules.dragan:DRAGAN",
        "r1gan": "gansweep.modules.r1gan:R1GAN",
        "r3gan": "gansweep.modules.r3gan:R3GAN",
        "bigan": "gansweep.modules.bigan:BiGAN",
    },
)
