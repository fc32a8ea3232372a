"""What the agent of observed worlds plans on, infers and refuses, step by step."""

import math

import gymnasium
import numpy as np
import pytest
from rings import Ring, agent_of_ring, certain, lived, walk
from scipy.special import digamma, xlogy

from aif_dcpc.agents.discrete.observed_agent import ObservedAgent
from aif_dcpc.agents.discrete.outcomes import Outcomes
from aif_dcpc.agents.discrete.prediction import Prediction
from aif_dcpc.agents.discrete.requirements import read, state_sizes
from aif_dcpc.agents.discrete.world import CONCENTRATIONS, World
from aif_dcpc.agents.errors import AgentError


def test_terms_of_a_plan_are_those_of_its_policy():
    """Novelty of the plan and its total by the linear equations of the policy that it follows."""
    agent = agent_of_ring(1)
    walk(agent, 1)
    agent.draws = False
    agent.tolerance = 1e-12
    agent.max_iterations = 10_000
    agent.begin(seed=0)
    observation = Ring().reset()[0]
    for _ in range(2):  # the second begins where the first has ended
        agent.act(observation)
    found = agent.expected_free_energy()
    steps, told = agent.ahead, agent.told
    best = found.argmin(1)
    rows = 2 * np.arange(9) + best
    moves = np.zeros((18, 9))
    for row in range(18):
        np.add.at(moves[row], steps.following[row], steps.weight[row])
    moves += steps.anywhere[:, None] / 9
    value = np.linalg.solve(np.eye(9) - moves[rows], (steps.cost - told)[rows])
    assert found.ravel() == pytest.approx(steps.cost - told + moves @ value, abs=1e-6)
    ahead = np.linalg.solve(np.eye(9) - moves[rows], told[rows])
    expected = (told + moves @ ahead)[2 * agent.state : 2 * agent.state + 2]
    agent.act(observation)
    terms = agent.explanation().terms
    assert terms["novelty"] == pytest.approx(expected, abs=1e-6)
    assert terms["risk"] - terms["novelty"] == pytest.approx(found[agent.state], abs=1e-6)
    assert not terms["ambiguity"].any() and not terms["information_gain"].any()
    scalars = agent.report().scalars
    here = 2 * agent.state + agent.action
    assert scalars["efe_step/risk"] == pytest.approx(steps.cost[here])
    assert scalars["efe_step/novelty"] == pytest.approx(told[here])
    later = scalars["efe/total"] - steps.cost[here] + told[here]
    assert scalars["efe/later_steps"] == pytest.approx(later)
    kinds = agent.world.kinds.mean(0)
    names = ("fixed", "usual", "slips")
    assert [scalars[f"learning/{n}"] for n in names] == pytest.approx(kinds[[0, 1, 3]].tolist())
    assert scalars["learning/rows_visited"] == (agent.transitions.counts.sum(1) > 0).sum()


def test_novelty_below_the_least_does_not_count():
    agent = agent_of_ring(0)
    walk(agent, 1)
    agent.expected_free_energy()
    expected = np.maximum(agent.prediction.novelty - 0.03, 0)
    assert agent.told == pytest.approx(expected) and (expected > 0).any()
    agent.freeze()
    agent.expected_free_energy()
    assert not agent.told.any()


def test_what_rows_share_is_inferred_at_each_of_the_first_steps_and_then_as_the_life_grows(
    monkeypatch,
):
    """Fifty steps, and after that whenever the life has grown by a fiftieth."""
    inferred = []

    def infer(world, generator, num_sweeps):
        inferred.append(world.transitions.steps)
        world.meet(generator)

    monkeypatch.setattr(World, "infer", infer)
    agent = agent_of_ring(0)
    while agent.transitions.steps < 160:
        walk(agent, 1, greedy=False)
    expected = list(range(1, 51))
    for step in range(51, agent.transitions.steps + 1):
        expected += [step] if step >= 1.02 * expected[-1] else []
    assert inferred == expected and len(expected) < 110


def test_between_looks_a_row_alone_is_predicted_anew_unless_an_effect_was_met(monkeypatch):
    """An effect of which nobody knew changes the predictions of all rows."""
    agent = agent_of_ring(0)
    while agent.transitions.steps < 60:
        walk(agent, 1, greedy=False)
    agent.steps_at_inference = agent.transitions.steps
    asked = []
    update = Prediction.update
    monkeypatch.setattr(
        Prediction, "update", lambda p, rows: asked.append(len(rows)) or update(p, rows)
    )
    known = agent.transitions.effects
    row, _ = agent.transitions.add(0, 1, known[0])
    agent._infer(np.array([row]))
    assert asked == [1]
    leap = next(effect for effect in range(9) if effect not in known)
    agent.transitions.add(0, 1, leap)
    agent._infer(np.array([row]))
    assert asked == [1, 18] and agent.prediction.chances.shape == (18, len(known) + 1)


