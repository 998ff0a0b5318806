"""A follower: a process that trains a trial along with its leader, and records nothing."""

from __future__ import annotations

import io
import json
from typing import Any, final

import torch

from gansweep.assembly import build_module, load_samples
from gansweep.config import TrialConfig, resolved
from gansweep.data.base import Samples
from gansweep.data.batch import Batch, resident
from gansweep.data.stream import BatchOrder
from gansweep.modules.data_parallel import Member
from gansweep.modules.ranks import Ranks
from gansweep.seeding import stream_seed
from gansweep.subnormals import flushed


def follow(ranks: Ranks, device: torch.device) -> None:
    """Do as the leader says, until it says that all is over.

    Raises what training raises, and LostRankError where the leader is gone.
    """
    with flushed():  # as the leader's pack
        follower = _Follower(ranks, device)
        while True:
            order, words = ranks.hear()
            match order:
                case "begin":
                    follower.begin(words)
                case "step":
                    follower.step()
                case "end":
                    return


@final
class _Follower:
    """The trial as it stands here: settings, module and data order are the leader's."""

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        self._ranks = ranks
        self._device = device
        self._data: tuple[Any, Samples] | None = None

    def begin(self, words: bytes) -> None:
        """Stand where the leader's trial stands, whatever was here before."""
        told = torch.load(io.BytesIO(words), map_location="cpu", weights_only=True)
        config = resolved(json.loads(told["tree"]))
        self._config = config
        self._samples = self._load(config)
        module = build_module(config, self._samples.spec)
        module.to(self._device)
        module.setup("fit")
        module.configure_optimizers()
        module.load_training_state(told["module"])
        self._order = BatchOrder(len(self._samples), stream_seed(config.run.seed, "data"))
        self._order.load_state_dict(told["order"])
        self._member = Member(module, self._ranks)

    def step(self) -> None:
        config, module = self._config, self._member.module
        size = config.data.settings.batch_size
        steps = config.model.cls.d_steps(config.model.settings, module.g_step)
        batch = Batch.take(self._samples, self._order, steps=steps, size=size, device=self._device)
        with torch.autocast(  # as Lightning does for the leader: weights change within a step
            self._device.type,
            torch.bfloat16,
            enabled=config.run.precision == "bf16",
            cache_enabled=False,
        ):
            self._member.step(batch)
        module.meters.clear()  # it is the leader who reads them

    def _load(self, config: TrialConfig) -> Samples:
        data = config.data.to_dict()
        if self._data is None or self._data[0] != data:
            self._data = (data, resident(load_samples(config), self._device))
        return self._data[1]
