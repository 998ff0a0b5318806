from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sweep_files import TEXT, load

from gansweep.metrics.fingerprint import TAG, to_text
from gansweep.ownership import sole_use
from gansweep.report.contact_sheet import CELL, MARGIN
from gansweep.sweep.plan import Plan
from gansweep.sweep.trials import planned
from gansweep.tracking.base import Tracker
from gansweep.tracking.mlflow import Backlog, Courier, MlflowStore
from gansweep.tracking.spool import SpoolTracker
from gansweep.trial import TrialResult

Gansweep = Callable[..., tuple[int, str, str]]


def record(
    store: MlflowStore,
    point: dict[str, Any],
    value: float | None,
    *,
    seed: int = 0,
    state: str = "completed",
    grey: int | None = None,
    recipe: str = "",
    fingerprint: dict[str, str] | None = None,
) -> str:
    experiment = store.experiment("s")
    parent = store.parent_run(experiment, "s", {"metric": "score/swd", "mode": "min"})
    clip = point["clip"]
    run_id = store.trial_run(
        experiment,
        parent,
        f"key-{clip}-{seed}{recipe}",
        f"clip={clip} seed={seed}",
        {"model.clip": clip},
        {
            "point": json.dumps(point), "seed": str(seed), "state": state,
            "g_steps": "30", "reason": "", "recipe": recipe,
        },
    )  # fmt: skip
    folder = Path(store.uri.removeprefix("sqlite:///")).parent / "trials" / run_id
    tracker = SpoolTracker(folder)
    if value is not None:
        tracker.log_metrics({"score/swd": 9.0, "loss/d": 1.0}, step=10)
        tracker.log_metrics({"score/swd": value, "loss/d": 100 - value}, step=30)
    if fingerprint is not None:
        tracker.set_tags({f"{TAG}swd": to_text(fingerprint)})
    if grey is not None:
        tracker.log_image("samples", torch.full((3, 8, 8), grey, dtype=torch.uint8), step=30)
    tracker.finish("FINISHED")
    courier = Courier(store.uri)
    courier.add(run_id, folder)
    assert courier.drain() == Backlog()
    courier.close()
    return run_id


@pytest.fixture
def filled(store: MlflowStore) -> MlflowStore:
    record(store, {"clip": 0.1}, 3.0, seed=0, grey=200)
    record(store, {"clip": 0.1}, 4.0, seed=1)
    record(store, {"clip": 0.2}, 1.0, seed=0, grey=100)
    record(store, {"clip": 0.2}, 2.0, seed=1)
    record(store, {"clip": 0.3}, math.nan, state="diverged")
    return store


def test_table(filled: MlflowStore, gansweep: Gansweep) -> None:
    code, out, err = gansweep("show", "s", "--tracking-uri", filled.uri)
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["#", "point", "score/swd", "g_steps", "seeds", "state"],
        ["1", "clip=0.2", "1.5", "±", "0.5", "30", "2", "completed"],
        ["2", "clip=0.1", "3.5", "±", "0.5", "30", "2", "completed"],
        ["3", "clip=0.3", "seed=0", "-", "30", "1", "diverged"],
    ]


def test_further_scores_are_columns(filled: MlflowStore, gansweep: Gansweep) -> None:
    words = ("show", "s", "--tracking-uri", filled.uri, "--metric", "swd", "--scores")
    code, out, err = gansweep(*words, "loss/d, swd")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0][:4] == ["#", "point", "score/swd", "loss/d"]
    assert lines[1][:8] == ["1", "clip=0.2", "1.5", "±", "0.5", "98.5", "±", "0.5"]
    assert lines[3][:6] == ["3", "clip=0.3", "seed=0", "-", "-", "30"]
    code, out, err = gansweep(*words, "loss/e")
    assert (code, out) == (2, "")
    assert "--scores: no trial has 'loss/e' (did you mean 'loss/d'?)" in err


def test_further_scores_are_compared_where_they_can_be(
    store: MlflowStore, gansweep: Gansweep
) -> None:
    record(store, {"clip": 0.1}, 3.0, fingerprint={"fake_count": "2000"})
    record(store, {"clip": 0.2}, 1.0, fingerprint={"fake_count": "9"})
    words = ("show", "s", "--tracking-uri", store.uri, "--metric", "loss/d")
    assert gansweep(*words)[0] == 0
    code, _, err = gansweep(*words, "--scores", "swd")
    assert code == 2
    assert "score/swd: its values cannot be compared: fake_count is " in err


