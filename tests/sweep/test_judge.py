from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sweep_files import load, text

from gansweep.config import resolve
from gansweep.sweep.judge import Judge, comparison_basis
from gansweep.sweep.schedulers.base import Answers, Continue, Inherit, Stop
from gansweep.sweep.schedulers.catalogue import make_scheduler
from gansweep.sweep.trials import planned

SPACE = {"optimizer.lr": {"loguniform": [1e-4, 1e-1]}, "model.clip": {"uniform": [0.01, 0.1]}}
SEARCHES: dict[str, dict[str, Any]] = {
    "asha": {"scheduler": "asha", "grace": 2, "reduction": 2},
    "median": {"scheduler": "median", "grace": 2},
    "pbt": {"scheduler": "pbt", "interval": 2},
}
BUDGET = 10


def judge(folder: Path, kind: str) -> Judge:
    search = {"method": "random", "samples": 4, **SEARCHES.get(kind, {})}
    sweep = load(folder, text(space=SPACE, search=search))
    scheduler = make_scheduler(sweep.search, BUDGET, space=sweep.space)
    return Judge(scheduler, folder / "decisions.jsonl")


def events() -> list[tuple[Any, ...]]:
    """Four trials, the later the worse; the third one ends early and the last one begins late."""
    happened: list[tuple[Any, ...]] = [
        ("begin", key, {"optimizer.lr": 1e-3 * (i + 1), "model.clip": 0.02 * (i + 1)})
        for i, key in enumerate("abc")
    ]
    for g_steps in (2, 4, 6, 8):
        happened += [("report", key, g_steps, i + 1 / g_steps) for i, key in enumerate("abc")]
        if g_steps == 4:
            happened += [("ended", "c"), ("begin", "d", {"optimizer.lr": 0.05, "model.clip": 0.1})]
        if g_steps >= 6:
            happened.remove(("report", "c", g_steps, 2 + 1 / g_steps))
            happened += [("report", "d", g_steps, 9.0)]
    return [*happened, ("ended", "a"), ("ended", "b"), ("ended", "d")]


