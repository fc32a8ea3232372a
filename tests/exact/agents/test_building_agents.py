"""Names, builders and settings of agents; what every agent does by default; preferences of the grid agent."""

import gymnasium
import numpy as np
import pytest
import torch

from aif_dcpc.agents import AgentError, BaseAgent, check_name, make
from aif_dcpc.agents.builders import actions_for, check_agent, find_builder
from aif_dcpc.agents.preferences import Preferences
from aif_dcpc.agents.protocol import number_of
from aif_dcpc.agents.random_agent import RandomAgent
from aif_dcpc.agents.settings import check_ranges, read_settings, require_streams

SPACE = gymnasium.spaces.Discrete(3)


class Stubborn(BaseAgent):
    """Its favourite, again and again."""

    def __init__(self, num_actions: int, seed: int, *, favourite: int = 0) -> None:
        super().__init__(num_actions, seed)
        self.favourite = favourite

    def act(self, observation, *, greedy=True):
        return self.favourite


class OfSpace(Stubborn):
    """The same for a space of actions."""

    def __init__(self, action_space: gymnasium.Space, seed: int) -> None:
        BaseAgent.__init__(self, action_space, seed)
        self.favourite = 1


def test_an_agent_has_defaults_for_all_but_act() -> None:
    agent = Stubborn.build(SPACE, SPACE, {}, {"favourite": 2, "inference": {"num_sweeps": 3}}, 4)
    assert agent.act({}) == 2 and agent.num_actions == 3 and agent.seed == 4 and not agent.frozen
    assert agent.feedback({}, 1.0, False, False) is None and agent.report().scalars == {}
    assert agent.explanation() is None and "Stubborn has not said why" in agent.explain()
    agent.freeze()
    assert agent.frozen
    agent.freeze(False)
    assert not agent.frozen
    agent.begin(seed=7)
    expected = torch.rand((), generator=torch.Generator().manual_seed(4 * 1_000_003 + 7))
    state = agent.state_dict()
    assert torch.rand((), generator=agent.generator) == expected
    agent.load_state_dict(state)
    assert torch.rand((), generator=agent.generator) == expected
    with pytest.raises(AgentError, match="favorite"):
        Stubborn.build(SPACE, 3, {}, {"favorite": 2}, 0)
    box = gymnasium.spaces.Box(-1, 1, (2,))
    assert OfSpace.build(SPACE, box, {}, {}, 0).num_actions == 0
    assert OfSpace.build(SPACE, SPACE, {}, {}, 0).action_space is SPACE
    with pytest.raises(AgentError, match="discrete actions"):
        Stubborn.build(SPACE, box, {}, {}, 0)
    with pytest.raises(NotImplementedError, match="BaseAgent"):
        BaseAgent(3, 0).act({})


def test_actions_are_counted_or_refused() -> None:
    assert number_of(4, "x") == number_of(np.int64(4), "x") == 4 and number_of(SPACE, "x") == 3
    with pytest.raises(AgentError, match="agent 'x' chooses among discrete"):
        number_of(gymnasium.spaces.Box(-1, 1), "x")
    with pytest.raises(AgentError, match="agent 'x' chooses among actions from 0 on"):
        number_of(gymnasium.spaces.Discrete(2, start=5), "x")
    assert actions_for("x", Stubborn.build, SPACE) is SPACE  # its build looks at the constructor

    def by_number(observation_space, num_actions, metadata, settings, seed):
        return None

    def by_space(observation_space, action_space, metadata, settings, seed):
        return None

    assert actions_for("x", by_number, SPACE) == 3 and actions_for("x", by_space, SPACE) is SPACE