def test_medians_by_a_key(filled: MlflowStore, gansweep: Gansweep) -> None:
    words = ("show", "s", "--tracking-uri", filled.uri, "--by", "clip", "--scores", "loss/d")
    code, out, _ = gansweep(*words)
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0][:6] == ["#", "clip", "score/swd:", "median", "best", "loss/d:"]
    assert lines[1] == ["1", "0.2", "1.5", "1.5", "98.5", "98.5", "1", "0"]
    assert lines[3] == ["3", "0.3", "-", "-", "-", "-", "1", "1"]
    groups = json.loads(gansweep(*words, "--json")[1])["groups"]
    assert [group["name"] for group in groups] == ["0.2", "0.1", "0.3"]
    assert groups[1]["medians"] == {"score/swd": 3.5, "loss/d": 96.5}
    code, _, err = gansweep("show", "s", "--tracking-uri", filled.uri, "--by", "clap")
    assert code == 2
    assert "--by: no point sets 'clap' (did you mean 'clip'?)" in err


def test_a_trial_whose_command_was_killed_is_interrupted(
    store: MlflowStore, gansweep: Gansweep, tmp_path: Path
) -> None:
    """What says that it runs, while nobody drives the sweep that is kept here."""
    trials = planned(load(tmp_path, TEXT))
    experiment = store.experiment("small")
    tags = {"state": "waiting", "reason": "", "point": "{}"}
    run_ids = [store.trial_run(experiment, None, t.key, t.name, {}, tags) for t in trials]
    folder = tmp_path / "work" / "runs" / "small"
    plan = Plan(folder / "plan.json", "small")
    for trial, run_id in zip(trials, (run_ids[0], "of another store"), strict=True):
        entry = plan.add(trial)
        entry.state, entry.run_id = "running", run_id

    def shown(*words: object) -> dict[str, tuple[str, str]]:
        uri = ("--tracking-uri", store.uri)
        code, out, _ = gansweep("show", "small", "--json", *uri, *words)
        assert code == 0
        return {t["run_id"]: (t["state"], t["reason"]) for t in json.loads(out)["trials"]}

    as_recorded = dict.fromkeys(run_ids, ("waiting", ""))
    assert shown() == as_recorded
    plan.save()
    with sole_use(folder):
        assert shown() == as_recorded
    killed = ("interrupted", "its command was killed")
    assert shown() == {**as_recorded, run_ids[0]: killed}
    assert shown("--dir", tmp_path / "other") == as_recorded
    entry = plan.entries[trials[0].key]
    for reason, told in (("its command was killed", killed), ("asked to stop", ("waiting", ""))):
        entry.state, entry.reason = "interrupted", reason  # put aside: it trains elsewhere now
        plan.save()
        assert shown() == {**as_recorded, run_ids[0]: told}
    entry.state, entry.reason = "running", ""
    plan.save()
    store.settle(run_ids[0], "FINISHED")
    assert shown() == as_recorded


def test_points_that_have_not_trained_to_the_end(filled: MlflowStore, gansweep: Gansweep) -> None:
    record(filled, {"clip": 0.4}, 0.5, state="stopped")
    words = ("show", "s", "--tracking-uri", filled.uri)
    lines = [line.split() for line in gansweep(*words)[1].splitlines()]
    assert [line[1] for line in lines[1:5]] == ["clip=0.2", "clip=0.1", "clip=0.4", "clip=0.3"]
    assert lines[3][-1] == "stopped"
    assert lines[5][:5] == ["3:", "not", "trained", "to", "the"]
    lines = [line.split() for line in gansweep(*words, "--by", "clip")[1].splitlines()]
    assert lines[0][-1] == "unfinished"
    assert [line[-1] for line in lines[1:]] == ["1", "0", "0", "0"]
    groups = json.loads(gansweep(*words, "--by", "clip", "--json")[1])["groups"]
    assert [group["unfinished"] for group in groups] == [1, 0, 0, 0]


def test_that_members_of_a_population_have_other_settings_is_said(
    store: MlflowStore, gansweep: Gansweep
) -> None:
    """A point is named by what its trials began with."""
    run_id = record(store, {"clip": 0.1}, 3.0)
    words = ("show", "s", "--tracking-uri", store.uri)
    said = "what it took over since is the tag gansweep.lineage"
    for options in ([], ["--by", "clip"]):
        assert said not in gansweep(*words, *options)[1]
    step = {"g_step": 10, "from": "k", "settings": {}}
    for lineage, shown in (None, []), ([step], [step]), (200 * [step], None):  # cut by MLflow
        if lineage:
            store.set_tags(run_id, {"lineage": json.dumps(lineage)})
        (trial,) = json.loads(gansweep(*words, "--json")[1])["trials"]
        assert trial["lineage"] == shown
    for options in ([], ["--by", "clip"]):
        assert said in gansweep(*words, *options)[1]


