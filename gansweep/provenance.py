"""Where a result comes from: versions, machine, and the commit of the user's project."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from gansweep import __version__

MAIN_PACKAGES = ("torch", "pytorch-lightning", "ray", "mlflow", "omegaconf")


def git_commit(folder: Path) -> str | None:
    """The commit of `folder`, with `-dirty` where tracked files differ; None outside git."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def version_tags(folder: Path) -> dict[str, str]:
    """Tags of a run: versions of what trains, and the commit."""
    tags = {"version": __version__, "python": platform.python_version()}
    tags.update({f"version.{name}": metadata.version(name) for name in MAIN_PACKAGES})
    commit = git_commit(folder)
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["git_commit"] = commit
    return tags


def environment_text() -> str:
    """The machine and every installed package with its version, as in a requirements file."""
    packages = sorted(set(filter(None, map(_named, metadata.distributions()))), key=str.lower)
    machine = f"# {platform.platform()}, {platform.processor() or platform.machine()}"
    return "\n".join([machine, f"# Python {platform.python_version()}", *packages, ""])


def _named(package: metadata.Distribution) -> str | None:
    """NAME==VERSION; None where a broken installation does not tell.

    `metadata` would parse the whole of each package's description: a fifth of a second in all.
    """
    text = package.read_text("METADATA") or package.read_text("PKG-INFO") or ""
    fields = dict(
        re.findall(r"^(Name|Version): *(.*?) *$", text.partition("\n\n")[0], re.MULTILINE)
    )
    return f"{fields['Name']}=={fields['Version']}" if len(fields) == 2 else None
