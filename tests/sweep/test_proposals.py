from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from sweep_files import TEXT, load, text

from gansweep.sweep.file import Sweep
from gansweep.sweep.plan import Entry, Plan
from gansweep.sweep.proposals import Listed, Proposals, TreeParzen
from gansweep.sweep.trials import Trial, planned

LR = {"optimizer.lr": {"loguniform": [1e-5, 1e-1]}}


def tpe(folder: Path, space: dict[str, Any], *, samples: int, **sections: Any) -> Sweep:
    mode = sections.pop("mode", "min")
    search = {"method": "tpe", "samples": samples, "mode": mode}
    return load(folder, text(space=space, search=search, **sections))


def no(entry: Entry) -> bool:
    return False


def done(entry: Entry) -> bool:
    return entry.is_finished(entry.budget, retry_failed=False)


def ended(plan: Plan, trial: Trial, value: float | None, state: Any = "completed") -> Entry:
    entry = plan.add(trial)
    entry.state, entry.g_steps = state, trial.config.budget.g_steps
    entry.metrics = {} if value is None else {"score/swd": value}
    return entry


def bowl(trial: Trial) -> float:
    """Least at lr = 1e-3."""
    return (math.log10(trial.point["optimizer.lr"]) + 3) ** 2


def search(sweep: Sweep, plan: Plan, *, workers: int = 1, stop: int = 10**6) -> list[Trial]:
    """The trials that a pool of workers trains; the last begun ends first."""
    proposals = TreeParzen(sweep, list(plan.entries.values()), finished=done)
    trained: list[Trial] = []
    running: list[Trial] = []
    while True:
        while len(running) < workers and len(trained) < stop:
            trial = following(proposals)
            if trial is None:
                break
            plan.add(trial)
            assert trial.key not in {other.key for other in running}
            running.append(trial)
            trained.append(trial)
        if not running:
            return trained
        trial = running.pop()
        proposals.tell(trial, ended(plan, trial, bowl(trial)))


def following(proposals: Proposals) -> Trial | None:
    """The next trial; None where none waits."""
    taken = proposals.take(1)
    assert len(taken) < 2
    return taken[0] if taken else None


def test_listed_gives_each_once_in_order(tmp_path: Path) -> None:
    trials = planned(load(tmp_path, TEXT))
    proposals = Listed(trials)
    assert (proposals.total, proposals.waiting) == (2, 2)
    assert [following(proposals) for _ in range(3)] == [*trials, None]
    assert following(proposals) is None
    assert (proposals.total, proposals.waiting) == (2, 0)
    assert following(Listed([])) is None


SHAPES = {
    "network.width": {"grid": [8, 9]},
    "model.clip": {"grid": [0.1, 0.2, 0.3]},
}


def test_what_is_taken_at_once_is_of_one_shape(tmp_path: Path) -> None:
    """The others stay, in their order, and come when they are first or asked for."""
    trials = planned(load(tmp_path, text(space=SHAPES)))
    widths = [trial.config.network.settings.width for trial in trials]
    assert sorted(widths) == [8] * 3 + [9] * 3
    eights = [trial for trial, width in zip(trials, widths, strict=True) if width == 8]
    nines = [trial for trial, width in zip(trials, widths, strict=True) if width == 9]
    proposals = Listed([eights[0], nines[0], eights[1], nines[1], nines[2], eights[2]])
    assert proposals.take(2, shape=nines[0].config.shape) == nines[:2]
    assert proposals.take(9) == eights
    assert proposals.waiting == 1
    assert proposals.take(1, shape=eights[0].config.shape) == []
    assert proposals.take(9) == nines[2:]
    assert proposals.take(9) == []


def test_tpe_is_asked_for_no_more_than_is_to_be_taken(tmp_path: Path) -> None:
    """What it proposes later knows how the first ones ended."""
    proposals = TreeParzen(tpe(tmp_path, LR, samples=5, seeds=[4, 9]), [], finished=no)
    assert (proposals.total, proposals.waiting) == (10, 10)
    first = proposals.take(3)
    assert [trial.seed for trial in first] == [4, 9, 4]
    assert len(proposals._study.trials) == 2
    assert proposals.waiting == 7
    assert [trial.seed for trial in proposals.take(1)] == [9]
    assert len(proposals._study.trials) == 2
    assert len(proposals.take(100)) == 6
    assert proposals.waiting == 0


