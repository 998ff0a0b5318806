"""Kubernetes' jobs: manifests against the published schemas, kubectl as far as a stand-in tells."""

from __future__ import annotations

import dataclasses
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from sweep_files import TEXT, text

from gansweep.errors import AwayError, ConfigError
from gansweep.launch import kubernetes
from gansweep.launch.base import JobState, Submitted
from gansweep.launch.kubernetes import Kubernetes
from gansweep.sweep.file import load_sweep

from .jobs import executable, job
from .kuberay import mistakes

PLAIN = {"image": "registry/gansweep:1", "claim": "sweeps", "secret": "mlflow"}
FULL = {
    **PLAIN, "namespace": "lab", "service_account": "trainer", "pull_secrets": ["registry"],
    "workers": 3, "cpus": 8, "gpus_per_node": 2, "memory": "32Gi", "head_memory": "4Gi",
    "node_selector": {"gpu": "a100"}, "tolerations": ["nvidia.com/gpu"], "queue": "team",
    "restarts": 5, "ready_seconds": 900, "ttl_seconds": 60, "group": None,
}  # fmt: skip


def launcher(**settings: Any) -> Kubernetes:
    return Kubernetes(Kubernetes.Settings(**{**PLAIN, **settings}))


def of_store(folder: Path, content: str = TEXT, *, named: bool = True, **options: Any) -> Any:
    """A job whose plan and checkpoints lie on the claim."""
    one = job(folder, content, **{"uri": "http://mlflow:5000", **options})
    return dataclasses.replace(one, root=Path("/sweeps"), uri_is_named=named)


def manifests(one: Any, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    files, rayjob = yaml.safe_load_all(launcher(**settings).render(one))
    return files, rayjob


def problems(
    folder: Path,
    content: str = TEXT,
    *,
    uri: str = "http://mlflow:5000",
    named: bool = True,
    **s: Any,
) -> list[str]:
    one = of_store(folder, content, uri=uri, named=named)
    return [str(problem) for problem in launcher(**s).problems(one)]


# --- the manifests


@pytest.mark.parametrize("settings", [PLAIN, FULL], ids=["plain", "full"])
def test_the_published_schemas_know_every_field(work: Path, settings: dict[str, Any]) -> None:
    files, rayjob = manifests(of_store(work, named=False), **settings)
    assert (mistakes(files), mistakes(rayjob)) == ([], [])


def example() -> Any:
    """infra/kubernetes/rayjob.yaml's RayJob."""
    path = Path(__file__).parents[2] / "infra" / "kubernetes" / "rayjob.yaml"
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))[1]


def cluster(rayjob: Any) -> Any:
    return rayjob["spec"]["rayClusterSpec"]


def head(rayjob: Any) -> Any:
    return cluster(rayjob)["headGroupSpec"]


def workers(rayjob: Any) -> Any:
    (group,) = cluster(rayjob)["workerGroupSpecs"]
    return group


def pod(rayjob: Any, *, head: bool = False) -> Any:
    group = cluster(rayjob)["headGroupSpec"] if head else workers(rayjob)
    return group["template"]["spec"]


Spoil = Callable[[Any], Any]

SPOILT: list[tuple[str, Spoil]] = [
    # a name misspelt, or nobody's
    ("ttlSecondAfterFinished", lambda job: job["spec"].update(ttlSecondAfterFinished=1)),
    ("schedule", lambda job: job["spec"].update(schedule="@daily")),  # left KubeRay before 1.6
    ("suspended", lambda job: cluster(job).update(suspended=True)),
    ("tokenSecret", lambda job: cluster(job)["authOptions"].update(tokenSecret="x")),
    ("replica'", lambda job: workers(job).update(replica=1)),
    ("rayStartParameters", lambda job: head(job).update(rayStartParameters={})),
    ("claim'", lambda job: volume(job)["persistentVolumeClaim"].update(claim="x")),
    ("secretKeyReference", lambda job: first_secret(job).update(secretKeyReference={})),
    ("limit'", lambda job: pod(job)["containers"][0]["resources"].update(limit={})),
    ("label'", lambda job: job["metadata"].update(label={})),
    ("ownerReferences", lambda job: head(job)["template"].update(metadata={"ownerReferences": []})),
    # a wrong type
    ("backoffLimit", lambda job: job["spec"].update(backoffLimit="3")),
    ("shutdownAfterJobFinishes", lambda job: job["spec"].update(shutdownAfterJobFinishes="yes")),
    ("rayVersion", lambda job: cluster(job).update(rayVersion=2.6)),
    ("num-cpus", lambda job: head(job).update(rayStartParams={"num-cpus": 0})),
    ("workerGroupSpecs", lambda job: cluster(job).update(workerGroupSpecs={})),
    ("replicas", lambda job: workers(job).update(replicas=1.5)),
    ("maxReplicas", lambda job: workers(job).update(maxReplicas=2**31)),
    ("labels", lambda job: job["metadata"]["labels"].update(x=1)),
    # a value that is none
    ("submissionMode", lambda job: job["spec"].update(submissionMode="K8SJobMode")),
    ("mode", lambda job: cluster(job)["authOptions"].update(mode="Token")),
    ("preRunningDeadlineSeconds", lambda job: job["spec"].update(preRunningDeadlineSeconds=0)),
    ("managedBy", lambda job: job["spec"].update(managedBy="kueue")),
    # something missing
    ("rayClusterSpec", lambda job: job["spec"].pop("rayClusterSpec")),
    ("headGroupSpec", lambda job: cluster(job).pop("headGroupSpec")),
    ("template", lambda job: head(job).pop("template")),
    ("containers", lambda job: head(job)["template"]["spec"].pop("containers")),
    ("spec", lambda job: workers(job)["template"].pop("spec")),
    ("groupName", lambda job: workers(job).pop("groupName")),
    ("minReplicas", lambda job: workers(job).pop("minReplicas")),
    ("maxReplicas", lambda job: workers(job).pop("maxReplicas")),
    # what the operator takes for no valid RayJob
    ("47 characters", lambda job: job["metadata"].update(name="a" * 48)),
    ("DNS-1035", lambda job: job["metadata"].update(name="7-sweeps")),
    ("DNS-1035", lambda job: job["metadata"].update(name="my.sweep")),
    ("should not be valid", lambda job: cluster(job)["authOptions"].update(
        enableK8sTokenAuth=True)),
    ("should not be valid", lambda job: cluster(job).update(upgradeStrategy={"type": "None"})),
    ("rayVersion", lambda job: cluster(job).pop("rayVersion")),
    ("2.52", lambda job: cluster(job).update(rayVersion="2.51.1")),
    ("ttlSecondsAfterFinished", lambda job: job["spec"].pop("shutdownAfterJobFinishes")),
    ("minReplicas 9", lambda job: workers(job).update(minReplicas=9)),
    ("negative", lambda job: workers(job).update(minReplicas=-1)),
    ("num-cpus", lambda job: head(job).update(resources={"CPU": "0"})),
    ("labels", lambda job: head(job).update(rayStartParams={"labels": "a=b"})),
    ("should be non-empty", lambda job: pod(job).update(containers=[])),
]  # fmt: skip


