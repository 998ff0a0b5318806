"""YAML that would become huge is known before it is spelt out."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from sweep_files import TEXT, load, mistakes

from gansweep.sweep.expansion import MOST, spelt_out
from gansweep.sweep.file import MOST_BYTES

SWEEPS = Path(__file__).resolve().parents[2] / "sweeps"


def aliases(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


def interpolations(levels: int, *, reverse: bool = False) -> str:
    lines = ["a0: xxxxxxxxxx"]
    tens = [f"${{a{i}}}" * 10 for i in range(levels)]
    lines += [f'a{i}: "{tens[i - 1]}"' for i in range(1, levels)]
    return "\n".join(lines[::-1] if reverse else lines)


BOMBS = {
    "aliases": aliases(30),
    "mappings of aliases": "b0: &b0 {x: [1, 2]}\n"
    + "\n".join(f"b{i}: &b{i} {{p: *b{i - 1}, q: *b{i - 1}}}" for i in range(1, 60)),
    "interpolations": interpolations(12),
    "interpolations, the last first": interpolations(12, reverse=True),
    "lists of interpolations": "a0: [1, 2]\n"
    + "\n".join(f"a{i}: ['${{a{i - 1}}}', '${{a{i - 1}}}']" for i in range(1, 60)),
    "relative interpolations": "a:\n  b0: xx\n"
    + "\n".join(f"  b{i}: ${{.b{i - 1}}}${{.b{i - 1}}}" for i in range(1, 60)),
}

CHILD = """
import resource, sys
from pathlib import Path
from gansweep.errors import ConfigError
from gansweep.sweep.file import load_sweep

import gansweep.config
size = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + 256 * 1024**2,) * 2)
for name in sys.argv[1:]:
    try:
        load_sweep(Path(name))
    except ConfigError as error:
        print(*error.problems, sep=" | ")
"""


def test_bombs_are_refused_in_bounded_memory_and_name_their_file(tmp_path: Path) -> None:
    """As a file, as the base of one, and an endless device as a base; with 256 MiB more."""
    files = []
    for i, content in enumerate(BOMBS.values()):
        (tmp_path / f"{i}.yaml").write_text(content)
        (tmp_path / f"over_{i}.yaml").write_text(f"base: {i}.yaml\nname: x")
        files += [f"{i}.yaml", f"over_{i}.yaml"]
    (tmp_path / "endless.yaml").write_text("base: /dev/zero")
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, *files, "endless.yaml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert time.monotonic() - began < 60
    lines = ended.stdout.splitlines()
    assert len(lines) == 2 * len(BOMBS) + 1
    for i in range(len(BOMBS)):
        for line in lines[2 * i : 2 * i + 2]:
            assert line.startswith(f"{tmp_path}/{i}.yaml: is far too large once its aliases")
    assert lines[-1].startswith("/dev/zero: has more than 2 MB")


def test_a_bomb_in_an_override_is_refused(tmp_path: Path) -> None:
    bomb = ", ".join(f"&a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]" for i in range(20))
    (problem,) = mistakes(tmp_path, TEXT, [f"trial.score.names=[{bomb}]"])
    assert "is far too large once" in problem


def test_an_interpolation_within_another_is_refused(tmp_path: Path) -> None:
    """Each level doubles what the one below has, and no size of it can be told beforehand."""
    levels = [
        f"v{i}: '${{${{k{i + 1}}}}}${{${{k{i + 1}}}}}'\nk{i + 1}: v{i + 1}" for i in range(40)
    ]
    began = time.monotonic()
    (problem,) = mistakes(tmp_path, "\n".join([*levels, "v40: xxxxxxxxxx"]))
    assert "has an interpolation within another one: ${${" in problem
    assert time.monotonic() - began < 5


def test_what_sweeps_really_hold_is_far_below(tmp_path: Path) -> None:
    files = sorted(SWEEPS.glob("*.yaml"))
    assert len(files) >= 5
    for file in files:
        assert spelt_out(file.read_text()) < MOST / 100
    sweep = load(
        tmp_path,
        "name: ${trial.data.name}-x\n"
        "trial: {model: &m {name: wgan}, network: {name: mlp}, data: {name: ring8}}\n"
        "space: {model: {grid: [*m, {name: wgan, clip: 0.1}]}}",
    )
    assert sweep.name == "ring8-x"


def test_the_size_is_that_of_what_is_spelt_out() -> None:
    """Three levels: 1110 values of one character, 123 lists, 3 keys of two, and the whole."""
    assert spelt_out(aliases(3)) == 1110 * 21 + 123 * 20 + 3 * 22 + 20
    assert spelt_out("a: xy\nb: ${a}") == 20 + 2 * 21 + 22 + (20 + 4 + 22)
    assert spelt_out("a: xy") == 5  # nothing to spell out


def test_a_file_too_long_is_refused(tmp_path: Path) -> None:
    assert mistakes(tmp_path, TEXT + "#" * (MOST_BYTES - len(TEXT))) == []
    (problem,) = mistakes(tmp_path, TEXT + "#" * (MOST_BYTES + 1 - len(TEXT)))
    assert "file.yaml: has more than 2 MB" in problem
