"""Worlds whose observation is not the whole state are told; those where it is never are."""

import warnings

import gymnasium
import numpy as np
import pytest

from aif_dcpc.agents.discrete.memory_check import ENOUGH, MemoryCheck
from aif_dcpc.agents.discrete.observed_agent import ObservedAgent
from aif_dcpc.agents.errors import AgentWarning


def check_of_walk(seed, *, length=2000, states=4, actions=2, results=3, end=0.1):
    """Walk at random through tables drawn at random."""
    source = np.random.default_rng(seed)
    tables = source.dirichlet(np.ones(results), (states, actions))
    leads = source.integers(states, size=(states, actions, results))
    check = MemoryCheck()
    check.begin([0])
    state = 0
    for _ in range(length):
        action = int(source.integers(actions))
        result = int(source.choice(results, p=tables[state, action]))
        check.count(0, state, state * actions + action, result)
        state = int(leads[state, action, result])
        if source.random() < end:
            check.begin([0])
            state = 0
    return check


@pytest.mark.parametrize("seed", range(8))
def test_a_world_whose_state_is_seen_gives_no_evidence(seed):
    """By Ville's inequality with a chance of 6e-6 at most in each."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check = check_of_walk(seed)
    assert max(check.nats) < 3 and min(check.nats) < -5


def test_evidence_is_what_both_foretell_written_out():
    """One row, three results; the second episode begins elsewhere."""
    check = MemoryCheck()
    check.begin([0])
    check.count(0, 5, 1, "a")  # new: says nothing
    check.count(0, 7, 1, "a")  # a was all; all contexts say the same
    check.count(0, 7, 1, "b")  # new again
    check.count(0, 7, 1, "a")  # 2/3 in the row; 1 of b after 7, of a, a, b after 5 at first
    after_7 = (0 + 2 / 3) / (1 + 1)
    first_5 = (2 + 2 / 3) / (3 + 1)
    assert check.nats == pytest.approx([np.log(after_7 / (2 / 3)), np.log(first_5 / (2 / 3))])
    check.begin([1])
    check.count(0, 9, 1, "b")
    assert check.nats[0] == pytest.approx(2 * np.log(1 / 2))  # a, and no b, began an episode


def test_an_episode_that_begins_is_a_context_of_its_own():
    """State 1 before is one context, no state before another; so are worlds whose episodes begin."""
    check = MemoryCheck()
    check.begin([0, 0])
    check.count(0, 1, 7, "a")  # no state before
    check.count(0, 1, 7, "b")  # state 1 before
    check.begin([1, None])
    check.count(0, 1, 7, "a")  # half of both, all of what began an episode
    assert check.nats[0] == pytest.approx(np.log((1 + 1 / 2) / 2 / (1 / 2)))
    check.count(1, 1, 7, "a")  # its own first: two of three; both that began were a
    assert check.nats[0] == pytest.approx(np.log(3 / 2) + np.log((2 + 2 / 3) / 3 / (2 / 3)))


class Lights(gymnasium.Env):
    """A light tells which of two arms pays, then a corridor and a fork, which may tell as well."""

    observation_space = gymnasium.spaces.Discrete(8)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, told):
        self.told = told

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.side = int(self.np_random.integers(2))
        self.waited = 0
        return self.side, {}

    def step(self, action):
        self.waited += 1
        corridor, fork = (4 + self.side, 6 + self.side) if self.told else (2, 3)
        if self.waited < 3:
            return (corridor, fork)[self.waited - 1], 0.0, False, False, {}
        return fork, float(action == self.side), True, False, {}


def live(env, steps):
    agent = ObservedAgent.build(
        gymnasium.spaces.Dict(state=env.observation_space),
        2,
        {},
        {"inference": {"num_particles": 2}},
        0,
    )
    over = True
    for number in range(steps):
        if over:
            observation, _ = env.reset(seed=number)
            agent.begin(seed=number)
        action = agent.act({"state": observation})
        observation, reward, over, _, _ = env.step(action)
        agent.feedback({"state": observation}, reward, over, False)
    return agent


def test_an_agent_says_once_that_it_does_not_see_the_whole_state():
    with pytest.warns(AgentWarning, match="first state of the episode") as caught:
        agent = live(Lights(told=False), 300)
    assert len(caught) == 1 and agent.memory.nats[1] > ENOUGH


def test_an_agent_that_sees_it_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent = live(Lights(told=True), 300)
    assert max(agent.memory.nats) < ENOUGH
