"""A compiled function as the program in C++ that it is, called without what torch puts around it.

To load what torch.compile has saved takes a second, most of it imports of the compiler; and each
call goes through some layers of Python that cost as much as a small layer of a network. A function
of tensors that gives new tensors and changes some in place needs neither: its program is a shared
library that takes the tensors one after the other.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch._dynamo.aot_compile import AOTCompiledFunction
    from torch._inductor.output_code import CompiledFxGraph

log = logging.getLogger("gansweep")

ENTRY: Final = "inductor_entry_cpp"
"""Inductor's name of the function in a library, and of the library as a module of Python."""

_ADDRESS: Final = "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR"
"""Variable of the environment from which a library learns how to read tensors, as it is loaded."""


@final
@dataclass(frozen=True)
class Program:
    """library: the shared library. inputs: where its tensors stand in the arguments, which are
    called `a`, as `a[1].theta`; outputs: the names of the tensors that it gives, in their order.
    """

    library: Path
    inputs: list[str]
    outputs: list[str]

    def load(self) -> Callable[..., dict[str, Tensor]]:
        """The function; ImportError where there is no such library."""
        guards: Any = torch._C._dynamo.guards
        os.environ[_ADDRESS] = str(guards._torchinductor_pyobject_tensor_data_ptr)
        name = f"{self.library.stem}.{ENTRY}"
        loader = ExtensionFileLoader(name, str(self.library))
        module = module_from_spec(ModuleSpec(name, loader, origin=str(self.library)))
        loader.exec_module(module)
        entry: Callable[[Any], Any] = getattr(module, ENTRY)
        tensors: Callable[[tuple[Any, ...]], list[Tensor]]
        tensors = eval(f"lambda a: [{', '.join(self.inputs)}]")
        handles = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors
        held = torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs
        outputs = self.outputs

        def run(*arguments: Any) -> dict[str, Tensor]:
            return dict(zip(outputs, held(entry(handles(tensors(arguments)))), strict=True))

        return run


def program_of(made: AOTCompiledFunction, arguments: tuple[Any, ...]) -> Program | None:
    """The program of `made`, if it is all that there is of it; None where something is done around.

    Copies of the arguments are put to both, so that these stay as they are: the program's inputs
    must be tensors among the arguments, its outputs the values of the dict that comes out, and both
    must change and give the same, bit for bit. The first argument is the subject, which is not
    looked into.
    """
    try:
        return _found(made, arguments) if made._artifacts.device_type == "cpu" else None
    except Exception as error:  # another torch has it elsewhere
        log.info("a compiled step is called as torch does: %s: %.300s", type(error).__name__, error)
        return None


def _found(made: AOTCompiledFunction, arguments: tuple[Any, ...]) -> Program | None:
    one, other = ((arguments[0], *deepcopy(arguments[1:])) for _ in range(2))
    with _graphs_called() as calls:
        told = made(*one)
    if len(calls) != 1 or not isinstance(told, dict):
        return None
    graph, inputs, outputs = calls[0]
    call: Any = graph.current_callable
    entry = call.__globals__["inductor_entry"]
    places = {id(tensor): place for place, tensor in _tensors(one)}
    names = {id(tensor): name for name, tensor in told.items()}
    if graph.constants or len(places) < len(list(_tensors(one))):
        return None  # constants follow the inputs; of a tensor in two places one may be meant
    ours = [places.get(id(each), "") for each in inputs], [names.get(id(x), "") for x in outputs]
    found = Program(Path(entry.__self__.__file__), *ours)
    if "" in found.inputs or set(found.outputs) != told.keys():
        return None
    again = found.load()(*other)
    pairs = [(told[name], again[name]) for name in told]
    pairs += zip(*([x for _, x in _tensors(whole)] for whole in (one, other)), strict=True)
    if not all(_are_equal(*pair) for pair in pairs):
        log.info("a compiled step is more than its program: %s", found.library)
        return None
    return found


@contextmanager
def _graphs_called() -> Iterator[list[tuple[CompiledFxGraph, list[Any], Sequence[Any]]]]:
    """Inductor's graphs that are called meanwhile, with what goes in and what comes out."""
    from torch._inductor.output_code import CompiledFxGraph

    graphs: Any = CompiledFxGraph
    call = graphs.__call__
    calls: list[tuple[CompiledFxGraph, list[Any], Sequence[Any]]] = []

    def noted(graph: CompiledFxGraph, inputs: Sequence[Any]) -> Any:
        given = list(inputs)  # the graph empties what it is given
        outputs = call(graph, inputs)
        calls.append((graph, given, outputs))
        return outputs

    graphs.__call__ = noted
    try:
        yield calls
    finally:
        graphs.__call__ = call


def _tensors(arguments: tuple[Any, ...]) -> Iterator[tuple[str, Tensor]]:
    """Those in all arguments but the first, each with where it stands."""
    for i, argument in enumerate(arguments[1:], 1):
        yield from _within(argument, f"a[{i}]")


def _within(value: Any, at: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield at, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _within(each, f"{at}[{key!r}]")
    elif isinstance(value, (tuple, list)):
        for i, each in enumerate(value):
            yield from _within(each, f"{at}[{i}]")
    else:
        for field in getattr(value, "__dataclass_fields__", ()):
            yield from _within(getattr(value, field), f"{at}.{field}")


def _are_equal(one: Tensor, other: Tensor) -> bool:
    """Bit for bit: NaN is NaN."""
    bits = [each.contiguous().view(-1).view(torch.uint8) for each in (one, other)]
    return one.dtype == other.dtype and torch.equal(*bits)
