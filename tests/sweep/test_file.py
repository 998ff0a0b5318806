from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from sweep_files import TEXT, load, mistakes, text

from gansweep.errors import ConfigError
from gansweep.sweep.file import load_sweep, merge, parse_yaml, peek_resources, read_yaml


def test_a_file_and_its_defaults(tmp_path: Path) -> None:
    sweep = load(tmp_path, text(name=None))
    assert sweep.name == "file"  # the file's own
    assert sweep.seeds == (0,)
    assert (sweep.search.method, sweep.search.metric, sweep.search.mode) == (
        "grid",
        "score/swd",
        "min",
    )
    assert (sweep.resources.cpu, sweep.resources.gpu) == (1, 0)
    assert sweep.files == (tmp_path / "file.yaml",)
    assert [axis.name for axis in sweep.space.axes] == ["model.clip"]


# --- base


def write(folder: Path, **contents: dict[str, Any]) -> None:
    for name, tree in contents.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


def test_chain_of_bases(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path, a={**yaml.safe_load(TEXT), "seeds": 3})
    write(tmp_path / "deep", b={"base": "../a.yaml", "trial": {"network": {"width": 16}}})
    write(
        tmp_path / "deep",
        c={"base": "b.yaml", "name": "c", "space": {"model.n_critic": {"grid": [1, 2]}}},
    )
    sweep = load_sweep(tmp_path / "deep" / "c.yaml")
    assert sweep.name == "c"
    assert sweep.trial["network"] == {"name": "mlp", "width": 16, "depth": 1}
    assert [axis.name for axis in sweep.space.axes] == ["model.clip", "model.n_critic"]
    assert len(sweep.seeds) == 3
    assert [file.name for file in sweep.files] == ["c.yaml", "b.yaml", "a.yaml"]
    assert "base" not in yaml.safe_load(sweep.to_yaml())
    # What is recorded is enough to read the sweep again.
    again = load(tmp_path, sweep.to_yaml())
    assert (again.trial, again.space, again.seeds) == (sweep.trial, sweep.space, sweep.seeds)


def test_child_replaces_distribution_and_removes_axis(tmp_path: Path) -> None:
    space = {
        "model.clip": {"loguniform": [0.001, 0.1], "when": {"model.name": "wgan"}},
        "optimizer.lr": {"grid": [0.1, 0.2]},
    }
    write(tmp_path, a={**yaml.safe_load(TEXT), "space": space})
    write(
        tmp_path,
        b={
            "base": "a.yaml",
            "space": {"model.clip": {"grid": [0.5]}, "optimizer.lr": None},
            "trial": {"network": {"width": None}},
        },
    )
    sweep = load_sweep(tmp_path / "b.yaml")
    assert sweep.trial["network"] == {"name": "mlp", "depth": 1}
    (axis,) = sweep.space.axes
    assert axis.domain.probes() == [0.5]
    assert axis.when == {"model.name": ("wgan",)}


def test_circle_of_bases(tmp_path: Path) -> None:
    write(tmp_path, a={"base": "b.yaml"}, b={"base": "a.yaml"})
    with pytest.raises(ConfigError, match=r"is its own base \(a.yaml -> b.yaml -> a.yaml\)"):
        load_sweep(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("base", "words"),
    [("nope.yaml", "nope.yaml: no such file"), (3, "must be the path"), ("", "is a folder")],
)
def test_bad_base(tmp_path: Path, base: Any, words: str) -> None:
    write(tmp_path, a={"base": base})
    with pytest.raises(ConfigError, match=words):
        load_sweep(tmp_path / "a.yaml")


def test_merge() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1, "e": {"f": 1}}
    over = {"a": {"c": [3]}, "d": {"x": 1}, "e": None}
    assert merge(base, over) == {"a": {"b": 1, "c": [3]}, "d": {"x": 1}}
    assert base["a"] == {"b": 1, "c": [1, 2]}


# --- overrides


