"""Slurm's jobs as text, and its commands as far as stand-ins of them tell."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweep_files import text

from gansweep.errors import AwayError, ConfigError
from gansweep.launch import slurm
from gansweep.launch.base import JobState, Submitted
from gansweep.launch.slurm import Slurm

from .jobs import executable, job


def launcher(**settings: Any) -> Slurm:
    return Slurm(Slurm.Settings(**settings))


def problems(
    folder: Path, content: str = text(), uri: str = "http://h:5000", **s: Any
) -> list[str]:
    return [str(problem) for problem in launcher(**s).problems(job(folder, content, uri=uri))]


# --- the script


def test_one_node_needs_no_ceremony(work: Path) -> None:
    one = job(work, overrides=["budget.g_steps=7"])
    script = launcher(cpus=4, walltime="4:00:00").render(one)
    head, _, body = script.partition("\n\n")
    assert head.splitlines() == [
        "#!/usr/bin/env bash",
        "#SBATCH --job-name=gansweep-small",
        f"#SBATCH --chdir={work}",
        f"#SBATCH --output={work}/runs/small/slurm-%j.log",
        "#SBATCH --open-mode=append",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --time=4:00:00",
        "#SBATCH --signal=B:USR1@120",
        "#SBATCH --requeue",
    ]
    run = body.splitlines()[0]
    words = shlex.split(run.removeprefix("RUN=(").removesuffix(")"))
    assert words[:5] == [sys.executable, "-P", "-m", "gansweep.cli", "run"]
    assert words[5].startswith(f"{work}/runs/small/submitted/")
    assert words[5].endswith("/sweep/file.yaml")
    assert words[6:] == [
        "budget.g_steps=7", "--dir", f"{work}/runs", "--tracking-uri", "http://127.0.0.1:5000",
    ]  # fmt: skip
    assert "srun" not in body
    assert not (work / "runs").exists()  # to render writes nothing


def test_storage_in_a_bucket_and_slurms_own_files_where_one_submits(work: Path) -> None:
    script = launcher().render(dataclasses.replace(job(work), root="s3://b/x"))
    assert "--dir s3://b/x " in script
    assert f"#SBATCH --output={work}/runs/small/slurm-%j.log" in script.splitlines()
    assert f" {work}/runs/small/submitted/" in script


def test_several_nodes_have_one_ray_of_their_own(work: Path) -> None:
    script = launcher(
        nodes=3, cpus=8, gpus_per_node=2, partition="gpu", account="lab", memory="64G",
        options=["--constraint=a100"], setup=["module load cuda", "export A='b c'"],
        python="/opt/py thon", requeue=False, stop_seconds=30,
    ).render(job(work))  # fmt: skip
    lines = script.splitlines()
    for line in (
        "--partition=gpu", "--account=lab", "--nodes=3", "--gpus-per-node=2", "--mem=64G",
        "--signal=B:USR1@30", "--no-requeue", "--no-kill", "--constraint=a100",
    ):  # fmt: skip
        assert f"#SBATCH {line}" in lines
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert lines[first : first + 2] == ["module load cuda", "export A='b c'"]
    assert {"PYTHON='/opt/py thon'", "NODES=3", "CPUS=8", "GPUS=2", "RESTARTS=0"} <= set(lines)
    assert lines[-1] == 'end "$LOST"'
    used = [line for line in lines if not line.lstrip().startswith("#")]
    assert not any("ray stop" in line or "symmetric-run" in line for line in used)
    assert "export RAY_AUTH_MODE=token" in lines


def test_tasks_of_an_array_that_have_no_trial_are_told(work: Path) -> None:
    one = dataclasses.replace(job(work), uri="http://h:5000")  # of two trials
    assert [launcher(array=count).notes(one) for count in (None, 2)] == [[], []]
    assert launcher(array=5).notes(one) == [
        "the array has 5 tasks for 2 trials: 3 of them will have nothing to do"
    ]


def test_an_array_has_a_share_in_each_task(work: Path) -> None:
    script = launcher(array=4, cpus=8).render(job(work))
    lines = script.splitlines()
    assert "#SBATCH --array=1-4" in lines
    assert f"#SBATCH --output={work}/runs/small/slurm-%A_%a.log" in lines
    assert "#SBATCH --nodes=1" in lines
    assert "#SBATCH --signal=B:USR1@120" in lines
    assert "#SBATCH --requeue" in lines
    assert lines[-2:] == ['drive --share "$SLURM_ARRAY_TASK_ID/$TASKS"', 'end ""']
    assert "srun" not in script


@pytest.mark.parametrize("settings", [{}, {"nodes": 2}, {"array": 2}])
def test_bash_reads_the_script(work: Path, settings: dict[str, int]) -> None:
    script = launcher(**settings).render(job(work))
    ended = subprocess.run(
        ["bash", "-n"], input=script, text=True, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_odd_paths_are_quoted(tmp_path: Path) -> None:
    folder = tmp_path / "it's 100% mine"
    folder.mkdir()
    script = launcher().render(job(folder))
    (line,) = [line for line in script.splitlines() if "--output" in line]
    assert shlex.split(line.removeprefix("#SBATCH ")) == [
        f"--output={str(folder).replace('%', '%%')}/runs/small/slurm-%j.log"
    ]


# --- what is wrong with it


def test_what_a_profile_cannot_mean(work: Path) -> None:
    assert problems(work) == []
    assert problems(work, cpus=8, walltime="2-04:00:00", options=["--qos=high"]) == []
    (found,) = problems(work, walltime="14400")  # what YAML makes of 4:00:00 without quotes
    assert found == (
        "walltime: is '14400', no time of Slurm's (hours:minutes:seconds in quotes, '4:00:00')"
    )
    for short, seconds in (("2:00", 120), ("0:03:00", 180), ("0-0:03", 180)):
        (found,) = problems(work, walltime=short)
        assert found == (
            f"walltime: is {short!r}, {seconds} s, of which the stop takes 120 s (more; '2:00' are "
            "minutes and seconds, '2:00:00' hours)"
        )
    for long in ("3:01", "2:00:00", "1-0:00", "0-0:04", "0-00:03:01", "0:00"):  # the last: no end
        assert problems(work, walltime=long) == []
    assert problems(work, walltime="2:00", stop_seconds=30) == []
    (found,) = problems(work, partition="gpu\n#SBATCH --account=other")
    assert found.startswith("partition: ")
    assert len(problems(work, options=["constraint=a100"])) == 1


def test_options_that_the_job_needs_as_it_sets_them(work: Path) -> None:
    """`gansweep logs` would read nothing, or one sweep would be several jobs."""
    fine = ["--qos=long", "-p gpu", "--nodelist=n1", "--time=1:00:00", "--exclusive", "-C a100"]
    assert problems(work, options=fine) == []
    taken = ["--output=/tmp/x", "-o /tmp/x", "-N2", "--nodes 2", "--array=1-3", "--wait", "-W"]
    found = problems(work, options=taken)
    assert [line.partition(" would")[0] for line in found] == [f"options: {o!r}" for o in taken]
    assert found[2] == "options: '-N2' would be set over the job's own (nodes: in the profile)"
    assert "gansweep logs" in found[0]


def test_a_database_file_is_for_one_node(work: Path) -> None:
    uri = "sqlite:////shared/mlflow.db"
    assert problems(work, uri=uri) == []
    (found,) = problems(work, uri=uri, nodes=2)
    assert found.startswith(f"tracking uri: {uri} is a file, which 2 nodes cannot write to at once")
    assert "gansweep ui" in found


def test_what_an_array_cannot_mean(work: Path) -> None:
    assert problems(work, array=3) == []
    (found,) = problems(work, array=3, nodes=2)
    assert found == ("nodes: is 2, and a task of an array has one node (leave out nodes, or array)")
    (found,) = problems(work, array=3, uri="sqlite:////shared/mlflow.db")
    assert "is a file, which 3 nodes cannot write to at once" in found
    content = text(search={"scheduler": "asha"})
    (found,) = problems(work, content, array=3)
    assert found.startswith("search.scheduler: asha compares all trials")
    assert problems(work, content) == []


def test_a_trial_fits_a_node(work: Path) -> None:
    content = text(resources={"cpu": 4, "gpu": 0.5})
    assert problems(work, content, cpus=4, gpus_per_node=1) == []
    assert problems(work, content) == [
        "resources.cpu: a trial takes 4, a node of the job has 1 (raise it in the profile)",
        "resources.gpu: a trial takes 0.5, a node of the job has 0 (raise it in the profile)",
    ]


def test_the_processes_of_a_trial_fit_the_job(work: Path) -> None:
    two = text(resources={"gpu": 2})
    assert problems(work, two, gpus_per_node=2, cpus=2) == []
    assert problems(work, two, gpus_per_node=1, cpus=1, nodes=2) == []
    assert problems(work, two, gpus_per_node=1, cpus=2) == [
        "resources.gpu: a trial takes 2 times 1, the job has 1 node with 1 (raise it in the "
        "profile)"
    ]


# --- Slurm's commands


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stand-ins, and nothing else, on PATH but for what they need."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    real = slurm.shutil.which
    monkeypatch.setattr(slurm.shutil, "which", lambda name: real(name, path=str(folder)))
    return folder


def test_the_files_travel_as_they_are_when_submitted(work: Path, commands: Path) -> None:
    executable(commands / "sbatch", '#!/bin/sh\necho "$@" >args; cat >script; echo "42;cluster"')
    one = job(work)
    submitted = launcher(setup=["#note"]).submit(one)
    assert submitted == Submitted("42@cluster", f"{work}/runs/small/slurm-42.log")
    assert (work / "args").read_text().split() == ["--parsable"]
    assert (work / "script").read_text() == launcher(setup=["#note"]).render(one)
    (copy,) = (work / "runs" / "small" / "submitted").glob("*/sweep/file.yaml")
    assert str(copy) in (work / "script").read_text()
    assert copy.read_text() == (work / "file.yaml").read_text()


def test_a_storage_that_cannot_be_written(work: Path, commands: Path, tmp_path: Path) -> None:
    executable(commands / "sbatch", "#!/bin/sh\necho 42")
    (tmp_path / "file").write_text("no folder")
    one = dataclasses.replace(job(work), root=tmp_path / "file")
    with pytest.raises(ConfigError) as caught:
        launcher().submit(one)
    assert str(caught.value) == (
        f"{tmp_path}/file/small: cannot be written: Not a directory (another --dir, or storage: in "
        "the profile)"
    )


def test_a_job_of_one_of_several_clusters_is_asked_for_there(
    work: Path, commands: Path, tmp_path: Path
) -> None:
    """Another cluster may have a job of that number."""
    note = f'echo "$(basename $0) $@" >>{tmp_path}/words'
    executable(commands / "sbatch", "#!/bin/sh\necho '42;wice'")
    executable(commands / "scontrol", f"#!/bin/sh\n{note}\necho 'Invalid job id' >&2; exit 1")
    executable(commands / "sacct", f"#!/bin/sh\n{note}\necho 'COMPLETED|0:0'")
    executable(commands / "scancel", f"#!/bin/sh\n{note}")
    one = launcher().submit(job(work))
    assert launcher().state(one) == JobState("done", "", 0)
    launcher().cancel(one)
    assert (tmp_path / "words").read_text().splitlines() == [
        "scontrol --clusters=wice --oneliner show job 42",
        "sacct --clusters=wice -X -n -P -j 42 -o State,ExitCode",
        "scancel --clusters=wice 42",
    ]
    assert launcher().by_hand(one) == "`scancel --clusters=wice 42`"
    assert launcher(array=2).parts(one)[1] == Submitted("42_2", one.log)


def test_a_variable_of_sbatchs_does_not_overrule_the_profile(
    work: Path, commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(commands / "sbatch", "#!/bin/sh\nenv >env; echo 42")
    given = ("ARRAY_INX", "PARTITION", "NO_REQUEUE", "OUTPUT", "SIGNAL", "TIMELIMIT", "QOS")
    for name in given:
        monkeypatch.setenv(f"SBATCH_{name}", "x")

    def left(**settings: Any) -> set[str]:
        launcher(**settings).submit(job(work))
        said = (work / "env").read_text().splitlines()
        return {line.partition("=")[0].removeprefix("SBATCH_") for line in said} & set(given)

    assert left() == {"PARTITION", "TIMELIMIT", "QOS"}  # which the profile leaves open
    assert left(partition="gpu", walltime="4:00:00") == {"QOS"}
    assert left(requeue=False) == {"NO_REQUEUE", "PARTITION", "TIMELIMIT", "QOS"}


REFUSALS = [
    ("invalid partition specified: gpux", "partition: in the profile"),
    ("Batch job submission failed: Invalid account or account/partition combination", "account:"),
    ("Batch job submission failed: Access/permission denied", "those who run the cluster"),
    ("Batch job submission failed: Requested node configuration is not available", "fewer nodes"),
    ("Batch job submission failed: User's group not permitted to use this partition", "partition:"),
    ("Unable to contact slurm controller (connect failure)", "slurmctld"),
    ("Could not establish a configuration source", "login node"),
    ("Protocol authentication error", "munged"),
]


@pytest.mark.parametrize(("words", "remedy"), REFUSALS)
def test_refusals_are_told_with_a_remedy(
    work: Path, commands: Path, words: str, remedy: str
) -> None:
    executable(commands / "sbatch", f'#!/bin/sh\necho "sbatch: error: {words}" >&2; exit 1')
    with pytest.raises(ConfigError) as caught:
        launcher().submit(job(work))
    (problem,) = caught.value.problems
    assert (problem.where, problem.what) == ("sbatch", words)
    assert remedy in problem.remedy


@pytest.mark.usefixtures("commands")
def test_without_slurm(work: Path) -> None:
    with pytest.raises(ConfigError, match=r"no sbatch .*--dry-run"):
        launcher().submit(job(work))
    with pytest.raises(ConfigError, match="no scancel"):
        launcher().cancel(Submitted("1"))
    assert not (work / "runs").exists()


STATES = [
    ("JobId=7 JobState=PENDING Reason=Priority ExitCode=0:0", JobState("waiting", "Priority")),
    ("JobId=7 JobState=RUNNING Reason=None ExitCode=0:0", JobState("running")),
    ("JobId=7 JobState=COMPLETED Reason=None ExitCode=0:0", JobState("done", "", 0)),
    (
        "JobId=7 JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0",
        JobState("failed", "NonZeroExitCode", 3),
    ),
    (
        "JobId=7 JobState=TIMEOUT Reason=TimeLimit ExitCode=0:15",
        JobState("failed", "timeout, TimeLimit"),
    ),
    (  # as Slurm says where the node has no such folder for the output
        "JobId=7 JobState=FAILED Reason=JobLaunchFailure ExitCode=0:53",
        JobState(
            "failed",
            "JobLaunchFailure; does the node see the folder of its output? storage: in the profile",
        ),
    ),
    (
        "JobId=7 JobState=OUT_OF_MEMORY Reason=OutOfMemory ExitCode=0:125",
        JobState("failed", "out_of_memory, OutOfMemory; raise memory: in the profile"),
    ),
    ("JobId=7 JobState=CANCELLED Reason=None ExitCode=0:15", JobState("cancelled")),
    ("JobId=7 JobState=COMPLETING Reason=None ExitCode=0:0", JobState("running", "completing")),
]


WAITING = [
    ("PartitionTimeLimit", "lower walltime: in the profile"),
    ("PartitionDown", "another partition: in the profile"),
    ("PartitionConfig", "fewer nodes, cores, GPUs or memory"),
    ("JobHeldUser", "`scontrol release`"),
    ("AssocGrpCpuLimit", "the account's limit"),
    ("ReqNodeNotAvail,_UnavailableNodes:n1", "`sinfo -R` says why"),
]


@pytest.mark.parametrize(("reason", "remedy"), WAITING)
def test_a_job_that_waits_says_for_what(commands: Path, reason: str, remedy: str) -> None:
    said = f"JobId=7 JobState=PENDING Reason={reason} ExitCode=0:0"
    executable(commands / "scontrol", f"#!/bin/sh\necho '{said}'")
    found = launcher().state(Submitted("7"))
    assert found.phase == "waiting"
    assert found.reason.startswith(f"{reason}; ")
    assert remedy in found.reason


@pytest.mark.usefixtures("clock")
def test_who_follows_a_job_that_never_starts_is_told(commands: Path) -> None:
    executable(commands / "scontrol", "#!/bin/sh\necho 'JobState=PENDING Reason=Priority'")
    one = Submitted("7", "/nowhere")
    heard: list[JobState] = []
    with pytest.raises(ConfigError) as caught:
        list(launcher(start_seconds=7).logs(one, follow=True, on_state=heard.append))
    (problem,) = caught.value.problems
    assert str(problem) == (
        "7: has not started within 7 s: waiting (Priority) "
        "(it waits on; `gansweep cancel 7` takes it back)"
    )
    assert set(heard) == {JobState("waiting", "Priority")}


@pytest.mark.usefixtures("clock")
def test_a_job_that_waits_again_has_started(commands: Path, tmp_path: Path) -> None:
    """It was preempted, say: that is as long as it takes."""
    script = """#!/bin/sh
