"""A look at every node of a cluster, before anything is launched there."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gansweep import __version__
from gansweep.counting import counted
from gansweep.errors import ConfigError, Problem
from gansweep.excerpt import beginning
from gansweep.storage import CREDENTIALS, is_url
from gansweep.sweep.cards import Anywhere, ByMemory, Node, Room
from gansweep.sweep.file import Resources
from gansweep.sweep.packing import largest
from gansweep.sweep.startup import slots

ANSWER_SECONDS = 90.0
"""For all nodes: a worker process starts on each, and imports MLflow."""

CARD_LABEL = "gansweep/gpu-memory-gb"
"""Of a node, in GB (1e9 bytes): what each of its cards has, where nvidia-smi does not tell."""

MOST_NAMED = 3
"""Nodes that one message names."""

WORDS_CHARACTERS = 500
"""Of what a node says of a store."""


@final
@dataclass(frozen=True)
class NodeView:
    """What a worker process on a node finds there.

    tracking, storage: what keeps it from the tracking server and from the object store of the
    sweep, "" where nothing does. shares: whether it sees the sweep's folder.
    """

    host: str
    gansweep: str
    ray: str
    python: str
    tracking: str = ""
    storage: str = ""
    shares: bool = True


def credentials(storage: str = "") -> dict[str, str]:
    """The variables by which this process signs in at the tracking server, and at `storage`."""
    names = CREDENTIALS if storage else ()
    return {k: v for k, v in os.environ.items() if k.startswith("MLFLOW_TRACKING_") or k in names}


def check_cluster(
    uri: str, folder: Path | str, resources: Resources, *, must_share: bool
) -> list[str]:
    """Ask each node that can take a trial; what a person should know, as notes.

    folder: the sweep's, or its URL. must_share: whether trials read each other's folders, as those
    of a population do.

    Raises:
        ConfigError: versions differ from the driver's, a node cannot reach the tracking server or
            the store at the URL, or, where it must, does not see `folder`; nothing was launched
            then.
    """
    nodes = [node for node in ray.nodes() if _takes(node, resources)]
    if not nodes:
        cpu, gpu = counted(resources.cpu, "core"), counted(resources.least_gpu, "GPU")
        what = f"a trial takes {cpu} and {gpu}, and no node of the cluster has both"
        raise ConfigError.single("resources", what)
    here = ray.get_runtime_context().get_node_id()
    elsewhere = [node for node in nodes if node["NodeID"] != here]
    if elsewhere and uri.startswith("sqlite"):
        raise ConfigError.single(
            "tracking uri",
            f"{uri} is a file of this machine, and {len(elsewhere)} more of the cluster's nodes "
            "would record to it",
            "start `gansweep ui --host 0.0.0.0` on a machine that all nodes reach, and give "
            "--tracking-uri http://HOST:5000",
        )
    if isinstance(folder, str):
        views = _ask(nodes, uri, folder)
    else:
        mark = folder / f".seen-{uuid.uuid4().hex}"
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
        try:
            views = _ask(nodes, uri, str(mark))
        finally:
            mark.unlink(missing_ok=True)
    problems = differences(views, ours(), must_share=must_share, folder=folder)
    if problems:
        raise ConfigError(problems)
    blind = [view.host for view in views if not view.shares]
    if blind:
        return [
            f"{_named(blind)} {_do(blind)} not see {folder}: a trial that has to move there begins "
            "anew "
            "(--dir: a folder that all nodes share, or s3://BUCKET/FOLDER)"
        ]
    return []


def ours() -> NodeView:
    """The driver's own versions."""
    return NodeView(platform.node(), __version__, ray.__version__, platform.python_version())


def differences(
    views: Sequence[NodeView], own: NodeView, *, must_share: bool, folder: Path | str
) -> list[Problem]:
    """What of these views keeps the sweep from being launched."""
    problems = []
    for name, what in (("gansweep", "gansweep"), ("ray", "Ray"), ("python", "Python")):
        wanted = getattr(own, name)
        for found in sorted({getattr(view, name) for view in views} - {wanted}):
            hosts = [view.host for view in views if getattr(view, name) == found]
            problems.append(
                Problem(
                    "--address",
                    f"{what} is {found} on {_named(hosts)}, {wanted} here",
                    "install the same version on every node",
                )
            )
    if problems:
        return problems  # what others say of the store may follow from it
    for words in sorted({view.tracking for view in views} - {""}):
        hosts = [view.host for view in views if view.tracking == words]
        what = f"cannot be reached from {_named(hosts)}: {beginning(words, WORDS_CHARACTERS)}"
        problems.append(Problem("tracking uri", what, "name a server that every node reaches"))
    for words in sorted({view.storage for view in views} - {""}):
        hosts = [view.host for view in views if view.storage == words]
        what = f"{_named(hosts)} cannot use it: {beginning(words, WORDS_CHARACTERS)}"
        problems.append(Problem("--dir", what))
    blind = [view.host for view in views if not view.shares]
    if must_share and blind:
        who = f"{_named(blind)} {_do(blind)}"
        what = f"{who} not see {folder}, and members of a population copy each other"
        remedy = "a folder that all nodes share, or s3://BUCKET/FOLDER"
        problems.append(Problem("--dir", what, remedy))
    return problems


