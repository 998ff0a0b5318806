"""For every test: one thread, Ctrl-C, no folder of the user's, no sure disk; and what many need."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from no_skips import NoSkips

from gansweep import cli, trust
from gansweep.tracking.mlflow import MlflowStore, tracking_uri

torch.set_num_threads(1)
# A shell starts what runs in the background deaf to it, and so would be the commands under test.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A disk takes milliseconds to be sure of a file, dozens of times a trial. No test cuts the power.
os.fsync = lambda file: os.fstat(file if isinstance(file, int) else file.fileno())  # it is open

SHARED_MNIST = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "mnist"

Gansweep = Callable[..., tuple[int, str, str]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips", nargs="?", const="", metavar="PART",
        help="a test that skips fails the run, with its reason; where PART is in the test's id",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    process, leave = os.getpid(), os._exit

    def never_as_a_success(code: int) -> NoReturn:
        leave(code or 70 if os.getpid() == process else code)

    os._exit = never_as_a_success  # a command that a test runs here would end pytest with itself
    part = config.getoption("--no-skips")
    if part is not None:
        config.pluginmanager.register(NoSkips(part))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each process takes whole files, and all of tests/e2e, whose files read one sweep's record."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByWhatIsShared(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/e2e" if nodeid.startswith("tests/e2e/") else super()._split_scope(nodeid)

    return ByWhatIsShared(config, log)


@pytest.fixture(autouse=True, scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANSWEEP_CACHE", str(tmp_path_factory.mktemp("session-cache")))
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of moto's S3 server on loopback, which runs in a thread."""
    server = pytest.importorskip("moto.server", reason="needs moto[server]").ThreadedMotoServer(
        "127.0.0.1", 0, verbose=False
    )
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """s3:// of a new bucket; this process's environment lets one in."""
    import boto3
    from s3 import environment

    from gansweep import storage

    for name, value in environment(s3_server).items():
        monkeypatch.setenv(name, value)
    storage._filesystem.cache_clear()
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[str]:
    """The address of an emulator of GCS on loopback, which runs in a thread."""
    pytest.importorskip("gcsfs", reason="needs gcsfs")
    pytest.importorskip("gcp_storage_emulator", reason="needs gcp-storage-emulator")
    import gcs

    server = gcs.Server()
    yield server.address
    server.close()


@pytest.fixture
def gs(gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """gs:// of a new bucket; this process's environment leads to it."""
    import gcs

    from gansweep import storage

    for name, value in gcs.environment(gcs_server).items():
        monkeypatch.setenv(name, value)
    storage._filesystem.cache_clear()
    return f"gs://{gcs.new_bucket(gcs_server)}"


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each generator step is reported."""
    monkeypatch.setattr("gansweep.pack.REPORT_SECONDS", 0.0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners of a folder soon count as gone."""
    monkeypatch.setattr("gansweep.ownership.BEAT_SECONDS", 0.05)
    monkeypatch.setattr("gansweep.ownership.SILENT_SECONDS", 0.5)


@pytest.fixture
def float64() -> Iterator[None]:
    """Everything in double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def shared_mnist() -> Path:
    if not SHARED_MNIST.is_dir():
        pytest.skip(f"needs the IDX files of MNIST in {SHARED_MNIST}")
    return SHARED_MNIST


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow needs a second to create its tables; the tests copy them."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowStore(tracking_uri(f"sqlite:///{path}")).experiment("template")
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    """Of a fresh SQLite store."""
    path = shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return tracking_uri(f"sqlite:///{path}")


@pytest.fixture
def store(uri: str) -> MlflowStore:
    return MlflowStore(uri)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty, with profiles, state and configuration of its own."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "SLURM_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(trust, "own_code", True)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("GANSWEEP_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def gansweep(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Gansweep:
    """Run the command line: exit code, stdout, stderr."""
    # A command that starts in spite of a mistake would end pytest with itself, as a success.
    monkeypatch.setattr(cli, "_exit", sys.exit)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gansweep", *map(str, words)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capsys.readouterr()
        startup = sys.modules.get("gansweep.sweep.startup")
        assert not (startup and startup.is_under_way())  # a later command would end pytest for it
        return int(caught.value.code or 0), captured.out, captured.err

    return run
