"""Compiling a recorded graph: its operations fused by inductor, called without Python between them.

On a GPU the graph's own kernels are started by one launch instead (see `captured`): that takes a
thirtieth of a second where inductor takes ten, and gives the same numbers to the last bit.

A recorded graph (see `recording`) is compiled as it stands. `torch.compile` on Python code breaks at
whatever it cannot follow and checks its guards at every call; handed a flat graph, inductor itself does
neither, and a call costs a quarter as much (14 microseconds for 53, a density of eight schools).
What a graph holds as constants becomes arguments, so that one compilation serves all graphs that do
the same to tensors of the same shapes, whatever the data.

Compiling takes seconds (less from inductor's cache on disk), so it may fail late and elsewhere: no
compiler, a full disk, a damaged cache. Then the graph itself is used, and the cause is said once.
"""

import contextlib
import hashlib
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch._inductor import config
from torch._inductor.compile_fx import compile_fx
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch._inductor.utils import clear_caches

from aif_dcpc.inference.errors import CompileWarning, InferenceError, cause
from aif_dcpc.inference.model.captured import Captured
from aif_dcpc.inference.model.recording import TOLERANCE, Function

aten = torch.ops.aten

KEPT = 64  # compiled graphs that one process remembers
FLIPPED = 0.01  # share of numbers that may differ: rounding turns a comparison now and then
CACHE = "TORCHINDUCTOR_CACHE_DIR"
OWN = "aif_dcpc"  # a folder within it, of which every library has its checksum
CHECKSUM = ".sha256"

_lock = threading.Lock()
_known: dict[Any, Function] = {}


class CannotCompile(InferenceError):
    """A graph was not compiled, or not to what it computes."""


def compiled(graph: fx.GraphModule, *examples: Tensor) -> Function:
    """Compile a recorded graph; the graph itself, and a warning, where that fails.

    Args:
        graph: as `recording.record` made it.
        examples: arguments to compile for. Later ones must have the same shapes, strides, types and
            device; what was compiled is compared with the graph at these.

    Returns:
        takes the graph's arguments, returns a tuple of what it returns, without gradients.

    Warns:
        CompileWarning: where the graph is used as it is, with the cause.
    """
    try:
        return compiled_or_raise(graph, *examples)
    except Exception as error:  # compilers and caches fail in any way
        warnings.warn(
            f"not compiled, so that the same is computed more slowly: {cause(error)}",
            CompileWarning,
            stacklevel=2,
        )
        return graph.forward


def compiled_or_raise(graph: fx.GraphModule, *examples: Tensor) -> Function:
    """Compile a recorded graph, as `compiled` does.

    Raises:
        Exception: whatever compiling raises; `CannotCompile` where it led to other numbers.
    """
    bare, constants = _with_constants_as_arguments(graph)
    given = (*examples, *constants)
    key = (bare.code, tuple(map(_layout, given)), torch.get_num_threads())
    with _lock:
        if key not in _known:
            _known[key] = _built(bare, given)
            _forget()
    return _bound(_known[key], constants)


def check_compiler(device: torch.device) -> None:
    """Refuse to compile for a CPU where there is no C++ compiler.

    Raises:
        CannotCompile: none is found.
    """
    if device.type != "cpu":
        return
    try:
        get_cpp_compiler()
    except Exception as error:  # each version has its own way to say so
        raise CannotCompile(
            f"no C++ compiler was found ({config.cpp.cxx[-1]}); install one, such as g++, or name it "
            "in the environment as CXX."
        ) from error


