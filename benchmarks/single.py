"""Figure `single`: one trial with gansweep against a hand-written loop, ms per g_step.

Same networks, data, batch, n_critic and optimizers, one thread, losses read every 50 g_steps, no
samples and no scores. The clock runs from a g_step after warm-up to the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks import workloads
from benchmarks.baselines import loops, networks
from benchmarks.baselines.problem import DATA, LATENT, LOG_EVERY, load_images
from benchmarks.measure import NOT_AVAILABLE, Case, Ratio, alternate
from benchmarks.plan import Plan
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial import run_trial

LOOP, OURS, COMPILED = "hand-written loop", "gansweep", "gansweep, compiled"


def run(plan: Plan) -> Iterator[Case]:
    torch.set_num_threads(1)
    rounds = plan.rounds_of(7)
    for name, model, width, warm, count in (
        ("WGAN, MLP of width 64, 8x8", "wgan", 64, 100, 1000),
        ("WGAN, MLP of width 128, 8x8", "wgan", 128, 100, 1000),
        ("DCGAN of width 32, 28x28", "dcgan", 32, 50, 150),
    ):
        if plan.quick:
            warm, count = 50, max(LOG_EVERY, count // 5)
        tree = (workloads.wgan if model == "wgan" else workloads.dcgan)(width)
        yield compare(
            name,
            tree,
            hand_written(model, width, load_images(DATA[model])),
            warm=warm,
            count=count,
            rounds=rounds,
            say=plan.say,
        )


Loop = Callable[[int, loops.Watch], None]
"""Trains so many g_steps anew and tells of each."""


def hand_written(model: str, width: int, x: Tensor, *, latent: int = LATENT) -> Loop:
    """The plain loop on the images `x`, where these lie."""
    side = x.shape[-1]

    def train(g_steps: int, watch: loops.Watch) -> None:
        if model == "wgan":
            G, D = networks.mlp(side, width=width, latent=latent)
            G.to(x.device), D.to(x.device)
            loops.train_wgan(G, D, x, watch, g_steps=g_steps, lr=5e-4, clip=0.01)
        else:
            G, D = networks.dcgan(side, width=width, latent=latent, channels=x.shape[1])
            G.to(x.device), D.to(x.device)
            loops.train_dcgan(G, D, x, watch, g_steps=g_steps, lr=2e-4, beta1=0.5)

    return train


def compare(
    name: str,
    tree: Mapping[str, Any],
    loop: Loop,
    *,
    warm: int,
    count: int,
    rounds: int,
    say: Callable[[str], None],
    figure: str = "single",
) -> Case:
    """ms per g_step over `count` g_steps after `warm`, both multiples of LOG_EVERY."""
    case = Case(figure, name, "ms/g_step")
    knows_compile = workloads.accepted({**tree, "compile": False}, "compile")
    eager = {**tree, "compile": False} if knows_compile else dict(tree)
    contenders = {
        LOOP: lambda turn: loop_ms(loop, warm, count),
        OURS: lambda turn: trial_ms({**eager, "seed": turn + 1}, warm, count),
    }
    if knows_compile:
        contenders[COMPILED] = lambda turn: trial_ms(
            {**tree, "compile": True, "seed": turn + 1}, warm, count
        )
    else:
        case.notes[COMPILED] = NOT_AVAILABLE
    case.times = alternate(contenders, rounds, say=lambda text: say(f"{name}: {text}"))
    case.ratios = [Ratio(LOOP, OURS), Ratio(LOOP, COMPILED)]
    return case


def loop_ms(loop: Loop, warm: int, count: int) -> float:
    """Of the hand-written loop."""
    at: dict[int, float] = {}

    def watch(step: int, d_loss: Tensor, g_loss: Tensor) -> None:
        if step % LOG_EVERY == 0:
            d_loss.item(), g_loss.item()  # waits for a GPU, too
            at[step] = time.perf_counter()

    loop(warm + count, watch)
    return (at[warm + count] - at[warm]) / count * 1e3


def trial_ms(tree: Mapping[str, Any], warm: int, count: int) -> float:
    """Of `run_trial`, from the clock that it logs."""
    tracker = MemoryTracker()
    config = workloads.unrecorded(tree, g_steps=warm + count)
    result = run_trial(config, tracker)
    assert result.state == "completed", result
    at = dict(tracker.history("time/seconds"))
    return (at[warm + count] - at[warm]) / count * 1e3
