"""Particles of what rows share: their predictions are averaged, tables are drawn by one of them."""

import math

import numpy as np
import pytest
import torch
from rings import certain, lived

from aif_dcpc.agents.discrete.drawn_tables import DrawnTables, draw_tables
from aif_dcpc.agents.discrete.prediction import Prediction
from aif_dcpc.agents.discrete.transitions import Transitions
from aif_dcpc.agents.discrete.world import CONCENTRATIONS, World


def two_particles(transitions, kinds=((0.1, 0.2, 0.3, 0.4), (0.0, 0.1, 0.9, 0.0))):
    """A world with two particles that differ in all that rows share."""
    world = World(transitions, num_particles=2)
    world.kinds = np.array(kinds)
    world.slips = np.array([[0.6, 0.3, 0.1], [0.4, 0.4, 0.2]])
    world.concentration = np.array([6, 3])
    number = len(transitions.effects)
    source = np.random.default_rng(5)
    world.effects = source.dirichlet(np.ones(number + 1), (2, transitions.num_actions))
    return world


def test_predictions_of_particles_are_averaged():
    """Chances, and what a row tells of its own table and kind given what rows share."""
    transitions = lived(num_states=5)
    both = Prediction(transitions, two_particles(transitions))
    alone = []
    for k in range(2):
        one = two_particles(transitions)
        settings = one.kinds[k], one.concentration[k], one.effects[k], one.slips[k]
        alone.append(certain(transitions, *settings))
    chances = np.mean([found.chances for found in alone], 0)
    assert np.allclose(both.chances, chances)
    assert np.allclose(both.novelty, np.mean([found.novelty for found in alone], 0))


def test_a_row_of_four_effects_does_not_slip():
    """Three slots hold at most three: with four shown, the row is its own or as usual."""
    transitions = Transitions(6, 1)
    for reached in (0, 1, 2, 3, 3):
        transitions.add(0, 0, reached)
    usual = np.array([[0.2, 0.3, 0.2, 0.2, 0.1]])
    found = certain(transitions, [0.0, 0.2, 0.3, 0.5], 6, usual)
    strength = CONCENTRATIONS[6]
    counts = np.array([1.0, 1.0, 1.0, 2.0])
    as_usual = 0.2 * np.prod(usual[0, :4] ** counts)
    rising = [strength * usual[0, e] + i for e in range(4) for i in range(int(counts[e]))]
    own = 0.3 * np.prod(rising) / np.prod([strength + n for n in range(5)])
    share = own / (own + as_usual)
    table = (strength * usual[0, :4] + counts) / (strength + 5)
    assert found.chances[0, :4] == pytest.approx(share * table + (1 - share) * usual[0, :4])


def test_tables_are_drawn_by_one_particle_and_each_action_by_its_own_usual_effects():
    """Rows that do as usual, at two particles and two actions: whole tables tell whose they are."""
    transitions = lived()
    for _ in range(2):  # every row that was tried is tried once more
        for state in range(3):
            transitions.add(state, 0, state + 1)
            transitions.add(state, 1, state)
    world = two_particles(transitions, kinds=((0, 1, 0, 0), (0, 1, 0, 0)))
    drawn = DrawnTables(Prediction(transitions, world), hold=10)
    generator = torch.Generator().manual_seed(0)
    met = set()
    for _ in range(20):
        drawn.forget()
        tables = drawn.current(generator)
        met.add(drawn.particle)
        for row in transitions.visited:
            assert np.array_equal(tables[row], world.effects[drawn.particle, row % 2])
    assert met == {0, 1}


def test_what_was_tried_once_stays_expected_and_twice_is_drawn():
    transitions = Transitions(5, 1)
    for state, reached in ((0, 1), (1, 2), (1, 3)):
        transitions.add(state, 0, reached)
    world = two_particles(transitions, kinds=((0, 0, 1, 0), (0, 0, 1, 0)))
    prediction = Prediction(transitions, world)
    drawn = DrawnTables(prediction, hold=10)
    tables = drawn.current(torch.Generator().manual_seed(0))
    assert np.array_equal(tables[0], prediction.chances[0])
    assert not np.allclose(tables[1], prediction.chances[1])


def test_a_draw_stands_from_the_first_step_on_until_effects_are_met():
    transitions = Transitions(4, 1)
    world = World(transitions, num_particles=2)
    prediction = Prediction(transitions, world)
    drawn = DrawnTables(prediction, hold=5)
    generator = torch.Generator().manual_seed(0)
    assert not drawn.stands
    drawn.current(generator)
    assert drawn.stands and drawn.drawn_at == 0
    transitions.add(0, 0, 1)
    world.meet(generator)
    prediction.refresh()
    assert not drawn.stands  # its tables know of no effect
    before = generator.get_state()
    drawn.redraw(np.array([0]), generator)
    assert torch.equal(generator.get_state(), before)


def test_own_tables_are_drawn_from_their_dirichlet():
    """Means and variances of 4,000 draws of one row, 5 standard errors of a Beta's."""
    usual = np.array([[0.5, 0.3, 0.2]])
    counts = np.array([[4.0, 1.0]])
    told = np.array([[1, 0]]), counts, np.array([2])
    tables = np.zeros((4000, 3))
    for number in range(len(tables)):
        chances = np.zeros((1, 3))
        arguments = np.array([0]), chances, np.eye(4)[2], 2.0, usual, np.ones(3) / 3
        draw_tables(number, *arguments, *told, 1.0)
        tables[number] = chances[0]
    after = 2.0 * usual[0] + [1.0, 4.0, 0.0]
    total = after.sum()
    variance = after * (total - after) / total**2 / (total + 1)
    assert (np.abs(tables.mean(0) - after / total) < 5 * np.sqrt(variance / 4000)).all()
    assert tables.var(0) == pytest.approx(variance, rel=0.15)


def test_a_cloud_begins_with_all_kinds_and_slots_alike():
    """Probabilities all of them, from which sweeps begin; a usual effect is one that was never seen."""
    world = World(Transitions(5, 2), num_particles=3)
    assert world.kinds.tolist() == [[0.25] * 4] * 3
    assert world.slips == pytest.approx(np.full((3, 3), 1 / 3))
    assert world.effects.tolist() == [[[1.0]] * 2] * 3
    assert CONCENTRATIONS[world.concentration] == pytest.approx(1.0, abs=0.01)
    assert world.prior_of_effects.tolist() == [1.0]


def test_an_effect_that_is_met_takes_its_share_of_what_was_never_seen():
    """Of four that were never seen: a Beta(1/6, 3/6) of it, with mean 1/4; 5 standard errors."""
    transitions = Transitions(6, 1)
    for reached in (1, 2):
        transitions.add(0, 0, reached)
    world = World(transitions, num_particles=4000)
    generator = torch.Generator().manual_seed(0)
    world.meet(generator)
    transitions.add(0, 0, 3)
    rest = world.effects[:, 0, -1].copy()
    before = world.effects[:, 0, :2].copy()
    world.meet(generator)
    assert np.array_equal(world.effects[:, 0, :2], before)
    share = world.effects[:, 0, 2] / rest
    error = math.sqrt(0.25 * 0.75 / (2 / 3 + 1) / 4000)
    assert abs(share.mean() - 0.25) < 5 * error
    assert world.effects[:, 0].sum(-1) == pytest.approx(1)
    assert world.prior_of_effects == pytest.approx(np.array([1, 1, 1, 3]) / 6)
