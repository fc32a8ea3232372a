"""Rows that slip: what their slots hold and give, against all ways to fill them."""

import itertools

import numba
import numpy as np
import pytest
import torch
from rings import certain, tables_of_slips
from scipy.special import xlogy

from aif_dcpc.agents.discrete.loops import count_slips
from aif_dcpc.agents.discrete.transitions import Transitions
from aif_dcpc.agents.discrete.world import CONCENTRATIONS, CollapsedRows, Rows, World


@pytest.mark.parametrize("shown", [[], [0], [0, 0, 1], [2, 0, 1], [0, 0, 0, 2]])
def test_rows_that_slip_are_known_by_what_their_slots_may_hold(shown):
    """All fillings of three slots by five effects, of which two were never seen anywhere."""
    transitions = Transitions(5, 1)
    for effect in (0, 1, 2):
        transitions.add(4, 0, 4 + effect - 5 * (effect > 0))
    for effect in shown:
        transitions.add(1, 0, 1 + effect)
    usual = np.array([[0.5, 0.2, 0.1, 0.2]])
    spread = np.array([0.5, 0.2, 0.1, 0.1, 0.1])
    kinds = np.array([0.0, 0.2, 0.0, 0.8])
    slips = np.array([0.6, 0.3, 0.1])
    found = certain(transitions, kinds, 6, usual, slips)
    as_usual = 0.2 * np.prod(spread[shown])
    weights = [as_usual]
    tables = [spread]
    for weight, table in tables_of_slips(spread, slips):
        weights.append(0.8 * weight * np.prod(table[shown]))
        tables.append(table)
    weights = np.array(weights) / np.sum(weights)
    chance = weights @ np.array(tables)
    assert found.chances[1] == pytest.approx(np.append(chance[:3], chance[3:].sum()))
    known = weights @ [xlogy(table, table).sum() for table in tables]
    assert found.novelty[1] == pytest.approx(known - xlogy(chance, chance).sum())


def test_how_rows_slip_is_drawn_from_its_posterior():
    """Three rows that show two or three effects, by importance draws from the prior; 5 standard errors of 4 numbers."""
    transitions = Transitions(3, 1)
    for state, effects in enumerate([[0, 0, 0, 1], [1, 1, 2, 1], [2, 0, 2, 2, 2, 1]]):
        for effect in effects:
            transitions.add(state, 0, (state + effect) % 3)
    rows = Rows.of(transitions)
    world = World(transitions, num_particles=1000)
    generator = torch.Generator().manual_seed(0)
    number = 400_000
    prior = torch.from_numpy(world.prior_of_effects).expand(number, 1, -1)
    kinds = torch._sample_dirichlet(torch.ones(number, 4).double(), generator=generator)
    slips = torch._sample_dirichlet(torch.ones(number, 3).double(), generator=generator)
    effects = torch._sample_dirichlet(prior.contiguous(), generator=generator)
    index = torch.randint(len(CONCENTRATIONS), (number,), generator=generator)
    grid = torch.from_numpy(CONCENTRATIONS)
    law = CollapsedRows(kinds, grid[index], effects, slips, torch.from_numpy(rows.action))
    weights = law.log_prob(rows.dense(3)).softmax(0).numpy()
    world.infer(generator, 20)

    def numbers(kinds, slips):
        ordered = np.sort(slips, 1)
        return np.column_stack([ordered[:, 2], ordered[:, 0], (slips**2).sum(1), kinds[:, 3]])

    drawn = numbers(world.kinds, world.slips)
    known = numbers(kinds.numpy(), slips.numpy())
    exact = weights @ known
    error = np.sqrt(weights**2 @ (known - exact) ** 2 + drawn.var(0) / len(drawn))
    assert (error < 0.02).all()
    assert (np.abs(drawn.mean(0) - exact) < 5 * error).all()


@numba.njit  # not kept on disk, where it would not follow changes of what it calls
def many_counts(seed, number, tables, used, kinds, slips, effects, action, seen, counts, distinct):
    """Draw so many times, from a seed."""
    np.random.seed(seed)
    for n in range(number):
        count_slips(tables[n], used[n], kinds, slips, effects, action, seen, counts, distinct)


def given_by_slots(counts, usual, slips):
    """Expected numbers that slots gave `(3,)` and effects that they hold `(E,)`, of all fillings."""
    total = 0.0
    given = np.zeros(3)
    held = np.zeros(len(usual))
    for filling in itertools.product(range(len(usual)), repeat=3):
        table = np.zeros(len(usual))
        np.add.at(table, list(filling), slips)
        weight = np.prod(usual[list(filling)]) * np.prod(table[: len(counts)] ** counts)
        total += weight
        for slot, effect in enumerate(filling):
            held[effect] += weight
            if effect < len(counts) and counts[effect]:
                given[slot] += weight * counts[effect] * slips[slot] / table[effect]
    return given / total, held / total


@pytest.mark.parametrize("shown", [[3], [2, 1], [1, 4, 2]])
def test_what_slots_gave_is_counted_in_each(shown):
    """Means of 20,000 draws for a row that slips, 5 standard errors of 7 numbers; a second row does not."""
    counts = np.array(shown, float)
    usual = np.array([0.4, 0.3, 0.1, 0.2])
    slips = np.array([0.55, 0.3, 0.15])
    number = 20_000
    tables = np.zeros((number, 1, 4))
    used = np.zeros((number, 3))
    width = len(counts)
    rows = (
        np.zeros(2, np.int64),
        np.tile(np.arange(width), (2, 1)),
        np.tile(counts, (2, 1)),
        np.full(2, width),
    )
    many_counts(0, number, tables, used, np.array([3, 2]), slips, usual[None], *rows)
    assert (used.sum(1) == counts.sum()).all() and (tables.sum((1, 2)) == 3).all()
    for found, exact in zip(
        (used, tables[:, 0]), given_by_slots(counts, usual, slips), strict=True
    ):
        error = found.std(0) / np.sqrt(number) + 1e-9
        assert (np.abs(found.mean(0) - exact) < 5 * error).all()
