"""The order of samples: one random permutation after another, without end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gansweep.counting import counted
from gansweep.errors import ConfigError


class BatchOrder:
    """Indices of samples, each once in an epoch, in an order that depends on `seed` only.

    The stream is the concatenation of independent uniform permutations of 0..n-1; a batch may
    straddle two of them. Its generator is its own: the global one is neither read nor moved.
    """

    def __init__(self, n: int, seed: int) -> None:
        if n < 1:
            raise ValueError(f"n is {n}, must be at least 1")
        self._n = n
        self._generator = torch.Generator().manual_seed(seed)
        self._epoch = -1
        self._position = 0
        self._begin_epoch()

    def take(self, count: int) -> Tensor:
        """The next `count` indices, int64 [count] on the CPU; `count` may exceed n."""
        if count < 0:
            raise ValueError(f"count is {count}, must be at least 0")
        end = self._position + count
        if end <= self._n:
            indices = self._order[self._position : end].clone()
            self._position = end
            return indices
        pieces = [self._order[self._position :]]
        missing = end - self._n
        while missing > 0:
            self._begin_epoch()
            self._position = min(missing, self._n)
            pieces.append(self._order[: self._position])
            missing -= self._position
        return torch.cat(pieces)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next `take` depends on: integers and one uint8 tensor of 5 kB."""
        return {
            "n": self._n,
            "epoch": self._epoch,
            "position": self._position,
            "generator": self._before.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues bit-exactly where `state` was taken.

        Raises ConfigError where the state is of a data set of another size.
        """
        if state["n"] != self._n:
            raise ConfigError.single(
                "data",
                f"the checkpoint's data set has {counted(state['n'], 'sample')}, this one has "
                f"{self._n}",
                "resume with the data that the trial began with",
            )
        self._generator.set_state(state["generator"].cpu())
        self._epoch = state["epoch"] - 1
        self._begin_epoch()
        self._position = state["position"]

    def _begin_epoch(self) -> None:
        # Kept in place of the permutation: a state of 5 kB, whatever n is.
        self._before = self._generator.get_state()
        self._order = torch.randperm(self._n, generator=self._generator)
        self._position = 0
        self._epoch += 1
