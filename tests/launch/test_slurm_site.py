"""A real Slurm of two nodes: a job over both, preempted in its middle, ends complete."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from e2e.command import Place, wait_for
from mlflow.tracking import MlflowClient

from gansweep.tracking.mlflow import MlflowStore

from .jobs import executable
from .site import Site

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

SWEEP = """\
name: {name}
trial:
  model: {{name: wgan, n_critic: 1}}
  network: {{name: mlp, width: 8, depth: 1}}
  data: {{name: ring8, n: 2000}}
  budget: {{g_steps: {g_steps}}}
  checkpoint: {{every: 50}}
  samples: {{every: {g_steps}}}
  score: {{every: {g_steps}, samples: 100}}
  compile: "false"
  diagnosis: {{every: 0}}
space:
  model.clip: {{grid: [0.01, 0.02]}}
seeds: 2
resources: {{pack: 1}}
"""

PROFILE = """\
to: slurm
partition: low
nodes: {nodes}
cpus: 1
walltime: "1:00:00"
stop_seconds: 5
storage: {storage}
tracking_uri: {uri}
"""


@pytest.fixture
def place(site: Site, mlflow_server: str, tmp_path: Path) -> Place:
    """Where a person with an account there works."""
    home = Place(
        tmp_path / "home", GANSWEEP_STATE=str(tmp_path / "state"), **site.environment,
        MLFLOW_TRACKING_TOKEN=TOKEN,
    )  # fmt: skip
    for nodes in (1, 2):
        profile = home.folder / "infra" / "profiles" / f"nodes{nodes}.yaml"
        profile.parent.mkdir(parents=True, exist_ok=True)
        storage = home.folder / "shared"
        profile.write_text(PROFILE.format(nodes=nodes, storage=storage, uri=mlflow_server))
    return home


SBATCH = shutil.which("sbatch")
TOKEN = "a-token-that-nobody-writes-down"


def submit(place: Place, name: str, *words: str, nodes: int, g_steps: int) -> str:
    (place.folder / f"{name}.yaml").write_text(SWEEP.format(name=name, g_steps=g_steps))
    said = place.run("submit", f"{name}.yaml", "--profile", f"nodes{nodes}", *words).text
    (number,) = re.findall(r"submitted (\d+) to slurm: 4 trials", said)
    return str(number)


def state(site: Site, number: str) -> dict[str, str]:
    """Of a job, or of a task NUMBER_TASK."""
    said = site.say("scontrol", "--oneliner", "show", "job", number)
    return dict(part.partition("=")[::2] for part in said.split() if "=" in part)


def words(place: Place, name: str, number: str) -> str:
    """The job's output, and Ray's, for messages."""
    files = sorted((place.folder / "shared" / name).glob(f"slurm-{number}*"))
    return "".join(f"\n--- {f.name}\n{f.read_text(errors='replace')[-6000:]}" for f in files)


def reaches(
    site: Site, place: Place, name: str, number: str, wanted: str, *, seconds: float
) -> None:
    def there() -> bool:
        found = state(site, number)["JobState"]
        assert found == wanted or found not in ("FAILED", "CANCELLED", "TIMEOUT", "COMPLETED"), (
            f"{found}, not {wanted}{words(place, name, number)}{site.logs()}"
        )
        return found == wanted

    try:
        wait_for(there, seconds=seconds, what=f"{wanted} of job {number}")
    except AssertionError as error:
        raise AssertionError(f"{error}{words(place, name, number)}{site.logs()}") from None


def check_complete(uri: str, name: str) -> None:
    """One run for each trial, each finished."""
    records = MlflowStore(uri).trials(name)
    assert len(records) == len({record.key for record in records}) == 4
    assert {record.status for record in records} == {"FINISHED"}
    assert {record.tags["state"] for record in records} == {"completed"}


def trains(place: Place, name: str, number: str) -> None:
    """Returns once a trial has a checkpoint."""
    trials = place.folder / "shared" / name / "trials"
    wait_for(
        lambda: list(trials.glob("*/checkpoint*")),
        seconds=180,
        what=f"a checkpoint{words(place, name, number)}",
    )


def test_a_preempted_job_over_two_nodes_ends_complete(
    site: Site, place: Place, mlflow_server: str
) -> None:
    name = "preempted"
    number = submit(place, name, nodes=2, g_steps=400)
    reaches(site, place, name, number, "RUNNING", seconds=60)
    trains(place, name, number)
    other = site.say(
        "sbatch", "--parsable", "-p", "high", "-N", "2", "--output=/dev/null", "--wrap", "sleep 2"
    ).strip()
    reaches(site, place, name, number, "PENDING", seconds=60)
    wait_for(
        lambda: state(site, other)["JobState"] == "COMPLETED", seconds=60, what="the other job"
    )
    reaches(site, place, name, number, "RUNNING", seconds=200)
    reaches(site, place, name, number, "COMPLETED", seconds=300)
    assert int(state(site, number)["Restarts"]) >= 1
    check_complete(mlflow_server, name)
    said = place.run("logs", number, "--follow", code=0).text
    assert f"{number}: done, exit code 0" in said
    assert " done, exit code 0" in place.run("jobs").text
    everything = [path for path in place.folder.rglob("*") if path.is_file()]
    assert len(everything) > 10
    assert not [path for path in everything if TOKEN.encode() in path.read_bytes()]
    assert not list(Path("/tmp").glob(f"gansweep-{number}-*"))


def test_a_lost_worker_node_is_survived(site: Site, place: Place, mlflow_server: str) -> None:
    name = "survived"
    number = submit(place, name, nodes=2, g_steps=300)
    trains(place, name, number)
    site.say("scancel", "--signal=KILL", f"{number}.1")  # the steps: 0 is the head, 1 the worker

    def steps() -> list[str]:
        return site.say("squeue", "--noheader", "--steps", f"--jobs={number}", "-o", "%i").split()

    wait_for(lambda: f"{number}.1" not in steps(), seconds=60, what="the end of the worker's step")
    assert f"{number}.0" in steps()
    assert state(site, number)["JobState"] == "RUNNING"
    reaches(site, place, name, number, "COMPLETED", seconds=300)
    assert state(site, number)["Restarts"] == "0"
    check_complete(mlflow_server, name)


def test_one_node_time_is_up_and_cancel(site: Site, place: Place, mlflow_server: str) -> None:
    name = "single"
    number = submit(place, name, nodes=1, g_steps=1500)
    trains(place, name, number)
    site.say(
        "scancel", "--batch", "--signal=USR1", number
    )  # what Slurm sends before the time is up
    reaches(site, place, name, number, "PENDING", seconds=90)
    assert "its time is up; the job goes back to the queue" in words(place, name, number)
    reaches(site, place, name, number, "RUNNING", seconds=200)
    place.run("cancel", number)
    assert state(site, number)["JobState"] == "CANCELLED"


def test_cancel_puts_the_trials_of_all_nodes_aside(
    site: Site, place: Place, mlflow_server: str
) -> None:
    name = "aside"
    number = submit(place, name, nodes=2, g_steps=500_000)
    folder = place.folder / "shared" / name

    def each_has_one() -> bool:
        return len(list(folder.glob("trials/*/checkpoint.pt"))) == 2

    wait_for(each_has_one, seconds=180, what="a checkpoint of two trials")
    place.run("cancel", number)
    assert state(site, number)["JobState"] == "CANCELLED"
    told = words(place, name, number)
    states = [trial["state"] for trial in json.loads((folder / "plan.json").read_text())["trials"]]
    assert sorted(states) == ["interrupted", "interrupted", "waiting", "waiting"], told


def tasks(site: Site, number: str) -> dict[str, dict[str, str]]:
    """What Slurm says of an array's tasks, by their numbers; of those that wait, together."""
    found = {}
    for line in site.say("scontrol", "--oneliner", "show", "job", number).splitlines():
        words = dict(part.partition("=")[::2] for part in line.split() if "=" in part)
        found[words["ArrayTaskId"]] = words
    return found


