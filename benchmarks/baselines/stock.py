"""The sweep as the stock composition: Lightning modules under Ray Tune, with MLflow's callback.

    python -m benchmarks.baselines.stock wgan --width 64 --g-steps 1000 --workers 2

Written after the projects' own guides: Lightning's GAN with manual optimization (toggled
optimizers, self.log, a DataLoader that shuffles), Ray's function trainables with data by
`tune.with_parameters`, MLflowLoggerCallback on a SQLite store. What Lightning turns on by itself
(progress bar, logger, a checkpoint each epoch) stays on; `--lean` turns it off.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.baselines.networks import dcgan, mlp
from benchmarks.baselines.problem import (
    BATCH,
    DATA,
    GRIDS,
    LATENT,
    LOG_EVERY,
    N_CRITIC,
    draw,
    load_images,
    points,
    print_table,
    save_grid,
    score,
)


class WGAN(pl.LightningModule):
    """Weight clipping; a batch is a critic step, every fifth is followed by a generator step."""

    def __init__(self, *, side: int, width: int, lr: float, clip: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator, self.critic = mlp(side, width=width, latent=LATENT)
        self.g_steps = self.d_steps = 0

    def configure_optimizers(self) -> Any:
        lr = self.hparams["lr"]
        return [
            torch.optim.RMSprop(self.critic.parameters(), lr=lr),
            torch.optim.RMSprop(self.generator.parameters(), lr=lr),
        ]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        (real,) = batch
        d_optimizer, g_optimizer = self.optimizers()  # type: ignore[attr-defined]
        clip = self.hparams["clip"]

        self.toggle_optimizer(d_optimizer)
        for p in self.critic.parameters():
            p.data.clamp_(-clip, clip)
        fake = self.generator(torch.randn(BATCH, LATENT, device=self.device)).detach()
        d_loss = self.critic(fake).mean() - self.critic(real).mean()
        d_optimizer.zero_grad()
        self.manual_backward(d_loss)
        d_optimizer.step()
        self.untoggle_optimizer(d_optimizer)
        self.log("d_loss", d_loss, prog_bar=True)
        self.d_steps += 1

        if self.d_steps % N_CRITIC == 0:
            self.toggle_optimizer(g_optimizer)
            g_loss = -self.critic(
                self.generator(torch.randn(BATCH, LATENT, device=self.device))
            ).mean()
            g_optimizer.zero_grad()
            self.manual_backward(g_loss)
            g_optimizer.step()
            self.untoggle_optimizer(g_optimizer)
            self.log("g_loss", g_loss, prog_bar=True)
            self.g_steps += 1


class DCGAN(pl.LightningModule):
    """The game of 2014 on convolutional networks."""

    def __init__(self, *, side: int, width: int, lr: float, beta1: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator, self.discriminator = dcgan(side, width=width, latent=LATENT)
        self.g_steps = 0

    def configure_optimizers(self) -> Any:
        lr, betas = self.hparams["lr"], (self.hparams["beta1"], 0.999)
        return [
            torch.optim.Adam(self.discriminator.parameters(), lr=lr, betas=betas),
            torch.optim.Adam(self.generator.parameters(), lr=lr, betas=betas),
        ]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        (real,) = batch
        d_optimizer, g_optimizer = self.optimizers()  # type: ignore[attr-defined]

        self.toggle_optimizer(d_optimizer)
        fake = self.generator(torch.randn(BATCH, LATENT, device=self.device)).detach()
        on_real, on_fake = self.discriminator(real), self.discriminator(fake)
        d_loss = binary_cross_entropy_with_logits(
            on_real, torch.ones_like(on_real)
        ) + binary_cross_entropy_with_logits(on_fake, torch.zeros_like(on_fake))
        d_optimizer.zero_grad()
        self.manual_backward(d_loss)
        d_optimizer.step()
        self.untoggle_optimizer(d_optimizer)

        self.toggle_optimizer(g_optimizer)
        on_fake = self.discriminator(self.generator(torch.randn(BATCH, LATENT, device=self.device)))
        g_loss = binary_cross_entropy_with_logits(on_fake, torch.ones_like(on_fake))
        g_optimizer.zero_grad()
        self.manual_backward(g_loss)
        g_optimizer.step()
        self.untoggle_optimizer(g_optimizer)
        self.log_dict({"d_loss": d_loss, "g_loss": g_loss}, prog_bar=True)
        self.g_steps += 1


class Record(pl.Callback):
    """Losses to Tune every so many g_steps, sample grids as files in the trial's folder."""

    def __init__(self, *, grid_every: int) -> None:
        self.grid_every = grid_every
        self.frozen = torch.randn(64, LATENT)
        self.seen = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = pl_module.g_steps
        if step == self.seen:
            return
        self.seen = step
        if step % LOG_EVERY == 0:
            losses = {name: float(value) for name, value in trainer.callback_metrics.items()}
            tune.report({**losses, "g_steps": step})
        if step % self.grid_every == 0:
            folder = Path(tune.get_context().get_trial_dir())
            save_grid(draw(pl_module.generator, self.frozen), folder / f"samples-{step}.png")


def train(
    config: dict[str, float], *, x: Tensor, model: str, width: int, g_steps: int, lean: bool
) -> None:
    """One trial: Tune's function trainable."""
    pl.seed_everything(0)
    module: Any = (WGAN if model == "wgan" else DCGAN)(side=x.shape[-1], width=width, **config)
    loader = DataLoader(TensorDataset(x), batch_size=BATCH, shuffle=True, drop_last=True)
    steps_each = N_CRITIC + 1 if model == "wgan" else 2  # Lightning counts optimizer steps
    extras = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=g_steps * steps_each,
        callbacks=[Record(grid_every=max(1, g_steps // GRIDS))],
        **(extras if lean else {}),  # type: ignore[arg-type]
    )
    trainer.fit(module, loader)
    tune.report({"g_steps": module.g_steps, "swd": score(module.generator, x)})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", choices=["wgan", "dcgan"])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--g-steps", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lean", action="store_true", help="Lightning's own extras off")
    arguments = parser.parse_args()
    grid = points(arguments.model)
    axes = {name: tune.grid_search(sorted({point[name] for point in grid})) for name in grid[0]}
    trainable = tune.with_parameters(
        train,
        x=load_images(DATA[arguments.model]),
        model=arguments.model,
        width=arguments.width,
        g_steps=arguments.g_steps,
        lean=arguments.lean,
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space=axes,
        tune_config=tune.TuneConfig(max_concurrent_trials=arguments.workers),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=os.path.abspath("ray_results"),
            callbacks=[
                MLflowLoggerCallback(tracking_uri="sqlite:///mlflow.db", experiment_name="sweep")
            ],
        ),
    )
    results = [
        {**(each.config or {}), "swd": (each.metrics or {}).get("swd", math.nan)}
        for each in tuner.fit()
    ]
    print_table(results)
    Path("summary.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
