"""What single events and hands of the grid world count for, against their definition."""

from dataclasses import replace
from math import log

import pytest
import torch
from small_grid import ACTIONS, ALPHABET, RECORDS, VOCABULARY, log_transitions, small_world

from aif_dcpc.agents.gridworld.model import memory as memory_module
from aif_dcpc.agents.gridworld.model.conditionals import HAND_ERROR
from aif_dcpc.agents.gridworld.model.counts import Counts, no_counts
from aif_dcpc.agents.gridworld.model.paths import effects_of
from aif_dcpc.agents.gridworld.model.segments import misread_log_odds
from aif_dcpc.agents.gridworld.model.vocabulary import Slots
from aif_dcpc.agents.gridworld.tables.posterior import evidence_gain


@pytest.mark.parametrize("changes", [0, 1, 3])
def test_a_hand_that_nothing_was_taken_into_is_a_rare_error_of_the_senses(changes: int) -> None:
    """Each step at which the hand changes as no event says costs log HAND_ERROR, and no more."""
    vocabulary = replace(VOCABULARY, hands=Slots(2, [0, 1]), grips=Slots(2))
    small = small_world()
    grid = replace(small, effects=effects_of(small.geometry, vocabulary))
    record = RECORDS["opened or moved"]
    nothing_happens = torch.zeros(1, len(record), dtype=torch.long)
    hands = [0, 0, 0, 0] if not changes else [0, 1, 1, 1] if changes == 1 else [0, 1, 0, 1]
    seen = replace(record, hand=torch.tensor(hands))
    cost = grid.log_bodily(nothing_happens, seen) - grid.log_bodily(nothing_happens, record)
    assert cost.item() == pytest.approx(changes * log(HAND_ERROR), rel=1e-5)
    assert 0 < HAND_ERROR < 1e-3


def test_tables_survive_the_edges_of_random_numbers(monkeypatch):
    grid = small_world()
    counts = Counts(*(value[None] for value in vars(no_counts(ACTIONS, VOCABULARY)).values()))
    monkeypatch.setattr(
        memory_module, "dirichlet", lambda concentration, _: torch.eye(concentration.shape[-1])[-1:]
    )
    tables = grid.memory.draw(counts, torch.Generator().manual_seed(0))
    assert torch.isfinite(
        misread_log_odds(tables.misread, ALPHABET)
    ).all()  # drawn as 0, kept away from it
    same = counts.transition
    # nothing to compare
    assert torch.equal(evidence_gain(grid.memory.events, same, same), torch.zeros(1))


@pytest.mark.parametrize(
    "steps",
    [[(1, 8)], [(1, 8), (1, 8)], [(1, 8), (1, 0)], [(0, 4), (1, 8)], [(0, 0), (0, 4), (1, 4)]],
)
def test_the_evidence_of_events_is_that_of_the_definition(steps: list[tuple[int, int]]) -> None:
    """Steps are (token ahead, event); under "nothing matters" the effect, event 8, cannot be."""
    grid = small_world()
    table = grid.memory.events
    counts = torch.zeros(1, *grid.past.transition.shape[1:])
    for token, event in steps:
        counts[0, token, 0, event] += 1
    action = torch.tensor([1])
    found = table.log_evidence(counts, action) - table.log_evidence(0 * counts, action)
    assert abs(float(found) - log_transitions([(1, *step) for step in steps])) < 1e-3


def test_an_event_that_cannot_be_is_hardly_believed_however_sure_actions_are() -> None:
    """The effect needs a wall; its evidence before a floor was that of a rare event where rows are deterministic."""
    table = small_world().memory.events
    counts = torch.zeros(1, *small_world().past.transition.shape[1:])
    counts[0, 0, 0, 8] = 1
    action = torch.tensor([1])
    found = table.log_evidence(counts, action) - table.log_evidence(0 * counts, action)
    assert float(found) < -11
