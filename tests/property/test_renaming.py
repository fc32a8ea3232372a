"""Tokens, colours and action ids are opaque: an agent in a renamed world thinks the same thoughts under other names."""

import numpy as np
import pytest

from aif_dcpc import agents, envs
from aif_dcpc.agent_runs.assembly import Env, agent_metadata
from aif_dcpc.agents.gridworld.agent import HierarchicalAgent


def build(permute_seed: int | None) -> tuple[Env, HierarchicalAgent]:
    """A world and an agent for it."""
    env = envs.make("MiniGrid", permute_seed=permute_seed)
    agent = agents.make(
        "hierarchical",
        observation_space=env.observation_space,
        action_space=env.action_space,
        metadata=agent_metadata(env),
        settings={"inference": {"num_sweeps": 0}},
        seed=0,
    )
    assert isinstance(agent, HierarchicalAgent)
    return env, agent


def centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean()


@pytest.mark.parametrize("permute_seed", [1, 2])
def test_expected_free_energies_are_renamed_with_the_world(permute_seed: int) -> None:
    """Both live through the same random walk; every action of one is worth what its namesake is to the other.

    Up to rounding: an arrival draws the same for both. Sweeps are left out, which redraw the tables
    of one action picked by its number: alike in distribution, not draw by draw.
    """
    plain, first = build(None)
    renamed, second = build(permute_seed)
    meaning = renamed.get_wrapper_attr("actions")  # what each of the new action ids does
    name = np.argsort(meaning)
    walk = np.random.default_rng(permute_seed).integers(7, size=16)
    ours, _ = plain.reset(seed=5)
    theirs, _ = renamed.reset(seed=5)
    first.begin(seed=0)
    second.begin(seed=0)
    by_name = []  # largest difference of expected free energies, nats, at each step
    by_number = []  # the same where actions are not renamed
    for action in walk.tolist():
        first.act(ours)
        second.act(theirs)
        assert first.plan is not None and second.plan is not None
        expected = centred(first.plan.expected_free_energy)
        found = centred(second.plan.expected_free_energy)
        by_name.append(np.abs(found[name] - expected).max())
        by_number.append(np.abs(found - expected).max())
        first.action = action
        second.action = int(name[action])
        ours, reward, ended, cut, _ = plain.step(first.action)
        theirs, *_ = renamed.step(second.action)
        first.feedback(ours, float(reward), ended, cut)
        second.feedback(theirs, float(reward), ended, cut)
        assert not (ended or cut)
    # sums over actions are made in the order of their numbers, some in single precision
    assert max(by_name) < 1e-4
    assert max(by_number) > 0.1  # the names matter
