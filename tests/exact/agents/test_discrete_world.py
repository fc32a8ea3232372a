"""Worlds whose state is seen: collapsed tables and what is predicted, against definitions written out."""

import numpy as np
import pytest
import torch
from rings import certain, lived, tables_of_slips
from scipy.special import digamma

from aif_dcpc.agents.discrete.transitions import Transitions
from aif_dcpc.agents.discrete.world import CONCENTRATIONS, CollapsedRows, RedrawShared, Rows, World
from aif_dcpc.agents.expected_free_energy import dirichlet_information


def probability(sequence, kinds, concentration, usual, slips):
    """Of one row's effects in their order, by the chain rule."""
    fixed = usual[sequence[0]] if len(set(sequence)) == 1 else 0.0
    as_usual = np.prod([usual[effect] for effect in sequence])
    own = 1.0
    for n, effect in enumerate(sequence):
        before = sequence[:n].count(effect)
        own *= (concentration * usual[effect] + before) / (concentration + n)
    slipping = sum(w * np.prod(table[list(sequence)]) for w, table in tables_of_slips(usual, slips))
    return kinds @ [fixed, as_usual, own, slipping]


def test_tables_are_integrated_out():
    kinds = np.array([0.4, 0.1, 0.2, 0.3])
    slips = np.array([0.5, 0.3, 0.2])
    effects = np.array([[0.4, 0.3, 0.1, 0.1, 0.1], [0.2, 0.1, 0.3, 0.3, 0.1]])
    rows = [(0, [1]), (0, [0, 0, 0]), (1, [1, 0, 1, 2]), (1, [1, 1]), (0, [3, 1, 2, 0, 0])]
    expected = sum(np.log(probability(s, kinds, 2.5, effects[a], slips)) for a, s in rows)
    counts = torch.tensor([[s.count(e) for e in range(4)] for _, s in rows])
    law = CollapsedRows(
        torch.tensor(kinds)[None],
        torch.tensor([2.5]).double(),
        torch.tensor(effects)[None],
        torch.tensor(slips)[None],
        torch.tensor([a for a, _ in rows]),
    )
    assert float(law.log_prob(counts[None])) == pytest.approx(expected)


def numbers_of_shared(kinds, slips, effects, concentration):
    """Numbers that tell posteriors of what rows share apart, `(N, 8)`; slots have no order."""
    sorted_slips = np.sort(slips, 1)
    spread = kinds[:, 3] * sorted_slips[:, 2]
    return np.column_stack(
        [kinds[:, [0, 1, 3]], sorted_slips[:, 2], spread, effects[:, :, 0], concentration]
    )


def test_sweeps_leave_the_posterior_as_it_is():
    """Of what rows share, by importance draws from the prior; 5 standard errors of 8 numbers."""
    transitions = lived()
    rows = Rows.of(transitions)
    world = World(transitions, num_particles=400)
    generator = torch.Generator().manual_seed(0)
    world.infer(generator, 30)
    number = 200_000
    prior = torch.from_numpy(world.prior_of_effects).expand(number, 2, -1)
    kinds = torch._sample_dirichlet(torch.ones(number, 4).double(), generator=generator)
    slips = torch._sample_dirichlet(torch.ones(number, 3).double(), generator=generator)
    effects = torch._sample_dirichlet(prior.contiguous(), generator=generator)
    index = torch.randint(len(CONCENTRATIONS), (number,), generator=generator)
    law = CollapsedRows(
        kinds,
        torch.from_numpy(CONCENTRATIONS)[index],
        effects,
        slips,
        torch.from_numpy(rows.action),
    )
    weights = law.log_prob(rows.dense(len(transitions.effects))).softmax(0).numpy()
    columns = (kinds.numpy(), slips.numpy(), effects.numpy(), index.numpy())
    numbers = numbers_of_shared(*columns)
    found = numbers_of_shared(world.kinds, world.slips, world.effects, world.concentration)
    exact = weights @ numbers
    error = np.sqrt(weights**2 @ (numbers - exact) ** 2 + found.var(0) / len(found))
    assert (np.abs(found.mean(0) - exact) < 5 * error).all()


