"""Moves of events and arrivals keep the exact posterior of a small world, enumerated."""

import itertools
import math

import numpy as np
import pytest
import torch
from small_grid import (
    NUM_EVENTS,
    RECORDS,
    exact_events,
    log_joint,
    log_outcomes,
    log_transitions,
    sightings,
    small_world,
)

from aif_dcpc.agents.gridworld.model import exchange, graph
from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.engine_values import data_of, values_of
from aif_dcpc.agents.gridworld.model.exchange import (
    exchange_events,
    flipped,
    relabelled,
    remade,
    swapped,
)
from aif_dcpc.agents.gridworld.model.graph import GridModel
from aif_dcpc.agents.gridworld.model.paths import History
from aif_dcpc.agents.gridworld.model.single_events import (
    retried,
)
from aif_dcpc.agents.gridworld.model.slice_proposal import prior_particles, propose, redraw_last


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(found: torch.Tensor, expected: torch.Tensor, number: int) -> bool:
    """Within five standard errors: a false alarm in a million."""
    error = 5 * (expected * (1 - expected) / number).clamp_min(0).sqrt() + 1e-6
    return bool(((found - expected).abs() <= error).all())


# -- what is kept: the exact posterior of a small world --------------------------------------------


def exact_particles(history: History, number: int, grid: GridConditionals) -> GridParticles:
    """Draws of events and map from their enumerated joint posterior; tables and rates given them."""
    turns = [(int(b) - int(a)) % 4 for a, b in itertools.pairwise(history.heading)]
    allowed = [
        [e for e in range(NUM_EVENTS) if (e if 1 <= e <= 3 else 0) == turn] for turn in turns
    ]
    every = []
    weights = []
    for events in itertools.product(*allowed):
        cells = sorted({cell for here in sightings(events, history) for cell, _, _ in here})
        for tokens in itertools.product(range(2), repeat=len(cells)):
            value = log_joint(events, dict(zip(cells, tokens, strict=True)), history)
            if value > -1e300:
                every.append((events, dict(zip(cells, tokens, strict=True))))
                weights.append(math.exp(value))
    picked = np.random.default_rng(0).choice(len(every), number, p=np.array(weights) / sum(weights))
    many = torch.tensor([(0, *every[p][0]) for p in picked])
    initial = torch.zeros(number, 9, dtype=torch.long)
    for n, p in enumerate(picked):
        for (y, x), token in every[p][1].items():
            initial[n, (y - 1) % 3 * 3 + (x - 1) % 3] = token
    tables = grid.draw_all_tables(many, initial, history, generator(2))
    return GridParticles(many, initial, tables)


RECORD = RECORDS["opened or moved"].head(3)
NUMBER = 400


@pytest.fixture(scope="module")
def posterior() -> tuple[list[torch.Tensor], GridParticles]:
    return exact_events(RECORD), exact_particles(RECORD, NUMBER, small_world())


