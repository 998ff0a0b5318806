"""Evaluations: in eval mode, in batches, with fingerprints that say what values depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from trees import small

from gansweep.assembly import build_module
from gansweep.dataspec import DataSpec
from gansweep.errors import ConfigError
from gansweep.metrics.extractors.digits import Digits
from gansweep.replica import Common
from gansweep.report.ranking import rank
from gansweep.sweep.plan import Entry

CPU = torch.device("cpu")

IMAGES = ["swd", "fd/digits", "kd/digits", "precision/digits", "recall/digits", "density/digits",
          "coverage/digits", "classes/digits", "class_kl/digits", "class_accuracy/digits",
          "classifier_score/digits"]  # fmt: skip
POINTS = ["swd", "modes", "high_quality", "reverse_kl", "fd/raw", "coverage/raw"]


def evaluation(model, data, names, /, **sections):
    config = small(model, "mlp", data, **{"score": {"names": names, "samples": 60}, **sections})
    return Common(config, CPU).evaluation


class Real(nn.Module):
    """Generates real samples: those that the reference did not take."""

    def __init__(self, common):
        super().__init__()
        self.samples, self.start = common.samples, 0
        self.picked = common.evaluation.reference.held_out

    def forward(self, z, labels=None):
        rows = self.picked[self.start : self.start + len(z)]
        self.start += len(z)
        return self.samples.x[rows]


@pytest.mark.parametrize(
    ("model", "data", "names"),
    [("cgan", "mnist5k", IMAGES), ("gan", "ring8", POINTS), ("gan", "gaussian1d", ["w1", "swd"])],
)
def test_of_real_samples_every_score_is_its_floor(model, data, names):
    config = small(model, "mlp", data, score={"names": names, "samples": 60})
    common = Common(config, CPU)
    values = common.evaluation(Real(common))
    floors = common.evaluation.floors
    assert list(values) == list(floors) == names
    for name in set(names) - {"class_accuracy/digits"}:  # other labels were asked for
        assert values[name] == pytest.approx(floors[name].value, rel=1e-5, abs=1e-6), name
        assert floors[name].error >= 0
    if data == "mnist5k":
        assert floors["class_accuracy/digits"].value >= 0.98
        assert 0 < floors["fd/digits"].error < floors["fd/digits"].value


class Noisy(nn.Module):
    """Says how it was called; in train mode it gives zeros."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.batches = []

    def forward(self, z, labels=None):
        self.batches.append((self.training, torch.is_grad_enabled(), len(z)))
        return self.norm(z[:, :2])


def test_eval_mode_without_gradients_and_the_mode_restored():
    generator = Noisy().train()
    common = Common(small("gan", "mlp", "ring8", score={"names": POINTS, "samples": 1100}), CPU)
    before = generator.norm.running_mean.clone()
    common.evaluation(generator)
    assert generator.batches == [(False, False, 500), (False, False, 500), (False, False, 100)]
    assert generator.training
    assert generator.norm.running_mean.equal(before)


def test_each_sample_is_generated_and_seen_once(monkeypatch):
    calls = []
    forward = Digits.forward
    monkeypatch.setattr(Digits, "forward", lambda self, x: calls.append(len(x)) or forward(self, x))
    common = Common(small("cgan", "mlp", "mnist5k", score={"names": IMAGES, "samples": 700}), CPU)
    common.evaluation.reference.features(common.evaluation.scores["fd/digits"].extractor)
    calls.clear()
    common.evaluation(Real(common))
    assert calls == [500, 200]


def test_conditional_samples_are_judged_by_what_was_asked():
    class Copy(nn.Module):
        """Draws the class that it is asked for, from the data; of one class the next one."""

        def __init__(self, samples, wrong=None):
            super().__init__()
            self.x = [samples.x[samples.labels == i][0] for i in range(10)]
            self.wrong = wrong

        def forward(self, z, labels=None):
            asked = [int(y) for y in labels]
            return torch.stack([self.x[(y + (y == self.wrong)) % 10] for y in asked])

    config = small("cgan", "mlp", "mnist5k", score={"names": IMAGES, "samples": 200})
    common = Common(config, CPU)
    name = "class_accuracy/digits"
    assert common.evaluation(Copy(common.samples))[name] == 1
    share = (common.sampler._y == 3).double().mean().item()
    assert 0 < share < 1
    assert common.evaluation(Copy(common.samples, 3))[name] == pytest.approx(1 - share, rel=1e-9)


KEYS = {"data", "split", "real", "real_count", "fake_count", "extractor", "weights", "resize",
        "batch_norm", "ema", "seed", "version", "mode"}  # fmt: skip


