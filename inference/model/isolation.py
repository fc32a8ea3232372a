"""What torch keeps for the whole process, made the present thread's own: random draws and validation.

`Distribution.sample` knows no generator, and the argument validation of distributions, which
synchronises with the host, is one flag for all. Other threads notice nothing of either context, and
torch's global generators stay where they are.
"""

import functools
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.distributions import Distribution
from torch.utils._python_dispatch import TorchDispatchMode

# -- random draws ----------------------------------------------------------------------------------


@functools.cache
def _told_generator(operation: OpOverload) -> OpOverload | None:
    """Find the variant of a random operation that takes a generator; None where there is none."""
    if torch.Tag.nondeterministic_seeded not in operation.tags:
        return None
    if any(argument.name == "generator" for argument in operation._schema.arguments):
        return operation
    plain = operation._overloadname
    told = "generator" if plain == "default" else f"{plain}_generator"
    found: OpOverload | None = getattr(operation.overloadpacket, told, None)
    return found


@functools.cache
def _num_before_generator(operation: OpOverload) -> int:
    """Count the arguments before the generator: some operations are handed a None in its place."""
    return [argument.name for argument in operation._schema.arguments].index("generator")


class DrawsFrom(TorchDispatchMode):
    """Give a generator of one seed to every draw of this thread that names none.

    It stands below Python, so that it does not matter by what a draw is written. Every operation
    costs some microseconds more: it is for drawing, not for sweeps.

    Args:
        seed: of a generator on each device where something is drawn.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.generators: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Make an operation, with a generator where it draws."""
        options = dict(kwargs or {})
        told = _told_generator(func)
        if told is None or any(isinstance(x, torch.Generator) for x in (*args, *options.values())):
            return func(*args, **options)
        options["generator"] = self._generator(_device(args, options))
        return self.draw(told, args[: _num_before_generator(told)], options)

    def draw(self, operation: OpOverload, args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """Make a random operation that has been told its generator; subclasses may draw otherwise."""
        return operation(*args, **options)

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self.generators:
            self.generators[device] = torch.Generator(device=device).manual_seed(self.seed)
        return self.generators[device]


def _device(args: tuple[Any, ...], options: Mapping[str, Any]) -> torch.device:
    """Find where an operation draws."""
    named = options.get("device")
    if named is not None:
        return torch.device(named)
    first = next((x for x in args if isinstance(x, Tensor)), None)
    return torch.get_default_device() if first is None else first.device


def rng_from(generator: torch.Generator | None) -> AbstractContextManager[object]:
    """Make draws that name no generator (distributions know none) follow `generator`.

    It may be entered many times, and goes on where it was.
    """
    if generator is None:
        return nullcontext()
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    return DrawsFrom(int(seed))


def rng_from_labels(
    generator: torch.Generator | None, *labels: object
) -> AbstractContextManager[object]:
    """Do as `rng_from`, but let draws follow the generator's first seed and `labels`.

    Nothing is read from the device, and the generator stays where it is.
    """
    if generator is None:
        return nullcontext()
    return DrawsFrom(zlib.crc32(repr((generator.initial_seed(), *labels)).encode()))


# -- validation ------------------------------------------------------------------------------------

_depth: ContextVar[int] = ContextVar("depth of no_validation", default=0)
_lock = threading.Lock()


class _OwnFlag:
    """Stands for `Distribution._validate_args`: False within `no_validation`, else as it was set."""

    def __init__(self, setting: bool) -> None:
        self.setting = setting
        self.users = 0

    def __get__(self, instance: object, owner: type | None = None) -> bool:
        return False if _depth.get() else self.setting


def _enter() -> _OwnFlag:
    """Put our flag in the place of torch's, unless another thread has."""
    with _lock:
        flag = Distribution.__dict__["_validate_args"]
        if not isinstance(flag, _OwnFlag):
            flag = _OwnFlag(flag)
            Distribution._validate_args = flag  # type: ignore[assignment]
        flag.users += 1
        return flag


def _leave(flag: _OwnFlag) -> None:
    """Let the last thread put torch's flag back, unless somebody has set it since."""
    with _lock:
        flag.users -= 1
        if not flag.users and Distribution.__dict__["_validate_args"] is flag:
            Distribution._validate_args = flag.setting


@contextmanager
def no_validation() -> Iterator[None]:
    """Switch off argument validation of distributions in this thread for the duration."""
    token = _depth.set(_depth.get() + 1)
    flag = _enter()
    try:
        yield
    finally:
        _leave(flag)
        _depth.reset(token)
