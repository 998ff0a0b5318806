"""What the shipped sweeps of published tables train, against the protocols that they name."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from gansweep.sweep.file import load_sweep
from gansweep.sweep.space import LogUniform
from gansweep.sweep.trials import Trial, planned

SWEEPS = Path(__file__).resolve().parents[2] / "sweeps"


def trials_of(name: str) -> list[Trial]:
    return planned(load_sweep(SWEEPS / f"{name}.yaml"))


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_it_plans_as_many_trials_as_it_says(path: Path) -> None:
    trials = planned(load_sweep(path))
    said = re.search(r"(\d+) trials", path.read_text(encoding="utf-8"))
    assert said is not None
    assert len(trials) == int(said[1]) == len({trial.key for trial in trials})


@pytest.mark.parametrize(
    ("kind", "data", "std"), [("ring", "ring8", 0.01), ("grid", "grid25", 0.05)]
)
def test_pacgan(kind: str, data: str, std: float) -> None:
    """Lin et al. 2018: 400 epochs of 100,000 samples in batches of 100, 10 runs, 2,500 samples."""
    trials = trials_of(f"pacgan_{kind}")
    games = Counter()
    for trial in trials:
        c = trial.config
        pac, batch = c.model.settings.pac, c.data.settings.batch_size
        games[pac] += 1
        assert batch == 100 * pac
        assert (c.data.name, c.data.settings.std, c.data.settings.n) == (data, std, 200_000)
        assert c.budget.g_steps * 100 == 400 * 100_000
        assert c.score.samples == 2500
        assert [part.name for part in c.scores] == ["modes", "high_quality", "reverse_kl"]
        assert (c.model.name, c.network.name, c.latent.dim) == ("gan", "pacgan", 2)
        d = c.d_optimizer.settings
        assert (c.d_optimizer.name, d.lr, d.beta1) == ("adam", 1e-4, 0.8)
        assert c.budget.g_steps % c.score_every == 0
    assert games == {1: 10, 2: 10}


def test_six_objectives() -> None:
    """The narrow ranges of google/compare_gan v1.0, params.py, and as many points of each."""
    trials = trials_of("six_objectives")
    axes = load_sweep(SWEEPS / "six_objectives.yaml").space.axes
    ends = {axis.name: axis.domain.probes() for axis in axes if isinstance(axis.domain, LogUniform)}
    assert ends == {
        "optimizer.lr": [1e-4, 1e-3],
        "model.clip": [1e-2, 1],
        "model.penalty_weight": [0.1, 10],
    }
    games = Counter()
    for trial in trials:
        c = trial.config
        model, norm = c.model.settings, c.network.settings.discriminator_norm
        games[c.model.name, getattr(model, "loss", "")] += 1
        d = c.d_optimizer.settings
        assert (c.d_optimizer.name, d.beta1, d.beta2) == ("adam", 0.5, 0.999)
        assert 1e-4 <= d.lr <= 1e-3
        assert c.g_optimizer.settings == d
        assert (model.n_critic, c.data.settings.batch_size) == (1, 64)
        assert (c.latent.dim, c.latent.distribution) == (64, "uniform")
        assert 0.01 <= getattr(model, "clip", 0.1) <= 1
        assert 0.1 <= getattr(model, "penalty_weight", 1) <= 10
        assert norm == "none" or c.model.name in ("gan", "lsgan", "wgan")
    losses = {"minimax": "gan", "non_saturating": "gan"}
    expected = {(name, loss) for loss, name in losses.items()}
    expected |= {("lsgan", ""), ("wgan", ""), ("wgan_gp", ""), ("dragan", "non_saturating")}
    assert games == dict.fromkeys(expected, 8)
    norms = Counter(t.config.network.settings.discriminator_norm for t in trials)
    assert norms["batch"] >= 8  # of 32 draws
    assert len({t.config.d_optimizer.settings.lr for t in trials}) == 48
