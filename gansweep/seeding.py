"""Streams of randomness: independent seeds derived from one seed by name."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream_seed(seed: int, *names: object) -> int:
    """A 63-bit seed for the stream `names` of `seed`; equal on every machine and version."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for the stream `names` of `seed`."""
    import torch  # seconds, which those who only name seeds need not wait for

    return torch.Generator(device=device).manual_seed(stream_seed(seed, *names))
