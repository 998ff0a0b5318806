"""A sweep on a local Ray with two workers: what it trains, what it records, what it repeats."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from .story import ADDED, CLIPS, FILE, LONGER, NAME, OPTIMIZERS, Story, checkpoint

pytestmark = pytest.mark.timeout(900)  # of which `story` takes its part


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = json.dumps(value) if isinstance(value, list) else str(value)
    return found


def test_one_run_a_trial_below_one_parent_named_by_what_differs(story: Story) -> None:
    record = story.first.record
    assert record.parent.name == NAME
    assert record.parent.status == "FINISHED"
    plan = {trial["key"]: trial for trial in story.plan}
    assert set(record.trials) == set(plan)
    combinations = set()
    for key, run in record.trials.items():
        point = plan[key]["point"]
        lr = point["optimizer.lr"]
        assert run.name == f"clip={point['model.clip']} {point['optimizer.name']} lr={lr:.4g}"
        assert run.status == "FINISHED"
        assert run.end is not None
        assert run.end >= run.start
        combinations.add((point["model.clip"], point["optimizer.name"]))
        assert 1e-3 <= lr <= 1e-2
    assert combinations == {(clip, name) for clip in CLIPS for name in OPTIMIZERS}
    assert len({run.point["optimizer.lr"] for run in record.trials.values()}) == 4


def test_both_workers_trained_at_once(story: Story) -> None:
    for run in story.first.record.trials.values():
        met = run.curves["score/met"]
        assert min(value for _, value in met) == 2, f"{run.name}: {met}"


def test_params_are_the_resolved_settings(story: Story) -> None:
    for trial in story.plan:
        run = story.first.record.trials[trial["key"]]
        assert run.params == flat(trial["config"]) | flat(trial["point"])
        assert run.params["model.clip"] == str(trial["point"]["model.clip"])
        assert run.params["model.n_critic"] == "5"
        assert run.params["network.width"] == "32"


def test_swept_values_reach_the_training(story: Story) -> None:
    for key, run in story.first.record.trials.items():
        state = checkpoint(story.folder, key)["module"]
        clip, lr = run.point["model.clip"], run.point["optimizer.lr"]
        largest = max(float(weight.abs().max()) for weight in state["discriminator"].values())
        assert largest == pytest.approx(clip, rel=1e-6)
        for role in ("d_optimizer", "g_optimizer"):
            group = state[role]["param_groups"][0]
            assert group["lr"] == lr
            assert ("alpha" in group) == (run.point["optimizer.name"] == "rmsprop")


def improved(curve: list[tuple[int, Any]], name: str) -> list[int]:
    """The steps at which a score was better than ever before."""
    sign = -1 if name.endswith("/met") else 1
    return [
        step
        for i, (step, value) in enumerate(curve)
        if all(sign * value < sign * earlier for _, earlier in curve[:i])
    ]


def test_curves_have_every_step_once(story: Story) -> None:
    read, scored = list(range(10, 51, 10)), [20, 40, 50]
    for run in story.first.record.trials.values():
        groups = {name.partition("/")[0] for name in run.curves}
        of_scores = {"score", "best", "best_step", "floor", "floor_error"}
        assert groups == {"loss", "d", "time", "diagnosis"} | of_scores
        assert {"loss/d", "loss/g", "d/real", "d/fake", "score/swd"} <= set(run.curves)
        for name, curve in run.curves.items():
            expected = scored if name.startswith("score/") else read
            if name.startswith("diagnosis/"):  # every 100 g_steps, and at the end
                expected = scored[-1:]
            if name.startswith("floor"):
                expected = scored[:1]
            elif name.startswith("best"):
                expected = improved(run.curves[name[name.index("score/") :]], name)
            assert run.steps(name) == expected, name
            assert all(math.isfinite(value) for _, value in curve), name
        assert [value for _, value in run.curves["time/d_steps"]] == [5 * step for step in read]
        assert [value for _, value in run.curves["time/images_seen"]] == [
            5 * 64 * step for step in read
        ]


def test_sample_grids_by_step(story: Story) -> None:
    record = story.first.record
    for run in record.trials.values():
        assert {step: len(found) for step, found in run.images.items()} == {20: 1, 40: 1, 50: 1}
    grids = [record.picture(run, run.images[50][0]) for run in record.trials.values()]
    assert all(min(grid.size) >= 8 * 28 for grid in grids)
    assert len({grid.tobytes() for grid in grids}) == 4, "each trial paints its own samples"


def test_tags_and_artifacts(story: Story) -> None:
    record = story.first.record
    for key, run in record.trials.items():
        tags = run.tags
        assert tags["gansweep.key"] == key
        assert tags["gansweep.state"] == "completed"
        assert tags["gansweep.seed"] == "0"
        assert set(run.point) == {"model.clip", "optimizer.name", "optimizer.lr"}
        for version in ("version", "python", "version.torch", "version.ray", "version.mlflow"):
            assert tags[f"gansweep.{version}"]
        config = yaml.safe_load(record.text(run, "config.yaml"))["trial"]
        assert config["budget"]["g_steps"] == LONGER
        assert config["model"]["clip"] == run.point["model.clip"]
        assert config["optimizer"]["generator"]["lr"] == run.point["optimizer.lr"]
    parent = record.parent
    assert parent.artifacts >= {"sweep.yaml", "source", "environment.txt", "samples.png"}
    assert record.text(parent, f"source/{FILE.name}") == FILE.read_text()
    resolved = yaml.safe_load(record.text(parent, "sweep.yaml"))
    assert resolved["trial"]["budget"]["g_steps"] == LONGER
    assert resolved["space"]["model.clip"]["grid"] == [*CLIPS, ADDED]
    assert "torch==" in record.text(parent, "environment.txt")
    assert min(record.picture(parent, "samples.png").size) > 200


def test_the_table_names_the_best(story: Story) -> None:
    scores = {
        run.name: run.curves["score/swd"][-1][1] for run in story.first.record.trials.values()
    }
    best = min(scores, key=scores.__getitem__)
    text = story.first.ended.text
    assert f"best    {best} (score/swd {scores[best]:.4g})" in text
    ranked = sorted(scores, key=scores.__getitem__)
    places = [text.index(f"{place}  {name}") for place, name in enumerate(ranked, start=1)]
    assert places == sorted(places)


def test_the_same_command_repeats_nothing(story: Story) -> None:
    before, after = story.first, story.again
    assert after.record.trials == before.record.trials
    assert "starting the workers" not in after.ended.text, "Ray is not started for nothing"
    assert after.ended.seconds < min(40, before.ended.seconds)  # 5 s on an idle machine
    assert after.record.parent.status == "FINISHED"
    assert after.record.parent.id == before.record.parent.id


def test_a_longer_budget_goes_on_in_the_same_runs(story: Story) -> None:
    before, after = story.again.record, story.longer.record
    assert set(after.trials) == set(before.trials)
    for key, run in after.trials.items():
        earlier = before.trials[key]
        assert run.id == earlier.id
        assert run.status == "FINISHED"
        assert run.tags["gansweep.state"] == "completed"
        for name, curve in run.curves.items():
            known = earlier.curves.get(name, [])  # `stalled` needs several diagnoses
            assert curve[: len(known)] == known, name
        assert run.steps("loss/d") == list(range(10, LONGER + 1, 10))
        assert run.steps("score/swd") == [20, 40, 50, 60, 80, 100]
        assert sorted(run.images) == [20, 40, 50, 60, 80, 100]
        assert all(len(found) == 1 for found in run.images.values())
        assert checkpoint(story.folder, key)["module"]["g_step"] == LONGER


def test_one_more_value_trains_only_the_new_trials(story: Story) -> None:
    before, after = story.longer.record, story.wider.record
    new = set(after.trials) - set(before.trials)
    assert {key: after.trials[key] for key in before.trials} == before.trials
    assert sorted(after.trials[key].point["optimizer.name"] for key in new) == sorted(OPTIMIZERS)
    for key in new:
        run = after.trials[key]
        assert run.point["model.clip"] == ADDED
        assert run.steps("loss/d") == list(range(10, LONGER + 1, 10))
