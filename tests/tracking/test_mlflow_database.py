"""New databases, by MLflow itself and as copies of the one that is kept."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from gansweep.errors import ConfigError
from gansweep.tracking.mlflow import MlflowStore, database, tracking_uri
from gansweep.tracking.mlflow.database import make_database
from gansweep.tracking.mlflow.uri import sqlite_file, sqlite_uri


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is kept yet."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GANSWEEP_CACHE", str(folder))
    return folder


def dump(path: Path) -> list[str]:
    """All of a database, but for MLflow's own experiment, which has a place and a time."""
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("DELETE FROM experiments")
        return list(opened.iterdump())


def test_a_database_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path
) -> None:
    path = tmp_path / "mlflow.db"
    seen: list[list[str]] = []

    def broken(uri: str) -> None:
        made = sqlite_file(uri)
        assert made is not None
        made.write_bytes(b"half")
        seen.append([file.name for file in tmp_path.iterdir()])
        raise MlflowException("the power is gone")

    def late(uri: str) -> None:
        made = sqlite_file(uri)
        assert made is not None
        made.write_bytes(b"ours")
        shutil.copyfile(empty_database, path)  # another command was faster

    with monkeypatch.context() as patch:
        patch.setattr(database, "open_client", broken)
        with pytest.raises(ConfigError, match="the power is gone"):
            MlflowStore(tracking_uri(f"sqlite:///{path}")).experiment("sweep")
    assert len(seen) == 1
    assert path.name not in seen[0]
    assert len(seen[0]) == 1
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(database, "open_client", late)
    opened = MlflowStore(tracking_uri(f"sqlite:///{path}"))
    assert opened.experiment("template") == "1"  # theirs
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_next_database_is_a_copy_of_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    make_database(first)
    with monkeypatch.context() as patch:
        patch.setattr(database, "open_client", None)
        make_database(second)
    assert dump(first) == dump(second)
    assert len(dump(second)) > 100
    monkeypatch.chdir(tmp_path)
    client = MlflowClient(sqlite_uri(second))
    (own,) = client.search_experiments()
    assert own.experiment_id == "0"
    assert own.artifact_location == str(tmp_path / "mlruns" / "0")
    assert client.create_experiment("another") == "1"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["first.db", "second.db"]


def test_mlflow_makes_one_whatever_the_current_folder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes the folder into a statement in SQL, where both quotes and a colon are special."""
    folder = tmp_path / 'its "it\'s" :x'
    folder.mkdir()
    monkeypatch.chdir(folder)
    make_database(tmp_path / "mlflow.db")  # nothing is kept yet
    (own,) = MlflowClient(sqlite_uri(tmp_path / "mlflow.db")).search_experiments()
    assert own.artifact_location == (folder / "mlruns" / "0").as_uri()


@pytest.mark.parametrize("damage", ["cut", "gone", "other", "empty"])
def test_a_damaged_one_is_made_anew(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str, empty_database: Path
) -> None:
    def made_by_mlflow(uri: str) -> None:
        made = sqlite_file(uri)
        assert made is not None
        assert not made.exists()
        shutil.copy(empty_database, made)

    monkeypatch.setattr(database, "open_client", made_by_mlflow)
    make_database(tmp_path / "first.db")
    (kept,) = (cache / "mlflow").iterdir()
    whole = kept.read_bytes()
    match damage:
        case "cut":
            kept.write_bytes(whole[: len(whole) // 2])
        case "gone":
            kept.unlink()
        case "empty":
            kept.write_bytes(b"")
        case "other":
            kept.write_bytes(b"other" * 99)
    make_database(tmp_path / "second.db")
    assert dump(tmp_path / "second.db") == dump(Path(shutil.copy(empty_database, tmp_path)))
    assert kept.read_bytes() == whole


def test_where_nothing_can_be_kept_a_database_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANSWEEP_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    make_database(tmp_path / "mlflow.db")
    assert MlflowClient(sqlite_uri(tmp_path / "mlflow.db")).search_experiments()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "mlflow.db"]