def test_overrides_with_and_without_trial(tmp_path: Path) -> None:
    overrides = ["network.width=32", "trial.network.depth=2", "name=other", "seeds=[3, 5]"]
    sweep = load(
        tmp_path, TEXT, [*overrides, "search.samples=2", "optimizer.discriminator.lr=1e-4"]
    )
    assert sweep.trial["network"] == {"name": "mlp", "width": 32, "depth": 2}
    assert sweep.trial["optimizer"] == {"discriminator": {"lr": 1e-4}}
    assert (sweep.name, sweep.seeds, sweep.search.samples) == ("other", (3, 5), 2)
    assert sweep.overrides[:2] == ("network.width=32", "trial.network.depth=2")
    assert yaml.safe_load(sweep.to_yaml())["trial"]["network"]["width"] == 32


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("space.model.clip.grid=[0.1, 0.3]", [0.1, 0.3]),
        ("space.model.clip.uniform=[0.1, 0.3]", [0.1, 0.3]),  # another distribution
        ("space.model.clip={choice: [0.7]}", [0.7]),
    ],
)
def test_override_of_an_axis(tmp_path: Path, override: str, values: list[float]) -> None:
    (axis,) = load(tmp_path, TEXT, [override]).space.axes
    assert axis.name == "model.clip"
    assert axis.domain.probes() == values


def test_override_keeps_and_sets_a_condition(tmp_path: Path) -> None:
    space = {"model.clip": {"grid": [0.1], "when": {"model.name": "wgan"}}}
    overrides = ["space.model.clip.grid=[0.2, 0.3]", "space.model.n_critic.randint=[1, 5]"]
    first, second = load(tmp_path, text(space=space), overrides).space.axes
    assert first.domain.probes() == [0.2, 0.3]
    assert first.when == {"model.name": ("wgan",)}
    assert second.domain.probes() == [1, 5]
    (axis,) = load(
        tmp_path, text(space=space), ["space.model.clip.when={model.name: [wgan]}"]
    ).space.axes
    assert axis.when == {"model.name": ("wgan",)}


def test_null_removes(tmp_path: Path) -> None:
    sweep = load(tmp_path, TEXT, ["network.width=null", "space=null", "seeds=2", "ema.decay=null"])
    assert sweep.trial["network"] == {"name": "mlp", "depth": 1}
    assert sweep.space.axes == ()
    assert "ema" not in sweep.trial  # what was not there is not made


def test_override_that_an_axis_would_undo_is_refused(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, TEXT, ["model.clip=0.5"])
    assert found == (
        "model.clip=0.5: the axis space.model.clip sets it in every trial "
        "(space.model.clip=null takes the axis away)"
    )
    assert (
        mistakes(
            tmp_path,
            TEXT,
            ["space.model.clip=null", "space.model.n_critic.grid=[1]", "model.clip=0.5"],
        )
        == []
    )
    load(tmp_path, TEXT, ["model.clip=0.5"], one_trial=True)  # train has no axes


def test_override_that_both_optimizers_would_undo_is_refused(tmp_path: Path) -> None:
    own = {"name": "rmsprop", "generator": {"lr": 0.1}, "discriminator": {"lr": 0.2}}
    content = text(trial={**yaml.safe_load(TEXT)["trial"], "optimizer": own})
    for override in ("optimizer.lr=0.5", "trial.optimizer.lr=0.5"):
        (found,) = mistakes(tmp_path, content, [override])
        assert found.startswith(f"{override}: both generator and discriminator have lr of their")
    for fine in ("optimizer.generator.lr=0.5", "optimizer.alpha=0.5"):
        assert mistakes(tmp_path, content, [fine]) == []
    assert mistakes(tmp_path, content, ["optimizer.generator.lr=null", "optimizer.lr=0.5"]) == []


def test_bad_overrides_are_reported_together(tmp_path: Path) -> None:
    overrides = ["bar", "=1", "modle.clip=3", "name=a: b", "base=x.yaml", "serach.samples=2"]
    found = mistakes(tmp_path, TEXT, [*overrides, "network.width=wide"])
    assert [each.split(":")[0].split("=")[0] for each in found] == [
        "bar", "", "modle.clip", "name", "base", "serach.samples", "trial.network.width",
    ]  # fmt: skip
    assert "did you mean 'model'?" in found[2]
    assert "did you mean 'search'?" in found[5]


def test_section_given_as_a_word(tmp_path: Path) -> None:
    (found, *_) = mistakes(tmp_path, TEXT, ["model=wgan", "serach={}"])[1:]
    assert found == "trial.model: is 'wgan', must be a section (write model: {name: wgan})"


# --- YAML


def test_interpolation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_WIDTH", "24")
    content = TEXT.replace("width: 8", "width: '${oc.env:MY_WIDTH}', depth: '${seeds}'").replace(
        ", depth: 1", ""
    )
    sweep = load(tmp_path, content + "seeds: 2\n")
    assert sweep.trial["network"] == {"name": "mlp", "width": "24", "depth": 2}