def test_json_is_strict(filled: MlflowStore, gansweep: Gansweep) -> None:
    code, out, _ = gansweep("show", "s", "--tracking-uri", filled.uri, "--json")
    assert code == 0

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    tree = json.loads(out, parse_constant=refuse)
    assert (tree["name"], tree["metric"], tree["mode"]) == ("s", "score/swd", "min")
    trials = tree["trials"]
    assert [(t["rank"], t["key"]) for t in trials] == [
        (1, "key-0.2-0"), (1, "key-0.2-1"), (2, "key-0.1-0"), (2, "key-0.1-1"), (3, "key-0.3-0"),
    ]  # fmt: skip
    assert trials[0]["metrics"] == {"score/swd": 1.0, "loss/d": 99.0}
    assert trials[0]["point"] == {"clip": 0.2}
    assert (trials[1]["seed"], trials[1]["g_steps"], trials[1]["state"]) == (1, 30, "completed")
    assert trials[4]["metrics"]["score/swd"] is None
    assert trials[4]["state"] == "diverged"


def test_another_metric_and_mode(filled: MlflowStore, gansweep: Gansweep) -> None:
    words = ("show", "s", "--tracking-uri", filled.uri, "--json", "--metric", "loss/d")
    tree = json.loads(gansweep(*words, "--mode", "max")[1])
    assert tree["metric"] == "loss/d"
    assert [t["point"]["clip"] for t in tree["trials"]][:4] == [0.2, 0.2, 0.1, 0.1]
    tree = json.loads(gansweep(*words)[1])
    assert [t["point"]["clip"] for t in tree["trials"]][:4] == [0.1, 0.1, 0.2, 0.2]
    words = words[:4]
    note = "ranked as if smaller values of loss/d were better: --mode max says otherwise"
    of_loss = ("--metric", "loss/d")
    for more, told in ((of_loss, True), ((*of_loss, "--mode", "min"), False), ((), False)):
        assert (note in gansweep(*words, *more)[1]) == told


def test_unknown_metric_and_name(filled: MlflowStore, gansweep: Gansweep) -> None:
    code, out, err = gansweep("show", "s", "--tracking-uri", filled.uri, "--metric", "score/sdw")
    assert (code, out) == (2, "")
    assert "--metric: no trial has 'score/sdw' (did you mean 'score/swd'?)" in err
    code, out, err = gansweep("show", "z", "--tracking-uri", filled.uri)
    assert (code, out) == (2, "")
    assert "z: no such sweep in " in err
    assert "s" in err.rsplit("valid: ", 1)[1]


def test_sheet(filled: MlflowStore, gansweep: Gansweep, tmp_path: Path) -> None:
    path = tmp_path / "out" / "sheet.png"
    code, out, _ = gansweep("show", "s", "--tracking-uri", filled.uri, "--sheet", path)
    assert code == 0
    assert out.splitlines()[-1] == f"samples {path}"
    with Image.open(path) as sheet:
        found = [sheet.getpixel((MARGIN + i * (CELL + MARGIN), MARGIN))[0] for i in (0, 1)]
    assert found == [100, 200]  # the best first


def test_trials_of_a_changed_file_are_not_averaged(store: MlflowStore, gansweep: Gansweep) -> None:
    """One of another width, say, has the same point."""
    record(store, {"clip": 0.1}, 0.1, recipe="before")
    record(store, {"clip": 0.1}, 0.3, seed=1, recipe="before")
    record(store, {"clip": 0.1}, 0.9, recipe="since")
    record(store, {"clip": 0.2}, 0.5, recipe="other point")
    code, out, _ = gansweep("show", "s", "--tracking-uri", store.uri)
    assert code == 0
    rows = [line.split() for line in out.splitlines()[1:4]]
    assert [(row[1], row[-2]) for row in rows] == [
        ("clip=0.1", "2"), ("clip=0.2", "1"), ("clip=0.1", "1"),
    ]  # fmt: skip
    assert all(value in row for row, value in zip(rows, ("0.2", "0.5", "0.9"), strict=True))
    assert "note: 2 rows are of points that were trained under different settings" in out


