"""`P[s]` in kernels: a latent index into a latent table picks each particle's own entry, as in Pyro.

    >>> from torch.distributions import Categorical, Dirichlet, Independent
    >>> from aif_dcpc.inference import DCPC, GraphicalModel, lag
    >>> model = GraphicalModel()
    >>> model.add_site("P", lambda: Independent(Dirichlet(torch.ones(3, 3)), 1), scope="global")
    >>> model.add_site("s", lambda s, P: Categorical(P[s]), parents=[lag("s"), "P"],
    ...                initial=lambda P: Categorical(torch.ones(3)), scope="slice")
    >>> DCPC(model, num_particles=2).init(length=5).value("s").shape
    torch.Size([2, 1, 5])

A kernel is handed tables `(K, B, [T,] *event)` and indices `(K, B, [T,] *event)`, whose leading axes
mean the same, but torch would take the index for one into the table's particles. While a kernel is
called for the first time, `LatentIndexing` follows what it computes from its arguments, one by one
in their elements; such an index into such a table counts the table's axes from the first of its
event. Kernels that index in no such way are called as they are ever after. Tables that follow from no
argument are indexed as torch does, which is right, and so are those that were reshaped, or indexed
by hand (`P[particles, data, s]`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from aif_dcpc.inference.errors import ModelError

ELEMENTWISE = frozenset(
    "abs add clamp clamp_max clamp_min clone contiguous cumsum detach div double exp expm1 float int "
    "log log1p log_softmax logit long mul neg pow relu rsub sigmoid softmax softplus sqrt square sub "
    "tanh to true_divide where".split()
)


class LatentIndexing(TorchFunctionMode):
    """Follow a kernel's arguments, and pick by latent indices from latent tables.

    Args:
        values: the arguments.
        lead: how many leading axes they have.
    """

    def __init__(self, values: Sequence[Tensor], lead: int) -> None:
        super().__init__()
        self.lead = lead
        self.known = {id(value): value for value in values}
        self.was_used = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch, unless it picks."""
        if func is Tensor.__getitem__ and self._picks(*args):
            self.was_used = True
            return self._follow(picked(args[0], args[1], self.known, self.lead))
        found = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        if name in ELEMENTWISE and isinstance(found, Tensor) and self._stays(found, args):
            self._follow(found)
        return found

    def _follow(self, value: Tensor) -> Tensor:
        self.known[id(value)] = value  # kept alive, so that no address is used twice
        return value

    def _stays(self, found: Tensor, args: tuple[Any, ...]) -> bool:
        """Whether a result of single elements has the leading axes of an argument."""
        return any(id(x) in self.known and x.ndim == found.ndim for x in args)

    def _picks(self, table: Tensor, index: Any) -> bool:
        if id(table) not in self.known or table.ndim <= self.lead:
            return False
        keys = index if isinstance(index, tuple) else (index,)
        first = [key for key in keys if isinstance(key, Tensor)][:1]
        return any(id(k) in self.known and is_integer(k) and k.ndim >= self.lead for k in first)


def is_integer(value: Any) -> bool:
    """Whether a value is a tensor of integers that count, no flags."""
    if not isinstance(value, Tensor) or value.dtype in (torch.bool, torch.uint8):
        return False
    return not value.is_floating_point()


def picked(table: Tensor, index: Any, known: Any, lead: int) -> Tensor:
    """Index the event of a table with leading axes, `(K, B, [T,] *extra, *rest)`.

    Args:
        table: `(K or 1, B or 1, [T or 1,] *event)`.
        index: keys of the event's axes; those in `known` have the table's leading axes.
        known: tensors with leading axes, by `id`.
        lead: how many these are.

    Raises:
        ModelError: for slices before an index that has elements.
    """
    keys = list(index) if isinstance(index, tuple) else [index]
    if keys[0] is Ellipsis:
        axes = sum(key is not None for key in keys[1:])
        keys[:1] = [slice(None)] * (table.ndim - lead - axes)
    tensors = [key for key in keys if isinstance(key, Tensor)]
    extra = max(key.ndim - lead if id(key) in known else key.ndim for key in tensors)
    if extra and not isinstance(keys[0], Tensor):
        raise ModelError(
            "a table is indexed by slices before a latent index that has elements itself; move the "
            "indexed axis to the front: table.movedim(axis, first event axis)[index]."
        )
    keys = [_widened(key, lead, extra) if id(key) in known else key for key in keys]
    found: Tensor = table[(*_places(table, lead, extra), *keys)]
    return found


def _widened(key: Tensor, lead: int, extra: int) -> Tensor:
    """Give an index axes of size 1 between its leading ones and its elements."""
    missing = extra - (key.ndim - lead)
    return key.long().reshape(*key.shape[:lead], *(1,) * missing, *key.shape[lead:])


def _places(table: Tensor, lead: int, extra: int) -> list[Tensor]:
    """For every leading axis, where an entry stands on it."""
    found = []
    for axis, size in enumerate(table.shape[:lead]):
        shape = [1] * (lead + extra)
        shape[axis] = size
        found.append(torch.arange(size, device=table.device).reshape(shape))
    return found


class IndexingCall:
    """A kernel, or a deterministic function, called so that latent indices pick from latent tables.

    Args:
        function: takes tensors with `lead` leading axes.
        lead: 2, or 3 where they are read with time.
    """

    def __init__(self, function: Callable[..., Any], lead: int) -> None:
        self.function = function
        self.lead = lead
        self.indexes: bool | None = None  # not known before the first call

    def __call__(self, *values: Tensor) -> Any:
        """Call the function, followed where it may pick."""
        if self.indexes is None and getattr(self.function, "sees_one_particle", False):
            self.indexes = False
        if self.indexes is False or not self._may_index(values):
            return self.function(*values)
        with LatentIndexing(values, self.lead) as indexing:
            found = self.function(*values)
        if self.indexes is None:
            self.indexes = indexing.was_used
        return found

    def _may_index(self, values: Sequence[Tensor]) -> bool:
        """Whether there is a table among several values."""
        return len(values) > 1 and any(value.ndim > self.lead for value in values)
