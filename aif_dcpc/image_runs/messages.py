"""Sums over the processes of a team, under way while each goes on with its work.

At most two are under way, and they end in the order in which they began, which is the same everywhere.
"""

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from aif_dcpc.image_runs.shared_memory import CAPACITY, SharedRows

FEW = 100_000  # numbers whose sums travel in double precision
MOST = 2  # under way


class Message:
    """Sums that are under way.

    Args:
        mail: that carries it.
        sums: of this process.
    """

    def __init__(self, mail: "Mail", sums: Sequence[Tensor]) -> None:
        self.mail = mail
        self.shapes = [(x.shape, x.dtype) for x in sums]
        few = sum(x.numel() for x in sums) <= FEW
        kind = torch.float64 if few else max((x.dtype for x in sums), key=_precision)
        self.flat = torch.cat([x.detach().reshape(-1).to(kind) for x in sums])

    def totals(self) -> tuple[Tensor, ...]:
        """Wait for the sums over the data of all processes.

        Raises:
            RuntimeError: another process has ended.
        """
        self.mail.end(self)
        parts = self.flat.split([shape.numel() for shape, _ in self.shapes])
        pairs = zip(parts, self.shapes, strict=True)
        return tuple(part.view(shape).to(dtype) for part, (shape, dtype) in pairs)


def _precision(kind: torch.dtype) -> int:
    """Bytes of a number that is no whole one; whole ones are counts, which floats hold as well."""
    return kind.itemsize if kind.is_floating_point else 0


class Mail:
    """What carries messages: torch, or memory that all processes share.

    Args:
        rows: that memory.
    """

    def __init__(self, rows: SharedRows | None = None) -> None:
        self.rows = rows
        self.under_way: deque[tuple[Message, Callable[[], object]]] = deque()

    def begin(self, sums: Sequence[Tensor]) -> Message:
        """Send sums of this process's own data; few numbers travel in double precision."""
        message = Message(self, sums)
        while len(self.under_way) >= MOST:
            self._end_first()
        self.under_way.append((message, self._sent(message.flat)))
        return message

    def end(self, message: Message) -> None:
        """Wait for a message, and for those that began before it."""
        while any(other is message for other, _ in self.under_way):
            self._end_first()

    def close(self) -> None:
        """Let the others know that nothing more will come."""
        if self.rows is not None:
            self.rows.close()

    def _end_first(self) -> None:
        _, arrive = self.under_way.popleft()
        arrive()

    def _sent(self, flat: Tensor) -> Callable[[], object]:
        """Send numbers `(N,)`; what is returned waits for the sums, which take their place."""
        if self.rows is None:
            work = torch.distributed.all_reduce(flat, async_op=True)
            return lambda: work.wait()
        if flat.nbytes > CAPACITY:
            return self._sent_in_pieces(flat)
        return _adding_up(self.rows, flat)

    def _sent_in_pieces(self, flat: Tensor) -> Callable[[], object]:
        """Send what is longer than a row, one piece after the other."""
        assert self.rows is not None
        while self.under_way:
            self._end_first()
        for piece in flat.split(CAPACITY // flat.element_size()):
            _adding_up(self.rows, piece)()
        return lambda: None


def _adding_up(rows: SharedRows, flat: Tensor) -> Callable[[], object]:
    """Hand numbers in; what is returned adds up those of all processes, in the same order everywhere."""
    handed_in = rows.hand_in(flat)

    def add_up() -> None:
        rows.wait()
        torch.sum(handed_in, 0, out=flat)

    return add_up
