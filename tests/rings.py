"""Small worlds whose state is seen, what is learned in them, and how rows may slip, written out."""

import itertools

import gymnasium
import numpy as np

from aif_dcpc.agents.discrete.observed_agent import ObservedAgent
from aif_dcpc.agents.discrete.prediction import Prediction
from aif_dcpc.agents.discrete.transitions import Transitions
from aif_dcpc.agents.discrete.world import World


def tables_of_slips(usual, slips):
    """Every way to fill the three slots of a row: its probability and the row's table."""
    size = len(usual)
    for filling in itertools.product(range(size), repeat=3):
        table = np.zeros(size)
        np.add.at(table, list(filling), slips)
        yield np.prod(usual[list(filling)]), table


def lived(num_states=4, num_actions=2):
    """A few steps: action 0 goes on by one, action 1 stays or goes on."""
    transitions = Transitions(num_states, num_actions)
    for s in range(3):
        transitions.add(s, 0, s + 1)
        transitions.add(s, 1, s)
    for following in (2, 3, 2, 2):
        transitions.add(2, 1, following)
    return transitions


def certain(transitions, kinds, concentration, effects, slips=(0.5, 0.3, 0.2)):
    """A prediction by one particle; kinds that are not named have no share."""
    world = World(transitions, num_particles=1)
    world.kinds = np.array([[*kinds, 0.0]]) if len(kinds) == 3 else np.array([kinds])
    world.slips = np.array([slips])
    world.concentration = np.array([concentration])
    world.effects = np.array([effects], float)
    return Prediction(transitions, world)


class Ring(gymnasium.Env):
    """Nine places in a ring; action 1 goes on, action 0 back; the place opposite ends with reward."""

    def __init__(self):
        self.observation_space = gymnasium.spaces.Dict(
            ones=gymnasium.spaces.Discrete(3), threes=gymnasium.spaces.MultiDiscrete([3])
        )
        self.action_space = gymnasium.spaces.Discrete(2)

    def seen(self):
        return {"ones": self.place % 3, "threes": np.array([self.place // 3])}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return self.seen(), {}

    def step(self, action):
        self.place = (self.place + 2 * int(action) - 1) % 9
        return self.seen(), float(self.place == 4), self.place == 4, False, {}


def walk(agent, episodes, greedy=True):
    """Lengths of so many episodes."""
    env = Ring()
    lengths = []
    for episode in range(episodes):
        observation, _ = env.reset()
        agent.begin(seed=episode)
        ended = False
        lengths.append(0)
        while not ended:
            action = agent.act(observation, greedy=greedy)
            observation, reward, ended, truncated, _ = env.step(action)
            agent.feedback(observation, reward, ended, truncated)
            lengths[-1] += 1
    return lengths


class Slippery(Ring):
    """The ring, where one step in five goes the other way."""

    def step(self, action):
        slips = self.np_random.random() < 0.2
        return super().step(int(action) ^ slips)


def agent_of_ring(seed):
    return ObservedAgent.build(Ring().observation_space, 2, {}, {"num_particles": 4}, seed)
