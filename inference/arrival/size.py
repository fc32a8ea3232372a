"""How many particles `sample` takes: many where a gradient is cheap, fewer where its arithmetic counts.

Up to some size, a batched gradient costs the same for one chain and for a hundred: the calls cost,
not the numbers. Beyond it, warming up costs in proportion to K.
"""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from aif_dcpc.inference.model.coordinates import Block
from aif_dcpc.inference.model.joint import JointDensity

MOST = 128
LEAST = 32
NUMBERS = 2_500_000  # results of operations in one batched gradient, beyond which arithmetic counts
PRODUCT = 0.1  # numbers that a multiplication within a matrix product costs
TRIED = 2


class Counter(TorchDispatchMode):
    """Counts the numbers that operations return."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation and add the size of its result."""
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor):
            self.numbers += found.numel()
        return found


def fitting_num_particles(block: Block, example: Tensor) -> int:
    """K for a block, from one gradient at a few chains `(K, G, D)`; the same on every machine."""
    per_chain = numbers_per_chain(block, example)
    number = MOST
    while number > LEAST and number * per_chain > NUMBERS:
        number //= 2
    return number


def numbers_per_chain(block: Block, example: Tensor) -> float:
    """What a gradient and a metric cost for one particle, in numbers that operations return."""
    density = JointDensity(block, "declared")
    others = block.others()
    counter = Counter()
    density.value_and_score(example, *others)
    with counter:
        density.value_and_score(example, *others)
    return counter.numbers / len(example) + PRODUCT * block.num_chains * block.dimension**2


def few(like: Tensor, block: Block) -> Tensor:
    """Vectors of a few chains to try a gradient at."""
    return like.new_zeros(TRIED, block.num_chains, block.dimension)
