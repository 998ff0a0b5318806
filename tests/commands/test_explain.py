from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweep_files import TEXT, load, text

Gansweep = Callable[..., tuple[int, str, str]]

DIGITS = {"name": "digits"}


def explained(gansweep: Gansweep, *words: object) -> list[dict[str, Any]]:
    code, out, err = gansweep("explain", *words, "--json")
    assert (code, err) == (0, "")
    groups: list[dict[str, Any]] = json.loads(out)
    return groups


def settings(group: dict[str, Any]) -> dict[str, tuple[list[Any], Any, bool]]:
    return {
        row["key"]: (row["values"], row["published"], row["deviates"]) for row in group["settings"]
    }


def test_a_sweep_beside_its_variant(gansweep: Gansweep, tmp_path: Path) -> None:
    load(tmp_path, TEXT)
    (group,) = explained(gansweep, tmp_path / "file.yaml")
    assert group["reference"] == "wgan"
    assert "Arjovsky et al. 2017" in group["source"]
    assert "presets: wgan/paper, wgan/official" in group["source"]
    assert len(group["trials"]) == 2
    rows = settings(group)
    assert rows["model.clip"] == ([0.01, 0.02], 0.01, True)  # one of the two deviates
    assert rows["model.n_critic"] == ([5], 5, False)
    assert rows["network.name"] == (["mlp"], "dcgan", True)
    assert rows["network.width"] == ([8], None, False)  # another network's: not compared
    assert rows["optimizer.lr"] == ([5e-5], 5e-5, False)
    assert rows["data.name"] == (["ring8"], None, False)  # nobody published data
    assert rows["data.batch_size"] == ([64], 64, False)
    assert rows["budget.g_steps"] == ([5], None, False)
    assert "seed" not in rows


def test_a_sweep_beside_its_preset(gansweep: Gansweep, tmp_path: Path) -> None:
    trial = {"preset": "wgan_gp/toy", "optimizer": {"generator": {"lr": 1e-3}}}
    load(tmp_path, text(trial=trial, space={"model.penalty_weight": {"grid": [0.1, 1.0]}}))
    (group,) = explained(gansweep, tmp_path / "file.yaml", "data.n=500")
    assert group["reference"] == "wgan_gp/toy"
    assert group["source"] == "igul222/improved_wgan_training, gan_toy.py, 8gaussians"
    assert "He et al." in group["deviations_of_the_preset"][0]
    rows = settings(group)
    deviating = {key for key, (_, _, deviates) in rows.items() if deviates}
    assert deviating == {"model.penalty_weight", "optimizer.generator.lr", "data.n"}
    assert rows["optimizer.discriminator.lr"] == ([1e-4], 1e-4, False)
    assert rows["optimizer.beta1"] == ([0.5], 0.5, False)  # both networks' in one row
    assert rows["data.radius"] == ([2 / 1.414], 2 / 1.414, False)
    assert rows["budget.g_steps"] == ([100_000], 100_000, False)


def test_the_batch_size_is_compared_whatever_the_data(gansweep: Gansweep, tmp_path: Path) -> None:
    trial = {"preset": "wgan_gp/toy", "data": {"name": "swiss_roll", "n": 500, "batch_size": 9}}
    load(tmp_path, text(trial=trial, space=None))
    rows = settings(explained(gansweep, tmp_path / "file.yaml")[0])
    assert rows["data.batch_size"] == ([9], 256, True)
    assert rows["data.name"] == (["swiss_roll"], "ring8", True)
    assert rows["data.n"] == ([500], None, False)


def test_a_group_for_each_preset_and_variant(gansweep: Gansweep, tmp_path: Path) -> None:
    space = {
        "what": {
            "grid": [{"preset": "wgan/paper"}, {"preset": "wgan/official"}, {"model.name": "gan"}]
        }
    }
    load(tmp_path, text(trial={"data": DIGITS}, space=space, seeds=2))
    groups = explained(gansweep, tmp_path / "file.yaml")
    assert [(g["reference"], len(g["trials"])) for g in groups] == [
        ("wgan/paper", 2),
        ("wgan/official", 2),
        ("gan", 2),
    ]
    assert settings(groups[0])["model.clip_timing"] == (["after"], "after", False)
    assert settings(groups[1])["model.clip_timing"] == (["before"], "before", False)


def test_advice_of_its_own_trials_alone(gansweep: Gansweep, tmp_path: Path) -> None:
    space = {"optimizer.name": {"grid": ["rmsprop", "adam"]}}
    trial = {"model": {"name": "wgan"}, "network": {"name": "mlp"}, "data": DIGITS}
    load(tmp_path, text(trial=trial, space=space))
    path = tmp_path / "file.yaml"
    (group,) = explained(gansweep, path)
    assert len(group["advice"]) == 1
    assert "momentum" in group["advice"][0]
    rows = settings(group)
    assert rows["optimizer.name"] == (["rmsprop", "adam"], "rmsprop", True)
    assert rows["optimizer.lr"] == ([5e-5, 2e-4], 5e-5, False)  # adam's rate is not compared
    (one,) = explained(gansweep, path, "--trial", "rmsprop")
    assert (one["trials"], one["advice"]) == (group["trials"][:1], [])
    (other,) = explained(gansweep, path, "--trial", group["trials"][1][:6])
    assert (other["trials"], other["advice"]) == (group["trials"][1:], group["advice"])