def test_an_array_of_three_one_of_them_queued_again(
    site: Site, place: Place, mlflow_server: str
) -> None:
    """No Ray between the nodes. Cut off is the task whose number is that of the whole array."""
    name = "array"
    number = submit(place, name, "--array", "3", nodes=1, g_steps=4000)
    folder = place.folder / "shared" / name

    def the_last_one() -> str:
        """The running task that has the array's number, with a checkpoint."""
        for task, told in tasks(site, number).items():
            deal = folder / "shares" / "deal.json"
            if told["JobState"] == "RUNNING" and told["JobId"] == number and deal.exists():
                dealt = json.loads(deal.read_text())["shares"]
                own = dealt[int(task) - 1]
                if any((folder / "trials" / key / "checkpoint.pt").exists() for key in own):
                    return task
        return ""

    try:
        last = wait_for(the_last_one, seconds=400, what="a checkpoint of the array's own number")
    except AssertionError as error:
        raise AssertionError(f"{error}{words(place, name, number)}{site.logs()}") from None
    one = f"{number}_{last}"
    site.say("scancel", "--batch", "--signal=USR1", one)
    reaches(site, place, name, one, "PENDING", seconds=90)
    said = (folder / f"slurm-{one}.log").read_text()
    assert "its time is up; the job goes back to the queue" in said
    reaches(site, place, name, one, "COMPLETED", seconds=400)
    told = tasks(site, number)
    assert {each["JobState"] for each in told.values()} == {"COMPLETED"}
    assert {each["Restarts"] for task, each in told.items() if task != last} <= {"0"}
    assert told[last]["Restarts"] == "1"
    check_complete(mlflow_server, name)
    runs = MlflowClient(mlflow_server).search_runs(
        [MlflowStore(mlflow_server).existing_experiment(name)]
    )
    (parent,) = [run for run in runs if "gansweep.sweep" in run.data.tags]
    assert parent.info.status == "FINISHED"
    followed = place.run("logs", number, "--follow", code=0).text
    assert f"{number}: done" in followed
    for task in (1, 2, 3):
        assert f"==> {number}_{task} <==" in followed
        assert f"{name}, share {task}/3: " in followed
    assert "\n4 trials, " in (folder / f"slurm-{one}.log").read_text()
    assert not list(Path("/tmp").glob(f"gansweep-{number}-*"))


