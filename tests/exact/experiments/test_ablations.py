"""Terms that are left out of a plan: totals against the terms of the whole one."""

import gymnasium
import numpy as np
import pytest
import torch

from aif_dcpc.agents.discrete.observed_agent import ObservedAgent
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.planners.belief_graph import BeliefGraph
from aif_dcpc.agents.planners.cross_entropy import CrossEntropy
from aif_dcpc.agents.planners.finite_model import FiniteModel
from aif_dcpc.agents.planners.protocol import Situation
from aif_dcpc.agents.planners.tree import SampledTree
from aif_dcpc.experiments.ablations.planners import SIGNS, leave_out, planner_without


def finite(seed):
    """Random tables of three states, two actions and four outcomes, some of which are being learned."""
    source = np.random.default_rng(seed)
    counts = source.uniform(0.5, 3.0, (3, 4))
    return FiniteModel(
        initial=source.dirichlet(np.ones(3)),
        transitions=source.dirichlet(np.ones(3), (2, 3)),
        likelihood={"o": counts / counts.sum(1, keepdims=True)},
        log_preferences={"o": source.normal(size=4)},
        concentrations={"o": counts},
    )


@pytest.mark.parametrize("term", SIGNS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("ignore::aif_dcpc.agents.expected_free_energy.DecompositionWarning")
def test_one_step_lacks_the_term(term, seed):
    model = finite(seed)
    whole = BeliefGraph(horizon=1).plan_tables(model, model.initial)
    found = planner_without(BeliefGraph(horizon=1), term).plan_tables(model, model.initial)
    expected = whole.expected_free_energy - SIGNS[term] * whole.terms[term]
    assert (whole.terms[term].abs() > 1e-3).all()
    assert (found.expected_free_energy - expected).abs().max() < 1e-9


@pytest.mark.filterwarnings("ignore::aif_dcpc.agents.expected_free_energy.DecompositionWarning")
def test_a_term_is_left_out_at_every_step():
    """Two steps ahead without preferences: what both steps tell, by the best second action of each outcome."""
    model = finite(7)
    found = planner_without(BeliefGraph(horizon=2), "neg_expected_log_preference")
    plan = found.plan_tables(model, model.initial)
    alone = planner_without(BeliefGraph(horizon=1), "neg_expected_log_preference")
    for action in range(2):
        predicted = model.initial @ model.transitions[action]
        joint = predicted[:, None] * model.likelihood["o"]
        later = [
            float(alone.plan_tables(model, column / column.sum()).expected_free_energy.min())
            for column in joint.T
        ]
        now = float(alone.plan_tables(model, model.initial).expected_free_energy[action])
        assert abs(float(plan.expected_free_energy[action]) - now - joint.sum(0) @ later) < 1e-9


def told(situation, policies):
    """Terms that depend on the first action."""
    first = policies[:, :, 0].float()
    terms = {"ambiguity": 0.3 + 0 * first, "information_gain": first, "novelty": 0.1 * first}
    cross = first.square()
    risk = cross - terms["ambiguity"] - terms["information_gain"]
    return {**terms, "risk": risk, "neg_expected_log_preference": cross}


@pytest.mark.parametrize("term", SIGNS)
def test_sequences_are_judged_without_the_term(term):
    planner = planner_without(CrossEntropy(horizon=3, candidates=8, elites=2, judge=told), term)
    space = gymnasium.spaces.Box(-1, 1, (1,))
    situation = Situation(
        engine=None,
        state=None,
        action="u",
        action_space=space,
        preferences={},
        generator=torch.Generator().manual_seed(0),
    )
    plan = planner.plan(situation)
    terms = {name: value.sum(1) for name, value in told(situation, plan.policies).items()}
    whole = terms["risk"] + terms["ambiguity"] - terms["novelty"]
    expected = whole - SIGNS[term] * terms[term]
    assert (plan.expected_free_energy - expected).abs().max() < 1e-5


def test_what_cannot_be_left_out_is_said():
    agent = ObservedAgent({"state": (3,)}, 2, 0)
    leave_out(agent, "novelty")
    leave_out(agent, "risk")
    assert not agent.novelty and agent.reward_scale == 0
    with pytest.raises(AgentError, match="SampledTree"):
        planner_without(SampledTree(horizon=1), "novelty")
    with pytest.raises(AgentError, match="object: terms are left out"):
        leave_out(object(), "novelty")