def test_a_sheet_is_a_file(filled: MlflowStore, gansweep: Gansweep, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for sheet, words in (
        (tmp_path, "is a folder"), (Path("."), "is a folder"),
        (tmp_path / "file" / "x.png", "cannot be written"),
    ):  # fmt: skip
        code, out, err = gansweep("show", "s", "--tracking-uri", filled.uri, "--sheet", sheet)
        assert (code, out) == (2, ""), err
        assert "--sheet" in err
        assert words in err
    assert sorted(p.name for p in tmp_path.parent.glob(f".{tmp_path.name}*")) == []


def test_trials_of_train_are_not_averaged(
    store: MlflowStore, gansweep: Gansweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path, TEXT)

    def trained(config: Any, tracker: Tracker, *rest: Any, **more: Any) -> TrialResult:
        tracker.log_metrics({"score/swd": config.network.settings.width}, step=5)
        tracker.finish("FINISHED")
        return TrialResult("completed", "", 5, 0.1, {})

    monkeypatch.setattr("gansweep.commands.train.run_trial", trained)
    for width in (8, 16):
        words = ("train", tmp_path / "file.yaml", f"network.width={width}")
        assert gansweep(*words, "--tracking-uri", store.uri)[0] == 0
    tree = json.loads(gansweep("show", "small", "--tracking-uri", store.uri, "--json")[1])
    assert [(t["rank"], t["metrics"]["score/swd"]) for t in tree["trials"]] == [(1, 8), (2, 16)]


def test_sheet_without_samples(store: MlflowStore, gansweep: Gansweep, tmp_path: Path) -> None:
    record(store, {"clip": 0.1}, 3.0)
    path = tmp_path / "sheet.png"
    code, out, _ = gansweep("show", "s", "--tracking-uri", store.uri, "--sheet", path)
    assert code == 0
    assert "no trial has samples yet" in out
    assert not path.exists()


def test_values_of_different_fingerprints_are_not_compared(
    store: MlflowStore, gansweep: Gansweep
) -> None:
    record(store, {"clip": 0.1}, 3.0, fingerprint={"fake_count": "2000", "mode": "min"})
    record(store, {"clip": 0.2}, 1.0, fingerprint={"fake_count": "9", "mode": "min"})
    code, out, err = gansweep("show", "s", "--tracking-uri", store.uri)
    assert (code, out) == (2, "")
    assert "score/swd: its values cannot be compared: fake_count is " in err
    code, out, _ = gansweep("show", "s", "--tracking-uri", store.uri, "--metric", "loss/d")
    assert code == 0


def test_what_the_sweep_varies_itself_is_compared(store: MlflowStore, gansweep: Gansweep) -> None:
    record(store, {"clip": 0.1}, 3.0, fingerprint={"ema": "no"})
    record(store, {"clip": 0.2}, 1.0, fingerprint={"ema": "yes"})
    assert gansweep("show", "s", "--tracking-uri", store.uri)[0] == 2
    store.parent_run(store.experiment("s"), "s", {"across": "ema"})
    code, out, _ = gansweep("show", "s", "--tracking-uri", store.uri, "--json")
    assert code == 0
    found = json.loads(out)["trials"][0]["fingerprints"]
    assert found == {"swd": {"ema": "yes"}}


def test_a_score_is_ranked_by_its_own_mode(store: MlflowStore, gansweep: Gansweep) -> None:
    record(store, {"clip": 0.1}, 3.0, fingerprint={"mode": "max"})
    record(store, {"clip": 0.2}, 1.0, fingerprint={"mode": "max"})
    words = ("show", "s", "--tracking-uri", store.uri, "--json", "--metric", "score/swd")
    for more, best in (((), 0.1), (("--mode", "min"), 0.2)):
        tree = json.loads(gansweep(*words, *more)[1])
        assert tree["trials"][0]["point"]["clip"] == best


def test_the_diagnosis(filled: MlflowStore, gansweep: Gansweep) -> None:
    """The tag that the trial set, in the table and in JSON."""
    record = next(each for each in filled.trials("s") if each.key == "key-0.3-0")
    filled.set_tags(record.run_id, {"diagnosis": "non_finite"})
    words = ("show", "s", "--tracking-uri", filled.uri)
    lines = [line.split() for line in gansweep(*words)[1].splitlines()]
    assert lines[0][-1] == "diagnosis"
    assert [line[-1] for line in lines[1:]] == ["completed", "completed", "non_finite"]
    trials = json.loads(gansweep(*words, "--json")[1])["trials"]
    assert [t["diagnosis"] for t in trials] == [""] * 4 + ["non_finite"]
