"""Tables drawn from the posterior: their law, how long they are held, and what is stored of them."""

import itertools

import numpy as np
import pytest
import torch
from rings import Ring, agent_of_ring, lived, walk
from scipy.special import xlogy

from aif_dcpc.agent_runs.worlds import stacked
from aif_dcpc.agents.discrete.drawn_tables import DrawnTables, draw_tables
from aif_dcpc.agents.discrete.prediction import Prediction
from aif_dcpc.agents.discrete.transitions import Transitions
from aif_dcpc.agents.discrete.world import World


def test_drawn_tables_follow_the_posterior():
    """Means of 4,000 draws of each visited row are what is predicted; 5 standard errors of 24 numbers."""
    transitions = Transitions(6, 1)
    for state, effects in enumerate([[0, 0, 1], [2, 2], [0, 1, 2, 0, 0, 1]]):
        for effect in effects:
            transitions.add(state, 0, state + effect)
    world = World(transitions, num_particles=1)
    world.kinds = np.array([[0.3, 0.2, 0.2, 0.3]])
    world.slips = np.array([[0.6, 0.3, 0.1]])
    world.concentration = np.array([6])
    world.effects = np.array([[[0.5, 0.2, 0.1, 0.2]]])
    prediction = Prediction(transitions, world)
    drawn = DrawnTables(prediction, hold=10, trust=1.0)
    generator = torch.Generator().manual_seed(0)
    rows = transitions.visited
    tables = np.zeros((4000, *prediction.chances.shape))
    for number in range(len(tables)):
        drawn.forget()
        tables[number] = drawn.current(generator)
    assert tables.sum(-1) == pytest.approx(1.0)
    untried = np.setdiff1d(np.arange(6), rows)
    assert np.array_equal(tables[0, untried], prediction.chances[untried])
    error = tables[:, rows].std(0) / np.sqrt(len(tables)) + 1e-9
    assert (np.abs(tables[:, rows].mean(0) - prediction.chances[rows]) < 5 * error).all()
    entropies = -xlogy(tables[:, rows], tables[:, rows]).sum(-1)
    last = tables[:, rows, -1] * np.log(3)  # the last effect stands for three that were never seen
    least = prediction.chances[rows, -1]
    spread = -xlogy(prediction.chances[rows], prediction.chances[rows]).sum(-1) + least * np.log(3)
    known = spread - prediction.novelty[rows]
    assert (np.abs((entropies + last).mean(0) - known) < 0.1).all()


def test_each_kind_of_row_is_drawn_in_its_own_way():
    """Fixed: what it did. Usual: what its action does. Slipping: sums of its three slots. Else: none of these."""
    usual = np.array([[0.5, 0.2, 0.1, 0.2]])
    slips = np.array([0.61, 0.27, 0.12])
    sums = [sum(np.compress(held, slips)) for held in itertools.product([0, 1], repeat=3)]
    told = np.array([[1, 2, 0]]), np.array([[5.0, 3.0, 0.0]])

    def drawn(kind, distinct):
        chances = np.zeros((1, 4))
        arguments = np.array([0]), chances, np.eye(4)[kind], 2.0, usual, slips
        draw_tables(7, *arguments, *told, np.array([distinct]), 1.0)
        return chances[0]

    assert drawn(0, 1).tolist() == [0, 1, 0, 0]
    assert drawn(1, 2).tolist() == usual[0].tolist()
    own, slipping = drawn(2, 2), drawn(3, 2)
    for table in (own, slipping):
        assert table.sum() == pytest.approx(1) and (table[1:3] > 0).all()
    off = [min(abs(chance - total) for total in sums) for chance in slipping]
    assert max(off) < 1e-9 and min(abs(own[1] - total) for total in sums) > 1e-3


