"""After any fault, and the same command again, a sweep is what it would have been without."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from e2e.command import Place

from .faults import FAULTS, DiskFull, Scene, in_training, may_mount, small_disk
from .sweep import ENGINES, NAME, Outcome, assert_same, assert_whole, outcome, words

SEED = int(os.environ.get("CHAOS_SEED", time.time_ns() % 10**6))
FAULT_COUNT = int(os.environ.get("CHAOS_FAULTS", "100"))
MOST_COMMANDS = 12


def injured(place: Place, engine: str, kinds: list[str], rng: random.Random) -> int:
    """Run the command until it completes, injuring it by `kinds`, one each time.

    Returns how many times it had to be run.
    """
    folder = place.folder / "runs" / NAME
    command = words(place, engine)
    with (place.folder / "output").open("ab") as output:
        for count in range(1, MOST_COMMANDS):
            driver = place.start(*command, stdout=output, stderr=output)
            scene = Scene(place, driver, folder, rng)
            try:
                if kinds:
                    in_training(scene)
                    time.sleep(rng.uniform(0.0, 2.0))
                    kind = kinds.pop()
                    if driver.poll() is None:
                        print(f"{kind} at {time.monotonic():.1f}", flush=True)
                        FAULTS[kind].inject(scene)
                    code = driver.wait(timeout=150)
                    if FAULTS[kind].driver_survives:
                        assert code in (0, 130), said(place)
                else:
                    code = driver.wait(timeout=150)
                    assert code in (0, 130), said(place)
            finally:
                driver.kill()
            assert place.left_after(30) == [], "orphans"
            if code == 0 and not kinds:
                return count
    raise AssertionError(f"not complete after {MOST_COMMANDS} commands: {said(place)}")


def said(place: Place) -> str:
    return (place.folder / "output").read_text(errors="replace")[-3000:] + place.log()


@pytest.mark.chaos
@pytest.mark.parametrize("kind", FAULTS)
def test_one_fault(
    kind: str, new_place: Callable[..., Place], undisturbed: Callable[[str], Outcome]
) -> None:
    if isinstance(FAULTS[kind], DiskFull) and not may_mount():
        pytest.skip("needs the right to mount a small file system (root)")
    engine = ENGINES[list(FAULTS).index(kind) % 2]
    rng = random.Random(f"{SEED} {kind}")
    print(f"CHAOS_SEED={SEED}")
    place = new_place(f"chaos-{kind}")
    with ExitStack() as stack:
        if isinstance(FAULTS[kind], DiskFull):
            stack.enter_context(small_disk(place.folder / "runs" / NAME, megabytes=8))
        injured(place, engine, [kind], rng)
        left = outcome(place, place.folder / "runs" / NAME, place.uri)
    assert_whole(left)
    assert_same(left, undisturbed(engine))


@pytest.mark.soak
def test_soak(
    new_place: Callable[..., Place], undisturbed: Callable[[str], Outcome], tmp_path: Path
) -> None:
    """CHAOS_FAULTS faults of all kinds, a few to each sweep; every sweep ends as without them."""
    rng = random.Random(SEED)
    kinds = [kind for kind in FAULTS if kind != "DiskFull" or may_mount()]
    faults = sweeps = compared = commands = 0
    while faults < FAULT_COUNT:
        engine = rng.choice(ENGINES)
        chosen = [rng.choice(kinds) for _ in range(rng.randint(1, 4))]
        place = new_place(f"soak{sweeps}")
        with ExitStack() as stack:
            if "DiskFull" in chosen:
                stack.enter_context(small_disk(place.folder / "runs" / NAME, megabytes=8))
            print(f"CHAOS_SEED={SEED}, sweep {sweeps}: {engine}, {chosen}", flush=True)
            faults += len(chosen)
            commands += injured(place, engine, list(chosen), rng)
            left = outcome(place, place.folder / "runs" / NAME, place.uri)
        assert_whole(left)
        assert_same(left, undisturbed(engine))
        sweeps, compared = sweeps + 1, compared + left.bytes
        print(
            f"{faults} faults, {sweeps} sweeps, {commands} commands, {compared} bytes compared, "
            "0 differences",
            flush=True,
        )
