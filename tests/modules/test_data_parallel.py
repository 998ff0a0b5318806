"""Two processes over gloo train a trial as one does with the whole batch."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from conductor import Script
from pytorch_lightning.plugins.precision import MixedPrecision
from records import equal, record, state
from torch import nn
from trees import small

from gansweep.assembly import build_module, load_samples
from gansweep.config import TrialConfig
from gansweep.data.batch import Batch, resident
from gansweep.data.stream import BatchOrder
from gansweep.follower import _Follower, follow
from gansweep.modules.data_parallel import Member
from gansweep.modules.ranks import LostRankError, Ranks
from gansweep.pack import Pack
from gansweep.progress import Interrupt, Stop, TrialResult
from gansweep.replica import Job
from gansweep.seeding import stream_seed
from gansweep.subnormals import is_flushed
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial import run_trial

STEPS = 20
CPU = torch.device("cpu")
DIED = 9
"""How `own_parts:Mortal` ends a process."""

FOLLOWER = """
import sys
import torch
import torch.distributed as dist
from gansweep.follower import follow
from gansweep.modules.ranks import Ranks

port, bits = map(int, sys.argv[1:])
torch.set_default_dtype({32: torch.float32, 64: torch.float64}[bits])
torch.set_num_threads(1)
store = dist.TCPStore("127.0.0.1", port, 2, is_master=False)
with Ranks.joined(store, 1, 2, device=torch.device("cpu")) as ranks:
    follow(ranks, torch.device("cpu"))
"""


class Other:
    """The second process, being started; this one joins it when it is needed."""

    def __init__(self, bits: int) -> None:
        self._dtype = {32: torch.float32, 64: torch.float64}[bits]
        self._store = dist.TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
        self._process = subprocess.Popen(
            [sys.executable, "-c", FOLLOWER, str(self._store.port), str(bits)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def joined(self) -> Iterator[Ranks]:
        before = torch.get_default_dtype()
        torch.set_default_dtype(self._dtype)
        try:
            with Ranks.joined(self._store, 0, 2, device=CPU, fate=self._fate) as ranks:
                yield ranks
        finally:
            torch.set_default_dtype(before)

    def _fate(self) -> Exception | None:
        code = self._process.poll()
        return ChildProcessError(f"it ended with {code}") if code not in (None, DIED) else None

    def ended(self) -> tuple[int, str]:
        """Its exit code and last words."""
        _, words = self._process.communicate(timeout=250)
        return self._process.returncode, words

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    """Of this process and another in float64."""
    other = Other(64)
    try:
        with other.joined() as ranks:
            yield ranks
    finally:
        other.close()


def config(model: str, /, **sections: Any) -> TrialConfig:
    plain = {
        "budget": {"g_steps": STEPS},
        "data": {"batch_size": 8},
        "log": {"every": 1},
        "score": {"names": []},  # which are in single precision
        "compile": "false",
    }
    network = sections.pop("architecture", "mlp")
    data = sections.pop("dataset", "ring8")
    for name, section in sections.items():
        plain[name] = {**plain.get(name, {}), **section} if isinstance(section, dict) else section
    return small(model, network, data, **plain)


def together(
    ranks: Ranks, trial: TrialConfig, folder: Path | None = None, conductor: Script | None = None
) -> tuple[MemoryTracker, TrialResult]:
    tracker, conductor = MemoryTracker(), conductor or Script([trial.key])
    Pack([Job(trial, tracker, folder)], conductor, ranks=ranks).fit()
    assert str(conductor.choices[0]).endswith("2 processes train each trial")
    return tracker, conductor.results[trial.key]


def assert_same(one: Any, other: Any, *, off: float, where: str = "") -> int:
    """Equal but for rounding; how many numbers were compared."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        return sum(assert_same(one[k], other[k], off=off, where=f"{where}/{k}") for k in one)
    if isinstance(one, list | tuple):
        assert len(one) == len(other), where
        pairs = zip(one, other, strict=True)
        return sum(
            assert_same(*pair, off=off, where=f"{where}/{i}") for i, pair in enumerate(pairs)
        )
    if isinstance(one, torch.Tensor) and one.is_floating_point():
        assert one.dtype == other.dtype
        torch.testing.assert_close(other, one, rtol=off, atol=off, msg=lambda m: f"{where}: {m}")
        return one.numel()
    if isinstance(one, float):
        assert other == pytest.approx(one, rel=off, abs=off, nan_ok=True), where
        return 1
    assert equal(one, other), where
    return 0


