"""The data sets that a sweep file can name; a new one is one file and one line here."""

from __future__ import annotations

from gansweep.components import Catalogue
from gansweep.data.base import Dataset

DATASETS: Catalogue[Dataset] = Catalogue(
    "data set",
    "gansweep.data.base:Dataset",
    {
        "mnist5k": "gansweep.data.mnist5k:Mnist5k",
        "digits": "gansweep.data.digits:Digits",
        "gaussian1d": "gansweep.data.toys:Gaussian1D",
        "ring8": "gansweep.data.toys:Ring8",
        "grid25": "gansweep.data.toys:Grid25",
        "swiss_roll": "gansweep.data.toys:SwissRoll",
        "mnist": "gansweep.data.idx:Mnist",
        "fashion_mnist": "gansweep.data.idx:FashionMnist",
        "image_folder": "gansweep.data.image_folder:ImageFolder",
        "npz": "gansweep.data.npz:Npz",
        "hub": "gansweep.data.hub:Hub",
    },
)
"""Built-in data sets by short name."""