n=$(cat {0}/n 2>/dev/null || echo 0); echo $((n + 1)) >{0}/n
case $n in 0) s=RUNNING ;; ?) s=PENDING ;; *) s=COMPLETED ;; esac
echo JobState=$s Reason=None ExitCode=0:0
"""
    executable(commands / "scontrol", script.format(tmp_path))
    assert list(launcher(start_seconds=7).logs(Submitted("7", "/nowhere"), follow=True)) == []
    assert int((tmp_path / "n").read_text()) == 11


# --- an array's tasks


def task(number: str, state: str, *, code: int = 0, reason: str = "None") -> str:
    return (
        f"JobId=7{number[0]} ArrayJobId=7 ArrayTaskId={number} JobState={state} Reason={reason} "
        f"ExitCode={code}:0"
    )


ARRAYS = [
    (
        [task("1", "RUNNING"), task("2-3", "PENDING", reason="Resources")],
        JobState("running", "1 running, 2 waiting"),
    ),
    (
        [task("1,3%2", "PENDING", reason="JobHeldUser"), task("2", "COMPLETED")],
        JobState("waiting", "2 waiting, 1 done; JobHeldUser; it is held: `scontrol release`"),
    ),
    ([task(n, "COMPLETED") for n in "123"], JobState("done", "", 0)),
    (
        [task("1", "COMPLETED"), task("2", "FAILED", code=1, reason="NonZeroExitCode"),
         task("3", "COMPLETED")],
        JobState("failed", "1 failed, 2 done; NonZeroExitCode", 1),
    ),
    (
        [task("1", "CANCELLED"), task("2", "CANCELLED"), task("3", "COMPLETED")],
        JobState("cancelled", "2 cancelled, 1 done", 0),
    ),
    ([task("3", "COMPLETED")], JobState("done", "1 done, 2 over and forgotten", 0)),
    ([task("3", "RUNNING")], JobState("running", "1 running, 2 over and forgotten")),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "state"), ARRAYS)
def test_states_of_an_array(commands: Path, lines: list[str], state: JobState) -> None:
    (commands / "said").write_text("\n".join(lines))
    executable(commands / "scontrol", f"#!/bin/sh\ncat {commands}/said")
    assert launcher(array=3).state(Submitted("7")) == state


def test_tasks_that_slurm_forgot_are_in_its_accounts(commands: Path) -> None:
    executable(commands / "scontrol", f"#!/bin/sh\necho '{task('3', 'COMPLETED')}'")
    executable(commands / "sacct", "#!/bin/sh\nprintf 'FAILED|2:0\\nCOMPLETED|0:0\\n'")
    assert launcher(array=2).state(Submitted("7")) == JobState("failed", "1 failed, 1 done", 2)


def test_the_logs_of_an_array_are_those_of_its_tasks(work: Path, commands: Path) -> None:
    executable(commands / "sbatch", "#!/bin/sh\necho 42")
    array = launcher(array=3)
    submitted = array.submit(job(work))
    folder = work / "runs" / "small"
    assert submitted == Submitted("42", f"{folder}/slurm-42_%a.log")
    (folder / "slurm-42_1.log").write_text("one\n")
    (folder / "slurm-42_3.log").write_text("three\n")
    assert "".join(array.logs(submitted, follow=False)) == (
        "==> 42_1 <==\none\n==> 42_3 <==\nthree\n"
    )


@pytest.mark.parametrize(("said", "state"), STATES)
def test_states(commands: Path, said: str, state: JobState) -> None:
    executable(commands / "scontrol", f"#!/bin/sh\necho '{said}'")
    assert launcher().state(Submitted("7")) == state


def test_a_forgotten_job_is_looked_up_in_the_accounts(commands: Path) -> None:
    executable(
        commands / "scontrol",
        "#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1",
    )  # fmt: skip
    assert launcher().state(Submitted("7")).phase == "forgotten"
    executable(commands / "sacct", "#!/bin/sh\necho 'sacct: error: Connection refused' >&2; exit 1")
    with pytest.raises(AwayError, match="Connection refused"):
        launcher().state(Submitted("7"))
    executable(commands / "sacct", "#!/bin/sh\necho 'sacct: error: Access denied' >&2; exit 1")
    assert "Access denied" in launcher().state(Submitted("7")).reason
    executable(commands / "sacct", "#!/bin/sh\necho 'CANCELLED by 1000|0:0'")
    assert launcher().state(Submitted("7")) == JobState("cancelled")
    executable(commands / "sacct", "#!/bin/sh\necho 'FAILED|2:0'")
    assert launcher().state(Submitted("7")) == JobState("failed", "", 2)


def test_the_log_is_read_on_and_may_not_be_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "log"
    one = Submitted("7", str(path))
    assert launcher().log(one, 0) == ("", 0)
    path.write_text("ä\n")
    assert launcher().log(one, 0) == ("ä\n", 3)
    path.write_text("ä\nb\n")
    assert launcher().log(one, 3) == ("b\n", 5)


# --- what the script does, with stand-ins for Slurm and for gansweep

DRIVER = """#!/usr/bin/env python3
import os, signal, socket, sys, time
words = " ".join(sys.argv[1:])
folder = os.environ["STAGE"]
def note(text):
    with open(folder + "/notes", "a") as file:
        file.write(text + "\\n")
