"""Sums through shared memory: what a plain sum over the processes gives, the same everywhere, with nothing left behind.

Oracle: whole numbers, whose sums are exact in any order. Threads stand for processes.
"""

import gc
import queue
import threading

import pytest
import torch

from aif_dcpc.image_runs import shared_memory
from aif_dcpc.image_runs.shared_memory import CAPACITY, share_rows

SIZE = 3
LENGTHS = (1, 7, CAPACITY // 4 + 3, 2, CAPACITY // 2 + 1, 5)


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
        try:
            found[rank] = act(rank, rows)
        except BaseException as error:
            found[rank] = error
        finally:
            if rows is not None:
                rows.close()

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
def test_sums_are_those_of_all_processes(kind):
    def act(rank, rows):
        given = numbers(rank, kind)
        for flat in given:
            rows.add_up(flat)
        return given

    for given in together(act):
        assert not isinstance(given, BaseException), given
        for place, flat in enumerate(given):
            assert torch.equal(flat, sum(numbers(rank, kind)[place] for rank in range(SIZE)))


def test_rounding_is_the_same_in_all_processes():
    def act(rank, rows):
        flat = torch.randn(1000, generator=torch.Generator().manual_seed(rank))
        rows.add_up(flat)
        return flat

    first, *others = together(act)
    assert all(torch.equal(first, other) for other in others)


def test_who_waits_for_one_that_has_ended_is_told():
    def act(rank, rows):
        flat = torch.ones(3)
        rows.add_up(flat)
        if rank != 1:
            rows.add_up(flat)

    found = together(act)
    assert found[1] is None
    for rank in (0, 2):
        assert isinstance(found[rank], RuntimeError) and "has ended" in str(found[rank])


def test_nothing_is_left_and_where_there_is_no_room_nobody_shares(monkeypatch, tmp_path):
    monkeypatch.setattr(shared_memory.tempfile, "tempdir", str(tmp_path))
    together(lambda rank, rows: None)
    gc.collect()
    assert not list(tmp_path.iterdir())

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(shared_memory.os, "posix_fallocate", full)
    assert together(lambda rank, rows: rows) == [None] * SIZE
