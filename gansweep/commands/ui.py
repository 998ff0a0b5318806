"""`gansweep ui`: MLflow's pages over the record."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import IO

from rich.console import Console

from gansweep.errors import ConfigError
from gansweep.processes import below, kill
from gansweep.redaction import redact, without_userinfo
from gansweep.tracking.mlflow import (
    EVERY_ADDRESS,
    MlflowStore,
    own_name,
    server_command,
    server_environment,
    tracking_uri,
)

START_SECONDS = 90.0

END_SECONDS = 5.0
"""For the server to end by itself."""


def ui_command(
    name: str | None, *, uri: str | None, host: str, port: int, allowed_hosts: Sequence[str] = ()
) -> int:
    """Serve until interrupted; a tracking server that runs already is only pointed at."""
    store = MlflowStore(tracking_uri(uri))
    store.check()
    console = Console(soft_wrap=True)
    running = store.uri.startswith(("http://", "https://"))
    base = without_userinfo(store.uri) if running else f"http://{own_name(host)}:{port}"
    page = _page(store, name, base) if name else base
    if running:
        console.print(page)
        return 0
    console.print(f"starting MLflow over {redact(store.uri)}")
    # A file: a server that nobody listens to would wait for room in a pipe, for ever.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as words:
        server = subprocess.Popen(
            server_command(store.uri, host=host, port=port, allowed_hosts=allowed_hosts),
            stdout=subprocess.DEVNULL,
            stderr=words,
            env={**server_environment(store.uri), **os.environ},
        )
        try:
            here = "127.0.0.1" if host in EVERY_ADDRESS else host
            _wait_until_healthy(server, words, f"http://{here}:{port}")
            console.print(f"compare {page}")
            console.print("Ctrl-C ends it")
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """A browser may hold on to a connection that the server would wait for."""
    started = below(server.pid)
    server.terminate()
    try:
        server.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        kill(*started, server.pid)
        server.wait()


def _page(store: MlflowStore, name: str, base: str) -> str:
    experiment = store.existing_experiment(name)
    tags = store.sweep_tags(name)
    return store.comparison_url(
        experiment, base, metric=tags.get("metric", "score/swd"), mode=tags.get("mode", "min")
    )


def _wait_until_healthy(server: subprocess.Popen[bytes], words: IO[str], base: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            words.seek(0)
            last = words.read().strip().splitlines()
            raise ConfigError.single(
                "gansweep ui",
                f"MLflow ended at once: {last[-1] if last else 'no message'}",
                "is the port taken? choose another with --port",
            )
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise ConfigError.single("gansweep ui", f"MLflow did not answer within {START_SECONDS:.0f} s")
