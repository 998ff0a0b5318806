from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from sweep_files import TEXT, load, text

from gansweep.assembly import real_samples
from gansweep.config import TrialConfig
from gansweep.ownership import sole_use
from gansweep.sweep import trials as gansweep_trials
from gansweep.sweep.file import Sweep
from gansweep.sweep.files import PACES_FILE
from gansweep.sweep.outdated import digest
from gansweep.sweep.pace import Pace, add_paces, pace_of
from gansweep.sweep.plan import Plan
from gansweep.sweep.probe import ProbeError
from gansweep.sweep.proposals import TreeParzen
from gansweep.sweep.trials import Trial, planned
from gansweep.terminal import clock

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
    file = tmp_path / "file.yaml"
    assert out.splitlines()[6] == (
        "time: unknown of 4 trials, since nothing of the same shape has finished below --dir: "
        f"`gansweep plan {file} --probe` trains one of each shape for some seconds"
    )
    assert os.listdir(".") == []


def test_one_of_a_thing_has_no_plural(gansweep: Gansweep, tmp_path: Path) -> None:
    load(tmp_path, text(space={"model.clip": {"grid": [0.01]}}, resources={"cpu": 1}))
    code, out, _ = gansweep("plan", tmp_path / "file.yaml")
    assert code == 0
    assert "small: 1 trial, in packs of what fits, each pack with 1 core and 0 GPUs\n" in out
    assert "time: unknown of 1 trial, since nothing of the same shape has finished" in out


def test_several_processes_train_a_trial_without_packs(gansweep: Gansweep, tmp_path: Path) -> None:
    load(tmp_path, text(resources={"gpu": 2}))
    code, out, err = gansweep("plan", tmp_path / "file.yaml")
    assert (code, err) == (0, "")
    assert "small: 2 trials, each by 2 processes, each process with 1 core and 1 GPU\n" in out