def _bound(function: Function, constants: tuple[Tensor, ...]) -> Function:
    """Call a compiled function with a graph's constants behind its arguments."""

    def call(*arguments: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return tuple(function(*arguments, *constants))

    return call


def _forget() -> None:
    while len(_known) > KEPT:
        del _known[next(iter(_known))]


def _layout(value: Tensor) -> tuple[Any, ...]:
    return tuple(value.shape), value.stride(), value.dtype, value.device


# -- constants -------------------------------------------------------------------------------------


def _with_constants_as_arguments(
    graph: fx.GraphModule,
) -> tuple[fx.GraphModule, tuple[Tensor, ...]]:
    """Copy a graph so that its constants are arguments after its own, but for those of one number.

    A tensor of one number throughout, such as the zeros that sums begin with, is written down as that number.
    """
    copy = fx.Graph()
    copy.output(copy.graph_copy(graph.graph, {}))
    last = [node for node in copy.nodes if node.op == "placeholder"][-1]
    constants: list[Tensor] = []
    for node in [node for node in copy.nodes if node.op == "get_attr"]:
        value = _attribute(graph, str(node.target))
        if _is_uniform(value):
            with copy.inserting_before(node):
                put = copy.call_function(*_filled(value))
        else:
            with copy.inserting_after(last):
                put = last = copy.placeholder(f"given_{len(constants)}")
            constants.append(value)
        node.replace_all_uses_with(put)
        copy.erase_node(node)
    return fx.GraphModule(torch.nn.Module(), copy), tuple(constants)


def _attribute(graph: fx.GraphModule, target: str) -> Tensor:
    found: Tensor = getattr(graph, target)
    return found


def _is_uniform(value: Tensor) -> bool:
    """Whether a constant is one number throughout, and stays so."""
    if value.requires_grad or not value.numel():
        return False
    return bool((value == value.flatten()[0]).all())


def _filled(value: Tensor) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The operation that makes a tensor of one number."""
    number = value.flatten()[0].item()
    options = {"dtype": value.dtype, "device": value.device}
    return aten.full.default, (list(value.shape), number), options


# -- compiling -------------------------------------------------------------------------------------


def _built(graph: fx.GraphModule, examples: tuple[Tensor, ...]) -> Function:
    """Compile a graph without constants and compare; once more in an empty cache where that fails.

    Raises:
        CannotCompile: it gives other numbers than the graph.
    """
    if any(x.is_cuda for x in examples):
        return _compared(graph, examples, Captured)
    check_compiler(examples[0].device)
    try:
        with _checked_cache():
            return _compared(graph, examples, _fused)
    except Exception:  # of a damaged cache: whatever its bytes happen to mean
        with tempfile.TemporaryDirectory() as folder, _cache_in(folder):
            return _compared(graph, examples, _fused)


def _fused(graph: fx.GraphModule, *examples: Tensor) -> Function:
    return cast("Function", compile_fx(graph, list(examples)))


def _compared(
    graph: fx.GraphModule, examples: tuple[Tensor, ...], build: Callable[..., Function]
) -> Function:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler's own making
        plain = tuple(x.detach() for x in examples)
        function = build(fx.GraphModule(graph, _copied(graph.graph)), *plain)
        for places in (plain, tuple(map(_moved, plain))):
            if not agree(graph(*places), tuple(function(*places))):
                raise CannotCompile("the compiled graph gives other numbers than the graph.")
    return function


def _copied(graph: fx.Graph) -> fx.Graph:
    """A copy of a graph: the compiler changes what it is given."""
    copy = fx.Graph()
    copy.output(copy.graph_copy(graph, {}))
    return copy


def _moved(value: Tensor) -> Tensor:
    """A place near a value, where one of the same layout can be had."""
    if not value.is_floating_point():
        return value
    moved = value.clone().mul_(0.97)
    return moved if moved.stride() == value.stride() else value


def agree(expected: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> bool:
    """Tell whether tensors are alike but for rounding, and for the few numbers that it may turn."""
    return all(_alike(a, b) for a, b in zip(expected, found, strict=True))


def _alike(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.numel():
        return True
    size = torch.nan_to_num(a.double(), 0.0, 0.0, 0.0).abs().mean()
    close = torch.isclose(
        a.double(),
        b.double(),
        rtol=TOLERANCE,
        atol=TOLERANCE * (float(size) + 1e-6),
        equal_nan=True,
    )
    return bool((~close).double().mean() <= FLIPPED)


# -- the cache on disk -----------------------------------------------------------------------------


@contextlib.contextmanager
def _checked_cache() -> Iterator[None]:
    """Compile in a folder of our own, whose libraries are those that were written there.

    A library of which bytes were overwritten is loaded like any other, and ends the process when it is
    called. So what does not have its checksum is removed, and made anew.
    """
    folder = Path(cache_dir()) / OWN
    folder.mkdir(parents=True, exist_ok=True)
    for library in folder.rglob("*.so"):
        if not _is_whole(library):
            library.unlink(missing_ok=True)
    with _cache_in(str(folder)):
        yield
    for library in folder.rglob("*.so"):
        library.with_suffix(CHECKSUM).write_text(_checksum(library))


def _is_whole(library: Path) -> bool:
    noted = library.with_suffix(CHECKSUM)
    return noted.exists() and noted.read_text(errors="replace") == _checksum(library)


def _checksum(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()


@contextlib.contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    """Let inductor keep what it makes in a folder."""
    before = os.environ.get(CACHE)
    os.environ[CACHE] = folder
    clear_caches()
    try:
        yield
    finally:
        clear_caches()
        if before is None:
            del os.environ[CACHE]
        else:
            os.environ[CACHE] = before
