"""Worlds whose state is seen: what comes of steps, plans, and agents that live in one or several."""

import inspect

import gymnasium
import numpy as np
import pytest
from rings import Ring, Slippery, agent_of_ring, certain, walk

from aif_dcpc.agent_runs.worlds import stacked
from aif_dcpc.agents.active_inference import ActiveInferenceAgent
from aif_dcpc.agents.discrete.agent import DiscreteAgent
from aif_dcpc.agents.discrete.dynamic_programming import Steps, follow, iterate
from aif_dcpc.agents.discrete.episode_lengths import EpisodeLengths
from aif_dcpc.agents.discrete.observed_agent import ObservedAgent
from aif_dcpc.agents.discrete.outcomes import Outcomes
from aif_dcpc.agents.discrete.requirements import DEFAULTS, read, state_sizes
from aif_dcpc.agents.discrete.transitions import Transitions
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.configuration import load_config


@pytest.mark.parametrize("parent", [0, 1, 2])
def test_what_an_outcome_depends_on_is_found(parent):
    """Tables by row tell as much as those by action where the action decides: their base is the action's."""
    rng = np.random.default_rng(0)
    outcomes = Outcomes(4, 3)
    rewarded = rng.random(12) < 0.5
    rewarded[:4] = [True, False, False, True]
    for _ in range(400):
        row = int(rng.integers(12))
        reached = int(rng.integers(4))
        key = (reached, row, row % 3)[parent]
        outcomes.add(row, reached, reached, float(rewarded[key]), False)
    foretells = {0: [0, 3], 1: [1, 3, 4], 2: [1, 2, 3, 4]}[parent]
    assert outcomes.weights[foretells].sum() > 0.99


def test_what_a_step_brings_is_told_apart_where_its_ends_do_not_tell():
    """Reward where a step went on, none where it stayed, except that place 0 is reached at a cost from 3."""
    rng = np.random.default_rng(0)
    outcomes = Outcomes(4, 1)
    for _ in range(200):
        state = int(rng.integers(4))
        moved = int(rng.integers(2))
        reached = (state + moved) % 4
        reward = -1.0 if (state, reached) == (3, 0) else float(reached == 1)
        outcomes.add(state, moved, reached, reward, False)
    assert outcomes.weights[3:].sum() > 0.99


def test_outcomes_of_steps_keep_their_places_as_further_ones_are_met():
    """By row, by place of the effect, by level; both axes grow."""
    outcomes = Outcomes(3, 1)
    outcomes.add(0, 0, 1, 0.0, False)
    outcomes.add(0, 1, 2, 0.0, False)
    outcomes.add(2, 1, 0, 1.0, True)
    assert outcomes.levels == [(0.0, False), (1.0, True)]
    assert outcomes.steps[:, :2].tolist() == [[[1, 0], [1, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 1]]]
    assert outcomes.steps.sum() == 3 and outcomes.steps.shape[0] == 3


def test_value_iteration_solves_the_equations():
    rng = np.random.default_rng(1)
    following = rng.integers(0, 5, (10, 3))
    weight = 0.9 * rng.dirichlet(np.ones(4), 10)
    steps = Steps(rng.random(10), following, weight[:, :3], weight[:, 3])
    values = np.zeros(5)
    found, _ = iterate(
        values, steps.cost, steps.following, steps.weight, steps.anywhere, 5000, 1e-12
    )
    best = found.min(1)
    moves = np.zeros((10, 5))
    for row in range(10):
        np.add.at(moves[row], following[row], steps.weight[row])
    expected = steps.cost + moves @ best + steps.anywhere * best.mean()
    assert found.ravel() == pytest.approx(expected, abs=1e-9)


def test_steps_are_the_mean_tables_with_costs_and_endings():
    transitions = Transitions(3, 1)
    outcomes = Outcomes(3, 1)
    for state, reached, reward, ended in [(0, 1, 0.0, False), (1, 2, 2.0, True)]:
        row, place = transitions.add(state, 0, reached)
        outcomes.add(row, place, reached, reward, ended)
    outcomes.log_evidence = np.array([0.0, *[-1e9] * 4])  # by the state reached
    prediction = certain(transitions, [1.0, 0.0, 0.0], 5, [[0.9, 0.1]])
    steps = Steps.lay_out(prediction.chances, transitions, outcomes, scale=3.0, discount=0.5)
    base = np.array([-1.5, 0.5])  # mean cost and share of endings of the action
    goal = (np.array([-3.0, 1.0]) + 0.1 * base) / 1.1
    assert steps.following[:2, 0].tolist() == [1, 2]
    assert steps.cost[1] == pytest.approx(goal[0])
    assert steps.weight[1, 0] == pytest.approx(0.5 * (1 - goal[1]))
    assert steps.anywhere[2] == pytest.approx(0.5 * 0.1 * 0.5)


