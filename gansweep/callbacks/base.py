"""What happens between generator steps: callbacks that act at intervals of g_steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pytorch_lightning as pl
import torch


class TrialCallback(pl.Callback, ABC):
    """Acts after a generator step when it is due; the last step of the budget is always offered.

    Subclasses see `g_step`, the number of generator steps done, never Lightning's `global_step`.
    """

    @abstractmethod
    def due(self, g_step: int, *, last: bool) -> bool:
        """Whether to act after `g_step` generator steps; `last` at the end of the budget."""

    @abstractmethod
    def act(self, trainer: pl.Trainer, module: Any, g_step: int) -> None:
        """Do it. The module is in train mode and must be left so."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        g_step = pl_module.g_step
        if self.due(g_step, last=g_step >= pl_module.g_steps_budget):
            # Whatever draws here from torch's global generator, dropout's stream stays as it was.
            on_gpu = [pl_module.device] if pl_module.device.type == "cuda" else []
            with torch.random.fork_rng(devices=on_gpu):
                self.act(trainer, pl_module, g_step)
