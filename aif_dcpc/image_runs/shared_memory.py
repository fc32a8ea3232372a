"""Sums over the processes of one machine, through memory that they share.

A message through sockets costs more than the sum that it is for: it is copied into the kernel and out again, by
threads that take the processor from those that compute. Here every process writes into a row of its own, tells the
others by one byte through a socket, waits for theirs, and adds all rows in the same order. Nothing of it has a name
once all have met, so that nothing is left of processes that are killed; of one that ends the others hear at once.
"""

import mmap
import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CAPACITY = 2**22  # bytes of a row
TURNS = 4
ENDED = "another process of this run has ended"


class SharedRows:
    """A row of each process, four times: while sums are under way in two of them the next are written.

    Who writes into a row for the next time has ended all sums but the last two, to which everyone came who had ended
    all but the two before: nobody still reads that row.

    Args:
        rank: of this process.
        memory: that all share.
        peers: sockets to the other processes.
    """

    def __init__(self, rank: int, memory: mmap.mmap, peers: list[socket.socket]) -> None:
        self.rank = rank
        self.peers = peers
        whole = torch.frombuffer(memory, dtype=torch.uint8)
        self.rows = whole.view(TURNS, len(peers) + 1, CAPACITY)
        self.turn = 0

    def hand_in(self, flat: Tensor) -> Tensor:
        """Write numbers `(N,)` for all to see, and return the rows of everyone, which are not yet there.

        Raises:
            RuntimeError: another process has ended.
        """
        rows = self.rows[self.turn].view(flat.dtype)[:, : len(flat)]
        self.turn = (self.turn + 1) % TURNS
        rows[self.rank] = flat
        self._tell()
        return rows

    def wait(self) -> None:
        """Wait until everyone has handed in once more.

        Raises:
            RuntimeError: another process has ended.
        """
        try:
            if all(peer.recv(1) for peer in self.peers):
                return
        except OSError:
            pass
        raise RuntimeError(ENDED)

    def _tell(self) -> None:
        try:
            for peer in self.peers:
                peer.sendall(b".")
        except OSError:
            raise RuntimeError(ENDED) from None

    def close(self) -> None:
        """Let the others know that this process comes no more."""
        for peer in self.peers:
            peer.close()


def share_rows(rank: int, size: int, tell: Callable[[Any], Any]) -> SharedRows | None:
    """Meet the other processes of this machine; None where it has no room or no such memory.

    Args:
        rank: of this process.
        size: how many there are.
        tell: returns everywhere what the first process gives.
    """
    if not hasattr(os, "memfd_create"):
        return None
    if rank == 0:
        return _handed_out(size, tell)
    address = tell(None)
    return None if address is None else _taken(rank, size, address)


def _handed_out(size: int, tell: Callable[[Any], Any]) -> SharedRows | None:
    """Make the memory and a socket for each pair of processes, and give the others theirs."""
    with ExitStack() as stack:
        try:
            memory = os.memfd_create("aif_dcpc")
            stack.callback(os.close, memory)
            os.posix_fallocate(memory, 0, TURNS * size * CAPACITY)
            place = stack.enter_context(tempfile.TemporaryDirectory())
            address = str(Path(place) / "meet")
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(address)
            listener.listen(size)
        except OSError:
            tell(None)
            return None
        tell(address)
        ends = _pairs(size)
        for _ in range(1, size):
            _give(listener, memory, ends)
        return SharedRows(0, mmap.mmap(memory, TURNS * size * CAPACITY), ends[0])


def _pairs(size: int) -> list[list[socket.socket]]:
    """Connect each process to all others; its ends in the order of their ranks."""
    ends: list[list[socket.socket]] = [[] for _ in range(size)]
    for one in range(size):
        for other in range(one):
            for process, end in zip((one, other), socket.socketpair(), strict=True):
                ends[process].append(end)
    return ends


def _give(listener: socket.socket, memory: int, ends: list[list[socket.socket]]) -> None:
    """Give the next process that comes what is its own, and keep nothing of it."""
    follower, _ = listener.accept()
    with follower:
        own = ends[int.from_bytes(follower.recv(4))]
        socket.send_fds(follower, [b"."], [memory, *(end.fileno() for end in own)])
    for end in own:
        end.close()


def _taken(rank: int, size: int, address: str) -> SharedRows:
    """Take what the first process gives."""
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(address)
        first.sendall(rank.to_bytes(4))
        _, (memory, *ends), _, _ = socket.recv_fds(first, 1, size)
    mapped = mmap.mmap(memory, TURNS * size * CAPACITY)
    os.close(memory)
    return SharedRows(rank, mapped, [socket.socket(fileno=end) for end in ends])
