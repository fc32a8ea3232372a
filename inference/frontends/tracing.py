"""What a function may do while `make_fx` records it: read fixed numbers, index with changing ones."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.nn.functional import one_hot
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Arguments = tuple[Any, ...]
# they read memory: no operation would be seen
READERS = (Tensor.numpy, Tensor.__array__, Tensor.tolist)


class ReadableConstants(TorchDispatchMode):
    """Let `.item()`, `bool(...)` and the like read numbers that never change.

    What an argument, a parameter or a random draw changes stays unreadable.

    Args:
        arguments: the tensors that differ from call to call.
    """

    def __init__(self, arguments: Iterable[Tensor]) -> None:
        super().__init__()
        self.changing: dict[int, Any] = {}  # storages by address, kept alive
        self._mark(arguments)

    def _mark(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self.changing[storage._cdata] = storage

    def _changes(self, tensor: Tensor) -> bool:
        return tensor.requires_grad or tensor.untyped_storage()._cdata in self.changing

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Arguments = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation, and follow what changes."""
        given = _tensors((args, kwargs))
        random = torch.Tag.nondeterministic_seeded in func.tags
        fixed = not random and not any(map(self._changes, given))
        if fixed and torch.Tag.data_dependent_output in func.tags:
            with disable_proxy_modes_tracing():
                return func(*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if not fixed:
            written = given[:1] if func._schema.is_mutable else []
            self._mark([*written, *_tensors(result)])
        return result


def _tensors(tree: Any) -> list[Tensor]:
    """List the tensors in nested containers."""
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


class StaticIndexing(TorchFunctionMode):
    """Index with single integer tensors by operations, where torch would read the number."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Arguments = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one function of tensors."""
        if func in READERS:
            args[0].sum().item()  # is refused where the numbers may change
        return _static(func, args)(*args, **(kwargs or {}))


def _static(func: Callable[..., Any], args: Arguments) -> Callable[..., Any]:
    """Choose what to call in the place of a function that would read numbers."""
    if func is Tensor.__getitem__ and _has_number(args[1]):
        return _taken
    if func is Tensor.__setitem__ and _has_number(args[1]):
        return _put
    if func is Tensor.__setitem__ and _is_filling(*args[1:]):
        return _fill
    if func is torch.tensor and _holds_tensors(args[0]):
        return _stacked
    return _one_hot if func is one_hot else func


def _has_number(index: Any) -> bool:
    """Tell whether an index holds a single integer tensor."""
    return any(map(_is_number, _keys(index)))


def _keys(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _is_number(key: Any) -> bool:
    if not isinstance(key, Tensor) or key.is_floating_point():
        return False
    return key.ndim == 0 and key.dtype not in (torch.bool, torch.uint8)


def _length(key: Any) -> int:
    """Count the axes that a key stands for."""
    if key is None or isinstance(key, bool):
        return 0
    if isinstance(key, Tensor) and key.dtype in (torch.bool, torch.uint8):
        return key.ndim
    return 1


def _taken(tensor: Tensor, index: Any) -> Tensor:
    """`tensor[index]`: the axes with a number are taken out first, one after the other."""
    keys = _keys(index)
    axis = 0
    rest = []
    for place, key in enumerate(keys):
        if _is_number(key):
            number = _from_zero(key, tensor.shape[axis]).reshape(1)
            tensor = tensor.index_select(axis, number).squeeze(axis)
            continue
        rest.append(key)
        if key is Ellipsis:
            axis = tensor.ndim - sum(map(_length, keys[place + 1 :]))
        else:
            axis += _length(key)
    return tensor[tuple(rest)] if rest else tensor


def _from_zero(key: Tensor | int, size: int) -> Tensor:
    """Count a place from 0 up, where negative numbers count from the end."""
    number = torch.as_tensor(key).long()
    return torch.where(number < 0, number + size, number)


def _put(tensor: Tensor, index: Any, value: Any) -> None:
    """`tensor[index] = value` for the first axes."""
    keys = _keys(index)
    if not all(_is_number(key) or type(key) is int for key in keys):
        raise RuntimeError(
            "writing with slices and a latent number at once; index the first axes alone."
        )
    places = tuple(_from_zero(key, size) for key, size in zip(keys, tensor.shape, strict=False))
    tensor.index_put_(places, torch.as_tensor(value, dtype=tensor.dtype, device=tensor.device))


def _is_filling(key: Any, value: Any) -> bool:
    """Tell whether one number is to be written wherever a condition holds."""
    number = value.ndim == 0 if isinstance(value, Tensor) else isinstance(value, bool | int | float)
    return isinstance(key, Tensor) and key.dtype == torch.bool and number


def _fill(tensor: Tensor, key: Tensor, value: Tensor | float) -> None:
    """`tensor[key] = value` for a condition and a number, however often the condition holds."""
    flags = key.reshape(key.shape + (1,) * (tensor.ndim - key.ndim))
    number = torch.as_tensor(value, dtype=tensor.dtype, device=tensor.device)
    tensor.copy_(torch.where(flags, number, tensor))


def _holds_tensors(data: Any) -> bool:
    return isinstance(data, list | tuple) and any(
        isinstance(x, Tensor) or _holds_tensors(x) for x in data
    )


def _stacked(data: Any, dtype: torch.dtype | None = None, device: Any = None, **_: Any) -> Tensor:
    """`torch.tensor(data)` for nested lists with tensors of single numbers."""
    if isinstance(data, list | tuple):
        parts = [_stacked(x, dtype, device) for x in data]
        common = functools.reduce(torch.promote_types, (part.dtype for part in parts))
        return torch.stack([part.to(common) for part in parts])
    return torch.as_tensor(data, dtype=dtype, device=device)


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Do as `one_hot`, without a look at the largest number."""
    if num_classes < 0:
        return one_hot(tensor)
    return (tensor.unsqueeze(-1) == torch.arange(num_classes, device=tensor.device)).long()
