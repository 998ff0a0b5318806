"""The wheel, installed where the checkout cannot be seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from .command import FOREIGN, REPOSITORY
from .record import Record

pytestmark = pytest.mark.long

TINY = """
name: tiny
trial:
  model: {name: gan}
  network: {name: mlp, width: 16, depth: 1}
  latent: {dim: 4}
  data: {name: digits, batch_size: 16}
  budget: {g_steps: 4}
  score: {samples: 16}
  log: {every: 2}
space:
  optimizer.lr: {grid: [0.01, 0.1]}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the tree with the backend of this environment, else with one that pip fetches."""
    out = tmp_path_factory.mktemp("dist")
    try:
        import hatchling  # noqa: F401

        options = ["--no-isolation"]
    except ImportError:
        options = []
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", *options, "--outdir", str(out), str(REPOSITORY)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`gansweep` of a fresh environment that borrows all but gansweep from this one's packages."""
    root = tmp_path_factory.mktemp("elsewhere")
    venv.create(root / "env", with_pip=False)
    paths = {"base": str(root / "env"), "platbase": str(root / "env")}
    packages = Path(sysconfig.get_path("purelib", vars=paths))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    subprocess.run(
        [
            sys.executable, "-m", "pip", "--python", str(root / "env" / "bin" / "python"),
            "install", "--no-deps", "--no-index", "--quiet", str(wheel),
        ],
        check=True, timeout=120,
    )  # fmt: skip
    borrowed = sysconfig.get_path("purelib")
    (packages / "borrowed.pth").write_text(f"{borrowed}\n")
    assert any(name.endswith("entry_points.txt") for name in names)
    assert any(name.endswith("extractors/digits.safetensors") for name in names)
    return root / "env" / "bin" / "gansweep"


def call(command: Path, folder: Path, *words: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not FOREIGN.match(k) and k != "PYTHONPATH"}
    ended = subprocess.run(
        [str(command), *words], cwd=folder, env=kept, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_wheel_holds_the_package_and_its_licence_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        licences = [name for name in names if name.endswith("licenses/LICENSE")]
        assert len(licences) == 1
        assert archive.read(licences[0]) == (REPOSITORY / "LICENSE").read_bytes()
        assert "Apache License" in archive.read(licences[0]).decode()
    tops = {name.split("/")[0] for name in names}
    assert len(tops) == 2
    assert tops == {"gansweep"} | {top for top in tops if top.endswith(".dist-info")}
    assert not [name for name in names if "test" in name.lower()]
    modules = {
        str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "gansweep").rglob("*.py")
    }
    assert len(modules) > 50
    assert modules <= set(names)


def test_the_installed_command_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    python = installed.with_name("python")
    where = subprocess.run(
        [python, "-c", "import gansweep; print(gansweep.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert where.startswith(str(installed.parents[1])), where
    version = call(installed, tmp_path, "--version")
    assert version.startswith("gansweep ")
    (tmp_path / "tiny.yaml").write_text(TINY)
    plan = json.loads(call(installed, tmp_path, "plan", "tiny.yaml", "--json"))
    assert len(plan["trials"]) == 2
    text = call(installed, tmp_path, "train", "tiny.yaml")
    assert "completed at g_step 4" in text
    record = Record(f"sqlite:///{tmp_path / 'mlflow.db'}", "tiny", parent=False)
    (run,) = record.trials.values()
    assert run.status == "FINISHED"
    assert run.steps("loss/d") == [2, 4]
    assert run.tags["gansweep.version"] == version.split()[1]
