"""The places of the end-to-end tests, and what an undisturbed sweep comes to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e.command import Place
from e2e.conftest import new_place

from .faults import HANG_SECONDS
from .sweep import ENGINES, NAME, Outcome, assert_whole, outcome, words

__all__ = ["new_place"]

CLOCK = Path(__file__).with_name("clock")


@pytest.fixture(scope="session")
def clocked_place(new_place: Callable[..., Place]) -> Callable[[str], Place]:
    """Makes places whose clock can be set."""

    def make(name: str) -> Place:
        place = new_place(name)
        path = place.environment["PYTHONPATH"]
        place.environment["PYTHONPATH"] = os.pathsep.join([str(CLOCK), path])
        place.environment["CHAOS_CLOCK"] = str(place.folder / "clock")
        return place

    return make


@pytest.fixture(scope="session")
def undisturbed(new_place: Callable[..., Place]) -> Callable[[str], Outcome]:
    """By engine; each is trained once."""
    found: dict[str, Outcome] = {}

    def train(engine: str) -> Outcome:
        assert engine in ENGINES
        if engine not in found:
            place = new_place(f"undisturbed-{engine}")
            place.run(*words(place, engine), timeout=HANG_SECONDS)
            found[engine] = outcome(place, place.folder / "runs" / NAME, place.uri)
            assert_whole(found[engine])
        return found[engine]

    return train
