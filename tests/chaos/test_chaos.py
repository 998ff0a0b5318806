"""After any fault, and the same command again, a sweep is what it would have been without."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import pytest
from e2e.command import Place

from . import ground
from .faults import FAULTS, GONE_SECONDS, HANG_SECONDS, Scene, in_training, modified
from .ground import Ground
from .sweep import ENGINES, NAME, Outcome, assert_same, assert_whole, outcome, words

SEED = int(os.environ.get("CHAOS_SEED", time.time_ns() % 10**6))
FAULT_COUNT = int(os.environ.get("CHAOS_FAULTS", "100"))
MOST_COMMANDS = 12
RAY_WAS_LATE = "The current node timed out during startup"
"""Ray gives itself 30 s to start, which at a load of ten times the cores is not enough."""

SERVER_WAS_AWAY = "no MLflow server answers"
"""A command that starts then says so, starts nothing, and ends with the exit code 2."""

AT_THE_START = 0.2
"""How many of the soak's faults come while the command starts, if it is not the first one."""

SHORT_SEED = int(os.environ.get("CHAOS_SEED", "1"))
SHORT = (("WorkerKilled", "Terminated", "CheckpointTorn"), ("RayletKilled", "ServerAway"))
"""The faults of the short form, a sweep each. A server that is away does not hold up training."""


@dataclass
class Injured:
    """What happened to a sweep: the faults that met it, and how often its command had to run."""

    faults: list[str] = field(default_factory=list)
    commands: int = 0


def injured(
    place: Place, engine: str, kinds: list[str], rng: random.Random, on: Ground, *, early: float = 0
) -> Injured:
    """Run the command until it completes, injuring it by `kinds`, one after another.

    early: the probability that a fault comes as soon as the command was started again. Faults that
    are left when the sweep completes are not among those of the result.
    """
    folder = place.folder / "runs" / NAME
    command = [*words(place, engine), *on.words]
    happened, left = Injured(), list(kinds)
    with (place.folder / "output").open("ab") as output:
        while happened.commands < MOST_COMMANDS:
            before = {path: modified(path) for path in folder.glob("trials/*/checkpoint.pt")}
            driver = place.start(*command, stdout=output, stderr=output)
            happened.commands += 1
            scene = Scene(place, driver, folder, on, rng, before)
            seconds, survives = HANG_SECONDS, True
            try:
                while left and survives:
                    if not before or rng.random() >= early:
                        in_training(scene)
                    time.sleep(rng.uniform(0.0, 2.0))
                    if driver.poll() is not None:
                        break
                    kind = left.pop(0)
                    fault = FAULTS[kind]
                    print(f"{kind} after {len(happened.faults)} others", flush=True)
                    happened.faults.append(kind)
                    fault.inject(scene)
                    seconds, survives = fault.seconds, fault.driver_survives
                    scene.before = {path: modified(path) for path in scene.checkpoints()}
                began = time.monotonic()
                code = driver.wait(timeout=seconds)
                print(f"  exit {code} after {time.monotonic() - began:.1f} s", flush=True)
            finally:
                driver.kill()
            if survives and not excused(code, happened.faults, place):
                assert code in (0, 130), said(place)
            assert place.left_after(GONE_SECONDS) == [], "orphans"
            if code == 0:
                return happened
    raise AssertionError(f"not complete after {MOST_COMMANDS} commands: {said(place)}")


def excused(code: int, faults: list[str], place: Place) -> bool:
    """Whether the command said that it could not start, for a reason that passes."""
    words = said(place, 2000)
    return (code == 1 and RAY_WAS_LATE in words) or (
        code == 2 and faults[-1:] == ["ServerAway"] and SERVER_WAS_AWAY in words
    )


def said(place: Place, characters: int = 3000) -> str:
    output = (place.folder / "output").read_text(errors="replace")
    return output[-characters:] + place.log()


