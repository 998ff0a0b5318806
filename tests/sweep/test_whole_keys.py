from __future__ import annotations

from gansweep.sweep.file import Resources
from gansweep.sweep.whole_keys import keys_of_section, keys_of_trial, whole


def test_keys_are_those_that_a_file_may_have() -> None:
    keys = keys_of_trial({"model": {"name": "wgan"}, "optimizer": {"generator": {"lr": 0.1}}})
    assert keys.count("optimizer.lr") == 1
    assert {"model.clip", "latent.dim", "score.every", "seed"} <= set(keys)
    assert keys_of_trial({"model": {"name": "none", "x": 1}}) == ["model.name", "model.x"]
    assert "resources.pack" in keys_of_section("resources", Resources)


def test_every_key_that_ends_so_is_named() -> None:
    keys = ["a.lr", "b.c.lr", "lr", "a.clr"]
    assert whole("lr", keys) == "did you mean 'a.lr' or 'b.c.lr'?"
    assert whole("c.lr", keys) == "did you mean 'b.c.lr'?"
    assert whole("none", keys) == ""