def test_anchors_and_floats_without_a_point(tmp_path: Path) -> None:
    tree = parse_yaml("a: &x {lr: 1e-4}\nb: *x\nc: {<<: *x, d: 5}\n", "f")
    assert tree == {"a": {"lr": 1e-4}, "b": {"lr": 1e-4}, "c": {"lr": 1e-4, "d": 5}}


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n", "{}\n"])
def test_empty_file_asks_for_a_model(tmp_path: Path, content: str) -> None:
    assert parse_yaml(content, "f") == {}


@pytest.mark.parametrize(
    ("content", "place", "word", "number"),
    [
        ("a: 1\ntime_budget: 1:30\n", "2:14", "1:30", "90"),
        ("trial: {model: {n_critic: 010}}\n", "1:27", "010", "8"),
        ("a: [5, 2:00:00]  # two hours\n", "1:8", "2:00:00", "7200"),
    ],
)
def test_numbers_that_yaml_does_not_count_in_tens(
    content: str, place: str, word: str, number: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(content, "f")
    assert str(caught.value) == (
        f"f:{place}: {word} is {number} to YAML, which is hardly meant (put it in quotes, or write "
        "it in another way)"
    )


def test_numbers_that_look_like_them() -> None:
    content = "# at 1:30\na: '1:30'\nb: 2024-01-01\nc: [0, 0.5, 00.5, 1e-05, 10]\nd: h:80\n"
    content += 'e: "010"\nf: {a:1}\ng: x 1:30\n'
    assert parse_yaml(content, "f")["a"] == "1:30"


BROKEN = [
    ("name: s\ntrial: {model: [\n", "f:3:1: broken YAML: "),
    ("name: s\ntrial:\n\tmodel: 1\n", "f:3:1: broken YAML: .*indent with spaces, not tabs"),
    ("name: s\nname: t\n", "f:2:1: broken YAML: found duplicate key name"),
    ("trial:\n  model: {a: 1, a: 2}\n", "f:2:17: broken YAML: found duplicate key a"),
    ("a: b: c\n", "f:1:5: broken YAML: mapping values are not allowed"),
    ("a: *x\n", "f:1:4: broken YAML: found undefined alias"),
    ("a: &a {b: *a}\n", "f:1:4: broken YAML: .*recursive"),
    ("- a\n- b\n", "f: is no mapping"),
    ("3\n", "f: is no mapping"),
    ("1: 2\n", "f: has the key 1, which is no word"),
    ("a: ${nope}\n", "Interpolation key 'nope' not found"),
    ("a: ${b}\nb: ${a}\n", "(?i)recurs"),
    ("a: '${oc.env:GANSWEEP_NO_SUCH}'\n", "GANSWEEP_NO_SUCH"),
    ("a: \x01\n", "control characters"),
    ("a: " + "[" * 3000 + "]" * 3000, "recursion"),
    ("a: " + "{a: " * 3000 + "1" + "}" * 3000, "recursion"),
    ("a: 1\n---\nb: 2\n", "f:2:1: broken YAML: "),
]


@pytest.mark.parametrize(("content", "words"), BROKEN)
def test_broken_yaml(content: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_yaml(content, "f")
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tag", ["object/apply:os.mkdir", "object/new:os.mkdir", "name:os.mkdir", "module:os"]
)
def test_python_tags_do_not_run(tmp_path: Path, tag: str) -> None:
    target = tmp_path / "made"
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        parse_yaml(f"name: !!python/{tag} [{target}]\n", "f")
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        load(tmp_path, TEXT, [f"name=!!python/{tag} [{target}]"])
    assert not target.exists()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a.yaml: no such file"):
        read_yaml(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="is a folder, not a sweep file"):
        read_yaml(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"b.yaml: cannot be read: .*utf-8"):
        read_yaml(tmp_path / "b.yaml")
    if os.getuid():
        (tmp_path / "c.yaml").write_text("a: 1")
        (tmp_path / "c.yaml").chmod(0)
        with pytest.raises(ConfigError, match="Permission denied"):
            read_yaml(tmp_path / "c.yaml")


# --- the schema of the file


BAD = [
    ({"serach": {}}, "serach: unknown key (did you mean 'search'?)"),
    ({"name": "a b/c"}, "name: 'a b/c' is no name"),
    ({"name": "../x"}, "name: '../x' is no name"),
    ({"name": 3}, "name: 3 is no name"),
    ({"name": "x" * 65}, "is no name"),
    ({"trial": [1]}, "trial: is [1], must be a section"),
    ({"space": {}}, "space: is empty (add an axis"),
    ({"search": {"mode": "maximum"}}, "search.mode: Invalid value 'maximum'"),
    ({"search": {"method": "bayes"}}, "search.method: Invalid value 'bayes'"),
    ({"search": {"samples": 0}}, "search.samples: is 0, must be at least 1"),
    ({"search": {"scheduler": "pbtt"}}, "search.scheduler: Invalid value 'pbtt'"),
    ({"search": {"interval": 0}}, "search.interval: is 0, must be at least 1"),
    ({"search": {"quantile": 0}}, "search.quantile: is 0.0, must be greater than 0"),
    ({"search": {"quantile": 0.51}}, "search.quantile: is 0.51, must be at most 0.5"),
    ({"search": {"resample": -0.1}}, "search.resample: is -0.1, must be at least 0"),
    ({"search": {"resample": 1.1}}, "search.resample: is 1.1, must be at most 1"),
    ({"search": {"metrik": 0}}, "search.metrik: unknown key (did you mean 'metric'?)"),
    ({"resources": {"gpu": 1.5}}, "resources.gpu: is 1.5 (a fraction below 1, or a whole number)"),
    (
        {"resources": {"gpu": 2, "processes": 3}},
        "resources.gpu: is 2 for each of 3 processes, which use one (set it to 1)",
    ),
    (
        {"resources": {"gpu": 0.5, "processes": 2}},
        "resources.processes: is 2: processes of a trial cannot share a card (set resources.gpu:",
    ),
    ({"resources": {"gpu_memory_gb": 2, "processes": 2}}, "cannot share a card"),
    ({"resources": {"pack": 2, "processes": 2}}, "train one trial at a time (leave resources.pack"),
    ({"resources": {"engine": "stacked", "gpu": 2}}, "of several processes cannot be stacked"),
    ({"resources": {"processes": 0}}, "resources.processes: is 0, must be at least 1"),
    ({"resources": {"gpu": -1}}, "resources.gpu: is -1.0, must be at least 0"),
    ({"resources": {"cpu": 0}}, "resources.cpu: is 0.0, must be greater than 0"),
    ({"resources": {"cpu": float("nan")}}, "resources.cpu: is nan, must be finite"),
    ({"resources": {"memory_gb": 0}}, "resources.memory_gb: is 0.0, must be greater than 0"),
    ({"resources": {"memory_gb": "lots"}}, "resources.memory_gb: Value 'lots'"),
    ({"resources": {"memory_gb": float("inf")}}, "resources.memory_gb: is inf, must be finite"),
    ({"resources": {"memory": 1}}, "resources.memory: unknown key (did you mean 'memory_gb'?)"),
    ({"resources": {"gpu_memory_gb": 0}}, "resources.gpu_memory_gb: is 0.0, must be greater than"),
    (
        {"resources": {"gpu_memory_retries": 1}},
        "resources.gpu_memory_retries: is set, and no worker has a GPU (set gpu or gpu_memory_gb",
    ),
    ({"resources": {"gpu_memory_retries": 9}}, "resources.gpu_memory_retries: is 9, must be at"),
    ({"seeds": 0}, "seeds: is 0 (a number of seeds from 1"),
    ({"seeds": True}, "seeds: is True"),
    ({"seeds": []}, "seeds: is []"),
    ({"seeds": [1, 1]}, "seeds: is [1, 1]"),
    ({"seeds": [-1]}, "seeds: is [-1]"),
    ({"seeds": 2.5}, "seeds: is 2.5"),
]


@pytest.mark.parametrize(("sections", "words"), BAD)
def test_bad_section(tmp_path: Path, sections: dict[str, Any], words: str) -> None:
    found = mistakes(tmp_path, text(**sections))
    assert any(words in each for each in found), found
    assert sum("trial." in each for each in found) <= ("trial" in sections)


def test_several_gpus_are_a_process_each(tmp_path: Path) -> None:
    own = load(tmp_path, text(resources={"gpu": 4})).resources
    assert (own.gpu, own.processes) == (1, 4)
    assert load(tmp_path, text(resources={"gpu": 1, "processes": 4})).resources == own
    assert load(tmp_path, text(resources={"processes": 2})).resources.gpu == 0


def test_ceilings_on_memory(tmp_path: Path) -> None:
    sweep = load(tmp_path, text(), ["resources.memory_gb=2", "resources.gpu=1"])
    assert (sweep.resources.memory_gb, sweep.resources.gpu_memory_gb) == (2.0, None)
    sweep = load(tmp_path, text(resources={"gpu": 0.5, "gpu_memory_gb": 7.5}))
    assert sweep.resources.gpu_memory_gb == 7.5
    assert (sweep.resources.by_memory, sweep.resources.least_gpu) == (False, 0.5)
    sweep = load(tmp_path, text(resources={"gpu_memory_gb": 7.5, "gpu_memory_retries": 2}))
    assert (sweep.resources.by_memory, sweep.resources.least_gpu) == (True, 1)
    assert load(tmp_path, text()).resources.least_gpu == 0


SECRET = "hf_not-for-any-eye"


@pytest.mark.parametrize(
    ("trial", "override", "key"),
    [
        ({"data": {"name": "npz", "path": "${oc.env:HF_TOKEN}"}}, "", "trial.data.path"),
        ({}, "data.path=${oc.env:HF_TOKEN}", "trial.data.path"),
        ({}, f"data.path=https://me:{SECRET[3:]}@host/x.npz", "trial.data.path"),
        ({}, f"network.token={SECRET[3:]}", "trial.network.token"),
        ({}, f"space.data.path.grid=[a, {SECRET}]", "space.data.path.grid"),
    ],
)
def test_a_secret_is_no_setting(
    trial: dict[str, Any], override: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings are recorded in plan, journal, checkpoints and MLflow: it never gets there."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    content = text(**({"trial": trial} if trial else {}))
    found = mistakes(tmp_path, content, [override] if override else [])
    (problem,) = [each for each in found if each.startswith(f"{key}: ")]
    assert "is or holds a secret, and settings are recorded" in problem
    assert "environment" in problem
    assert SECRET[3:] not in problem


def test_seed_belongs_to_the_sweep(tmp_path: Path) -> None:
    content = text(trial={**yaml.safe_load(TEXT)["trial"], "seed": 3})
    assert mistakes(tmp_path, content) == [
        "trial.seed: is set by the sweep (write seeds: [0, 1, 2])"
    ]
    assert load(tmp_path, content, one_trial=True).trial["seed"] == 3


def test_mistakes_of_file_trial_and_axes_come_together(tmp_path: Path) -> None:
    content = TEXT.replace("name: wgan", "name: wgan, n_critic: 0")
    content = content.replace("0.02", "-0.02").replace("width", "widht")
    found = mistakes(tmp_path, content + "serach: {}\nseeds: 0\nresources: {gpu: -1}\n")
    assert found == [
        "serach: unknown key (did you mean 'search'?)",
        "resources.gpu: is -1.0, must be at least 0",
        "seeds: is 0 (a number of seeds from 1, or a list of different seeds)",
        "trial.model.n_critic: is 0, must be at least 1",
        "trial.network.widht: unknown key (did you mean 'width'?)",
        "space.model.clip: model.clip is -0.02, must be greater than 0",
    ]


def test_refused_axis_causes_no_second_mistake(tmp_path: Path) -> None:
    content = text(
        trial={"network": {"name": "mlp"}}, space={"model.name": {"gird": ["gan", "wgan"]}}
    )
    found = mistakes(tmp_path, content)
    assert len(found) == 1
    assert found[0].startswith("space.model.name: unknown distribution 'gird'")


# --- a first look


def test_resources_at_a_first_look_are_those_of_the_whole(tmp_path: Path) -> None:
    write(tmp_path, a={**yaml.safe_load(TEXT), "resources": {"cpu": 3, "concurrent": 2}})
    write(tmp_path, b={"base": "a.yaml", "resources": {"concurrent": 4}})
    overrides = ["resources.gpu=0.5", "model.clip=null", "no override"]
    looked = peek_resources(tmp_path / "b.yaml", overrides)
    assert looked == load_sweep(tmp_path / "b.yaml", overrides[:1]).resources
    assert looked is not None
    assert (looked.cpu, looked.gpu, looked.concurrent) == (3, 0.5, 4)


@pytest.mark.parametrize(
    "content", [None, "- a list", "resources: 3", "resources: {cpus: 3}", "resources: {cpu: 0}"]
)
def test_a_first_look_raises_nothing(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "file.yaml").write_text(content)
    assert peek_resources(tmp_path / "file.yaml") is None
