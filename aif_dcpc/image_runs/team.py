"""One learning run on several processes or GPUs, as `torchrun` starts them.

Datum i belongs to process i mod N, and so do its particles; of a batch that falls out unevenly a few are lent.
Sums over a batch travel: of parameters' gradients, of what moves learn about their steps, and of what is recorded,
on one machine through memory that its processes share (`shared_memory`). Random numbers are those of one
process, drawn for the whole batch by everyone, of which each takes those of its own data; so the run is
that of one process up to the order of sums.

    torchrun --nproc-per-node=2 $(which aif-train) experiment=mnist
"""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from aif_dcpc.errors import ConfigError, UserError
from aif_dcpc.image_runs.messages import Mail, Message
from aif_dcpc.image_runs.shared_memory import share_rows
from aif_dcpc.inference.moves.adaptation import SiteAdaptation, Summing, Sums, secant_sums

T = TypeVar("T")
PATIENCE = timedelta(days=1)  # one process may validate for long; one that dies is noticed at once
REASONS = (None, "out of time", "finished", "interrupted")  # to stop, the strongest last
FACTORIES = ("rand", "randn")  # of torch
IN_PLACE = ("normal_", "uniform_", "exponential_")  # of torch.Tensor


@dataclass(frozen=True)
class Team:
    """The processes that share a run.

    Attributes:
        rank: of this one; the first leads: it alone writes and prints.
        size: how many there are.
        mail: carries sums from one to the others.
    """

    rank: int = 0
    size: int = 1
    mail: Mail = field(default_factory=Mail, compare=False)

    @property
    def leads(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def begin(self, *sums: Tensor) -> Message:
        """Send sums to all processes, and go on until those over all data are needed."""
        return self.mail.begin(sums)

    def totals(self, *sums: Tensor) -> tuple[Tensor, ...]:
        """Sums over the data of all processes, in one message."""
        if self.size == 1:
            return sums
        return self.begin(*sums).totals()

    def agreed(self, reason: str | None) -> str | None:
        """The strongest of the reasons that any process has to stop."""
        if self.size == 1:
            return reason
        given = torch.tensor([float(reason == known) for known in REASONS])
        (number,) = self.totals(given)
        return REASONS[int(number.nonzero().max())]

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
    rank = torch.distributed.get_rank()
    here = device == "cpu" and os.environ.get("LOCAL_WORLD_SIZE") == str(size)
    return Team(rank, size, Mail(share_rows(rank, size, _told_by_first) if here else None))


def _told_by_first(value: T) -> T:
    """What the first process gives, everywhere."""
    message = [value]
    torch.distributed.broadcast_object_list(message)
    return message[0]


def leave_team(team: Team) -> None:
    """Close what `join_team` opened."""
    team.mail.close()
    if team.size > 1:
        torch.distributed.destroy_process_group()


@dataclass
class Lesson:
    """What a move takes from the data at hand, until the other processes have told theirs.

    Attributes:
        summing: yields sums over the data at hand, is sent those over all.
        scale: by which sums of this process count.
        learn: from knowledge and what comes of the sums, the knowledge with the lesson.
        sums: that are to be exchanged next.
        found: what came of them in the end.
    """

    summing: Summing
    scale: float
    learn: Callable[[SiteAdaptation, Sums], SiteAdaptation]
    sums: Sums | None = None
    found: Sums = ()

    def begin(self) -> None:
        """Sum up what is at hand."""
        self.sums = next(self.summing)

    def told(self, totals: Sums) -> None:
        """Go on with the sums over all data."""
        try:
            self.sums = self.summing.send(totals)
        except StopIteration as done:
            self.sums = None
            self.found = done.value


class Exchange:
    """Lessons of all sites that are outstanding: they travel together, round by round.

    A message costs more than what is in it: a sweep of three sites would send fifteen.

    Args:
        team: the processes.
    """

    def __init__(self, team: Team) -> None:
        self.team = team
        self.lessons: list[Lesson] = []
        self.message: Message | None = None

    def add(self, lesson: Lesson) -> None:
        """Sum a lesson up and note it."""
        self.end()
        lesson.begin()
        self.lessons.append(lesson)

    def begin(self) -> None:
        """Send the sums of the next round, if there are any."""
        self.end()
        sums = self.sums()
        if sums:
            self.message = self.team.begin(*sums)

    def end(self) -> None:
        """Go on with the sums over all data of the round that is under way."""
        if self.message is None:
            return
        totals = iter(self.message.totals())
        self.message = None
        for lesson in self.lessons:
            if lesson.sums is not None:
                lesson.told(tuple(next(totals) for _ in lesson.sums))

    def settle(self) -> None:
        """Make all rounds that are left."""
        self.begin()
        while self.message is not None:
            self.begin()
        self.lessons = []

    def sums(self) -> Sums:
        """What is to be exchanged next."""
        return tuple(x * lesson.scale for lesson in self.lessons for x in lesson.sums or ())


@dataclass(frozen=True)
class PooledAdaptation(SiteAdaptation):
    """What moves learn from the data of all processes.

    Attributes:
        exchange: with the others.
        own: data at hand.
        batch: data of all.
        weight: 0 where the datum at hand stands in for none.
        lessons: that are not taken in yet.
    """

    exchange: Exchange = field(default_factory=lambda: Exchange(ALONE))
    own: int = 1
    batch: int = 1
    weight: float = 1.0
    lessons: tuple[Lesson, ...] = ()

    def stepped(self, key: tuple[str, int], acceptance: Tensor, like: Tensor) -> SiteAdaptation:
        """Note the mean acceptance of the data at hand."""

        def learn(known: SiteAdaptation, sums: Sums) -> SiteAdaptation:
            return SiteAdaptation.stepped(known, key, sums[0], like)

        share = self.weight * self.own / self.batch
        return self._noted(Lesson(_told_once(acceptance), share, learn))

    def learned(
        self, key: str, dx: Tensor, dscore: Tensor, dense: bool, count: int
    ) -> SiteAdaptation:
        """Note the changes of the data at hand."""
        number = len(dx) * self.batch // self.own

        def learn(known: SiteAdaptation, sums: Sums) -> SiteAdaptation:
            return known.with_secant(key, sums, number, count)

        return self._noted(Lesson(secant_sums(dx, dscore, dense), self.weight, learn))

    def _noted(self, lesson: Lesson) -> SiteAdaptation:
        self.exchange.add(lesson)
        return replace(self, lessons=(*self.lessons, lesson))

    def settled(self) -> SiteAdaptation:
        """Take in what is outstanding, in the order in which it was noted."""
        if not self.lessons:
            return self
        if any(lesson.sums is not None for lesson in self.lessons):
            self.exchange.settle()
        known: SiteAdaptation = replace(self, lessons=())
        for lesson in self.lessons:
            known = lesson.learn(known, lesson.found)
        return known


def _told_once(value: Tensor) -> Summing:
    """A sum that is exchanged in one round."""
    return (yield (value,))


def pooled(learned: SiteAdaptation, **more: Any) -> PooledAdaptation:
    """The same knowledge, pooled from here on."""
    return PooledAdaptation(**_known(learned), **more)


def unpooled(learned: SiteAdaptation) -> SiteAdaptation:
    """The same knowledge, as one process has it."""
    return SiteAdaptation(**_known(learned))


def _known(learned: SiteAdaptation) -> dict[str, Any]:
    settled = learned.settled()
    return {entry.name: getattr(settled, entry.name) for entry in fields(SiteAdaptation)}


class OwnNoise:
    """While it is entered, torch draws for a whole batch and keeps what is of the data at hand.

    The functions that draw are replaced for that time, rather than every operation looked at: that
    would cost a tenth of a learning step. A process that shares a run learns in one thread.

    Args:
        num_particles: K.
        batch: data of all processes.
        places: `(B,)`, of the data at hand in the batch.
    """

    def __init__(self, num_particles: int, batch: int, places: Tensor) -> None:
        own = len(places)
        whole = batch * torch.arange(num_particles)[:, None] + places
        # size of an axis -> its size for the whole batch, and what is at hand of it
        self.axes = {
            own: (batch, places),
            num_particles * own: (whole.numel() // own * batch, whole.flatten()),
        }
        self.undo = ExitStack()

    def __enter__(self) -> Self:
        for name in FACTORIES:
            self._replace(torch, name, self._factory(getattr(torch, name)))
        for name in IN_PLACE:
            self._replace(Tensor, name, self._in_place(getattr(Tensor, name)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo.close()

    def _replace(self, place: Any, name: str, function: Callable[..., Tensor]) -> None:
        self.undo.callback(setattr, place, name, getattr(place, name))
        setattr(place, name, function)

    def _factory(self, draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A function such as `torch.randn`, which draws for the whole batch."""

        def own(*size: Any, **options: Any) -> Tensor:
            shape = size if size and isinstance(size[0], int) else tuple(size[0])
            return self._own(shape, lambda wide: draw(wide, **options))

        return own

    def _in_place(self, draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A method such as `Tensor.normal_`, which draws for the whole batch."""

        def own(into: Tensor, *more: Any, **options: Any) -> Tensor:
            drawn = self._own(into.shape, lambda wide: draw(into.new_empty(wide), *more, **options))
            return into.copy_(drawn)

        return own

    def _own(self, shape: Sequence[int], draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        """Draw numbers `(K, B, ...)`, `(chunks, K * B, ...)` or `(B, ...)`."""
        axis = 1 if len(shape) > 1 and shape[1] in self.axes else 0
        assert shape[axis] in self.axes, shape
        size, places = self.axes[shape[axis]]
        drawn = draw((*shape[:axis], size, *shape[axis + 1 :]))
        return drawn.index_select(axis, places.to(drawn.device))
