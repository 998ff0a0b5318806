"""The GPUs of a cluster: how many workers find room on them, and what share of one each takes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Final, final

from gansweep.errors import ConfigError
from gansweep.sweep.file import Resources
from gansweep.sweep.packing import MOST_ON_GPU

CONTEXT_GB: Final = 0.5
"""Of a card's memory that CUDA takes for each process, about, besides what torch allocates."""

GRAIN: Final = 10_000
"""Ray counts in so many parts of a GPU; a share is rounded down, so that all of them fit."""


@final
@dataclass(frozen=True)
class Takes:
    """What a worker takes of the cluster. nodes: ids of those where it may be; none: anywhere.

    processes: so many times that, each part on one node.
    """

    cpu: float = 1.0
    gpu: float = 0.0
    nodes: tuple[str, ...] = ()
    processes: int = 1


@final
@dataclass(frozen=True)
class Node:
    """A node with GPUs. memory_gb: of each card, the smallest where they differ."""

    id: str
    cpus: float
    cards: int
    memory_gb: float


class Room(ABC):
    """Where workers are placed, and what each takes there."""

    workers: int
    """How many fit at a time."""
    most: int
    """Trials that a pack may have at most, unless the file says how many."""

    @abstractmethod
    def place(self, pack: str, *, times: int = 1) -> Takes:
        """Room for the worker of `pack`; of a single trial with so many times the usual share."""

    @abstractmethod
    def leave(self, pack: str) -> None:
        """That worker is gone."""

    @abstractmethod
    def grows(self, times: int) -> bool:
        """Whether there is more to be had than `times` the usual share."""


@final
class Anywhere(Room):
    """Every worker takes what `resources` say, on whatever node has it."""

    def __init__(self, resources: Resources, *, workers: int, most: int) -> None:
        self.workers = workers
        self.most = most
        self._takes = resources

    def place(self, pack: str, *, times: int = 1) -> Takes:
        own = self._takes
        gpu = own.gpu if own.gpu >= 1 else min(1.0, own.gpu * times)
        return Takes(own.cpu, gpu, processes=own.processes)

    def leave(self, pack: str) -> None:
        pass

    def grows(self, times: int) -> bool:
        own = self._takes
        return 0 < own.gpu * times < 1 or bool(own.gpu and own.gpu_memory_gb)


@final
class ByMemory(Room):
    """Each worker takes the share of a card that its memory is of that card's.

    So many equal workers share a card as its memory holds whole; a worker is told the kind of node
    for which its share was reckoned. No card is ever promised more memory than it has.
    """

    def __init__(
        self, resources: Resources, nodes: Sequence[Node], *, alive: Callable[[], Set[str]]
    ) -> None:
        """`alive` are the ids of the nodes that have not been lost.

        Raises:
            ConfigError: no card holds a single worker.
        """
        each = resources.gpu_memory_gb
        assert each is not None
        self._cpu = resources.cpu
        self._each = each
        self._nodes = nodes
        self._alive = alive
        sizes = sorted({node.memory_gb for node in nodes})
        fit = [math.floor((size - CONTEXT_GB) / each) for size in sizes]
        smallest = next((trials for trials in fit if trials >= 1), 1)
        self.most = resources.pack or min(MOST_ON_GPU, smallest)
        if not sizes or not self._per_card(sizes[-1], 1):
            what = f"a pack of {self.most} takes {self._needs(1):g} GB of a card with CUDA's own"
            largest = f"the largest has {sizes[-1]:.3g}" if sizes else "no node has one"
            raise ConfigError.single(
                "resources.gpu_memory_gb", f"{what}, {largest}", "lower it, or resources.pack"
            )
        fitting = max(1, sum(map(self._capacity, nodes)))
        self.workers = min(fitting, resources.concurrent or fitting)
        self._placed: dict[str, tuple[float, float]] = {}  # kind, and part of its room

    def place(self, pack: str, *, times: int = 1) -> Takes:
        alive = self._alive()
        nodes = [node for node in self._nodes if node.id in alive] or list(self._nodes)
        kinds = {node.memory_gb for node in nodes if self._per_card(node.memory_gb, times)}
        if not kinds:  # no card has so much: all of a largest one
            kinds = {max(node.memory_gb for node in nodes)}

        def free(kind: float) -> float:
            used = sum(part for where, part in self._placed.values() if where == kind)
            return sum(self._capacity(node) for node in nodes if node.memory_gb == kind) - used

        kind = max(sorted(kinds), key=free)
        sharing = self._per_card(kind, times) or 1
        self._placed[pack] = (kind, (self._per_card(kind, 1) or 1) / sharing)
        mixed = len({node.memory_gb for node in self._nodes}) > 1
        return Takes(
            self._cpu,
            math.floor(GRAIN / sharing) / GRAIN,
            tuple(node.id for node in nodes if mixed and node.memory_gb == kind),
        )

    def leave(self, pack: str) -> None:
        self._placed.pop(pack, None)

    def grows(self, times: int) -> bool:
        return times * self._each + CONTEXT_GB < max(node.memory_gb for node in self._nodes)

    def _needs(self, times: int) -> float:
        """GB of a card for a pack of the usual size, or for one trial with `times` its memory."""
        return max(self.most, times) * self._each + CONTEXT_GB

    def _per_card(self, memory_gb: float, times: int) -> int:
        """Workers that share a card of `memory_gb`."""
        return math.floor(memory_gb / self._needs(times))

    def _capacity(self, node: Node) -> int:
        """Workers of the usual share that fit on a node."""
        by_cores = math.floor(node.cpus / self._cpu + 1e-9)
        return min(by_cores, node.cards * self._per_card(node.memory_gb, 1))