def play(judge: Judge, happened: list[tuple[Any, ...]]) -> list[Answers]:
    return [getattr(judge, name)(*arguments) or [] for name, *arguments in happened]


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_break_anywhere_changes_no_decision(kind: str, tmp_path: Path) -> None:
    """The journal alone brings the scheduler back to where it was."""
    (tmp_path / "whole").mkdir()
    whole = judge(tmp_path / "whole", kind)
    expected = play(whole, events())
    decisions = [decision for answers in expected for _, decision in answers]
    assert any(isinstance(each, Inherit if kind == "pbt" else Stop) for each in decisions)
    assert any(isinstance(each, Continue) for each in decisions)
    ran = 0
    for cut in range(len(events()) + 1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        first = play(judge(folder, kind), events()[:cut])
        second = play(judge(folder, kind), events()[cut:])
        assert first + second == expected
        ran += 1
    assert ran == len(events()) + 1


@pytest.mark.parametrize("kind", SEARCHES)
def test_the_same_report_after_a_break_has_the_same_answer(kind: str, tmp_path: Path) -> None:
    """As of a trial that went on from a checkpoint before its last scores."""
    told: dict[tuple[str, int], Any] = {}
    for (name, *arguments), answers in zip(
        events()[:-3], play(judge(tmp_path, kind), events()[:-3]), strict=True
    ):
        if name == "report":
            told |= {(key, arguments[1]): decision for key, decision in answers}
    again = judge(tmp_path, kind)
    asked = [(key, 8) for key in "abd"]
    assert set(asked) <= set(told)
    for key, g_steps in asked:
        assert again.report(key, g_steps, 1e9) == [(key, told[key, g_steps])]


def test_what_a_killed_run_left_half_written_is_passed_over(tmp_path: Path) -> None:
    first = judge(tmp_path, "asha")
    play(first, events()[:6])
    journal = tmp_path / "decisions.jsonl"
    whole = journal.read_text()
    expected = first.report("a", 4, 0.5)
    journal.write_text(whole + '{"report": "a", "g_st')
    assert judge(tmp_path, "asha").report("a", 4, 0.5) == expected
    lines = journal.read_text().splitlines()
    assert json.loads(lines[-1]) == {"report": "a", "g_steps": 4, "value": 0.5}
    assert judge(tmp_path, "asha").report("a", 4, 1e9) == expected  # that report is not lost


def test_it_is_written_before_it_is_decided(tmp_path: Path) -> None:
    class Breaks:
        waits = True

        def begin(self, key: str, settings: Any) -> None:
            pass

        def report(self, key: str, g_steps: int, value: float) -> Answers:
            raise OSError("broken")

    journal = tmp_path / "journal"
    one = Judge(Breaks(), journal)  # type: ignore[arg-type]
    one.begin("a", {"x": 1})
    with pytest.raises(OSError, match="broken"):
        one.report("a", 4, 0.5)
    assert [json.loads(line) for line in journal.read_text().splitlines()] == [
        {"begin": "a", "settings": {"x": 1}},
        {"report": "a", "g_steps": 4, "value": 0.5},
    ]


def test_nothing_is_written_where_nobody_waits(tmp_path: Path) -> None:
    one = judge(tmp_path, "none")
    assert not one.waits
    play(one, events())
    assert not (tmp_path / "decisions.jsonl").exists()


def test_members_that_the_sweep_no_longer_means_hold_up_no_generation(tmp_path: Path) -> None:
    first = judge(tmp_path, "pbt")
    for key in "abc":
        first.begin(key, {"optimizer.lr": 1e-3, "model.clip": 0.02})
    again = judge(tmp_path, "pbt")
    again.forget_all_but({"a", "b"})
    assert again.report("a", 2, 1.0) == []
    assert [key for key, _ in again.report("b", 2, 2.0)] == ["a", "b"]
    third = judge(tmp_path, "pbt")  # it was written down
    assert third.report("a", 4, 1.0) == []
    assert [key for key, _ in third.report("b", 4, 2.0)] == ["a", "b"]


def judged(folder: Path, *overrides: str, **search: Any) -> Judge:
    """As the driver makes it, for the file as it is now."""
    sections = {"method": "random", "samples": 4, **SEARCHES["asha"], **search}
    sweep = load(folder, text(space=SPACE, search=sections), list(overrides))
    scheduler = make_scheduler(sweep.search, BUDGET, space=sweep.space)
    return Judge(scheduler, folder / "decisions.jsonl", basis=comparison_basis(sweep))


def rung(judge: Judge, keys: str, value: float) -> list[Any]:
    """The answers to these trials, which report at the first rung."""
    answers = []
    for key in keys:
        judge.begin(key, {"optimizer.lr": 1e-3, "model.clip": 0.02})
        answers += [answer for _, answer in judge.report(key, 2, value)]
    return answers


OTHERS: list[tuple[list[str], dict[str, Any]]] = [
    ([], {"metric": "loss/d"}),
    ([], {"metric": "score/swd", "mode": "max"}),
    (["network.width=7"], {}),
    (["data.batch_size=9"], {}),
    (["score.seed=5"], {}),
]


@pytest.mark.parametrize(("overrides", "search"), OTHERS)
def test_values_of_another_kind_stop_nobody(
    tmp_path: Path, overrides: list[str], search: dict[str, Any]
) -> None:
    rung(judged(tmp_path), "abcd", 0.05)
    sign = -1.0 if search.get("mode") == "max" else 1.0
    other = judged(tmp_path, *overrides, **search)
    assert isinstance(rung(other, "n", sign * 200.0)[0], Continue)
    again = judged(tmp_path, *overrides, **search)  # knows that one, and those alone
    assert [isinstance(answer, Stop) for answer in rung(again, "mo", sign * 300.0)] == [True, True]
    first = judged(tmp_path)
    assert isinstance(rung(first, "z", 0.06)[0], Stop)


@pytest.mark.parametrize("override", ["budget.g_steps=50", "score.every=3", "log.every=7"])
def test_what_no_value_depends_on_changes_no_decision(tmp_path: Path, override: str) -> None:
    rung(judged(tmp_path), "abcd", 0.05)
    assert isinstance(rung(judged(tmp_path, override), "n", 200.0)[0], Stop)


ASHA = {"method": "random", "samples": 4, **SEARCHES["asha"]}


def test_a_default_written_out_changes_no_decision(tmp_path: Path) -> None:
    sweep = load(tmp_path, text(space=SPACE, search=ASHA))
    config = resolve(sweep.trial, [])
    assert config is not None
    whole = {name: part for name, part in config.to_dict().items() if name != "seed"}
    spelt = load(tmp_path, text(space=SPACE, search=ASHA, trial=whole))
    assert sweep.trial != spelt.trial
    assert comparison_basis(sweep) == comparison_basis(spelt) != ""


@pytest.mark.parametrize("model", [{"name": "wgan"}, {}])
def test_a_data_set_of_the_space_is_part_of_what_values_have_in_common(
    tmp_path: Path, model: dict[str, str]
) -> None:
    """Also where the file without its space is no trial."""
    names = {} if model else {"model.name": {"grid": ["gan", "wgan"]}}
    found = set()
    for data in ("ring8", "grid25"):
        space = {"optimizer.lr": SPACE["optimizer.lr"], **names, "data.name": {"grid": [data]}}
        trial = {"model": model, "network": {"name": "mlp"}}
        found.add(comparison_basis(load(tmp_path, text(space=space, search=ASHA, trial=trial))))
    assert len(found) == 2


@pytest.mark.parametrize("model", [{"name": "wgan"}, {}])
def test_a_wider_space_changes_no_decision(tmp_path: Path, model: dict[str, str]) -> None:
    names = {} if model else {"model.name": {"grid": ["gan", "wgan"]}}
    trial = {"model": model, "network": {"name": "mlp"}, "data": {"name": "ring8"}}
    found = set()
    for rates in ([1e-4, 1e-1], [1e-5, 1.0]):
        space = {"optimizer.lr": {"loguniform": rates}, **names}
        found.add(comparison_basis(load(tmp_path, text(space=space, search=ASHA, trial=trial))))
    assert len(found) == 1


def test_an_end_of_an_interval_that_is_no_trial_is_no_example(tmp_path: Path) -> None:
    for search in (ASHA, {"scheduler": "asha"}):
        space = {"model.clip": {"uniform": [0.0, 0.1]}} if search is ASHA else None
        sweep = load(tmp_path, text(space=space, search=search, seeds=2))
        assert planned(sweep)
        assert comparison_basis(sweep) != ""


def test_a_journal_of_old_is_heard(tmp_path: Path) -> None:
    rung(judged(tmp_path), "abcd", 0.05)
    journal = tmp_path / "decisions.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    assert "basis" in lines[0]
    journal.write_text("".join(lines[1:]))
    assert isinstance(rung(judged(tmp_path), "n", 200.0)[0], Stop)
