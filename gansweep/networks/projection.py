"""A condition that enters a discriminator as a projection on its features."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from gansweep.dataspec import Condition
from gansweep.networks.condition import ConditionCode


@final
class Projection(nn.Module):
    """f(x, y) = y^T V phi(x) + psi(phi(x)) (Miyato & Koyama 2018, section 3).

    y is the condition's code, V a learned linear embedding without bias; of feature maps phi(x) it
    takes the sums over all places. psi is the last layer of a discriminator's body, phi what comes
    before it.
    """

    def __init__(self, condition: Condition, width: int, linear: type[nn.Linear]) -> None:
        """`width`: the features of phi; `linear`: what makes V, as the other layers are made."""
        super().__init__()
        self.code = ConditionCode(condition)
        self.embedding = linear(condition.size, width, bias=False)

    def forward(self, body: nn.Sequential, x: Tensor, labels: Tensor | None) -> Tensor:
        """Logits [N] of x [N, ...]. Raises ValueError without labels."""
        embedded = self.embedding(self.code(labels, dtype=x.dtype))
        *features, last = body
        for layer in features:
            x = layer(x)
        pooled = x.flatten(2).sum(2) if x.dim() > 2 else x
        logits: Tensor = last(x).flatten() + (pooled * embedded).sum(1)
        return logits
