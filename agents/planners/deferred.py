"""Numbers that are computed when somebody asks for them."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

from torch import Tensor


class Deferred(Mapping[str, Tensor]):
    """A mapping that is computed when it is first read.

    What a plan costs is needed at every step, what its cost is made of only where it is reported.

    >>> import torch
    >>> terms = Deferred(lambda: {"risk": torch.zeros(2)})
    >>> list(terms), len(terms), terms["risk"].tolist()
    (['risk'], 1, [0.0, 0.0])

    Args:
        compute: makes the mapping; called at most once.
    """

    def __init__(self, compute: Callable[[], Mapping[str, Tensor]]) -> None:
        self.compute = compute

    @cached_property
    def found(self) -> Mapping[str, Tensor]:
        """The mapping, computed now or before."""
        return self.compute()

    def __getitem__(self, name: str) -> Tensor:
        return self.found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)