VARIANTS: dict[str, TrialConfig] = {
    "gan": config("gan", ema={"decay": 0.9}),
    "wgan": config("wgan"),  # clipped, with bursts
    "wgan clipped after": config("wgan", model={"clip_timing": "after"}),
    "wgan_gp": config("wgan_gp"),
    "r3gan, in pairs": config("r3gan"),
    "dragan, all but without its deviation": config("dragan", model={"radius": 1e-13}),
    "pac": config("gan", model={"pac": 2}),
    "cgan": config("cgan", dataset="digits"),
    "bigan": config("bigan", dataset="digits"),
}


@pytest.mark.long
def test_in_single_precision_and_without_a_leader() -> None:
    """1e-6 in float32, too; and a process whose leader is gone ends.

    First of all: a process is among one set of ranks at a time.
    """
    other = Other(32)
    try:
        with other.joined() as ranks:
            ran = 0
            for name in ("gan", "wgan", "wgan_gp"):
                trial, alone = config(name, score={"names": ["swd"]}), MemoryTracker()
                run_trial(trial, alone)
                tracker, _ = together(ranks, trial)
                for loss, count in (("loss/d", STEPS), ("loss/g", STEPS), ("score/swd", 5)):
                    one, two = alone.history(loss), tracker.history(loss)
                    assert len(one) == count
                    assert two == [
                        (step, pytest.approx(value, rel=1e-6, abs=1e-6)) for step, value in one
                    ]
                    ran += 1
            assert ran == 9
        code, words = other.ended()
        assert code == 1
        assert "LostRankError: a process is gone" in words
    finally:
        other.close()


@pytest.mark.parametrize("name", VARIANTS)
def test_two_processes_train_as_one_does(name: str, ranks: Ranks, tmp_path: Path) -> None:
    """Losses, scores, checkpoint and pictures; the randomness used, to the bit."""
    trial, alone = VARIANTS[name], MemoryTracker()
    result = run_trial(trial, alone, folder=tmp_path / "one")
    tracker, found = together(ranks, trial, tmp_path / "two")
    assert (found.state, found.g_steps) == (result.state, result.g_steps) == ("completed", STEPS)
    expected, logged = record(alone)[0], record(tracker)[0]
    assert sum("loss/d" in values for _, values in logged) == STEPS
    assert assert_same(expected, logged, off=1e-10) > 5 * STEPS
    assert [(i.key, i.step) for i in alone.images] == [(i.key, i.step) for i in tracker.images]
    one, two = state(tmp_path / "one"), state(tmp_path / "two")
    for each in (one, two):
        del each["engine"]
    assert assert_same(one, two, off=1e-10) > 100
    assert equal(one["module"]["rng"], two["module"]["rng"])


def test_an_interrupted_trial_goes_on_to_the_same_bits(ranks: Ranks, tmp_path: Path) -> None:
    """With dropout, for which each process has a stream of its own."""
    trial = config("gan", architecture="maxout", dataset="digits")
    whole, _ = together(ranks, trial, tmp_path / "whole")

    interrupted = Script([trial.key], verdicts={8: Interrupt()})
    first, result = together(ranks, trial, tmp_path / "parts", interrupted)
    assert (result.state, result.g_steps) == ("interrupted", 8)
    second, result = together(ranks, trial, tmp_path / "parts")
    assert (result.state, result.g_steps) == ("completed", STEPS)
    assert equal(state(tmp_path / "whole"), state(tmp_path / "parts"))
    assert equal(record(whole)[0], record(first, second)[0])


