"""`gansweep settings`: every setting that a sweep file may have, with its default and meaning."""

from __future__ import annotations

import dataclasses
from typing import Any

from omegaconf import MISSING
from rich.console import Console

from gansweep.components import Catalogue
from gansweep.config import PLAIN, SCALARS, Run
from gansweep.data.catalogue import DATASETS
from gansweep.diagnosis.rules.catalogue import RULES
from gansweep.errors import ConfigError, nearest
from gansweep.modules.catalogue import VARIANTS
from gansweep.networks.catalogue import ARCHITECTURES
from gansweep.optimizers import OPTIMIZERS
from gansweep.presets import PRESETS
from gansweep.report.columns import Column, Fitted, texts
from gansweep.sweep.file import Resources, Search
from gansweep.sweep.limits import LIMITS, Limits

NAMED: dict[str, Catalogue[Any]] = {
    "model": VARIANTS,
    "network": ARCHITECTURES,
    "optimizer": OPTIMIZERS,
    "data": DATASETS,
    "diagnosis": RULES,
}
LEAST = 14
"""Characters of a line of words, while another column can go."""
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def settings_command(section: str | None) -> int:
    """Print one section (`model.wgan`, `samples`), or the list of sections without one."""
    console = Console(soft_wrap=True)
    if section is None:
        console.print("Sections of `trial:`; gansweep settings model.wgan, say, shows one:")
        for kind in NAMED:
            console.print(f"  {kind:11}{_names(kind)}")
        console.print("  preset     " + ", ".join(sorted(PRESETS)))
        console.print("  plain      " + ", ".join(PLAIN) + f"; and trial ({', '.join(SCALARS)})")
        console.print(f"Beside `trial:`: search, resources; and sweep ({', '.join(LIMITS)})")
        return 0
    console.print(_table(_schema(section)))
    return 0


def _schema(section: str) -> type[Any]:
    plain = {**PLAIN, "trial": Run, "search": Search, "resources": Resources, "sweep": Limits}
    if section in plain:
        return plain[section]
    if section in NAMED:
        what = "its settings are those of what it names"
        raise ConfigError.single(section, what, f"one of {_names(section)}")
    if section in ("preset", *PRESETS):
        remedy = f"gansweep explain FILE preset={section if section in PRESETS else 'wgan/paper'}"
        raise ConfigError.single(section, "what a preset sets is held beside a sweep", remedy)
    kind, _, name = section.partition(".")
    if kind in NAMED and name:
        schema: type[Any] = NAMED[kind].load(name, at=section).Settings
        return schema
    choices = [*plain, *(f"{kind}.{each}" for kind, c in NAMED.items() for each in c.names)]
    raise ConfigError.single(section, "no such section", nearest(section, choices))


def _names(kind: str) -> str:
    return ", ".join(f"{kind}.{each}" for each in NAMED[kind].names)


def _table(schema: type[Any]) -> Fitted:
    rows = []
    for field in dataclasses.fields(schema):
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        shown = "required" if default == MISSING else "null" if default is None else str(default)
        bounds = field.metadata.get("bounds", {})
        limits = ", ".join(f"{SIGNS[name]} {bound:g}" for name, bound in bounds.items())
        plain = field.type.__name__ if type(field.type) is type else str(field.type)
        kind = plain.removeprefix("typing.").replace("Literal", "one of ")
        kind = kind.replace("'", "").replace('"', "")
        rows.append((field.name, shown, f"{kind} {limits}".strip(), field.metadata.get("help", "")))
    names, defaults, valid, meanings = (texts(row[place] for row in rows) for place in range(4))
    return Fitted(
        [
            Column("setting", names),
            Column("default", defaults),
            Column("valid", valid, least=LEAST, leaves=1),
            Column("meaning", meanings, least=LEAST),
        ]
    )
