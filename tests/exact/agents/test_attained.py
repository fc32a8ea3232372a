"""What was attained of a preference, and what it makes of novelty and of what is imagined beyond an end."""

import math

import gymnasium
import numpy as np
import pytest
import torch

from aif_dcpc.agents.gaussian.agent import GaussianAgent
from aif_dcpc.agents.gaussian.attained import Attained, by_use
from aif_dcpc.agents.gaussian.preferences import WISHES


def noted(*states):
    """After states of which the log preference is said, and whether the episode ended there."""
    attained = Attained()
    for value, ended in states:
        attained.note(value, ended=ended)
    return attained


def test_novelty_has_no_bound_before_anything_was_seen():
    novelty = torch.rand(4, 3)
    assert torch.equal(Attained().bounded(novelty), novelty)
    assert Attained().worth(5) == math.inf


def test_novelty_is_worth_what_is_left_to_gain():
    """The sequence that tells most counts for 3 steps of .5; the others in proportion."""
    novelty = torch.tensor([[4.0, 1.0, 1.0], [2.0, 1.0, 0.0]])
    attained = noted((-2.0, False), (-0.5, False), (-1.0, False))
    assert attained.bounded(novelty).sum(1).tolist() == pytest.approx([1.5, 0.75])
    assert torch.equal(attained.bounded(novelty / 100), novelty / 100)
    assert not noted((0.0, False)).bounded(novelty).any()


def test_what_is_told_sooner_serves_more_steps():
    """Of three steps the first serves three, the last one: as much in all where every step tells the same."""
    told = torch.tensor([[2.0, 2.0, 2.0], [6.0, 0.0, 0.0], [0.0, 0.0, 6.0]])
    assert by_use(told).tolist() == [[3.0, 2.0, 1.0], [9.0, 0.0, 0.0], [0.0, 0.0, 3.0]]
    assert by_use(told[:, :1]).equal(told[:, :1])


@pytest.mark.parametrize(
    ("states", "final"),
    [
        ([(-1.0, False), (-0.2, True), (-0.1, True)], -0.2),
        ([(-0.2, True), (-0.15, False), (-0.1, True)], -0.1),
        ([(-0.1, True), (-0.05, False)], math.inf),
        ([(-3.0, True), (-0.5, False)], math.inf),
        ([], math.inf),
    ],
)
def test_an_end_is_where_every_state_so_good_was_one(states, final):
    assert noted(*states).final == final


def test_only_what_follows_an_end_is_beyond_it():
    attained = noted((-1.0, False), (0.0, True))
    levels = torch.tensor([[[-1.0, 0.0, -2.0, -1.0], [-1.0, -1.0, -0.5, 0.0]]])
    expected = [[[False, False, True, True], [False, False, False, False]]]
    assert attained.beyond(levels).tolist() == expected
    assert not Attained().beyond(levels).any()


def test_it_is_kept():
    attained = noted((-1.0, False), (-0.5, True))
    twin = Attained()
    twin.load_state_dict(attained.state_dict())
    assert twin == attained


class Corridor(gymnasium.Env):
    """A place on a line; the world ends at 1."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = np.zeros(1)
        return self.place.copy(), {}

    def step(self, action):
        self.place = self.place + (0.25 if action else -0.25)
        return self.place.copy(), 0.0, bool(self.place[0] >= 1), False, {}


def test_an_agent_notes_what_it_meets_and_how_episodes_end(monkeypatch):
    """Four steps to the right: best and end are the last place, the one before is gone on from."""
    monkeypatch.setitem(WISHES, "end", lambda s, a: -(1.0 - s[..., 0]).clamp(min=0) - a.sum(-1))
    space = gymnasium.spaces.Dict(state=Corridor.observation_space)
    small = {"num_waves": 4, "horizon": 3, "candidates": 8, "inference": {"num_particles": 2}}
    settings = {**small, "preference": "end"}
    agent = GaussianAgent.build(space, Corridor.action_space, {}, settings, 0)
    env = Corridor()
    observation, _ = env.reset(seed=0)
    agent.begin(seed=0)
    over = False
    while not over:
        agent.act({"state": observation})
        agent.life.act(torch.tensor([1]))
        observation, reward, over, _, _ = env.step(1)
        agent.feedback({"state": observation}, reward, over, False)
    assert agent.judge.attained == Attained(best=0.0, going_on=-0.25, ended=[0.0])
    agent.freeze()
    agent.begin(seed=1)
    agent.act({"state": np.array([0.9])})
    assert agent.judge.attained.going_on == -0.25


def test_what_is_imagined_beyond_an_end_neither_costs_nor_tells(monkeypatch):
    """With a preference that falls beyond 1, sequences that reach it cost nothing from there on."""
    monkeypatch.setitem(WISHES, "end", lambda s, a: -(1.0 - s[..., 0]).abs())
    space = gymnasium.spaces.Dict(state=Corridor.observation_space)
    small = {"num_waves": 4, "horizon": 6, "candidates": 8, "inference": {"num_particles": 2}}
    agent = GaussianAgent.build(space, Corridor.action_space, {}, {**small, "preference": "end"}, 0)
    env = Corridor()
    observation, _ = env.reset(seed=0)
    agent.begin(seed=0)
    for step in range(40):
        agent.act({"state": observation})
        action = int(step % 8 < 4)  # to the right, and back
        agent.life.act(torch.tensor([action]))
        observation, reward, _, _, _ = env.step(action)
        agent.feedback({"state": observation}, reward, False, False)
    agent.act({"state": observation})
    policies = torch.ones(1, 6, dtype=torch.long)
    before = agent.judge(agent.situation(), policies)
    agent.judge.attained.load_state_dict({"best": -0.1, "going_on": -0.3, "ended": [-0.1]})
    after = agent.judge(agent.situation(), policies)
    costs = after["neg_expected_log_preference"][0].tolist()
    assert costs == pytest.approx([0.75, 0.5, 0.25, 0.0, 0.1, 0.1], abs=0.05)
    assert before["neg_expected_log_preference"][0, 4:].tolist() == pytest.approx(
        [0.25, 0.5], abs=0.05
    )
    assert not after["novelty"][0, 4:].any() and bool((after["novelty"][0, :4] > 0).all())
