from __future__ import annotations

from pathlib import Path

import yaml
from sweep_files import TEXT, load

from gansweep.sweep.params import flatten, settings_text, tree_params
from gansweep.sweep.trials import planned


def test_flatten() -> None:
    tree = {"a": {"b": 1, "c": {"d": None}}, "e": [1, "x"], "f": (2,), "g": {}, "h": True}
    assert flatten(tree) == {
        "a.b": 1, "a.c.d": None, "e": '[1, "x"]', "f": "[2]", "h": True,
    }  # fmt: skip


def test_trial_params_hold_every_setting_and_the_swept_keys(tmp_path: Path) -> None:
    sweep = load(tmp_path, TEXT, ["space.optimizer.lr.grid=[0.5]", "space.model.clip.grid=[0.02]"])
    (trial,) = planned(sweep)
    params = tree_params(trial.config.to_dict(), trial.point)
    assert params["model.clip"] == 0.02
    assert params["optimizer.lr"] == params["optimizer.discriminator.lr"] == 0.5
    assert params["optimizer.generator.lr"] == 0.5
    assert params["budget.g_steps"] == 5
    assert params["seed"] == 0
    assert params["data.name"] == "ring8"
    assert params["model.n_critic"] == 5  # a default is recorded too
    assert not any(isinstance(value, (dict, list)) for value in params.values())


def test_the_text_of_the_settings_is_their_tree(tmp_path: Path) -> None:
    for trial in planned(load(tmp_path, TEXT)):
        tree = trial.config.to_dict()
        text = settings_text(tree)
        assert yaml.safe_load(text) == {"trial": tree}
        assert text == yaml.safe_dump({"trial": tree}, sort_keys=False)  # to read, as well
    assert yaml.safe_load(settings_text({"a": {"b": [1, "x"], "c": {}}, "d": None})) == {
        "trial": {"a": {"b": [1, "x"], "c": {}}, "d": None}
    }
