"""Averages the generator's weights through training."""

from __future__ import annotations

from typing import Any, final

import pytorch_lightning as pl
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


@final
class EMA(pl.Callback):
    """An exponential moving average of G, updated after every generator step.

    theta_ema <- decay theta_ema + (1 - decay) theta, parameters and floating-point buffers alike
    (Yaz\u0131c\u0131 et al. 2019; torch.optim.swa_utils). It starts from the first step's weights.
    """

    def __init__(self, generator: nn.Module, *, decay: float) -> None:
        self.model = AveragedModel(
            generator,
            multi_avg_fn=get_ema_multi_avg_fn(decay),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )

    @property
    def generator(self) -> nn.Module:
        """The averaged generator, in eval mode when sampled."""
        module: nn.Module = self.model.module
        return module

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.model.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.model.update_parameters(pl_module.generator)

    def state_dict(self) -> dict[str, Any]:
        return self.model.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.model.load_state_dict(state_dict)
