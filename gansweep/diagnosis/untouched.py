"""Looking without touching: what a forward pass in train mode changes is put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gansweep.modules.alternating import AlternatingModule, global_state


@contextmanager
def untouched(module: AlternatingModule, rng: torch.Generator) -> Iterator[None]:
    """Both networks' buffers and torch's global generator are afterwards what they were before.

    Within, what networks draw (dropout) comes from the stream `rng`. Weights, optimizers and the
    trial's own streams are not reached by a forward pass at all.
    """
    buffers = [*module.generator.buffers(), *module.discriminator.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    try:
        with global_state(rng.get_state(), module.device):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)
