"""The places of the end-to-end tests, and what an undisturbed sweep comes to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from e2e.command import Place
from e2e.conftest import new_place

from .sweep import ENGINES, NAME, Outcome, assert_whole, outcome, words

__all__ = ["new_place"]


@pytest.fixture(scope="session")
def undisturbed(new_place: Callable[..., Place]) -> Callable[[str], Outcome]:
    """By engine; each is trained once."""
    found: dict[str, Outcome] = {}

    def train(engine: str) -> Outcome:
        assert engine in ENGINES
        if engine not in found:
            place = new_place(f"undisturbed-{engine}")
            place.run(*words(place, engine))
            found[engine] = outcome(place, place.folder / "runs" / NAME, place.uri)
            assert_whole(found[engine])
        return found[engine]

    return train
