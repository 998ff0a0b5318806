"""What nodes may say of themselves, and what follows; real ones speak in launch/test_raylets.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gansweep.errors import ConfigError
from gansweep.sweep import cluster
from gansweep.sweep.cards import ByMemory
from gansweep.sweep.cluster import CARD_LABEL, NodeView, differences
from gansweep.sweep.file import Resources

OWN = NodeView("driver", "0.1.0", "2.60.0", "3.11.2")


def found(*views: NodeView, must_share: bool = False) -> list[str]:
    problems = differences(views, OWN, must_share=must_share, folder=Path("/runs/x"))
    return [str(problem) for problem in problems]


def test_equal_nodes_are_good() -> None:
    assert found(replace(OWN, host="a"), replace(OWN, host="b")) == []


@pytest.mark.parametrize(
    ("field", "name"), [("gansweep", "gansweep"), ("ray", "Ray"), ("python", "Python")]
)
def test_another_version_is_named_with_its_nodes(field: str, name: str) -> None:
    views = [replace(OWN, host=host, **{field: "1.0"}) for host in ("b", "a")]
    assert found(*views, replace(OWN, host="c")) == [
        f"--address: {name} is 1.0 on a, b, {getattr(OWN, field)} here "
        "(install the same version on every node)"
    ]


def test_of_many_nodes_some_are_named() -> None:
    views = [replace(OWN, host=f"n{i}", gansweep="missing (x)") for i in range(9)]
    (said,) = found(*views)
    assert "gansweep is missing (x) on n0, n1, n2 and 6 more, 0.1.0 here" in said


def test_a_store_out_of_reach_is_told_unless_versions_differ() -> None:
    away = replace(OWN, host="a", tracking="no answer")
    assert found(away, replace(OWN, host="b")) == [
        "tracking uri: cannot be reached from a: no answer (name a server that every node reaches)"
    ]
    (said,) = found(replace(away, ray="1"))
    assert said.startswith("--address: Ray is 1")


def test_a_population_needs_a_shared_folder() -> None:
    blind = replace(OWN, host="a", shares=False)
    assert found(blind) == []
    (said,) = found(blind, must_share=True)
    assert said.startswith("--dir: a does not see /runs/x")
    (said,) = found(blind, replace(blind, host="b"), must_share=True)
    assert said.startswith("--dir: a, b do not see /runs/x")


def test_credentials_are_those_of_the_tracking_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(cluster.credentials()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t")
    monkeypatch.setenv("MLFLOW_RUN_ID", "r")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a")
    assert cluster.credentials() == {"MLFLOW_TRACKING_TOKEN": "t"}
    with_store = cluster.credentials("s3://b/x")
    assert with_store["AWS_SECRET_ACCESS_KEY"] == "a"
    assert "MLFLOW_RUN_ID" not in with_store


class Here:
    """In the place of `ray.remote` and `ray.get`: every task runs here, at once."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def remote(self, **_: object) -> Callable[[Callable[[], str]], SimpleNamespace]:
        def there(function: Callable[[], str], node: object) -> SimpleNamespace:
            self.asked.append(node)
            return SimpleNamespace(remote=lambda: [function()])

        return lambda function: SimpleNamespace(
            options=lambda *, scheduling_strategy: there(function, scheduling_strategy)
        )

    def get(self, answer: list[str], *, timeout: float) -> str:
        return answer[0]


def node(name: str, *, gpus: float, label: str = "", cpus: float = 8.0) -> dict[str, object]:
    return {
        "NodeID": name * 56, "Alive": True, "NodeManagerAddress": f"10.0.0.{name}",
        "Resources": {"CPU": cpus, "GPU": gpus}, "Labels": {CARD_LABEL: label} if label else {},
    }  # fmt: skip


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Here]:
    def make(*nodes: dict[str, object]) -> Here:
        one = Here()
        monkeypatch.setattr(cluster.ray, "nodes", lambda: list(nodes))
        monkeypatch.setattr(cluster.ray, "remote", one.remote)
        monkeypatch.setattr(cluster.ray, "get", one.get)
        return one

    return make


def smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A command nvidia-smi that does this."""
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


BY_MEMORY = Resources(gpu_memory_gb=6.0, pack=1)


def test_each_node_is_asked_what_its_smallest_card_has(
    here: Callable[..., Here], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MiB, unless its label says it in GB; a node without a GPU is none."""
    smi(tmp_path, monkeypatch, 'test "$*" = "--query-gpu=memory.total --format=csv,noheader,'
        'nounits" && printf "81559\\n24564\\n"')  # fmt: skip
    one = here(node("1", gpus=2), node("2", gpus=1, label="80"), node("3", gpus=0))
    room = cluster.find_room(BY_MEMORY, {})
    assert isinstance(room, ByMemory)
    assert len(one.asked) == 1
    assert [(n.id, n.cards) for n in room._nodes] == [("1" * 56, 2), ("2" * 56, 1)]
    assert [n.memory_gb for n in room._nodes] == [pytest.approx(25.757, abs=1e-3), 80]
    assert room.workers == 6 + 8  # twelve would fit on the card, but there are eight cores


@pytest.mark.parametrize("script", ["exit 9", "echo '[N/A]'", ""])
def test_a_node_that_does_not_tell_is_named(
    script: str, here: Callable[..., Here], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(tmp_path, monkeypatch, script)
    here(node("1", gpus=2))
    with pytest.raises(
        ConfigError, match=r"10\.0\.0\.1 does not tell what its GPUs have"
    ) as caught:
        cluster.find_room(BY_MEMORY, {})
    assert f"--labels {CARD_LABEL}=24" in str(caught.value)
    here(node("1", gpus=2, label="none"))
    with pytest.raises(ConfigError, match="does not tell"):
        cluster.find_room(BY_MEMORY, {})


def test_without_gpu_memory_nobody_is_asked(here: Callable[..., Here]) -> None:
    one = here(node("1", gpus=2))
    room = cluster.find_room(Resources(gpu=0.5), {"CPU": 8.0, "GPU": 2.0})
    assert (room.workers, one.asked) == (4, [])
    assert room.place("p").gpu == 0.5


def test_a_node_that_cannot_use_the_store_is_named() -> None:
    blind = replace(OWN, host="a", storage="s3://b/x: needs s3fs (pip install ...)")
    assert found(blind, replace(OWN, host="b")) == [
        "--dir: a cannot use it: s3://b/x: needs s3fs (pip install ...)"
    ]
