from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from gansweep.report.groups import Group
from gansweep.report.ranking import PointResult
from gansweep.report.table import format_mean, group_table, ranked_table
from gansweep.sweep.plan import Entry


def result(name: str, mean: float | None, error: float | None, *g_steps: int) -> PointResult:
    trials = tuple(
        Entry(f"{name}{i}", name, {}, i, 10, state="completed", g_steps=steps)
        for i, steps in enumerate(g_steps)
    )
    return PointResult(name, mean, error, trials)


def unfinished(name: str, mean: float, state: Any) -> PointResult:
    trial = Entry(name, name, {}, 0, 10, state=state, g_steps=4)
    return PointResult(name, mean, None, (trial,))


def printed(results: list[PointResult], **options: Any) -> list[list[str]]:
    console = Console(width=120, force_terminal=False)
    with console.capture() as capture:
        console.print(ranked_table(results, metric="score/swd", **options))
    return [line.split() for line in capture.get().splitlines()]


@pytest.mark.parametrize(
    ("mean", "error", "words"),
    [
        (0.123456, 0.0012, "0.1235 ± 0.001"),
        (1234567.0, 25000.0, "1.235e+06 ± 2e+04"),
        (0.5, None, "0.5"),
        (0.5, 0.0, "0.5 ± 0"),
        (None, None, "-"),
    ],
)
def test_format_mean(mean: float | None, error: float | None, words: str) -> None:
    assert format_mean(mean, error) == words


def test_rows() -> None:
    lines = printed([result("clip=0.1", 0.5, 0.02, 10, 10), result("clip=0.2", None, None, 3, 7)])
    assert lines == [
        ["#", "point", "score/swd", "g_steps", "seeds", "state"],
        ["1", "clip=0.1", "0.5", "±", "0.02", "10", "2", "completed"],
        ["2", "clip=0.2", "-", "3-7", "2", "completed"],
    ]


def test_limit_says_what_is_left_out() -> None:
    lines = printed([result(f"p{i}", 0.5, None, 1) for i in range(5)], limit=2)
    assert lines[-1] == ["...", "and", "3", "more"]
    assert len(lines) == 4
    assert len(printed([result("p", 0.5, None, 1)], limit=2)) == 2


def test_budgets_that_differ_are_told() -> None:
    """As after a run with a shorter budget or a longer one, of other points than before."""
    word = "completed after 30 to 120 g_steps, and compared all the same"
    apart = [result("a", 0.4, None, 120, 120), result("b", 0.5, None, 30, 30)]
    assert " ".join(printed(apart)[-1]) == word
    assert " ".join(printed(apart, limit=1)[-1]) == word
    assert " ".join(printed([result("a", 0.4, 0.1, 30, 120)])[-1]) == word  # seeds of one point
    grouped_too = group_table([Group("a b", tuple(apart), {}, {}, 0, 0)], keys=["k"])
    assert grouped_too.notes == [word]
    lost, stopped = result("c", None, None, 30), unfinished("d", 1, "stopped")
    for alike in (apart[:1], [apart[0], lost, stopped]):
        assert "completed after" not in str(printed(alike))


def test_that_others_are_further_than_those_before_them_is_told() -> None:
    """As while a longer budget trains."""
    word = "2: not trained to the end, and behind all that are"
    open_one = unfinished("b", 0.1, "interrupted")  # after 4 g_steps
    assert " ".join(printed([result("a", 0.4, None, 4), open_one])[-1]) == word
    further = printed([result("a", 0.4, None, 3), open_one])[-1]
    assert " ".join(further) == f"{word}, also after fewer g_steps"


def test_a_group_has_its_name_and_its_first_median_on_any_screen() -> None:
    """What gives way for them is told."""
    values = {"score/swd": 0.25, "loss/d": 0.5}
    groups = [Group("rmsprop 1", (result("a", 0.2, None, 9),), values, values, 0, 0)]
    table = group_table(groups, keys=["optimizer.name", "model.n_critic"])
    found = {}
    for width in (40, 66, 120):
        console = Console(file=io.StringIO(), width=width, force_terminal=True, record=True)
        console.print(table)
        found[width] = [line.strip() for line in console.export_text().splitlines()]
    assert found[40][2].split() == ["1", "rmsprop", "1", "0.25"]
    assert "too narrow for: best, loss/d: median," in found[40]
    assert found[66][2].split() == ["1", "rmsprop", "1", "0.25", "0.5"]
    assert found[120][1].split() == ["1", "rmsprop", "1", "0.25", "0.25", "0.5", "0.5", "1", "0"]


def test_a_point_has_its_name_and_its_value_on_any_screen() -> None:
    """What gives way for them is told, and no name stands on end."""
    point = result("clip=0.003 rmsprop lr=0.0003", 0.05897, 0.02, 10, 10)
    for trial in point.trials:
        trial.diagnosis = "clip_saturated, mode_collapse"  # type: ignore[misc]
    found = {}
    for width in (40, 66, 80):
        console = Console(file=io.StringIO(), width=width, force_terminal=True, record=True)
        console.print(ranked_table([point], metric="score/swd"))
        found[width] = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert found[40][1:3] == ["1 clip=0.003 rmsprop 0.05897 ± 0.02", "lr=0.0003"]
    assert " ".join(found[40][3:]) == "too narrow for: g_steps, seeds, state, diagnosis"
    assert found[66][1] == f"1 {point.name} 0.05897 ± 0.02 completed"
    assert found[66][-1] == "too narrow for: g_steps, seeds, diagnosis"
    assert found[80][1].endswith("completed clip_saturated +1")


def test_names_are_no_markup() -> None:
    assert printed([result("act=[red] path=[/x]", 0.5, None, 1)])[1][1:3] == [
        "act=[red]", "path=[/x]",
    ]  # fmt: skip


def test_what_is_wrong_has_a_column_where_anything_is() -> None:
    bad, good = result("bad", 0.5, None, 5, 5), result("good", 0.4, None, 5)
    bad.trials[0].diagnosis = "mode_collapse, no_progress"  # type: ignore[misc]
    bad.trials[1].diagnosis = "no_progress"  # type: ignore[misc]
    assert bad.diagnoses == ("mode_collapse", "no_progress")
    lines = printed([good, bad])
    assert lines[0][-2:] == ["state", "diagnosis"]
    assert lines[1][-1] == "completed"
    assert lines[2][-3:] == ["completed", "mode_collapse,", "no_progress"]
    assert printed([good, bad], limit=1)[0][-1] == "state"


def test_it_says_which_points_have_not_trained_to_the_end() -> None:
    done, stopped = result("a", 0.5, None, 10), unfinished("b", 0.1, "stopped")
    running = unfinished("c", 0.2, "running")
    words = ["not", "trained", "to", "the", "end,", "and", "behind", "all", "that", "are"]
    assert printed([done])[-1][-1] == "completed"
    assert printed([done, stopped])[-1] == ["2:", *words]
    lines = printed([done, stopped, running], limit=1)
    assert lines[-2:] == [["...", "and", "2", "more"], ["2", "to", "3:", *words]]
    assert printed([stopped, running])[-1][-1] == "running"  # they are all alike
