"""Each rule on both sides of each of its thresholds."""

from __future__ import annotations

from typing import Any

import pytest

from gansweep.diagnosis.rules.catalogue import RULES

BAD: dict[str, dict[str, float]] = {
    "discriminator_won": {
        "d_accuracy_real": 1.0,
        "d_accuracy_fake": 0.99,
        "stalled": 0.3,
        "energy_distance": 0.3,
    },
    "mode_collapse": {"diversity": 0.05, "classes_covered": 0.2},
    "clip_saturated": {"clip_pinned": 0.95, "lipschitz": 1e-5},
    "no_progress": {"energy_distance": 0.3, "stalled": 0.6},
}
GOOD: dict[str, list[dict[str, float]]] = {
    "discriminator_won": [
        {"d_accuracy_real": 0.98}, {"d_accuracy_fake": 0.98}, {"stalled": 0.2},
        {"energy_distance": 0.1}, {"energy_distance": -0.01},
    ],
    "mode_collapse": [{"diversity": 0.11, "classes_covered": 0.3}],
    "clip_saturated": [
        {"clip_pinned": 0.89}, {"lipschitz": 1e-3}, {"lipschitz": 1.0}, {"lipschitz": 999.0},
    ],
    "no_progress": [{"energy_distance": 0.09}, {"stalled": 0.49}, {"energy_distance": -0.01}],
}  # fmt: skip


def rule(name: str, **settings: Any) -> Any:
    cls = RULES.load(name, at="")
    return cls(cls.Settings(**settings))


def test_the_cases_are_whole() -> None:
    assert set(BAD) == set(GOOD) == set(RULES.names)
    assert len(RULES.names) == 4


@pytest.mark.parametrize("name", RULES.names)
def test_where_it_holds_and_where_not(name: str) -> None:
    assert rule(name).name == name
    assert rule(name).holds(BAD[name])
    for good in GOOD[name]:
        assert rule(name).holds(BAD[name] | good) is None, good


@pytest.mark.parametrize("name", RULES.names)
def test_it_says_nothing_where_a_diagnostic_does_not_apply(name: str) -> None:
    assert rule(name).holds({}) is None


@pytest.mark.parametrize("name", RULES.names)
def test_none_judges_by_a_loss(name: str) -> None:
    """It reads nothing but diagnostics, and no value of a loss is among these."""

    class Spy(dict[str, float]):
        def get(self, key: str, default: Any = None) -> Any:
            assert "loss" not in key
            return super().get(key, default)

        def __getitem__(self, key: str) -> float:
            raise AssertionError("use get: it may be missing")

    rule(name).holds(Spy(BAD[name]))


def test_thresholds_are_settings() -> None:
    assert (
        rule("discriminator_won", accuracy=0.9, stalled=0.0).holds(
            {"d_accuracy_real": 0.91, "d_accuracy_fake": 0.92}
        )
        == "D is right on 91.0% of the real and 92.0% of the generated samples"
    )
    assert rule("mode_collapse", diversity=0.3).holds({"diversity": 0.2}) == (
        "diversity 0.2 is below 0.3"
    )
    assert rule("mode_collapse").holds({"diversity": 0.8, "classes_covered": 0.125}) == (
        "classes_covered 0.125 is below 0.25"
    )
    assert rule("clip_saturated", pinned=0.5).holds({"clip_pinned": 0.6, "lipschitz": 2e3}) == (
        "60% of the critic's weights are at +-clip, and its slope is 2e+03"
    )
    assert (
        rule("no_progress", stalled=0.2, distance=0.01).holds(
            {"energy_distance": 0.02, "stalled": 0.25}
        )
        == "energy_distance 0.02, no better for 25% of training so far"
    )
