"""The sweep as plain PyTorch loops in a pool of processes: no Lightning, no Ray, no MLflow.

    python -m benchmarks.baselines.loops wgan --width 64 --g-steps 1000 --workers 2

Losses go to a JSON file and sample grids to PNGs in the current folder; `summary.json` ranks.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

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

Watch = Callable[[int, Tensor, Tensor], None]
"""Called after each generator step with its number from 1, D's loss and G's."""


def wgan_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return fake_logits.mean() - real_logits.mean()


def wgan_g_loss(fake_logits: Tensor) -> Tensor:
    return -fake_logits.mean()


def gan_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    real = binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    fake = binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
    return real + fake


def gan_g_loss(fake_logits: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits))


def train_wgan(
    G: nn.Module, D: nn.Module, x: Tensor, watch: Watch, *, g_steps: int, lr: float, clip: float
) -> None:
    """WGAN with weight clipping on the resident images x [N, 1, H, W]."""
    d_optimizer = torch.optim.RMSprop(D.parameters(), lr=lr)
    g_optimizer = torch.optim.RMSprop(G.parameters(), lr=lr)
    for step in range(1, g_steps + 1):
        for p in D.parameters():
            p.requires_grad_(True)
        for _ in range(N_CRITIC):
            with torch.no_grad():
                for p in D.parameters():
                    p.clamp_(-clip, clip)
                fake = G(torch.randn(BATCH, LATENT, device=x.device))
            real = x[torch.randint(len(x), (BATCH,), device=x.device)]
            d_loss = wgan_d_loss(D(real), D(fake))
            d_optimizer.zero_grad()
            d_loss.backward()  # type: ignore[no-untyped-call]
            d_optimizer.step()
        for p in D.parameters():
            p.requires_grad_(False)
        g_loss = wgan_g_loss(D(G(torch.randn(BATCH, LATENT, device=x.device))))
        g_optimizer.zero_grad()
        g_loss.backward()  # type: ignore[no-untyped-call]
        g_optimizer.step()
        watch(step, d_loss, g_loss)


def train_dcgan(
    G: nn.Module, D: nn.Module, x: Tensor, watch: Watch, *, g_steps: int, lr: float, beta1: float
) -> None:
    """The game of 2014 with Adam on the resident images x [N, C, H, W]; z anew for each player."""
    d_optimizer = torch.optim.Adam(D.parameters(), lr=lr, betas=(beta1, 0.999), fused=True)
    g_optimizer = torch.optim.Adam(G.parameters(), lr=lr, betas=(beta1, 0.999), fused=True)
    for step in range(1, g_steps + 1):
        for p in D.parameters():
            p.requires_grad_(True)
        with torch.no_grad():
            fake = G(torch.randn(BATCH, LATENT, device=x.device))
        real = x[torch.randint(len(x), (BATCH,), device=x.device)]
        d_loss = gan_d_loss(D(real), D(fake))
        d_optimizer.zero_grad()
        d_loss.backward()  # type: ignore[no-untyped-call]
        d_optimizer.step()
        for p in D.parameters():
            p.requires_grad_(False)
        g_loss = gan_g_loss(D(G(torch.randn(BATCH, LATENT, device=x.device))))
        g_optimizer.zero_grad()
        g_loss.backward()  # type: ignore[no-untyped-call]
        g_optimizer.step()
        watch(step, d_loss, g_loss)


def trial(
    point: dict[str, float], *, model: str, x: Tensor, width: int, g_steps: int
) -> dict[str, Any]:
    """Train one point of the sweep with its record; what the table says of it."""
    torch.manual_seed(0)
    folder = Path("-".join([model, *(f"{k}={v:g}" for k, v in point.items())]))
    folder.mkdir()
    side = x.shape[-1]
    G, D = (mlp if model == "wgan" else dcgan)(side, width=width, latent=LATENT)
    frozen = torch.randn(64, LATENT)
    curve: list[tuple[int, float, float]] = []

    def watch(step: int, d_loss: Tensor, g_loss: Tensor) -> None:
        if step % LOG_EVERY == 0:
            curve.append((step, d_loss.item(), g_loss.item()))
        if step % max(1, g_steps // GRIDS) == 0:
            save_grid(draw(G, frozen), folder / f"samples-{step}.png")

    train: Any = train_wgan if model == "wgan" else train_dcgan
    train(G, D, x, watch, g_steps=g_steps, **point)
    torch.save({"G": G.state_dict(), "D": D.state_dict()}, folder / "networks.pt")
    result = {**point, "swd": score(G, x)}
    (folder / "result.json").write_text(json.dumps({**result, "curve": curve}))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", choices=["wgan", "dcgan"])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--g-steps", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # before the fork: each process has a core
    work = partial(
        trial,
        model=arguments.model,
        x=load_images(DATA[arguments.model]),
        width=arguments.width,
        g_steps=arguments.g_steps,
    )
    with multiprocessing.Pool(arguments.workers) as pool:
        results = list(pool.imap_unordered(work, points(arguments.model)))
    print_table(results)
    Path("summary.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
