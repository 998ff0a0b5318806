"""Kubernetes: a KubeRay RayJob, whose Ray cluster lives as long as the sweep, sent by kubectl."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import yaml

from gansweep.errors import AwayError, ConfigError, Problem
from gansweep.excerpt import beginning
from gansweep.launch.base import (
    Job,
    JobState,
    Launcher,
    Phase,
    Profile,
    Submitted,
    resource_problems,
)
from gansweep.launch.bundle import Bundle, sweep_bundle, with_own_code
from gansweep.settings import setting
from gansweep.storage import CREDENTIALS, is_url

SENT = "/etc/gansweep"
"""Where the pods see what travels with the job."""

SCRIPT = "run.sh"
"""The command as a file: on its way KubeRay and Ray would each read its quotes once more."""

BUNDLE_BYTES = 900_000
"""Of what travels; a ConfigMap holds 1 MiB."""

NAME_CHARACTERS = 47
"""Of a RayJob's name: KubeRay makes longer names from it."""

ANSWER_SECONDS = 60.0
"""For an answer of kubectl's."""

REASON_CHARACTERS = 300

NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
QUANTITY = re.compile(r"(?=.*[1-9])\d+(\.\d+)?(m|[kMGTPE]i?)?")
VALUE = re.compile(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?")
KEY = re.compile(rf"({NAME.pattern}/)?{VALUE.pattern}")
"""Of labels and taints, and what a GPU is called."""

MLFLOW_CREDENTIALS = (
    "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN",
)  # fmt: skip
"""Keys that the Secret may have."""

PHASES: dict[str, Phase] = {
    "": "waiting",
    "Initializing": "waiting",
    "Waiting": "waiting",
    "Scheduling": "waiting",
    "Scheduled": "waiting",
    "Suspending": "waiting",
    "Suspended": "waiting",
    "Retrying": "waiting",
    "Running": "running",
    "Complete": "done",
    "Failed": "failed",
    "ValidationFailed": "failed",
}
"""By the RayJob's jobDeploymentStatus."""

REMEDIES = (
    ("no matches for kind", "the cluster has no KubeRay operator: infra/kubernetes/README.md"),
    ("unknown field", "the cluster's KubeRay is older than 1.6: upgrade its operator and CRDs"),
    ("forbidden: exceeded quota", "ask for fewer workers, cores or GPUs"),
    ("forbidden", "ask for the Role of infra/kubernetes/README.md; `kubectl auth can-i --list`"),
    ("namespaces", "namespace: in the profile; `kubectl get namespaces` lists them"),
    ('context "', "context: in the profile; `kubectl config get-contexts` lists them"),
    ("was refused", "is the right cluster chosen? `kubectl config get-contexts`"),
    ("unable to connect", "is the right cluster chosen, and reached from here? `kubectl version`"),
    ("no such host", "is the right cluster chosen, and reached from here? `kubectl version`"),
    ("i/o timeout", "is the right cluster chosen, and reached from here? `kubectl version`"),
    ("connection refused", "is the right cluster chosen? `kubectl config get-contexts`"),
    ("x509", "is the right cluster chosen? Its certificate is not one that kubectl trusts"),
    ("logged in", "log in to the cluster again"),
    ("unauthorized", "log in to the cluster again"),
    ("provide credentials", "log in to the cluster again"),
    ("ImagePull", "image: and pull_secrets: in the profile"),
    ("pull image", "image: and pull_secrets: in the profile"),
    ("pulling image", "image: and pull_secrets: in the profile"),
    ("FailedMount", "are claim: and secret: of the profile there? `kubectl get pvc,secret`"),
    ("FailedScheduling", "cpus:, gpus_per_node:, memory:, tolerations: in the profile"),
    ("InvalidImageName", "image: in the profile"),
    ("CreateContainerConfigError", "is the Secret there? secret: in the profile"),
    ("CrashLoopBackOff", "does the image have Ray? `kubectl logs` of the pod says more"),
    ("Unschedulable", "cpus:, gpus_per_node:, memory:, tolerations: in the profile"),
    ("PreRunningDeadlineExceeded", "it never started: `kubectl get events`; ready_seconds:"),
)  # fmt: skip
"""What to do about words of kubectl, of a pod and of a RayJob."""

PASSING = (
    "unable to connect", "was refused", "no such host", "timeout", "timed out", "connection reset",
    "connection lost", "eof", "internalerror", "serviceunavailable", "currently unable",
    "toomanyrequests", "too many requests", "etcdserver", "try again", "leader changed",
)  # fmt: skip
"""Words of kubectl that the same command may not say a moment later."""

NO_OUTPUT_YET = re.compile(
    r"waiting to start|ContainerCreating|PodInitializing|is not available|pods \"\S+\" not found"
)
"""Words of `kubectl logs` where a pod has not begun, or has gone; as its output they are none."""

UNREACHED = ("dial tcp", "was refused", "no such host", "failed to download openapi")
"""Words of kubectl where it had sent nothing: it first asks what a manifest may have."""


@final
class Kubernetes(Launcher):
    """Submits by `kubectl`, to a cluster with the KubeRay operator (1.6 or later)."""

    @final
    @dataclass(frozen=True)
    class Settings(Profile):
        storage: str | None = setting(
            "/sweeps", "folder of plans, logs and checkpoints, where the pods see the claim"
        )
        image: str | None = setting(None, "container image with gansweep, of all pods")
        claim: str | None = setting(
            None,
            "PersistentVolumeClaim of the storage, where that is a folder; ReadWriteMany "
            "unless all is on one machine",
        )
        secret: str | None = setting(
            None,
            "Secret with MLFLOW_TRACKING_URI, and _USERNAME and _PASSWORD, or _TOKEN, and "
            "the keys of the storage, AWS_ACCESS_KEY_ID and the like",
        )
        namespace: str | None = setting(None, "namespace; null: kubectl's")
        context: str | None = setting(None, "kubectl's context; null: the current one")
        service_account: str | None = setting(None, "service account of the pods; null: default")
        pull_secrets: list[str] = setting([], "Secrets that open the image's registry")
        workers: int = setting(1, "worker pods, which train", ge=1)
        cpus: int = setting(2, "cores of each worker", ge=1)
        gpus_per_node: int = setting(0, "GPUs of each worker", ge=0)
        gpu: str = setting("nvidia.com/gpu", "Kubernetes' name of a GPU")
        memory: str = setting("8Gi", "memory of each worker")
        head_cpus: int = setting(2, "cores of the head, which drives and trains nothing", ge=1)
        head_memory: str = setting("8Gi", "memory of the head")
        group: int | None = setting(
            1000, "group that the claim's files are given to; null: as they are", ge=0
        )
        node_selector: dict[str, str] = setting({}, "labels of the workers' machines")
        tolerations: list[str] = setting([], "taints that the workers stand, by key")
        queue: str | None = setting(None, "Kueue's local queue, which says when the job starts")
        restarts: int = setting(3, "how often a failed job is run again, on a new cluster", ge=0)
        ready_seconds: int = setting(1800, "for all pods to start, else the job has failed", ge=1)
        ttl_seconds: int = setting(600, "for which pods and their output stay afterwards", ge=0)

    profile: Settings

    @property
    def place_is_known(self) -> bool:
        return self.profile.context is not None

    def spelt_out(self) -> Kubernetes:
        """With the context and the namespace that kubectl would take now; in a pod it has none."""
        _need_kubectl()
        try:
            said = json.loads(self._kubectl("config", "view", "--minify", "-o", "json"))
            context, (listed, *_) = said["current-context"], said["contexts"]
            namespace = self.profile.namespace or listed["context"].get("namespace", "default")
        except AwayError:
            raise
        except (ConfigError, ValueError, LookupError):  # what is wrong, the first command says
            return self
        return Kubernetes(replace(self.profile, context=context, namespace=namespace))

    def problems(self, job: Job) -> list[Problem]:
        return [
            *self._settings_problems(job),
            *self._resource_problems(job),
            *self._reach_problems(job),
            *self._bundle_problems(job),
        ]

    def _settings_problems(self, job: Job) -> Iterator[Problem]:
        own = self.profile
        if own.image is None:
            remedy = "an image with gansweep: infra/docker/README.md"
            yield Problem("image", "is required", remedy)
        if own.claim is None and not is_url(job.root):
            remedy = "a PersistentVolumeClaim, or storage: s3://...; pods keep no files"
            yield Problem("claim", "is required", remedy)
        if own.claim is not None and is_url(job.root):
            yield Problem("claim", "would be mounted nowhere: storage is a URL", "take one away")
        if own.claim is not None and str(job.root) == "/":
            what = "is /, and a claim that is mounted there hides all that the image has"
            yield Problem("storage", what, "a folder of its own, as /sweeps")
        if own.image is not None and (not own.image or re.search(r"\s", own.image)):
            yield Problem("image", f"is {own.image!r}", "REGISTRY/NAME:TAG")
        names = {
            "claim": own.claim, "secret": own.secret, "namespace": own.namespace,
            "service_account": own.service_account, "queue": own.queue,
            **{f"pull_secrets[{i}]": name for i, name in enumerate(own.pull_secrets)},
        }  # fmt: skip
        for key, given in names.items():
            if given is not None and not NAME.fullmatch(given):
                yield Problem(key, f"is {given!r}, no name of Kubernetes'", "as my-name")
        keys = {
            "gpu": own.gpu,
            **{f"tolerations[{i}]": taint for i, taint in enumerate(own.tolerations)},
            **{f"node_selector[{label!r}]": label for label in own.node_selector},
        }
        for key, given in keys.items():
            if not KEY.fullmatch(given):
                yield Problem(key, f"is {given!r}, no key of Kubernetes'", "as nvidia.com/gpu")
        for label, given in own.node_selector.items():
            if given and not VALUE.fullmatch(given):
                what = f"{label} is {given!r}, no value of a label"
                yield Problem("node_selector", what, "as a100, of at most 63 characters")
        for key, amount in (("memory", own.memory), ("head_memory", own.head_memory)):
            if not QUANTITY.fullmatch(amount):
                yield Problem(key, f"is {amount!r}, no amount of Kubernetes'", "as 16Gi")

    def _resource_problems(self, job: Job) -> Iterator[Problem]:
        own = self.profile
        yield from resource_problems(
            job.sweep.resources,
            cpus=own.cpus,
            gpus=own.gpus_per_node,
            count=own.workers,
            of="worker",
        )

    def _reach_problems(self, job: Job) -> Iterator[Problem]:
        """What is on this machine alone."""
        remedy = "name a server that pods reach: secret:, or tracking_uri:, in the profile"
        if self._says_uri(job):
            if job.uri.startswith("sqlite"):
                yield Problem("tracking uri", f"{job.uri} is a file of this machine", remedy)
            elif job.uri_is_of_this_machine:
                yield Problem("tracking uri", f"{job.uri} is this machine's own", remedy)
        for path in job.local_data():
            what = f"{path!r} is a relative path, which pods do not have"
            claim = "" if is_url(job.root) else f"on the claim, as {job.root}/data, or "
            yield Problem("data.path", what, f"put it {claim}into the image")

    def _bundle_problems(self, job: Job) -> Iterator[Problem]:
        size = sum(source.stat().st_size for source in _bundle(job).files.values())
        if size > BUNDLE_BYTES:
            what = f"and the code that it names are {size} bytes, a ConfigMap holds {BUNDLE_BYTES}"
            yield Problem("the sweep file", what, "install your packages into the image")

    def render(self, job: Job) -> str:
        """Both manifests, under a name made of their contents; a job that is sent has its own."""
        content = yaml.safe_dump(self._manifests(job, "name")).encode()
        name = _name(job, hashlib.sha256(content).hexdigest()[:8])
        return _yaml(*self._manifests(job, name))

    def submit(
        self, job: Job, *, on_id: Callable[[Submitted], None] = lambda job: None
    ) -> Submitted:
        _need_kubectl()
        with tempfile.TemporaryDirectory(prefix="gansweep-") as folder:
            bundle = _bundle(job)
            bundle.write(Path(folder))
            bundle.check(Path(folder), job.sweep.overrides)
        name = _name(job, uuid.uuid4().hex[:8])
        files, rayjob = self._manifests(job, name)
        made = False
        on_id(Submitted(name))
        try:
            # Each owns the other. Of what it owns Kubernetes keeps nothing once the files are gone,
            # whenever it came; and the files are not left behind by a job that is deleted.
            owner = self._made(files)
            made = True
            rayjob["metadata"]["ownerReferences"] = [owner]
            patch = json.dumps({"metadata": {"ownerReferences": [self._made(rayjob)]}})
            with suppress(ConfigError):  # who may not has a job all the same
                self._kubectl("patch", "configmap", name, "--type=merge", f"--patch={patch}")
        except (ConfigError, KeyboardInterrupt) as error:
            if made or _may_be_done(error):
                self._take_back(name, error)
            raise
        return Submitted(name)

    def _made(self, manifest: Mapping[str, Any]) -> dict[str, str]:
        """Have the cluster make it: a reference to it, as the owner of another."""
        made = json.loads(self._kubectl("create", "-f", "-", "-o", "json", input=_yaml(manifest)))
        return {
            "apiVersion": manifest["apiVersion"],
            "kind": manifest["kind"],
            "name": manifest["metadata"]["name"],
            "uid": made["metadata"]["uid"],
        }

    def _take_back(self, name: str, error: BaseException) -> None:
        """Remove the files, and with them the job; ConfigError where they may still be there."""
        try:
            self._kubectl("delete", "configmap", name, "--wait=false", "--ignore-not-found")
        except ConfigError as failed:
            what = "may be there, whole or in part"
            raise ConfigError(
                [
                    *(error.problems if isinstance(error, ConfigError) else ()),
                    *failed.problems,
                    Problem(name, what, f"{self.by_hand(Submitted(name))} ends it"),
                ],
                outcome="something may be left in the cluster",
            ) from None

    def state(self, job: Submitted) -> JobState:
        _need_kubectl()
        try:
            found = json.loads(self._kubectl("get", "rayjob", job.id, "-o", "json"))
        except ConfigError as error:
            what = error.problems[0].what
            if "NotFound" in what and "rayjobs" in what:
                return JobState("forgotten", f"it is not in {self._place()}")
            raise
        status = found.get("status", {})
        word = status.get("jobDeploymentStatus", "")
        phase = PHASES.get(word, "unknown")
        if phase == "done" and status.get("jobStatus") == "STOPPED":
            return JobState("cancelled")
        code = re.search(r"exit code (\d+)", status.get("message", ""))
        if phase == "done":
            return JobState(phase, "", 0)
        if phase == "failed":
            said = _told(status.get("reason", ""), status.get("message", "")) or word
            if not code and (event := self._last_warning(status)):  # its pods may be gone
                said = f"{said}; {event}"
            return JobState(phase, said, int(code.group(1)) if code else None)
        if phase == "waiting":
            return JobState(phase, self._why_waiting(found, word))
        return JobState(phase, word if phase == "unknown" else "")

    def _why_waiting(self, rayjob: Mapping[str, Any], word: str) -> str:
        """What keeps a job from running: its queue, or its pods' own words."""
        if rayjob["spec"].get("suspend"):
            return f"in the queue {self.profile.queue}" if self.profile.queue else "suspended"
        cluster = rayjob.get("status", {}).get("rayClusterName")
        if not cluster:
            return word.lower() or "the KubeRay operator has not seen it yet"
        try:
            said = self._kubectl("get", "pods", "-l", f"ray.io/cluster={cluster}", "-o", "json")
        except ConfigError as error:  # who may not list pods
            return error.problems[0].what
        troubles = [trouble for pod in json.loads(said)["items"] for trouble in _troubles(pod)]
        return troubles[0] if troubles else self._last_warning(rayjob["status"]) or word.lower()

    def _last_warning(self, status: Mapping[str, Any]) -> str:
        """Kubernetes' last words on what the job's cluster is made of; it keeps them for an hour.

        "" where there are none, or we may not ask.
        """
        cluster = status.get("rayClusterName")
        if not cluster:
            return ""
        try:
            said = self._kubectl("get", "events", "--field-selector=type=Warning", "-o", "json")
        except ConfigError:
            return ""
        ours = [
            event
            for event in json.loads(said or "{}").get("items", ())
            if event.get("involvedObject", {}).get("name", "").startswith(cluster)
        ]
        if not ours:
            return ""
        last = max(ours, key=lambda event: event.get("lastTimestamp") or "")
        told = _told(last.get("reason", ""), last.get("message", ""))
        remedy = _remedy(last.get("message", ""))
        return f"{told}; {remedy}" if remedy and not told.endswith(remedy) else told

    def log(self, job: Submitted, after: int) -> tuple[str, int]:
        """What the pod that submits prints: the output of `gansweep run`, kept for ttl_seconds."""
        _need_kubectl()
        try:
            said = self._kubectl("logs", "-l", f"job-name={job.id}", "--tail=-1", "--ignore-errors")
        except ConfigError as error:  # an older kubectl ignores none
            if _has_no_output_yet(error.problems[0].what):
                return "", after
            raise
        lines = said.splitlines(keepends=True)
        text = "".join(
            line for line in lines if not (line.startswith("error: ") and _has_no_output_yet(line))
        )
        if 0 < len(text) < after:  # the job was run again, by another pod
            after = 0
        return text[after:], max(after, len(text))

    def cancel(self, job: Submitted) -> None:
        _need_kubectl()
        self._kubectl("delete", "rayjob,configmap", job.id, "--wait=false", "--ignore-not-found")

    def by_hand(self, job: Submitted) -> str:
        return f"`{shlex.join(['kubectl', *self._options(), 'delete', 'configmap', job.id])}`"

    def _says_uri(self, job: Job) -> bool:
        """Whether the command names MLflow's store; else the Secret does."""
        return job.uri_is_named or self.profile.secret is None

    def _manifests(self, job: Job, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The files that travel, as a ConfigMap, and the RayJob."""
        own, bundle = self.profile, _bundle(job)
        keys = _keys(bundle)
        meta: dict[str, Any] = {"name": name}
        if own.namespace:
            meta["namespace"] = own.namespace
        meta["labels"] = {"app.kubernetes.io/name": "gansweep"}
        words = job.command(
            f"{SENT}/{bundle.sweep}",
            python=own.python or "python",
            says_uri=self._says_uri(job),
        )
        script = f"exec {shlex.join([*words, '--address', 'auto'])}\n"
        files = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {**meta, "labels": dict(meta["labels"])},
            **_contents(bundle, keys, script),
        }
        volumes = [
            *(
                [{"name": "storage", "persistentVolumeClaim": {"claimName": own.claim}}]
                if own.claim
                else []
            ),
            {
                "name": "sent",
                "configMap": {
                    "name": name,
                    "items": [
                        {"key": SCRIPT, "path": SCRIPT},
                        *({"key": key, "path": str(path)} for path, key in keys.items()),
                    ],
                },
            },
        ]
        head = self._pod("ray-head", job, volumes, cpu=own.head_cpus, memory=own.head_memory)
        worker = self._pod("ray-worker", job, volumes, cpu=own.cpus, memory=own.memory)
        if own.gpus_per_node:
            for amounts in worker["spec"]["containers"][0]["resources"].values():
                amounts[own.gpu] = str(own.gpus_per_node)
        if own.node_selector:
            worker["spec"]["nodeSelector"] = dict(own.node_selector)
        if own.tolerations:
            worker["spec"]["tolerations"] = [
                {"key": key, "operator": "Exists"} for key in own.tolerations
            ]
        labels = dict(meta["labels"])
        if own.queue:
            labels["kueue.x-k8s.io/queue-name"] = own.queue
        spec: dict[str, Any] = {
            "entrypoint": f"sh {SENT}/{SCRIPT}",
            "submissionMode": "K8sJobMode",
            "backoffLimit": own.restarts,
            "preRunningDeadlineSeconds": own.ready_seconds,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": own.ttl_seconds,
            **({"suspend": True} if own.queue else {}),  # Kueue ends that when its turn has come
            "rayClusterSpec": {
                "rayVersion": version("ray"),  # without it KubeRay refuses tokens
                "authOptions": {"mode": "token"},
                "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": head},
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": own.workers,
                        "minReplicas": own.workers,
                        "maxReplicas": own.workers,
                        "rayStartParams": {},
                        "template": worker,
                    }
                ],
            },
        }
        rayjob = {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "metadata": {**meta, "labels": labels},
            "spec": spec,
        }
        return files, rayjob

    def _pod(
        self, name: str, job: Job, volumes: list[dict[str, Any]], *, cpu: int, memory: str
    ) -> dict[str, Any]:
        own = self.profile
        amounts = {"cpu": str(cpu), "memory": memory}
        container: dict[str, Any] = {
            "name": name,
            "image": own.image,
            "resources": {"limits": dict(amounts), "requests": dict(amounts)},
            "env": self._environment(job),
            "volumeMounts": [
                *([{"name": "storage", "mountPath": str(job.root)}] if own.claim else []),
                {"name": "sent", "mountPath": SENT, "readOnly": True},
            ],
        }
        spec: dict[str, Any] = {"containers": [container], "volumes": volumes}
        if own.service_account:
            spec["serviceAccountName"] = own.service_account
        if own.pull_secrets:
            spec["imagePullSecrets"] = [{"name": secret} for secret in own.pull_secrets]
        if own.group is not None:
            spec["securityContext"] = {"fsGroup": own.group}
        return {"spec": spec}

    def _environment(self, job: Job) -> list[dict[str, Any]]:
        """Where modules of one's own lie, and what the Secret holds: by reference alone."""
        variables: list[dict[str, Any]] = [{"name": "PYTHONPATH", "value": SENT}]
        if secret := self.profile.secret:
            needed = () if self._says_uri(job) else ("MLFLOW_TRACKING_URI",)
            variables += [_from_secret(name, secret, optional=False) for name in needed]
            keys = (*MLFLOW_CREDENTIALS, *(CREDENTIALS if is_url(job.root) else ()))
            variables += [_from_secret(name, secret, optional=True) for name in keys]
        return variables

    def _place(self) -> str:
        own = self.profile
        if own.context is None:
            return "the cluster that kubectl speaks to"
        return f"the namespace {own.namespace} of kubectl's context {own.context}"

    def _options(self) -> list[str]:
        """Of kubectl, whatever it is asked."""
        own = self.profile
        options = [f"--context={own.context}"] * bool(own.context)
        return options + [f"--namespace={own.namespace}"] * bool(own.namespace)

    def _kubectl(self, *words: str, input: str | None = None) -> str:
        """What kubectl says; ConfigError with its own words where it fails."""
        try:
            ended = subprocess.run(
                ["kubectl", *self._options(), *words],
                input=input, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            what = f"no answer within {ANSWER_SECONDS:g} s"
            raise AwayError.single("kubectl", what, _remedy("unable to connect")) from None
        except OSError as error:
            raise ConfigError.single("kubectl", f"cannot be run: {error.strerror}") from None
        if ended.returncode:
            what = _words(ended.stderr) or f"exit code {ended.returncode}"
            passing = any(part in what.lower() for part in PASSING)
            raise (AwayError if passing else ConfigError).single("kubectl", what, _remedy(what))
        return ended.stdout


def _has_no_output_yet(words: str) -> bool:
    return NO_OUTPUT_YET.search(words) is not None


def _may_be_done(error: BaseException) -> bool:
    """Whether the cluster may have done what it was asked although this came of it."""
    if not isinstance(error, ConfigError):
        return True
    low = error.problems[0].what.lower()
    return isinstance(error, AwayError) and not any(words in low for words in UNREACHED)


def _bundle(job: Job) -> Bundle:
    return with_own_code(sweep_bundle(job.sweep), job.sweep)


def _name(job: Job, suffix: str) -> str:
    """Of lower-case letters, digits and dashes; what makes it the only one is at its end."""
    plain = re.sub(r"[^a-z0-9]+", "-", job.sweep.name.lower())
    stem = f"gansweep-{plain}"[: NAME_CHARACTERS - 1 - len(suffix)].strip("-")
    return f"{stem}-{suffix}"


def _keys(bundle: Bundle) -> dict[Any, str]:
    """For each path of a bundle its key in a ConfigMap, which has no folders."""
    keys: dict[Any, str] = {}
    for path in sorted(bundle.files):
        plain = re.sub(r"[^-._A-Za-z0-9]", "_", str(path))
        keys[path] = f"{len(keys)}-{plain}"[:253]
    return keys


def _contents(bundle: Bundle, keys: Mapping[Any, str], script: str) -> dict[str, Any]:
    """The fields of a ConfigMap that hold the files: as text what is text."""
    texts, others = {SCRIPT: script}, {}
    for path, key in keys.items():
        content = bundle.files[path].read_bytes()
        try:
            texts[key] = content.decode()
        except UnicodeDecodeError:
            others[key] = base64.b64encode(content).decode()
    return {"data": texts, **({"binaryData": others} if others else {})}


def _from_secret(name: str, secret: str, *, optional: bool) -> dict[str, Any]:
    reference = {"name": secret, "key": name, **({"optional": True} if optional else {})}
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}


class _Dumper(yaml.SafeDumper):
    """Text of several lines as it is, and nothing by reference to what was said before."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _yaml(*trees: Mapping[str, Any]) -> str:
    text: str = yaml.dump_all(trees, Dumper=_Dumper, sort_keys=False, width=10**6)
    return text


def _troubles(pod: Mapping[str, Any]) -> Iterator[str]:
    """Why a pod does not start."""
    status = pod.get("status", {})
    for container in (
        *status.get("initContainerStatuses", ()),
        *status.get("containerStatuses", ()),
    ):
        waits = container.get("state", {}).get("waiting", {})
        if any(part in waits.get("reason", "") for part, _ in REMEDIES):
            yield _told(waits["reason"], waits.get("message", ""))
    for condition in status.get("conditions", ()):
        if condition.get("status") == "False" and condition.get("reason") == "Unschedulable":
            yield _told("Unschedulable", condition.get("message", ""))


def _told(reason: str, message: str) -> str:
    """A reason of Kubernetes' with its message in one line, and what to do about it."""
    words = beginning(" ".join(message.split()), REASON_CHARACTERS)
    told = ": ".join(filter(None, [reason, words]))
    remedy = _remedy(reason)
    return f"{told}; {remedy}" if remedy else told


def _need_kubectl() -> None:
    if shutil.which("kubectl") is None:
        raise ConfigError.single(
            "--to kubernetes",
            "this machine has no kubectl",
            "install it, and its access to the cluster; --dry-run prints the manifests anywhere",
        )


NOISE = re.compile(
    r"^error: |error when creating \"STDIN\": |error validating (\"STDIN\"|data): |"
    r"; if you choose to ignore these errors, turn validation off with --validate=false"
)


def _words(said: str) -> str:
    """kubectl's error without its log lines, in one line."""
    lines = [line.strip() for line in said.splitlines()]
    told = "; ".join(line for line in lines if line and not re.match(r"[EWI]\d{4} ", line))
    return NOISE.sub("", told)


def _remedy(words: str) -> str:
    low = words.lower()
    return next((remedy for part, remedy in REMEDIES if part.lower() in low), "")
