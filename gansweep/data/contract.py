"""What samples have to be, whoever loads them: what training would make of others, nobody sees."""

from __future__ import annotations

from dataclasses import replace

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
    each with its name where there are names; floats [N, K]. All finite, N of both at least 1, and
    plain tensors on the CPU. Names are strings, in a list or a tuple, which they become.
    """
    if not isinstance(samples, Samples):
        raise _refused(name, f"gives {type(samples).__name__}", "load() returns Samples(x, labels)")
    _check_x(samples.x, name)
    names = samples.class_names
    if not (isinstance(names, list | tuple) and all(isinstance(each, str) for each in names)):
        raise _refused(name, f"gives class_names {names!r:.60}", "a tuple of strings, one a class")
    if samples.labels is not None:
        _check_labels(samples.labels, len(samples), tuple(names), name)
    return samples if isinstance(names, tuple) else replace(samples, class_names=tuple(names))


def _check_plain(tensor: Tensor, what: str, name: str) -> None:
    if not isinstance(tensor, Tensor):
        raise _refused(name, f"gives {what} as {type(tensor).__name__}", "a torch.Tensor")
    for wrong, kind, remedy in (
        (tensor.device.type != "cpu", f"on {tensor.device}", "give it on the CPU: .cpu()"),
        (tensor.layout != torch.strided, f"as {tensor.layout}", "give it .to_dense()"),
        (tensor.requires_grad, "with a gradient", "give it without: .detach()"),
    ):
        if wrong:
            raise _refused(name, f"gives {what} {kind}", remedy)


def _check_x(x: Tensor, name: str) -> None:
    _check_plain(x, "x", name)
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
    _check_plain(labels, "labels", name)
    kind = f"gives labels {_described(labels)} for {counted(count, 'sample')}"
    is_class = labels.dtype == torch.int64 and labels.ndim == 1
    is_vector = labels.is_floating_point() and labels.ndim == 2 and labels.shape[1] > 0
    if not (is_class or is_vector) or len(labels) != count:
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