def test_fingerprints():
    base = evaluation("gan", "ring8", ["fd/raw"]).fingerprints["fd/raw"]
    assert set(base) == KEYS
    assert base | {"real": ""} == {
        "data": "ring8", "split": "all", "real": "", "real_count": "60", "fake_count": "60",
        "extractor": "raw", "weights": "", "resize": "none", "batch_norm": "eval", "ema": "no",
        "seed": "0", "version": "1", "mode": "min",
    }  # fmt: skip
    for changed, sections in (
        ({"ema"}, {"ema": {"decay": 0.9}}),
        ({"real"}, {"data": {"name": "ring8", "seed": 1, "n": 400}}),
        ({"real", "data"}, {"data": {"name": "grid25"}}),
    ):
        other = evaluation("gan", "ring8", ["fd/raw"], **sections).fingerprints["fd/raw"]
        assert {key for key in base if base[key] != other[key]} == changed
    first, more, seeded = (
        evaluation("gan", "ring8", ["swd"], score={"names": ["swd"], **score}).fingerprints["swd"]
        for score in ({"samples": 60}, {"samples": 61}, {"samples": 60, "seed": 1})
    )
    assert {k for k in first if first[k] != more[k]} == {"real", "real_count", "fake_count"}
    assert {k for k in first if first[k] != seeded[k]} == {"real", "seed", "weights"}


def why_not_compared(*fingerprints):
    """What a ranking of one value of each fingerprint says, refusing it."""
    entries = [
        Entry(str(i), "", {"at": i}, 0, 1, state="completed", metrics={"score/swd": 1.0},
              fingerprints={"swd": dict(each)})
        for i, each in enumerate(fingerprints)
    ]  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        rank(entries, metric="score/swd", mode="min")
    return str(caught.value)


def test_pictures_that_went_through_jpeg_or_another_filter_are_not_compared(tmp_path):
    """Both move a Frechet distance, by 6 and more: the real samples' own hash tells."""
    rng = np.random.default_rng(0)
    large = [Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)) for _ in range(8)]
    prints = {}
    for kind, filter_, end in (
        ("lanczos", Image.Resampling.LANCZOS, "png"),
        ("again", Image.Resampling.LANCZOS, "bmp"),  # as lossless as png
        ("jpeg", Image.Resampling.LANCZOS, "jpg"),
        ("bilinear", Image.Resampling.BILINEAR, "png"),
    ):
        folder = tmp_path / kind
        folder.mkdir()
        for i, image in enumerate(large):
            image.resize((8, 8), filter_).save(folder / f"{i}.{end}")
        data = {"name": "image_folder", "path": str(folder), "size": 8}
        score = {"names": ["swd"], "samples": 8}
        prints[kind] = evaluation("gan", "npz", [], data=data, score=score).fingerprints["swd"]
    assert prints["again"] == prints["lanczos"]
    for kind in ("jpeg", "bilinear"):
        assert "cannot be compared: real is " in why_not_compared(prints["lanczos"], prints[kind])


def test_features_at_another_size_are_not_compared(monkeypatch):
    one = evaluation("gan", "mnist5k", ["fd/digits"]).fingerprints["fd/digits"]
    monkeypatch.setattr(Digits, "resize", "bilinear 32")
    other = evaluation("gan", "mnist5k", ["fd/digits"]).fingerprints["fd/digits"]
    assert "resize is none of 1 trial, bilinear 32 of 1 trial" in why_not_compared(one, other)


def test_nothing_is_computed_before_it_is_asked_for(monkeypatch):
    """A pack begins to train at once."""
    monkeypatch.setattr(Digits, "forward", lambda self, x: pytest.fail("seen"))
    monkeypatch.setattr(Digits, "tried", lambda self: self)
    Common(small("gan", "mlp", "mnist5k", score={"names": ["fd/digits"]}), CPU)


def test_a_users_own_extractor():
    names = ["fd/own_parts:Corner", "classes/own_parts:Corner"]
    one = evaluation("gan", "ring8", names)
    assert list(one.scores) == ["fd/corner", "classes/corner"]

    class Left(nn.Module):
        def forward(self, z, labels=None):
            return torch.tensor([-3.0, 0.0]).expand(len(z), 2)

    values = one(Left())
    real = one.reference.features(one.scores["fd/corner"].extractor).x.double()
    expected = (real.mean() + 3) ** 2 + real.var()
    assert values["fd/corner"] == pytest.approx(expected.item(), rel=1e-5)
    assert values["classes/corner"] == 1
    assert one.fingerprints["fd/corner"]["extractor"] == "corner"


def test_a_tensor_of_one_number_is_a_score():
    found = evaluation("gan", "ring8", ["own_parts:OneNumber"])
    values = found(build_module(small("gan", "mlp", "ring8"), DataSpec((2,))).generator)
    assert [type(value) for value in values.values()] == [float]


@pytest.mark.parametrize(
    ("name", "calls", "told"),
    [
        ("Nothing", 1, r"Nothing raises TypeError: nothing gives NoneType, .*own_parts\.py:"),
        ("BreaksOnce", 2, r"own_parts:BreaksOnce raises ArithmeticError: .* \(in __call__, "),
    ],
)
def test_a_score_that_goes_wrong_is_told_by_name(name, calls, told):
    one = evaluation("gan", "ring8", ["swd", f"own_parts:{name}"])
    generator = nn.Linear(4, 2)
    generator.forward = lambda z, labels=None: z[:, :2]
    for _ in range(calls - 1):
        assert set(one(generator)) == {"swd", "breaks"}
    with pytest.raises(ConfigError, match=told):
        one(generator)
