"""The settings that every data set has."""

from __future__ import annotations

from dataclasses import dataclass

from gansweep.settings import setting


@dataclass(frozen=True)
class DataSettings:
    batch_size: int = setting(64, "real samples per discriminator step", ge=1)
