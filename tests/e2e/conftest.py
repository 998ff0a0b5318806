"""Places to run the real command in, and one Ray that several sweeps share."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .command import REPOSITORY, Place, wait_for
from .story import Story, tell

LAB = Path(__file__).with_name("lab")


@pytest.fixture(scope="session")
def new_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Place]]:
    """Makes places that share the cache of prepared data; what still runs in them at the end dies.

    Each has a copy of the lab on its PYTHONPATH, which is also the folder LAB.
    """
    cache = tmp_path_factory.mktemp("cache")
    places: list[Place] = []

    def make(name: str, **environment: str) -> Place:
        folder = tmp_path_factory.mktemp(name)
        lab = shutil.copytree(LAB, folder / "lab", ignore=shutil.ignore_patterns("__pycache__"))
        place = Place(
            folder,
            GANSWEEP_CACHE=str(cache),
            PYTHONPATH=os.pathsep.join([str(lab), str(REPOSITORY)]),  # the code beside these tests
            LAB=str(lab),
            **environment,
        )
        places.append(place)
        return place

    yield make
    for place in places:
        place.close()


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """HOST:PORT of a Ray of two cores on loopback, without a token; processes ended by their id."""
    folder = Path(tempfile.mkdtemp(prefix="gs"))  # short: Ray puts sockets in it
    place = Place(folder, **CLUSTER)
    port = free_port()
    log = folder / "ray.log"
    with log.open("w") as target:
        subprocess.Popen(
            [
                str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
                "--num-cpus=2", "--include-dashboard=false", "--node-ip-address=127.0.0.1",
                f"--port={port}", f"--temp-dir={folder}", "--disable-usage-stats",
            ],
            env=place.environment,
            stdout=target,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(lambda: "Ray runtime started" in log.read_text(), seconds=300, what="Ray's start")
        yield f"127.0.0.1:{port}"
    finally:
        place.close()
        shutil.rmtree(folder, ignore_errors=True)


CLUSTER = {"RAY_AUTH_MODE": "disabled"}
"""Variables of those who join the cluster."""


@pytest.fixture(scope="session")
def story(new_place: Callable[..., Place]) -> Story:
    return tell(new_place)


@pytest.fixture(scope="session")
def chromium() -> str:
    path = "/usr/bin/chromium"
    if not os.access(path, os.X_OK):
        pytest.skip(f"needs {path} (Debian's package chromium)")
    return path


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
