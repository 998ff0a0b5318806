"""A trial is trained for some seconds to see how long it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sweep_files import load, text

from gansweep.progress import Continue, Progress, Stop
from gansweep.sweep import probe as probes
from gansweep.sweep.probe import ProbeError, _Watch, probe
from gansweep.sweep.trials import planned


def tell(watch: _Watch, *points: tuple[int, float, bool]) -> list[Any]:
    return [watch(Progress(g, 1000, seconds, {}, scored)) for g, seconds, scored in points]


def test_it_ends_after_two_scores_and_reckons_between_them() -> None:
    watch = _Watch()
    verdicts = tell(
        watch, (1, 30.0, False), (10, 31.0, True), (15, 34.0, False), (16, 35.0, False),
        (20, 36.0, True),
    )  # fmt: skip
    assert verdicts == [Continue()] * 4 + [Stop("the probe is over")]
    assert watch.extrapolated(110) == pytest.approx(31.0 + 100 * 0.5, rel=1e-12)


def test_it_waits_for_scores_no_longer_than_it_may() -> None:
    watch = _Watch()
    end = 2.0 + probes.MOST_SECONDS
    verdicts = tell(watch, (1, 2.0, False), (5, end - 0.1, False), (11, end, False))
    assert verdicts == [Continue(), Continue(), Stop("the probe is over")]
    assert watch.extrapolated(21) == pytest.approx(2.0 + 20 * probes.MOST_SECONDS / 10, rel=1e-12)
    single = _Watch()
    tell(single, (4, 2.0, False))
    assert single.extrapolated(8) == pytest.approx(4.0, rel=1e-12)


def test_steps_of_a_burst_say_little_of_the_others() -> None:
    watch = _Watch()
    for g_steps, seconds, share in ((1, 1.0, 0.1), (5, 6.0, 0.5)):  # 5 of 1000 steps, half the work
        watch(Progress(g_steps, 1000, seconds, {}, False, share=share))
    assert watch.extrapolated(1000) == pytest.approx(1.0 + 5.0 / 0.4 * 0.9, rel=1e-12)


def test_a_real_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(probes, "MOST_SECONDS", 0.4)
    threads = torch.get_num_threads()
    sweep = load(tmp_path, text(), ["budget.g_steps=1000000", "trial.compile=false"])
    pace = probe(planned(sweep)[0].config, cores=1.0, on_gpu=False)
    assert (pace.trials, pace.g_steps) == (0, 1000000)
    assert 10 < pace.seconds < 1e6
    assert torch.get_num_threads() == threads
    short = load(tmp_path, text(), ["budget.g_steps=3"])
    whole = probe(planned(short)[0].config, cores=1.0, on_gpu=False)
    assert (whole.trials, whole.g_steps) == (0, 3)
    assert 0 < whole.seconds < 60


def test_a_trial_that_fails_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = planned(load(tmp_path, text()))[0].config

    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(config.model.cls, "training_step", broken)
    with pytest.raises(ProbeError, match="broken on purpose"):
        probe(config, cores=1.0, on_gpu=False)
