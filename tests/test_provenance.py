from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from gansweep.provenance import environment_text, git_commit, version_tags


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.yaml").write_text("a: 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    return tmp_path


def test_commit_clean_and_dirty(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    assert len(head) == 40
    git(repository, "tag", "--annotate", "v1", "--message", "v1")  # a tag does not stand for it
    assert git_commit(repository) == head
    (repository / "untracked").write_text("x")
    (repository / "below").mkdir()
    assert git_commit(repository / "below") == head
    (repository / "a.yaml").write_text("a: 2\n")
    assert git_commit(repository) == f"{head}-dirty"
    tags = version_tags(repository)
    assert tags["git_commit"] == tags["mlflow.source.git.commit"] == f"{head}-dirty"


def test_outside_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "plain"
    folder.mkdir()
    assert git_commit(folder) is None
    assert "git_commit" not in version_tags(folder)
    monkeypatch.setenv("PATH", str(folder))  # no git at all
    assert git_commit(folder) is None


def test_versions_and_environment(tmp_path: Path) -> None:
    tags = version_tags(tmp_path)
    assert tags["version.torch"] == metadata.version("torch")
    assert tags["version"] == metadata.version("gansweep")
    assert all(isinstance(value, str) for value in tags.values())
    lines = environment_text().splitlines()
    assert lines[0].startswith("# ")
    assert f"mlflow=={metadata.version('mlflow')}" in lines
    packages = [line for line in lines if not line.startswith("#")]
    assert packages == sorted(packages, key=str.lower)
    assert len(packages) == len(set(packages)) > 20


def test_every_package_is_named_as_it_names_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed() -> set[str]:
        return {line for line in environment_text().splitlines() if not line.startswith("#")}

    told = {f"{each.metadata['Name']}=={each.version}" for each in metadata.distributions()}
    assert installed() == told
    for name, file, text in (
        ("one-1.dist-info", "METADATA", "Metadata-Version: 2.1\nName:  One.More \nVersion: 1\n"),
        ("egg.egg-info", "PKG-INFO", "Name: egg\nVersion: 2\n\nName: of its description"),
        ("half-3.dist-info", "METADATA", "Name: half\n\nVersion: of its description"),
        ("empty-4.dist-info", "RECORD", ""),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert installed() == told | {"One.More==1", "egg==2"}
