from __future__ import annotations

from pathlib import Path

import pytest

from gansweep.commands.jobs import _noted
from gansweep.errors import ConfigError
from gansweep.launch.base import JobState
from gansweep.launch.record import JobRecord, all_jobs, find_jobs, jobs_folder

pytestmark = pytest.mark.usefixtures("work")


def record(id: str, *, sweep: str = "small", submitted: str = "2026-01-01T00:00:00") -> JobRecord:
    return JobRecord(
        id, "slurm", sweep, "/x/small.yaml", submitted, log=f"/x/{id}.log", settings={"nodes": 2}
    )


def test_records_are_read_back_in_order() -> None:
    assert all_jobs() == []
    late, early = record("9", submitted="2026-01-02T00:00:00"), record("10")
    late.save()
    early.save()
    assert all_jobs() == [early, late]
    assert find_jobs("10") == [early]
    assert find_jobs("small")[0] == late  # the latest of the sweep


def test_a_state_is_kept_and_nothing_else_lies_around() -> None:
    one = record("7")
    one.save()
    one.note(JobState("failed", "timeout", 3))
    (again,) = all_jobs()
    assert again.state == JobState("failed", "timeout", 3)
    assert str(again.state) == "failed, exit code 3 (timeout)"
    assert [path.name for path in jobs_folder().iterdir()] == ["slurm-7.json"]
    assert (jobs_folder() / "slurm-7.json").stat().st_mode & 0o077 == 0


def test_a_damaged_record_hides_no_other() -> None:
    record("1").save()
    (jobs_folder() / "slurm-2.json").write_text("{")
    (jobs_folder() / "slurm-3.json").write_text('{"id": "3"}')
    assert [each.id for each in all_jobs()] == ["1"]


def test_unknown_jobs() -> None:
    with pytest.raises(ConfigError, match=r"1: no such job \(submit one first\)"):
        find_jobs("1")
    record("12345").save()
    with pytest.raises(ConfigError, match="did you mean '12345'"):
        find_jobs("1234")


def test_an_id_names_a_file_in_the_folder_alone() -> None:
    record("../../x").save()
    assert [path.parent for path in Path(jobs_folder()).rglob("*.json")] == [jobs_folder()]


def test_the_jobs_of_a_sweep() -> None:
    for number, day in (("3", 3), ("1", 1), ("2", 2)):
        record(number, submitted=f"2026-01-0{day}T00:00:00").save()
    assert [each.id for each in find_jobs("small")] == ["3", "2", "1"]
    assert [each.id for each in find_jobs("2")] == ["2"]


def test_how_a_job_ended_is_not_overwritten_by_who_looked_before() -> None:
    """Two commands at a time: one cancels it, the other has read its record already."""
    record("7").save()
    (mine,), (anothers,) = all_jobs(), all_jobs()
    mine.note(JobState("cancelled"))
    assert _noted(anothers, JobState("forgotten", "Slurm knows it no more")).phase == "cancelled"
    assert find_jobs("7")[0].phase == "cancelled"
    assert _noted(anothers, JobState("done", "", 0)).phase == "done"  # accounts may come late
    assert find_jobs("7")[0].phase == "done"
