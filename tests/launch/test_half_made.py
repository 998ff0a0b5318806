"""Whatever happens at `gansweep submit`: the job is recorded and whole, or nothing is left.

Or it is said what may be left, and how it is removed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sweep_files import TEXT

from gansweep.launch import kubernetes, record, slurm
from gansweep.launch.record import JobRecord, all_jobs

from .jobs import executable

Gansweep = Callable[..., tuple[int, str, str]]

CLUSTER = """#!{python}
# A cluster of files: it makes and deletes objects, and collects those whose owner is gone.
import json, os, pathlib, sys, time
import yaml
stage = pathlib.Path({stage!r})
words = [word for word in sys.argv[1:] if not word.startswith("-")]
if words[0] == "config":
    sys.exit("error: current-context must exist in order to minify")
call = f"{{words[0]}} {{len(list(stage.glob('call-*'))) + 1}}"
(stage / f"call-{{call}}").touch()
fault = json.loads((stage / "faults").read_text()).get(call, "")
def fail():
    if "hang" in fault:
        (stage / "hangs").touch()
        time.sleep(600)
    sys.exit("Unable to connect to the server: EOF" if "eof" in fault else
             'Error from server (Forbidden): "x" is forbidden')
if "before" in fault:
    fail()
if words[0] == "create":
    made = yaml.safe_load(sys.stdin.read())
    made["metadata"]["uid"] = f"uid of {{call}}"
    (stage / f"{{made['kind'].lower()}}.json").write_text(json.dumps(made))
elif words[0] == "patch":
    path = stage / f"{{words[1]}}.json"
    made = json.loads(path.read_text())
    change = next(word for word in sys.argv if word.startswith("--patch="))
    made["metadata"].update(json.loads(change.removeprefix("--patch="))["metadata"])
    path.write_text(json.dumps(made))
elif words[0] == "delete":
    for kind in words[1].split(","):
        (stage / f"{{kind}}.json").unlink(missing_ok=True)
there = {{path: json.loads(path.read_text()) for path in stage.glob("*.json")}}
uids = {{each["metadata"]["uid"] for each in there.values()}}
for path, each in there.items():
    owners = each["metadata"].get("ownerReferences", ())
    if owners and not uids & {{owner["uid"] for owner in owners}}:
        path.unlink()
if "after" in fault:
    fail()
if words[0] == "create":
    print(json.dumps(made))
