"""Why this action, of every agent: totals are the sums of what is shown, in words, on charts and in pictures.

Oracle: the definitions of the terms (`agents/explain.py`); the pixels of the pictures.
"""

import numpy as np
import pytest

from aif_dcpc import agents, envs
from aif_dcpc.agent_runs.assembly import agent_metadata
from aif_dcpc.agent_runs.recorder import action_names
from aif_dcpc.agents.explain import CHOSEN, OTHERS, SHOWN, WIDTH, Explanation
from aif_dcpc.agents.panels import HEIGHT, WORDS

SMALL = {
    "discrete": ({"name": "Gymnasium", "id": "FrozenLake-v1"}, {"inference": {"num_particles": 2}}),
    "gaussian": (
        {"name": "Gymnasium", "id": "Pendulum-v1"},
        {"num_waves": 16, "horizon": 5, "candidates": 8, "inference": {"num_particles": 4}},
    ),
    "hierarchical": (
        {"name": "MiniGrid", "id": "MiniGrid-Empty-5x5-v0"},
        {"map_size": 12, "inference": {"num_particles": 4, "num_sweeps": 1}},
    ),
    "tmaze": ({"name": "TMaze"}, {"inference": {"num_particles": 8}}),
}


def lived(name: str, steps: int = 4):
    """An agent after some steps of one episode, and its world."""
    world, settings = SMALL[name]
    env = envs.make(**world)
    agent = agents.make(
        name,
        observation_space=env.observation_space,
        action_space=env.action_space,
        metadata=agent_metadata(env),
        settings=settings,
        seed=0,
    )
    observation, _ = env.reset(seed=0)
    agent.begin(seed=0)
    for _ in range(steps):
        action = agent.act(observation)
        observation, reward, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
        agent.feedback(observation, float(reward), terminated, truncated)
    return agent, env


def test_every_agent_of_the_package_is_here() -> None:
    assert set(SMALL) == set(agents.NAMES) - {"random"}


@pytest.fixture(scope="module", params=SMALL)
def explained(request):
    """Name, agent and world of each agent, after a choice."""
    return (request.param, *lived(request.param))


def test_totals_are_sums_of_the_terms(explained) -> None:
    name, agent, _ = explained
    found = agent.explanation()
    terms = found.terms
    novelty = terms.get("novelty", 0.0)
    beyond = terms.get("horizon_value", 0.0)
    by_value = terms["neg_expected_log_preference"] - terms["information_gain"] - novelty + beyond
    assert found.total == pytest.approx(by_value, rel=1e-4, abs=1e-3)
    apart = terms["information_gain"] if name == "hierarchical" else 0.0
    by_risk = terms["risk"] + terms["ambiguity"] - novelty - apart + beyond
    assert found.total == pytest.approx(by_risk, rel=1e-4, abs=1e-3)


def test_charts_are_sums_too(explained) -> None:
    name, agent, _ = explained
    found = agent.report().scalars
    if name == "discrete":
        step = found["efe_step/risk"] - found["efe_step/novelty"]
        assert found["efe_step/total"] == pytest.approx(step)
        both = found["efe/this_step"] + found["efe/later_steps"]
        assert found["efe/total"] == pytest.approx(both)
    whole = found["efe/risk"] + found["efe/ambiguity"] - found.get("efe/novelty", 0.0)
    whole += found.get("efe/horizon_value", 0.0)
    whole -= found["efe/information_gain"] if name == "hierarchical" else 0.0
    assert found["efe/total"] == pytest.approx(whole, rel=1e-4, abs=1e-3)


def test_the_words_name_the_alternatives_and_the_choice(explained) -> None:
    _, agent, env = explained
    names = action_names(env)
    found = agent.explanation(names)
    lines = found.text().splitlines()
    starred = [line for line in lines[1:] if "*" in line]
    assert len(lines) == 1 + min(len(found.total), SHOWN) and len(starred) == 1
    assert f"{found.labels[found.chosen]}*" in starred[0]
    assert f"{found.total[found.chosen]:.3f}" in starred[0]
    assert agent.explain(names) == found.text()
    if names is not None:
        assert set(found.labels) <= {" ".join(words) for words in _phrases(names)} | set(names)


def _phrases(names):
    return [(name,) for name in names]


def test_pictures_are_of_one_size(explained) -> None:
    _, agent, _ = explained
    assert agent.explanation().picture().shape == (HEIGHT + WORDS, WIDTH, 3)


def test_bars_are_as_long_as_the_costs_above_the_least() -> None:
    total = np.array([7.0, 3.0, np.inf, 5.0])
    found = Explanation(list("abcd"), total, {"risk": total}, 3)
    assert found.order() == [1, 3, 0, 2]
    page = found.picture()[:HEIGHT].astype(int)
    rows = [row * HEIGHT // SHOWN + 5 for row in range(4)]  # between text and the end of a bar
    bars = [
        (np.abs(page[row] - colour).sum(1) == 0).sum()
        for row, colour in zip(rows, (OTHERS, CHOSEN, OTHERS, OTHERS), strict=True)
    ]
    # 0, 2 and 4 nats above the least of at most 4; what is infinite is cut at the longest
    assert bars[0] <= 3 and bars[1] == pytest.approx(102, abs=3)
    assert bars[2] == pytest.approx(202, abs=3) and bars[3] == pytest.approx(202, abs=30)


def test_the_chosen_one_is_shown_however_bad() -> None:
    total = np.arange(20.0)
    found = Explanation([str(i) for i in range(20)], total, {}, 19)
    assert found.order() == [0, 1, 2, 3, 4, 5, 6, 19]


def test_an_agent_without_reasons_says_so() -> None:
    assert (
        "as likely"
        in agents.make(
            "random",
            observation_space=None,  # it does not look
            action_space=envs.make("TMaze").action_space,
            metadata={},
            settings={},
            seed=0,
        ).explain()
    )
