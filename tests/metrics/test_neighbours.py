"""Precision, recall, density, coverage: against the package of their authors, and by hand."""

from __future__ import annotations

import pytest
import torch
from prdc import compute_prdc

from gansweep.metrics import neighbours
from gansweep.metrics.features import Features
from gansweep.metrics.neighbours import Coverage, Density, Precision, Recall
from metrics.judged import build, judge, known

ALL = {"precision": Precision, "recall": Recall, "density": Density, "coverage": Coverage}


def points(n, d, seed=0, scale=1.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * scale


CASES = {
    "narrower": (points(300, 4), points(250, 4, 1, 0.5)),
    "wider": (points(200, 4), points(300, 4, 1, 1.5)),
    "shifted": (points(200, 8), points(200, 8, 1) + 0.5),
    "features": (points(400, 64).relu(), (points(400, 64, 1) + 0.2).relu()),
}


@pytest.mark.parametrize("rows", [64, 2048])
@pytest.mark.parametrize("case", CASES)
def test_the_authors_package_agrees(case, rows, monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS", rows)
    real, fake = CASES[case]
    expected = compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=5)
    assert all(0 < value < 2 for value in expected.values())  # the cases are no trivial ones
    for name, cls in ALL.items():
        assert judge(cls, fake, real) == pytest.approx(expected[name], rel=1e-4), name


def test_copies_of_the_real_samples():
    """Each is in its own neighbourhood, and in five others on average."""
    real = points(200, 3)
    values = {name: judge(cls, real.clone(), real) for name, cls in ALL.items()}
    assert values["precision"] == values["recall"] == values["coverage"] == 1
    assert values["density"] == pytest.approx(1, abs=1e-6)


def test_samples_far_away():
    real = points(50, 3)
    assert [judge(cls, real + 100, real) for cls in ALL.values()] == [0, 0, 0, 0]


def test_fakes_on_one_real_sample():
    """Of full precision and without diversity."""
    real = points(200, 3)
    fake = real[:1] + points(200, 3, 1, 1e-4)
    assert judge(Precision, fake, real) == 1
    assert judge(Recall, fake, real) <= 0.01
    assert judge(Coverage, fake, real) <= 0.1


def test_the_four_share_one_computation(monkeypatch):
    calls = []
    found = neighbours.neighbour_scores
    monkeypatch.setattr(
        neighbours, "neighbour_scores", lambda *args: calls.append(1) or found(*args)
    )
    real, fake = (Features(x) for x in CASES["narrower"])
    for cls in ALL.values():
        score = build(cls)
        score(fake, known(score, real))
    assert len(calls) == 1


def test_bootstrap_samples():
    """Those of fakes alone change; whose neighbourhood holds which does not."""
    real, fake = (Features(x) for x in CASES["shifted"])
    once = torch.ones(1, len(fake), dtype=torch.int64)
    few = torch.zeros(1, len(fake), dtype=torch.int64)
    few[0, :2] = 100
    for cls in ALL.values():
        score = build(cls)
        at_hand = known(score, real)
        whole = score(fake, at_hand)
        values = score.resampled(fake, at_hand, torch.cat([once, few]))
        assert values[0] == pytest.approx(whole, rel=1e-6)
        if cls in (Recall, Coverage):
            assert values[1] < whole / 2


def test_a_copy_of_a_real_sample_is_no_neighbour_of_it():
    """As where the data are fewer than the reference, which then takes some of them again."""
    real, fake = points(100, 3), points(300, 3, 1)
    again = real[torch.randint(100, (900,), generator=torch.Generator().manual_seed(2))]
    for cls in ALL.values():
        with_copies = judge(cls, fake, torch.cat([real, again]))
        assert with_copies == judge(cls, fake, real) > 0.5
