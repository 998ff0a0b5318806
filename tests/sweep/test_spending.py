"""What a sweep has spent, over all of its commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gansweep.errors import ConfigError
from gansweep.sweep.files import SPENT_FILE
from gansweep.sweep.limits import Limits
from gansweep.sweep.spending import SAVE_SECONDS, Spending

from .conftest import Clock


def test_time_counts_between_begin_and_end_of_every_command(tmp_path: Path, clock: Clock) -> None:
    path, limits = tmp_path / SPENT_FILE, Limits(time_budget="1m")
    first = Spending(path, limits)
    clock.now += 500  # nobody trains yet
    assert first.spent == ""
    first.begin()
    clock.now += 40
    assert first.spent == ""
    first.end()
    assert first.seconds == pytest.approx(40, abs=1e-9)
    clock.now += 5000  # the pause between two commands
    assert first.spent == ""
    second = Spending(path, limits)
    second.begin()
    clock.now += 19.9
    assert second.spent == ""
    clock.now += 0.1
    assert second.spent == "time_budget"
    second.end()
    third = Spending(path, limits)
    assert (third.spent, third.seconds) == ("time_budget", pytest.approx(60, abs=1e-9))
    assert Spending(path, Limits(time_budget="2m")).spent == ""
    assert Spending(path, Limits()).spent == ""


def test_gpu_hours_are_shares_times_time_over_the_workers(tmp_path: Path, clock: Clock) -> None:
    one = Spending(tmp_path / SPENT_FILE, Limits(gpu_hours=0.5))
    one.begin()
    clock.now += 3600  # no worker yet
    one.occupy("p", 0.25)
    clock.now += 1800
    one.occupy("p", 0.25)  # it had it already
    one.occupy("q", 0.5)
    clock.now += 720
    assert one.spent == ""
    one.release("p")
    one.release("unheard of")
    clock.now += 1620
    assert one.gpu_hours == pytest.approx(0.25 * 0.5 + 0.75 * 0.2, rel=1e-9)
    assert one.spent == "gpu_hours"
    assert one.gpu_hours == pytest.approx(0.5, rel=1e-9)
    one.end()
    again = Spending(tmp_path / SPENT_FILE, Limits(gpu_hours=0.5))
    assert again.spent == "gpu_hours"
    assert again.seconds == pytest.approx(3600 + 1800 + 720 + 1620, rel=1e-9)


def test_a_command_that_is_killed_has_spent_nearly_all_on_record(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / SPENT_FILE
    one = Spending(path, Limits())
    one.begin()
    for _ in range(55):
        clock.now += 1
        assert one.spent == ""  # asked all the time
    told = Spending(path, Limits()).seconds
    assert 55 - SAVE_SECONDS <= told <= 55
    assert [each.name for each in tmp_path.iterdir()] == [SPENT_FILE]


def test_a_full_disk_stops_nothing(tmp_path: Path, clock: Clock) -> None:
    one = Spending(tmp_path / "missing" / SPENT_FILE, Limits())
    one.begin()
    clock.now += 100
    assert one.spent == ""
    (tmp_path / "missing").mkdir()
    one.end()
    assert Spending(tmp_path / "missing" / SPENT_FILE, Limits()).seconds == 100


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"format": 1}', '{"format": 2, "seconds": 1, "gpu_hours": 0}',
     json.dumps({"format": 1, "seconds": -1, "gpu_hours": 0}),
     json.dumps({"format": 1, "seconds": "x", "gpu_hours": 0}),
     '{"format": 1, "seconds": NaN, "gpu_hours": 0}'],
)  # fmt: skip
def test_a_damaged_file_is_a_mistake(content: str, tmp_path: Path) -> None:
    path = tmp_path / SPENT_FILE
    path.write_text(content)
    with pytest.raises(ConfigError, match="does not tell what the sweep spent"):
        Spending(path, Limits())
