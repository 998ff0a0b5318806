"""`gansweep submit`, `jobs`, `logs`, `cancel` by the command line, over stand-ins for Slurm."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from sweep_files import TEXT, text

from gansweep.commands import jobs
from gansweep.launch.record import JobRecord

from .conftest import Clock
from .jobs import executable

Gansweep = Callable[..., tuple[int, str, str]]


@pytest.fixture
def site(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Path:
    """A folder of stand-ins for Slurm's commands; what it holds as `state` is the job's."""
    folder = tmp_path / "bin"
    executable(
        folder / "sbatch", f"#!/bin/sh\ncat >{folder}/script; echo 42; echo PENDING >{folder}/state"
    )
    executable(
        folder / "scontrol",
        f"#!/bin/sh\necho JobId=42 JobState=$(cat {folder}/state) Reason=None ExitCode=3:0",
    )
    executable(folder / "scancel", f"#!/bin/sh\necho CANCELLED >{folder}/state")
    executable(
        folder / "sacct", "#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2; exit 1"
    )
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    (work / "file.yaml").write_text(TEXT)
    return folder


def test_a_dry_run_prints_the_job_and_writes_nothing(gansweep: Gansweep, work: Path) -> None:
    (work / "file.yaml").write_text(TEXT)
    code, out, err = gansweep("submit", "file.yaml", "--to", "slurm", "--dry-run")
    assert (code, err) == (0, "")
    assert out.startswith("#!/usr/bin/env bash\n#SBATCH --job-name=gansweep-small\n")
    assert f"--tracking-uri sqlite:///{work}/mlflow.db" in out
    assert os.listdir(work) == ["file.yaml"]
    assert not (work.parent / "state").exists()


def test_the_folder_of_the_command_is_over_the_profiles(
    gansweep: Gansweep, work: Path, profile: Callable[..., str]
) -> None:
    (work / "file.yaml").write_text(TEXT)
    profile("mine", "to: slurm\nstorage: /lab/shared")
    words = ("submit", "file.yaml", "--profile", "mine", "--dry-run")
    for given, folder in (
        ((), "/lab/shared"), (("--dir", "/other"), "/other"), (("--dir", "out"), f"{work}/out"),
        (("--dir", "s3://b/x"), "s3://b/x"),
    ):  # fmt: skip
        code, out, _ = gansweep(*words, *given)
        assert code == 0
        assert f" --dir {folder} " in out
    profile("mine", "to: slurm")
    assert f" --dir {work}/runs " in gansweep(*words)[1]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "http://localhost:5000"])
def test_a_server_by_a_name_that_means_another_machine_there(
    gansweep: Gansweep, site: Path, uri: str
) -> None:
    code, out, err = gansweep("submit", "file.yaml", "--to", "slurm", "--tracking-uri", uri)
    assert (code, err) == (0, "")
    first, second, *_ = out.splitlines()
    assert first.startswith(f"note: the job looks for {uri} on the node that it runs on")
    assert second == "submitted 42 to slurm: 2 trials"


def test_a_job_from_its_submission_to_its_end(gansweep: Gansweep, site: Path, work: Path) -> None:
    code, out, err = gansweep(
        "submit", "file.yaml", "seeds=2", "--to", "slurm", "--retry-failed",
        "--tracking-uri", "http://h:1",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "submitted 42 to slurm: 4 trials",
        "follow    gansweep logs 42 --follow",
        "cancel    gansweep cancel 42",
    ]
    assert "seeds=2 --dir" in (site / "script").read_text()
    assert "--tracking-uri http://h:1 --retry-failed)" in (site / "script").read_text()
    code, out, _ = gansweep("jobs")
    assert out.split() == ["id", "target", "sweep", "submitted", "state", "42", "slurm", "small",
                           out.split()[-2], "waiting"]  # fmt: skip
    (work / "runs" / "small" / "slurm-42.log").write_text("one\ntwo\n")
    assert gansweep("logs", "small") == (0, "one\ntwo\n", "")
    (site / "state").write_text("FAILED")
    code, out, err = gansweep("logs", "42", "--follow")
    assert (code, out, err) == (1, "one\ntwo\n", "42: failed, exit code 3\n")
    (site / "scontrol").unlink()  # the cluster has forgotten it, the record has not
    code, out, _ = gansweep("jobs", "--json")
    (found,) = json.loads(out)
    assert (found["id"], found["phase"], found["code"]) == ("42", "failed", 3)


FORGETFUL = "#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"


@pytest.mark.timeout(60)
def test_a_job_that_slurm_has_forgotten_is_not_waited_for(
    gansweep: Gansweep, site: Path, work: Path
) -> None:
    gansweep("submit", "file.yaml", "--to", "slurm")
    (site / "state").write_text("RUNNING")
    gansweep("jobs")
    executable(site / "scontrol", FORGETFUL)
    (work / "runs" / "small" / "slurm-42.log").write_text("the table\n")
    told = (
        "42: forgotten (Slurm knows it no more, and keeps no accounts: its output, or "
        "`gansweep show small`, says how far it came)\n"
    )
    assert gansweep("logs", "42", "--follow") == (1, "the table\n", told)
    assert gansweep("logs", "42") == (0, "the table\n", "")
    assert gansweep("cancel", "42") == (0, told, "")  # there is nothing to end
    (found,) = json.loads(gansweep("jobs", "--json")[1])
    assert found["phase"] == "forgotten"
    executable(site / "sacct", "#!/bin/sh\necho 'COMPLETED|0:0'")  # accounts come late
    assert gansweep("logs", "42", "--follow") == (0, "the table\n", "42: done, exit code 0\n")


@pytest.mark.timeout(60)
def test_a_controller_that_is_away_for_a_moment(gansweep: Gansweep, site: Path) -> None:
    gansweep("submit", "file.yaml", "--to", "slurm")
    away = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    executable(
        site / "scontrol",
        f"""#!/bin/sh
