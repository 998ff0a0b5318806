"""A person's mistakes, through the command line: one screen, exit code 2, nothing written."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from sweep_files import TEXT, text

from gansweep.storage import Bucket
from gansweep.sweep import startup

TRIAL = yaml.safe_load(TEXT)["trial"]
Gansweep = Callable[..., tuple[int, str, str]]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nobody listens, for as long as the test runs."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture(autouse=True)
def _no_ray_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "start_ahead", lambda file, overrides: None)


@pytest.fixture
def refused(gansweep: Gansweep, tmp_path: Path) -> Callable[..., list[str]]:
    """The mistakes that a sweep file of that content is refused for."""

    def run(content: str | None, *words: object, command: str = "run") -> list[str]:
        path = tmp_path / "file.yaml"
        if content is not None:
            path.write_text(content, encoding="utf-8")
        code, out, err = gansweep(command, path, *words)
        assert code == 2
        assert out == ""
        return checked(err)

    return run


def checked(err: str) -> list[str]:
    """The mistakes on stderr, in the form that every message has."""
    head, *lines = err.splitlines()
    assert "Traceback" not in err
    assert len(lines) <= 21
    assert head == f"gansweep: {len(lines)} mistake{'s' * (len(lines) > 1)}, nothing was started:"
    assert all(line.startswith("  ") and line.strip() for line in lines)
    assert os.listdir(".") == []  # no mlflow.db, no runs
    return [line.removeprefix("  ") for line in lines]


def trial(**sections: Any) -> str:
    return text(trial={**TRIAL, **sections})


LISTED_MODELS = (
    "one of bigan, cgan, dcgan, dragan, gan, hinge, lsgan, r1gan, r3gan, wgan, wgan_gp, or an"
)
CASES: list[tuple[str, str, list[str]]] = [
    ("unknown key", TEXT + "serach: {}\n", ["serach: unknown key (did you mean 'search'?)"]),
    (
        "unknown key of a section",
        trial(network={"name": "mlp", "widht": 8}),
        ["trial.network.widht: unknown key (did you mean 'width'?)"],
    ),
    (
        "unknown key far from all",
        trial(network={"name": "mlp", "qqq": 8}),
        ["trial.network.qqq: unknown key (valid: ", "width"],
    ),
    (
        "wrong type",
        trial(network={"name": "mlp", "width": "wide"}),
        ["trial.network.width: ", "'wide'", "Integer"],
    ),
    (
        "broken number",
        trial(budget={"g_steps": 5.5}),
        ["trial.budget.g_steps: ", "'5.5'", "Integer"],
    ),
    (
        "negative clip",
        text(space=None, seeds=2, trial={**TRIAL, "model": {"name": "wgan", "clip": -0.1}}),
        ["trial.model.clip: is -0.1, must be greater than 0"],
    ),
    (
        "negative clip in an axis",
        text(space={"model.clip": {"grid": [0.01, -0.1]}}),
        ["space.model.clip: model.clip is -0.1, must be greater than 0"],
    ),
    (
        "n_critic 0",
        trial(model={"name": "wgan", "n_critic": 0}),
        ["trial.model.n_critic: is 0, must be at least 1"],
    ),
    (
        "axis that names nothing",
        text(space={"model.clpi": {"grid": [1.0]}}),
        ["space.model.clpi: model.clpi unknown key (did you mean 'clip'?)"],
    ),
    (
        "axis of half a name",
        text(space={"clip": {"grid": [1.0]}}),
        ["space.clip: 'clip' names no setting of a trial (did you mean 'model.clip'?)"],
    ),
    (
        "axis of no section",
        text(space={"modle.clip": {"grid": [1.0]}}),
        ["space.modle.clip: 'modle.clip' names no setting of a trial (did you mean 'model'?)"],
    ),
    (
        "no duration",
        text(time_budget="two hours"),
        ["time_budget: 'two hours' is no duration (as 90m, 2h, 1d 12h or 1h30m, with d, h, "],
    ),
    (
        "GPU hours without a GPU",
        text(gpu_hours=5),
        ["gpu_hours: is set, and resources.gpu is 0 (set resources.gpu, or limit time_budget)"],
    ),
    ("empty space", text(space={}), ["space: is empty (add an axis"]),
    (
        "axis below a value",
        text(space={"optimizer.lr": {"grid": [0.1, 0.2]}, "optimizer.lr.d": {"grid": [0.1]}}),
        ["space.optimizer.lr.d: optimizer.lr is 0.1, which nothing can lie in (sweep optimizer.lr"],
    ),
    (
        "axis below a value of the trial",
        text(
            trial={**TRIAL, "model": {"name": "wgan", "clip": 0.01}},
            space={"model.clip.low": {"grid": [0.1, 0.2]}},
        ),
        ["space.model.clip.low: model.clip is 0.01, which nothing can lie in (sweep model.clip"],
    ),
    (
        "axis below nothing",
        text(space={"optimizer.betas.0": {"grid": [0.1, 0.2]}}),
        ["space.optimizer.betas.0: optimizer.betas unknown key (valid: alpha, eps, lr"],
    ),
    ("empty axis", text(space={"model.clip": {"grid": []}}), ["space.model.clip.grid: needs a"]),
    ("no space", text(space=None), ["space: is empty", "gansweep train, or add seeds"]),
    (
        "unknown variant",
        trial(model={"name": "wagn"}),
        ["trial.model.name: unknown model 'wagn' (did you mean 'wgan'?", LISTED_MODELS],
    ),
    (
        "unknown variant far from all",
        trial(model={"name": "stylegan3"}),
        ["unknown model 'stylegan3'", LISTED_MODELS],
    ),
    (
        "unknown network",
        trial(network={"name": "unet"}),
        ["trial.network.name: unknown network 'unet' (one of bigan, dcgan, maxout, mlp"],
    ),
    (
        "unknown data set",
        trial(data={"name": "lsun"}),
        ["trial.data.name: unknown data set 'lsun' (one of digits, fashion_mnist, ", "ring8"],
    ),
    (
        "unknown optimizer",
        trial(optimizer={"name": "lion"}),
        ["trial.optimizer.name: unknown optimizer 'lion' (one of adam, "],
    ),
    (
        "unknown score",
        trial(score={"names": ["fdi"]}),
        ["trial.score.names: unknown score 'fdi' (did you mean 'fd'? one of "],
    ),
    (
        "import path that fails",
        trial(model={"name": "mylab.models:MyGAN"}),
        ["trial.model.name: cannot import 'mylab.models:MyGAN'", "No module named 'mylab'"],
    ),
    (
        "import path without the class",
        trial(model={"name": "json:Nope"}),
        ["trial.model.name: cannot import 'json:Nope'", "no attribute 'Nope'"],
    ),
    (
        "import path of something else",
        trial(model={"name": "json:JSONDecoder"}),
        ["trial.model.name: 'json:JSONDecoder' is no subclass of", "AlternatingModule"],
    ),
    (
        "indented too far",
        text(space=None, trial={**TRIAL, "space": {"model.clip": {"grid": [0.1, 0.2]}}}),
        ["trial.space: belongs beside trial (indent it as trial is)"],
    ),
    (
        "indented too little",
        TEXT + "score: {every: 5}\n",
        ["score: unknown key (it belongs below trial: indent it)"],
    ),
    (
        "list in the place of an axis",
        trial(optimizer={"name": "sgd", "lr": [0.1, 0.2]}),
        ["trial.optimizer.lr: ", "'[0.1, 0.2]'", "(one value; to try several, make it an axis of"],
    ),
    (
        "null where there must be a number",
        trial(optimizer={"name": "sgd", "lr": None}),
        ["trial.optimizer.lr: ", "(it cannot be null; leave it out for the default)"],
    ),
    ("name that is a number", text(name=123), ["name: 123 is no name (letters", "in quotes)"]),
    ("broken YAML", "name: s\ntrial: {model: [\n", ["file.yaml:3:1: broken YAML: "]),
    ("tab", "trial:\n\tmodel: 1\n", ["file.yaml:2:1: broken YAML: ", "spaces, not tabs"]),
    ("duplicate key", TEXT + "name: x\n", [":9:1: broken YAML: found duplicate key name"]),
    ("empty file", "", ["trial.model.name: is required (one of bigan, cgan, "]),
    ("list", "- a\n", ["file.yaml: is no mapping"]),
    ("number", "3\n", ["file.yaml: is no mapping"]),
    (
        "python tag",
        "name: !!python/object/apply:os.mkdir [made]\n",
        ["file.yaml:1:7: broken YAML: could not determine a constructor"],
    ),
    ("missing base", "base: nope.yaml\n", ["nope.yaml: no such file"]),
    (
        "missing folder",
        trial(data={"name": "image_folder", "path": "/no/such"}),
        ["data.path: /no/such is no folder"],
    ),
    (
        "cgan without labels",
        text(trial={**TRIAL, "model": {"name": "cgan"}, "data": {"name": "swiss_roll"}},
             space={"optimizer.lr": {"grid": [0.1, 0.2]}}),
        [
            "trial.model.conditional: cgan is conditional, and the data 'swiss_roll' have no "
            "labels (name labelled data, or set it to false)"
        ],
    ),
    (
        "network that does not fit",
        trial(network={"name": "dcgan"}),
        ["dcgan needs images, the data are vectors of 2 (use network: {name: mlp})"],
    ),
    (
        "more GPUs than exist",
        text(resources={"gpu": 64, "cpu": 0.01}),
        ["resources.gpu: a trial takes 64, this machine has ", "name a cluster with --address"],
    ),
    (
        "more cores than exist",
        text(resources={"cpu": 9999}),
        ["resources.cpu: a trial takes 9999, this machine has "],
    ),
    ("metric", text(search={"metric": "score/x"}), ["search.metric: 'score/x' is no score"]),
    (
        "condition that never holds",
        text(space={"model.clip": {"grid": [1.0], "when": {"model.nmae": "wgan"}}}),
        ["space.model.clip.when: nothing in the file sets 'model.nmae'"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_bad_file(refused: Callable[..., list[str]], content: str, words: list[str]) -> None:
    (found,) = refused(content)
    for each in words:
        assert each in found


def test_unknown_variant_causes_no_second_mistake(refused: Callable[..., list[str]]) -> None:
    sections = {"model": {"name": "wagn"}, "network": {"width": 8}, "optimizer": {"lr": 0.1}}
    assert len(refused(text(trial={**TRIAL, **sections}))) == 1
    sections["model"] = {"name": "wgan", "n_critic": 0}  # its defaults are known
    assert len(refused(text(trial={**TRIAL, **sections}))) == 1
    sections["network"] = {"widht": 8}
    assert refused(text(trial={**TRIAL, **sections}))[1:] == [
        "trial.network.widht: unknown key (did you mean 'width'?)"
    ]


@pytest.mark.parametrize("command", ["run", "plan", "train"])
def test_missing_file(refused: Callable[..., list[str]], command: str) -> None:
    (found,) = refused(None, command=command)
    assert found.endswith("file.yaml: no such file")


@pytest.mark.parametrize("command", ["run", "plan", "train"])
def test_every_command_names_the_mistake(refused: Callable[..., list[str]], command: str) -> None:
    assert refused(trial(network={"name": "mlp", "widht": 8}), command=command) == [
        "trial.network.widht: unknown key (did you mean 'width'?)"
    ]


def pictures(folder: Path, **files: bytes) -> str:
    for name, content in files.items():
        path = folder / "pictures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    data = {"name": "image_folder", "path": str(folder / "pictures"), "size": 8}
    return trial(data=data)


@pytest.mark.parametrize("command", ["run", "plan", "train"])
def test_folder_without_pictures(
    refused: Callable[..., list[str]], tmp_path: Path, command: str
) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "readme.txt").write_text("x")
    (found,) = refused(pictures(tmp_path), command=command)
    assert f"{tmp_path / 'pictures'}: holds no pictures" in found


def test_damaged_pictures_are_each_named(refused: Callable[..., list[str]], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "good.png")
    good = (tmp_path / "good.png").read_bytes()
    found = refused(
        pictures(tmp_path, a=good, b=b"\x89PNG broken", c=good[: len(good) // 2], d=good)
    )
    assert [each.split(":")[0].rsplit("/")[-1] for each in found] == ["b.png", "c.png"]
    assert all("replace or remove it" in each for each in found)


# --- the tracking server


@pytest.mark.parametrize("command", ["run", "train"])
def test_server_that_does_not_answer(
    refused: Callable[..., list[str]], closed_port: int, command: str
) -> None:
    uri = f"http://127.0.0.1:{closed_port}"
    (found,) = refused(TEXT, "--tracking-uri", uri, command=command)
    assert f"{uri}: no MLflow server answers (Connection refused)" in found
    assert "gansweep ui" in found


@pytest.mark.parametrize("uri", ["folder", "ftp://x", "sqlite:///:memory:", "file:///tmp/x"])
def test_bad_tracking_uri(refused: Callable[..., list[str]], uri: str) -> None:
    (found,) = refused(TEXT, "--tracking-uri", uri)
    assert found.startswith("tracking uri: ")
    assert "sqlite:///mlflow.db" in found


def test_tracking_uri_of_the_environment(
    refused: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    (found,) = refused(TEXT)
    assert found.startswith("MLFLOW_TRACKING_URI: ")


# --- the cluster


@pytest.mark.parametrize("address", ["ray://host:10001", "nonsense", "host:99999", ":6379"])
def test_bad_address(refused: Callable[..., list[str]], address: str) -> None:
    (found,) = refused(TEXT, "--address", address)
    assert found.startswith("--address: ")
    assert "--address auto" in found or "HOST:PORT" in found


@pytest.mark.parametrize("share", ["3/2", "0/2", "half"])
def test_a_share_that_is_none(refused: Callable[..., list[str]], share: str) -> None:
    assert refused(TEXT, "--share", share) == [
        f"--share: is {share!r} (I/N: 1/4 is the first of four tasks)"
    ]


def test_what_has_no_shares(refused: Callable[..., list[str]], closed_port: int) -> None:
    found = refused(text(search={"method": "tpe", "samples": 3, "scheduler": "asha"}),
                    "--share", "1/2", "--address", f"127.0.0.1:{closed_port}")  # fmt: skip
    assert [each.partition(":")[0] for each in found] == [
        "--address", "search.scheduler", "search.method", "--share",
    ]  # fmt: skip


def test_a_share_needs_a_folder(refused: Callable[..., list[str]], s3: str) -> None:
    assert refused(TEXT, "--share", "1/2", "--dir", f"{s3}/x") == [
        "--share: shares tell each other by files of one folder (a --dir that all of them see)"
    ]
    assert Bucket(s3).names() == []


def test_a_folder_that_cannot_be_made(refused: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert refused(TEXT, "--dir", tmp_path / "file") == [
        f"{tmp_path}/file/small: cannot be written: Not a directory (use another --dir)"
    ]
    (tmp_path / "runs" / "small" / "driver.log").mkdir(parents=True)
    assert refused(TEXT, "--dir", tmp_path / "runs") == [
        f"{tmp_path}/runs/small: cannot be written: Is a directory (use another --dir)"
    ]


@pytest.mark.parametrize("command", ["run", "train"])
def test_a_folder_that_is_a_file(
    refused: Callable[..., list[str]], tmp_path: Path, command: str
) -> None:
    (tmp_path / "small").write_text("no folder")
    assert refused(TEXT, "--dir", tmp_path, command=command) == [
        f"{tmp_path}/small: cannot be written: Not a directory (use another --dir)"
    ]


def test_cluster_that_does_not_answer(refused: Callable[..., list[str]], closed_port: int) -> None:
    (found,) = refused(TEXT, "--address", f"127.0.0.1:{closed_port}")
    assert f"no Ray cluster answers at 127.0.0.1:{closed_port} (Connection refused)" in found


# --- several, and overrides


def test_mistakes_of_every_kind_come_together(
    refused: Callable[..., list[str]], closed_port: int
) -> None:
    content = text(
        trial={**TRIAL, "model": {"name": "wgan", "n_critic": 0}, "network": {"name": "mpl"}},
        space={"model.clip": {"grid": [-1.0]}, "optimizer.lr": {"loguniform": [0.1, 1.0]}},
        seeds=0,
        serach={},
    )
    found = refused(content, "--tracking-uri", f"http://127.0.0.1:{closed_port}", "modle.x=1")
    assert [each.split(": ")[0] for each in found] == [
        "modle.x",
        "serach",
        "seeds",
        "trial.model.n_critic",
        "space.model.clip",
        "trial.network.name",
        f"http://127.0.0.1:{closed_port}",
    ]


def test_data_machine_and_server_come_together(
    refused: Callable[..., list[str]], closed_port: int
) -> None:
    content = text(
        trial={**TRIAL, "data": {"name": "image_folder", "path": "/no/such"}},
        resources={"gpu": 64, "cpu": 0.01},
    )
    found = refused(content, "--tracking-uri", f"http://127.0.0.1:{closed_port}")
    assert [each.split(":")[0] for each in found] == ["data.path", "http", "resources.gpu"]


def test_many_mistakes_fit_one_screen(gansweep: Gansweep, tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(TEXT + "".join(f"k{i}: 1\n" for i in range(30)))
    code, _, err = gansweep("run", tmp_path / "file.yaml")
    lines = err.splitlines()
    assert code == 2
    assert lines[0] == "gansweep: 30 mistakes, nothing was started:"
    assert len(lines) == 22
    assert lines[-1] == "  ... and 10 more"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("modle.clip=3", "modle.clip: unknown key (did you mean 'model'?)"),
        ("lr=1e-4", "lr: unknown key (did you mean 'optimizer.lr'?)"),
        ("pack=4", "pack: unknown key (did you mean 'resources.pack'?)"),
        (
            "every=9",
            "every: unknown key (did you mean 'samples.every' or 'score.every' or 'log.every' or "
            "'checkpoint.every' or 'diagnosis.every'?)",
        ),
        ("clip", "clip: is no override (write KEY=VALUE)"),
        ("network.width=wide", "trial.network.width: "),
        ("model.clip=0.5", "model.clip=0.5: the axis space.model.clip sets it in every trial"),
        ("budget.g_steps=0", "trial.budget.g_steps: is 0, must be at least 1"),
        ("space=null", "space: is empty: one trial is no sweep"),
        ("name=a: b", "name=a: b:1:9: broken YAML: "),
        ("optimizer.lr=", "optimizer.lr=: has no value (optimizer.lr=null removes it)"),
    ],
)
def test_bad_override(refused: Callable[..., list[str]], override: str, words: str) -> None:
    (found,) = refused(TEXT, override)
    assert found.startswith(words)


@pytest.mark.parametrize(
    "override", ["seeds=3", "space.model.clip.grid=[1]", "time_budget=1h", "resources.gpu=1"]
)
def test_one_trial_has_no_sections_of_a_sweep(
    refused: Callable[..., list[str]], override: str
) -> None:
    section = re.split("[.=]", override)[0]
    what = f"{section} is of a sweep, and gansweep train trains one trial alone"
    found = refused(TEXT, override, "space=null", "budget.g_steps=0", command="train")
    assert found == [
        f"{override}: {what} (set what the trial has, as seed=3)",
        "trial.budget.g_steps: is 0, must be at least 1",
    ]


# --- other commands


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "x"), "mlflow.db: no such database (run a sweep first)"),
        (("show", "x", "--mode", "up"), "--mode: is 'up' (min or max)"),
        (("ui", "x"), "mlflow.db: no such database (run a sweep first)"),
    ],
)
def test_nothing_to_show(gansweep: Gansweep, words: tuple[str, ...], message: str) -> None:
    code, out, err = gansweep(*words)
    assert (code, out) == (2, "")
    (found,) = checked(err)
    assert message in found


def test_damaged_plan_is_named(gansweep: Gansweep, tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(TEXT)
    folder = tmp_path / "out" / "small"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text("{")
    code, _, err = gansweep("plan", tmp_path / "file.yaml", "--dir", tmp_path / "out")
    assert code == 2
    (found,) = checked(err)
    assert f"{folder}/plan.json: is no plan of a sweep" in found


@pytest.mark.parametrize(
    "words", [("run",), ("nonsense",), ("run", "x", "--nonsense"), ("ui", "--port", "0")]
)
def test_bad_usage(gansweep: Gansweep, words: tuple[str, ...]) -> None:
    code, _, err = gansweep(*words)
    assert code == 2
    assert "Usage" in err
    assert "Traceback" not in err
    assert os.listdir(".") == []


# --- as a person runs it


@pytest.mark.parametrize("module", [False, True])
def test_in_a_process_of_its_own(tmp_path: Path, module: bool) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "file.yaml").write_text(TEXT.replace("width", "widht"))
    start = [str(Path(sys.executable).with_name("gansweep"))]
    if module:
        start = [sys.executable, "-m", "gansweep.cli"]
    ended = subprocess.run(
        [*start, "run", str(tmp_path / "file.yaml")],
        cwd=work, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.splitlines() == [
        "gansweep: 1 mistake, nothing was started:",
        "  trial.network.widht: unknown key (did you mean 'width'?)",
    ]
    assert os.listdir(work) == []


@pytest.mark.parametrize("command", ["run", "plan", "train", "explain"])
@pytest.mark.parametrize("section", ["model", "network", "optimizer", "data"])
def test_trusted_only_imports_nothing_of_the_files_own(
    refused: Callable[..., list[str]], tmp_path: Path, monkeypatch: Any, command: str, section: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "hostile.py").write_text("raise SystemExit('code ran')")
    content = trial(**{section: {"name": "hostile:Thing"}})
    lines = refused(content, "--trusted-only", command=command)
    what = f"trial.{section}.name: 'hostile:Thing' is code that the file brings along, and"
    assert any(line.startswith(f"{what} --trusted-only refuses it") for line in lines)
    assert "hostile" not in sys.modules


def test_trusted_only_takes_built_in_names(gansweep: Gansweep, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(TEXT)
    assert gansweep("plan", path, "--trusted-only")[0] == 0
