"""Texts among the listed values of a space, as the settings take them: 0.01 for "0.01"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gansweep.config import ROLES, resolve
from gansweep.sweep.params import flatten
from gansweep.sweep.space import Choice, Grid, Space, apply

Leaf = tuple[str, Any]
"""A dotted key and its value."""


def typed(space: Space, trial: Mapping[str, Any]) -> Space:
    """The same space; of two ways to write a value its points have one.

    A text whose setting is none becomes the number or truth value that it spells. Texts of which
    no trial can be made stay, for the check of the trials to name the mistake.
    """
    unknown = {
        leaf
        for axis in space.axes
        for value in axis.domain.probes()
        for leaf in flatten(axis.assign(value)).items()
        if _spelt(leaf[1]) is not None
    }
    meant: dict[Leaf, Any] = {}
    for point in space.probes() if unknown else ():
        for leaf in unknown & flatten(point).items():
            found = _tried(trial, point, leaf)
            if found is not None:
                meant[leaf] = found
                unknown.discard(leaf)
        if not unknown:
            break
    return _respelt(space, meant) if meant else space


def _spelt(value: Any) -> Any:
    """The number or truth value that a text spells; None where it spells none."""
    if not isinstance(value, str):
        return None
    for read in (int, float):
        try:
            return read(value)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(value.lower())


def _tried(trial: Mapping[str, Any], point: Mapping[str, Any], leaf: Leaf) -> Any:
    """What the text `leaf` is to its setting, itself perhaps; None where that is not known."""
    key, text = leaf
    config = resolve(apply(trial, dict(point)), [])
    if config is None:
        return None
    settings = flatten(config.to_dict())
    section, _, rest = key.partition(".")
    values = [settings.get(name) for name in (key, *(f"{section}.{r}.{rest}" for r in ROLES))]
    if all(value is None or isinstance(value, str) for value in values):
        return text
    other = {name: _put(name, value, {leaf: _spelt(text)}) for name, value in point.items()}
    return _spelt(text) if resolve(apply(trial, other), []) == config else text


def _respelt(space: Space, meant: Mapping[Leaf, Any]) -> Space:
    axes = []
    for axis in space.axes:
        domain = axis.domain
        if isinstance(domain, (Grid, Choice)):
            prefix = "" if axis.several else axis.name
            options = tuple(_put(prefix, value, meant) for value in domain.options)
            domain = replace(domain, options=options)
        when = {k: tuple(_put(k, v, meant) for v in values) for k, values in axis.when.items()}
        axes.append(replace(axis, domain=domain, when=when))
    return replace(space, axes=tuple(axes))


def _put(key: str, value: Any, meant: Mapping[Leaf, Any]) -> Any:
    """The value of `key`, a section perhaps, with what its texts mean."""
    if isinstance(value, Mapping):
        at = f"{key}." if key else ""
        return {name: _put(f"{at}{name}", part, meant) for name, part in value.items()}
    return meant.get((key, value), value) if isinstance(value, str) else value
