"""The settings of the grid agent: each keeps to its range and its kind."""

import numpy as np
import pytest

from aif_dcpc import envs
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.gridworld.model.counts import Counts
from aif_dcpc.agents.gridworld.requirements import RULES, view_of
from aif_dcpc.agents.gridworld.settings import HierarchicalSettings, hierarchical_settings
from aif_dcpc.agents.protocol import EgocentricView

EDGES = {
    "knowledge": (["egocentric_view"], ["none", "a view", 3]),
    "inference.update": (["exact"], ["langevin", "approximate"]),
    "inference.num_particles": ([1, 50], [0, -1]),
    "inference.num_sweeps": ([0, 3], [-1]),
    "map_size": ([8, 1000], [7, 1001]),
    "precision": ([0.1, 30], [0, -2.0]),
    "preferences.step_cost": ([0.01], [0.0, -1.0]),
    "preferences.discount": ([0.01, 0.999], [0.0, 1.0, 1.5]),
    "preferences.lasting": ([0.0, 20.0], [-0.1]),
    "search.configurations": ([1, 9], [0, -1]),
    "search.per_event": ([1, 3], [0, -1]),
    "search.min_probability": ([0.01, 0.9], [0.0, 1.0, -0.1]),
    "search.passable": ([0.01, 0.9], [0.0, 1.0, -0.1]),
    "replay.capacity": ([1], [0]),
    "replay.refreshed": ([0, 2], [-1]),
    "replay.sweeps": ([0, 2], [-1]),
    "prior.stay": ([0.1], [0.0, 1.0]),
    "prior.stay_alike": ([0.1], [0.0, 1.0]),
    "prior.nothing": ([0.1], [0.0, 1.0]),
    "prior.deterministic": ([0.1], [0.0, 1.0]),
    "prior.hand_matters": ([0.1], [0.0, 1.0]),
    "prior.effect_odds": ([0.1], [0.0]),
    "prior.ahead_odds": ([0.1], [0.0]),
    "prior.token_concentration": ([0.1], [0.0]),
    "prior.misread": ([[1, 2.5], (0.1, 3)], [[1], [1, 0], [0, 1], [1, 2, 3], 0.5, ["a", 1], [-1, 2]]),
}  # fmt: skip


@pytest.mark.parametrize("path", EDGES)
def test_a_setting_keeps_to_its_range(path: str) -> None:
    group, _, key = path.rpartition(".")
    good, bad = EDGES[path]
    for value in good:
        found = hierarchical_settings({group: {key: value}} if group else {key: value})
        part = getattr(found, group) if group else found
        assert getattr(part, key) == (tuple(value) if isinstance(value, list) else value)
    for value in bad:
        with pytest.raises(AgentError, match=f"agent setting {path} must "):
            hierarchical_settings({group: {key: value}} if group else {key: value})
    assert set(EDGES) == set(RULES)


def test_a_view_may_be_given_by_its_fields() -> None:
    env = envs.make("MiniGrid", id="MiniGrid-Empty-5x5-v0")
    fields = env.metadata["egocentric_view"]
    view = EgocentricView(**fields)
    for given in (fields, view):
        found = view_of(env.observation_space, {"egocentric_view": given})
        assert all(np.array_equal(getattr(found, name), fields[name]) for name in fields)
    short = {name: value for name, value in fields.items() if name != "own_cell"}
    for given in (short, {}, None, 3, {**fields, "kind": 2}):
        with pytest.raises(AgentError, match="egocentric symbolic views"):
            view_of(env.observation_space, {"egocentric_view": given})


def test_settings_of_another_kind_are_refused() -> None:
    assert hierarchical_settings({}) == HierarchicalSettings()
    assert hierarchical_settings({"precision": 3}).precision == 3
    for values, words in (
        ({"map_size": 9.0}, "map_size must be of type int"),
        ({"map_size": True}, "map_size must be of type int"),
        ({"precision": "high"}, "precision must be of type float"),
        ({"knowledge": 3}, "knowledge must be of type str"),
        ({"prior": 3}, "'prior' must be a group of keys"),
        ({"prior": {"stays": 0.3}}, "'prior.stays'"),
        ({"priors": {}}, "'priors'"),
    ):
        with pytest.raises(AgentError, match=words):
            hierarchical_settings(values)
    assert isinstance(Counts, type)
