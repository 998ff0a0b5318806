"""A profile: what a person's cluster is like, in a YAML file of the project or of the user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from gansweep.errors import ConfigError, Problem, nearest
from gansweep.launch.base import Launcher
from gansweep.launch.catalogue import LAUNCHERS
from gansweep.sweep.file import read_yaml

PROJECT = Path("infra/profiles")


def user_folder() -> Path:
    """~/.config/gansweep/profiles on Linux."""
    from platformdirs import user_config_path

    return user_config_path("gansweep") / "profiles"


def find_launcher(
    target: str | None, profile: str | None, over: Mapping[str, Any] | None = None
) -> tuple[str, Launcher]:
    """The target's name and its launcher, set up by the profile of that name.

    The profile's key `to` may say the target as well. Of two profiles of one name the project's
    counts (`infra/profiles/NAME.yaml` in this folder). `over`: settings over the profile's, unless
    None, of which not every target has each.

    Raises:
        ConfigError: no such target or profile, or every mistake in the profile.
    """
    tree, where = ({}, "") if profile is None else _read(profile)
    said = tree.pop("to", None)
    if target is None and said is None:
        remedy = f"one of {', '.join(LAUNCHERS.names)}; or a --profile that says `to:`"
        raise ConfigError.single("--to", "is required", remedy)
    if target is not None and said is not None and target != said:
        raise ConfigError.single("--to", f"is {target}, but {where} is a profile for {said}")
    at = where or "profile"
    if said is not None and not isinstance(said, str):
        raise ConfigError.single(
            f"{at}: to", f"is {said!r}", f"one of {', '.join(LAUNCHERS.names)}"
        )
    name, named_at = target or str(said), "--to" if target else f"{at}: to"
    has = {field.name for field in fields(LAUNCHERS.load(name, at=named_at).Settings)}
    given = {key: value for key, value in (over or {}).items() if value is not None}
    if foreign := sorted(set(given) - has):
        raise ConfigError([Problem(f"--{key}", f"is nothing for --to {name}") for key in foreign])
    return name, make_launcher(name, {**tree, **given}, at=at, named_at=named_at)


def make_launcher(
    target: str, settings: Mapping[str, Any], *, at: str, named_at: str = "--to"
) -> Launcher:
    """The launcher `target` with these settings; mistakes are reported under `at`."""
    LAUNCHERS.load(target, at=named_at)
    problems: list[Problem] = []
    part = LAUNCHERS.part({**settings, "name": target}, at=at, problems=problems)
    if part is None:
        raise ConfigError(problems)
    return part.cls(part.settings)


def _read(name: str) -> tuple[dict[str, Any], str]:
    """A profile's keys, and where it is."""
    folders = (PROJECT, user_folder())
    for folder in folders:
        path = folder / f"{name}.yaml"
        if path.is_file():
            # A walltime without quotes is told with the other mistakes.
            tree = read_yaml(path, kind="profile", keys="to, storage", odd_numbers=True)
            return tree, str(path)
    known = sorted(_names(folders))
    where = " or ".join(map(str, folders))
    remedy = nearest(Path(name).stem, known) or f"write one: {PROJECT}/{name}.yaml"
    raise ConfigError.single("--profile", f"no profile {name!r} in {where}", remedy)


def _names(folders: Iterable[Path]) -> set[str]:
    return {path.stem for folder in folders for path in folder.glob("*.yaml")}
