"""RayJob as a strict JSON schema; a field that KubeRay and Kubernetes do not name is an error.

The fields of `ray.io/v1`, their types and which are required are those of KubeRay's API reference
(docs/reference/api.md, KubeRay 1.7), written down for these tests: this is not a copy of the CRD.
Pods are checked by the schemas of Kubernetes' OpenAPI, from the package kubernetes-validate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import kubernetes_validate
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

KUBERNETES = "1.37"

STRING = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
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


POD = of_kubernetes("api.core.v1.PodTemplateSpec")
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
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    idleTimeoutSeconds=COUNT,
    priority=COUNT,
    resources=WORDS,
    labels=WORDS,
    rayStartParams=WORDS,
    template=POD,
    scaleStrategy=fields(workersToDelete=list_of(STRING)),
    numOfHosts=COUNT,
)

CLUSTER = fields(
    required=("headGroupSpec",),
    upgradeStrategy=fields(type=one_of("Recreate", "None")),
    authOptions=fields(mode=one_of("disabled", "token"), secretName=STRING),
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
    activeDeadlineSeconds=DEADLINE,
    backoffLimit=COUNT,
    rayClusterSpec=CLUSTER,
    submitterPodTemplate=POD,
    metadata=WORDS,
    clusterSelector=WORDS,
    submitterConfig=fields(backoffLimit=COUNT),
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


def mistakes(manifest: Mapping[str, Any]) -> list[str]:
    """What a strict API server would not take, each with its place."""
    if manifest["apiVersion"] == "ray.io/v1":
        found = Draft202012Validator(RAYJOB, registry=_registry()).iter_errors(manifest)
        return [f"{error.json_path}: {error.message}" for error in found]
    try:
        kubernetes_validate.validate(dict(manifest), KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{error.json_path}: {error.message}"]
    return []


def _registry() -> Registry[Any]:
    folder = files("kubernetes_validate") / "kubernetes-json-schema"
    text = (folder / f"v{KUBERNETES}.0-local-strict" / "_definitions.json").read_text()
    return Resource.from_contents(json.loads(text)) @ Registry()