def test_sampled_actions_follow_the_softmax_of_their_costs():
    """Odds exp(-2 x difference): 4,000 draws within 5 standard errors; greedy ones the least, ties alike."""
    agent = agent_of_ring(0)
    agent.precision = 2.0
    costs = np.tile([1.0, 1.3], (4000, 1))
    share = 1 / (1 + math.exp(0.6))
    found = agent._drawn(costs, False).mean()
    assert abs(found - share) < 5 * math.sqrt(share * (1 - share) / 4000)
    assert not agent._drawn(costs, True).any()
    tied = agent._drawn(np.ones((4000, 2)), True).mean()
    assert abs(tied - 0.5) < 5 * 0.5 / math.sqrt(4000)


def test_the_unit_of_reward_is_less_in_larger_worlds_and_draws_are_held_as_far_as_a_plan_looks():
    """Sixteen nats over the root of the number of rows; 1 / (1 - discount) steps."""
    agent = ObservedAgent({"state": (10, 5)}, 8, 0)
    assert agent.reward_scale == pytest.approx(16 / 20)
    assert ObservedAgent({"state": (4,)}, 2, 0, reward_scale=3).reward_scale == 3
    assert agent.drawn[0].hold == 50
    assert ObservedAgent({"state": (4,)}, 2, 0, discount=0.75).drawn[0].hold == 4


def test_what_is_stored_is_planned_on_alike_by_who_is_frozen():
    agent = agent_of_ring(2)
    walk(agent, 2)
    agent.freeze()
    agent.expected_free_energy()
    twin = agent_of_ring(7)
    twin.load_state_dict(agent.state_dict())
    for learns in (False, True):
        assert np.array_equal(twin.values[learns], agent.values[learns])
    assert agent.values[False].any() and not np.array_equal(*agent.values.values())
    assert twin.steps_at_inference == agent.steps_at_inference > 0
    assert np.array_equal(twin.told_ahead, agent.told_ahead)


def test_as_many_states_as_can_be_listed_are_taken_and_settings_of_the_engine_are_read():
    space = gymnasium.spaces.Dict(
        a=gymnasium.spaces.MultiDiscrete([100, 100]), b=gymnasium.spaces.MultiBinary(1)
    )
    assert state_sizes(space) == {"a": (100, 100), "b": (2,)}
    with pytest.raises(AgentError, match="20,001"):
        state_sizes(gymnasium.spaces.Discrete(20_001))
    found = read({"inference": {"num_particles": 3, "num_sweeps": 5}, "precision": 2.0})
    assert [found[n] for n in ("num_particles", "num_sweeps", "precision")] == [3, 5, 2.0]


def test_the_entropy_of_a_table_of_ones_own_counts_effects_never_seen_apart():
    """Three of five never seen: the last stands for all, with a third each, beside one row's counts."""
    transitions = lived(num_states=5)
    usual = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    found = certain(transitions, [0.0, 0.0, 1.0], 5, usual)
    row = 2 * 2 + 1  # seen most often
    strength = CONCENTRATIONS[5]
    after = strength * np.concatenate([usual[1, :2], np.full(3, 0.1 / 3)])
    seen = transitions.seen[row, : transitions.distinct[row]]
    after[seen] += transitions.counts[row, : len(seen)]
    total = after.sum()
    known = digamma(total + 1) - after @ digamma(after + 1) / total
    assert found.novelty[row] == pytest.approx(-xlogy(after, after / total).sum() / total - known)


def test_rewards_of_a_continuum_are_counted_at_the_nearest_of_some_levels():
    """Of 3,000 normal draws: levels stay few, means of both actions within .05."""
    source = np.random.default_rng(0)
    outcomes = Outcomes(2, 2)
    total = np.zeros(2)
    number = np.zeros(2)
    for step in range(3000):
        action = int(source.integers(2))
        reward = float(source.normal(2.0 * action))
        row = action
        outcomes.add(row, 0, step % 2, reward, False)
        total[action] += reward
        number[action] += 1
    levels = np.array([level for level, _ in outcomes.levels])
    assert 64 <= len(levels) < 85
    assert max(abs(levels)) > 3  # whatever lies beyond all others has a level
    found = outcomes.counts[2] @ levels / outcomes.counts[2].sum(1)
    assert found == pytest.approx(total / number, abs=0.05)
    before = len(levels)
    outcomes.add(0, 0, 0, 0.1234, True)
    assert outcomes.levels[-1] == (0.1234, True) and len(outcomes.levels) == before + 1


def test_what_lies_outside_its_space_or_is_no_number_is_told():
    agent = ObservedAgent({"state": (4,)}, 2, 0)
    agent.begin(seed=0)
    for place in (4, -1):
        with pytest.raises(AgentError, match=r"outside its observation space of \(4,\)"):
            agent.act({"state": np.array(place)})
    agent.act({"state": np.array(0)})
    for reward in (math.nan, -math.inf):
        with pytest.raises(AgentError, match=r"reward is .*expected finite"):
            agent.feedback({"state": np.array(1)}, reward, False, False)
    assert agent.transitions.steps == 0