def test_builders_are_found_by_name_or_refused() -> None:
    known = {
        "mine": "aif_dcpc.agents.random_agent:RandomAgent",
        "none": "aif_dcpc.agents.builders:ARGUMENTS",
    }
    assert find_builder("mine", known) == RandomAgent.build
    assert find_builder("aif_dcpc.agents.random_agent:RandomAgent", {}) == RandomAgent.build
    for name, words in (
        ("mne", "mine"),
        ("nowhere_at_all:Agent", "no module 'nowhere_at_all'"),
        ("aif_dcpc.agents.random_agent:Nobody", "Nobody"),
        ("none", "neither a builder nor a class"),
        ("aif_dcpc.agents.builders:check_agent", "neither a builder nor a class"),
        ("aif_dcpc.agents.preferences:Preferences", "neither a builder nor a class"),
    ):
        with pytest.raises(AgentError, match=words):
            find_builder(name, known)
    check_name("random")
    with pytest.raises(AgentError, match="random"):
        check_name("randm")
    agent = Stubborn(3, 0)
    assert check_agent("x", agent) is agent
    with pytest.raises(AgentError, match="'x' has no begin, act"):
        check_agent("x", object())
    made = make(
        "random", observation_space=SPACE, action_space=SPACE, metadata={}, settings={}, seed=3
    )
    assert isinstance(made, RandomAgent) and made.seed == 3 and made.num_actions == 3


# -- random actions ------------------------------------------------------------------------------------


def test_random_actions_are_even_over_what_can_be_done() -> None:
    """Within bounds; 20 from the only bound there is, 10 around zero without any; whole numbers up to the last."""
    box = gymnasium.spaces.Box(
        np.array([-1.0, 2.0, -np.inf, -np.inf]),
        np.array([1.0, np.inf, 5.0, np.inf]),
        dtype=np.float64,
    )
    drawn = np.array([RandomAgent(box, 0)._any(2000)])[0]
    assert drawn.shape == (2000, 4)
    for column, (low, high) in enumerate([(-1, 1), (2, 22), (-15, 5), (-10, 10)]):
        part = drawn[:, column]
        assert part.min() >= low and part.max() <= high
        assert abs(part.mean() - (low + high) / 2) < 5 * (high - low) / (12 * 2000) ** 0.5
        assert part.max() - part.min() > 0.98 * (high - low)
    whole = gymnasium.spaces.Box(-1, 2, (3,), np.int64)  # as many below zero as above
    drawn = RandomAgent(whole, 0)._any(4000)
    share = np.bincount(drawn.ravel() + 1, minlength=4) / drawn.size
    assert drawn.dtype == np.int64 and np.abs(share - 0.25).max() < 5 * (3 / 16 / drawn.size) ** 0.5
    several = RandomAgent(gymnasium.spaces.MultiDiscrete([2, 5]), 0)._any(2000)
    assert several.min(0).tolist() == [0, 0] and several.max(0).tolist() == [1, 4]
    bits = RandomAgent(gymnasium.spaces.MultiBinary(3), 0)._any(2000)
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / 6000**0.5 and set(np.unique(bits)) == {0, 1}
    agent = RandomAgent(SPACE, 0)
    assert {agent.act({}) for _ in range(60)} == {0, 1, 2} and type(agent.act({})) is int
    assert RandomAgent(box, 0).act({}).shape == (4,)
    agent.begin_batch(seeds=[3, 5, None])
    many = agent.act_batch({"state": np.zeros((7, 2))})
    agent.begin(seed=5)
    assert many.shape == (7,) and np.array_equal(many, agent.act_batch({"state": np.zeros((7, 2))}))


def test_random_actions_count_from_where_their_space_does() -> None:
    numbers = gymnasium.spaces.Discrete(3, start=5)
    assert RandomAgent(numbers, 0).act({}) in numbers
    assert set(RandomAgent(numbers, 0)._any(60).tolist()) == {5, 6, 7}
    several = RandomAgent(gymnasium.spaces.MultiDiscrete([2, 3], start=[1, 5]), 0)._any(200)
    assert several.min(0).tolist() == [1, 5] and several.max(0).tolist() == [2, 7]


# -- settings -------------------------------------------------------------------------------------------