def test_slots_are_drawn_with_a_share_of_the_evidence():
    """Four visits of one effect and four of another, at half their weight, over all ways to fill three slots."""
    usual = np.array([0.5, 0.3, 0.15, 0.05])
    slips = np.array([0.5, 0.3, 0.2])
    counts = np.array([4.0, 4.0, 0.0])
    expected, total = np.zeros(4), 0.0
    for held in itertools.product(range(4), repeat=3):
        table = np.bincount(held, slips, 4)
        weight = np.prod(usual[list(held)]) * np.prod(table[:2] ** (0.5 * counts[:2]))
        expected += weight * table
        total += weight
    number = 20_000
    drawn = np.zeros((number, 4))
    source = np.random.default_rng(0)
    told = np.array([[0, 1, 0]]), counts[None], np.array([2])
    for n in range(number):
        chances = np.zeros((1, 4))
        arguments = np.array([0]), chances, np.eye(4)[3], 1.0, usual[None], slips
        draw_tables(int(source.integers(2**31)), *arguments, *told, 0.5)
        drawn[n] = chances[0]
    error = drawn.std(0) / np.sqrt(number)
    assert (np.abs(drawn.mean(0) - expected / total) < 5 * error + 1e-9).all()


def test_a_draw_is_held_through_an_episode_but_for_rows_that_are_visited():
    transitions = lived()
    world = World(transitions)
    generator = torch.Generator().manual_seed(0)
    world.meet(generator)
    world.kinds[:] = [0.0, 0.0, 1.0, 0.0]
    prediction = Prediction(transitions, world)
    drawn = DrawnTables(prediction, hold=3)
    before = drawn.current(generator).copy()
    row, _ = transitions.add(2, 1, 3)
    prediction.update(np.array([row]))
    drawn.redraw(np.array([row]), generator)
    after = drawn.current(generator).copy()
    others = np.arange(len(before)) != row
    assert np.array_equal(before[others], after[others])
    assert not np.array_equal(before[row], after[row])
    for _ in range(3):
        transitions.add(2, 1, 3)
    assert not drawn.stands
    drawn.current(generator)
    assert drawn.stands and drawn.drawn_at == transitions.steps
    drawn.forget()
    assert not drawn.stands


def test_an_agent_goes_on_bit_for_bit_from_what_was_stored():
    agent = agent_of_ring(3)
    walk(agent, 3)
    other = agent_of_ring(3)
    other.load_state_dict(agent.state_dict())
    assert walk(agent, 3) == walk(other, 3)
    assert np.array_equal(agent.drawn[0].chances, other.drawn[0].chances)
    assert np.array_equal(agent.outcomes.steps, other.outcomes.steps)


def test_what_was_stored_before_rows_could_slip_is_read():
    agent = agent_of_ring(3)
    walk(agent, 2)
    stored = agent.state_dict()
    stored["world"]["kinds"] = torch.full((4, 1, 3), 1 / 3).double()
    del stored["world"]["slips"]
    for name in ("drawn", "told_ahead"):
        del stored[name]
    del stored["outcomes"]["steps"]
    stored["outcomes"]["log_evidence"] = stored["outcomes"]["log_evidence"][:3]
    other = agent_of_ring(4)
    other.load_state_dict(stored)
    assert other.world.kinds.sum(1) == pytest.approx(1.0)
    assert other.outcomes.log_evidence.tolist()[3:] == other.outcomes.log_evidence.tolist()[:2]
    other.freeze()
    assert walk(other, 1) == [4]


def test_each_world_holds_a_draw_of_its_own_and_renews_it_with_its_episodes():
    agent = agent_of_ring(0)
    agent.begin_batch(seeds=[0, 1, 2])
    places = stacked([Ring().reset()[0]] * 3)
    for _ in range(12):
        actions = agent.act_batch(places)
        agent.feedback_batch(places, np.zeros(3), np.zeros(3, bool), np.zeros(3, bool))
    agent.act_batch(places)
    assert len(actions) == 3
    first, second, third = (drawn.drawn_at for drawn in agent.drawn)
    assert first == second == third >= 0
    before = [drawn.chances.copy() for drawn in agent.drawn]
    assert not np.array_equal(before[0], before[1])
    agent.begin_batch(seeds=[None, 7, None])
    assert [drawn.stands for drawn in agent.drawn] == [True, False, True]
    agent.act_batch(places)
    assert agent.drawn[1].stands
    for number in (0, 2):
        assert np.array_equal(agent.drawn[number].chances, before[number])
    twin = agent_of_ring(4)
    twin.load_state_dict(agent.state_dict())
    for mine, theirs in zip(agent.drawn, twin.drawn, strict=True):
        assert np.array_equal(mine.chances, theirs.chances)
        assert np.array_equal(mine.values, theirs.values)
