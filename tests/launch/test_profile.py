from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gansweep.errors import ConfigError
from gansweep.launch.base import Launcher, Profile
from gansweep.launch.catalogue import LAUNCHERS
from gansweep.launch.profile import find_launcher, make_launcher, user_folder
from gansweep.launch.ray_jobs import RayJobs
from gansweep.launch.slurm import Slurm

SHIPPED = Path(__file__).resolve().parents[2] / "infra" / "profiles"


def mistakes(target: str | None, profile: str | None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        find_launcher(target, profile)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.usefixtures("work")
def test_every_target_has_typed_settings() -> None:
    assert len(LAUNCHERS.names) >= 2
    for name in LAUNCHERS.names:
        launcher = make_launcher(name, {}, at="profile")
        assert isinstance(launcher, Launcher)
        assert isinstance(launcher.profile, launcher.Settings)
        assert issubclass(launcher.Settings, Profile)


def test_a_profile_says_the_target_and_the_settings(profile: Callable[..., str]) -> None:
    name, launcher = find_launcher(None, profile("big", "to: slurm\nnodes: 3\nstorage: /shared"))
    assert (name, type(launcher)) == ("slurm", Slurm)
    assert launcher.profile == Slurm.Settings(nodes=3, storage="/shared")
    _, launcher = find_launcher("ray", profile("there", "address: http://head:8265"))
    assert isinstance(launcher, RayJobs)
    assert launcher.profile == RayJobs.Settings(address="http://head:8265")


def test_the_projects_profile_comes_before_the_users(profile: Callable[..., str]) -> None:
    user_folder().mkdir(parents=True)
    (user_folder() / "mine.yaml").write_text("to: slurm\nnodes: 5")
    assert find_launcher(None, "mine")[1].profile == Slurm.Settings(nodes=5)
    profile("mine", "to: slurm\nnodes: 2")
    assert find_launcher(None, "mine")[1].profile == Slurm.Settings(nodes=2)


def test_mistakes_name_the_nearest(profile: Callable[..., str]) -> None:
    profile("cluster", "to: slurm\nnode: 3\ncpus: many")
    assert mistakes("slrm", None) == ["--to: unknown target 'slrm' " + AFTER.format("slurm")]
    (found,) = mistakes("slurm", "clutser")
    assert found.startswith("--profile: no profile 'clutser' in infra/profiles or ")
    assert found.endswith("(did you mean 'cluster'?)")
    first, second = mistakes(None, "cluster")
    assert first == "infra/profiles/cluster.yaml.node: unknown key (did you mean 'nodes'?)"
    assert second.startswith("infra/profiles/cluster.yaml.cpus: ")
    assert mistakes("ray", "cluster") == [
        "--to: is ray, but infra/profiles/cluster.yaml is a profile for slurm"
    ]
    assert mistakes(None, None)[0].startswith("--to: is required (one of kubernetes, ray, slurm")
    assert mistakes(None, profile("keyless", "- to: slurm")) == [
        "infra/profiles/keyless.yaml: is no mapping (a profile has keys like to, storage)"
    ]
    (found,) = mistakes(None, "infra/profiles/cluster.yaml")
    assert found.endswith("(did you mean 'cluster'?)")
    assert mistakes(None, profile("list", "to: [slurm]"))[0].startswith(
        "infra/profiles/list.yaml: to: is ['slurm']"
    )


AFTER = (
    "(did you mean '{}'? one of kubernetes, ray, slurm, or an import path like mylab.parts:Mine)"
)


def test_shipped_profiles_are_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SHIPPED.parents[1])
    names = [path.stem for path in SHIPPED.glob("*.yaml")]
    assert len(names) >= 2
    for name in names:
        find_launcher(None, name)
