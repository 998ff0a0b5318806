"""A function compiled whole by torch.compile, and kept on disk for the processes to come.

Tracing a step takes seconds, and so does the check of what the compiler may use; a small sweep
trains for as long. What was compiled is therefore kept as a whole beside Inductor's own cache, with
the sources that it was traced from and the values that it found elsewhere.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import logging
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, final

import torch
from torch import Tensor, nn

from gansweep.modules.program import Program, program_of

if TYPE_CHECKING:
    from torch._dynamo.aot_compile import AOTCompiledFunction

log = logging.getLogger("gansweep")

FOLDER: Final = "gansweep"
"""Within Inductor's cache: what it compiled lies there too, and is of no use alone."""


@final
class Compiled:
    """The method `function` of `subject`, compiled at its first call, for such arguments alone.

    Nothing is looked at between two calls that would say otherwise: the caller answers for it, and
    for a subject that stays as it is.
    """

    def __init__(self, function: Callable[..., Any], subject: Any, *, about: str | None) -> None:
        """`about`: all in `subject` that a trace depends on, but sources; None: who can tell."""
        self._function = function
        self._subject = subject
        self._about = about
        self._run: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self._run is None:
            self._run = self._prepared(arguments)
        assert self._run is not None
        return self._run(self._subject, *arguments)

    def prepare(self, arguments: tuple[Any, ...], *, wait: bool) -> bool:
        """Compile for such arguments; whether it is done.

        Without `wait` it is not, where another process compiles the same at this moment.
        """
        if self._run is None:
            self._run = self._prepared(arguments, wait=wait)
        return self._run is not None

    def _prepared(
        self, arguments: tuple[Any, ...], *, wait: bool = True
    ) -> Callable[..., Any] | None:
        whole = (self._subject, *arguments)
        try:
            if self._about is None:
                made = _compile(self._function, whole)
                program = program_of(made, whole)
                return program.load() if program else made
            about = f"{self._function.__qualname__}\n{self._about}\n{_kind(arguments)}"
            return _kept(self._function, about, whole, wait=wait)
        except Exception as error:  # as a branch on the value of a tensor in a network
            words = f"{type(error).__name__}: {error}".splitlines()[0]
            log.warning("a step cannot be compiled and runs as it is: %.300s", words)
            return self._function


def prepare(*calls: tuple[Compiled, tuple[Any, ...]]) -> None:
    """Compile each for such arguments as stand beside it.

    Processes that begin alike share the work: what another one compiles comes last.
    """
    later = [call for call in calls if not call[0].prepare(call[1], wait=False)]
    for compiled, arguments in later:
        compiled.prepare(arguments, wait=True)


def describe(network: nn.Module) -> str | None:
    """All in `network` that a trace of it depends on, but sources; None where it cannot be told."""
    parts = []
    for name, part in network.named_modules():
        if not _has_source(type(part)):
            return None
        parts.append(f"{name}: {type(part).__module__}.{type(part).__qualname__}")
        for key, value in sorted(vars(part).items()):
            plain = _plain(value)
            if plain is not None:
                parts.append(f"  {key}={plain}")
            elif key not in _OF_EVERY_MODULE or ("hooks" in key and value):
                return None  # a hook is a function that the network's own source does not name
        parts.extend(f"  {n} {_kind(t)}" for n, t in part.named_parameters(recurse=False))
        parts.extend(f"  {n} {_kind(t)}" for n, t in part.named_buffers(recurse=False))
    return "\n".join(parts)


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def _plain(value: Any) -> str | None:
    """A value in words that are the same in another process; None for other values."""
    if value is None or isinstance(value, (bool, int, float, str, torch.dtype, torch.Size)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        items = [_plain(item) for item in value]
        return None if None in items else f"[{', '.join(map(str, items))}]"
    if isinstance(value, FunctionType) and "<" not in value.__qualname__:
        return f"{value.__module__}.{value.__qualname__}"
    return None


def _has_source(kind: type) -> bool:
    if kind.__module__.partition(".")[0] == "torch":
        return True  # known without the time that reading its file takes
    try:
        return bool(inspect.getsource(kind))
    except (OSError, TypeError):
        return False


def _kind(value: Any) -> str:
    """What a trace sees of an argument: shapes and types, numbers as they are."""
    if isinstance(value, Tensor):
        return f"{value.dtype}{list(value.shape)}{list(value.stride())}{value.device}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_kind(each)}' for name, each in value.items())}}}"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_kind, value))}]"
    fields = getattr(value, "__dataclass_fields__", None)
    if fields:
        return f"{type(value).__qualname__}{_kind({f: getattr(value, f) for f in fields})}"
    return repr(value)


