"""The agent's map: it grows before anything wraps around, plans lie on it as the particles do, and it is recalled."""

import numpy as np
import pytest
import torch

from aif_dcpc import agents, envs
from aif_dcpc.agents import AgentError
from aif_dcpc.agents.gridworld.agent import HierarchicalAgent
from aif_dcpc.agents.gridworld.model.geometry import Geometry, geometry_of
from aif_dcpc.agents.protocol import EgocentricView

VIEW = EgocentricView(
    rows=3, columns=3, own_cell=(2, 1), num_tokens=4, unseen_token=99, empty_hand_token=0
)


def small(size: int = 8) -> Geometry:
    return geometry_of(VIEW, size)


@pytest.mark.parametrize("far", [0, 1, 3, 9, 30, -30])
def test_the_map_holds_all_that_was_seen_and_has_no_more_cells_than_it_needs(far: int) -> None:
    path = torch.tensor([(0, 0), (far, 2)])
    grown = small().holding(path)
    seen = {
        (int(y) + dy, int(x) + dx) for y, x in path for dy in range(-2, 3) for dx in range(-2, 3)
    }
    assert len({(y % grown.size, x % grown.size) for y, x in seen}) == len(seen)
    assert grown.size // 2 < abs(far) + 1 + 2 * 4
    assert small(32).holding(path[:1]).size == 32


def test_cells_are_laid_out_without_wrapping() -> None:
    geometry = small(16)
    path = torch.tensor([(-3, 5), (4, 9)])
    origin = geometry.origin(path)
    places = geometry.unwrapped(origin)
    assert (places >= origin).all() and (places < origin + 16).all()
    assert (places % 16 @ [16, 1] == np.arange(256)).all()
    for y, x in path.tolist():
        for away in (-2, 2):
            assert (places == (y + away, x + away)).all(1).any()


def learner(
    id: str = "MiniGrid-Empty-16x16-v0", view_size: int = 7, **settings: object
) -> tuple[HierarchicalAgent, object]:
    env = envs.make("MiniGrid", id=id, agent_view_size=view_size)
    agent = agents.make(
        "hierarchical",
        observation_space=env.observation_space,
        action_space=env.action_space,
        metadata=env.metadata,
        settings=settings,
        seed=0,
    )
    assert isinstance(agent, HierarchicalAgent)
    return agent, env


def test_what_a_map_is_started_with_changes_no_thought() -> None:
    """Twelve cells ahead on a map of eight or of a hundred: the same position, the same cells."""
    walk = [2] * 6 + [1] + [2] * 12
    positions = []
    for size in (8, 100):
        agent, env = learner(map_size=size, inference={"num_particles": 8, "num_sweeps": 0})
        observation, _ = env.reset(seed=0)
        agent.begin(seed=0)
        for action in walk:
            agent.act(observation)
            agent.action = action
            observation, reward, ended, cut, _ = env.step(action)
            agent.feedback(observation, float(reward), ended, cut)
        agent.act(observation)
        geometry = agent.episode_filter.geometry
        belief = agent.belief
        assert belief is not None
        places = geometry.unwrapped(belief.origin)[belief.seen]
        assert len(np.unique(places, axis=0)) == belief.seen.sum()
        extent = belief.pose[:, :2].max(0) - belief.pose[:, :2].min(0)
        assert geometry.size >= extent.max() + 2 * geometry.reach
        positions.append(geometry.size)
    assert positions[0] < 100 and positions[1] == 100


def test_a_state_of_another_format_is_refused_in_a_sentence() -> None:
    agent, _ = learner()
    state = agent.state_dict()
    agent.load_state_dict(state)
    del state["format"]
    with pytest.raises(AgentError, match=r"format 1.*train the agent anew"):
        agent.load_state_dict(state)


def test_all_that_is_given_is_told() -> None:
    agent, _ = learner()
    told = " ".join(agent.knowledge)
    for given in ("view", "sight", "motion", "only its own actions", "misread", "sign", "mission"):
        assert given in told


def test_an_agent_that_was_there_twice_knows_where_the_goal_is_before_it_sees_it() -> None:
    """A room of 6 x 6, larger than a view of 3 x 3: in the third episode the goal is believed in from the start."""
    torch.set_num_threads(1)
    agent, env = learner("MiniGrid-Empty-6x6-v0", view_size=3)
    for episode in range(3):
        observation, _ = env.reset(seed=episode)
        agent.begin(seed=episode)
        over = False
        while not over:
            action = agent.act(observation)
            if episode == 2:
                break
            observation, reward, ended, cut, _ = env.step(action)
            agent.feedback(observation, float(reward), ended, cut)
            over = ended or cut
        assert episode == 2 or reward > 0
    assert "goal" not in [
        env.get_wrapper_attr("describe_token")(t) for t in observation["view"].ravel()
    ]
    tokens = agent.episode_filter.vocabulary.tokens.members
    goal = next(
        slot
        for slot, token in enumerate(tokens)
        if "goal" in env.get_wrapper_attr("describe_token")(token)
    )
    assert agent.belief.cells[:, goal].max() > 0.5