"""


class Impatient:
    """Runs commands; the patience with one is at its end once that says that it hangs."""

    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(self, hangs: Path) -> None:
        self._hangs = hangs

    def run(
        self, words: list[str], *, input: str | None, timeout: float, **_: bool
    ) -> subprocess.CompletedProcess[str]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen(words, text=True, **pipes) as process:  # type: ignore[call-overload]
            while True:
                try:
                    out, err = process.communicate(input, timeout=0.02)
                    return subprocess.CompletedProcess(words, process.returncode, out, err)
                except subprocess.TimeoutExpired:
                    input = None
                    if self._hangs.exists():
                        self._hangs.unlink()
                        process.kill()
                        raise subprocess.TimeoutExpired(words, timeout) from None


@pytest.fixture
def cluster(
    work: Path, tmp_path: Path, profile: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> Path:
    stage = tmp_path / "cluster"
    stage.mkdir()
    script = CLUSTER.format(python=sys.executable, stage=str(stage))
    executable(tmp_path / "bin" / "kubectl", script)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(kubernetes, "subprocess", Impatient(stage / "hangs"))
    (work / "file.yaml").write_text(TEXT)
    profile("kube", "to: kubernetes\nimage: i\nclaim: c\nsecret: s\nnamespace: lab")
    faults(stage)
    return stage


def faults(stage: Path, **of: str) -> None:
    named = {call.replace("_", " "): fault for call, fault in of.items()}
    (stage / "faults").write_text(json.dumps(named))


def left(stage: Path) -> set[str]:
    return {path.stem for path in stage.glob("*.json")}


def test_a_job_that_nothing_befalls(gansweep: Gansweep, cluster: Path) -> None:
    assert gansweep("submit", "file.yaml", "--profile", "kube")[0] == 0
    assert left(cluster) == {"configmap", "rayjob"}
    assert len(all_jobs()) == 1


@pytest.mark.parametrize("fault", ["hang before", "hang after", "eof after", "before", "after"])
@pytest.mark.parametrize("call", ["create_1", "create_2"])
def test_nothing_is_half_made(gansweep: Gansweep, cluster: Path, call: str, fault: str) -> None:
    faults(cluster, **{call: fault})
    code, out, err = gansweep("submit", "file.yaml", "--profile", "kube")
    if (call, fault) == ("create_1", "after"):
        return  # a cluster that makes what it forbids
    assert (code, out) == (2, "")
    assert err.startswith("gansweep: 1 mistake, nothing was started:\n  kubectl: ")
    assert (left(cluster), all_jobs()) == (set(), [])


@pytest.mark.parametrize("call", ["create_1", "create_2"])
def test_what_may_be_left_is_told(gansweep: Gansweep, cluster: Path, call: str) -> None:
    number = int(call[-1]) + 1
    faults(cluster, **{call: "hang after", f"delete_{number}": "eof before"})
    code, _, err = gansweep("submit", "file.yaml", "--profile", "kube")
    assert code == 2
    name = json.loads((cluster / "configmap.json").read_text())["metadata"]["name"]
    assert "mistakes, something may be left in the cluster:\n" in err
    assert "no answer within 60 s" in err
    remedy = f"`kubectl --namespace=lab delete configmap {name}` ends it"
    assert f"  {name}: may be there, whole or in part ({remedy})\n" in err
    assert all_jobs() == []


def test_an_interrupt_takes_it_back(
    gansweep: Gansweep, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = kubernetes.Kubernetes._kubectl

    def interrupted(self: kubernetes.Kubernetes, *words: str, input: str | None = None) -> str:
        said = real(self, *words, input=input)
        if "kind: RayJob" in (input or ""):
            raise KeyboardInterrupt
        return said

    monkeypatch.setattr(kubernetes.Kubernetes, "_kubectl", interrupted)
    assert gansweep("submit", "file.yaml", "--profile", "kube")[0] == 130
    assert left(cluster) == set()


def test_what_does_not_fit_a_cluster_that_is_not_there(
    gansweep: Gansweep, cluster: Path, tmp_path: Path
) -> None:
    """Nothing was reached, so nothing is to be removed."""
    refused = "The connection to the server localhost:8080 was refused - did you specify the host?"
    executable(tmp_path / "bin" / "kubectl", f"#!/bin/sh\necho '{refused}' >&2; exit 1")
    code, _, err = gansweep("submit", "file.yaml", "--profile", "kube")
    assert code == 2
    assert err.startswith(f"gansweep: 1 mistake, nothing was started:\n  kubectl: {refused} (")


@pytest.mark.parametrize("kind", ["rayjob", "configmap"])
def test_whichever_is_deleted_by_hand_nothing_is_left(
    gansweep: Gansweep, cluster: Path, kind: str
) -> None:
    assert gansweep("submit", "file.yaml", "--profile", "kube")[0] == 0
    subprocess.run(["kubectl", "delete", kind, all_jobs()[0].id], check=True)
    assert left(cluster) == set()


@pytest.mark.parametrize("fault", ["before", "eof before"])
def test_a_job_whose_files_stay_is_no_failure(
    gansweep: Gansweep, cluster: Path, fault: str
) -> None:
    """Who may not patch, as under an earlier Role, has a job all the same."""
    faults(cluster, patch_3=fault)
    code, out, err = gansweep("submit", "file.yaml", "--profile", "kube")
    assert (code, err) == (0, "")
    assert out.startswith("submitted gansweep-small-")
    assert left(cluster) == {"configmap", "rayjob"}
    assert len(all_jobs()) == 1


def test_cancel_leaves_nothing(gansweep: Gansweep, cluster: Path, tmp_path: Path) -> None:
    gansweep("submit", "file.yaml", "--profile", "kube")
    (found,) = all_jobs()
    kubernetes.Kubernetes(kubernetes.Kubernetes.Settings()).cancel(found.job)
    assert left(cluster) == set()


# --- a job without a record


def full(self: JobRecord) -> None:
    raise OSError(28, "No space left on device")


def test_a_job_that_cannot_be_recorded_is_not_sent(
    gansweep: Gansweep, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record.JobRecord, "save", full)
    code, out, err = gansweep("submit", "file.yaml", "--profile", "kube")
    assert (code, out) == (2, "")
    assert "nothing was started:" in err
    assert f"{record.jobs_folder()}: cannot be written: No space left on device" in err
    assert "GANSWEEP_STATE" in err
    assert left(cluster) == set()
    assert list(cluster.glob("call-*")) == []


def test_a_job_whose_number_is_the_clusters_is_taken_back(
    gansweep: Gansweep, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "bin" / "sbatch", "#!/bin/sh\necho 42")
    executable(tmp_path / "bin" / "scancel", f"#!/bin/sh\necho $@ >>{tmp_path}/cancelled")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(record.JobRecord, "save", full)
    (work / "file.yaml").write_text(TEXT)
    code, out, err = gansweep("submit", "file.yaml", "--to", "slurm")
    assert (code, out) == (2, "")
    assert "nothing was started:" in err
    assert f"{record.jobs_folder()}: cannot be written: No space left on device" in err
    assert (tmp_path / "cancelled").read_text() == "42\n"
    executable(tmp_path / "bin" / "scancel", "#!/bin/sh\necho 'Access denied' >&2; exit 1")
    code, _, err = gansweep("submit", "file.yaml", "--to", "slurm")
    assert code == 2
    assert "the job is in the cluster, and in no record:" in err
    assert "42: could not be taken back (`scancel 42` ends it)" in err


def test_a_job_is_recorded_before_the_cluster_hears_of_it(
    gansweep: Gansweep, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is killed meanwhile, as where a connection breaks, finds it."""
    known: list[list[str]] = []
    real = kubernetes.Kubernetes._kubectl

    def noted(self: kubernetes.Kubernetes, *words: str, input: str | None = None) -> str:
        if words[0] == "create":
            known.append([job.id for job in all_jobs()])
        return real(self, *words, input=input)

    monkeypatch.setattr(kubernetes.Kubernetes, "_kubectl", noted)
    assert gansweep("submit", "file.yaml", "--profile", "kube")[0] == 0
    name = json.loads((cluster / "rayjob.json").read_text())["metadata"]["name"]
    assert known == [[name], [name]]
    assert [job.id for job in all_jobs()] == [name]