def assert_kept(particles: GridParticles, exact: list[torch.Tensor]) -> None:
    """Every event probability within five standard errors of half as many independent draws."""
    for t, expected in enumerate(exact, 1):
        share = torch.bincount(particles.events[:, t], minlength=NUM_EVENTS) / len(particles.events)
        assert close(share, expected.float(), len(particles.events) // 2), (t, share, expected)


@pytest.mark.parametrize("move", [retried, flipped, swapped, relabelled, remade])
def test_each_move_keeps_the_exact_posterior(move: object, posterior, monkeypatch) -> None:
    exact, particles = posterior
    grid = small_world()
    monkeypatch.setattr(exchange, "PROPOSALS", (move,))
    moved = exchange_events(grid, particles, RECORD, generator(4))
    assert_kept(moved, exact)
    changed = (moved.events != particles.events).any(1)
    assert 0 < float(changed.float().mean()) < 1
    tables = (moved.tables.transition != particles.tables.transition).flatten(1).any(1)
    assert torch.equal(tables, changed)  # drawn anew where a move was accepted
    assert torch.equal(moved.tables.misread, particles.tables.misread)


def test_a_redrawn_event_keeps_the_exact_posterior(posterior) -> None:
    exact, particles = posterior
    some = particles.picked(torch.arange(150))
    last = redraw_last(small_world(), some, RECORD, generator(6))
    assert_kept(last, exact)
    assert torch.equal(last.events[:, :-1], some.events[:, :-1])
    assert 0.2 < float((last.events != some.events).any(1).float().mean()) < 1


@pytest.mark.parametrize(("apart", "times"), [(0, 1), (1, 1), (2, 16)])
def test_events_are_moved_oftener_where_particles_are_apart(
    posterior, monkeypatch, apart, times
) -> None:
    """One of ten in another place is not many; two are."""
    model = GridModel(small_world())
    some = posterior[1].picked(torch.zeros(10, dtype=torch.long))
    some.events[:, 1:] = 0
    some.events[:apart, 1] = 4
    values = {name: value[None] for name, value in data_of(RECORD).items()}
    calls = []
    monkeypatch.setattr(graph, "exchange_events", lambda *given: calls.append(given) or given[1])
    model.draw_history({**values, **values_of(some)}, generator(5))
    assert len(calls) == times


def test_what_an_exchange_gains_is_the_ratio_of_evidences(posterior) -> None:
    """Given the maps: views by what cells could have been, events and outcomes with tables integrated out."""
    grid = small_world()
    particles = posterior[1].picked(torch.arange(12))
    trial = particles.events.clone()
    trial[:, 2] = torch.tensor(2 * [0, 4, 5, 6, 7, 0])
    misread = particles.tables.misread
    before = particles.events, particles.initial, misread
    gain, initial = exchange._gain(grid, *before, trial, RECORD, generator(7))
    for n in range(12):
        total = 0.0
        for sign, events, cells in ((1, trial, initial), (-1, particles.events, particles.initial)):
            views = grid.log_views(events[n : n + 1], cells[n : n + 1], RECORD, misread[n : n + 1])
            moves, fates = steps_of(grid, events[n : n + 1], cells[n : n + 1])
            total += sign * (float(views) + log_transitions(moves) + log_outcomes(fates))
        if math.isfinite(total):
            assert float(gain[n]) == pytest.approx(total, abs=2e-2)


def steps_of(
    grid: GridConditionals, events: torch.Tensor, initial: torch.Tensor
) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """(action, token ahead, event) and (row, token ahead, outcome) of every step of one sequence."""
    _, segments, _ = grid.trace(events, RECORD)
    ahead = segments.initial_tokens(initial).gather(1, segments.cell_ahead)[0].tolist()
    moves = []
    fates = []
    for t in range(1, len(RECORD)):
        event, action = int(events[0, t]), int(RECORD.action[t])
        moves.append((action, ahead[t - 1], event))
        fates.append((2 + event if event else action, ahead[t - 1], int(RECORD.outcome[t])))
    return moves, fates


def test_arrivals_have_the_exact_posterior() -> None:
    """Weighted; within five standard errors of as many draws as the weights are worth."""
    history = RECORDS["two cells ahead"].head(2)
    number = 150
    particles, log_weights = prior_particles(small_world(2), history.head(1), number, generator(1))
    particles, gain = propose(small_world(2), particles, history, generator(2))
    weights = (log_weights + gain).softmax(0)
    worth = int(1 / weights.square().sum())
    assert worth > number / 3
    share = torch.zeros(NUM_EVENTS).index_add(0, particles.events[:, 1], weights)
    assert close(share, exact_events(history)[0].float(), worth // 2)
    evidence = float((log_weights + gain).exp().mean())
    assert evidence == pytest.approx(
        evidence_of(history),
        rel=5 * float((log_weights + gain).exp().std()) / number**0.5 / evidence,
    )


def evidence_of(history: History) -> float:
    """p(observations) by enumeration."""
    total = 0.0
    for event in (e for e in range(NUM_EVENTS) if not 1 <= e <= 3):
        cells = sorted({cell for here in sightings((event,), history) for cell, _, _ in here})
        for tokens in itertools.product(range(2), repeat=len(cells)):
            value = log_joint((event,), dict(zip(cells, tokens, strict=True)), history)
            total += math.exp(value) if value > -1e300 else 0.0
    return total
