from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gansweep.errors import ConfigError
from gansweep.sweep import plan as module
from gansweep.sweep.changes import Changes, changes_file
from gansweep.sweep.plan import Entry, Plan, remove_plan


def entries(count: int) -> dict[str, Entry]:
    """Each about 250 bytes long in the file."""
    return {f"k{i}": Entry(f"k{i}", f"trial {i}", {"a": i}, 0, 10) for i in range(count)}


def large(folder: Path, count: int = 1000) -> Plan:
    plan = Plan(folder / "plan.json", "s")
    plan.entries = entries(count)
    plan.save()
    return plan


def again(plan: Plan) -> Plan:
    return Plan.load(plan.path, plan.sweep)


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each writing of the whole."""
    made: list[int] = []
    real = Plan._save_whole

    def counted(self: Plan) -> None:
        real(self)
        made.append(self.path.stat().st_size)

    monkeypatch.setattr(Plan, "_save_whole", counted)
    return made


def test_a_change_of_a_large_plan_costs_its_own_line(tmp_path: Path, whole: list[int]) -> None:
    plan = large(tmp_path)
    before = plan.path.read_bytes()
    for i in range(50):
        plan.entries[f"k{i}"].state = "running"
        plan.save(plan.entries[f"k{i}"])
        assert again(plan).entries == plan.entries  # at once, for whoever looks
    assert len(whole) == 1
    assert plan.path.read_bytes() == before
    lines = changes_file(plan.path).read_text().splitlines()
    assert len(lines) == 51  # with the head
    assert [json.loads(line)["key"] for line in lines[1:]] == [f"k{i}" for i in range(50)]
    assert list(again(plan).entries) == list(plan.entries)


@pytest.mark.parametrize("count", [500, 1000, 2000, 4000])
def test_what_is_written_grows_with_the_trials_and_not_with_their_square(
    tmp_path: Path, whole: list[int], count: int
) -> None:
    """Each trial begins and ends, and comes new to the plan, as in a large search."""
    plan = Plan(tmp_path / "plan.json", "s")
    plan.save()
    appended = 0
    for key, entry in entries(count).items():
        plan.entries[key] = entry
        for state in ("running", "completed"):
            entry.state = state  # type: ignore[assignment]
            plan.save(entry)
            appended += len(json.dumps(vars(entry))) + 1
    small = [size for size in whole if size <= module.SMALL_BYTES]
    assert len(small) < 2 * 64 * 1024 / 200 + 2
    assert 0 < sum(whole) - sum(small) < 3 * appended
    assert again(plan).entries == plan.entries


def test_a_small_plan_is_one_file(tmp_path: Path) -> None:
    plan = large(tmp_path, 20)
    plan.entries["k3"].state = "running"
    plan.save(plan.entries["k3"])
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert again(plan).entries["k3"].state == "running"


def test_changes_are_gone_once_all_is_written(tmp_path: Path) -> None:
    plan = large(tmp_path)
    plan.save(plan.entries["k1"])
    assert changes_file(plan.path).exists()
    plan.save()
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert again(plan).entries == plan.entries


def test_the_first_save_of_a_command_writes_all(tmp_path: Path) -> None:
    """What an earlier one appended, perhaps with a torn line, is followed by nothing."""
    plan = large(tmp_path)
    plan.entries["k1"].state = "running"
    plan.save(plan.entries["k1"])
    with changes_file(plan.path).open("a") as file:
        file.write('{"key": "k2", "na')
    other = again(plan)
    assert other.entries["k1"].state == "running"
    assert other.entries["k2"] == plan.entries["k2"]
    other.save(other.entries["k2"])
    assert not changes_file(plan.path).exists()
    assert again(plan).entries == plan.entries


def test_changes_of_another_writing_say_nothing(tmp_path: Path) -> None:
    """The writer was killed between the plan's new name and the old changes' end."""
    plan = large(tmp_path)
    plan.entries["k1"].state = "running"
    plan.save(plan.entries["k1"])
    old = changes_file(plan.path).read_bytes()
    plan.entries["k1"].state = "completed"
    plan.save()
    changes_file(plan.path).write_bytes(old)
    assert again(plan).entries["k1"].state == "completed"
    with changes_file(plan.path).open("a") as file:
        file.write("what nobody reads\n")
    assert again(plan).entries["k1"].state == "completed"


@pytest.mark.parametrize("another_follows", [False, True])
def test_a_reader_who_comes_while_all_is_written_never_sees_what_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, another_follows: bool
) -> None:
    """Where the whole is written between a reader's looks at the two files."""
    plan = large(tmp_path)
    plan.entries["k5"].state = "stopped"
    plan.save(plan.entries["k5"])
    looks = 0
    real = Path.read_text

    def meanwhile(self: Path, *arguments: Any, **named: Any) -> str:
        nonlocal looks
        found = real(self, *arguments, **named)
        looks += 1
        if looks == 1:
            plan.entries["k6"].state = "stopped"
            plan.save()
            if another_follows:
                plan.save(plan.entries["k7"])
        return found

    monkeypatch.setattr(Path, "read_text", meanwhile)
    seen = again(plan).entries
    assert looks == 2
    assert (seen["k5"].state, seen["k6"].state) == ("stopped", "stopped")