def leave(path):
    with open(path + ".draft", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".draft", path)
if "ray.scripts.scripts" in words:
    head = "--head" in words
    note("head" if head else "worker " + words.split("--address=")[1])
    note("token " + str(len(os.environ["RAY_AUTH_TOKEN"])) + os.environ["RAY_AUTH_TOKEN"])
    leave(folder + ("/head.pid" if head else "/worker.pid"))
    if head:
        door = socket.create_server(("127.0.0.1", int(words.split("--port=")[1].split()[0])))
    time.sleep(600)
elif "readiness" in words:
    note("ready " + " ".join(sys.argv[4:]))
    while not os.path.exists(folder + "/worker.pid"):  # a node that has joined
        time.sleep(0.01)
    sys.exit(int(os.environ.get("MISSING", "0")))
else:
    def stopped(*_):
        note("stopped")
        sys.exit(130)
    signal.signal(signal.SIGTERM, stopped)
    note("run " + words.partition("--tracking-uri")[2])
    act = os.environ.get("ACT", "")
    if act == "done":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if act in ("wait", "deaf", "done"):
        if act == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        leave(folder + "/begun")
        time.sleep(600)
    sys.exit(int(act or 0))
"""
SCONTROL = """#!/bin/sh
case "$1" in
show) [ "$2" = node ] && echo "NodeName=$4 NodeAddr=127.0.0.1 X=Y" || printf 'n1\\nn2\\n' ;;
requeue) echo "requeue $2" >>"$STAGE/notes" ;;
esac
"""
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
exec "$@"
"""
SLEEP = """#!/bin/sh
echo nap >>"$STAGE/naps"
exec /bin/sleep 0.1
"""


