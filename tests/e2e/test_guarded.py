"""A sweep into a real MLflow server, with secrets planted everywhere and a ceiling on memory.

What is searched is all that was written or printed, and all sockets that listened meanwhile.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from .command import Ended, Place, wait_for
from .conftest import free_port
from .record import Record, Run

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "nobody",
    "MLFLOW_TRACKING_PASSWORD": "planted-pass-word",
    "AWS_SECRET_ACCESS_KEY": "planted/aws+key",
    "AWS_ACCESS_KEY_ID": "PLANTEDAWSID",
    "HF_TOKEN": "hf_plantedtoken",
    "MY_API_KEY": "planted-api-key",
}
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}  # the last is the first, as IPv6 writes it
IN_URI = "planted-in-uri"
PLANTED = [value for name, value in SECRETS.items() if not name.endswith("NAME")] + [IN_URI]

SWEEP = f"""
# A comment with planted-api-key and http://me:{IN_URI}@host in it.
name: guarded
trial:
  model: {{name: gan}}
  network: {{name: mlp, width: 64, depth: 1}}
  data: {{name: "mylab:Leaky", n: 500}}
  budget: {{g_steps: 20}}
  samples: {{every: 10}}
  score: {{every: 10, samples: 64}}
  log: {{every: 2}}
  diagnosis: {{every: 0}}
space:
  data.batch_size: {{grid: [16, 1000000, 17]}}
