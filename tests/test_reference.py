"""Real samples: which are drawn, what is kept of them, and their floors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from trees import small

from gansweep import reference as module
from gansweep.data.base import Samples
from gansweep.dataspec import DataSpec
from gansweep.errors import ConfigError
from gansweep.metrics.base import Score, Subject
from gansweep.metrics.extractors.base import Extractor, Seen
from gansweep.metrics.extractors.raw import Raw
from gansweep.metrics.features import Features
from gansweep.metrics.neighbours import Recall
from gansweep.metrics.swd import SlicedWasserstein
from gansweep.reference import RESAMPLES, Reference, try_scores
from gansweep.seeding import stream

CPU = torch.device("cpu")
SPEC = DataSpec((2,))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANSWEEP_CACHE", str(tmp_path))


def samples(n=100, shift=0.0):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0)) + shift
    return Samples(x, torch.arange(n))


def made(n=100, *, count=30, seed=0, shift=0.0):
    return Reference(samples(n, shift), count=count, seed=seed, device=CPU)


class Network(Extractor):
    """Counts the samples that it sees."""

    name = "network"
    version = "1"
    seen = 0

    def __init__(self, weight=2.0):
        super().__init__(SPEC)
        self.weight = torch.nn.Parameter(torch.tensor(weight), requires_grad=False)

    def forward(self, x):
        type(self).seen += len(x)
        return Seen(x * self.weight, torch.softmax(x, 1))


class Mean(Score):
    """The mean of the fakes' first feature, less the real ones'."""

    name = "mean"
    version = "1"
    measured = 0

    def statistics(self, real):
        type(self).measured += 1
        return {"mean": real.x[:, 0].mean()}

    def __call__(self, fake, real):
        return float(fake.x[:, 0].mean() - real.statistics["mean"])


@pytest.fixture(autouse=True)
def counters(monkeypatch):
    monkeypatch.setattr(Network, "seen", 0)
    monkeypatch.setattr(Mean, "measured", 0)


def test_reference_and_held_out_do_not_meet():
    one = made()
    assert one.picked.equal(torch.randperm(100, generator=stream(0, "real"))[:30])
    assert len(one.held_out) == 30
    assert not set(one.picked.tolist()) & set(one.held_out.tolist())
    assert not one.picked.equal(made(seed=1).picked)


def test_few_others_are_drawn_again():
    one = made(40, count=30)
    assert len(one.held_out) == 30
    assert set(one.held_out.tolist()) <= set(range(40)) - set(one.picked.tolist())


@pytest.mark.parametrize("count", [40, 90])
def test_where_the_reference_takes_all(count):
    one = made(40, count=count)
    assert len(one.picked) == len(one.held_out) == count
    assert not one.held_out.equal(one.picked)


def test_features_are_of_the_samples_in_batches(monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 7)
    one, data = made(), samples()
    found = one.features(Network())
    torch.testing.assert_close(found.x, data.x[one.picked] * 2)
    torch.testing.assert_close(found.probabilities, data.x[one.picked].softmax(1))
    assert found.labels.equal(data.labels[one.picked])


def test_a_network_sees_real_samples_once_on_a_node():
    for _ in range(3):
        made().features(Network())
    assert Network.seen == 30
    made(seed=1).features(Network())
    made(shift=1.0).features(Network())  # other data of the same size
    made().features(Network(weight=3.0))
    assert Network.seen == 4 * 30


def test_code_without_a_version_is_not_trusted(monkeypatch):
    monkeypatch.setattr(Network, "version", "")
    for _ in range(2):
        extractor = Network()
        made().features(extractor)
        made().of(Mean(Subject(SPEC), extractor))
    assert Network.seen == 2 * 2 * 30
    assert Mean.measured == 2


def test_what_changed_code_of_ones_own_made_is_not_taken(monkeypatch):
    """Who mends a score may not think of its version."""
    for code in ("a", "b", "b"):
        monkeypatch.setattr(module, "own_source", lambda cls, code=code: code)
        made().of(Mean(Subject(SPEC), Network()))
    assert Network.seen == 2 * 30
    assert Mean.measured == 2


def test_statistics_are_computed_once_on_a_node():
    for _ in range(3):
        one = made()
        score = Mean(Subject(SPEC), Raw(SPEC))
        assert one.of(score) is not None
        expected = samples().x[one.picked][:, 0].mean()
        torch.testing.assert_close(one.of(score).statistics["mean"], expected)
    assert Mean.measured == 1
    made().of(Mean(Subject(SPEC, seed=1), Raw(SPEC)))
    assert Mean.measured == 2


def test_the_floor_is_the_score_of_the_held_out_samples():
    one, data = made(1000, count=400), samples(1000)
    score = Mean(Subject(SPEC), Raw(SPEC))
    floor = one.floors({"m": score})["m"]
    x = data.x[:, 0]
    expected = x[one.held_out].mean() - x[one.picked].mean()
    assert floor.value == pytest.approx(expected.item(), rel=1e-5)
    # Of a mean of 400 the standard error is 1/20; of RESAMPLES values it is known to 16 %.
    sigma = x[one.held_out].std().item() / 20
    assert floor.error == pytest.approx(sigma, rel=4 / (2 * (RESAMPLES - 1)) ** 0.5)
    again = made(1000, count=400).floors({"m": Mean(Subject(SPEC), Raw(SPEC))})["m"]
    assert again == floor
    assert Mean.measured == 1


def test_held_out_samples_that_are_drawn_again_have_the_neighbours_of_the_first():
    """Their balls would shrink to nothing: of 30 others, 90 are drawn."""
    one, raw = made(120, count=90), Raw(SPEC)
    score = Recall(Subject(SPEC), raw)
    drawn = one.held_out.unique()
    assert len(drawn) <= 30
    floor = one.floors({"recall": score})["recall"]
    expected = score(Features(samples(120).x[drawn]), one.of(score))
    assert floor.value == pytest.approx(expected, abs=1e-6)
    assert floor.value > 0.9
    copies = Features(samples(120).x[one.held_out])  # of a generator they are what they are
    assert score(copies, one.of(score)) < 0.75


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            None,
            r"mean gives NoneType, must give one .*\(in Own, .*test_reference\.py:\d+\)$",
        ),
        ("0.5", "mean gives str"),
        ({"a": 1.0}, "mean gives dict"),
        (torch.zeros(2), r"mean gives Tensor \[2\]"),
        (np.zeros((2, 3)), r"mean gives ndarray \[2, 3\]"),
        (KeyError("mu"), "Own raises KeyError: 'mu'"),
    ],
)
def test_a_score_of_ones_own_is_tried_on_real_samples(given, told):
    class Own(Mean):
        def __call__(self, fake, real):
            assert len(fake) == len(real) == 30
            if isinstance(given, Exception):
                raise given
            return given

    class Silent(Own):
        has_floor = False

    subject, raw = Subject(SPEC), Raw(SPEC)
    with pytest.raises(ConfigError, match=f"^trial.score.names: .*{told}"):
        made().try_out([Mean(subject, raw), Own(subject, raw)])
    made().try_out([Mean(subject, raw), Silent(subject, raw)])


@pytest.mark.parametrize("given", [1.5, 3, True, torch.tensor([1.5]), np.float32(2)])
def test_whatever_is_one_number_is_a_score(given):
    class Own(Mean):
        def __call__(self, fake, real):
            return given

    score = Own(Subject(SPEC), Raw(SPEC))
    assert made().try_out([score]) == []
    assert score.number(given) == pytest.approx(float(given))


@pytest.mark.parametrize("given", [float("nan"), -math.inf, torch.tensor(math.nan)])
def test_a_score_that_is_not_finite_on_real_samples_is_told(given):
    class Own(Mean):
        def __call__(self, fake, real):
            return given

    subject, raw = Subject(SPEC), Raw(SPEC)
    (line,) = made().try_out([Mean(subject, raw), Own(subject, raw)])
    assert line.startswith(f"the score mean is {float(given)} on real samples in the place")


def test_a_floor_that_goes_wrong_is_told_by_name():
    class Own(Mean):
        def resampled(self, fake, real, counts):
            return [None]

    with pytest.raises(ConfigError, match=r"Own raises TypeError: mean gives NoneType, must"):
        made().floors({"m": Own(Subject(SPEC), Raw(SPEC))})


def test_a_score_of_ones_own_is_tried_with_the_labels_of_training():
    """A generator that is given none has none; real samples have them all the same."""

    class Labelled(Mean):
        def __call__(self, fake, real):
            return float((fake.labels == real.labels).float().mean())

    raw = Raw(SPEC)
    made().try_out([Labelled(Subject(SPEC, conditional=True), raw)])
    with pytest.raises(ConfigError, match="Labelled raises AttributeError: 'bool' object"):
        made().try_out([Labelled(Subject(SPEC), raw)])


@pytest.mark.parametrize("wrong", [None, {"mu": 0.5}, [torch.zeros(2)]])
def test_statistics_that_are_none(wrong):
    class Own(Mean):
        def statistics(self, real):
            return wrong

    with pytest.raises(ConfigError, match="mean gives other statistics"):
        made().of(Own(Subject(SPEC), Raw(SPEC)))


def test_a_trials_scores_are_tried_with_its_settings():
    score = {"names": ["swd", "own_parts:Later"], "samples": 30}
    assert try_scores(small("gan", "mlp", "ring8", score=score), samples()) == []
    broken = {"names": ["swd", "own_parts:Nothing"], "samples": 30}
    with pytest.raises(ConfigError, match="nothing gives NoneType"):
        try_scores(small("gan", "mlp", "ring8", score=broken), samples())


def test_floors_that_are_none():
    class NaN(Mean):
        def __call__(self, fake, real):
            return float("nan")

    class Silent(Mean):
        has_floor = False

    subject, raw = Subject(SPEC), Raw(SPEC)
    scores = {"n": NaN(subject, raw), "s": Silent(subject, raw), "m": Mean(subject, raw)}
    assert list(made().floors(scores)) == ["m"]


def test_fast_resampling_is_resampling():
    """The sliced distance sorts once; the base class sorts each bootstrap sample."""
    score = SlicedWasserstein(Subject(SPEC), Raw(SPEC))
    one = made()
    real, counts = one.of(score), one._counts
    other = one._view(score.extractor, one.held_out)
    assert counts.sum(1).tolist() == [30] * RESAMPLES
    slow = Score.resampled(score, other, real, counts)
    assert score.resampled(other, real, counts) == pytest.approx(slow, rel=1e-5)
    assert len(set(slow)) > RESAMPLES / 2


def test_the_digest_is_of_samples_labels_and_count():
    one = made().digest
    assert len(one) == 12
    assert one == made().digest
    others = {made(seed=1).digest, made(count=31).digest, made(shift=1e-3).digest}
    relabelled = Samples(samples().x, samples().labels + 1)
    others.add(Reference(relabelled, count=30, seed=0, device=CPU).digest)
    assert len(others | {one}) == 5