class Apart:
    """Ranks that never meet."""

    count = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def part(self, size: int) -> slice:
        return slice(0, size // 2)

    def means(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        return [tensor.clone() for tensor in tensors]


def masks(rank: int, g_step: int) -> list[torch.Tensor]:
    """Where the first dropout of D drops, in each pass of the generator step after `g_step`."""
    trial = config("gan", architecture="maxout", dataset="digits")
    samples, seen = load_samples(trial), []
    module = build_module(trial, samples.spec)
    module.setup("fit")
    module.configure_optimizers()
    module.g_step = g_step
    first = next(part for part in module.discriminator.modules() if isinstance(part, nn.Dropout))
    first.register_forward_hook(lambda _, inputs, output: seen.append(output == 0))
    indices = torch.arange(8).view(1, 8)
    ranks: Any = Apart(rank)
    Member(module, ranks).step(Batch(samples, indices, CPU))
    return seen


def test_processes_draw_dropout_apart() -> None:
    """Equal masks on both parts of a batch would be drawn for half of it only."""
    leader, other = masks(0, 5), masks(1, 5)
    assert 0.2 < leader[0].float().mean() < 0.8
    assert not equal(leader, other)
    assert equal(other, masks(1, 5))  # a trial that goes on there draws what it would have drawn
    assert not equal(other, masks(1, 6))


def test_one_trial_after_another(ranks: Ranks) -> None:
    first, second = config("gan", seed=5), config("gan", seed=6)
    tracker, alone = MemoryTracker(), MemoryTracker()
    conductor = Script(
        [first.key, second.key],
        verdicts={(0, 8): Stop("enough")},
        refills=[Job(second, tracker, None)],
    )
    together(ranks, first, conductor=conductor)
    assert [(r.state, r.g_steps) for r in conductor.results.values()] == [
        ("stopped", 8), ("completed", STEPS),
    ]  # fmt: skip
    run_trial(second, alone)
    assert assert_same(record(alone)[0], record(tracker)[0], off=1e-10) > 5 * STEPS


def test_a_process_that_dies_ends_the_pack_and_not_the_trial(ranks: Ranks, tmp_path: Path) -> None:
    """It goes on from its checkpoint, in one process here: how many there are is no part of it."""
    trial = config(
        "gan", architecture="own_parts:Mortal", network={"at": 10}, diagnosis={"every": 0}
    )
    tracker, conductor = MemoryTracker(), Script([trial.key])
    with pytest.raises(LostRankError, match="a process is gone"):
        Pack([Job(trial, tracker, tmp_path)], conductor, ranks=ranks).fit()
    assert (conductor.results, tracker.status) == ({}, None)
    assert state(tmp_path)["module"]["g_step"] == 8
    assert run_trial(trial, tracker, folder=tmp_path).state == "completed"


class Alone:
    """Stands for the ranks of a process that has no others."""

    rank, count = 0, 1

    def part(self, size: int) -> slice:
        return slice(0, size)

    def means(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        return tensors


def test_a_follower_takes_a_bf16_step_as_lightning_has_its_leader_take_it() -> None:
    """Weights change within a generator step: who kept their casts would train on old ones."""
    trial = config("gan", precision="bf16", model={"n_critic": 3})
    samples = resident(load_samples(trial), CPU)
    order = BatchOrder(len(samples), stream_seed(trial.run.seed, "data"))
    leader = build_module(trial, samples.spec)
    leader.setup("fit")
    leader.configure_optimizers()
    words = io.BytesIO()
    told = {"tree": json.dumps(trial.to_dict()), "order": order.state_dict()}
    torch.save({**told, "module": leader.training_state()}, words)
    ranks: Any = Alone()
    follower = _Follower(ranks, CPU)
    follower.begin(words.getvalue())
    for _ in range(2):
        follower.step()
        batch = Batch.take(samples, order, steps=3, size=8, device=CPU)
        with MixedPrecision("bf16-mixed", "cpu").forward_context():
            leader.training_step(batch, 0)
    followed = follower._member.module
    assert followed.g_step == leader.g_step == 2
    for mine, other in zip(leader.parameters(), followed.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_follower_takes_subnormal_numbers_for_zero_as_its_leader_does():
    class Ended:
        def hear(self):
            seen.append(is_flushed())
            return "end", b""

    seen = []
    follow(Ended(), CPU)
    assert seen == [True]
    assert not is_flushed()
