"""What samples have to be, whoever loads them: what training would make of others, nobody sees."""

from __future__ import annotations

import torch
from torch import Tensor

from gansweep.counting import counted
from gansweep.data.base import Samples
from gansweep.errors import ConfigError

CHANNELS = (1, 3)
"""Of images: sample grids are grey or RGB."""

SLACK = 1e-3
"""How far float images may go beyond [-1, 1], for rounding."""


def checked(samples: Samples, *, name: str) -> Samples:
    """`samples`, as `Samples` describes them; ConfigError where the data set `name` gives others.

    x: uint8 [N, C, H, W], or floats, images in [-1, 1]; floats [N, D]. Labels: int64 [N] from 0,
    each with its name where there are names; floats [N, K]. All finite, and N of both at least 1.
    """
    if not isinstance(samples, Samples):
        raise _refused(name, f"gives {type(samples).__name__}", "load() returns Samples(x, labels)")
    _check_x(samples.x, name)
    if samples.labels is not None:
        _check_labels(samples.labels, len(samples), samples.class_names, name)
    return samples


def _check_x(x: Tensor, name: str) -> None:
    if not isinstance(x, Tensor):
        raise _refused(name, f"gives x as {type(x).__name__}", "a torch.Tensor")
    kind = f"gives x {_described(x)}"
    is_image = x.ndim == 4
    if not (x.is_floating_point() or (is_image and x.dtype == torch.uint8)):
        raise _refused(name, kind, "images are uint8, or floats in [-1, 1]; vectors are floats")
    if x.ndim not in (2, 4):
        raise _refused(name, kind, "images are [N, C, H, W], vectors [N, D]")
    if is_image and x.shape[1] not in CHANNELS:
        raise _refused(name, kind, "images are [N, C, H, W], C 1 or 3: channels come first")
    if x.numel() == 0:
        raise _refused(name, kind, "there must be samples")
    if x.is_floating_point():
        low, high = _range(x, "x", name)
        if is_image and not -1 - SLACK <= low <= high <= 1 + SLACK:
            what = f"gives float images from {low:g} to {high:g}"
            raise _refused(name, what, "scale them to [-1, 1], or give uint8 from 0 to 255")


def _check_labels(labels: Tensor, count: int, names: tuple[str, ...], name: str) -> None:
    if not isinstance(labels, Tensor):
        raise _refused(name, f"gives labels as {type(labels).__name__}", "a torch.Tensor")
    kind = f"gives labels {_described(labels)} for {counted(count, 'sample')}"
    is_class = labels.dtype == torch.int64 and labels.ndim == 1
    is_vector = labels.is_floating_point() and labels.ndim == 2 and labels.shape[1] > 0
    if len(labels) != count or not (is_class or is_vector):
        raise _refused(name, kind, "classes are int64 [N], a condition of K numbers floats [N, K]")
    low, high = _range(labels, "labels", name)
    if is_class and low < 0:
        raise _refused(name, f"gives classes from {low:g}", "number the classes 0, 1, 2, ...")
    if is_class and names and high >= len(names):
        what = f"gives classes up to {high:g}, and {counted(len(names), 'name')}"
        raise _refused(name, what, "name each class, the first being 0")


def _range(values: Tensor, what: str, name: str) -> tuple[float, float]:
    low, high = (float(value) for value in torch.aminmax(values))
    if not (abs(low) < float("inf") and abs(high) < float("inf")):  # nor NaN
        raise _refused(name, f"gives {what} that are NaN or infinite", "leave those samples out")
    return low, high


def _described(tensor: Tensor) -> str:
    return f"as {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _refused(name: str, what: str, remedy: str) -> ConfigError:
    return ConfigError.single("data.name", f"{name} {what}", remedy)
