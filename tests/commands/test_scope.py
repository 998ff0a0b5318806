"""All of a sweep or a share of it: one plan, one owner of each part, one end."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sweep_files import load, text

from gansweep import ownership
from gansweep.commands import scope
from gansweep.commands.scope import Shared, Whole, standing
from gansweep.errors import ConfigError
from gansweep.sweep.file import Sweep
from gansweep.sweep.files import DEAL_FILE, SHARES
from gansweep.sweep.plan import EntryState, Plan
from gansweep.sweep.proposals import basis_of
from gansweep.sweep.share import Share
from gansweep.sweep.trials import Trial, planned

SPACE = {"model.clip": {"grid": [0.01, 0.02, 0.03]}}


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return load(tmp_path, text(space=SPACE, seeds=2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "small"


@pytest.fixture
def take_up(sweep: Sweep, folder: Path) -> Callable[..., tuple[Shared, Plan, list[Trial]]]:
    def run(
        number: int, count: int = 2, *, of: Sweep = sweep, retry_failed: bool = False
    ) -> tuple[Shared, Plan, list[Trial]]:
        share = Shared(folder, Share(number, count))
        share.folder.mkdir(parents=True, exist_ok=True)
        plan, own = share.take_up(of, planned(of), retry_failed=retry_failed)
        return share, plan, list(own)

    return run


TakeUp = Callable[..., tuple[Shared, Plan, list[Trial]]]


def end(
    share: Shared, plan: Plan, *, state: EntryState = "completed", delivered: bool = True
) -> bool:
    """Every trial of the share ends so; whether it was the last."""
    for entry in plan.entries.values():
        entry.state, entry.g_steps = state, 5
    plan.save()
    with share.concluding(plan, list(plan.entries.values()), delivered=delivered) as outcome:
        assert len(outcome.entries) == 6
        return outcome.is_last


def nobody() -> None:
    """Another process would end."""


def test_the_first_plans_for_all_and_the_others_see_it(
    take_up: TakeUp, sweep: Sweep, folder: Path
) -> None:
    keys = [trial.key for trial in planned(sweep)]
    _, _, first = take_up(1)
    written = (folder / "plan.json").read_bytes()
    assert list(Plan.load(folder / "plan.json", "small").entries) == keys
    _, plan, second = take_up(2)
    assert (folder / "plan.json").read_bytes() == written
    assert sorted(t.key for t in (*first, *second)) == sorted(keys)
    assert {tuple(sorted(t.point.items())) for t in first}.isdisjoint(
        {tuple(sorted(t.point.items())) for t in second}
    )
    assert list(plan.entries) == [trial.key for trial in second]


def test_trials_of_other_settings_leave_a_plan_without_a_basis(
    take_up: TakeUp, sweep: Sweep, folder: Path, tmp_path: Path
) -> None:
    """Else those of the old settings would be passed over, by point and seed, as finished."""
    plan = Plan(folder / "plan.json", sweep.name)
    plan.meet(basis_of(sweep))
    for trial in planned(sweep):
        plan.add(trial)
    plan.save()
    take_up(1)
    assert Plan.load(plan.path, sweep.name).basis == basis_of(sweep)
    (folder / SHARES / DEAL_FILE).unlink()
    take_up(1, of=load(tmp_path, sweep.to_yaml(), ["network.depth=2"]))
    found = Plan.load(plan.path, sweep.name)
    assert (found.basis, len(found.entries)) == ("", 12)
    assert found.left_out == plan.entries.keys()


def test_of_many_that_come_at_once_one_deals(take_up: TakeUp, sweep: Sweep, folder: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda number: take_up(number, 6)[2], range(1, 7)))
    keys = [trial.key for each in found for trial in each]
    assert sorted(keys) == sorted(trial.key for trial in planned(sweep))
    assert len(json.loads((folder / SHARES / DEAL_FILE).read_text())["shares"]) == 6


@pytest.mark.parametrize("retry_failed", [False, True])
def test_the_deal_holds_until_all_have_trained_further(
    take_up: TakeUp, sweep: Sweep, folder: Path, tmp_path: Path, retry_failed: bool
) -> None:
    """One that ends before the next begins leaves it its own, not a share of what is left."""
    for number in (1, 2):
        share, plan, _ = take_up(number)
        end(share, plan, state="failed" if retry_failed else "completed")
    of = sweep if retry_failed else load(tmp_path, sweep.to_yaml(), ["budget.g_steps=9"])
    share, plan, first = take_up(1, of=of, retry_failed=retry_failed)
    for entry in plan.entries.values():
        entry.state, entry.g_steps = "completed", 9
    plan.save()
    with share.concluding(plan, list(plan.entries.values()), delivered=True):
        pass
    _, _, second = take_up(2, of=of, retry_failed=retry_failed)
    keys = sorted(trial.key for trial in planned(sweep))
    assert sorted(trial.key for trial in (*first, *second)) == keys


def test_who_comes_late_takes_up_nothing_of_others_that_failed_again(
    take_up: TakeUp, sweep: Sweep, folder: Path
) -> None:
    """Else it would wait for a share that is over, and the sweep would never end."""
    for retry_failed in (False, True):
        for number in (1, 2):
            share, plan, own = take_up(number, retry_failed=retry_failed)
            end(share, plan, state="failed")
            if number == 1:
                first = {trial.key for trial in own}
    take_up(2, retry_failed=True)
    found = standing(folder, sweep.name).entries
    assert {found[key].state for key in first} == {"failed"}


def test_a_share_that_was_killed_goes_on_with_its_own(take_up: TakeUp, folder: Path) -> None:
    _, plan, own = take_up(1)
    first = plan.entries[own[0].key]
    first.state, first.g_steps, first.run_id = "running", 3, "r"
    plan.save()
    take_up(2)
    _, again, mine = take_up(1)
    assert [trial.key for trial in mine] == [trial.key for trial in own]
    entry = again.entries[own[0].key]
    assert (entry.state, entry.g_steps, entry.run_id) == ("running", 3, "r")
    assert standing(folder, "small").entries[own[0].key].g_steps == 3


def test_the_last_one_ends_the_sweep(
    take_up: TakeUp, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scope, "may_be_owned", lambda folder: True)
    first, plan, _ = take_up(1)
    second, other, _ = take_up(2)
    assert not end(first, plan)
    assert (folder / SHARES / DEAL_FILE).exists()
    assert end(second, other)
    assert {entry.state for entry in Plan.load(folder / "plan.json", "small").entries.values()} == {
        "completed"
    }
    assert sorted(os.listdir(folder / SHARES)) == [".owner", "1-of-2", "2-of-2"]
    assert take_up(1)[2] == []  # nothing is left


def test_who_has_crashed_does_not_keep_the_others_from_ending(
    take_up: TakeUp, folder: Path
) -> None:
    first, plan, _ = take_up(1)
    second, _, own = take_up(2)
    assert end(first, plan)  # nobody owns the second: as far as is known, it is over
    assert (folder / SHARES / DEAL_FILE).exists()  # and it goes on with its own
    _, again, mine = take_up(2)
    assert [trial.key for trial in mine] == [trial.key for trial in own]
    assert end(second, again)
    assert not (folder / SHARES / DEAL_FILE).exists()


def test_interrupted_trials_keep_their_share(take_up: TakeUp, folder: Path) -> None:
    first, plan, own = take_up(1)
    second, other, _ = take_up(2)
    end(first, plan, state="interrupted")
    end(second, other)
    _, again, mine = take_up(1)
    assert [trial.key for trial in mine] == [trial.key for trial in own]
    assert {entry.state for entry in again.entries.values()} == {"interrupted"}


def test_what_was_not_delivered_stays_with_its_share(take_up: TakeUp) -> None:
    """Until the same command delivers it, though the others have ended meanwhile."""
    first, plan, own = take_up(1)
    second, other, _ = take_up(2)
    end(first, plan, delivered=False)
    end(second, other)
    _, again, _ = take_up(1)
    assert list(again.entries) == [trial.key for trial in own]
    assert first.delivers(again) == again.entries.keys()


def test_another_number_of_shares_waits_for_these(take_up: TakeUp, tmp_path: Path) -> None:
    first, plan, _ = take_up(1)
    longer = load(tmp_path, text(space=SPACE, seeds=2), ["budget.g_steps=50"])
    with first.sole_use(nobody):
        for words in ({"count": 3}, {"of": longer}, {"retry_failed": True}):
            with pytest.raises(ConfigError, match=r"--share: others .*the same command but for I"):
                take_up(2, **words)
    one = next(iter(plan.entries.values()))
    one.state, one.g_steps = "completed", 5
    plan.save()
    found = [trial for number in (1, 2, 3) for trial in take_up(number, 3)[2]]
    assert len(found) == 5  # what is finished is not dealt again


def test_what_failed_is_dealt_where_it_is_to_be_tried_again(take_up: TakeUp) -> None:
    for number in (1, 2):
        share, plan, _ = take_up(number)
        end(share, plan, state="failed")
    assert take_up(1)[2] == take_up(2)[2] == []
    again = [trial for number in (1, 2) for trial in take_up(number, retry_failed=True)[2]]
    assert len(again) == 6


def test_all_of_it_or_shares(take_up: TakeUp, sweep: Sweep, folder: Path) -> None:
    first, plan, _ = take_up(1)
    whole = Whole(folder)
    with first.sole_use(nobody):
        with pytest.raises(ConfigError, match="another gansweep drives"), whole.sole_use():
            pass
        with pytest.raises(ConfigError, match="another gansweep drives"), first.sole_use(nobody):
            pass
        with Shared(folder, Share(2, 2)).sole_use(nobody):
            pass
    with whole.sole_use():
        with pytest.raises(ConfigError, match="another gansweep drives"), first.sole_use(nobody):
            pass
        next(iter(plan.entries.values())).state = "diverged"
        plan.save()
        found, all_of_them = whole.take_up(sweep, planned(sweep), retry_failed=False)
    assert len(all_of_them) == 6
    assert [e.state for e in found.entries.values()].count("diverged") == 1
    assert not list((folder / SHARES).glob("*/plan.json"))
    assert not (folder / SHARES / DEAL_FILE).exists()
    assert Plan.load(folder / "plan.json", "small").entries == found.entries


def test_the_dead_are_asked_side_by_side(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of another machine takes its seconds to be known for dead."""
    monkeypatch.setattr(ownership, "SILENT_SECONDS", 0.5)
    real, side_by_side = ownership._Owner.await_the_end, threading.Barrier(20)

    def awaits(owner: ownership._Owner) -> None:
        side_by_side.wait(60)
        real(owner)

    monkeypatch.setattr(ownership._Owner, "await_the_end", awaits)
    places = [folder / SHARES / f"{number}-of-20" for number in range(1, 21)]
    for place in places:
        (place / ownership.FOLDER).mkdir(parents=True)
        (place / ownership.FOLDER / "1.json").write_text('{"host": "away", "pid": 1, "beat": 1}')
        assert ownership.may_be_owned(place)
    ownership.check_unowned(places)


def test_a_damaged_deal_is_named(take_up: TakeUp, folder: Path) -> None:
    take_up(1)
    (folder / SHARES / DEAL_FILE).write_text("{")
    with pytest.raises(ConfigError, match=r"deal\.json: does not say which trial is whose"):
        take_up(2)
