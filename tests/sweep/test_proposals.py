from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sweep_files import TEXT, load, text

from gansweep.errors import ConfigError
from gansweep.sweep import proposals as module
from gansweep.sweep.file import Sweep
from gansweep.sweep.plan import Entry, Plan
from gansweep.sweep.proposals import (
    LOOKED_AT,
    OLD_POINTS_IN_A_ROW,
    Listed,
    Proposals,
    Streamed,
    TreeParzen,
    basis_of,
)
from gansweep.sweep.trials import Trial, TrialMaker, planned, points_of

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
    keys = {trial.key for trial in trials}
    assert Listed(trials[:1], finished=trials[1:]).keys == proposals.keys == keys


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
    queue = proposals._waiting
    assert (len(queue._all), len(queue._taken)) == (0, 0)  # nothing is kept of them


LARGE = {
    "model.clip": {"grid": [0.01 * (place + 1) for place in range(40)]},
    "network.width": {"grid": [8, 9]},
    "optimizer.lr": {"grid": [1e-4 * (place + 1) for place in range(40)]},
}
"""3200 points."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The points of which trials are made."""
    points: list[Any] = []
    real = TrialMaker.resolve

    def counted(self: TrialMaker, point: Any, problems: Any) -> Any:
        points.append(point)
        return real(self, point, problems)

    monkeypatch.setattr(TrialMaker, "resolve", counted)
    return points


def streamed(sweep: Sweep, plan: Plan | None = None) -> Streamed:
    return Streamed(sweep, plan or Plan(Path("p"), "s"), finished=done)


def test_a_large_search_makes_its_trials_as_they_are_taken(tmp_path: Path, made: Any) -> None:
    sweep = load(tmp_path, text(space=LARGE, seeds=2))
    proposals = streamed(sweep)
    assert len(made) == 1
    assert (proposals.total, proposals.waiting, proposals.unlisted) == (6400, 6400, 6400)
    first = proposals.take(3)
    assert len(made) == LOOKED_AT / 2
    assert len({trial.config.shape for trial in first}) == 1
    assert (proposals.waiting, proposals.size) == (6397, 6400)
    (other,) = proposals.take(1, shape=next(iter(proposals._waiting._by_shape)))
    assert proposals.take(1, shape="none") == []
    assert len(made) <= LOOKED_AT / 2 + 2
    assert 2 * len(made) - 1 <= len(proposals.keys) <= 2 * len(made)
    assert {other.key, *(t.key for t in first)} < proposals.keys


