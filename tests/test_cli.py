from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

import gansweep
from gansweep import cli

HEAVY = ("torch", "ray", "mlflow", "omegaconf", "pytorch_lightning", "numpy", "PIL", "sklearn")


@pytest.mark.parametrize(
    "program",
    [
        "import gansweep.cli",
        "import sys, gansweep.cli\nsys.argv = ['gansweep', '--help']\n"
        "try: gansweep.cli.main()\nexcept SystemExit: pass",
        "import sys, gansweep.cli\nsys.argv = ['gansweep', 'run', '--help']\n"
        "try: gansweep.cli.main()\nexcept SystemExit: pass",
    ],
)
def test_help_imports_nothing_heavy(program: str) -> None:
    program += f"\nimport sys; print('LOADED', [m for m in {HEAVY} if m in sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=250, check=True
    )
    assert ended.stdout.splitlines()[-1] == "LOADED []"


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[object, str]:
    monkeypatch.setattr(sys, "argv", ["gansweep", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code, capsys.readouterr().out


def test_help_names_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = run(monkeypatch, capsys, "--help")
    assert code == 0
    for command in ("run", "train", "plan", "show", "ui"):
        assert f" {command} " in out
    assert run(monkeypatch, capsys, "-h") == (0, out)


@pytest.mark.parametrize(
    ("command", "usage"),
    [("plan", "[OPTIONS] {FILE} [KEY=VALUE]..."), ("ui", "[OPTIONS] [NAME]")],
)
def test_what_may_be_left_out_is_in_one_pair_of_brackets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, usage: str
) -> None:
    assert f" {command} {usage} " in run(monkeypatch, capsys, command, "--help")[1]


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, capsys, "--version") == (0, f"gansweep {gansweep.__version__}\n")


@pytest.mark.parametrize(
    ("word", "said"),
    [("--version", f"gansweep {gansweep.__version__}\n"), ("--help", "Usage: python -m gansweep ")],
)
def test_the_package_runs_as_a_module(word: str, said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gansweep", word],
        capture_output=True, text=True, timeout=250, check=True,
    )  # fmt: skip
    assert said in ended.stdout
    assert ended.stderr == ""


def test_what_nobody_expected_is_shown_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ConnectionError("http://me:hunter2@host does not answer")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.endswith("ConnectionError: http://***@host does not answer\n")


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("raise RecursionError('too deep')", 130, ""),
        ("from gansweep import nothing_of_that_name", 130, ""),
        ("def call(): raise ValueError('a mistake of another kind')", 1, "ValueError: a mistake"),
    ],
)
def test_an_interrupt_that_a_package_caught_explains_what_fails_to_import(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    source: str,
    code: int,
    said: str,
) -> None:
    """As where Ctrl-C meets NumPy in the middle of its import: torch goes on, and SciPy fails."""
    before = signal.getsignal(signal.SIGINT)
    (tmp_path / "met_by_ctrl_c.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "met_by_ctrl_c", raising=False)

    def importing() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        importlib.import_module("met_by_ctrl_c").call()

    monkeypatch.setattr(cli, "app", importing)
    try:
        with pytest.raises(SystemExit) as caught:
            cli.main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert caught.value.code == code
    err = capsys.readouterr().err
    assert (said in err) if said else (err == "")


def test_a_store_that_is_away_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise MlflowException("http://me:hunter2@host: [Errno 111] Connection refused')")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 130
    assert capsys.readouterr().err == (
        "gansweep: the MLflow store does not serve: Connection refused: the same command goes on\n"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def broken() -> None:
        raise OSError(number, "No room", "runs/mine/draft")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 130
    assert capsys.readouterr().err == (
        f"gansweep: [Errno {number}] No room: 'runs/mine/draft': make room, and the same command "
        "goes on\n"
    )


def test_this_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setattr(cli, "app", lambda: sys.exit(0))
    with pytest.raises(SystemExit):
        cli.main()
    assert "127.0.0.1" in os.environ["no_proxy"]


@pytest.mark.parametrize("closed", ["", ">&-", "<&- >&- 2>&-"])
def test_streams_that_the_shell_has_closed_are_nobodys(tmp_path: Path, closed: str) -> None:
    code = """
import sys
from pathlib import Path
from gansweep import cli
from gansweep.terminal import quiet
def app():
    with quiet(Path("said.log")) as console:
        console.print("shown")
        print("logged", flush=True)
    Path("whole").write_text("yes")
cli.app = app
cli.main()
"""
    command = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("" if closed else "shown\n")
    assert (tmp_path / "said.log").read_text() == "logged\n"
    assert (tmp_path / "whole").read_text() == "yes"


@pytest.mark.parametrize("words", [["-m", "gansweep"], ["-P", "-m", "gansweep.cli"]])
def test_a_module_of_the_folder_is_none_of_pythons(tmp_path: Path, words: list[str]) -> None:
    """Though `-m` puts the folder first."""
    for name in ("random", "tempfile", "typer", "yaml"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the own one')")
    command = [sys.executable, *words, "settings", "model.gan"]
    path = str(Path(__file__).parents[1])  # the code beside these tests
    ended = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
