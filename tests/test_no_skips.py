"""`pytest --no-skips`, by runs of pytest in a folder of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parent

CONFTEST = """
from no_skips import NoSkips

def pytest_configure(config):
    config.pluginmanager.register(NoSkips({part!r}))
"""

TESTS = """
import pytest

@pytest.fixture
def slurm():
    pytest.skip("needs slurmctld")

def test_good():
    pass

@pytest.mark.xfail
def test_expected():
    assert False

def test_of_a_cluster(slurm):
    pass
"""


@pytest.mark.parametrize(
    ("content", "part", "code", "said"),
    [
        (TESTS, "", 1, "test_x.py::test_of_a_cluster: needs slurmctld"),
        (TESTS, "of_a_cluster", 1, "1 skipped, and none may"),
        (TESTS, "elsewhere", 0, "1 passed, 1 skipped, 1 xfailed"),
        (TESTS.replace("pytest.skip(", "print("), "", 0, "2 passed, 1 xfailed"),
        ("import pytest\npytest.importorskip('absent_xyz')", "", 5, "absent_xyz"),
    ],
)
def test_a_skip_fails_the_run_and_is_named(
    tmp_path: Path, content: str, part: str, code: int, said: str
) -> None:
    ended = ran(tmp_path, content, part)
    assert (ended.returncode, said in ended.stdout) == (code, True), ended.stdout


def ran(folder: Path, content: str, part: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST.format(part=part))
    (folder / "test_x.py").write_text(content)
    without = ("-p", "no:cacheprovider", "-p", "no:timeout")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *without, *options, "test_x.py"],
        cwd=folder, env={"PYTHONPATH": str(HOME), "PATH": ""}, capture_output=True, text=True,
        timeout=250, check=False,
    )  # fmt: skip


def test_tests_of_other_processes_count(tmp_path: Path) -> None:
    content = f"{TESTS}\ndef test_of_a_package():\n    pytest.importorskip('absent_xyz')\n"
    ended = ran(tmp_path, content, "", "--numprocesses=2")
    assert ended.returncode == 1, ended.stdout
    assert "2 skipped, and none may" in ended.stdout
    for said in ("test_of_a_cluster: needs slurmctld", "test_of_a_package: could not import"):
        assert f"test_x.py::{said}" in ended.stdout
