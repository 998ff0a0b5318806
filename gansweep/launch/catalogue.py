"""The kinds of clusters by name."""

from __future__ import annotations

from gansweep.components import Catalogue
from gansweep.launch.base import Launcher

LAUNCHERS: Catalogue[Launcher] = Catalogue(
    "target",
    "gansweep.launch.base:Launcher",
    {
        "kubernetes": "gansweep.launch.kubernetes:Kubernetes",
        "ray": "gansweep.launch.ray_jobs:RayJobs",
        "slurm": "gansweep.launch.slurm:Slurm",
    },
)
