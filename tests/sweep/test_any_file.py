"""Whatever a sweep file holds, it is a sweep or a list of its mistakes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gansweep.commands.home import find_home
from gansweep.config import SCALARS, SECTIONS
from gansweep.errors import ConfigError
from gansweep.sweep.file import TOP, load_sweep
from gansweep.sweep.space import DOMAINS
from gansweep.sweep.trials import planned

ATTACKS = [
    "!!python/object/apply:os.system ['touch pwned']",
    "{name: x, trial: {model: {eval: \"open('pwned', 'w')\"}}}",
    "trial: {model: {name: 'os:system'}}",
    "trial: {data: {name: npz, path: ../../../../etc/passwd}}",
    "name: ../../escape",
    "name: a/b",
    "name: ..",
    "name: .",
    "name: ''",
    "name: 'a\\0b'",
    "name: \u202egnp.exe",
    "base: /dev/null",
    "base: .",
    "a: &a [*a]",
    "a: &a {b: *a}",
    "trial: ${trial}",
    "trial: ${oc.env:HOME}",
    "name: ${name}",
    "? [a, b]\n: c",
    "? {a: b}\n: c",
    "1: 2\n1.5: 3\nnull: 4\ntrue: 5",
    "[" * 3000,
    "{a: " * 2000,
    "trial: " + "{budget: " * 900 + "1" + "}" * 900,
    "seeds: 1" + "0" * 5000,
    "seeds: [" + ", ".join(map(str, range(3000))) + "]",
    "trial: {optimizer: {lr: 1e999}}",
    "trial: {optimizer: {lr: .nan}}",
    "trial: {optimizer: {lr: -.inf}}",
    "trial: {budget: {g_steps: 1e30}}",
    "trial: {budget: {g_steps: 99999999999999999999999999}}",
    "trial: {network: {width: 9223372036854775808}}",
    "space: {model.clip: {grid: []}}",
    "space: {model.clip: {loguniform: [0, 1]}}",
    "space: {model.clip: {int: [0, 1e400]}}",
    "space: {model.clip: {grid: [1], when: {model.clip: 1}}}",
    "\ufeffname: x",
    "\x00",
    "%YAML 9.9\n---\na: b",
    "--- a\n--- b",
    "name: 2024-01-01",
    "name: 0x10",
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "trial: !!timestamp 2001-12-14",
]


def read(text: str, folder: Path) -> None:
    """The property; anything else than a sweep or its mistakes is raised."""
    file = folder / "sweep.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        sweep = load_sweep(file)
        trials = planned(sweep)
    except ConfigError as error:
        mistakes = error.problems
    else:
        mistakes = []
    if mistakes:
        assert all(str(problem) for problem in mistakes)
        return
    assert trials
    inside = find_home(folder / "runs", sweep.name).folder
    assert inside.parent == (folder / "runs").resolve()


words = st.one_of(
    st.sampled_from([*TOP, *SECTIONS, *SCALARS, *DOMAINS, "name", "when", "model.clip", "lr"]),
    st.text(max_size=12),
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["wgan", "gan", "mlp", "mnist5k", "ring8", "adam", "../x", "${name}", "a:b"]),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=5)),
    max_leaves=25,
)
near_misses = st.dictionaries(
    st.sampled_from(TOP), st.one_of(st.dictionaries(words, trees, max_size=4), trees), max_size=6
)
quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def inert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", ATTACKS)
def test_attacks(text: str, inert: Path) -> None:
    began = time.monotonic()
    read(text, inert)
    assert time.monotonic() - began < 20
    assert not (inert / "pwned").exists()


@quick
@given(st.text())
def test_any_text(inert: Path, text: str) -> None:
    read(text, inert)


@quick
@given(near_misses)
@example({"name": "x", "trial": {"model": {"name": "wgan", "clip": float("inf")}}})
def test_any_tree(inert: Path, tree: dict[str, Any]) -> None:
    read(yaml.safe_dump(tree, allow_unicode=True), inert)


def nested(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


def axes(count: int) -> str:
    sections = "\n".join(f"  x{i}: {{model.clip: [0.1, 0.2]}}" for i in range(count))
    return f"name: x\nspace:\n{sections}\n"


@pytest.mark.parametrize("text", [nested(9), axes(10_000)], ids=["anchors", "10,000 axes"])
def test_large_files_are_refused_in_bounded_time_and_memory(
    text: str, inert: Path, bounded: Callable[[], None]
) -> None:
    began = time.monotonic()
    bounded()
    read(text, inert)
    assert time.monotonic() - began < 30


@pytest.fixture
def bounded() -> Any:
    """Limits this process to 2 GiB above what it has now."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)

    def limit() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + 2 * 1024**3
        resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_AS, before)