def test_an_interrupt_while_a_dashboard_answers_leaves_the_record(
    gansweep: Gansweep, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray.job_submission

    sent: list[str] = []

    class Client:
        def __init__(self, address: str) -> None:
            pass

        def submit_job(self, *, submission_id: str, **request: object) -> None:
            sent.append(submission_id)
            raise KeyboardInterrupt

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", Client)
    (work / "file.yaml").write_text(TEXT)
    assert gansweep("submit", "file.yaml", "--to", "ray")[0] == 130
    assert [job.id for job in all_jobs()] == sent != []


def test_sbatch_that_does_not_answer_may_have_queued_it(
    gansweep: Gansweep, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "bin" / "sbatch", "#!/bin/sh\nexec sleep 60")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "ANSWER_SECONDS", 0.5)
    (work / "file.yaml").write_text(TEXT)
    code, _, err = gansweep("submit", "file.yaml", "--to", "slurm")
    assert code == 2
    assert "a job may be in the queue:" in err
    assert "`squeue --me --name=gansweep-small` shows it; `scancel NUMBER` ends it" in err


def test_a_dashboard_that_is_lost_may_have_started_it(
    gansweep: Gansweep, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray.job_submission

    class Client:
        def __init__(self, address: str) -> None:
            pass

        def submit_job(self, **request: object) -> None:
            raise OSError("Connection reset by peer")

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", Client)
    (work / "file.yaml").write_text(TEXT)
    code, _, err = gansweep("submit", "file.yaml", "--to", "ray")
    assert code == 2
    assert "a job may have been started:" in err
    assert "`ray job stop gansweep-small-" in err
    assert "--address http://127.0.0.1:8265`" in err
    assert all_jobs() == []