class Stage:
    """A folder where a job's script runs as if Slurm had begun it."""

    def __init__(self, folder: Path, one: Any, *, nodes: int, **settings: Any) -> None:
        self.folder = folder
        driver = executable(folder / "driver", DRIVER)
        executable(folder / "bin" / "scontrol", SCONTROL)
        executable(folder / "bin" / "scancel", '#!/bin/sh\necho "cancel $@" >>"$STAGE/notes"\n')
        executable(folder / "bin" / "srun", SRUN)
        executable(folder / "bin" / "sleep", SLEEP)
        (Path(one.root) / "small").mkdir(parents=True, exist_ok=True)
        self.script = launcher(nodes=nodes, python=str(driver), **settings).render(one)

    def start(self, **environment: str) -> subprocess.Popen[str]:
        number = str(os.getpid() % 1000)
        return subprocess.Popen(
            ["bash", "-c", self.script],
            env={
                "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "STAGE": str(self.folder),
                "SLURM_JOB_ID": number, "SLURMD_NODENAME": "n1", "SLURM_JOB_NODELIST": "n[1-2]",
                **environment,
            },
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    @property
    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, name: str) -> Path:
        path = self.folder / name
        self._wait(path.exists)
        return path

    def looks_on(self, times: int) -> None:
        """Returns once the script has looked so many times at what it has started."""
        naps = self.folder / "naps"
        before = len(naps.read_text().split())
        self._wait(lambda: len(naps.read_text().split()) >= before + times)

    def _wait(self, until: Callable[[], bool]) -> None:
        end = time.monotonic() + 120
        while not until():
            assert time.monotonic() < end, self.notes
            time.sleep(0.02)


