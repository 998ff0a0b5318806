"""The built-in architectures by name; a new one is a new file and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gansweep.components import Catalogue

if TYPE_CHECKING:  # it imports torch, which reading a sweep file does not need
    from gansweep.networks.base import Architecture

ARCHITECTURES: Catalogue[Architecture] = Catalogue(
    "network",
    "gansweep.networks.base:Architecture",
    {
        "mlp": "gansweep.networks.mlp:MLP",
        "maxout": "gansweep.networks.maxout:MaxoutNetworks",
        "dcgan": "gansweep.networks.dcgan:DCGAN",
        "pacgan": "gansweep.networks.pacgan:PacGANNetworks",
        "bigan": "gansweep.networks.bigan:BiGANNetworks",
    },
)
