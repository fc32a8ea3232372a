"""Habit, precision and preferences that are learned, against integrals over grids and closed forms."""

import math

import numpy as np
import pytest
import torch

from aif_dcpc.agents.discrete.agent import DiscreteAgent
from aif_dcpc.agents.discrete.model import DiscreteModel
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.own_choices import OwnChoices

COUNTS = torch.tensor([1.0, 2.0, 1.0])
SHAPE, RATE = 2.0, 0.5


def chosen(number, seed=0):
    """Values of three actions, and choices of somebody with habit (.7, .2, .1) and precision 2."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(number, 3, generator=generator)
    odds = torch.tensor([0.7, 0.2, 0.1]).log() + 2 * values
    return values, torch.multinomial(odds.softmax(-1), 1, generator=generator)[:, 0]


def grid_posterior(values, choices):
    """Habits `(N, 3)`, precisions `(M,)`, and their posterior `(N, M)`, on a grid."""
    side = (torch.arange(40).double() + 0.5) / 40
    first, second = torch.meshgrid(side, side, indexing="ij")
    inside = first + second < 1
    first, second = first[inside], second[inside]
    habits = torch.stack([first, second, 1 - first - second], -1)
    precisions = torch.linspace(0.01, 9.0, 120).double()
    odds = habits.log()[:, None, None] + precisions[:, None, None] * values.double()
    log = odds.log_softmax(-1).gather(-1, choices.expand(*odds.shape[:2], -1)[..., None])
    log = log[..., 0].sum(-1) + ((COUNTS - 1) * habits.log()).sum(-1)[:, None]
    log = log + (SHAPE - 1) * precisions.log() - RATE * precisions
    return habits, precisions, log.flatten().softmax(0).view(log.shape)


def learned(**settings):
    both = {"counts": COUNTS, "precision_prior": (SHAPE, RATE), "num_particles": 400}
    return OwnChoices(torch.full((3,), 1 / 3), 4.0, **{**both, **settings})


def test_choices_tell_habit_and_precision_as_the_grid_says():
    """Means of 400 particles within 5 standard errors of twice the variance of independent ones."""
    values, choices = chosen(40)
    own = learned()
    for value, choice in zip(values, choices.tolist(), strict=True):
        own.note(value, choice)
    habits, precisions, posterior = grid_posterior(values, choices)
    for name, points, weights in (
        ("habit", habits, posterior.sum(1)),
        ("precision", precisions[:, None], posterior.sum(0)),
    ):
        mean = weights @ points
        sd = (weights @ points.square() - mean.square()).sqrt()
        found = own.draws(name).double().view(400, -1)
        assert ((found.mean(0) - mean).abs() < 5 * sd * math.sqrt(2 / 400)).all(), name
        assert ((found.std(0) / sd).log().abs() < 0.25).all(), name
    value = torch.tensor([0.0, 0.5, -1.0])
    odds = habits.log()[:, None] + precisions[:, None] * value.double()
    expected = (posterior[..., None] * odds.softmax(-1)).sum((0, 1))
    assert own.log_prob(value).exp().double().numpy() == pytest.approx(expected.numpy(), abs=0.02)


def test_what_is_known_is_not_learned():
    """A known precision and a learned habit; before any choice the prior predicts."""
    own = learned(precision_prior=None, num_particles=4000)
    assert own.learned == ("habit",)
    assert own.draws("precision").tolist() == [4.0]
    expected = torch.tensor([0.25, 0.5, 0.25])
    found = own.log_prob(torch.zeros(3)).exp()
    assert found.numpy() == pytest.approx(expected.numpy(), abs=0.02)
    alone = learned(counts=None)
    alone.note(torch.tensor([0.0, -1.0, -2.0]), 0)
    assert alone.learned == ("precision",)
    assert torch.equal(alone.draws("habit"), torch.full((1, 3), 1 / 3))


def test_what_cannot_be_is_not_chosen():
    own = learned()
    own.note(torch.tensor([0.0, -math.inf, -1.0]), 0)
    found = own.log_prob(torch.tensor([0.0, -math.inf, -1.0]))
    assert found[1] < -1000 and bool(found.isfinite().all())


def test_it_goes_on_bit_for_bit():
    values, choices = chosen(6)
    own = learned(num_particles=16)
    for value, choice in zip(values[:3], choices.tolist(), strict=False):
        own.note(value, choice)
    twin = learned(num_particles=16, seed=5)
    twin.load_state_dict(own.state_dict())
    for either in (own, twin):
        for value, choice in zip(values[3:], choices[3:].tolist(), strict=True):
            either.note(value, choice)
    assert torch.equal(own.draws("habit"), twin.draws("habit"))
    assert torch.equal(own.log_prob(values[0]), twin.log_prob(values[0]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"counts": torch.tensor([1.0, 0.0, 1.0])}, "counts of the habit"),
        ({"precision_prior": (2.0, -1.0)}, "precision_prior"),
    ],
)
def test_priors_that_are_none_are_refused(change, words):
    with pytest.raises(AgentError, match=words):
        learned(**change)


# -- in an agent -----------------------------------------------------------------------------------


def arms(**arrays):
    """A place that each action leads to, seen as it is."""
    goes = np.zeros((3, 3, 3))
    for action in range(3):
        goes[action, :, action] = 1
    return DiscreteModel(**{"A": [np.eye(3)], "B": [goes], "D": [[1 / 3] * 3], **arrays})


def test_an_agent_learns_the_habit_of_what_it_chooses_whatever_is_preferred():
    """All places are alike: habit alone explains the choices, so that its counts are conjugate."""
    agent = DiscreteAgent(arms(pE=[1.0, 2.0, 1.0]), horizon=1)
    counts = np.array([1.0, 2.0, 1.0])
    place = 0
    for _ in range(25):
        agent.infer_states([place])
        chances, _ = agent.infer_policies()
        assert chances == pytest.approx(agent.habit, abs=1e-5)
        (place,) = agent.sample_action(greedy=False)
        counts[place] += 1
    mean = counts / counts.sum()
    sd = np.sqrt(mean * (1 - mean) / (counts.sum() + 1))
    assert (np.abs(agent.habit - mean) < 5 * sd * math.sqrt(2 / 64)).all()


def test_act_learns_as_well_and_frozen_it_does_not():
    """An agent that always takes what it prefers comes to be sure of itself."""
    agent = DiscreteAgent(arms(C=[[0.0, 1.0, 0.0]]), horizon=1, precision_prior=(2.0, 2.0))
    before = agent.gamma
    agent.begin(seed=0)
    for _ in range(8):
        assert agent.act({"o_0": np.array(1)}) == 1
    assert agent.gamma > before + 0.5
    length = agent.own.state.length
    agent.freeze()
    agent.begin(seed=1)
    agent.act({"o_0": np.array(1)})
    assert agent.own.state.length == length == 8


def test_preferences_are_learned_by_counts_and_followed():
    """Log preferences are E[ln p] under Dirichlet(counts): digamma(c) - digamma(sum c)."""
    agent = DiscreteAgent(arms(pC=[[0.5, 0.5, 0.5]]), horizon=1)
    for _ in range(2):
        agent.prefer([2])
    agent.prefer([1], times=0.5)
    counts = torch.tensor([0.5, 1.0, 2.5]).double()
    expected = counts.digamma() - torch.tensor(4.0).double().digamma()
    assert torch.allclose(agent.preferences["o_0"], expected)
    agent.infer_states([0])
    agent.infer_policies()
    assert agent.sample_action() == (2,)
    twin = DiscreteAgent(arms(pC=[[0.5, 0.5, 0.5]]), horizon=1)
    twin.load_state_dict(agent.state_dict())
    assert torch.equal(twin.preferences["o_0"], agent.preferences["o_0"])
    with pytest.raises(AgentError, match="counts pC"):
        DiscreteAgent(arms(), horizon=1).prefer([1])


def test_counts_that_do_not_fit_are_refused():
    with pytest.raises(AgentError, match=r"pE: expected shape \(3,\)"):
        arms(pE=[1.0, 1.0])
    with pytest.raises(AgentError, match=r"pC\[0\]: expected shape \(3,\)"):
        arms(pC=[[1.0, 1.0]])
