"""Optical digits, the smallest images: the 1,797 of 8 x 8 that scikit-learn ships."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from gansweep.data.base import Dataset, Samples
from gansweep.data.pixel_table import packaged_file, read_pixel_table
from gansweep.data.pixels import resize_all
from gansweep.data.settings import DataSettings
from gansweep.settings import setting


@final
class Digits(Dataset):
    """Handwritten digits in 17 grey levels, about 180 of each class.

    x: uint8 [1797, 1, size, size], the source's 0..16 scaled to 0..255 (halves upward); labels:
    int64 [1797]; names "0" to "9". At other sizes than 8, resized with PIL's Lanczos.
    Source: sklearn/datasets/data/digits.csv.gz, the test part of UCI's "Optical Recognition of
    Handwritten Digits".
    """

    @dataclass(frozen=True)
    class Settings(DataSettings):
        size: int = setting(8, "side of the images in pixels", ge=8, le=128)

    def load(self) -> Samples:
        """All 1,797 images. Raises ConfigError where scikit-learn is missing or damaged."""
        levels, labels = read_pixel_table(
            packaged_file("sklearn", "datasets/data/digits.csv.gz"), side=8
        )
        pixels = ((levels * 255 + 8) // 16).astype(np.uint8)
        x = resize_all(pixels, self.settings.size)
        return Samples(torch.from_numpy(x), torch.from_numpy(labels), tuple("0123456789"))