def test_a_job_that_never_starts(site: Site, place: Place) -> None:
    profile = place.folder / "infra" / "profiles" / "nodes1.yaml"
    profile.write_text(profile.read_text() + "start_seconds: 3\noptions: [--hold]\n")
    number = submit(place, "held", "--array", "2", nodes=1, g_steps=10)
    why = "waiting (JobHeldUser; it is held: `scontrol release`)"
    assert f"{number}: {why}" in place.run("logs", number).text
    said = place.run("logs", number, "--follow", code=2).text
    assert f"{number}: has not started within 3 s: waiting (JobHeldUser; " in said
    assert f"`gansweep cancel {number}`" in said
    place.run("cancel", number)
    assert {each["JobState"] for each in tasks(site, number).values()} == {"CANCELLED"}


def test_a_job_that_slurm_has_forgotten(place: Place, tmp_path: Path) -> None:
    """It does so minutes after the end: here the record names one that never was."""
    profile = place.folder / "infra" / "profiles" / "nodes1.yaml"
    profile.write_text(profile.read_text() + "options: [--hold]\n")
    number = submit(place, "old", nodes=1, g_steps=10)
    place.run("cancel", number)
    (record,) = (tmp_path / "state" / "jobs").iterdir()
    record.write_text(
        record.read_text().replace(f'"id": "{number}"', '"id": "9999999"').replace("cancelled", "x")
    )
    said = place.run("logs", "9999999", "--follow", code=1).text
    assert "9999999: forgotten (Slurm knows it no more, and keeps no accounts: " in said


def test_no_permission(site: Site, place: Place, tmp_path: Path) -> None:
    """In a user's name, who is not in the partition's group."""
    executable(
        tmp_path / "bin" / "sbatch",
        f'#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups {SBATCH} "$@"\n',
    )
    place.environment["PATH"] = f"{tmp_path}/bin:{place.environment['PATH']}"
    profile = place.folder / "infra" / "profiles" / "nodes1.yaml"
    profile.write_text(profile.read_text().replace("low", "closed"))
    (place.folder / "x.yaml").write_text(SWEEP.format(name="x", g_steps=10))
    said = place.run("submit", "x.yaml", "--profile", "nodes1", code=2).text
    assert "sbatch: Batch job submission failed: User's group not permitted" in said
    assert "ask those who run it for access" in said
    assert not place.run("jobs").text.count("slurm")


def test_an_unknown_partition(place: Place) -> None:
    profile = place.folder / "infra" / "profiles" / "nodes1.yaml"
    profile.write_text(profile.read_text().replace("low", "nowhere"))
    (place.folder / "x.yaml").write_text(SWEEP.format(name="x", g_steps=10))
    said = place.run("submit", "x.yaml", "--profile", "nodes1", code=2).text
    assert "invalid partition specified: nowhere" in said
    assert "`sinfo` lists them" in said
