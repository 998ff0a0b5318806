"""RayJob as a strict JSON schema; a field that KubeRay and Kubernetes do not name is an error.

Held against what KubeRay publishes: `apis/ray/v1/raycluster_types.go`, the operator's own checks
in `controllers/ray/utils/validation.go` and the API's reference, `docs/reference/api.md`, all as of
1.7 (they have `tlsOptions` and a worker group's `priority`); and `ray.io_rayjobs.yaml`, the CRD as
of 1.6 (controller-gen 0.16.5; read in a fork at 79cf0e57). Written down for these tests, no copy.
Pods are checked by the schemas of Kubernetes' OpenAPI, from the package kubernetes-validate.

Three things differ by intent. The API server fills in `minReplicas` and `maxReplicas` (0, 2^31 - 1)
before it asks for them: here they must be there. The CRD takes every word for a `submissionMode`:
here it must be one that the operator knows. And fields that KubeRay has and no manifest of ours may
have are refused whole.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import kubernetes_validate
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

KUBERNETES = "1.37"

STRING = {"type": "string"}
INT32 = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
COUNT = {**INT32, "minimum": 0}
DEADLINE = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
SWITCH = {"type": "boolean"}
NUMBER = {"type": "number"}
WORDS = {"type": "object", "additionalProperties": STRING}


def one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


def list_of(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def fields(*, required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """An object that has these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def of_kubernetes(name: str) -> dict[str, str]:
    return {"$ref": f"https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.{name}"}


POD = {
    **of_kubernetes("api.core.v1.PodTemplateSpec"),
    "required": ["spec"],
    "properties": {
        "metadata": fields(  # of ObjectMeta a CRD's template has these alone
            annotations=WORDS,
            finalizers=list_of(STRING),
            labels=WORDS,
            name=STRING,
            namespace=STRING,
        ),
        "spec": {"properties": {"containers": {"minItems": 1}}},
    },
}
"""A pod's template as a CRD has it, and as the operator wants it."""

OWNER = one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue")
UNSEEN = {"not": {}}
"""Fields that KubeRay has and no manifest of ours may: their insides are not written down here."""

HEAD = fields(
    required=("template",),
    template=POD,
    headService=of_kubernetes("api.core.v1.Service"),
    enableIngress=SWITCH,
    ingressOptions=UNSEEN,
    resources=WORDS,
    labels=WORDS,
    rayStartParams=WORDS,
    serviceType=STRING,
)

WORKERS = fields(
    required=("groupName", "minReplicas", "maxReplicas", "template"),
    suspend=SWITCH,
    groupName=STRING,
    replicas=INT32,
    minReplicas=INT32,
    maxReplicas=INT32,
    idleTimeoutSeconds=INT32,
    priority=INT32,
    resources=WORDS,
    labels=WORDS,
    rayStartParams=WORDS,
    template=POD,
    scaleStrategy=fields(workersToDelete=list_of(STRING)),
    numOfHosts=INT32,
)

CLUSTER = fields(
    required=("headGroupSpec",),
    upgradeStrategy=UNSEEN,  # the operator refuses it in a RayJob
    authOptions=fields(
        mode=one_of("disabled", "token"),
        secretName=STRING,
        enableK8sTokenAuth=UNSEEN,  # the same
    ),
    suspend=SWITCH,
    managedBy=OWNER,
    autoscalerOptions=UNSEEN,
    headServiceAnnotations=WORDS,
    enableInTreeAutoscaling=SWITCH,
    gcsFaultToleranceOptions=UNSEEN,
    historyServerOptions=UNSEEN,
    networkPolicy=UNSEEN,
    tlsOptions=fields(enabled=SWITCH),
    headGroupSpec=HEAD,
    rayVersion=STRING,
    workerGroupSpecs=list_of(WORKERS),
)

