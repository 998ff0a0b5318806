"""The diagnostics of a trial: scalars that say how its game stands, none of them a loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from gansweep.diagnosis.batch import FixedBatch, spread
from gansweep.diagnosis.layers import activations, descends
from gansweep.formulation import Formulation
from gansweep.modules.alternating import AlternatingModule, global_state
from gansweep.penalties import input_gradient

NAMES = (
    "d_accuracy_real",
    "d_accuracy_fake",
    "from_equilibrium",
    "separation",
    "d_gradient",
    "g_gradient",
    "clip_pinned",
    "lipschitz",
    "lipschitz_max",
    "diversity",
    "energy_distance",
    "stalled",
    "classes_covered",
    *(f"d_gradient_layer_{place:02}" for place in range(1, 100)),
)
"""Of diagnostics, whether they apply to a trial or not, beside those of its objective."""

_OF_DECISIONS = ("d_accuracy_real", "d_accuracy_fake", "from_equilibrium")
_OF_CONSTRAINTS = ("clip_pinned", "d_gradient_layer_")


def names_of(played: Iterable[str]) -> list[str]:
    """The diagnostics that a trial may have whose losses watch the scalars `played`."""
    return [*(_diagnostic(name) for name in played if name.startswith("d/")), *NAMES]


def example(formulation: Formulation) -> dict[str, float]:
    """A reading as a trial of this formulation may give it: what can apply to it, each 1/2."""
    objective, logits = formulation.objective, torch.ones(2)
    lacking: list[str] = []
    if objective.undecided is None:
        lacking += _OF_DECISIONS
    if formulation.constraint is None:
        lacking += _OF_CONSTRAINTS
    played = map(_diagnostic, objective.diagnostics(logits, logits))
    common = (name for name in NAMES if not name.startswith(tuple(lacking)))
    return dict.fromkeys([*played, *common], 0.5)


def _diagnostic(name: str) -> str:
    return name.replace("d/", "d_", 1)


def measure(module: AlternatingModule, batch: FixedBatch) -> dict[str, Tensor]:
    """Scalars on the device by name: the game on `batch` as the training steps play it.

    Both networks are in train mode, and G is the generator in training, not its average. The module
    is left as it was, to the last bit; its streams of randomness are not used.
    """
    with _untouched(module, batch.stream("dropout")), torch.enable_grad():
        play, D, D_pure = module.players(batch.labels)
        sides = play(batch.real, batch.z)
        real, fake = (side.detach() for side in sides)
        values = _discriminator(module, batch, real, fake)
        formulation = module.formulation
        loss = formulation.generator_loss(D, sides[1], sides[0]).total
        weights = [p for p in module.generator.parameters() if p.requires_grad]
        values["g_gradient"] = _norm(torch.autograd.grad(loss, weights, allow_unused=True))
        ends = formulation.packed(real), formulation.packed(fake)
        u = torch.rand(len(ends[0]), generator=batch.stream("interpolates"), device=fake.device)
        points = torch.lerp(*ends, u.to(fake.dtype).view(-1, *[1] * (fake.dim() - 1)))
        slopes = torch.linalg.vector_norm(input_gradient(D_pure, points).flatten(1), dim=1)
        values["lipschitz"], values["lipschitz_max"] = slopes.mean(), slopes.max()
        samples = fake.flatten(1)[:, : batch.real[0].numel()]  # of pairs with z, too
        values.update(_variety(samples.reshape(batch.real.shape), batch))
    return {name: value.detach() for name, value in values.items()}


@contextmanager
def _untouched(module: AlternatingModule, rng: torch.Generator) -> Iterator[None]:
    """Both networks' buffers and torch's global generator are afterwards what they were before.

    Within, what networks draw (dropout) comes from the stream `rng`. Weights, optimizers and the
    trial's own streams are not reached by a forward pass at all.
    """
    buffers = [*module.generator.buffers(), *module.discriminator.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    try:
        with global_state(rng.get_state(), module.device):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)


def _discriminator(
    module: AlternatingModule, batch: FixedBatch, real: Tensor, fake: Tensor
) -> dict[str, Tensor]:
    """How D tells real from generated samples, and the gradients of its loss."""
    _, D, D_pure = module.players(batch.labels)
    formulation = module.formulation
    constraint = formulation.constraint
    noise = formulation.draw(
        1,
        len(real),
        shape=tuple(real.shape[1:]),
        rng=batch.stream("penalty"),
        device=real.device,
        dtype=real.dtype,
    )
    shown = [formulation.packed(x).detach().requires_grad_() for x in (real, fake)]
    with activations(module.discriminator) as layers:
        logits = D(shown[0].clone()), D(shown[1].clone())  # clones: D may change them in place
    loss = formulation.discriminator_loss(
        D,
        real,
        fake,
        None if noise is None else noise[0],
        D_pure=D_pure,
        D_both=lambda real, fake: logits,
    )
    # Not those of a condition; the last layer's output is the logit.
    deep = [layer for layer in layers if descends(layer[0], shown[0])] if constraint else []
    hidden = deep[:-1]
    weights = [p for p in module.discriminator.parameters() if p.requires_grad]
    outputs = [output for layer in hidden for output in layer]
    gradients = torch.autograd.grad(loss.total, [*weights, *outputs], allow_unused=True)
    values = _told_apart(module, *(each.detach() for each in logits))
    values["d_gradient"] = _norm(gradients[: len(weights)])
    rest = list(gradients[len(weights) :])
    for place, layer in enumerate(hidden, start=1):
        own, rest = rest[: len(layer)], rest[len(layer) :]
        values[f"d_gradient_layer_{place:02}"] = _norm_of_a_sample(own)
    if constraint is not None:
        pinned = constraint.pinned(constraint.select(module.discriminator))
        if pinned is not None:
            values["clip_pinned"] = pinned
    return values


def _told_apart(module: AlternatingModule, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """D's outputs on both sides [B], as its objective sees them, and how well they part.

    separation: the probability that D ranks a real sample above a generated one (the area under
    its ROC curve), 1/2 at the equilibrium whatever the objective.
    """
    objective = module.formulation.objective
    watched = objective.diagnostics(real, fake)
    values = {_diagnostic(name): value for name, value in watched.items()}
    undecided = objective.undecided
    if undecided is not None:
        right = (real > undecided).float().mean(), (fake <= undecided).float().mean()
        values["d_accuracy_real"], values["d_accuracy_fake"] = right
        values["from_equilibrium"] = ((right[0] + right[1]) / 2 - 0.5).abs()
    above = (real.unsqueeze(1) > fake).float() + (real.unsqueeze(1) == fake).float() / 2
    values["separation"] = above.mean()
    return values


def _variety(fake: Tensor, batch: FixedBatch) -> dict[str, Tensor]:
    """How much the generated samples vary, each against the same of the real ones."""
    values = {}
    if batch.spread > 0:
        own = spread(fake)
        # As pdist reckons: products of matrices lose distances of data that lie far from 0.
        exact = "donot_use_mm_for_euclid_dist"
        sides = batch.real.flatten(1), fake.flatten(1)
        across = torch.cdist(*sides, compute_mode=exact).mean()
        values["diversity"] = own / batch.spread
        values["energy_distance"] = (2 * across - own - batch.spread) / batch.spread
    if batch.classify is not None:
        covered = torch.as_tensor(len(torch.unique(batch.classify(fake))), device=fake.device)
        values["classes_covered"] = covered / batch.classes
    return values


def _norm(gradients: Sequence[Tensor | None]) -> Tensor:
    """Euclidean norm of a gradient that comes in parts."""
    parts = torch._foreach_norm([each for each in gradients if each is not None])
    norm: Tensor = torch.linalg.vector_norm(torch.stack(parts))
    return norm


def _norm_of_a_sample(gradients: Sequence[Tensor | None]) -> Tensor:
    """Mean norm of the samples' own parts of the gradient of a mean over samples [B, ...]."""
    norms = [
        torch.linalg.vector_norm(each.flatten(1), dim=1).mean() * len(each)
        for each in gradients
        if each is not None
    ]
    return torch.stack(norms).mean()
