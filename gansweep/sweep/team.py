"""A team: the processes that train each trial of a worker along with it, started through Ray."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, final

import ray
import torch.distributed as dist
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from gansweep.follower import follow
from gansweep.memory import Ceiling
from gansweep.modules.ranks import LostRankError, Ranks
from gansweep.pack import resolve_device
from gansweep.redaction import guard_log
from gansweep.sweep.cards import Takes
from gansweep.sweep.folder import begin_in_folder
from gansweep.sweep.worker import use_cores

NEWS_SECONDS: Final = 10.0
"""For Ray to know why a process that is gone has ended."""


@final
class Follower:
    """One of a team's processes, but the worker's own."""

    def follow(
        self, host: str, port: int, *, rank: int, count: int, device: str, ceiling: Ceiling
    ) -> None:
        """Train along until the leader says that all is over."""
        guard_log()
        begin_in_folder()
        use_cores()
        _stay_on(host)
        own = resolve_device(device)
        store = dist.TCPStore(host, port, count, is_master=False)
        with Ranks.joined(store, rank, count, device=own) as ranks, ceiling.held():
            follow(ranks, own)


@final
class Team:
    """Stays from pack to pack, unless one of it was lost. They live in the worker's own room."""

    def __init__(self, takes: Takes) -> None:
        self._takes = takes
        self._room = ray.util.get_current_placement_group()  # of the thread that this runs in
        self._followers: list[Any] = []

    @contextmanager
    def together(self, *, device: str, ceiling: Ceiling) -> Iterator[Ranks]:
        """This process as the leader of all, while the block lasts; `ceiling` is on each."""
        count = self._takes.processes
        host = ray.util.get_node_ip_address()
        _stay_on(host)
        door = socket.create_server((host, 0))  # torch's own would listen on every address
        port = door.getsockname()[1]
        store = dist.TCPStore(
            host,
            port,
            count,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=door.detach(),
        )
        if not self._followers:
            self._followers = [self._start(place) for place in range(1, count)]
        ended = [
            each.follow.remote(host, port, rank=rank, count=count, device=device, ceiling=ceiling)
            for rank, each in enumerate(self._followers, start=1)
        ]

        def fate() -> Exception | None:
            done, _ = ray.wait(ended, num_returns=len(ended), timeout=NEWS_SECONDS)
            for each in done:
                try:
                    ray.get(each)
                except RayTaskError as error:
                    cause: Exception | None = error.cause
                    if not isinstance(cause, LostRankError):  # which hears of another's end
                        return cause
                except RayActorError:
                    pass  # it was killed
            return None

        try:
            own = resolve_device(device)
            with Ranks.joined(store, 0, count, device=own, fate=fate) as ranks:
                yield ranks
                ranks.tell("end")
            ray.get(ended)
        except BaseException:
            self.dismiss()
            raise

    def dismiss(self) -> None:
        """End the processes; others are started when they are needed."""
        for each in self._followers:
            with suppress(Exception):
                ray.kill(each)
        self._followers.clear()

    def _start(self, place: int) -> Any:
        there = PlacementGroupSchedulingStrategy(self._room, placement_group_bundle_index=place)
        return (
            ray.remote(Follower)
            .options(num_cpus=self._takes.cpu, num_gpus=self._takes.gpu, scheduling_strategy=there)
            .remote()
        )


def _stay_on(host: str) -> None:
    """Have gloo listen on loopback where `host` is; elsewhere it takes this machine's address."""
    if ipaddress.ip_address(host).is_loopback:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
