"""Ranks: the processes that train one trial together, and what they say to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, Literal, final

import torch
import torch.distributed as dist
from torch import Tensor

Order = Literal["end", "begin", "step"]
_ORDERS: Final[tuple[Order, ...]] = ("end", "begin", "step")

JOIN_SECONDS: Final = 300.0
"""For all ranks to come: a process starts, and imports torch."""

_PATIENCE: Final = timedelta(days=30)
"""For the next order: the leader may rest until a scheduler's verdict. Who dies is heard of."""

_GRADIENTS_PATIENCE: Final = timedelta(minutes=10)
"""For gradients on GPUs, where a rank that died is not heard of otherwise."""


class LostRankError(RuntimeError):
    """A process that trains along is gone."""


@final
class Ranks:
    """This process's place among those that train a trial together; number 0 leads.

    The leader gives orders, which all others hear in the same sequence. Every number is averaged
    with those of the other ranks; what is told goes by the host's memory and waits for no GPU.
    """

    def __init__(
        self, rank: int, count: int, *, device: torch.device, fate: Callable[[], Exception | None]
    ) -> None:
        self.rank = rank
        self.count = count
        self._fate = fate
        self._numbers = (
            dist.new_group(backend="nccl", timeout=_GRADIENTS_PATIENCE)
            if device.type == "cuda"
            else None
        )

    @classmethod
    @contextmanager
    def joined(
        cls,
        store: dist.Store,
        rank: int,
        count: int,
        *,
        device: torch.device,
        fate: Callable[[], Exception | None] = lambda: None,
    ) -> Iterator[Ranks]:
        """Among the `count` ranks that meet at `store`, once all are there, until the block ends.

        fate: what another rank raised, where one has ended so; it may wait a moment for the news.

        Raises:
            LostRankError: one has not come.
        """
        here = [f"here/{each}" for each in range(count)]
        store.set(here[rank], "")
        try:
            store.wait(here, timedelta(seconds=JOIN_SECONDS))
        except RuntimeError as error:
            raise fate() or LostRankError(f"not all of {count} processes came") from error
        dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=_PATIENCE)
        try:
            yield cls(rank, count, device=device, fate=fate)
        finally:
            dist.destroy_process_group()

    def part(self, size: int) -> slice:
        """This rank's part of a batch of `size`, which the number of ranks divides."""
        each = size // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def means(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The mean of each over the ranks, to the same bit on all. One type, one device."""
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        group = self._numbers if flat.is_cuda else None
        self._said(lambda: dist.all_reduce(flat, group=group))
        flat /= self.count
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def tell(self, order: Order, words: bytes = b"") -> None:
        """The leader's next order, with what the others need to know for it."""
        self._said(lambda: dist.broadcast(torch.tensor([_ORDERS.index(order), len(words)]), src=0))
        if words:
            content = torch.frombuffer(bytearray(words), dtype=torch.uint8)
            self._said(lambda: dist.broadcast(content, src=0))

    def hear(self) -> tuple[Order, bytes]:
        """The leader's next order and its words, when it comes."""
        head = torch.empty(2, dtype=torch.int64)
        self._said(lambda: dist.broadcast(head, src=0))
        order, length = head.tolist()
        content = torch.empty(length, dtype=torch.uint8)
        if length:
            self._said(lambda: dist.broadcast(content, src=0))
        return _ORDERS[order], content.numpy().tobytes()

    def _said(self, call: Callable[[], object]) -> None:
        try:
            call()
        except RuntimeError as error:
            raise self._fate() or LostRankError(f"a process is gone: {error}") from error
