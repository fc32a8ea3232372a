"""Sums through shared memory: what a plain sum over the processes gives, the same everywhere, with nothing left behind.

Oracle: whole numbers, whose sums are exact in any order. Threads stand for processes.
"""

import gc
import queue
import random
import threading
import time

import pytest
import torch

from aif_dcpc.image_runs import shared_memory
from aif_dcpc.image_runs.messages import FEW, Mail
from aif_dcpc.image_runs.shared_memory import CAPACITY, share_rows

SIZE = 3
LENGTHS = (1, 7, CAPACITY // 4 + 3, FEW, 2, CAPACITY // 2 + 1, FEW + 1, 5, 3, 9)


def together(act):
    """Let each of three threads meet the others and act; return what each found, or raised."""
    letters = [queue.Queue() for _ in range(SIZE)]
    found = [None] * SIZE

    def tell(rank):
        def told(value):
            for letter in letters[1:] if rank == 0 else ():
                letter.put(value)
            return value if rank == 0 else letters[rank].get(timeout=60)

        return told

    def live(rank):
        rows = share_rows(rank, SIZE, tell(rank))
        mail = Mail(rows)
        try:
            found[rank] = act(rank, mail)
        except BaseException as error:
            found[rank] = error
        finally:
            mail.close()

    threads = [threading.Thread(target=live, args=(rank,), daemon=True) for rank in range(SIZE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert not any(thread.is_alive() for thread in threads)
    return found


def numbers(rank, kind):
    """Whole numbers of one process, one tensor for each message."""
    generator = torch.Generator().manual_seed(rank)
    return [
        torch.randint(-1000, 1000, (length,), generator=generator).to(kind) for length in LENGTHS
    ]


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_sums_are_those_of_all_processes_however_many_are_under_way(kind, ahead):
    """Each process takes them out in an order of its own, and waits at moments of its own."""

    def act(rank, mail):
        draw = random.Random(rank)
        totals = {}
        begun = {}
        for place, flat in enumerate(numbers(rank, kind)):
            begun[place] = mail.begin([flat, flat[:1]])
            time.sleep(draw.choice([0, 0, 0.002]))
            while len(begun) >= ahead:
                chosen = draw.choice(list(begun))
                totals[chosen] = begun.pop(chosen).totals()
        return totals | {place: message.totals() for place, message in begun.items()}

    for totals in together(act):
        assert not isinstance(totals, BaseException), totals
        for place, (whole, first) in totals.items():
            right = sum(numbers(rank, kind)[place] for rank in range(SIZE))
            assert whole.dtype == kind and torch.equal(whole, right)
            assert torch.equal(first, right[:1])
        assert len(totals) == len(LENGTHS)


def test_rounding_is_the_same_in_all_processes():
    def act(rank, mail):
        flat = torch.randn(FEW + 1, generator=torch.Generator().manual_seed(rank))
        return mail.begin([flat]).totals()[0]

    first, *others = together(act)
    assert all(torch.equal(first, other) for other in others)


def test_who_waits_for_one_that_has_ended_is_told():
    def act(rank, mail):
        mail.begin([torch.ones(3)]).totals()
        if rank != 1:
            mail.begin([torch.ones(3)]).totals()

    found = together(act)
    assert found[1] is None
    for rank in (0, 2):
        assert isinstance(found[rank], RuntimeError) and "has ended" in str(found[rank])


def test_nothing_is_left_and_where_there_is_no_room_nobody_shares(monkeypatch, tmp_path):
    monkeypatch.setattr(shared_memory.tempfile, "tempdir", str(tmp_path))
    together(lambda rank, mail: None)
    gc.collect()
    assert not list(tmp_path.iterdir())

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(shared_memory.os, "posix_fallocate", full)
    assert together(lambda rank, mail: mail.rows) == [None] * SIZE