def test_settings_keep_their_types_and_defaults() -> None:
    common, own = read_settings(
        {"inference": {"num_particles": 3}, "depth": 4, "window": 5}, depth=2, rate=0.5
    )
    assert own == {"depth": 4, "rate": 0.5}
    assert common == {
        "num_particles": 3, "num_sweeps": 1, "window": 5, "precision": 16.0, "learning_rate": 0.01,
        "learning_steps": 20,
    }  # fmt: skip
    _, own = read_settings({"rate": 1, "name": None}, rate=0.5, name="x")
    assert own == {"rate": 1.0, "name": None} and type(own["rate"]) is float
    assert read_settings({"scale": 2}, {"scale": float}, scale=None)[1] == {"scale": 2.0}
    assert read_settings({"window": None, "inference": {"update": "exact"}})[0]["window"] is None
    low = {
        "num_particles": 1,
        "num_sweeps": 0,
        "window": 1,
        "learning_steps": 0,
        "learning_rate": 0.0,
        "precision": 0.0,
    }
    assert read_settings(low)[0] == low
    for key, value in low.items():
        with pytest.raises(AgentError, match=f"{key}={value - 1}: expected at least {value:g}"):
            read_settings({key: value - 1})
    for settings, words in (
        ({"depth": 2.0}, "depth must be of type int"),
        ({"depth": True}, "depth must be of type int"),
        ({"rate": "high"}, "rate must be of type float"),
        ({"window": 2.5}, "window must be of type int"),
        ({"precision": float("nan")}, "precision=nan: expected a finite number"),
        ({"rate": float("inf")}, "rate=inf: expected a finite number"),
        ({"scale": "big"}, "scale must be of type float, not 'big'"),
        ({"dept": 3}, "'depth'"),
        ({"inference": {"update": "paper"}}, "inference.update must be 'exact'"),
    ):
        with pytest.raises(AgentError, match=words):
            read_settings(settings, {"scale": float}, depth=2, rate=0.5, scale=None)


def test_ranges_hold_both_ends() -> None:
    ranges = {"a": (0.5, 2.0), "b": (1, float("inf"))}
    for values in ({"a": 0.5, "b": 1}, {"a": 2.0, "b": 1e9}, {"a": None, "b": None}):
        check_ranges(values, ranges)
    with pytest.raises(AgentError, match=r"a=0\.4: expected at least 0\.5, at most 2\."):
        check_ranges({"a": 0.4, "b": 1}, ranges)
    with pytest.raises(AgentError, match=r"a=2\.1"):
        check_ranges({"a": 2.1, "b": 1}, ranges)
    with pytest.raises(AgentError, match=r"b=0: expected at least 1\."):
        check_ranges({"a": 1.0, "b": 0}, ranges)


def test_a_missing_stream_is_named() -> None:
    space = gymnasium.spaces.Dict({"state": SPACE, "outcome": SPACE})
    require_streams("x", space, ["outcome"])
    with pytest.raises(AgentError, match="no 'cue', but "):
        require_streams("x", space, ["outcome", "cue"])
    with pytest.raises(AgentError, match="a single one"):
        require_streams("x", SPACE, ["cue"])


# -- preferences ------------------------------------------------------------------------------------------


def test_reward_is_expected_and_soon() -> None:
    """By outcome: going on or ended, with loss, nothing or reward."""
    wish = Preferences(step_cost=4.0, discount=0.75)
    assert wish.log_preference_of_never == -16.0
    assert wish.log_preference().tolist() == [-8, -4, 0, -8, -4, 0]
    assert wish.goes_on().tolist() == [1, 1, 1, 0, 0, 0]
    assert wish.tail().tolist() == [0, 0, 0, -16, -16, 0]
    assert wish.tail(-3.0).tolist() == [0, 0, 0, -3, -3, 0] and wish.tail(0.0)[3] == 0
    assert Preferences().discount == 0.97