def find_room(resources: Resources, have: Mapping[str, float]) -> Room:
    """Where workers are placed on the cluster that `have` are the resources of.

    Raises:
        ConfigError: a node does not tell of its cards, or none of them has the memory.
    """
    if not resources.by_memory:
        return Anywhere(resources, workers=slots(resources, have), most=largest(resources))
    nodes = [node for node in ray.nodes() if _takes(node, resources)]
    return ByMemory(resources, _gpu_nodes(nodes), alive=_alive)


def _alive() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _gpu_nodes(nodes: Sequence[Mapping[str, Any]]) -> list[Node]:
    """What each node's cards have: its label says so, or the node is asked."""
    task = ray.remote(num_cpus=0, max_retries=0)(_weigh())
    told: dict[str, Any] = {}
    for node in nodes:
        label = node.get("Labels", {}).get(CARD_LABEL, "")
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        told[node["NodeID"]] = label or task.options(scheduling_strategy=there).remote()
    found = []
    for node in nodes:
        answer = told[node["NodeID"]]
        try:
            answer = answer if isinstance(answer, str) else ray.get(answer, timeout=ANSWER_SECONDS)
            size = float(answer)
            if not size > 0:
                raise ValueError(f"{answer!r} is no amount of memory")
        except (ray.exceptions.RayError, ValueError) as error:
            words = str(error).strip().splitlines()[-1]
            raise ConfigError.single(
                "resources.gpu_memory_gb",
                f"{node['NodeManagerAddress']} does not tell what its GPUs have: {words}",
                f"set resources.gpu, or start the node with --labels {CARD_LABEL}=24",
            ) from None
        has = node["Resources"]
        found.append(Node(node["NodeID"], has.get("CPU", 0.0), int(has["GPU"]), size))
    return found


def _weigh() -> Callable[[], str]:
    """A function that pickles by value, as `_look`: GB of the smallest card of its node."""

    def weigh() -> str:
        import subprocess

        command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            sizes = [float(line) * 1024**2 / 1e9 for line in ended.stdout.split()]
            return str(min(sizes))
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            return f"nvidia-smi: {error}"

    return weigh


def _takes(node: Mapping[str, Any], resources: Resources) -> bool:
    has = node.get("Resources", {})
    wanted = (("CPU", resources.cpu), ("GPU", resources.least_gpu))
    return bool(node["Alive"]) and all(has.get(name, 0) >= take for name, take in wanted)


def _do(hosts: Sequence[str]) -> str:
    return "does" if len(hosts) == 1 else "do"


def _named(hosts: Sequence[str]) -> str:
    names = sorted(hosts)
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _ask(nodes: Sequence[Mapping[str, Any]], uri: str, place: str) -> list[NodeView]:
    """Every node's view; of one that does not answer, that. place: a file to see, or a URL."""
    task = ray.remote(num_cpus=0, max_retries=0)(_look())
    given = credentials(place if is_url(place) else "")
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        answer = task.options(scheduling_strategy=there).remote(uri, place, given)
        asked[answer] = f"{node.get('NodeManagerHostname', '')} ({node['NodeManagerAddress']})"
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    views = []
    for answer, host in asked.items():
        if answer not in ready:
            raise ConfigError.single(
                "--address",
                f"{host} has not started a worker within {ANSWER_SECONDS:g} s",
                "its raylet's log says why; or take the node out of the cluster",
            )
        try:
            views.append(NodeView(host=host, **ray.get(answer)))
        except ray.exceptions.RayError as error:
            words = str(error).strip().splitlines()[-1]
            raise ConfigError.single("--address", f"{host} cannot run a task: {words}") from None
    return views


def _look() -> Callable[..., dict[str, Any]]:
    """A function that pickles by value: what a node has installed is what it is to find out."""

    def look(uri: str, place: str, environment: dict[str, str]) -> dict[str, Any]:
        import os
        import platform

        import ray

        os.environ.update(environment)
        found = {"ray": ray.__version__, "python": platform.python_version()}
        try:
            import gansweep

            found["gansweep"] = gansweep.__version__
            from gansweep.tracking.mlflow import MlflowStore

            try:
                MlflowStore(uri).check()
            except Exception as error:
                found["tracking"] = " ".join(str(error).split())
            if "://" in place:
                from gansweep.storage import Bucket

                try:
                    Bucket(place).check(write=True)
                except Exception as error:
                    found["storage"] = " ".join(str(error).split())
        except ImportError as error:
            found.setdefault("gansweep", f"missing ({error})")
        return {**found, "shares": "://" in place or os.path.exists(place)}

    return look
