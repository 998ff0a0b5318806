"""A local Ray's node with what a sweep needs of it, and no more."""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from gansweep.sweep import forked
from gansweep.sweep.forkserver import ForkServer

LOCAL_START_SECONDS = 300.0
"""For a local Ray to be up, which takes seconds; Ray itself gives up on some parts sooner."""

AGENTS = ("--dashboard_agent_command=", "--runtime_env_agent_command=")
"""The words of a raylet's command that say how its agents are started."""

ENVIRONMENTS = (
    "RAY_RUNTIME_ENV_HOOK", "RAY_ENABLE_UV_RUN_RUNTIME_ENV", "RAY_JOB_CONFIG_JSON_ENV_VAR",
)  # fmt: skip
"""Variables by which a user, or a job of Ray's, has workers get an environment of their own."""

TRIED = "2.60."
"""How the versions of Ray begin of which it is known that a sweep's workers need none: without the
agent that makes them, one that Ray asked for would be waited for in vain."""

PORTS = (
    "METRICS_AGENT_PORT_NAME", "METRICS_EXPORT_PORT_NAME", "DASHBOARD_AGENT_LISTEN_PORT_NAME",
)  # fmt: skip
"""Ray's constants for the ports of that agent."""


@contextlib.contextmanager
def lean_node(forks: ForkServer | None) -> Iterator[None]:
    """A Ray that is begun meanwhile has what a sweep needs of it, and no more.

    No dashboard, nor its agent; no autoscaler, for a machine that stays as it is; and workers that
    `forks` forks. Each is a process that takes a core for half a second to four. Where Ray has
    changed, a start takes longer.
    """
    import ray._private.node

    plain: Any = getattr(ray._private.node, "Node", None)
    if plain is None:
        yield
        return

    class Node(plain):  # type: ignore[misc]  # Ray tells no types here
        def start_api_server(self, *arguments: Any, **options: Any) -> None:
            pass

        def start_monitor(self, *arguments: Any, **options: Any) -> None:
            pass

        def start_raylet(self, *arguments: Any, **options: Any) -> None:
            parameters: Any = getattr(self, "_ray_params", None)
            if forks and (script := getattr(parameters, "worker_path", None)):
                os.environ.update(_forking(forks, script))
                parameters.worker_path = forked.__file__
            with _few_agents(self):
                super().start_raylet(*arguments, **options)

        def start_ray_processes(self, *arguments: Any, **options: Any) -> None:
            super().start_ray_processes(*arguments, **options)
            _await(self)

    ray._private.node.Node = Node
    try:
        yield
    finally:
        ray._private.node.Node = plain


@contextlib.contextmanager
def _few_agents(node: Any) -> Iterator[None]:
    """A raylet that is begun meanwhile has `cat` in the place of its agents.

    One would serve a dashboard, the other make environments of their own for workers, which ours
    have not. They take a second and a half of a core. One of each there must be, or the
    raylet ends; `cat` lives as long as it, by a pipe. Nor does a raylet wait any more for the files
    in which agents name their ports, and end where a busy machine has not imported them after 15 s
    (ray-project/ray#65983). Where Ray has changed, all is as Ray has it.
    """
    import ray._private.services as services
    import ray._private.utils as utils

    plain: Any = getattr(services, "start_ray_process", None)
    asked: Any = getattr(utils, "get_dashboard_dependency_error", None)
    cat = shutil.which("cat")
    if not (plain and asked and cat and _name_ports(node)):
        yield
        return
    spared = AGENTS[:1] if _makes_environments() else AGENTS

    def start(command: Sequence[str], *arguments: Any, **options: Any) -> Any:
        own = [
            _in_place_of_agent(word, cat) if word.startswith(spared) else word for word in command
        ]
        return plain(own, *arguments, **options)

    services.start_ray_process = start
    # For a word of its agent's command the driver would import what the dashboard needs.
    utils.get_dashboard_dependency_error = lambda: ImportError("there is no dashboard")
    try:
        yield
    finally:
        services.start_ray_process = plain
        utils.get_dashboard_dependency_error = asked


def _in_place_of_agent(word: str, program: str) -> str:
    return f"{word.partition('=')[0]}={program}"


def _makes_environments() -> bool:
    """Whether Ray may be asked to make an environment for a worker."""
    known = import_module("ray").__version__.startswith(TRIED)
    return not known or any(os.environ.get(name) for name in ENVIRONMENTS)


def _name_ports(node: Any) -> bool:
    """Say where the agents of a node's raylet will listen; whether that was possible.

    -1 stands for nowhere, as that of the dashboard says itself where its packages are missing.
    """
    try:
        own: Any = import_module("ray._raylet")
        for name in PORTS:
            own.persist_port(node._session_dir, node._node_id, getattr(own, name), -1)
        if node._ray_params.runtime_env_agent_port == 0:
            node._ray_params.runtime_env_agent_port = _free_port()
    except (ImportError, AttributeError, TypeError):
        return False
    os.environ.update(RAY_agent_register_timeout_ms=str(round(LOCAL_START_SECONDS * 1e3)))
    return True


def _free_port() -> int:
    """Of loopback, by chance, below those that Linux gives to whoever asks for any."""
    for port in random.SystemRandom().sample(range(10_000, 32_768), 100):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    return 0


def _await(node: Any) -> None:
    """Until the node is registered, for as long as what was started of it lives.

    Ray itself gives up after 30 s, which a busy machine exceeds, and no sooner where the raylet has
    ended. RuntimeError there.
    """
    import ray._private.services

    end = time.monotonic() + LOCAL_START_SECONDS
    while time.monotonic() < end:
        try:
            ray._private.services.get_node(node.gcs_address, node._node_id)  # waits for up to 30 s
            return
        except AttributeError:  # Ray has changed
            return
        except RuntimeError:
            dead = [str(name) for name, _ in node.dead_processes()]
            if dead:
                raise RuntimeError(f"its {dead[0]} has ended") from None


def _forking(forks: ForkServer, script: str) -> dict[str, str]:
    """Variables of a raylet whose workers `forks` forks, to run Ray's own `script`."""
    return {
        forked.SERVER: forks.path,
        forked.SCRIPT: script,
        # Workers are forked in no time; to have some beforehand would hold up the driver.
        "RAY_prestart_worker_first_driver": "0",
        # They wait for the server's imports before Ray hears of them.
        "RAY_worker_register_timeout_seconds": str(math.ceil(LOCAL_START_SECONDS)),
    }
