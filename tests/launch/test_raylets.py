"""`gansweep run --address` on a real cluster of two raylets: what is looked at before a launch."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import sysconfig
import threading
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.command import Place
from sweep_files import text

from gansweep import __version__
from gansweep.tracking.mlflow import MlflowStore

from .conftest import RayCluster

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

TOKEN = "a-token-that-nobody-writes-down"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    ray = RayCluster(dashboard=False, nodes=2)
    yield ray
    ray.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    home = Place(tmp_path / "home", RAY_AUTH_MODE="disabled", MLFLOW_TRACKING_TOKEN=TOKEN)
    trial = {
        "model": {"name": "wgan"}, "network": {"name": "mlp", "width": 8, "depth": 1},
        "data": {"name": "ring8", "n": 1000}, "budget": {"g_steps": 5}, "compile": "false",
    }  # fmt: skip
    (home.folder / "raylets.yaml").write_text(
        text(name="raylets", trial=trial, resources={"pack": 1})
    )
    yield home
    home.close()


def launched(place: Place) -> bool:
    return (place.folder / "runs" / "raylets" / "trials").exists()


def test_a_database_file_is_refused(cluster: RayCluster, place: Place) -> None:
    said = place.run("run", "raylets.yaml", "--address", cluster.address, code=2).text
    assert f"tracking uri: {place.uri} is a file of this machine, and 1 more of the" in said
    assert "gansweep ui --host 0.0.0.0" in said
    assert not launched(place)


def refused_with(change: str, cluster: RayCluster, place: Place, uri: str) -> str:
    """What the command says where that is changed before it begins; it must end with code 2."""
    program = f"import gansweep, ray; {change}; from gansweep.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program, "run", "raylets.yaml", "--address", cluster.address,
         "--tracking-uri", uri],
        cwd=place.folder, env=place.environment, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    return ended.stderr


def test_versions_are_compared_on_every_node(
    cluster: RayCluster, place: Place, mlflow_server: str
) -> None:
    said = refused_with("gansweep.__version__ = '9.9'", cluster, place, mlflow_server)
    assert "--address: gansweep is 0." in said
    both = r" on \S+ \(\S+\), \S+ \(\S+\), 9\.9 here \(install the same version on every node\)"
    assert re.search(both, said), said
    assert not launched(place)


def test_another_ray_is_refused(cluster: RayCluster, place: Place, mlflow_server: str) -> None:
    said = refused_with("ray.__version__ = '9.9.9'", cluster, place, mlflow_server)
    assert f"--address: the cluster at '{cluster.address}' has other versions: " in said
    assert "Ray: 9.9.9" in said
    assert "install the same Ray and Python on every node and here" in said
    assert not launched(place)


class Moody(http.server.BaseHTTPRequestHandler):
    """A tracking server that knows the driver, and whoever asks later no more."""

    seen: list[str | None]

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization"))
        self.send_response(200 if len(self.seen) == 1 else 503)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_store_is_asked_from_the_workers_with_our_credentials(
    cluster: RayCluster, place: Place
) -> None:
    Moody.seen = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_port}"
    try:
        said = place.run(
            "run", "raylets.yaml", "--address", cluster.address, "--tracking-uri", uri, code=2
        ).text
    finally:
        server.shutdown()
        server.server_close()
    assert "tracking uri: cannot be reached from " in said
    assert "answers 503" in said
    assert Moody.seen == [f"Bearer {TOKEN}"] * 3  # the driver, and each node
    assert not launched(place)


def test_a_sweep_over_both_and_no_credential_in_any_file(
    cluster: RayCluster, place: Place, mlflow_server: str
) -> None:
    place.run("run", "raylets.yaml", "--address", cluster.address, "--tracking-uri", mlflow_server)
    records = MlflowStore(mlflow_server).trials("raylets")
    assert [record.status for record in records] == ["FINISHED"] * 2
    plan = json.loads((place.folder / "runs" / "raylets" / "plan.json").read_text())
    assert [trial["state"] for trial in plan["trials"]] == ["completed"] * 2
    files = [
        path
        for folder in (cluster.folder, place.folder)
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    ]
    assert len(files) > 20
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


OLD = """
import importlib.util, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != "gansweep":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def loaded(module):
            load(module)
            module.__version__ = "0.0.9"

        spec.loader.exec_module = loaded
        return spec

sys.meta_path.insert(0, Finder())
"""


def test_a_node_with_another_gansweep_is_refused(
    cluster: RayCluster, place: Place, mlflow_server: str, tmp_path: Path
) -> None:
    """An environment that has this one's packages, but for an older gansweep."""
    venv.create(tmp_path / "old", symlinks=True)
    (packages,) = (tmp_path / "old" / "lib").glob("python*/site-packages")
    (packages / "old_gansweep.py").write_text(OLD)
    (packages / "all.pth").write_text(
        f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\nimport old_gansweep\n"
    )
    cluster.join("old", python=tmp_path / "old" / "bin" / "python")
    said = place.run(
        "run", "raylets.yaml", "--address", cluster.address, "--tracking-uri", mlflow_server, code=2
    ).text
    assert re.search(
        rf"--address: gansweep is 0\.0\.9 on [^,]+ \(\S+\), {re.escape(__version__)} here", said
    ), said
    assert "install the same version on every node" in said
    assert not launched(place)
