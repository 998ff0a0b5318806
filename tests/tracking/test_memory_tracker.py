from __future__ import annotations

import torch

from gansweep.tracking.memory import MemoryTracker


def test_keeps_everything_in_order() -> None:
    tracker = MemoryTracker()
    image = torch.zeros(3, 2, 2, dtype=torch.uint8)
    tracker.log_metrics({"loss/g": 1.0, "loss/d": 2.0}, step=1)
    tracker.log_image("samples", image, step=1)
    image.fill_(9)
    tracker.log_metrics({"loss/g": 0.5}, step=2)
    tracker.log_text("a: 1", "config.yaml")
    tracker.set_tags({"stop": "budget"})
    tracker.set_tags({"stop": "diverged"})
    tracker.flush()
    tracker.finish("FAILED")

    assert tracker.history("loss/g") == [(1, 1.0), (2, 0.5)]
    assert tracker.history("loss/d") == [(1, 2.0)]
    assert [(i.key, i.step, int(i.image.sum())) for i in tracker.images] == [("samples", 1, 0)]
    assert tracker.texts == {"config.yaml": "a: 1"}
    assert tracker.tags == {"stop": "diverged"}
    assert tracker.flushes == 1
    assert tracker.status == "FAILED"