_WAYS: Final = ("compiled", "once", "products", "program")
"""The modules that decide how something is compiled, not what."""


def _surroundings() -> dict[str, Any]:
    """What compiling depends on outside of the function."""
    return {
        "torch": torch.__version__,
        "ways": [Path(__file__).with_name(f"{each}.py").read_text() for each in _WAYS],
        "python": platform.python_version(),
        "cpu": [torch.backends.cpu.get_cpu_capability(), torch.cpu.get_capabilities()],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "dtype": str(torch.get_default_dtype()),
        "matmul": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "autocast": [
            [torch.is_autocast_enabled(device), str(torch.get_autocast_dtype(device))]
            for device in ("cpu", "cuda")
        ],
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(("TORCHINDUCTOR_", "ATEN_")) and name != "TORCHINDUCTOR_CACHE_DIR"
        },
    }


def _kept(
    function: Callable[..., Any], about: str, arguments: tuple[Any, ...], *, wait: bool = True
) -> Callable[..., Any] | None:
    """From disk, or else compiled and put there.

    Of several processes one compiles at a time: None where another one does, and this is not to
    `wait`. Loading, as long as a second, waits for nobody.
    """
    from filelock import FileLock, Timeout
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    folder = Path(cache_dir()) / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    whole = json.dumps([about, _surroundings()], sort_keys=True, default=str)
    path = folder / hashlib.sha256(whole.encode()).hexdigest()
    if path not in _at_hand:
        names = _Names(function, arguments)
        found = _load(path, names)
        if found is None:
            try:
                held = FileLock(path.with_suffix(".lock")).acquire(blocking=wait)
            except Timeout:
                return None
            with held:
                found = _load(path, names) or _make(function, arguments, path, names)
        while len(_at_hand) >= MOST_AT_HAND:
            del _at_hand[next(iter(_at_hand))]
        _at_hand[path] = found
    return _at_hand[path]


_at_hand: Final[dict[Path, Callable[..., Any]]] = {}
"""What this process has loaded or made, for other subjects that are alike."""

MOST_AT_HAND: Final = 64
"""The rest is on disk; a step is compiled in two parts, or in three where G draws ahead."""


@final
class _Names:
    """What a trace of `function` found outside of tensors, by the names that Dynamo gives it."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        code = function.__code__
        of_arguments = dict(zip(code.co_varnames, arguments, strict=False))
        self._named: dict[str, Any] = {**of_arguments, "G": _Globals(function.__globals__)}

    def value(self, name: str) -> str | None:
        """In words; None of what is not there, or no plain value."""
        try:
            return _plain(eval(name, self._named))
        except Exception:
            return None


class _Globals(dict[str, Any]):
    """A module's globals, with the modules that Dynamo inlines from as it names them there."""

    def __missing__(self, name: str) -> Any:
        return importlib.import_module(name.removeprefix("__import_").replace("_dot_", "."))


def _make(
    function: Callable[..., Any], arguments: tuple[Any, ...], path: Path, names: _Names
) -> Callable[..., Any]:
    relied_on: list[str] = []
    made = _compile(function, arguments, relied_on)
    modules = {source.module for source in made.source_info().inlined_sources}
    modules = {name for name in modules if name.partition(".")[0] != "torch"}
    sources = {name: _digest(name) for name in sorted(modules)}
    values = {name: names.value(name) for name in relied_on}
    values = {name: value for name, value in values.items() if value is not None}
    program = program_of(made, arguments)
    if None not in sources.values():
        beside = {"sources": sources, "values": values, "vectors": _vectors.trusted}
        draft = path.with_suffix(".draft")
        if program:
            for old in path.parent.glob(f"{path.name}.*.so"):
                old.unlink()  # not written to: a process may have it loaded
            content = program.library.read_bytes()
            draft.write_bytes(content)
            program = replace(program, library=draft.replace(_library(path, content)))
            told = {"inputs": program.inputs, "outputs": program.outputs}
            beside["program"] = {"library": program.library.name, **told}
        else:
            made.save_compiled_function(str(path))
        draft.write_text(json.dumps(beside))
        draft.replace(path.with_suffix(".json"))
    return program.load() if program else made


