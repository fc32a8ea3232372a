"""Recorded sweeps of moves written by hand: what a replay gives elsewhere, and what is refused."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from own_moves import Own, assert_alike, cloud, read, seeded, walk

from aif_dcpc.inference.model.parts import Parts
from aif_dcpc.inference.model.recording import CannotRecord
from aif_dcpc.inference.moves import SiteMove
from aif_dcpc.inference.recorded_sweeps import _sources, record_sweep, traced
from aif_dcpc.inference.sweeping import make_moves

# -- what is recorded ------------------------------------------------------------------------------


def replay_of(moves, *, at, seed=9):
    """A replay at another cloud with other noise than it was recorded with, and the sweep there."""
    recording, _, _ = record_sweep(moves, cloud(), seeded(1), adapt=False)
    parts = Parts.of(at)
    outputs = recording.graph(*recording.arguments(parts, seeded(seed)))
    found, _, rates = recording.result(at, parts, outputs)
    return recording, (found, rates), make_moves(moves, at, seeded(seed), adapt=False)


def test_a_replay_at_another_cloud_with_other_noise():
    moves = (Own("z", walk), Own("x", lambda state, generator: 2 * state.values["x"]))
    recording, found, expected = replay_of(moves, at=cloud(seed=3).replace(sweeps=4))
    assert_alike(found, expected)
    assert len(recording.draws) == 2 and recording.sites == ("z", "x")


def test_what_moves_hold_is_followed_and_what_they_write_down_is_kept():
    shift = torch.tensor([1.0, 2.0])
    scale = torch.tensor([3.0, 7.0])

    def change(state, generator):
        z = state.values["z"] * torch.tensor(0.5) + shift
        return z / scale + torch.randn(z.shape, generator=generator)

    moves = (Own("z", change),)
    recording, _, _ = record_sweep(moves, cloud(), seeded(1), adapt=False)
    assert {id(x) for x in recording.held} == {id(shift), id(scale)}
    shift.mul_(5)
    scale.add_(1)
    state = cloud(seed=2)
    parts = Parts.of(state)
    outputs = recording.graph(*recording.arguments(parts, seeded(9)))
    found, _, rates = recording.result(state, parts, outputs)
    assert_alike((found, rates), make_moves(moves, state, seeded(9), adapt=False))


@dataclass(frozen=True)
class Learned:
    """What a move has learned: a tensor, and how often."""

    size: torch.Tensor
    updates: dict[str, Any]


@dataclass(frozen=True)
class Learns(SiteMove):
    """A move that learns twice a sweep, and moves by what it has learned."""

    def __call__(self, state, generator, *, adapt):
        known = state.adaptation.get("z", Learned(torch.ones(()), {}))
        count = known.updates.get("z", 0) + 2
        learned = Learned(known.size + 1 / count, {"z": count})
        values = {**state.values, "z": state.values["z"] * learned.size}
        moved = state.replace(values=values, adaptation={"z": learned})
        return moved, learned.size.mean()


@pytest.mark.parametrize("before", [0, 3])
def test_what_a_move_has_learned_and_how_often_in_a_recording_and_its_replay(before):
    moves = (Learns("z"),)
    state = cloud()
    for _ in range(before):
        state, _ = make_moves(moves, state, None, adapt=True)
    expected, wanted = make_moves(moves, state, None, adapt=True)
    recording, made, rates = record_sweep(moves, state, None, adapt=True)
    parts = Parts.of(state)
    replayed = recording.result(state, parts, recording.graph(*recording.arguments(parts, None)))
    for found in ((made, rates), (replayed[0], replayed[2])):
        torch.testing.assert_close(found[0].values["z"], expected.values["z"])
        torch.testing.assert_close(found[0].adaptation["z"].size, expected.adaptation["z"].size)
        torch.testing.assert_close(found[1], wanted)
        assert found[0].adaptation["z"].updates == {"z": 2 * (before + 1)}
        assert found[0].sweeps == before + 1
    assert replayed[1].counts == Parts.of(expected).counts
    assert replayed[1].rest == Parts.of(expected).rest


def test_where_tensors_come_from():
    """The second was there before, at place 4; the others are the two that are new."""
    leaves = tuple(torch.zeros(1) for _ in range(3))
    sources, changed = _sources(leaves, {id(leaves[1]): 4, 1: 0})
    assert sources == (-1, 4, -2)
    assert [id(x) for x in changed] == [id(leaves[0]), id(leaves[2])]


# -- what is refused -------------------------------------------------------------------------------


def written(state, generator):
    return state.values["z"].add_(1.0) * 2


def listed(state, generator):
    return state.values["z"] + sum(state.values["x"].flatten().tolist())


def of_a_law(state, generator):
    return torch.normal(state.values["z"], generator=generator)


def by_itself(state, generator):
    return state.values["z"] + torch.randn(3, 2)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (read, "reads numbers"),
        (written, "writes into the cloud"),
        (listed, r"reads numbers \(tolist\)"),
        (of_a_law, r"law of a draw \(normal\) depends on values"),
        (by_itself, "not from the generator"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_what_cannot_be_recorded_is_said(change, why):
    state = cloud()
    with pytest.raises(CannotRecord, match=why):
        record_sweep((Own("z", change),), state, seeded(), adapt=False)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("out of a tracing tensor", CannotRecord),
        ("a data-dependent shape", CannotRecord),
        ("out of memory", RuntimeError),
    ],
)
def test_failures_of_tracing_are_told_from_others(message, kind):
    def fails(x):
        raise RuntimeError(message)

    with pytest.raises(kind):  # neither of the two is a kind of the other
        traced(fails, [torch.ones(2)])
