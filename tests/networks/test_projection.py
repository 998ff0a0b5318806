"""Projection of a condition: y^T V phi(x) + psi(phi(x))."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gansweep.dataspec import Condition
from gansweep.networks.spectral import SpectralLinear

from .cases import build, labels_for, pair

PROJECTED = {"discriminator_condition": "projection"}
CLASSES, VECTOR = Condition("class", 5), Condition("vector", 3)


@pytest.mark.parametrize("condition", [CLASSES, VECTOR])
def test_an_mlps_logit_in_closed_form(condition: Condition) -> None:
    torch.manual_seed(0)
    _, D = pair(build("mlp", width=4, depth=1, **PROJECTED), (3,), condition)
    x, labels = torch.randn(6, 3), labels_for(condition, 6)
    code = torch.eye(5)[labels] if condition.kind == "class" else labels
    first, _, last = D.body
    features = nn.functional.leaky_relu(x @ first.weight.T + first.bias, 0.2)
    expected = (features * (code @ D.projection.embedding.weight.T)).sum(1)
    expected += (features @ last.weight.T + last.bias)[:, 0]
    torch.testing.assert_close(D(x, labels), expected)
    assert first.in_features == 3  # x alone: the condition is not joined too


def test_a_dcgans_logit_takes_the_sums_of_its_maps() -> None:
    torch.manual_seed(0)
    _, D = pair(
        build("dcgan", width=4, discriminator_norm="none", **PROJECTED), (1, 16, 16), CLASSES
    )
    x, labels = torch.randn(6, 1, 16, 16), labels_for(CLASSES, 6)
    features = D.body[:-1](x)
    embedded = D.projection.embedding.weight.T[labels]
    expected = (features.sum((2, 3)) * embedded).sum(1) + D.body[-1](features).flatten()
    torch.testing.assert_close(D(x, labels), expected)
    assert D.body[0].in_channels == 1


def test_a_linear_interpolation_of_codes_interpolates_logits() -> None:
    """The log likelihood ratio is linear in y (Miyato & Koyama 2018, section 3)."""
    torch.manual_seed(0)
    _, D = pair(build("mlp", width=4, depth=2, **PROJECTED), (3,), VECTOR)
    x, a, b = torch.randn(4, 3), torch.randn(4, 3), torch.randn(4, 3)
    between = D(x, 0.3 * a + 0.7 * b)
    torch.testing.assert_close(between, 0.3 * D(x, a) + 0.7 * D(x, b))


@pytest.mark.parametrize("name", ["mlp", "dcgan"])
def test_the_embedding_is_normalised_with_the_rest(name: str) -> None:
    architecture = build(name, discriminator_norm="spectral", **PROJECTED)
    _, D = pair(architecture, (1, 8, 8), CLASSES)
    assert isinstance(D.projection.embedding, SpectralLinear)
    _, plain = pair(build(name, **PROJECTED), (1, 8, 8), CLASSES)
    assert type(plain.projection.embedding) is nn.Linear
    assert plain.projection.embedding.bias is None


@pytest.mark.parametrize("name", ["mlp", "dcgan"])
def test_the_generator_and_an_unconditional_discriminator_know_nothing_of_it(name: str) -> None:
    G, D = pair(build(name, **PROJECTED), (1, 8, 8))
    plain_g, plain_d = pair(build(name), (1, 8, 8))
    assert D.projection is None
    assert [n for n, _ in D.named_parameters()] == [n for n, _ in plain_d.named_parameters()]
    assert [n for n, _ in G.named_parameters()] == [n for n, _ in plain_g.named_parameters()]