@pytest.mark.parametrize("method", ["grid", "random"])
def test_a_large_search_gives_what_its_list_would(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [0.1, 0.2, 0.1, 0.3]  # one of them twice
    space = {"model.clip": {"grid": clips}, "optimizer.lr": {"uniform": [0.1, 0.2]}}
    sweep = load(tmp_path, text(space=space, search={"method": method, "samples": 6}, seeds=3))
    listed = planned(sweep)
    proposals = streamed(sweep)
    given = []
    while (trial := following(proposals)) is not None:
        given.append(trial)
    assert [trial.key for trial in given] == [trial.key for trial in listed]
    assert [trial.name for trial in given] == [trial.name for trial in listed]
    assert (proposals.waiting, proposals.unlisted) == (0, 0)
    monkeypatch.setattr(module, "LOOKED_AT", 1)
    assert [t.key for t in streamed(sweep).take(100)] == [trial.key for trial in listed]


def test_an_earlier_run_of_a_large_search_is_passed_over(tmp_path: Path, made: Any) -> None:
    """By point and seed: nothing is made for what is finished. What was put aside comes again."""
    sweep = load(tmp_path, text(space=LARGE, seeds=2))
    trials = streamed(sweep).take(10) + streamed(sweep).take(60)[10:]
    plan = Plan(tmp_path / "plan.json", "s")
    plan.basis = basis_of(sweep)
    for trial in trials:
        ended(plan, trial, 1.0)
    plan.entries[trials[7].key].state = "interrupted"
    plan.save()
    plan = Plan.load(tmp_path / "plan.json", "s")
    made.clear()
    proposals = streamed(sweep, plan)
    assert proposals.total == 6400 - 59
    assert proposals.unlisted == 6400 - 60  # one is put aside
    assert made == [trials[59].point, trials[7].point]  # an example of those that are finished
    again = proposals.take(1)
    assert [trial.key for trial in again] == [trials[7].key]
    assert proposals.unlisted == proposals.waiting == 6400 - 60
    following_one = proposals.take(1)[0]
    assert following_one.key not in plan.entries
    assert proposals.keys >= plan.entries.keys()


def test_the_basis_is_what_points_and_seeds_leave_open(tmp_path: Path) -> None:
    sweep = load(tmp_path, text(space=LARGE))
    wider = load(tmp_path, text(space={**LARGE, "network.depth": {"grid": [1, 2]}}, seeds=3))
    assert basis_of(sweep) == basis_of(wider)
    for override in ("network.depth=2", "budget.g_steps=9"):
        assert basis_of(load(tmp_path, sweep.to_yaml(), [override])) != basis_of(sweep)


def test_an_earlier_run_is_found_without_a_walk_through_the_whole_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = load(tmp_path, text(space=LARGE))
    plan = Plan(tmp_path / "p", "s")
    plan.basis = basis_of(sweep)
    for trial in streamed(sweep).take(25):
        ended(plan, trial, 1.0)
    last = max(list(points_of(sweep)).index(entry.point) for entry in plan.entries.values())
    walked = 0
    real = module.points_of

    def counted(sweep: Sweep) -> Iterator[Any]:
        nonlocal walked
        for point in real(sweep):
            walked += 1
            yield point

    monkeypatch.setattr(module, "points_of", counted)
    assert streamed(sweep, plan).total == 3200 - 25
    assert last < walked <= 2 * (last + 2)  # here, and as they are passed over


def test_of_many_that_were_put_aside_each_counts_once_among_those_to_go(tmp_path: Path) -> None:
    """As `gansweep run` counts at its end: those among the keys, and the unlisted ones."""
    sweep = load(tmp_path, text(space=LARGE))
    plan = Plan(tmp_path / "p", "s")
    plan.basis = basis_of(sweep)
    for trial in streamed(sweep).take(400):
        ended(plan, trial, None, "interrupted")
    assert len(plan.entries) > LOOKED_AT

    def to_go() -> int:
        own = sum(entry.key in proposals.keys for entry in plan.entries.values())
        return own + proposals.unlisted

    proposals = streamed(sweep, plan)
    assert (proposals.waiting, to_go()) == (3200, 3200)
    taken = proposals.take(8)
    assert (proposals.waiting, to_go()) == (3192, 3200)
    plan.add(taken[0])
    assert to_go() == 3200


def test_what_earlier_runs_finished_counts_wherever_the_search_has_it(tmp_path: Path) -> None:
    """A value that was put first comes first; what the file no longer means does not count."""
    clips = [0.01 * (place + 1) for place in range(300)]
    old = load(tmp_path, text(space={"model.clip": {"grid": clips[:250]}}))
    plan = Plan(tmp_path / "p", "s")
    plan.basis = basis_of(old)
    for trial in planned(old, listed=True):
        ended(plan, trial, 1.0)
    wider = streamed(load(tmp_path, text(space={"model.clip": {"grid": clips[::-1]}})), plan)
    assert (wider.total, wider.waiting, wider.unlisted, wider.size) == (50, 50, 50, 300)
    assert wider.keys > plan.entries.keys()
    narrower = streamed(load(tmp_path, text(space={"model.clip": {"grid": clips[220:]}})), plan)
    assert (narrower.total, narrower.size) == (50, 80)
    assert len(narrower.keys & plan.entries.keys()) == 30
    seeds = streamed(load(tmp_path, text(space={"model.clip": {"grid": clips}}, seeds=[1])), plan)
    assert (seeds.total, seeds.waiting) == (300, 300)
    assert not seeds.keys & plan.entries.keys()


def test_what_another_class_of_the_same_name_finished_is_not_passed_over(tmp_path: Path) -> None:
    """A user's own may have other defaults than before: its trials have other keys then."""
    names = ["wgan", "gan"]
    sweep = load(tmp_path, text(space={"model.name": {"grid": names}}, seeds=60))
    plan = Plan(tmp_path / "p", "s")
    plan.basis = basis_of(sweep)
    for trial in planned(sweep, listed=True):
        ended(plan, trial, 1.0)
    first = next(iter(plan.entries.values()))
    plan.entries["gone"] = replace(first, key="gone", point={"model.name": "gone"})
    assert streamed(sweep, plan).total == 0
    for place, name in enumerate(names):  # as if one class were another one now
        changed = Plan(tmp_path / "p", "s")
        changed.basis = plan.basis
        for number, entry in enumerate(plan.entries.values()):
            key = entry.key if number // 60 == place else f"of old {entry.key}"
            changed.entries[key] = replace(entry, key=key)
        proposals = streamed(sweep, changed)
        assert proposals.take(1)[0].point == {"model.name": names[1 - place]}, name


@pytest.mark.parametrize("basis", ["", "another"])
def test_a_plan_of_another_basis_is_told_by_its_keys(tmp_path: Path, made: Any, basis: str) -> None:
    """Trials of equal point and seed may be others now; of equal key they are the same."""
    sweep = load(tmp_path, text(space=LARGE))
    trials = streamed(sweep).take(20)
    plan = Plan(tmp_path / "p", "s")
    plan.basis = basis
    for trial in trials:
        ended(plan, trial, 1.0)
    made.clear()
    proposals = streamed(sweep, plan)
    assert len(made) > 20
    assert not {trial.key for trial in proposals.take(50)} & plan.entries.keys()
    wider = load(tmp_path, sweep.to_yaml(), ["network.depth=2"])
    assert streamed(wider, plan).take(1)[0].point == trials[0].point
    longer = load(tmp_path, sweep.to_yaml(), ["budget.g_steps=9"])
    (first,) = streamed(longer, plan).take(1)  # to be trained further
    assert (first.key, plan.entries[first.key].budget) == (trials[0].key, 9)


def test_all_that_a_longer_budget_is_meant_for_waits_from_the_start(tmp_path: Path) -> None:
    """Its turn may be hours away; what the file does not mean any more stays as it is."""
    sweep = load(tmp_path, text(space=LARGE))
    plan = Plan(tmp_path / "p", "s")
    plan.basis = basis_of(sweep)
    for trial in streamed(sweep).take(LOOKED_AT + 50):
        ended(plan, trial, 1.0)
    others = [entry for entry in plan.entries.values() if entry.point["model.clip"] > 0.015]
    others[0].state = "diverged"
    assert len(others) > 50
    longer = load(tmp_path, sweep.to_yaml(), ["budget.g_steps=9"])
    plan.meet(basis_of(longer))
    proposals = streamed(load(tmp_path, longer.to_yaml(), ["space.model.clip.grid=[0.01]"]), plan)
    meant = [entry for entry in plan.entries.values() if entry.point["model.clip"] < 0.015]
    assert {(entry.state, entry.budget) for entry in meant} == {("waiting", 9)}
    assert {entry.state for entry in others[1:]} == {"completed"}
    assert proposals.waiting == 80
    proposals = streamed(longer, plan)
    states = [entry.state for entry in plan.entries.values()]
    assert states.count("waiting") == len(states) - 1
    assert (others[0].state, proposals.waiting) == ("diverged", 3200)
    streamed(sweep, plan)  # shorter again
    assert {entry.state for entry in plan.entries.values()} == {"completed", "diverged"}


def test_a_large_search_of_seeds_alone_makes_few(tmp_path: Path) -> None:
    proposals = streamed(load(tmp_path, text(space=None, seeds=100_000)))
    assert proposals.total == 100_000
    assert [trial.seed for trial in proposals.take(3)] == [0, 1, 2]
    assert len(proposals.keys) == LOOKED_AT


def test_a_large_search_that_is_finished_has_nothing_to_train(tmp_path: Path) -> None:
    sweep = load(tmp_path, text(space=CLIPS))
    plan = Plan(tmp_path / "p", "s")
    plan.basis = basis_of(sweep)
    for trial in planned(sweep):
        ended(plan, trial, 1.0)
    proposals = streamed(sweep, plan)
    assert (proposals.total, proposals.waiting, proposals.size) == (0, 0, 4)
    assert proposals.keys == plan.entries.keys()
    assert proposals.take(3) == []


CLIPS = {"model.clip": {"grid": [0.1, 0.2, 0.3, 0.4]}}


def test_a_mistake_in_a_combination_is_named_when_it_comes(tmp_path: Path) -> None:
    sweep = load(tmp_path, text(space={"model.clip": {"grid": [0.1, -1.0]}}))
    proposals = streamed(sweep)
    with pytest.raises(ConfigError, match="greater than 0"):
        proposals.take(2)


def test_trials_of_a_shape_are_found_without_looking_at_others(tmp_path: Path) -> None:
    """Whatever their number: a refill costs what it takes."""
    trials = planned(load(tmp_path, text(space=SHAPES)))
    looks = 0

    class Counted:
        def __init__(self, place: int, shape: str) -> None:
            self.key, self._shape = str(place), shape

        @property
        def config(self) -> Any:
            nonlocal looks
            looks += 1
            return SimpleNamespace(shape=self._shape)

    assert len({trial.config.shape for trial in trials}) == 2
    many: Any = [Counted(place, "common" if place < 5000 else "rare") for place in range(10_000)]
    proposals = Listed(many)
    looks = 0
    for place in range(5000):
        assert [trial.key for trial in proposals.take(1, shape="rare")] == [str(5000 + place)]
    assert looks <= 5000
    assert proposals.take(1)[0].key == "0"


def test_trials_like_the_next_one_are_counted_where_all_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large search knows those that it has made, which says nothing of the rest."""
    monkeypatch.setattr(module, "LOOKED_AT", 8)
    space = {
        "network.width": {"grid": [8, 9]},
        "model.clip": {"grid": [n / 100 for n in range(1, 8)]},
    }
    sweep = load(tmp_path, text(space=space))
    listed, large = Listed(planned(sweep)), streamed(sweep)
    found = []
    while listed.waiting:
        assert listed.take(3) == large.take(3)
        found.append((listed.alike, large.alike))
    assert found == [(4, 0), (1, 1), (7, 7), (4, 4), (1, 1), (0, 0)]
    assert TreeParzen(tpe(tmp_path, LR, samples=5), [], finished=no).alike == 0


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


@pytest.mark.parametrize("workers", [1, 3])
def test_what_tpe_has_not_drawn_is_counted_among_those_to_go(tmp_path: Path, workers: int) -> None:
    """As `gansweep run` counts its plan: the entries, and the trials that are in none yet."""
    sweep = tpe(tmp_path, LR, samples=8, seeds=[4, 9])
    plan = Plan(tmp_path / "p", "s")

    def size() -> int:
        proposals = TreeParzen(sweep, list(plan.entries.values()), finished=done)
        return len(plan.entries) + proposals.unlisted

    assert size() == 16
    first = search(sweep, plan, workers=workers, stop=5)
    assert (len(plan.entries), size()) == (5, 16)
    plan.entries[first[-1].key].state = "interrupted"
    assert size() == 16
    proposals = TreeParzen(sweep, list(plan.entries.values()), finished=done)
    assert proposals.waiting == 16 - 4
    assert proposals.take(1)[0].key == first[-1].key
    assert proposals.unlisted == 16 - 5
    search(sweep, plan, workers=workers)
    assert (len(plan.entries), size()) == (16, 16)


def test_tpe_finds_the_bottom(tmp_path: Path) -> None:
    trained = search(tpe(tmp_path, LR, samples=40), Plan(tmp_path / "p", "s"))
    assert len({trial.key for trial in trained}) == len(trained) == 40
    late = [bowl(trial) for trial in trained[20:]]
    early = [bowl(trial) for trial in trained[:10]]
    assert sum(late) / len(late) < 0.5 * sum(early) / 10
    assert min(late) < 0.02


def test_a_finished_search_over_budgets_is_finished(tmp_path: Path) -> None:
    """Each of its trials has its own."""
    pairs = [{"model.clip": clip, "budget.g_steps": steps} for clip, steps in ((0.1, 5), (0.2, 9))]
    space = {"pair": {"choice": pairs}, **LR}
    sweep = tpe(tmp_path, space, samples=8)
    plan = Plan(tmp_path / "p", "s")
    trained = search(sweep, plan)
    assert len({trial.config.budget.g_steps for trial in trained}) == 2
    for entry in plan.entries.values():
        entry.budget = 9  # as an earlier command may have left it
    assert TreeParzen(sweep, plan.entries.values(), finished=done).total == 0


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


def test_tpe_takes_any_seed_that_other_searches_take(tmp_path: Path) -> None:
    """Optuna takes those below 2^32, and a resumed search adds its points to it."""
    sweep = tpe(tmp_path, LR, samples=3)
    for seed in (2**32 - 2, 2**40):
        large = load(tmp_path, sweep.to_yaml(), [f"search.seed={seed}"])
        plan = Plan(tmp_path / f"{seed}.json", "s")
        assert len(search(large, plan, stop=2)) == 2
        assert len(search(large, plan)) == 1


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


@pytest.mark.parametrize("method", ["tpe", "random"])
def test_what_failed_waits_where_it_is_to_be_tried_again(tmp_path: Path, method: str) -> None:
    sweep = tpe(tmp_path, LR, samples=2)
    if method == "random":
        sweep = load(tmp_path, sweep.to_yaml(), ["search.method=random"])
    plan = Plan(tmp_path / "p", "s")

    def again(entry: Entry) -> bool:
        return entry.is_finished(entry.budget, retry_failed=True)

    def proposals() -> Proposals:
        if method == "random":
            return Streamed(sweep, plan, finished=again)
        return TreeParzen(sweep, list(plan.entries.values()), finished=again)

    for trial in proposals().take(2):
        ended(plan, trial, None, "failed")
    assert len(proposals().take(2)) == 2
    assert [entry.state for entry in plan.entries.values()] == ["waiting"] * 2


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
    assert [t.state.name for t in study] == ["PRUNED", "PRUNED", "FAIL"]
    assert study[0].value == 2.5


OUTCOMES: list[tuple[tuple[float | None, Any, int], ...]] = [
    ((1.0, "completed", 5), (4.0, "completed", 5)),
    ((1.0, "completed", 5), (4.0, "stopped", 3)),
    ((1.0, "stopped", 4), (2.0, "stopped", 2)),
    ((1.0, "completed", 5), (None, "diverged", 2)),
    ((0.1, "diverged", 2), (0.1, "failed", 5)),  # with a value from before
    ((1.0, "completed", 5), (2.0, "failed", 5)),
    ((1.0, "completed", 5), (None, "completed", 5)),
]


def test_tpe_is_told_how_a_point_ended(tmp_path: Path) -> None:
    """A stopped one's value is of its step, a diverged one is worse than any value."""
    sweep = tpe(tmp_path, LR, samples=len(OUTCOMES), seeds=2)
    proposals, plan = TreeParzen(sweep, [], finished=no), Plan(tmp_path / "p", "s")
    for outcome in OUTCOMES:
        for value, state, g_steps in outcome:
            trial = following(proposals)
            assert trial is not None
            entry = ended(plan, trial, value, state)
            entry.g_steps = g_steps
            proposals.tell(trial, entry)
    for each in (proposals, TreeParzen(sweep, plan.entries.values(), finished=done)):
        told = [(t.state.name, t.value, t.intermediate_values) for t in each._study.trials]
        assert told == [
            ("COMPLETE", 2.5, {}),
            ("PRUNED", 2.5, {3: 2.5}),
            ("PRUNED", 1.5, {2: 1.5}),
            ("PRUNED", None, {}),
            ("PRUNED", None, {}),
            ("FAIL", None, {}),
            ("FAIL", None, {}),
        ]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_tpe_keeps_away_from_where_trials_diverge(tmp_path: Path, mode: str) -> None:
    """Nine tenths of the space."""
    proposals = TreeParzen(tpe(tmp_path, LR, samples=50, mode=mode), [], finished=no)
    plan, diverged = Plan(tmp_path / "p", "s"), []
    while (trial := following(proposals)) is not None:
        rate = math.log10(trial.point["optimizer.lr"])
        diverged.append(rate > -4.6)
        value = abs(rate + 4.8) if mode == "min" else -abs(rate + 4.8)
        state = "diverged" if diverged[-1] else "completed"
        proposals.tell(trial, ended(plan, trial, value, state))
    assert sum(diverged[:15]) >= 10
    assert sum(diverged[-20:]) <= 10


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
    space = {"model.clip": {"choice": [1, 1.0, 2]}}  # two points, which nobody knows beforehand
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
    assert len(study) == 2 + OLD_POINTS_IN_A_ROW
    assert {(t.state.name, t.value) for t in study} == {("COMPLETE", 1.0), ("COMPLETE", 2.0)}


def test_point_chosen_again_after_it_ended_is_told_at_once(tmp_path: Path) -> None:
    sweep = tpe(tmp_path, {"model.clip": {"choice": [1, 1.0]}}, samples=4)
    proposals = TreeParzen(sweep, [], finished=no)
    trial = following(proposals)
    assert trial is not None
    proposals.tell(trial, ended(Plan(tmp_path / "p", "s"), trial, 0.5))
    assert following(proposals) is None
    assert [t.value for t in proposals._study.trials] == [0.5] * (1 + OLD_POINTS_IN_A_ROW)


COARSE = {"optimizer.lr": {"quniform": [1e-3, 8e-3, 1e-3]}}
"""Eight points, of which TPE soon prefers those near the bottom."""


def test_points_chosen_twice_are_none_of_the_number(tmp_path: Path) -> None:
    sweep = tpe(tmp_path, COARSE, samples=6)
    plan = Plan(tmp_path / "p", "s")
    trained = search(sweep, plan)
    assert len({trial.key for trial in trained}) == len(trained) == 6
    assert TreeParzen(sweep, plan.entries.values(), finished=done).total == 0
    assert search(sweep, plan) == []


FINE = {"optimizer.lr": {"quniform": [1e-3, 3e-2, 1e-3]}}
"""Thirty points, of which TPE chooses those of one end again and again."""


@pytest.mark.parametrize("samples", [27, 33])
def test_what_tpe_does_not_come_to_is_trained_all_the_same(tmp_path: Path, samples: int) -> None:
    sweep = tpe(tmp_path, FINE, samples=samples)
    plan = Plan(tmp_path / "p", "s")
    proposals = TreeParzen(sweep, [], finished=no)
    assert proposals.total == min(samples, 30)
    trained = []
    while (trial := following(proposals)) is not None:
        trained.append(trial)
        proposals.tell(trial, ended(plan, trial, trial.point["optimizer.lr"]))
    assert len({trial.key for trial in trained}) == len(trained) == min(samples, 30)
    again = TreeParzen(sweep, plan.entries.values(), finished=done)
    assert (again.total, again.take(9)) == (0, [])
    for each in (proposals, again):
        assert each.waiting == 0
        assert each.shortfall == (
            "search.samples is 33, and the space has no more than 30 points" * (samples == 33)
        )


def test_a_search_that_has_seen_all_points_trains_nothing_again(tmp_path: Path) -> None:
    sweep = tpe(tmp_path, {"optimizer.lr": {"choice": [1e-3, 2e-3, 4e-3]}}, samples=16)
    plan = Plan(tmp_path / "p", "s")
    assert len(search(sweep, plan)) == 3
    assert TreeParzen(sweep, plan.entries.values(), finished=done).total == 0
    assert search(sweep, plan) == []