def test_what_a_plan_tells_is_summed_over_its_steps():
    """A chain of three places: the plan goes on, and each step tells its own."""
    told = np.array([0.1, 0.7, 0.3, 0.2, 0.0, 0.5])  # two actions in each place
    following = np.array([[0], [1], [1], [2], [2], [2]])
    weight = np.array([[0.9], [0.9], [0.9], [0.9], [0.5], [0.5]])
    values = np.zeros(3)
    follow(values, told, np.array([1, 1, 0]), following, weight, np.zeros(6), 500, 1e-12)
    assert values == pytest.approx([0.7 + 0.9 * 0.2, 0.2, 0.0])


def test_a_ring_is_learned_and_walked_the_short_way():
    agent = ObservedAgent.build(Ring().observation_space, 2, {}, {"num_particles": 4}, 0)
    walk(agent, 6)
    assert agent.world.kinds.mean(0).argmax() in (0, 1)
    steps = agent.transitions.steps
    agent.freeze()
    assert walk(agent, 3) == [4, 4, 4]  # of two ways round, 4 and 5 steps
    assert agent.transitions.steps == steps


# -- several worlds at once ------------------------------------------------------------------------


WAY = 50  # steps of a corridor with a reward of 1 at its end; .5 is to be had at once


def corridor(agent, actions):
    """Live an episode of the corridor by given actions: 0 takes .5 at the start, all others go on."""
    agent.begin(seed=0)
    for place, action in enumerate(actions):
        agent.act({"state": np.array(place)})
        agent.actions[:] = action
        taken = place == 0 and action == 0
        last = place + 1 == WAY
        reached = place if taken or last else place + 1
        reward = 0.5 if taken else float(last)
        agent.feedback({"state": np.array(reached)}, reward, taken or last, False)


def test_a_frozen_agent_looks_ahead_for_as_long_as_episodes_last():
    """With .98 a step the end of the corridor is worth .37, where episodes last 200 steps .78."""
    space = gymnasium.spaces.Dict(state=gymnasium.spaces.Discrete(WAY))
    agent = ObservedAgent.build(space, 2, {}, {"inference": {"num_particles": 2}}, 0)
    for number in range(6):
        corridor(agent, [0])
        corridor(agent, [1] + [number % 2] * (WAY - 1))
    agent.freeze()
    agent.begin(seed=0)
    assert agent.act({"state": np.array(0)}) == 0
    agent.lengths.longest = 200
    assert agent.act({"state": np.array(0)}) == 1
    twin = ObservedAgent.build(space, 2, {}, {"inference": {"num_particles": 2}}, 0)
    twin.load_state_dict(agent.state_dict())
    assert twin.lengths.discount(0.98) == 0.995


def test_the_longest_episode_that_was_cut_off_is_found_in_every_world():
    lengths = EpisodeLengths()
    assert lengths.discount(0.9) == 0.9
    lengths.begin([1, 2])
    for cut in ([False, False], [False, True], [False, False], [True, False]):
        lengths.count(np.array(cut))
        lengths.begin([0 if over else None for over in cut])
    assert lengths.longest == 4 and lengths.running.tolist() == [0, 2]
    assert lengths.discount(0.5) == 0.75 and lengths.discount(0.8) == 0.8


def live_together(agent, worlds, steps, *, log=None):
    """Let an agent live in worlds for so many steps in all of them together; yields how many were made."""
    seen = [world.reset(seed=number)[0] for number, world in enumerate(worlds)]
    agent.begin_batch(seeds=list(range(len(worlds))))
    for made in range(0, steps, len(worlds)):
        actions = agent.act_batch(stacked(seen))
        outcomes = [world.step(action) for world, action in zip(worlds, actions, strict=True)]
        reached, rewards, ended, truncated, _ = zip(*outcomes, strict=True)
        if log is not None:
            log += zip(seen, actions, reached, strict=True)
        agent.feedback_batch(
            stacked(reached), np.array(rewards), np.array(ended), np.array(truncated)
        )
        seen = [
            world.reset()[0] if over else now
            for world, now, over in zip(worlds, reached, ended, strict=True)
        ]
        seeds = [made + b if over else None for b, over in enumerate(ended)]
        if any(ended):
            agent.begin_batch(seeds=seeds)
        yield made + len(worlds)


