"""Numbers too small for a full mantissa, which a CPU computes with many times slower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def flushed() -> Iterator[None]:
    """Have this thread take subnormal numbers (float32: below 1.2e-38) for zero, where the CPU can.

    Adam's mean gradient of a weight that gets none any more, a dead unit's, shrinks with each step
    until it is one, and stays one where beta1 is above a half; `python -m benchmarks.subnormals`
    tells how many do, and what they cost. CUDA kernels are not concerned.

    The threads that torch shares this one's work with are as it was when they were first needed:
    enter this before the process works on large tensors.
    """
    for kind in (np.float32, np.float64):
        np.finfo(kind)  # NumPy before 2.4 warns where it first looks at them while they are zero
    before = is_flushed()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def is_flushed() -> bool:
    """Whether subnormal numbers are zero in this thread."""
    return not torch.tensor(1e-39, dtype=torch.float32).mul(2.0).item()
