"""`gansweep ui`: MLflow's pages over the record."""

from __future__ import annotations

import errno
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any

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
    # A file: a server that nobody listens to would wait for room in a pipe, for ever.
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as words,
        ExitStack() as until_it_listens,
        _signals_as_ctrl_c(),
    ):
        until_it_listens.enter_context(_sole_start(port))
        _check_is_free(host, port)
        console.print(f"starting MLflow over {redact(store.uri)}", markup=False)
        server = subprocess.Popen(
            server_command(store.uri, host=host, port=port, allowed_hosts=allowed_hosts),
            stdout=subprocess.DEVNULL,
            stderr=words,
            env=server_environment(store.uri),
        )
        try:
            with _ends_with_us(server):
                here = "127.0.0.1" if host in EVERY_ADDRESS else host
                _wait_until_healthy(server, words, f"http://{here}:{port}")
                until_it_listens.close()
                console.print(f"compare {page}")
                console.print("Ctrl-C ends it")
                if server.wait():
                    raise _ended(words, "ended")
                return 0
        except KeyboardInterrupt:
            return 0
        finally:
            _end(server)


@contextmanager
def _sole_start(port: int) -> Iterator[None]:
    """Of two commands on one port, neither of whose servers listens yet, one begins.

    The name that stands for it is gone with its process (on Linux; elsewhere there is none).
    """
    with socket.socket(socket.AF_UNIX) as name:
        try:
            name.bind(f"\0gansweep ui {port}")
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                what = f"{port} is to be had by another gansweep ui, which is starting"
                remedy = "choose another with --port"
                raise ConfigError.single("port", what, remedy) from None
        yield


@contextmanager
def _ends_with_us(server: subprocess.Popen[bytes]) -> Iterator[None]:
    """Who is killed can end nothing: a shell does, once the pipe that it reads has no writer."""
    watch = subprocess.Popen(
        ["sh", "-c", f"read nothing; kill -TERM {server.pid}"],
        stdin=subprocess.PIPE,
        start_new_session=True,  # what ends this process must not end it first
    )
    try:
        yield
    finally:
        watch.kill()
        watch.communicate()


def _check_is_free(host: str, port: int) -> None:
    """Whoever listens there would be taken for our server, which takes its time to find out."""
    with suppress(socket.gaierror):  # which MLflow tells, as what else is wrong with a host
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            try:
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as MLflow does
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind(address)
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EACCES):
                    what = f"{port} of {host} cannot be had: {error.strerror}"
                    remedy = "choose another with --port"
                    raise ConfigError.single("port", what, remedy) from None


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """SIGTERM, and the end of the terminal, would end this process and leave the server."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number in numbers if before[number] != signal.SIG_IGN]  # as under nohup
    for number in heard:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _end(server: subprocess.Popen[bytes]) -> None:
    """A browser may hold on to a connection that the server would wait for."""
    started = below(server.pid)
    server.terminate()
    try:
        server.wait(END_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
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
    own = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # which is none of the way
    while time.monotonic() < end:
        if server.poll() is not None:
            raise _ended(words, "ended at once", "is the port taken? choose another with --port")
        try:
            with own.open(f"{base}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise ConfigError.single("gansweep ui", f"MLflow did not answer within {START_SECONDS:.0f} s")


def _ended(words: IO[str], how: str, remedy: str = "") -> ConfigError:
    words.seek(0)
    last = words.read().strip().splitlines()
    what = f"MLflow {how}: {last[-1] if last else 'no message'}"
    return ConfigError.single("gansweep ui", what, remedy)