n=$(cat {site}/n 2>/dev/null || echo 0); echo $((n + 1)) >{site}/n
case $n in
0) echo JobId=42 JobState=RUNNING Reason=None ExitCode=0:0 ;;
[1-4]) echo '{away}' >&2; exit 1 ;;
*) echo JobId=42 JobState=COMPLETED Reason=None ExitCode=0:0 ;;
esac""",
    )
    assert gansweep("logs", "42", "--follow") == (
        0,
        "",
        f"42: unknown (scontrol: {away} (is slurmctld up? `scontrol ping`); asked again for up to "
        "600 s)\n"
        "42: done, exit code 0\n",
    )


def test_the_setup_is_in_the_script_and_in_no_record(
    gansweep: Gansweep, site: Path, tmp_path: Path, profile: Callable[..., str]
) -> None:
    profile("mine", "to: slurm\ncpus: 3\nsetup: [export TOKEN=secret]\nstorage: /tmp/elsewhere")
    assert gansweep("submit", "file.yaml", "--profile", "mine", "--dry-run")[1].count("secret") == 1
    profile("mine", f"to: slurm\ncpus: 3\nsetup: [export TOKEN=secret]\nstorage: {tmp_path}/shared")
    assert gansweep("submit", "file.yaml", "--profile", "mine")[0] == 0
    assert "secret" in (site / "script").read_text()
    (record,) = (tmp_path / "state" / "jobs").iterdir()
    assert "secret" not in record.read_text()
    assert json.loads(record.read_text())["log"] == f"{tmp_path}/shared/small/slurm-42.log"


def test_cancel(gansweep: Gansweep, site: Path) -> None:
    gansweep("submit", "file.yaml", "--to", "slurm")
    assert gansweep("cancel", "42") == (0, "42: cancelled\n", "")
    assert gansweep("cancel", "42") == (0, "42: cancelled\n", "")  # it has ended


def test_a_job_that_does_not_end_by_itself_is_ended(
    gansweep: Gansweep, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First its trials may write checkpoints. scancel fails where not all of an array hears it."""
    monkeypatch.setattr(jobs, "CANCEL_SECONDS", 0.1)
    gansweep("submit", "file.yaml", "--to", "slurm")
    (site / "state").write_text("RUNNING")
    ends = f'[ "$*" != 42 ] || echo CANCELLED >{site}/state'
    deaf = 'case "$*" in *USR2*) exit 229;; esac'
    executable(site / "scancel", f"#!/bin/sh\necho $@ >>{site}/words\n{deaf}\n{ends}")
    assert gansweep("cancel", "42") == (0, "42: cancelled\n", "")
    words = ["--state=PENDING 42", "--state=RUNNING --batch --signal=USR2 42", "42"]
    assert (site / "words").read_text().splitlines() == words