def _load(path: Path, names: _Names) -> Callable[..., Any] | None:
    """What was kept; None where there is nothing, or it was made of something else."""
    try:
        beside = json.loads(path.with_suffix(".json").read_text())
        if any(_digest(name) != digest for name, digest in beside["sources"].items()):
            return None
        if any(names.value(name) != value for name, value in beside["values"].items()):
            return None
        if told := beside.get("program"):
            library = path.with_name(told["library"])
            if library != _library(path, library.read_bytes()):
                return None  # it is damaged, and to load it might end the process
            return Program(library, told["inputs"], told["outputs"]).load()
        if beside["vectors"]:
            _vectors.trust()
        with path.open("rb") as file:
            loaded: Any = torch.compiler.load_compiled_function(file)
            made: AOTCompiledFunction = loaded
        made.disable_guard_check()  # its name on disk, sources and values stand in for guards
    except FileNotFoundError:
        return None
    except Exception as error:
        log.info("compiled anew: what was kept in %s cannot be used: %s", path, error)
        return None
    return made


def _library(path: Path, content: bytes) -> Path:
    """Where a library of this content is kept: a process loads no other one of the same name."""
    return path.with_name(f"{path.name}.{hashlib.sha256(content).hexdigest()[:16]}.so")


def _digest(module: str) -> str | None:
    """Of the source of a module; None where it has none."""
    try:
        return hashlib.sha256(
            inspect.getsource(importlib.import_module(module)).encode()
        ).hexdigest()
    except (OSError, TypeError, ImportError):
        return None


@final
class _Vectors:
    """Whether Inductor uses all vector instructions that this CPU says it has.

    It would find out what its C++ compiler knows of them by programs that it compiles and starts,
    which takes six seconds. What the user has set of it holds.
    """

    def __init__(self) -> None:
        self._ours = False
        self._doubted = False

    @property
    def trusted(self) -> bool:
        return self._ours

    def trust(self) -> None:
        """Use them without a check, unless there was reason for one."""
        config = torch._inductor.config.cpp
        if config.vec_isa_ok is None and not self._doubted:
            config.vec_isa_ok = self._ours = True

    def doubt(self) -> None:
        """Have Inductor find out from now on."""
        from torch._inductor import cpu_vec_isa

        self._doubted, self._ours = True, False
        torch._inductor.config.cpp.vec_isa_ok = None
        answers = [type(isa).__bool__ for isa in cpu_vec_isa.supported_vec_isa_list]
        for each in (cpu_vec_isa.valid_vec_isa_list, *answers):
            if forget := getattr(each, "cache_clear", None):
                forget()


_vectors: Final = _Vectors()


def _faster_products() -> dict[str, Any]:
    """Options of torch.compile, where they are of use and this torch has what they need."""
    try:
        from gansweep.modules import products
    except Exception as error:
        log.info("matrix products are left to torch: %s: %.300s", type(error).__name__, error)
        return {}
    return {"post_grad_custom_post_pass": products.Products()} if products.apply_here() else {}


def _compile(
    function: Callable[..., Any], arguments: tuple[Any, ...], relied_on: list[str] | None = None
) -> AOTCompiledFunction:
    """torch.compile's of `function`, for such `arguments`, without guards.

    Guards would cost as much as a small layer at each call, and so would Python between the
    kernels: on a CPU all is one program in C++, which compiles faster, too. `relied_on` takes what
    guards would look at: a constant that one module has of another is in neither's traced sources.
    """
    from torch._inductor.exc import InductorError

    importlib.import_module("gansweep.modules.once")  # for Inductor to know of it

    def no_guards(entries: Sequence[Any]) -> list[bool]:
        if relied_on is not None:
            relied_on.extend(entry.name for entry in entries if entry.has_value)
        return [False] * len(entries)

    def made(*, in_cpp: bool) -> AOTCompiledFunction:
        compiled: Any = torch.compile(
            function,
            fullgraph=True,
            dynamic=False,
            options={
                "guard_filter_fn": no_guards,
                "cpp_wrapper": in_cpp,
                **(_faster_products() if in_cpp else {}),
            },
        )
        whole: AOTCompiledFunction = compiled.aot_compile((arguments, {}))
        whole.disable_guard_check()
        return whole

    on_cpu = "cuda" not in _kind(arguments)
    _vectors.trust()
    try:
        return made(in_cpp=on_cpu)
    except InductorError as error:
        if not (on_cpu or _vectors.trusted):
            raise
        log.info("compiled once more, with less asked of the C++ compiler: %.300s", error)
        _vectors.doubt()
        return made(in_cpp=False)
