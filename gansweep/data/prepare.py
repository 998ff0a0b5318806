"""Prepared samples: what is slow to load is decoded once a node and kept in the cache folder."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from gansweep.components import answering, own_source, path_of
from gansweep.data.base import Dataset, Samples
from gansweep.data.contract import checked
from gansweep.errors import ConfigError
from gansweep.kept import Tensors, kept


def prepare(dataset: Dataset) -> Samples:
    """All samples of the data set, from the cache where it has a `cache_key`.

    Raises ConfigError as the data set's `load` and `cache_key` do, where these raise anything else
    in a person's own, and where samples are none.
    """
    kind = type(dataset)
    with answering(kind, at="data.name"):
        key = dataset.cache_key()

    def load() -> Samples:
        with answering(kind, at="data.name"):
            samples = dataset.load()
        return checked(samples, name=path_of(kind))

    if key is None:
        return load()
    if not isinstance(key, str):
        what = f"{path_of(kind)} gives {type(key).__name__} as its cache_key"
        raise ConfigError.single("data.name", what, "a string, or None")
    code = own_source(kind)  # which a person changes, and may not think of the key
    identity = "\n".join((kind.__module__, kind.__qualname__, *filter(None, [code]), key))
    return _samples(kept(identity, lambda: _tensors(load())))


def _tensors(samples: Samples) -> Tensors:
    """The samples as tensors alone; the names of the classes as the bytes of a JSON list."""
    names = torch.tensor(list(json.dumps(samples.class_names).encode()), dtype=torch.uint8)
    tensors = {"x": samples.x, "class_names": names}
    return tensors if samples.labels is None else {**tensors, "labels": samples.labels}


def _samples(tensors: Tensors) -> Samples:
    names: Tensor = tensors["class_names"]
    return Samples(tensors["x"], tensors.get("labels"), tuple(json.loads(bytes(names.tolist()))))
