"""The names that a trial is said to log, against those that it logs."""

from __future__ import annotations

from typing import Any

import pytest
from trees import small

from gansweep.diagnosis.measurement import NAMES
from gansweep.modules.catalogue import VARIANTS
from gansweep.sweep.logged import GROUPS, logged
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial import run_trial


def of(model: str, **sections: Any) -> set[str]:
    """The metrics of a trial's few steps, scores left out."""
    tracker = MemoryTracker()
    run_trial(small(model, "mlp", "digits", **sections), tracker)
    names = {name for call in tracker.metrics for name in call.values}
    return {name for name in names if name.partition("/")[0] in GROUPS}


@pytest.mark.parametrize("model", VARIANTS.names)
def test_each_variant_logs_what_it_is_said_to(model: str) -> None:
    if model == "dcgan":
        pytest.skip("its mathematics is that of gan")
    names = set(logged(small(model, "mlp", "digits")) or ())
    found = of(model, budget={"g_steps": 6})
    assert found <= names
    outside = {name for name in names - found if not name.startswith("diagnosis/")}
    assert outside == set()


def test_every_diagnostic_is_one_of_some_trial() -> None:
    """`classes_covered` needs classes, the clip a clip: no name stands for nothing."""
    budget = {"budget": {"g_steps": 6}}
    found = of("wgan", **budget) | of("gan", **budget, data={"name": "ring8", "n": 400})
    named = {f"diagnosis/{name}" for name in NAMES if "layer" not in name}
    assert named <= found
    assert "diagnosis/d_gradient_layer_01" in found


def test_without_a_diagnosis_there_are_no_diagnostics() -> None:
    names = logged(small("gan", "mlp", "digits", diagnosis={"every": 0}))
    assert names is not None
    assert not any(name.startswith("diagnosis/") for name in names)


def test_a_variant_that_does_not_show_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def needs_more(settings: Any) -> Any:
        raise ValueError("images, please")

    config = small("gan", "mlp", "digits")
    monkeypatch.setattr(config.model.cls, "formulate", needs_more)
    assert logged(config) is None
