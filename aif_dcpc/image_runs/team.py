"""One learning run on several processes or GPUs, as `torchrun` starts them.

Datum i belongs to process i mod N, and so do its particles. Only sums over a batch travel: of parameters'
gradients, of what moves learn about their steps, and of what is recorded. Random numbers are those of one
process, drawn for the whole batch by everyone, of which each takes those of its own data; so the run is
that of one process up to the order of sums.

    torchrun --nproc-per-node=2 $(which aif-train) experiment=mnist
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from aif_dcpc.errors import ConfigError, UserError
from aif_dcpc.inference.moves.adaptation import SiteAdaptation

T = TypeVar("T")
PATIENCE = timedelta(days=1)  # one process may validate for long; one that dies is noticed at once
REASONS = (None, "out of time", "finished", "interrupted")  # to stop, the strongest last
FACTORIES = (torch.rand, torch.randn)
IN_PLACE = (torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.exponential_)


@dataclass(frozen=True)
class Team:
    """The processes that share a run.

    Attributes:
        rank: of this one; the first leads: it alone writes and prints.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def totals(self, *sums: Tensor) -> tuple[Tensor, ...]:
        """Sums over the data of all processes, in one message."""
        if self.size == 1:
            return sums
        flat = torch.cat([x.detach().reshape(-1).to(torch.float64) for x in sums])
        torch.distributed.all_reduce(flat)
        parts = flat.split([x.numel() for x in sums])
        return tuple(p.view(x.shape).to(x.dtype) for p, x in zip(parts, sums, strict=True))

    def agreed(self, reason: str | None) -> str | None:
        """The strongest of the reasons that any process has to stop."""
        if self.size == 1:
            return reason
        code = torch.tensor(REASONS.index(reason))
        torch.distributed.all_reduce(code, torch.distributed.ReduceOp.MAX)
        return REASONS[int(code)]

    def told(self, make: Callable[[], T]) -> T:
        """What the leader makes; where it cannot, it says why, and the others leave without a word.

        Raises:
            UserError: of the leader.
            SystemExit: of the others.
        """
        if self.size == 1:
            return make()
        message: list[Any] = [None]
        failure: UserError | None = None
        if self.leads:
            try:
                message = [(make(),)]
            except UserError as error:
                failure = error
        torch.distributed.broadcast_object_list(message)
        if failure is not None:
            raise failure
        if message[0] is None:
            raise SystemExit(2)
        made: T = message[0][0]
        return made

    def gather_rows(self, values: Sequence[Tensor]) -> None:
        """Give the leader the rows `rank::size` of everyone's tensors."""
        for value in values if self.size > 1 else ():
            if self.leads:
                for rank in range(1, self.size):
                    rows = torch.empty_like(value[rank :: self.size])
                    torch.distributed.recv(rows, rank)
                    value[rank :: self.size] = rows
            else:
                torch.distributed.send(value[self.rank :: self.size].contiguous(), 0)


ALONE = Team()


def join_team(device: str) -> Team:
    """Meet the processes that `torchrun` started beside this one; without it there is one.

    Raises:
        ConfigError: there are fewer devices than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"device=cuda: process {local} of this machine finds {torch.cuda.device_count()} devices: start as many "
                "processes as there are (torchrun --nproc-per-node=N)."
            )
        torch.cuda.set_device(local)
    if not torch.distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, timeout=PATIENCE)
    return Team(torch.distributed.get_rank(), size)


def leave_team(team: Team) -> None:
    """Close what `join_team` opened."""
    if team.size > 1:
        torch.distributed.destroy_process_group()


@dataclass(frozen=True)
class PooledAdaptation(SiteAdaptation):
    """What moves learn from the data of all processes.

    Attributes:
        team: the processes.
        own: data at hand.
        batch: data of all.
        weight: 0 where the datum at hand stands in for none.
    """

    team: Team = ALONE
    own: int = 1
    batch: int = 1
    weight: float = 1.0

    def total(self, *sums: Tensor) -> tuple[Tensor, ...]:
        """Sums over the data of all processes."""
        return self.team.totals(*(x * self.weight for x in sums))

    def mean(self, averaged: Tensor) -> Tensor:
        """The mean over the data of all processes."""
        (total,) = self.team.totals(averaged * (self.weight * self.own / self.batch))
        return total

    def number(self, counted: int) -> int:
        """The number of changes of all processes."""
        return counted * self.batch // self.own


def pooled(learned: SiteAdaptation, **more: Any) -> PooledAdaptation:
    """The same knowledge, pooled from here on."""
    known = {entry.name: getattr(learned, entry.name) for entry in fields(SiteAdaptation)}
    return PooledAdaptation(**known, **more)


def unpooled(learned: SiteAdaptation) -> SiteAdaptation:
    """The same knowledge, as one process has it."""
    return SiteAdaptation(
        **{entry.name: getattr(learned, entry.name) for entry in fields(SiteAdaptation)}
    )


class OwnNoise(TorchFunctionMode):
    """Draw for a whole batch, and keep what is of the data at hand.

    Args:
        num_particles: K.
        batch: data of all processes.
        places: `(B,)`, of the data at hand in the batch.
    """

    def __init__(self, num_particles: int, batch: int, places: Tensor) -> None:
        super().__init__()
        own = len(places)
        whole = batch * torch.arange(num_particles)[:, None] + places
        # size of an axis -> its size for the whole batch, and what is at hand of it
        self.axes = {
            own: (batch, places),
            num_particles * own: (whole.numel() // own * batch, whole.flatten()),
        }

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Make an operation; a random one of data is made for the whole batch."""
        options = kwargs or {}
        if func in FACTORIES:
            shape = tuple(args) if args and isinstance(args[0], int) else tuple(args[0])
            return self._own(shape, lambda wide: func(wide, **options))
        if func in IN_PLACE:
            into, *more = args
            own = self._own(into.shape, lambda wide: func(into.new_empty(wide), *more, **options))
            return into.copy_(own)
        return func(*args, **options)

    def _own(self, shape: Sequence[int], draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        """Draw numbers `(K, B, ...)`, `(chunks, K * B, ...)` or `(B, ...)`."""
        axis = 1 if len(shape) > 1 and shape[1] in self.axes else 0
        assert shape[axis] in self.axes, shape
        size, places = self.axes[shape[axis]]
        drawn = draw((*shape[:axis], size, *shape[axis + 1 :]))
        return drawn.index_select(axis, places.to(drawn.device))