resources: {{memory_gb: 0.4, pack: 1}}
"""

LEAKY = '''

from gansweep.data.toys import Ring8


class Leaky(Ring8):
    """Logs its secret, and in a worker says it in an error, where batches are of 17."""

    def load(self):
        import logging
        import threading

        logging.getLogger("gansweep").warning("downloads with %s", os.environ["HF_TOKEN"])
        if self.settings.batch_size == 17 and threading.current_thread().name == "pack":
            raise OSError(f"https://me:{os.environ['MY_API_KEY']}@hub.org/x says no")
        return super().load()
'''


@dataclass
class Sockets:
    """Addresses on which a place's processes listened, by program; looked at again and again."""

    place: Place
    found: dict[str, set[str]] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        for process in self.place.processes():
            with contextlib.suppress(psutil.Error):
                for each in process.net_connections("inet"):
                    if each.status == psutil.CONN_LISTEN:
                        self.found.setdefault(process.name(), set()).add(each.laddr.ip)

    def __enter__(self) -> Sockets:
        def watch() -> None:
            while not self.over.wait(0.3):
                self.look()

        threading.Thread(target=watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()


@contextlib.contextmanager
def served(place: Place, port: int, log: Path) -> Iterator[None]:
    """`gansweep ui` over the place's database."""
    with log.open("w") as target:
        ui = place.start("ui", "--port", port, stdout=target, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: "compare" in log.read_text(), seconds=300, what="the server's start")
        yield
    finally:
        ui.send_signal(signal.SIGINT)
        ui.wait(timeout=60)


@dataclass(frozen=True)
class Guarded:
    place: Place
    ended: Ended
    record: Record
    traceback: str
    source: str
    others: list[Ended]
    of_ui: dict[str, set[str]]
    of_sweep: dict[str, set[str]]
    home: Path
    temporary: Path

    def trial(self, batch: int) -> Run:
        return self.record.named(f"batch_size={batch}")


class Echo(BaseHTTPRequestHandler):
    """A server that refuses everybody and repeats what it was told."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()
        self.wfile.write(f"not you: {dict(self.headers)}".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def guarded(
    new_place: Callable[..., Place], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    home = tmp_path_factory.mktemp("home")
    temporary = Path(tempfile.mkdtemp(prefix="gs"))  # short: Ray puts sockets in it
    place = new_place("guarded", HOME=str(home), RAY_TMPDIR=str(temporary))
    server = Place(place.folder / "server")
    lab = place.folder / "lab"
    with (lab / "mylab.py").open("a") as file:
        file.write(LEAKY)
    path = place.folder / "guarded.yaml"
    path.write_text(SWEEP)
    place.environment.update(SECRETS)
    port = free_port()
    uri = f"http://me:{IN_URI}@127.0.0.1:{port}"
    try:
        with Sockets(server) as of_ui, served(server, port, server.folder / "ui.log"):
            with Sockets(place) as of_sweep:
                ended = place.run("run", path, "--tracking-uri", uri, code=1)
            others = [place.run("show", "guarded", "--tracking-uri", uri)]
            others += [place.run("ui", "guarded", "--tracking-uri", uri)]
            others += [place.run("show", "other", "--tracking-uri", uri, code=2)]
            record = Record(f"http://127.0.0.1:{port}", "guarded")
            traceback = record.text(record.named("batch_size=17"), "traceback.txt")
            source = record.text(record.parent, "source/guarded.yaml")
        others += [place.run("run", path, "--tracking-uri", uri, code=2)]  # it is away
        with HTTPServer(("127.0.0.1", 0), Echo) as refusing:
            threading.Thread(target=refusing.serve_forever, daemon=True).start()
            there = f"http://me:{IN_URI}@127.0.0.1:{refusing.server_port}"
            others += [place.run("run", path, "--tracking-uri", there, code=2)]
            others += [place.run("sync", "guarded", "--tracking-uri", there, code=None)]
            refusing.shutdown()
        others += [
            place.run("run", path, f"data.path={SECRETS['HF_TOKEN']}", code=2),
            place.run("run", path, "network.secret=planted-in-uri", code=2),
            place.run("plan", path, "--json"),
        ]
        sockets = of_ui.found, of_sweep.found
        yield Guarded(place, ended, record, traceback, source, others, *sockets, home, temporary)
    finally:
        server.close()
        shutil.rmtree(temporary, ignore_errors=True)


def test_no_secret_is_written_or_printed(guarded: Guarded) -> None:
    looked_at = 0
    for text in (guarded.ended.text, *(each.text for each in guarded.others)):
        assert not [secret for secret in PLANTED if secret in text], text
    assert "no MLflow server answers" in guarded.others[3].text
    assert "refuses us: 401" in guarded.others[4].text
    for file in guarded.place.folder.rglob("*"):
        if not file.is_file() or file.name in ("guarded.yaml", "mylab.py"):
            continue
        looked_at += 1
        content = file.read_bytes()
        for secret in PLANTED:
            assert secret.encode() not in content, f"{secret} in {file}"
            assert secret.encode().hex().encode() not in content, f"{secret} in {file}, as hex"
    names = {file.name for file in guarded.place.folder.rglob("*")}
    for name in ("driver.log", "plan.json", "mlflow.db", "environment.txt", "guarded.yaml"):
        assert name in names, names
    assert looked_at >= 15


def test_rays_logs_hold_none_either(guarded: Guarded) -> None:
    files = [file for file in guarded.temporary.rglob("logs/*") if file.is_file()]
    assert len(files) > 5
    for file in files:
        content = file.read_bytes()
        assert not [secret for secret in PLANTED if secret.encode() in content], file


def test_what_was_to_be_hidden_was_there(guarded: Guarded) -> None:
    """Else nothing was tried."""
    log = (guarded.place.folder / "runs/guarded/driver.log").read_text()
    assert "downloads with ***" in log
    run = guarded.trial(17)
    raised = "OSError: https://***@hub.org/x says no"
    told = f"OwnCodeError: data.name: mylab:Leaky raises {raised} (in load, "
    assert run.tags["gansweep.reason"].startswith(told)
    assert f"\n{raised}\n" in guarded.traceback
    assert f"failed  batch_size=17: {told}" in guarded.ended.text
    assert "# A comment with *** and http://***@host in it." in guarded.source


def test_a_trial_above_its_ceiling_ends_for_this_reason_and_the_others_go_on(
    guarded: Guarded,
) -> None:
    run = guarded.trial(1_000_000)
    assert run.status == "FAILED"
    assert run.tags["gansweep.state"] == "failed"
    assert run.tags["gansweep.reason"] == (
        "out_of_memory: AboveCeilingError: it takes more than resources.memory_gb allows"
    )
    assert guarded.ended.text.count("out_of_memory") == 1
    run = guarded.trial(16)
    assert (run.status, run.tags["gansweep.state"]) == ("FINISHED", "completed")
    assert run.steps("loss/d") == list(range(2, 21, 2))


def test_every_server_listens_on_loopback(guarded: Guarded) -> None:
    for found in (guarded.of_ui, guarded.of_sweep):
        assert found
        assert set.union(*found.values()) <= LOOPBACK, found
    assert any("raylet" in name for name in guarded.of_sweep), guarded.of_sweep
    assert any("gcs" in name for name in guarded.of_sweep), guarded.of_sweep


def test_the_users_home_has_no_token_of_ours(guarded: Guarded) -> None:
    assert not (guarded.home / ".ray").exists()