def test_of_a_sweeps_jobs_the_one_is_cancelled_that_has_not_ended(
    gansweep: Gansweep, site: Path
) -> None:
    gansweep("submit", "file.yaml", "--to", "slurm")
    executable(site / "sbatch", "#!/bin/sh\ncat >/dev/null; echo 43")
    gansweep("submit", "file.yaml", "--to", "slurm")
    answer = f"[ $4 = 43 ] && state=COMPLETED || state=$(cat {site}/state)"
    told = "echo JobId=$4 JobState=$state Reason=None ExitCode=0:0"
    executable(site / "scontrol", f"#!/bin/sh\n{answer}\n{told}")
    assert gansweep("cancel", "small") == (0, "42: cancelled\n", "")
    assert gansweep("cancel", "small") == (0, "43: done, exit code 0\n", "")  # all have ended


def test_cancel_of_what_slurm_forgets_at_once(gansweep: Gansweep, site: Path) -> None:
    gansweep("submit", "file.yaml", "--to", "slurm")
    executable(site / "scancel", f"#!/bin/sh\ncp {site}/forgetful {site}/scontrol")
    executable(site / "forgetful", FORGETFUL)
    assert gansweep("cancel", "42") == (0, "42: cancelled\n", "")


def test_cancel_where_nothing_can_be_written(
    gansweep: Gansweep, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full home, say: the job is to end all the same."""
    gansweep("submit", "file.yaml", "--to", "slurm")
    (site / "state").write_text("RUNNING")

    def full(record: JobRecord) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(JobRecord, "save", full)
    assert gansweep("cancel", "42") == (0, "42: cancelled\n", "")


def test_a_cluster_that_is_silent_is_asked_once_for_all_its_jobs(
    gansweep: Gansweep, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PATIENCE_SECONDS", 0.0)
    for number in (42, 43, 44):
        executable(site / "sbatch", f"#!/bin/sh\ncat >/dev/null; echo {number}")
        gansweep("submit", "file.yaml", "--to", "slurm")
    asked = f"#!/bin/sh\necho asked >>{site}/asked; echo 'timed out' >&2; exit 1"
    executable(site / "scontrol", asked)
    found = json.loads(gansweep("jobs", "--json")[1])
    assert [job["phase"] for job in found] == ["unknown"] * 3
    assert (site / "asked").read_text() == "asked\n"
    monkeypatch.setattr(jobs, "PATIENCE_SECONDS", 60.0)  # it says so at once: that costs nothing
    gansweep("jobs")
    assert (site / "asked").read_text() == "asked\n" * 4


def test_cancel_of_what_does_not_end(
    gansweep: Gansweep, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "CANCEL_SECONDS", 0.1)
    gansweep("submit", "file.yaml", "--to", "slurm")
    executable(site / "scancel", "#!/bin/sh\n:")
    assert gansweep("cancel", "42") == (1, "42: waiting\n", "")


def test_an_array(gansweep: Gansweep, site: Path, profile: Callable[..., str]) -> None:
    profile("mine", "to: slurm\narray: 5\ntracking_uri: http://h:1")
    assert (
        "#SBATCH --array=1-5\n"
        in gansweep("submit", "file.yaml", "--profile", "mine", "--dry-run")[1]
    )
    assert gansweep("submit", "file.yaml", "--profile", "mine", "--array", "2")[0] == 0
    assert "#SBATCH --array=1-2\n" in (site / "script").read_text()
    assert gansweep("logs", "42") == (0, "", "42: waiting (1 waiting, 1 over and forgotten)\n")
    assert gansweep("cancel", "42")[:2] == (
        0,
        "42: cancelled (1 cancelled, 1 over and forgotten)\n",
    )


def test_no_jobs(gansweep: Gansweep) -> None:
    assert gansweep("jobs") == (0, "no jobs: gansweep submit FILE --to ...\n", "")
    told = "gansweep: 1 mistake, nothing was done:\n  7: no such job (submit one first)\n"
    assert gansweep("logs", "7") == gansweep("cancel", "7") == (2, "", told)


@pytest.mark.parametrize("words", [["logs", "42", "--follow"], ["cancel", "42"]])
def test_what_cannot_be_done_with_a_job_leaves_it_as_it_is(
    gansweep: Gansweep, site: Path, words: list[str]
) -> None:
    gansweep("submit", "file.yaml", "--to", "slurm")
    for name in ("scontrol", "scancel"):
        executable(site / name, "#!/bin/sh\necho 'error: Access/permission denied' >&2; exit 1")
    code, _, err = gansweep(*words)
    assert code == 2
    assert err.startswith("gansweep: 1 mistake, the job was left as it is:\n  sc")
    assert "(ask those who run the cluster for access)" in err


REFUSED = [
    (["--to", "slurm"], {"search": {"metric": "score/sdw"}}, "search.metric"),
    (["--to", "slurm"], {"serach": {}}, "serach: unknown key"),
    (["--to", "nowhere"], {}, "--to: unknown target 'nowhere'"),
    (["--to", "slurm", "--profile", "absent"], {}, "--profile: no profile 'absent'"),
    ([], {}, "--to: is required"),
    (["--to", "slurm", "--tracking-uri", "ftp://x"], {}, "no tracking URI"),
    (["--to", "slurm", "--tracking-uri", "http://me:pw@h:1"], {}, "has a password or a key"),
    (["--to", "slurm", "--tracking-uri", "https://pw:@h:1"], {}, "has a password or a key"),
    (["--to", "slurm", "--tracking-uri", "https://pw@h:1"], {}, "has a password or a key"),
    (["--to", "slurm", "--tracking-uri", "postgresql://u@h/d?password=pw"], {}, "or a key"),
    (["--to", "slurm", "resources.cpu=9"], {}, "a trial takes 9"),
    (["--to", "ray", "--array", "2"], {}, "--array: is nothing for --to ray"),
    (
        ["--to", "slurm", "--array", "2", "--tracking-uri", "http://h:1"],
        {"search": {"method": "tpe", "samples": 2}},
        "search.method: tpe learns from all",
    ),
    (
        ["--to", "slurm", "--array", "2", "--tracking-uri", "http://h:1", "--dir", "s3://b/x"],
        {},
        "storage: is a URL, and the tasks of an array tell each other by files of one folder "
        "(a folder, or leave out array)",
    ),
    (["--to", "slurm", "--dir", "s4://b/x"], {}, "s4://b/x: s4:// is not known (s3://BUCKET/"),
]


@pytest.mark.parametrize(("words", "sections", "found"), REFUSED)
def test_nothing_is_sent_for_a_mistake(
    gansweep: Gansweep,
    site: Path,
    work: Path,
    words: list[str],
    sections: dict[str, object],
    found: str,
) -> None:
    (work / "file.yaml").write_text(text(**sections))
    for more in ([], ["--dry-run"]):
        code, out, err = gansweep("submit", "file.yaml", *words, *more)
        assert (code, out) == (2, "")
        assert found in err
        assert "pw" not in err
    assert not (site / "script").exists()
    assert not (work / "runs").exists()


def test_mistakes_of_file_and_profile_are_told_together(
    gansweep: Gansweep, work: Path, profile: Callable[..., str]
) -> None:
    (work / "file.yaml").write_text(text(resources={"cpu": 4}))
    profile("mine", "to: slurm\nwalltime: 4:00:00\nstorage: here\nnodes: 2")
    _, _, err = gansweep("submit", "file.yaml", "--profile", "mine")
    assert err.startswith("gansweep: 4 mistakes, nothing was started:")
    for key in ("storage", "walltime", "tracking uri", "resources.cpu"):
        assert f"  {key}: " in err
