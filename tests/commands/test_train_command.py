from __future__ import annotations

from pathlib import Path

import pytest

from gansweep.commands import train
from gansweep.config import TrialConfig
from gansweep.data.base import Samples
from gansweep.subnormals import is_flushed


def test_subnormal_numbers_are_zero_before_torch_shares_work_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its other threads are as this one was when they were first needed: for data, perhaps."""
    seen = []

    def load(config: TrialConfig) -> Samples:
        seen.append(is_flushed())
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "load_samples", load)
    file = tmp_path / "file.yaml"
    file.write_text("name: small\ntrial: {model: {name: wgan}}\n")
    ended = train.train_command(file, [], uri=None, root=tmp_path / "runs", record=False)
    assert ended == train.INTERRUPTED
    assert seen == [True]
    assert not is_flushed()
