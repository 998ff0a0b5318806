"""The budget of a whole sweep, as a file or an override gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sweep_files import TEXT, load, mistakes, text

from gansweep.sweep.limits import GRAMMAR, MOST_SECONDS, parse_duration


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2h", 7200), ("90m", 5400), ("1d 12h", 129600), ("1d12h", 129600), ("45s", 45),
        ("1h30m", 5400), ("1h 30m 5s", 5405), ("0.5h", 1800), (" 2h ", 7200), ("1d 1s", 86401),
        (90, 90), (2.5, 2.5), ("90", 90), ("2.5", 2.5),
    ],
)  # fmt: skip
def test_durations(value: Any, seconds: float) -> None:
    assert parse_duration(value) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "value",
    ["", " ", "2 hours", "2H", "h", "30m 1h", "1h 1h", "-1h", "1,5h", "1:30", "0h", "2w", 0, -5,
     float("nan"), float("inf"), 2 * MOST_SECONDS, 10**400, True],
)  # fmt: skip
def test_no_durations(value: Any) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(value)


def test_without_a_budget_there_is_no_limit(tmp_path: Path) -> None:
    limits = load(tmp_path, TEXT).limits
    assert (limits.seconds, limits.gpu_hours, limits.given) == (None, None, [])


def test_file_and_override(tmp_path: Path) -> None:
    content = text(time_budget="2h", gpu_hours=3, resources={"gpu": 0.5})
    sweep = load(tmp_path, content)
    assert (sweep.limits.seconds, sweep.limits.gpu_hours) == (7200, 3.0)
    assert sweep.limits.given == ["time_budget", "gpu_hours"]
    sweep = load(tmp_path, content, ["time_budget=1d 12h", "gpu_hours=null"])
    assert (sweep.limits.seconds, sweep.limits.gpu_hours) == (129600, None)
    assert "time_budget: 1d 12h" in sweep.to_yaml()
    assert load(tmp_path, content, ["time_budget=90"]).limits.seconds == 90


def test_shares_divide_what_adds_up(tmp_path: Path) -> None:
    content = text(time_budget="2h", gpu_hours=3, resources={"gpu": 0.5})
    limits = load(tmp_path, content).limits
    assert (limits.shared(4).seconds, limits.shared(4).gpu_hours) == (7200, 0.75)
    assert limits.shared(1) == limits
    assert load(tmp_path, TEXT).limits.shared(3).gpu_hours is None


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"time_budget": "2 hours"}, f"time_budget: '2 hours' is no duration ({GRAMMAR})"),
        ({"time_budget": 0}, "time_budget: 0 is no duration"),
        ({"time_budget": [1]}, "time_budget: "),
        ({"time_budget": True}, "time_budget: "),
        ({"gpu_hours": 0, "resources": {"gpu": 1}}, "gpu_hours: is 0.0, must be greater than 0"),
        ({"gpu_hours": "many", "resources": {"gpu": 1}}, "gpu_hours: "),
        ({"gpu_hours": 2}, "gpu_hours: is set, and resources.gpu is 0"),
        ({"timebudget": "2h"}, "timebudget: unknown key"),
    ],
)
def test_mistakes(sections: dict[str, Any], words: str, tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, text(**sections))
    assert found.startswith(words), found