def test_tpe_finds_the_bottom(tmp_path: Path) -> None:
    trained = search(tpe(tmp_path, LR, samples=40), Plan(tmp_path / "p", "s"))
    assert 36 <= len(trained) <= 40  # near the bottom it may choose a rounded value twice
    assert len({trial.key for trial in trained}) == len(trained)
    late = [bowl(trial) for trial in trained[20:]]
    early = [bowl(trial) for trial in trained[:10]]
    assert sum(late) / len(late) < 0.5 * sum(early) / 10
    assert min(late) < 0.02


def test_tpe_climbs_under_max(tmp_path: Path) -> None:
    sweep = tpe(tmp_path, LR, samples=30, mode="max")
    trained = search(sweep, Plan(tmp_path / "p", "s"))
    assert sum(map(bowl, trained[20:])) / len(trained[20:]) > sum(map(bowl, trained[:10])) / 10
    assert max(map(bowl, trained)) > 3.5  # an end of the interval


def test_tpe_is_deterministic(tmp_path: Path) -> None:
    sweep = tpe(tmp_path, LR, samples=14)
    one, two = (search(sweep, Plan(tmp_path / "p", "s"), workers=3) for _ in range(2))
    assert [t.key for t in one] == [t.key for t in two]
    other = load(tmp_path, sweep.to_yaml(), ["search.seed=1"])
    assert {t.key for t in search(other, Plan(tmp_path / "p", "s"))}.isdisjoint(t.key for t in one)


@pytest.mark.parametrize("workers", [1, 4])
def test_finished_search_trains_nothing_again(tmp_path: Path, workers: int) -> None:
    sweep = tpe(tmp_path, LR, samples=16)
    plan = Plan(tmp_path / "plan.json", "s")
    first = search(sweep, plan, workers=workers)
    plan.save()
    plan = Plan.load(tmp_path / "plan.json", "s")  # as the next run finds it
    assert TreeParzen(sweep, plan.entries.values(), finished=done).total == 0
    assert search(sweep, plan, workers=workers) == []
    longer = load(tmp_path, sweep.to_yaml(), ["search.samples=19"])
    fresh = search(longer, plan, workers=workers)
    assert len(fresh) == 3
    assert {t.key for t in fresh}.isdisjoint(t.key for t in first)


@pytest.mark.parametrize("begun", [3, 12])
def test_interrupted_search_goes_on(tmp_path: Path, begun: int) -> None:
    sweep = tpe(tmp_path, LR, samples=16)
    plan = Plan(tmp_path / "p", "s")
    first = search(sweep, plan, stop=begun)
    plan.entries[first[-1].key].state = "interrupted"
    proposals = TreeParzen(sweep, plan.entries.values(), finished=done)
    assert proposals.total == 16 - begun + 1
    rest = search(sweep, plan)
    assert rest[0].key == first[-1].key  # what was put aside comes first
    assert len(rest) == 16 - begun + 1
    assert len({t.key for t in [*first, *rest]}) == 16


def test_more_seeds_train_the_same_points_again(tmp_path: Path) -> None:
    sweep = tpe(tmp_path, LR, samples=5)
    plan = Plan(tmp_path / "p", "s")
    first = search(sweep, plan)
    more = load(tmp_path, sweep.to_yaml(), ["seeds=2"])
    rest = search(more, plan)
    assert [(t.point, t.seed) for t in rest] == [(t.point, 1) for t in first]


def test_changed_space_drops_what_no_longer_fits(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "p", "s")
    search(tpe(tmp_path, LR, samples=5), plan)
    narrow = {"optimizer.lr": {"loguniform": [1.0, 2.0]}}
    assert len(search(tpe(tmp_path, narrow, samples=4), plan)) == 4
    other = {"model.clip": {"uniform": [0.1, 0.2]}, **LR}
    proposals = TreeParzen(
        tpe(tmp_path, other, samples=4), list(plan.entries.values()), finished=done
    )
    assert proposals.total == 4


