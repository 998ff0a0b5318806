"""`gansweep settings`: the sections, and the thresholds of rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Gansweep = Callable[..., tuple[int, str, str]]


def test_rules_are_listed_and_shown(gansweep: Gansweep) -> None:
    code, out, _ = gansweep("settings")
    assert code == 0
    assert "diagnosis.clip_saturated, diagnosis.discriminator_won" in out
    code, out, _ = gansweep("settings", "diagnosis.mode_collapse")
    lines = [line.split() for line in out.splitlines()]
    assert ["diversity", "0.1", "float", ">=", "0"] in [line[:5] for line in lines]
    code, out, _ = gansweep("settings", "diagnosis")
    assert [line.split()[0] for line in out.splitlines() if line.split()][-6:] == [
        "every", "samples", "grace", "patience", "stop", "rules",
    ]  # fmt: skip


def test_who_asks_for_a_kind_or_a_preset_is_told_what_to_ask_for(gansweep: Gansweep) -> None:
    for section, words in {
        "data": "data: its settings are those of what it names (one of data.digits, ",
        "optimizer": "(one of optimizer.adam, optimizer.adamw, optimizer.rmsprop, optimizer.sgd)",
        "dcgan/paper": "(gansweep explain FILE preset=dcgan/paper)",
        "preset": "(gansweep explain FILE preset=wgan/paper)",
        "data.np": "(did you mean 'npz'?",
    }.items():
        code, _, err = gansweep("settings", section)
        assert (code, words in err) == (2, True), err


def test_the_words_that_a_setting_takes_are_shown(gansweep: Gansweep) -> None:
    for section, words in {
        "search": "one of [grid, random, tpe]",
        "resources": "one of [auto, interleaved, stacked]",
        "model.gan": "one of [non_saturating, minimax]",
    }.items():
        code, out, _ = gansweep("settings", section)
        assert code == 0
        assert words in " ".join(out.split()), section


def test_types_that_are_no_text_are_named(gansweep: Gansweep) -> None:
    """As in a person's module without `from __future__ import annotations`."""
    lines = [
        "from dataclasses import dataclass",
        "from typing import Literal",
        "from gansweep.networks.mlp import MLP",
        "from gansweep.settings import setting",
        "@dataclass(frozen=True)",
        "class Plain:",
        "    rate: float = setting(0.1, 'of it', gt=0)",
        "    most: int | None = setting(None, 'of it')",
        "    kind: Literal['a', 'b'] = setting('a', 'of it')",
        "class Mine(MLP):",
        "    Settings = Plain",
    ]
    Path("plain_types.py").write_text("\n".join(lines))
    code, out, _ = gansweep("settings", "network.plain_types:Mine")
    assert code == 0
    assert [" ".join(line.split()[2:-2]) for line in out.splitlines()[1:]] == [
        "float > 0", "int | None", "one of [a, b]",
    ]  # fmt: skip