Undisturbed = Callable[[str], Outcome]
NewPlace = Callable[[str], Place]


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", FAULTS)
def test_one_fault(kind: str, clocked_place: NewPlace, undisturbed: Undisturbed) -> None:
    if kind == "DiskFull" and not ground.may_mount():
        pytest.skip("needs the right to mount a small file system (root)")
    engine = ENGINES[list(FAULTS).index(kind) % 2]
    rng = random.Random(f"{SEED} {kind}")
    print(f"CHAOS_SEED={SEED}")
    place = clocked_place(f"chaos-{kind}")
    with FAULTS[kind].ground(place) as on:
        assert injured(place, engine, [kind], rng, on).faults == [kind]
        left = outcome(place, place.folder / "runs" / NAME, on.uri)
    assert_whole(left)
    assert_same(left, undisturbed(engine))


@pytest.mark.chaos_short
@pytest.mark.timeout(1800)
def test_short(clocked_place: NewPlace, undisturbed: Undisturbed) -> None:
    """A few kinds of kill, several to a sweep, always the same ones: about three minutes."""
    print(f"CHAOS_SEED={SHORT_SEED}", flush=True)
    began = time.monotonic()
    engine = ENGINES[0]
    expected = undisturbed(engine)
    faults = 0
    for kinds in SHORT:
        rng = random.Random(f"{SHORT_SEED} {kinds}")
        place = clocked_place(f"short{faults}")
        with ground_of(kinds)(place) as on:
            happened = injured(place, engine, list(kinds), rng, on)
            left = outcome(place, place.folder / "runs" / NAME, on.uri)
        assert tuple(happened.faults) == kinds, "the sweep was over before its faults"
        assert_whole(left)
        assert_same(left, expected)
        faults += len(happened.faults)
        print(f"{faults} faults, {time.monotonic() - began:.0f} s, 0 differences", flush=True)
    assert faults == sum(map(len, SHORT))


@pytest.mark.soak
def test_soak(clocked_place: NewPlace, undisturbed: Undisturbed) -> None:
    """CHAOS_FAULTS faults of all kinds, a few to each sweep; every sweep ends as without them."""
    rng = random.Random(SEED)
    kinds = [kind for kind in FAULTS if kind != "DiskFull" or ground.may_mount()]
    faults = sweeps = compared = commands = 0
    while faults < FAULT_COUNT:
        engine = rng.choice(ENGINES)
        chosen = drawn(kinds, rng)
        place = clocked_place(f"soak{sweeps}")
        print(f"CHAOS_SEED={SEED}, sweep {sweeps}: {engine}, {chosen}", flush=True)
        with ground_of(chosen)(place) as on:
            happened = injured(place, engine, chosen, rng, on, early=AT_THE_START)
            left = outcome(place, place.folder / "runs" / NAME, on.uri)
        assert_whole(left)
        assert_same(left, undisturbed(engine))
        faults, commands = faults + len(happened.faults), commands + happened.commands
        sweeps, compared = sweeps + 1, compared + left.bytes
        print(
            f"{faults} faults, {sweeps} sweeps, {commands} commands, {compared} bytes compared, "
            "0 differences",
            flush=True,
        )


def drawn(kinds: list[str], rng: random.Random) -> list[str]:
    """One to four faults that can meet the same sweep."""
    first = rng.choice(kinds)
    if FAULTS[first].alone:
        return [first]
    grounds = (ground.folder, FAULTS[first].ground)
    others = [kind for kind in kinds if FAULTS[kind].ground in grounds]
    chosen = [first, *(rng.choice(others) for _ in range(rng.randint(0, 3)))]
    rng.shuffle(chosen)
    return chosen


def ground_of(kinds: Sequence[str]) -> Callable[[Place], AbstractContextManager[Ground]]:
    """What all of `kinds` can happen on."""
    special = [FAULTS[kind].ground for kind in kinds if FAULTS[kind].ground is not ground.folder]
    return special[0] if special else ground.folder