JOB = fields(
    required=("rayClusterSpec",),  # or a clusterSelector, which no manifest of ours has
    activeDeadlineSeconds=DEADLINE,
    backoffLimit=COUNT,
    rayClusterSpec=CLUSTER,
    submitterPodTemplate=POD,
    metadata=WORDS,
    clusterSelector=WORDS,
    submitterConfig=fields(backoffLimit=INT32),
    managedBy=OWNER,
    deletionStrategy=UNSEEN,
    entrypoint=STRING,
    runtimeEnvYAML=STRING,
    jobId=STRING,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    entrypointResources=STRING,
    entrypointNumCpus=NUMBER,
    entrypointNumGpus=NUMBER,
    ttlSecondsAfterFinished=COUNT,
    preRunningDeadlineSeconds=DEADLINE,
    shutdownAfterJobFinishes=SWITCH,
    suspend=SWITCH,
)

RAYJOB = fields(
    required=("apiVersion", "kind", "metadata", "spec"),
    apiVersion=one_of("ray.io/v1"),
    kind=one_of("RayJob"),
    metadata=of_kubernetes("apimachinery.pkg.apis.meta.v1.ObjectMeta"),
    spec=JOB,
)


NAME_CHARACTERS = 47
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
OLDEST_RAY_WITH_TOKENS = (2, 52)


def mistakes(manifest: Mapping[str, Any]) -> list[str]:
    """What a strict API server, or the operator after it, would not take, each with its place."""
    if manifest["apiVersion"] == "ray.io/v1":
        errors = Draft202012Validator(RAYJOB, registry=_registry()).iter_errors(manifest)
        found = [f"{error.json_path}: {error.message}" for error in errors]
        return found or list(_refused(manifest))
    try:
        kubernetes_validate.validate(dict(manifest), KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{error.json_path}: {error.message}"]
    return []


def _refused(rayjob: Mapping[str, Any]) -> Iterator[str]:
    """What the operator calls ValidationFailed, as far as manifests of ours may come to it."""
    name, spec = rayjob["metadata"]["name"], rayjob["spec"]
    if len(name) > NAME_CHARACTERS:
        yield f"metadata.name: more than {NAME_CHARACTERS} characters"
    if not NAME.fullmatch(name):
        yield "metadata.name: no DNS-1035 label"
    if not spec.get("shutdownAfterJobFinishes", False):
        if spec.get("suspend", False):
            yield "spec.suspend: without shutdownAfterJobFinishes"
        if spec.get("ttlSecondsAfterFinished", 0):
            yield "spec.ttlSecondsAfterFinished: without shutdownAfterJobFinishes"
    cluster = spec["rayClusterSpec"]
    if cluster.get("authOptions", {}).get("mode") == "token":
        version = cluster.get("rayVersion", "")
        if not version:
            yield "rayVersion: is needed with authOptions.mode"
        elif tuple(map(int, version.split(".")[:2])) < OLDEST_RAY_WITH_TOKENS:
            yield f"rayVersion: {version} is older than 2.52, with authOptions.mode"
    yield from _refused_group(cluster["headGroupSpec"])
    for group in cluster.get("workerGroupSpecs", ()):
        yield from _refused_group(group)
        least, most = group["minReplicas"], group["maxReplicas"]
        if min(least, most) < 0:
            yield f"minReplicas {least} or maxReplicas {most} is negative"
        elif least > most:
            yield f"minReplicas {least} is greater than maxReplicas {most}"


def _refused_group(group: Mapping[str, Any]) -> Iterator[str]:
    """Resources that are said twice, and labels in the wrong place."""
    start = group.get("rayStartParams", {})
    twice = {"num-cpus", "num-gpus", "memory", "resources"} & set(start)
    if group.get("resources") and twice:
        yield f"resources: beside rayStartParams {', '.join(sorted(twice))}"
    if "labels" in start:
        yield "rayStartParams: labels belong into the group's own field"


@functools.cache
def _registry() -> Registry[Any]:
    folder = files("kubernetes_validate") / "kubernetes-json-schema"
    text = (folder / f"v{KUBERNETES}.0-local-strict" / "_definitions.json").read_text()
    return Resource.from_contents(json.loads(text)) @ Registry()
