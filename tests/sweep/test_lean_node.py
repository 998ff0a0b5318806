"""A local Ray's node: what of it is started, and how long it is waited for."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray._private.node
import ray._private.services
import ray._private.utils
from ray import _raylet

from gansweep.sweep import forked
from gansweep.sweep import lean_node as module
from gansweep.sweep.lean_node import AGENTS, ENVIRONMENTS, PORTS, lean_node

FORKING = (
    forked.SERVER, forked.SCRIPT,
    "RAY_prestart_worker_first_driver", "RAY_worker_register_timeout_seconds",
)  # fmt: skip


@dataclass
class RaysNode:
    """As far as it is known here, with what was started of it."""

    started: list[str]
    _ray_params: Any

    def start_api_server(self, *, include_dashboard: bool) -> None:
        self.started.append("dashboard")

    def start_monitor(self) -> None:
        self.started.append("autoscaler")

    def start_raylet(self, folder: str, *, profile: bool) -> None:
        script = getattr(self._ray_params, "worker_path", "")
        self.started.append(f"raylet {folder} {profile} {script}")


def begun(parameters: Any) -> list[str]:
    """What of a node is started under what stands for Ray now."""
    own = ray._private.node.Node([], parameters)
    own.start_api_server(include_dashboard=False)
    own.start_monitor()
    own.start_raylet("folder", profile=False)
    started: list[str] = own.started
    return started


def test_a_lean_node(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FORKING:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(ray._private.node, "Node", RaysNode)

    def parameters() -> SimpleNamespace:
        return SimpleNamespace(worker_path="/ray/own.py")

    whole = ["dashboard", "autoscaler", "raylet folder False /ray/own.py"]
    with lean_node(None):
        assert begun(parameters()) == whole[2:]
    assert not [name for name in FORKING if name in os.environ]
    forks: Any = SimpleNamespace(path="/folder/forks")
    with lean_node(forks):
        assert begun(parameters()) == [f"raylet folder False {forked.__file__}"]
    assert [os.environ[name] for name in FORKING] == ["/folder/forks", "/ray/own.py", "0", "300"]
    assert begun(parameters()) == whole


def test_a_node_of_another_ray_is_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    forks: Any = SimpleNamespace(path="/folder/forks")
    monkeypatch.setattr(ray._private.node, "Node", RaysNode)
    with lean_node(forks):
        assert begun(object()) == ["raylet folder False "]
    monkeypatch.delattr(ray._private.node, "Node")
    with lean_node(forks):
        assert not hasattr(ray._private.node, "Node")


@pytest.mark.parametrize("ends", [False, True])
def test_a_node_is_waited_for_while_its_processes_live(
    ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Late(RaysNode):
        gcs_address, _node_id = "address", "id"

        def start_ray_processes(self) -> None:
            self.started.append("all")

        def dead_processes(self) -> list[tuple[str, object]]:
            return [("raylet", None)] if ends else []

    def get_node(address: str, node: str) -> dict[str, str]:
        asked.append((address, node))
        if len(asked) < 4:  # each after Ray's own 30 s
            raise RuntimeError("RPC error: Deadline Exceeded")
        return {}

    monkeypatch.setattr(ray._private.node, "Node", Late)
    monkeypatch.setattr(ray._private.services, "get_node", get_node)
    with lean_node(None):
        own = ray._private.node.Node([], SimpleNamespace())
        if ends:
            with pytest.raises(RuntimeError, match="its raylet has ended"):
                own.start_ray_processes()
        else:
            own.start_ray_processes()
    assert own.started == ["all"]
    assert asked == [("address", "id")] * (1 if ends else 4)


NODE = 28 * "ab"

PATIENCE = "RAY_agent_register_timeout_ms"

ASKED = "get_dashboard_dependency_error"


class Started(RaysNode):
    """A node of this Ray, whose raylet's command is kept in the place of being carried out."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__([], SimpleNamespace(worker_path="", runtime_env_agent_port=port))
        self._session_dir, self._node_id = str(folder), NODE

    def start_raylet(self, folder: str, *, profile: bool) -> None:
        words = ["raylet", *(f"{agent}python agent.py" for agent in AGENTS), "--head"]
        missing = getattr(ray._private.utils, ASKED, lambda: None)
        words += [str(missing())]
        self.started += ray._private.services.start_ray_process(words, "raylet", fate_share=True)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Are returned by what would carry them out, of a Ray that has no environments to make."""
    monkeypatch.setenv(PATIENCE, "")
    for name in ENVIRONMENTS:
        monkeypatch.delenv(name, raising=False)

    def start(command: list[str], kind: str, *, fate_share: bool) -> list[str]:
        return [*command, kind, str(fate_share)]

    monkeypatch.setattr(ray._private.services, "start_ray_process", start)


@pytest.mark.usefixtures("commands")
def test_a_raylet_neither_starts_agents_nor_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ray._private.services.start_ray_process
    asked = ray._private.utils.get_dashboard_dependency_error
    monkeypatch.setattr(ray._private.node, "Node", Started)
    with lean_node(None):
        node = ray._private.node.Node(tmp_path, 0)
        node.start_raylet("folder", profile=False)
    first, *agents, head, missing, kind, fate = node.started
    assert (first, head, kind, fate) == ("raylet", "--head", "raylet", "True")
    assert missing == "there is no dashboard"
    said = {getattr(_raylet, name): "-1" for name in PORTS}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"{name}_{NODE}": port for name, port in said.items()
    }
    port = node._ray_params.runtime_env_agent_port
    assert 10_000 <= port < 32_768
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))
    assert os.environ[PATIENCE] == "300000"
    assert ray._private.services.start_ray_process is plain
    assert ray._private.utils.get_dashboard_dependency_error is asked
    (program,) = {agent.removeprefix(own) for agent, own in zip(agents, AGENTS, strict=True)}
    stand_in = subprocess.Popen([program], stdin=subprocess.PIPE)
    time.sleep(0.2)
    assert stand_in.poll() is None
    stand_in.communicate(timeout=60)  # its input ends as the raylet does
    assert stand_in.returncode == 0


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize("without", ["cat", "names", ASKED])
def test_where_something_is_missing_the_agents_are_rays(
    without: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without == "cat":
        monkeypatch.setattr(module.shutil, "which", lambda name: None)
    elif without == ASKED:
        monkeypatch.delattr(ray._private.utils, ASKED)
    else:
        monkeypatch.delattr(_raylet, PORTS[1])
    monkeypatch.setattr(ray._private.node, "Node", Started)
    with lean_node(None):
        node = ray._private.node.Node(tmp_path, 7)
        node.start_raylet("folder", profile=False)
    assert node.started[1:3] == [f"{agent}python agent.py" for agent in AGENTS]
    assert node.started[4] == "None"  # of the dashboard's packages none is missing
    assert hasattr(ray._private.utils, ASKED) == (without != ASKED)
    assert node._ray_params.runtime_env_agent_port == 7


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize("why", [*ENVIRONMENTS, "another Ray"])
def test_where_workers_may_get_an_environment_of_their_own_its_agent_is_rays(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why in ENVIRONMENTS:
        monkeypatch.setenv(why, "something")
    else:
        monkeypatch.setattr(ray, "__version__", "2.61.0")
    monkeypatch.setattr(ray._private.node, "Node", Started)
    with lean_node(None):
        node = ray._private.node.Node(tmp_path, 0)
        node.start_raylet("folder", profile=False)
    assert node.started[1].endswith("/cat")
    assert node.started[2] == f"{AGENTS[1]}python agent.py"
