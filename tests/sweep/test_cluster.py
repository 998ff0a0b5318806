"""What nodes may say of themselves, and what follows; real ones speak in launch/test_raylets.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gansweep.sweep import cluster
from gansweep.sweep.cluster import NodeView, differences

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


def test_credentials_are_those_of_the_tracking_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(cluster.credentials()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t")
    monkeypatch.setenv("MLFLOW_RUN_ID", "r")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a")
    assert cluster.credentials() == {"MLFLOW_TRACKING_TOKEN": "t"}
