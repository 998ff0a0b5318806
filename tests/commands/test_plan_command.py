from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from sweep_files import TEXT, load, text

from gansweep.sweep.plan import Plan
from gansweep.sweep.trials import planned

Gansweep = Callable[..., tuple[int, str, str]]


def test_prints_trials_keys_and_resources_and_writes_nothing(
    gansweep: Gansweep, tmp_path: Path
) -> None:
    sweep = load(tmp_path, text(seeds=2, resources={"cpu": 0.5}))
    code, out, err = gansweep("plan", tmp_path / "file.yaml")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["key", "trial", "g_steps", "state"]
    assert lines[1:5] == [
        [trial.key, *trial.name.split(), "5", "waiting"] for trial in planned(sweep)
    ]
    assert out.splitlines()[5] == (
        "small: 4 trials, in packs of what fits, each pack with 0.5 cores and 0 GPUs"
    )
    assert os.listdir(".") == []


def test_json_and_states_of_an_earlier_run(gansweep: Gansweep, tmp_path: Path) -> None:
    trials = planned(load(tmp_path, TEXT))
    plan = Plan(tmp_path / "out" / "small" / "plan.json", "small")
    plan.add(trials[0]).state = "completed"
    plan.save()
    code, out, _ = gansweep(
        "plan", tmp_path / "file.yaml", "--json", "--dir", tmp_path / "out", "budget.g_steps=7"
    )
    assert code == 0
    tree = json.loads(out)
    assert (tree["name"], tree["method"]) == ("small", "grid")
    assert tree["resources"] == {
        "cpu": 1.0, "gpu": 0.0, "concurrent": None, "pack": None, "engine": "auto",
        "memory_gb": None, "gpu_memory_gb": None, "gpu_memory_retries": 0, "processes": 1,
    }  # fmt: skip
    first, second = tree["trials"]
    assert (first["key"], first["state"]) == (trials[0].key, "completed")
    assert (second["key"], second["state"]) == (trials[1].key, "waiting")
    assert first["point"] == {"model.clip": 0.01}
    assert first["config"]["budget"] == {"g_steps": 7}
    assert first["seed"] == 0


def test_tpe_says_how_many_it_will_choose(gansweep: Gansweep, tmp_path: Path) -> None:
    space = {"model.clip": {"uniform": [0.01, 0.1]}}
    load(tmp_path, text(space=space, search={"method": "tpe", "samples": 7}, seeds=3))
    code, out, _ = gansweep("plan", tmp_path / "file.yaml")
    assert code == 0
    assert "21 trials that TPE will choose" in out


def test_advice_is_a_note(gansweep: Gansweep, tmp_path: Path) -> None:
    load(tmp_path, text(trial={**load(tmp_path, TEXT).trial, "optimizer": {"name": "adam"}}))
    code, out, _ = gansweep("plan", tmp_path / "file.yaml")
    assert code == 0
    assert out.splitlines()[-1].startswith("note: momentum in the critic's optimizer")


def test_shipped_sweeps_can_be_planned(gansweep: Gansweep) -> None:
    folder = Path(__file__).resolve().parents[2] / "sweeps"
    files = sorted(folder.glob("*.yaml"))
    for file in files:
        code, out, err = gansweep("plan", file)
        assert (code, err) == (0, ""), file
        assert " trials, in packs of " in out or "TPE will choose" in out
    assert len(files) >= 6