def ended(job: subprocess.Popen[str]) -> tuple[int, str]:
    text, _ = job.communicate(timeout=120)
    return job.returncode, text


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_the_exit_code_is_that_of_the_sweep(work: Path, tmp_path: Path, code: int) -> None:
    stage = Stage(tmp_path / "stage", job(work), nodes=1)
    assert ended(stage.start(ACT=str(code))) == (code, "")
    assert stage.notes == ["run  http://127.0.0.1:5000"]


@pytest.mark.parametrize("nodes", [1, 2])
def test_usr1_puts_the_trials_aside_and_the_job_back(
    work: Path, tmp_path: Path, nodes: int
) -> None:
    stage = Stage(tmp_path / "stage", job(work), nodes=nodes)
    running = stage.start(ACT="wait")
    stage.wait_for("begun")
    os.kill(running.pid, 10)
    code, said = ended(running)
    assert stage.notes[-2:] == ["stopped", f"requeue {os.getpid() % 1000}"]
    assert code == 0
    assert "its time is up; the job goes back to the queue" in said


def test_a_job_goes_back_so_many_times_alone(work: Path, tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage", job(work), nodes=1, restarts=2)
    running = stage.start(ACT="wait", SLURM_RESTART_COUNT="2")
    stage.wait_for("begun")
    os.kill(running.pid, 10)
    code, said = ended(running)
    assert code == 130
    assert "to submit the same file again goes on" in said
    assert stage.notes[-1] == "stopped"


def test_a_task_of_an_array_goes_back_alone(work: Path, tmp_path: Path) -> None:
    """The number of one of them is that of the whole array."""
    stage = Stage(tmp_path / "stage", job(work), nodes=1, array=3)
    running = stage.start(
        ACT="wait", SLURM_ARRAY_JOB_ID=str(os.getpid() % 1000), SLURM_ARRAY_TASK_ID="3"
    )
    stage.wait_for("begun")
    os.kill(running.pid, 10)
    code, _ = ended(running)
    assert code == 0
    assert stage.notes == [
        "run  http://127.0.0.1:5000 --share 3/3",
        "stopped",
        f"requeue {os.getpid() % 1000}_3",
    ]


def test_two_nodes_share_a_port_and_a_token(work: Path, tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage", job(work), nodes=2, ready_seconds=17)
    assert ended(stage.start(ACT="0"))[0] == 0
    address = f"127.0.0.1:{20000 + os.getpid() % 1000 * 10}"
    notes = stage.notes
    assert notes[0] == "head"
    assert f"worker {address}" in notes
    assert f"ready {address} 2 17" in notes
    assert notes[-1] == f"run  http://127.0.0.1:5000 --address {address}"
    tokens = {note for note in notes if note.startswith("token ")}
    assert len(tokens) == 1
    assert tokens.pop().startswith("token 64")


def test_a_lost_head_ends_the_job_and_puts_it_back(work: Path, tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage", job(work), nodes=2)
    running = stage.start(ACT="wait")
    stage.wait_for("begun")
    os.kill(int((stage.folder / "head.pid").read_text()), 9)
    code, said = ended(running)
    assert "Ray's head was lost; the job goes back to the queue" in said
    assert stage.notes[-1] == f"requeue {os.getpid() % 1000}"
    assert code == 0


def test_a_cancelled_job_does_not_come_back(work: Path, tmp_path: Path) -> None:
    """Slurm sends TERM to all of it; Ray's head may be the first that is gone."""
    stage = Stage(tmp_path / "stage", job(work), nodes=2)
    running = stage.start(ACT="wait")
    stage.wait_for("begun")
    os.killpg(running.pid, 15)
    code, said = ended(running)
    assert code != 0
    assert "queue" not in said
    assert not any(note.startswith("requeue") for note in stage.notes)


@pytest.mark.parametrize("nodes", [1, 2])
def test_usr2_puts_the_trials_aside_and_cancels_the_job(
    work: Path, tmp_path: Path, nodes: int
) -> None:
    """`gansweep cancel` sends it; Slurm's TERM would end Ray before there are checkpoints."""
    stage = Stage(tmp_path / "stage", job(work), nodes=nodes)
    running = stage.start(ACT="wait")
    stage.wait_for("begun")
    os.kill(running.pid, 12)
    code, said = ended(running)
    assert code == 130
    assert stage.notes[-2:] == ["stopped", f"cancel {os.getpid() % 1000}"]
    assert "queue" not in said


def test_a_job_that_has_ended_by_itself_is_not_cancelled(work: Path, tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage", job(work), nodes=1)
    running = stage.start(ACT="done")
    stage.wait_for("begun")
    os.kill(running.pid, 12)
    assert ended(running)[0] == 0
    assert stage.notes == ["run  http://127.0.0.1:5000"]


@pytest.mark.parametrize(("seconds", "comes_back"), [(120, False), (1, True)])
def test_term_after_usr1(work: Path, tmp_path: Path, seconds: int, comes_back: bool) -> None:
    """Soon it is by a person's word; when the time is up it is by Slurm's."""
    stage = Stage(tmp_path / "stage", job(work), nodes=1, stop_seconds=seconds)
    running = stage.start(ACT="deaf")
    stage.wait_for("begun")
    os.kill(running.pid, 10)  # of which a shell hears before it hears of TERM
    os.kill(running.pid, 15)
    os.kill(int((stage.folder / "begun").read_text()), 9)
    code, _ = ended(running)
    assert (code == 0) == comes_back
    assert any(note.startswith("requeue") for note in stage.notes) == comes_back


def test_a_lost_worker_ends_nothing(work: Path, tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage", job(work), nodes=2)
    running = stage.start(ACT="wait")
    stage.wait_for("begun")
    os.kill(int((stage.folder / "worker.pid").read_text()), 9)
    stage.looks_on(10)
    assert running.poll() is None
    os.kill(running.pid, 10)
    assert ended(running)[0] == 0


def test_missing_nodes_are_told(work: Path, tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage", job(work), nodes=2)
    code, said = ended(stage.start(MISSING="1"))
    assert code == 1
    assert "Ray's own words are in" in said
    assert not any(note.startswith(("run", "requeue")) for note in stage.notes)