def test_changes_never_grow_longer_than_the_plan(tmp_path: Path) -> None:
    plan = large(tmp_path, 400)
    folded = 0
    for turn in range(60):
        there = changes_file(plan.path).exists()
        plan.save(*[plan.entries[f"k{20 * turn % 400 + place}"] for place in range(20)])
        if changes_file(plan.path).exists():
            assert changes_file(plan.path).stat().st_size <= plan.path.stat().st_size + 100
        else:
            folded += there
    assert folded == 2


@pytest.mark.parametrize("line", ["{", "3", '{"key": "k1"}', '{"key": "k1", "colour": "red"}'])
def test_a_damaged_change_is_named(tmp_path: Path, line: str) -> None:
    plan = large(tmp_path)
    plan.save(plan.entries["k1"])
    with changes_file(plan.path).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ConfigError, match=r"plan\.json: is no plan of a sweep.*move it away"):
        again(plan)


@pytest.mark.parametrize("head", ["{", "3", "[1]", '"a"'])
def test_a_damaged_head_of_changes_is_named(tmp_path: Path, head: str) -> None:
    plan = large(tmp_path)
    changes_file(plan.path).write_text(head + "\n")
    with pytest.raises(ConfigError, match=r"plan\.json: is no plan of a sweep.*move it away"):
        again(plan)


def test_where_a_change_is_refused_the_next_save_writes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = large(tmp_path)

    def full(self: Changes, lines: bytes, *, follows: str) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Changes, "append", full)
        plan.entries["k1"].state = "running"
        with pytest.raises(OSError, match="full"):
            plan.save(plan.entries["k1"])
    plan.entries["k2"].state = "running"
    plan.save(plan.entries["k2"])
    assert again(plan).entries == plan.entries


def test_where_the_whole_is_refused_the_next_save_writes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = large(tmp_path)
    plan.save(plan.entries["k0"])

    def full(self: Path, target: Path) -> Path:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        plan.entries["k1"].state = "running"
        with pytest.raises(OSError, match="full"):
            plan.save()
    plan.save(plan.entries["k2"])
    assert again(plan).entries == plan.entries


def test_a_save_returns_when_the_disk_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no file takes its name before."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flushed(descriptor: int) -> None:
        fsync(descriptor)
        done.append(f"{os.fstat(descriptor).st_size} bytes")

    def named(self: Path, target: Path) -> Path:
        done.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", named)
    plan = large(tmp_path)
    changes = changes_file(plan.path)
    assert done == [f"{plan.path.stat().st_size} bytes", "plan.json"]
    done.clear()
    plan.save(plan.entries["k0"])
    assert done == [changes.name, f"{changes.stat().st_size} bytes"]


def test_a_disk_that_takes_a_part_is_given_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = large(tmp_path)
    plan.save(plan.entries["k0"])
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    plan.entries["k1"].state = plan.entries["k2"].state = "running"
    plan.save(plan.entries["k1"], plan.entries["k2"])
    assert again(plan).entries == plan.entries


def test_a_plan_is_removed_with_its_changes(tmp_path: Path) -> None:
    plan = large(tmp_path)
    plan.save(plan.entries["k0"])
    assert len(list(tmp_path.iterdir())) == 2
    remove_plan(plan.path)
    assert list(tmp_path.iterdir()) == []
    remove_plan(plan.path)  # who comes second


def test_a_value_that_is_no_json_leaves_the_plan_as_it_was(tmp_path: Path) -> None:
    plan = large(tmp_path)
    plan.entries["k1"].metrics["x"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        plan.save(plan.entries["k1"])
    assert again(plan).entries["k1"].metrics == {}