def volume(rayjob: Any) -> Any:
    return pod(rayjob)["volumes"][0]


def first_secret(rayjob: Any) -> Any:
    return pod(rayjob)["containers"][0]["env"][1]["valueFrom"]


@pytest.mark.parametrize("of", ["printed", "example"])
@pytest.mark.parametrize(
    ("word", "spoil"), SPOILT, ids=[f"{i}-{w}" for i, (w, _) in enumerate(SPOILT)]
)
def test_the_check_is_strict(work: Path, of: str, word: str, spoil: Spoil) -> None:
    rayjob = manifests(of_store(work))[1] if of == "printed" else example()
    assert mistakes(rayjob) == []
    spoil(rayjob)
    (found,) = mistakes(rayjob)
    assert word in found


def test_a_suspended_job_ends_its_cluster(work: Path) -> None:
    rayjob = manifests(of_store(work), **FULL)[1]
    rayjob["spec"].update(shutdownAfterJobFinishes=False, ttlSecondsAfterFinished=0)
    (found,) = mistakes(rayjob)
    assert "suspend" in found


def test_the_strict_check_of_the_files(work: Path) -> None:
    files = manifests(of_store(work))[0]
    files["datas"] = {}
    assert "datas" in mistakes(files)[0]


def test_a_worker_group_as_the_profile_says(work: Path) -> None:
    rayjob = manifests(of_store(work), **FULL)[1]
    spec, group = rayjob["spec"], workers(rayjob)
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    amounts = {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2"}
    worker, head = pod(rayjob), pod(rayjob, head=True)
    assert worker["containers"][0]["resources"] == {"limits": amounts, "requests": amounts}
    assert "nvidia.com/gpu" not in head["containers"][0]["resources"]["limits"]
    assert cluster(rayjob)["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert worker["nodeSelector"] == {"gpu": "a100"}
    assert worker["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert "tolerations" not in head
    for spec_of in (worker, head):
        assert spec_of["serviceAccountName"] == "trainer"
        assert spec_of["imagePullSecrets"] == [{"name": "registry"}]
        assert "securityContext" not in spec_of
    assert (spec["backoffLimit"], spec["preRunningDeadlineSeconds"]) == (5, 900)
    assert (spec["shutdownAfterJobFinishes"], spec["ttlSecondsAfterFinished"]) == (True, 60)
    assert spec["suspend"] is True
    assert rayjob["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert rayjob["metadata"]["namespace"] == "lab"
    assert cluster(rayjob)["authOptions"] == {"mode": "token"}


def test_storage_in_a_bucket_needs_no_claim(work: Path) -> None:
    one = dataclasses.replace(of_store(work, named=False), root="s3://b/x")
    assert launcher(claim=None).problems(one) == []
    files, rayjob = manifests(one, claim=None)
    assert (mistakes(files), mistakes(rayjob)) == ([], [])
    for spec in (pod(rayjob), pod(rayjob, head=True)):
        assert [volume["name"] for volume in spec["volumes"]] == ["sent"]
        (container,) = spec["containers"]
        assert [mount["name"] for mount in container["volumeMounts"]] == ["sent"]
        keys = {each["name"]: each.get("valueFrom") for each in container["env"]}
        assert keys["AWS_SECRET_ACCESS_KEY"] == {
            "secretKeyRef": {"name": "mlflow", "key": "AWS_SECRET_ACCESS_KEY", "optional": True}
        }
    assert "--dir s3://b/x " in files["data"]["run.sh"]
    (problem,) = launcher().problems(one)
    assert str(problem) == "claim: would be mounted nowhere: storage is a URL (take one away)"
    assert "AWS_SECRET_ACCESS_KEY" not in launcher().render(of_store(work))


def test_a_claim_is_not_mounted_over_the_image(work: Path) -> None:
    of_all = dataclasses.replace(of_store(work), root=Path("/"))
    (problem,) = launcher().problems(of_all)
    assert str(problem).startswith("storage: is /, and a claim that is mounted there hides all")
    assert launcher().problems(dataclasses.replace(of_all, root=Path("/sweeps"))) == []


def test_without_a_queue_it_starts_at_once(work: Path) -> None:
    rayjob = manifests(of_store(work))[1]
    assert "suspend" not in rayjob["spec"]
    assert list(rayjob["metadata"]["labels"]) == ["app.kubernetes.io/name"]
    assert pod(rayjob)["securityContext"] == {"fsGroup": 1000}


def test_the_command_goes_on_where_the_sweep_stands(work: Path) -> None:
    one = of_store(work, overrides=["space.model.clip={grid: [0.01, 0.05]}"])
    files, rayjob = manifests(one, python="/opt/py thon")
    assert rayjob["spec"]["entrypoint"] == "sh /etc/gansweep/run.sh"
    assert shlex.split(files["data"]["run.sh"]) == [
        "exec", "/opt/py thon", "-P", "-m", "gansweep.cli", "run", "/etc/gansweep/sweep/file.yaml",
        "space.model.clip={grid: [0.01, 0.05]}", "--dir", "/sweeps",
        "--tracking-uri", "http://mlflow:5000", "--address", "auto",
    ]  # fmt: skip
    for spec in (pod(rayjob), pod(rayjob, head=True)):
        mounts = {m["name"]: m["mountPath"] for m in spec["containers"][0]["volumeMounts"]}
        assert mounts == {"storage": "/sweeps", "sent": "/etc/gansweep"}
        claim, sent = spec["volumes"]
        assert claim["persistentVolumeClaim"] == {"claimName": "sweeps"}
        assert sent["configMap"]["name"] == files["metadata"]["name"]
        paths = {item["path"]: item["key"] for item in sent["configMap"]["items"]}
        assert set(paths) == {"run.sh", "sweep/file.yaml"}
        assert files["data"][paths["sweep/file.yaml"]] == TEXT


def test_a_pod_finds_the_sweep_as_it_was(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The volume laid out as a node does it, and the script run there with a stand-in of Python."""
    monkeypatch.setattr(kubernetes, "SENT", str(tmp_path / "sent"))
    (work / "own").mkdir()
    (work / "base.yaml").write_text(TEXT)
    (work / "own" / "mine.yaml").write_text("name: mine\nbase: ../base.yaml\nseeds: 2")
    sweep = load_sweep(work / "own" / "mine.yaml", ["budget.g_steps=3"])
    one = dataclasses.replace(of_store(work), sweep=sweep)
    python = executable(tmp_path / "bin" / "py", '#!/bin/sh\nprintf "%s\\n" "$@" >"$0.args"')
    files, rayjob = manifests(one, python=str(python))
    for item in pod(rayjob, head=True)["volumes"][1]["configMap"]["items"]:
        path = tmp_path / "sent" / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files["data"][item["key"]])
    subprocess.run(shlex.split(rayjob["spec"]["entrypoint"]), check=True)
    words = Path(f"{python}.args").read_text().splitlines()
    assert words[:4] == ["-P", "-m", "gansweep.cli", "run"]
    assert words[5:] == [
        "budget.g_steps=3", "--dir", "/sweeps", "--tracking-uri", "http://mlflow:5000",
        "--address", "auto",
    ]  # fmt: skip
    there = load_sweep(Path(words[4]), [words[5]])
    assert (there.name, there.tree) == ("mine", sweep.tree)


def test_the_store_of_the_secret_is_named_by_reference(work: Path) -> None:
    def environment(rayjob: Any) -> dict[str, Any]:
        return {
            entry["name"]: entry.get("valueFrom", {}).get("secretKeyRef")
            for entry in pod(rayjob, head=True)["containers"][0]["env"]
        }

    files, rayjob = manifests(of_store(work, uri="sqlite:////here/mlflow.db", named=False))
    assert "tracking-uri" not in files["data"]["run.sh"]
    found = environment(rayjob)
    assert found["MLFLOW_TRACKING_URI"] == {"name": "mlflow", "key": "MLFLOW_TRACKING_URI"}
    assert found["MLFLOW_TRACKING_PASSWORD"] == {
        "name": "mlflow", "key": "MLFLOW_TRACKING_PASSWORD", "optional": True,
    }  # fmt: skip
    files, rayjob = manifests(of_store(work, named=True))
    assert "--tracking-uri http://mlflow:5000" in files["data"]["run.sh"]
    assert "MLFLOW_TRACKING_URI" not in environment(rayjob)
    assert list(environment(manifests(of_store(work), secret=None)[1])) == ["PYTHONPATH"]


def test_own_code_travels(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(work))
    package = work / "mykube"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "blob.bin").write_bytes(b"\xff\xfe")
    (package / "models.py").write_text(
        "from gansweep.modules.wgan import WGAN\nclass Mine(WGAN): pass\n"
    )
    try:
        content = text()
        one = of_store(work, content.replace("name: wgan", "name: mykube.models:Mine"))
        files, rayjob = manifests(one)
    finally:
        for name in ("mykube", "mykube.models"):
            sys.modules.pop(name, None)
    paths = {i["path"]: i["key"] for i in pod(rayjob)["volumes"][1]["configMap"]["items"]}
    assert {"mykube/__init__.py", "mykube/models.py", "mykube/blob.bin"} <= set(paths)
    assert files["binaryData"] == {paths["mykube/blob.bin"]: "//4="}
    assert pod(rayjob)["containers"][0]["env"][0] == {
        "name": "PYTHONPATH",
        "value": "/etc/gansweep",
    }
    assert mistakes(files) == []


def test_names_are_kubernetes(work: Path) -> None:
    name = manifests(of_store(work, text(name="My_" + "long" * 15)))[1]["metadata"]["name"]
    assert name.startswith("gansweep-my-longlong")
    assert len(name) <= 47
    assert kubernetes.NAME.fullmatch(name)
    again, other = (
        manifests(of_store(work, overrides=[f"seeds={n}"]))[1]["metadata"]["name"] for n in (1, 2)
    )
    assert again != other
    assert again == manifests(of_store(work, overrides=["seeds=1"]))[0]["metadata"]["name"]


# --- what is wrong with it


def test_what_a_profile_cannot_mean(work: Path) -> None:
    assert problems(work) == problems(work, **FULL) == []
    found = problems(work, image=None, claim=None, memory="lots", namespace="My Lab")
    assert [line.partition(":")[0] for line in found] == ["image", "claim", "namespace", "memory"]
    assert "infra/docker" in found[0]
    assert problems(work, image="a b") == ["image: is 'a b' (REGISTRY/NAME:TAG)"]
    assert problems(work, memory="0Gi", head_memory="0.5Gi") == [
        "memory: is '0Gi', no amount of Kubernetes' (as 16Gi)"
    ]


def test_labels_taints_and_gpus_have_names(work: Path) -> None:
    """Which no schema of KubeRay's looks at: the pods would fail to be made, one after another."""
    good = {
        "gpu": "amd.com/gpu", "tolerations": ["dedicated", "lab.org/a_b.c"],
        "node_selector": {"zone": "3", "lab.org/kind": "a100", "empty": ""},
    }  # fmt: skip
    assert problems(work, **good) == []
    bad = {
        "gpu": "nvidia com", "tolerations": ["ok", "key=value"],
        "node_selector": {"a b": "1", "kind": "two words", "long": "x" * 64},
    }  # fmt: skip
    assert [line.partition(" (")[0] for line in problems(work, **bad)] == [
        "gpu: is 'nvidia com', no key of Kubernetes'",
        "tolerations[1]: is 'key=value', no key of Kubernetes'",
        "node_selector['a b']: is 'a b', no key of Kubernetes'",
        "node_selector: kind is 'two words', no value of a label",
        f"node_selector: long is '{'x' * 64}', no value of a label",
    ]


def test_a_trial_fits_a_worker(work: Path) -> None:
    content = text(resources={"cpu": 4, "gpu": 0.5})
    assert problems(work, content, cpus=4, gpus_per_node=1) == []
    assert problems(work, content, cpus=3) == [
        "resources.cpu: a trial takes 4, a worker of the job has 3 (raise it in the profile)",
        "resources.gpu: a trial takes 0.5, a worker of the job has 0 (raise it in the profile)",
    ]


@pytest.mark.parametrize("uri", ["sqlite:////here/mlflow.db", "http://localhost:5000"])
def test_a_store_of_this_machine_is_for_no_pod(work: Path, uri: str) -> None:
    (found,) = problems(work, uri=uri)
    assert found.startswith("tracking uri: ")
    assert "secret:" in found
    assert len(problems(work, uri=uri, secret=None, named=False)) == 1
    assert problems(work, uri=uri, named=False) == []  # the Secret names another


def test_data_of_this_machine_is_for_no_pod(work: Path) -> None:
    import numpy as np

    np.savez(work / "own.npz", images=np.zeros((200, 8, 8), np.uint8))
    content = TEXT.replace("{name: ring8, n: 1000}", "{name: npz, path: own.npz}")
    (found,) = problems(work, content)
    assert found.startswith("data.path: 'own.npz' is a relative path")
    assert "/sweeps/data" in found


def test_a_config_map_is_small(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "BUNDLE_BYTES", len(TEXT))
    assert problems(work) == []
    monkeypatch.setattr(kubernetes, "BUNDLE_BYTES", len(TEXT) - 1)
    (found,) = problems(work)
    assert "image" in found


# --- kubectl

KUBECTL = """#!/usr/bin/env python3
import json, pathlib, sys
stage = pathlib.Path(__file__).parent
words = sys.argv[1:]
verb = next(word for word in words if not word.startswith("-"))
with open(stage / ("asked" if verb == "config" else "calls"), "a") as file:
    file.write(json.dumps([words, sys.stdin.read() if "-f" in words else ""]) + "\\n")
what = words[words.index(verb) + 1] if verb == "get" else verb
answers = json.loads((stage / "answers").read_text())
turn = sum(1 for line in open(stage / "calls")) if verb != "config" else 0
out, err, code = answers.get(f"{what} {turn}", answers.get(what, ["", "", 0]))
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


class Stage:
    """A folder with a kubectl that says what it is told to, and notes how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        executable(folder / "kubectl", KUBECTL)
        self.answers: dict[str, tuple[str, str, int]] = {}
        self.says()

    def says(self, what: str = "", out: object = "", err: str = "", code: int = 0) -> None:
        self.answers[what] = (out if isinstance(out, str) else json.dumps(out), err, code)
        (self.folder / "answers").write_text(json.dumps(self.answers))

    @property
    def calls(self) -> list[tuple[list[str], str]]:
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [tuple(json.loads(line)) for line in lines]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:/usr/bin:/bin")
    return Stage(folder)


def test_the_job_and_its_files_belong_to_each_other(work: Path, stage: Stage) -> None:
    stage.says("create", {"metadata": {"uid": "u-1"}})
    stage.says("create 2", {"metadata": {"uid": "u-2"}})
    one = of_store(work)
    submitted = launcher(namespace="lab", context="big").submit(one)
    (first, files), (second, sent), (third, _) = stage.calls
    there = ["--context=big", "--namespace=lab"]
    assert first == second == [*there, "create", "-f", "-", "-o", "json"]
    assert third[:-1] == [*there, "patch", "configmap", submitted.id, "--type=merge"]
    assert json.loads(third[-1].removeprefix("--patch=")) == {
        "metadata": {
            "ownerReferences": [
                {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": submitted.id, "uid": "u-2"}
            ]
        }
    }
    rayjob, config = yaml.safe_load(sent), yaml.safe_load(files)
    assert rayjob["metadata"]["name"] == config["metadata"]["name"] == submitted.id
    assert (mistakes(rayjob), mistakes(config)) == ([], [])
    assert rayjob["metadata"].pop("ownerReferences") == [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": submitted.id, "uid": "u-1"}
    ]
    (printed,) = [m for m in manifests(one, namespace="lab") if m["kind"] == "RayJob"]
    shown = json.dumps(printed).replace(printed["metadata"]["name"], submitted.id)
    assert json.loads(shown) == rayjob  # what --dry-run prints, but for its name and its owner


REFUSALS = [
    (
        'Error from server (Forbidden): error when creating "STDIN": rayjobs.ray.io is forbidden: '
        'User "me" cannot create resource "rayjobs" in API group "ray.io" in the namespace "lab"',
        "Role",
    ),
    ('Error from server (NotFound): error when creating "STDIN": namespaces "lab" not found',
     "namespace:"),
    ('error: resource mapping not found for name: "x" namespace: "" from "STDIN": no matches for '
     'kind "RayJob" in version "ray.io/v1"\nensure CRDs are installed first', "KubeRay operator"),
    ('Error from server (BadRequest): error when creating "STDIN": RayJob in version "v1" cannot '
     'be handled as a RayJob: strict decoding error: unknown field "spec.preRunningDeadline"',
     "older than 1.6"),
    ('E1123 18:26:27.481611    6445 memcache.go:265] "Unhandled Error" err="couldn\'t get"\n'
     "The connection to the server localhost:8080 was refused - did you specify the right host?",
     "get-contexts"),
    ('error: error validating "STDIN": error validating data: failed to download openapi: Get '
     '"http://localhost:8080/openapi/v2?timeout=32s": dial tcp 127.0.0.1:8080: connect: connection '
     "refused; if you choose to ignore these errors, turn validation off with --validate=false",
     "get-contexts"),
    ('error: error validating "STDIN": error validating data: failed to download openapi: the '
     "server has asked for the client to provide credentials; if you choose to ignore these "
     "errors, turn validation off with --validate=false", "log in"),
    ("error: You must be logged in to the server (the server has asked for the client to provide "
     "credentials)", "log in"),
    ("Unable to connect to the server: tls: failed to verify certificate: x509: certificate signed "
     "by unknown authority", "right cluster"),
    ('error: context "big" does not exist', "context: in the profile"),
    ("error: You must be logged in to the server (Unauthorized)", "log in"),
    ('Error from server (Forbidden): error when creating "STDIN": pods "x" is forbidden: exceeded '
     "quota: gpus", "fewer workers"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "remedy"), REFUSALS)
def test_refusals_are_told_with_a_remedy(work: Path, stage: Stage, words: str, remedy: str) -> None:
    stage.says("create", "", words, 1)
    with pytest.raises(ConfigError) as caught:
        launcher().submit(of_store(work))
    (problem,) = caught.value.problems
    assert problem.where == "kubectl"
    assert "memcache" not in problem.what
    assert "STDIN" not in problem.what or "from" in problem.what
    assert remedy in problem.remedy


def test_without_kubectl(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match=r"no kubectl .*--dry-run"):
        launcher().submit(of_store(work))
    with pytest.raises(ConfigError, match="no kubectl"):
        launcher().cancel(Submitted("x"))


def status(deployment: str, **others: Any) -> dict[str, Any]:
    return {"spec": {}, "status": {"jobDeploymentStatus": deployment, **others}}


STATES = [
    ({"spec": {}}, JobState("waiting", "the KubeRay operator has not seen it yet")),
    (status("Initializing"), JobState("waiting", "initializing")),
    (status("Running", jobStatus="RUNNING"), JobState("running")),
    (status("Complete", jobStatus="SUCCEEDED"), JobState("done", "", 0)),
    (status("Complete", jobStatus="STOPPED"), JobState("cancelled")),
    (
        status("Failed", jobStatus="FAILED", reason="AppFailed",
               message="Job entrypoint command failed with exit code 2, last available logs"),
        JobState("failed", "AppFailed: Job entrypoint command failed with exit code 2, last "
                 "available logs", 2),
    ),
    (status("Retrying"), JobState("waiting", "retrying")),
    (status("Hovering"), JobState("unknown", "Hovering")),
]  # fmt: skip


@pytest.mark.parametrize(("said", "state"), STATES)
def test_states(stage: Stage, said: dict[str, Any], state: JobState) -> None:
    stage.says("rayjob", said)
    assert launcher().state(Submitted("x")) == state
    assert stage.calls[0][0] == ["get", "rayjob", "x", "-o", "json"]


def test_a_job_that_never_started(stage: Stage) -> None:
    stage.says("rayjob", status("Failed", reason="PreRunningDeadlineExceeded", message="too long"))
    found = launcher().state(Submitted("x"))
    assert found.phase == "failed"
    assert "ready_seconds:" in found.reason


def test_a_job_in_the_queue(stage: Stage) -> None:
    stage.says("rayjob", {**status("Suspended"), "spec": {"suspend": True}})
    assert launcher(queue="team").state(Submitted("x")) == JobState("waiting", "in the queue team")
    assert launcher().state(Submitted("x")) == JobState("waiting", "suspended")


def test_a_job_that_is_gone_and_a_cluster_that_is(stage: Stage) -> None:
    stage.says("rayjob", "", 'Error from server (NotFound): rayjobs.ray.io "x" not found', 1)
    assert launcher().state(Submitted("x")).phase == "forgotten"  # another cluster may have it
    stage.says("rayjob", "", 'Error from server (NotFound): namespaces "lab" not found', 1)
    with pytest.raises(ConfigError, match="namespace: in the profile") as caught:
        launcher().state(Submitted("x"))
    assert not isinstance(caught.value, AwayError)
    stage.says("rayjob", "", "Unable to connect to the server: dial tcp: i/o timeout", 1)
    with pytest.raises(AwayError, match="i/o timeout"):
        launcher().state(Submitted("x"))


def waiting(reason: str, message: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"status": {"containerStatuses": [{"state": state}]}}


UNSCHEDULABLE = {
    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
}  # fmt: skip

PODS = [
    (
        waiting("ImagePullBackOff", 'Back-off pulling image "registry/gansweep:1": not found'),
        'ImagePullBackOff: Back-off pulling image "registry/gansweep:1": not found; '
        "image: and pull_secrets: in the profile",
    ),
    (
        waiting("CreateContainerConfigError", 'secret "mlflow" not found'),
        'CreateContainerConfigError: secret "mlflow" not found; is the Secret there? '
        "secret: in the profile",
    ),
    (
        {"status": {"conditions": [UNSCHEDULABLE]}},
        "Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.; "
        "cpus:, gpus_per_node:, memory:, tolerations: in the profile",
    ),
    (waiting("ContainerCreating", ""), "initializing"),
]


@pytest.mark.parametrize(("pod", "reason"), PODS)
def test_what_keeps_the_pods_waiting(stage: Stage, pod: dict[str, Any], reason: str) -> None:
    stage.says("rayjob", status("Initializing", rayClusterName="x-abc"))
    stage.says("pods", {"items": [{"status": {}}, pod]})
    assert launcher().state(Submitted("x")) == JobState("waiting", reason)
    assert stage.calls[1][0] == ["get", "pods", "-l", "ray.io/cluster=x-abc", "-o", "json"]


def event(name: str, reason: str, message: str, at: str) -> dict[str, Any]:
    return {
        "involvedObject": {"kind": "Pod", "name": name}, "type": "Warning", "reason": reason,
        "message": message, "lastTimestamp": at,
    }  # fmt: skip


PULL = 'Failed to pull image "registry/gansweep:1": not found'
EVENTS = [
    event("x-abc-head-q1", "FailedMount", "MountVolume.SetUp failed", "2026-01-01T00:00:01Z"),
    event("x-abc-worker-q2", "Failed", PULL, "2026-01-01T00:00:09Z"),
    event("other-worker", "FailedScheduling", "no room", "2026-01-01T00:00:10Z"),
]


def test_an_image_that_cannot_be_pulled_in_the_words_of_events(stage: Stage) -> None:
    """Where the pods themselves say nothing, or are gone."""
    told = f"Failed: {PULL}; image: and pull_secrets: in the profile"
    stage.says("rayjob", status("Initializing", rayClusterName="x-abc"))
    stage.says("pods", {"items": []})
    stage.says("events", {"items": EVENTS})
    assert launcher().state(Submitted("x")) == JobState("waiting", told)
    words = ["get", "events", "--field-selector=type=Warning", "-o", "json"]
    assert stage.calls[-1][0] == words
    over = {"reason": "PreRunningDeadlineExceeded", "message": "too long"}
    stage.says("rayjob", status("Failed", rayClusterName="x-abc", **over))
    found = launcher().state(Submitted("x"))
    assert found.phase == "failed"
    assert found.reason.endswith(f"ready_seconds:; {told}")
    stage.says("events", "", "Error from server (Forbidden): events is forbidden", 1)
    assert launcher().state(Submitted("x")).reason.endswith("ready_seconds:")
    stage.says("events", {"items": EVENTS[:1]})
    assert "are claim: and secret: of the profile there?" in launcher().state(Submitted("x")).reason


@pytest.mark.usefixtures("clock")
def test_logs_say_why_there_are_none(
    gansweep: Callable[..., tuple[int, str, str]],
    profile: Callable[..., str],
    stage: Stage,
    work: Path,
) -> None:
    (work / "file.yaml").write_text(TEXT)
    profile("kube", "to: kubernetes\nimage: i\nclaim: c\nsecret: s\nstart_seconds: 7")
    stage.says("create", {"metadata": {"uid": "u-1"}})
    gansweep("submit", "file.yaml", "--profile", "kube")
    stage.says("rayjob", status("Initializing", rayClusterName="x-abc"))
    stage.says("pods", {"items": [waiting("ImagePullBackOff", "Back-off pulling image")]})
    code, out, err = gansweep("logs", "small")
    assert (code, out) == (0, "")
    assert "waiting (ImagePullBackOff: Back-off pulling image; image: and pull_secrets:" in err
    code, out, err = gansweep("logs", "small", "--follow")
    assert (code, out) == (2, "")
    assert err.count(": waiting (ImagePullBackOff") == 2  # once as it waits, once at the end
    assert "has not started within 7 s" in err
    assert "`gansweep cancel gansweep-small-" in err


@pytest.mark.usefixtures("clock")
def test_a_passing_error_of_the_network_does_not_end_the_following(
    gansweep: Callable[..., tuple[int, str, str]],
    profile: Callable[..., str],
    stage: Stage,
    work: Path,
) -> None:
    (work / "file.yaml").write_text(TEXT)
    profile("kube", "to: kubernetes\nimage: i\nclaim: c\nsecret: s")
    stage.says("create", {"metadata": {"uid": "u-1"}})
    gansweep("submit", "file.yaml", "--profile", "kube")
    away = "Unable to connect to the server: dial tcp 10.0.0.1:443: i/o timeout"
    asked = len(stage.calls)
    stage.says("rayjob", status("Complete"))
    stage.says(f"rayjob {asked + 1}", status("Running"))
    stage.says("logs", "the table\n")
    stage.says(f"logs {asked + 2}", "", away, 1)  # the first look at its output
    stage.says(f"rayjob {asked + 3}", "", away, 1)  # the second at the job
    code, out, err = gansweep("logs", "small", "--follow")
    assert (code, out) == (0, "the table\n")
    first, second = err.splitlines()
    assert f": unknown (kubectl: {away} (is the right cluster chosen" in first
    assert first.endswith("; asked again for up to 600 s)")
    assert second.endswith(": done, exit code 0")


def test_who_may_not_look_is_told_at_once(
    gansweep: Callable[..., tuple[int, str, str]],
    profile: Callable[..., str],
    stage: Stage,
    work: Path,
) -> None:
    (work / "file.yaml").write_text(TEXT)
    profile("kube", "to: kubernetes\nimage: i\nclaim: c\nsecret: s")
    stage.says("create", {"metadata": {"uid": "u-1"}})
    gansweep("submit", "file.yaml", "--profile", "kube")
    stage.says("rayjob", "", 'Error from server (Forbidden): User "me" cannot get "rayjobs"', 1)
    code, out, err = gansweep("logs", "small", "--follow")
    assert (code, out) == (2, "")
    assert "cannot get" in err
    assert "infra/kubernetes/README.md" in err


def test_the_log_is_read_on(stage: Stage) -> None:
    stage.says("logs", "one\n")
    assert launcher().log(Submitted("x"), 0) == ("one\n", 4)
    stage.says("logs", "one\ntwo\n")
    assert launcher().log(Submitted("x"), 4) == ("two\n", 8)
    assert stage.calls[0][0] == ["logs", "-l", "job-name=x", "--tail=-1", "--ignore-errors"]


def test_the_log_of_a_job_that_is_run_again_begins_anew(stage: Stage) -> None:
    """KubeRay has removed the pod before, and its output with it."""
    stage.says("logs", "one\ntwo\n")
    assert launcher().log(Submitted("x"), 4) == ("two\n", 8)
    stage.says("logs", "")  # no pod is there for a while
    assert launcher().log(Submitted("x"), 8) == ("", 8)
    stage.says("logs", "one\n")
    assert launcher().log(Submitted("x"), 8) == ("one\n", 4)
    stage.says("logs", "one\nthree\n")
    assert launcher().log(Submitted("x"), 4) == ("three\n", 10)


@pytest.mark.parametrize(
    "words",
    [
        'Error from server (BadRequest): container "r" in pod "x-1" is waiting to start: '
        "ContainerCreating",
        'Error from server (NotFound): pods "x-1" not found',
    ],
)
def test_a_pod_that_has_not_begun_has_no_output(stage: Stage, words: str) -> None:
    stage.says("logs", "", words, 1)
    assert launcher().log(Submitted("x"), 0) == ("", 0)
    assert launcher().log(Submitted("x"), 7) == ("", 7)
    # A newer kubectl says it as if it were output; another pod's may follow.
    stage.says("logs", f"error: {words}\n")
    assert launcher().log(Submitted("x"), 0) == ("", 0)
    stage.says("logs", f"error: {words}\nerror: our own\nstep 1\n")
    assert launcher().log(Submitted("x"), 0) == ("error: our own\nstep 1\n", 22)
    assert launcher().log(Submitted("x"), 15) == ("step 1\n", 22)
    stage.says("logs", "", "exec: gke-gcloud-auth-plugin: executable file not found", 1)
    with pytest.raises(ConfigError, match="auth-plugin"):
        launcher().log(Submitted("x"), 0)
    stage.says("logs", "", 'Error from server (Forbidden): pods "x-1" is forbidden', 1)
    with pytest.raises(ConfigError, match="forbidden"):
        launcher().log(Submitted("x"), 0)


def test_a_job_is_cancelled_by_its_end(stage: Stage) -> None:
    launcher(namespace="lab").cancel(Submitted("x"))
    ((words, _),) = stage.calls
    assert words == [
        "--namespace=lab",
        "delete",
        "rayjob,configmap",
        "x",
        "--wait=false",
        "--ignore-not-found",
    ]


# --- in which cluster


def kubeconfig(context: str, **of: str) -> dict[str, Any]:
    """As kubectl shows it under --minify."""
    contexts = [{"name": context, "context": {"cluster": "c", "user": "me", **of}}]
    return {"kind": "Config", "contexts": contexts, "current-context": context}


def test_where_a_job_goes_is_spelt_out(stage: Stage) -> None:
    stage.says("config", kubeconfig("big", namespace="lab"))
    found = launcher().spelt_out().profile
    assert (found.context, found.namespace, found.image) == ("big", "lab", PLAIN["image"])
    stage.says("config", kubeconfig("small"))
    found = launcher(context="small").spelt_out().profile
    assert (found.context, found.namespace) == ("small", "default")
    found = launcher(namespace="mine").spelt_out().profile
    assert (found.context, found.namespace) == ("small", "mine")
    asked = [json.loads(line)[0] for line in (stage.folder / "asked").read_text().splitlines()]
    words = ["config", "view", "--minify", "-o", "json"]
    assert asked == [words, ["--context=small", *words], ["--namespace=mine", *words]]


@pytest.mark.parametrize("said", ["", "error: current-context must exist in order to minify"])
def test_a_pod_that_submits_has_no_context(stage: Stage, said: str) -> None:
    stage.says("config", "", said, 1 if said else 0)
    found = launcher().spelt_out().profile
    assert (found.context, found.namespace) == (None, None)


Gansweep = Callable[..., tuple[int, str, str]]
GONE = 'Error from server (NotFound): rayjobs.ray.io "x" not found'


@pytest.fixture
def kube(profile: Callable[..., str], stage: Stage, work: Path) -> Stage:
    """A project with a profile of that name, that says nothing of a context."""
    (work / "file.yaml").write_text(TEXT)
    profile("kube", "to: kubernetes\nimage: i\nclaim: c\nsecret: s")
    stage.says("create", {"metadata": {"uid": "u-1"}})
    return stage


def test_a_job_is_asked_for_where_it_was_sent(gansweep: Gansweep, kube: Stage) -> None:
    kube.says("config", kubeconfig("big", namespace="lab"))
    assert gansweep("submit", "file.yaml", "--profile", "kube")[0] == 0
    kube.says("config", kubeconfig("small"))  # what kubectl speaks to now
    kube.says("rayjob", status("Running"))
    gansweep("jobs")
    gansweep("logs", "small")
    kube.says("rayjob", "", GONE, 1)
    code, out, _ = gansweep("cancel", "small")
    assert (code, "forgotten" in out) == (0, True)  # there is nothing to end
    assert len(kube.calls) == 7
    for words, _ in kube.calls:
        assert words[:2] == ["--context=big", "--namespace=lab"]


def test_a_job_that_may_be_elsewhere_is_not_cancelled(gansweep: Gansweep, kube: Stage) -> None:
    assert gansweep("submit", "file.yaml", "--profile", "kube")[0] == 0
    kube.says("rayjob", "", GONE, 1)
    code, out, _ = gansweep("cancel", "small")
    assert (code, "it is not in the cluster that kubectl speaks to" in out) == (1, True)


# --- by the command line


def test_from_the_command_line(
    gansweep: Callable[..., tuple[int, str, str]],
    profile: Callable[..., str],
    stage: Stage,
    work: Path,
) -> None:
    (work / "file.yaml").write_text(TEXT)
    profile("kube", "to: kubernetes\nimage: registry/gansweep:1\nclaim: sweeps\nsecret: mlflow")
    code, out, err = gansweep("submit", "file.yaml", "--profile", "kube", "--dry-run")
    assert (code, err, stage.calls) == (0, "", [])
    assert [found["kind"] for found in yaml.safe_load_all(out)] == ["ConfigMap", "RayJob"]
    assert "--dir /sweeps --address auto" in out
    stage.says("create", {"metadata": {"uid": "u-1"}})
    code, out, _ = gansweep("submit", "file.yaml", "--profile", "kube", "--retry-failed")
    assert code == 0
    name = yaml.safe_load(stage.calls[0][1])["metadata"]["name"]
    assert out.splitlines()[0] == f"submitted {name} to kubernetes: 2 trials"
    assert "--retry-failed --address auto" in stage.calls[0][1]
    stage.says("rayjob", status("Complete", jobStatus="SUCCEEDED"))
    assert f"{name}  kubernetes" in gansweep("jobs")[1]
    stage.says("logs", "the table\n")
    assert gansweep("logs", name, "--follow")[:2] == (0, "the table\n")
    code, _, err = gansweep("submit", "file.yaml", "--to", "kubernetes")
    assert code == 2
    assert "image: is required" in err
    assert "claim: is required" in err