def test_a_trial_has_a_line_for_who_reads_no_screen(
    gansweep: Gansweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    axes = {f"optimizer.{name}": {"grid": [0.123456]} for name in ("lr", "alpha", "eps")}
    model = {"model.clip": {"grid": [0.123456]}, "latent.dim": {"grid": [12345]}}
    sweep = load(tmp_path, text(space={**axes, **model}))
    (trial,) = planned(sweep)
    assert len(trial.name) > 50  # with the key, more than a screen has where nobody says
    out = gansweep("plan", tmp_path / "file.yaml")[1]
    assert f"{trial.key}  {trial.name}        5  waiting\n" in out
    out = gansweep("explain", tmp_path / "file.yaml")[1]
    assert "optimizer.lr " in out
    out = gansweep("settings", "model.wgan")[1]
    assert "clamp before each critic step (the authors' code) or after it (Algorithm 1)\n" in out


def test_what_a_killed_command_left_behind_runs_no_more(gansweep: Gansweep, tmp_path: Path) -> None:
    sweep = load(tmp_path, text())
    folder = Path("runs/small")
    plan = Plan(folder / "plan.json", "small")
    for trial in planned(sweep):
        plan.add(trial).state = "running"
    plan.save()

    def states() -> set[str]:
        out = gansweep("plan", tmp_path / "file.yaml", "--json")[1]
        return {trial["state"] for trial in json.loads(out)["trials"]}

    assert states() == {"interrupted"}
    with sole_use(folder / "shares" / "1-of-2"):
        assert states() == {"running"}
    with sole_use(folder):
        assert states() == {"running"}
    assert states() == {"interrupted"}


def test_json_and_states_of_an_earlier_run(gansweep: Gansweep, tmp_path: Path) -> None:
    trials = planned(load(tmp_path, TEXT))
    plan = Plan(tmp_path / "out" / "small" / "plan.json", "small")
    done = plan.add(trials[0])
    done.state, done.g_steps = "completed", 7
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
    longer = gansweep(
        "plan", tmp_path / "file.yaml", "--json", "--dir", tmp_path / "out", "budget.g_steps=8"
    )[1]
    assert [trial["state"] for trial in json.loads(longer)["trials"]] == ["waiting"] * 2
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
    space["model.n_critic"] = {"choice": [1, 2]}
    expected = {"uniform": 21, "choice": 3 * 4}
    for domain, count in expected.items():
        space["model.clip"] = {domain: [0.01, 0.1]}
        load(tmp_path, text(space=space, search={"method": "tpe", "samples": 7}, seeds=3))
        code, out, _ = gansweep("plan", tmp_path / "file.yaml")
        assert code == 0
        assert f"{count} trials that TPE will choose" in out


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


def test_time_is_estimated_from_what_finished_in_this_sweep_and_beside_it(
    gansweep: Gansweep, tmp_path: Path
) -> None:
    sweep = load(tmp_path, text(seeds=3, trial={**load(tmp_path, TEXT).trial, "device": "cpu"}))
    trials = planned(sweep)
    plan = Plan(tmp_path / "out" / "small" / "plan.json", "small")
    done = plan.add(trials[0])
    done.state, done.g_steps, done.seconds = "completed", 5, 10.0
    plan.save()
    words = ("plan", tmp_path / "file.yaml", "--dir", tmp_path / "out", "--workers", 2)
    code, out, _ = gansweep(*words, "budget.g_steps=1000", "seeds=2", "time_budget=10m")
    assert code == 0
    seconds = 2.0 * (995 + 3 * 1000)
    assert out.splitlines()[-2:] == [
        f"time: about {clock(seconds / 2)} on 2 workers ({clock(seconds)} of training): an "
        "estimate, from 1 finished trial of the same shape",
        "time: time_budget is likely to end before the trials do",
    ]
    (tmp_path / "out" / "other").mkdir()
    name = pace_of(trials[0].config, on_gpu=False)
    add_paces(tmp_path / "out" / "other" / PACES_FILE, {name: Pace(7, 100, 100.0)})
    code, out, _ = gansweep(*words, "--json", "budget.g_steps=1000", "seeds=2")
    found = json.loads(out)["estimate"]
    assert found == {
        "trials": 4, "unknown": 0, "workers": 2, "seconds": 3995 / 2, "training_seconds": 3995.0,
        "gpu_hours": None, "finished_trials": 7, "probed_shapes": 0, "upper_bound": False,
    }  # fmt: skip
    code, out, _ = gansweep(*words, "search.scheduler=asha", "budget.g_steps=1000")
    assert "time: at most about" in out


@pytest.mark.parametrize("method", ["tpe", "random"])
def test_what_the_file_means_no_more_is_not_done_for_it(
    gansweep: Gansweep, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trials stay in the sweep's folder, and are none of those that a search has to train."""
    monkeypatch.setattr(gansweep_trials, "MOST_LISTED", 5)
    space = {"model.clip": {"uniform": [0.01, 0.1]}}
    sections = {"space": space, "search": {"method": method, "samples": 9}, "seeds": 2}
    plan = Plan(tmp_path / "out" / "small" / "plan.json", "small")
    for overrides in (["network.width=9"], ["seeds=[2]"], ["search.seed=1"], []):
        sweep = load(tmp_path, text(**sections), overrides)  # the file itself comes last
        for trial in planned(sweep, listed=True)[:2] if method == "random" else chosen(sweep):
            entry = plan.add(trial)
            entry.state, entry.g_steps, entry.seconds = "completed", 5, 10.0
    plan.save()
    assert len(plan.entries) == 8
    words = ("plan", tmp_path / "file.yaml", "--json", "--dir", tmp_path / "out")
    found = json.loads(gansweep(*words)[1])["estimate"]
    # TPE takes up points of any other seed of the search; one of three lacks its two seeds.
    assert found["trials"] == {"random": 16, "tpe": 18 - 4}[method]
    assert json.loads(gansweep(*words, "network.width=10")[1])["estimate"]["trials"] == 18


def chosen(sweep: Sweep) -> list[Trial]:
    """The first two trials of TPE."""
    return TreeParzen(sweep, [], finished=lambda entry: False).take(2)


def test_a_probe_tells_of_what_nothing_is_known(
    gansweep: Gansweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"network.width": {"grid": [8, 16]}, "model.clip": {"grid": [0.01, 0.02]}}
    load(tmp_path, text(space=space))
    probed = []

    def pretended(config: TrialConfig, *, cores: float, on_gpu: bool) -> Pace:
        probed.append(config.network.settings.width)
        if len(probed) == 2:
            raise ProbeError("it broke")
        return Pace(0, 5, 50.0)

    monkeypatch.setattr("gansweep.sweep.probe.probe", pretended)
    code, out, err = gansweep("plan", tmp_path / "file.yaml", "--probe", "--workers", "4")
    assert code == 0
    assert sorted(probed) == [8, 16]
    assert err.count("probing ") == 2
    assert ": it broke" in err
    assert (
        "time: about 50s on 4 workers for 2 of the 4 trials (1m40s of training): an estimate, \
from a probe of 1 shape, alone"
        in out
    )
    assert "time: unknown of 2 trials" in out
    assert os.listdir(".") == []


def test_a_probe_has_the_terminal_to_itself(tmp_path: Path) -> None:
    """In a process of its own: Lightning's words come once, as it is imported."""
    load(tmp_path, TEXT)
    ended = subprocess.run(
        [sys.executable, "-m", "gansweep", "plan", "file.yaml", "--probe"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.fullmatch("probing 1 of 1: .*\n", ended.stderr)
    assert "a probe of 1 shape, alone" in ended.stdout


def test_gpu_hours_are_estimated_where_gpus_are_asked_for(
    gansweep: Gansweep, tmp_path: Path
) -> None:
    trials = planned(load(tmp_path, text(resources={"gpu": 0.5})))
    folder = tmp_path / "out" / "other"
    folder.mkdir(parents=True)
    name = pace_of(trials[0].config, on_gpu=True)
    add_paces(folder / PACES_FILE, {name: Pace(1, 5, 3600.0)})
    words = ("plan", tmp_path / "file.yaml", "--dir", tmp_path / "out", "--workers", "1")
    code, out, _ = gansweep(*words, "gpu_hours=0.9")
    assert code == 0
    assert "time: about 2h00m on 1 worker (2h00m of training, 1 GPU hours): an estimate" in out
    assert "time: gpu_hours is likely to end before the trials do" in out
    assert "likely" not in gansweep(*words, "gpu_hours=1.1")[1]


def test_a_scheduler_without_a_score_in_time_is_told(gansweep: Gansweep, tmp_path: Path) -> None:
    load(tmp_path, text(search={"scheduler": "asha"}))
    code, out, _ = gansweep("plan", tmp_path / "file.yaml")
    assert code == 0
    assert out.splitlines()[-1] == (
        "note: asha stops no trial: it would by scores from g_step 1 to before 5, and they come "
        "every 1000 g_steps: lower score.every or search.grace"
    )


@pytest.mark.parametrize("state", ["completed", "interrupted"])
def test_own_code_that_has_changed_since_is_told(
    gansweep: Gansweep, tmp_path: Path, state: str
) -> None:
    """The key does not know: the old values would pass for those of the new code."""
    own = {**yaml.safe_load(TEXT)["trial"], "network": {"name": "own_parts:Fragile"}}
    first, second = planned(load(tmp_path, text(trial=own)))
    words = ("plan", tmp_path / "file.yaml", "--dir", tmp_path / "out")
    plan = Plan(tmp_path / "out" / "small" / "plan.json", "small")
    for trial, code in ((first, first.config.own_code), (second, "older")):
        entry = plan.add(trial)
        entry.state, entry.g_steps, entry.code = state, entry.budget, code
    plan.save()
    told = "your own code has changed since 1 finished trial trained"
    assert (told in gansweep(*words)[1]) == (state == "completed")
    plan.entries[second.key].code = first.config.own_code
    plan.save()
    assert first.config.own_code
    assert "has changed" not in gansweep(*words)[1]


@pytest.mark.parametrize("state", ["completed", "interrupted"])
def test_data_that_have_changed_since_are_told(
    gansweep: Gansweep, tmp_path: Path, state: str
) -> None:
    """By the fingerprints of scores, where these are of as many samples."""
    file = tmp_path / "mine.npz"
    np.savez(file, x=np.random.default_rng(0).normal(size=(50, 2)))
    data = {"name": "npz", "path": str(file)}
    trials = planned(load(tmp_path, text(trial={**yaml.safe_load(TEXT)["trial"], "data": data})))
    config = trials[0].config
    real = digest(config)
    plan = Plan(tmp_path / "out" / "small" / "plan.json", "small")
    entries = [plan.add(trial) for trial in trials]
    for entry in entries:
        entry.state, entry.g_steps = state, 3
        entry.fingerprints["swd"] = {**real_samples(config), "real": real, "weights": ""}
    plan.save()
    words = ("plan", tmp_path / "file.yaml", "--dir", tmp_path / "out")
    told = "note: the data have changed since 2 trials trained: "
    assert "have changed" not in gansweep(*words)[1]
    np.savez(file, x=np.random.default_rng(1).normal(size=(50, 2)))
    assert told in gansweep(*words)[1]
    assert "have changed" not in gansweep(*words, "score.samples=1000")[1]
    entries[0].fingerprints.clear()
    plan.save()
    assert told.replace("2 trials", "1 trial") in gansweep(*words)[1]