def test_points_of_other_settings_are_not_replayed(tmp_path: Path) -> None:
    sweep = tpe(tmp_path, LR, samples=5)
    plan = Plan(tmp_path / "p", "s")
    first = search(sweep, plan)
    wider = load(tmp_path, sweep.to_yaml(), ["network.width=9"])
    proposals = TreeParzen(wider, list(plan.entries.values()), finished=done)
    assert proposals.total == 5
    assert proposals.keys == set()
    assert len(search(wider, plan)) == 5
    again = TreeParzen(wider, list(plan.entries.values()), finished=done)
    assert again.total == 0
    assert len(again.keys) == 5
    assert again.keys.isdisjoint(trial.key for trial in first)


def test_value_is_the_mean_over_seeds(tmp_path: Path) -> None:
    sweep = tpe(tmp_path, LR, samples=3, seeds=[4, 9])
    proposals = TreeParzen(sweep, [], finished=no)
    assert proposals.total == 6
    plan = Plan(tmp_path / "p", "s")
    trials = [following(proposals) for _ in range(6)]
    assert [t.seed for t in trials if t] == [4, 9] * 3
    assert following(proposals) is None
    outcomes: list[tuple[float | None, Any]] = [
        (1.0, "completed"), (4.0, "stopped"),
        (1.0, "completed"), (None, "diverged"),
        (3.0, "failed"), (2.0, "completed"),
    ]  # fmt: skip
    for trial, (value, state) in zip(trials, outcomes, strict=True):
        assert trial is not None
        proposals.tell(trial, ended(plan, trial, value, state))
    study = proposals._study.trials
    assert [t.state.name for t in study] == ["COMPLETE", "FAIL", "FAIL"]
    assert study[0].value == 2.5


def test_conditional_space(tmp_path: Path) -> None:
    space = {
        "model.name": {"choice": ["wgan", "gan"]},
        "model.clip": {"uniform": [0.01, 0.1], "when": {"model.name": "wgan"}},
        "data.batch_size": {"quniform": [8, 32, 8]},
    }
    trial = {"network": {"name": "mlp"}, "data": {"name": "ring8"}}
    proposals = TreeParzen(tpe(tmp_path, space, samples=15, trial=trial), [], finished=no)
    plan = Plan(tmp_path / "p", "s")
    seen = set()
    while (found := following(proposals)) is not None:
        assert ("model.clip" in found.point) == (found.config.model.name == "wgan")
        assert found.config.data.settings.batch_size in (8, 16, 24, 32)
        seen.add(found.config.model.name)
        proposals.tell(found, ended(plan, found, 1.0))
    assert seen == {"wgan", "gan"}


def test_point_chosen_twice_trains_once(tmp_path: Path) -> None:
    space = {"model.clip": {"choice": [0.1, 0.2]}}
    sweep = tpe(tmp_path, space, samples=8)
    proposals = TreeParzen(sweep, [], finished=no)
    plan = Plan(tmp_path / "p", "s")
    first, second = following(proposals), following(proposals)
    assert first is not None
    assert second is not None
    assert first.key != second.key
    assert following(proposals) is None  # all further points are these two
    for trial in (first, second):
        proposals.tell(trial, ended(plan, trial, trial.point["model.clip"]))
    study = proposals._study.trials
    assert len(study) == 8
    assert {(t.state.name, t.value) for t in study} == {("COMPLETE", 0.1), ("COMPLETE", 0.2)}


def test_point_chosen_again_after_it_ended_is_told_at_once(tmp_path: Path) -> None:
    sweep = tpe(tmp_path, {"model.clip": {"choice": [0.1]}}, samples=4)
    proposals = TreeParzen(sweep, [], finished=no)
    trial = following(proposals)
    assert trial is not None
    proposals.tell(trial, ended(Plan(tmp_path / "p", "s"), trial, 0.5))
    assert following(proposals) is None
    assert [t.value for t in proposals._study.trials] == [0.5] * 4