def test_as_a_person_reads_it(gansweep: Gansweep, tmp_path: Path) -> None:
    space = {"optimizer.lr": {"loguniform": [1e-5, 1e-2]}}
    trial = {"preset": "wgan/paper", "network": {"discriminator_norm": "none"}, "data": DIGITS}
    search = {"method": "random", "samples": 9}
    load(tmp_path, text(trial=trial, space=space, search=search))
    code, out, err = gansweep("explain", tmp_path / "file.yaml", "optimizer.momentum=0.5")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("wgan/paper, 9 trials: Arjovsky et al. 2017, Algorithm 1")
    assert lines[1].split() == ["setting", "here", "published"]
    rows = {line[3:].split()[0]: line for line in lines[2:] if line[:3] in ("*  ", "   ")}
    assert rows["model.clip"].split() == ["model.clip", "0.01", "0.01"]
    assert rows["optimizer.lr"].startswith("*  ")
    assert "(9 values)" in rows["optimizer.lr"]
    assert rows["network.discriminator_norm"].split() == [
        "*", "network.discriminator_norm", "none", "batch",
    ]  # fmt: skip
    order = [key.partition(".")[0] for key in rows]
    assert order == sorted(order, key=list(dict.fromkeys(order)).index)  # section by section
    assert "* differs from what was published" in lines
    assert sum(line.startswith("the preset itself: ") for line in lines) == 1
    assert sum(line.startswith("advice: momentum") for line in lines) == 1


def test_a_variant_of_ones_own(gansweep: Gansweep, tmp_path: Path) -> None:
    """One that publishes nothing but its own settings' defaults."""
    trial = {
        "model": {"name": "own_parts:Unpublished", "n_critic": 2},
        "network": {"name": "mlp"},
        "optimizer": {"name": "sgd"},
        "data": DIGITS,
    }
    load(tmp_path, text(trial=trial, space=None))
    (group,) = explained(gansweep, tmp_path / "file.yaml")
    assert group["reference"] == "own_parts:Unpublished"
    assert group["source"] == "A variant without published defaults."
    rows = settings(group)
    assert rows["model.n_critic"] == ([2], 1, True)
    assert rows["optimizer.lr"] == ([0.1], None, False)
    two = {**trial, "model": {"name": "own_parts:TwoTimescale"}}
    load(tmp_path, text(trial=two, space=None))
    rows = settings(explained(gansweep, tmp_path / "file.yaml")[0])
    assert rows["optimizer.name"] == (["sgd"], "adam", True)


def test_a_variant_without_a_docstring_has_none(gansweep: Gansweep, tmp_path: Path) -> None:
    """Not that of the class that all variants extend."""
    model = {"name": "own_parts:Silent"}
    trial = {"model": model, "network": {"name": "mlp"}, "optimizer": {"name": "sgd"}}
    load(tmp_path, text(trial={**trial, "data": DIGITS}, space=None))
    (group,) = explained(gansweep, tmp_path / "file.yaml")
    assert group["source"] == ""
    code, out, _ = gansweep("explain", tmp_path / "file.yaml")
    assert (code, out.splitlines()[0]) == (0, "own_parts:Silent, 1 trial")


def test_a_single_trial(gansweep: Gansweep, tmp_path: Path) -> None:
    """A file for `gansweep train`, with a seed of its own and no space."""
    load(tmp_path, text(trial={"preset": "gan/paper", "data": DIGITS}, space=None))
    (group,) = explained(gansweep, tmp_path / "file.yaml", "model.pac=2")
    assert len(group["trials"]) == 1
    rows = settings(group)
    assert {key for key, row in rows.items() if row[2]} == {"model.pac"}
    assert rows["optimizer.discriminator.lr"] == ([0.05], 0.05, False)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["preset=wgan/papr"], "trial.preset: unknown preset 'wgan/papr' (did you mean"),
        (["model.clipp=1"], "trial.model.clipp: unknown key"),
        (["--trial", "nope"], "--trial: 'nope' is no trial"),
        (["--trial", ""], "--trial: '' are 2 trials"),
        (["model.clip=3"], "the axis space.model.clip sets it in every trial"),
        (["data.batch_size=7", "model.pac=2"], "trial.model.pac: is 2, which does not divide"),
    ],
)
def test_mistakes_are_one_screen_and_exit_code_2(
    gansweep: Gansweep, tmp_path: Path, words: list[str], told: str
) -> None:
    load(tmp_path, TEXT)
    code, out, err = gansweep("explain", tmp_path / "file.yaml", *words)
    assert (code, out) == (2, "")
    assert err.startswith("gansweep: ")
    assert told in err


def test_shipped_sweeps_can_be_explained(gansweep: Gansweep) -> None:
    folder = Path(__file__).resolve().parents[2] / "sweeps"
    ran = 0
    for file in sorted(folder.glob("*.yaml")):
        for group in explained(gansweep, file):
            assert group["settings"]
            ran += 1
    assert ran >= 10
