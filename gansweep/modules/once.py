"""How Inductor computes what `update_rules.once` marks: by itself, into memory of its own."""

from __future__ import annotations

from typing import Any

import torch
import torch._inductor.compile_fx  # the module below imports it, and it that
from torch._inductor.lowering import register_lowering

from gansweep import update_rules

assert update_rules  # which defines the operation


@register_lowering(torch.ops.gansweep.once.default, type_promotion_kind=None)
def _lowered(x: Any) -> Any:
    x.realize()
    return x