def test_every_transition_of_every_world_is_counted_in_its_own_row():
    agent = agent_of_ring(0)
    log = []
    assert list(live_together(agent, [Slippery() for _ in range(4)], 80, log=log))[-1] == 80
    expected = np.zeros((9, 2, 9))
    for before, action, reached in log:
        places = [3 * int(seen["ones"]) + int(seen["threes"][0]) for seen in (before, reached)]
        expected[places[0], action, places[1]] += 1
    found = np.zeros_like(expected)
    transitions = agent.transitions
    for row in transitions.visited:
        for place in range(transitions.distinct[row]):
            effect = transitions.effects[transitions.seen[row, place]]
            following = (row // 2 + effect) % 9
            found[row // 2, row % 2, following] = transitions.counts[row, place]
    assert np.array_equal(found, expected) and expected.sum() == 80


def test_what_an_action_tells_counts_for_one_world_only():
    """Nothing is known, and both worlds look the same: each tries another action."""
    for seed in range(10):
        agent = agent_of_ring(seed)
        agent.begin_batch(seeds=[0, 1])
        seen = stacked([Ring().reset()[0]] * 2)
        assert set(agent.act_batch(seen).tolist()) == {0, 1}


def steps_to_the_short_way(number, seed):
    """Steps in so many slippery rings until a frozen agent would go on at each place of the short way."""
    agent = agent_of_ring(seed)
    worlds = [Slippery() for _ in range(number)]
    short = [3 * (place % 3) + place // 3 for place in range(4)]
    for steps in live_together(agent, worlds, 240):
        if steps % 12 == 0:
            agent.freeze()
            costs = agent.expected_free_energy()
            agent.freeze(False)
            if (costs[short, 1] < costs[short, 0]).all():
                return steps
    return 240


def test_four_worlds_teach_as_much_as_one():
    """Steps until the ring is known, 10 lives each: means within four standard errors (1e-3 by Student's t)."""
    alone, together = (
        np.array([steps_to_the_short_way(number, seed) for seed in range(10)]) for number in (1, 4)
    )
    error = np.sqrt((alone.var(ddof=1) + together.var(ddof=1)) / 10)
    assert abs(alone.mean() - together.mean()) < 4 * error
    assert together.max() < 240


def test_a_life_that_is_taken_in_leaves_nothing_of_the_one_before():
    fresh = agent_of_ring(0).state_dict()
    agent = agent_of_ring(0)
    for _ in live_together(agent, [Ring()], 20):
        pass
    agent.load_state_dict(fresh)
    assert agent.explanation() is None and not agent.report().scalars
    assert not agent.memory.counts and not any(agent.memory.nats)
    assert not agent.told.any() and not agent.immediate.any() and agent.ahead is None


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (gymnasium.spaces.Box(0, 1), "expected Discrete"),
        (gymnasium.spaces.Discrete(3, start=1), "from 0 on"),
        (gymnasium.spaces.MultiDiscrete([200, 200]), "at most 20,000"),
    ],
)
def test_states_that_cannot_be_listed_are_refused(space, words):
    with pytest.raises(AgentError, match=words):
        state_sizes(space)


@pytest.mark.parametrize(
    ("value", "words"), [("big", "must be of type float"), (float("inf"), "a finite number")]
)
def test_a_scale_of_rewards_that_is_no_number_is_refused(value, words):
    with pytest.raises(AgentError, match=words):
        read({"reward_scale": value})


def test_defaults_are_said_once_for_all():
    """Of the class, of what its builder takes, and of its settings file."""
    signature = inspect.signature(ObservedAgent).parameters
    settings = load_config("train", "agent=discrete", "env=Gymnasium", "env.id=FrozenLake-v1")[
        "agent"
    ]
    for name, value in {**DEFAULTS, "precision": 16.0}.items():
        assert signature[name].default == value == settings[name], name
    declared = inspect.signature(ActiveInferenceAgent).parameters
    by_arrays = inspect.signature(DiscreteAgent).parameters
    for name in ("num_particles", "num_sweeps", "precision"):
        assert by_arrays[name].default == declared[name].default, name