def test_a_missing_kind_is_noticed():
    """The same check, with draws that leave rows' own tables out."""
    transitions = lived()
    rows = Rows.of(transitions)
    move = RedrawShared(rows, World(transitions).prior_of_effects)
    assert rows.dense(2).sum() == transitions.steps
    values = {
        "kinds": torch.tensor([[[1e-12, 1.0, 1e-12, 1e-12]]]).double(),
        "slips": torch.full((1, 1, 3), 1 / 3).double(),
        "concentration": torch.zeros(1, 1).long(),
        "effects": torch.tensor([[[[0.2, 0.7, 0.1], [0.5, 0.4, 0.1]]]]).double(),
    }
    drawn = move(values, torch.Generator().manual_seed(0))
    assert float(drawn["kinds"][0, 0, 1]) > 0.3  # all six rows are counted as usual


def test_effects_wrap_around_and_rows_are_counted():
    transitions = Transitions(5, 2)
    row, place = transitions.add(4, 1, 0)
    assert (row, place) == (9, 0) and transitions.effects == [1]
    for following in (0, 1, 2, 3):
        transitions.add(4, 1, following)
    assert transitions.counts[9, : transitions.distinct[9]].tolist() == [2, 1, 1, 1]
    other = Transitions(5, 2)
    other.load_state_dict(transitions.state_dict())
    assert other.add(4, 1, 3) == (9, 3) and other.counts[9, 3] == 2


# -- prediction ------------------------------------------------------------------------------------


def test_own_tables_predict_and_tell_as_dirichlets_do():
    transitions = lived(num_states=3)
    assert len(transitions.effects) == 2
    usual = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    index = 5
    found = certain(transitions, [0.0, 0.0, 1.0], index, usual)
    for row in range(6):
        counts = np.zeros(3)
        seen = transitions.seen[row, : transitions.distinct[row]]
        counts[seen] = transitions.counts[row, : len(seen)]
        posterior = CONCENTRATIONS[index] * usual[row % 2] + counts
        assert found.chances[row] == pytest.approx(posterior / posterior.sum())
        assert found.novelty[row] == pytest.approx(dirichlet_information(posterior[:, None])[0])


def test_effects_never_seen_share_what_is_left_evenly():
    """Three of five effects were never seen: the novelty is that of the Dirichlet over all five."""
    transitions = lived(num_states=5)
    usual = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    found = certain(transitions, [0.0, 0.0, 1.0], 5, usual)
    spread = np.concatenate([usual[0][:2], np.full(3, 0.1 / 3)])
    exact = dirichlet_information(CONCENTRATIONS[5] * spread[:, None])[0]
    assert found.novelty[2 * 4] == pytest.approx(exact)


def test_a_fixed_row_tells_all_at_once():
    transitions = lived()
    usual = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    found = certain(transitions, [1.0, 0.0, 0.0], 5, usual)
    never = 3 * 2
    spread = np.array([0.6, 0.3, 0.05, 0.05])
    assert found.novelty[never] == pytest.approx(-(spread * np.log(spread)).sum())
    assert found.novelty[0] == pytest.approx(0.0, abs=1e-12)
    assert found.chances[0].max() == pytest.approx(1.0)


def test_kinds_are_weighed_by_what_a_row_has_shown():
    transitions = Transitions(4, 1)
    transitions.add(0, 0, 1)
    transitions.add(0, 0, 1)
    kinds = np.array([0.3, 0.3, 0.4])
    usual = np.array([[0.7, 0.3]])
    found = certain(transitions, kinds, 6, usual)
    strength = CONCENTRATIONS[6]
    joint = kinds * [0.7, 0.49, 0.7 * (strength * 0.7 + 1) / (strength + 1)]
    fixed, as_usual, own = joint / joint.sum()
    after = (strength * 0.7 + 2) / (strength + 2)
    assert found.chances[0, 0] == pytest.approx(fixed + 0.7 * as_usual + own * after)
    counts = np.concatenate([[strength * 0.7 + 2], np.full(3, strength * 0.1)])
    total = counts.sum()
    entropy = digamma(total + 1) - counts @ digamma(counts + 1) / total
    spread = np.array([0.7, 0.1, 0.1, 0.1])
    chance = fixed * np.eye(4)[0] + as_usual * spread + own * counts / total
    known = own * entropy - as_usual * (spread @ np.log(spread))
    assert found.novelty[0] == pytest.approx(-(chance @ np.log(chance)) - known)
