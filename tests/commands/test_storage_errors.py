"""A place in an object store that cannot be used: told before anything starts, with exit code 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sweep_files import text

from gansweep import storage
from gansweep.commands.run import run_command
from gansweep.commands.train import train_command
from gansweep.errors import ConfigError
from gansweep.sweep import startup
from gansweep.tracking.mlflow import MlflowStore

Gansweep = Callable[..., tuple[int, str, str]]
Command = Callable[[str], None]

SCHEME = r"s4:// is not known \(s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, or a folder\)"


@pytest.fixture(params=["run", "train"])
def command(request: pytest.FixtureRequest, tmp_path: Path, store: MlflowStore) -> Command:
    file = tmp_path / "small.yaml"
    file.write_text(text())

    def run(root: str) -> None:
        run_command(file, [], address=None, uri=store.uri, root=root, retry_failed=False)

    def train(root: str) -> None:
        train_command(file, [], uri=store.uri, root=root, record=True)

    return {"run": run, "train": train}[request.param]


def test_before_anything_starts(
    command: Command, s3: str, store: MlflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=SCHEME):
        command("s4://b/x")
    with pytest.raises(ConfigError, match=r"s3://none-such/x.*: there is no bucket none-such"):
        command("s3://none-such/x")
    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs s3fs \(pip install .gansweep\[s3\]"):
        command(f"{s3}/x")
    with pytest.raises(ConfigError, match="no such sweep"):  # nothing was recorded
        store.trials("small")


@pytest.mark.parametrize("words", [("plan", "small.yaml"), ("sync", "small")])
def test_by_commands_that_look(gansweep: Gansweep, s3: str, words: tuple[str, ...]) -> None:
    Path("small.yaml").write_text(text())
    code, _, err = gansweep(*words, "--dir", "s4://b/x")
    assert code == 2
    assert "s4:// is not known" in err
    code, _, err = gansweep(*words, "--dir", "s3://none-such/x")
    assert code == 2
    assert "there is no bucket none-such (make it, or name another)" in err


@pytest.mark.parametrize("words", [("plan", "small.yaml"), ("sync", "small"),
                                   ("run", "small.yaml"), ("train", "small.yaml")])  # fmt: skip
def test_a_store_that_is_lost_meanwhile(
    gansweep: Gansweep, s3: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("small.yaml").write_text(text())
    storage.Bucket(f"{s3}/x/small").write("plan.json", b"{}")
    monkeypatch.setattr(startup, "start_ahead", lambda file, overrides: None)
    monkeypatch.setattr(storage, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(storage, "RETRY_SECONDS", 0.0)

    def fetch(self: storage.Bucket, *rest: object) -> None:
        raise storage.StorageError("no route to https://key:a-long-word@host")

    monkeypatch.setattr(storage.Bucket, "fetch", fetch)
    code, _, err = gansweep(*words, "--dir", f"{s3}/x")
    assert code == 130
    words = "the object store is away: no route to https://***@host: the same command goes on"
    assert err.endswith(f"gansweep: {words}\n")
    assert "Traceback" not in err


def test_a_sweep_that_is_not_there(gansweep: Gansweep, s3: str) -> None:
    storage.Bucket(f"{s3}/x/smell").write("plan.json", b"{}")
    code, _, err = gansweep("sync", "small", "--dir", f"{s3}/x")
    assert code == 2
    assert f"small: no such sweep in {s3}/x (did you mean 'smell'?)" in err


def test_a_plan_of_a_sweep_that_is_new(gansweep: Gansweep, s3: str) -> None:
    Path("small.yaml").write_text(text())
    code, out, _ = gansweep("plan", "small.yaml", "--dir", f"{s3}/x")
    assert code == 0
    assert out.count("waiting") == 2
    assert storage.Bucket(s3).names() == []
