"""Real images beside what the generator makes of their codes."""

from __future__ import annotations

from typing import ClassVar, final

from torch import Tensor

from gansweep.callbacks.encoder_picture import EncoderPicture
from gansweep.networks.encoding import EncodingGenerator


@final
class Reconstructions(EncoderPicture):
    """x, and below it G(E(x)): alike where E inverts G and G makes what the data hold."""

    series: ClassVar[str] = "reconstructions"

    def strips(self, G: EncodingGenerator, x: Tensor, mean: Tensor) -> tuple[Tensor, ...]:
        return x, G.reconstruct(x)
