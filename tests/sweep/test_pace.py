"""How long trials took, by what a step of them does."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep_files import load, text

from gansweep.sweep.files import PACES_FILE
from gansweep.sweep.pace import Pace, add_paces, pace_of, read_paces
from gansweep.sweep.trials import planned


def test_the_budget_and_numbers_do_not_matter_but_the_work_does(tmp_path: Path) -> None:
    def name(*overrides: str, on_gpu: bool = False) -> str:
        trial = planned(load(tmp_path, text(), overrides))[0]
        return pace_of(trial.config, on_gpu=on_gpu)

    plain = name()
    assert name("budget.g_steps=77") == plain
    assert name("seeds=[5]", "space.model.clip.grid=[0.3, 0.4]") == plain
    others = {
        name("network.width=9"), name("data.batch_size=32"), name("score.samples=300"),
        name("samples.every=3"), name(on_gpu=True),
    }  # fmt: skip
    assert plain not in others
    assert len(others) == 5


def test_files_add_up_and_what_is_damaged_is_nothing(tmp_path: Path) -> None:
    files = [tmp_path / str(number) / PACES_FILE for number in range(5)]
    for file in files[:4]:
        file.parent.mkdir()
    add_paces(files[0], {"a": Pace(2, 100, 10.0), "b": Pace(1, 10, 5.0)})
    add_paces(files[0], {"a": Pace(1, 50, 20.0)})
    add_paces(files[1], {"a": Pace(1, 50, 10.0)})
    add_paces(files[1], {})
    files[2].write_text("{")
    files[3].write_text('{"format": 1, "paces": {"a": {"trials": 1, "g_steps": 0, "seconds": 1}}}')
    paces = read_paces(files)
    assert paces == {"a": Pace(4, 200, 40.0), "b": Pace(1, 10, 5.0)}
    assert paces["a"].seconds_per_g_step == pytest.approx(0.2, rel=1e-12)
    add_paces(files[4], {"a": Pace(1, 1, 1.0)})  # its folder is missing
    assert not files[4].exists()
