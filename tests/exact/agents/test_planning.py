"""The compiled parts of planning against their definitions, written without loops."""

from types import SimpleNamespace

import numba
import numpy as np
import pytest
import torch

from aif_dcpc.agents.gridworld.compiled import compiled
from aif_dcpc.agents.gridworld.model.vocabulary import OUT_OF_SIGHT
from aif_dcpc.agents.gridworld.planning.belief import views_by_pose
from aif_dcpc.agents.gridworld.planning.distances import distances, least_effort
from aif_dcpc.agents.gridworld.planning.policy_iteration import merged, optimal_value
from aif_dcpc.agents.gridworld.planning.visibility import (
    Transparency,
    information_at,
    still_holds,
    visible_information,
)

STATES = 12
ACTIONS = 3
EVENTS = 4
NONE = np.zeros(0, np.int64)


def process(seed):
    source = np.random.default_rng(seed)
    flow = 0.9 * source.dirichlet(np.ones(EVENTS), (STATES, ACTIONS))
    successor, bound = source.integers(0, STATES, (2, STATES, EVENTS))
    bound = np.where(source.random((STATES, EVENTS)) < 0.3, bound, successor)
    return -source.random((STATES, ACTIONS)), flow, successor, bound


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("stop", [-np.inf, -3.0])
def test_the_optimal_value_solves_its_equation(seed, stop):
    preference, flow, successor, bound = process(seed)
    value_of_information_step = np.full(STATES, stop)
    value = optimal_value(
        preference,
        *merged(flow, successor, bound),
        value_of_information_step,
        np.full(STATES, -10.0),
        1e-10,
        1000,
    )
    later = np.minimum(value[successor], value[bound])
    best = (preference + np.einsum("nae,ne->na", flow, later)).max(1)
    assert np.allclose(value, np.maximum(best, value_of_information_step), atol=1e-8)
    assert np.isfinite(value).all() and value.std() > 0


def test_distances_and_efforts_by_hand():
    # a row of four: event 0 steps on, event 1 goes to the start
    successor = np.array([[1, 0], [2, 0], [3, 0], [3, 0]])
    allowed = np.array([[True, True], [True, True], [False, True], [True, True]])
    found = distances(successor, allowed, np.array([0]))
    assert found.tolist() == [0, 1, 2, np.inf]
    effort = least_effort(found, np.array([0.5, 0.05, 0.5, 0.9]), np.array([0, 1, 0, 2]), 3, 0.1)
    assert effort.tolist() == [2, np.inf, np.inf]  # 0 + 1 / .5; too unlikely; no way


def test_information_is_what_comes_into_sight():
    """A corridor: own cell, then three cells one behind the other; what lies behind a wall is out of sight."""
    nearer = np.array([[-1, -1, -1], [0, -1, -1], [1, -1, -1], [2, -1, -1]])
    outwards = np.array([1, 2, 3])
    clear = np.array([1.0, 0.75, 0.5, 0.2])
    information = np.array([9.0, 1.0, 2.0, 4.0])
    view = np.arange(4)
    transparency = np.array([0.9, 0.05])
    ask = (clear, information, view, nearer, outwards, 0)
    assert visible_information(*ask, NONE) == pytest.approx(1 + 0.75 * 2 + 0.375 * 4)
    # it was seen that the last cell is out of sight, with tokens as clear as now
    seen = np.array([0, 0, 0, -1])
    assert still_holds(clear, view, outwards, seen, transparency)
    assert visible_information(*ask, seen) == pytest.approx(1 + 2)
    wall = np.array([0, 1, 0, -1])  # a wall stood there: the memory says nothing about the present
    assert not still_holds(clear, view, outwards, wall, transparency)
    # where less is let through now, no more is in sight than was then
    shut = np.array([1.0, 0.1, 0.5, 0.2])
    assert still_holds(shut, view, outwards, seen, transparency)
    # of two memories the one that holds counts; of two that hold, the one by which less is told
    layout = nearer, outwards, 0
    found = information_at(
        clear[None],
        information[None],
        np.zeros(2, np.int64),
        np.stack([view, view]),
        *layout,
        np.array([[1, 0], [1, -1]]),
        np.stack([seen, wall]),
        transparency,
    )
    assert found.tolist() == pytest.approx([1 + 2, 1 + 0.75 * 2 + 0.375 * 4])
    both = information_at(
        clear[None],
        information[None],
        np.zeros(1, np.int64),
        view[None],
        *layout,
        np.array([[0, 1]]),
        np.stack([seen, np.array([0, 0, -1, -1])]),
        transparency,
    )
    assert both.tolist() == pytest.approx([1])


def test_nothing_known_of_a_token_is_even_odds_to_see_past_it():
    """Beta(1, 1): no looks, then three past it and one not."""
    known = Transparency.new(2)
    known.counts[1] = 3, 1
    assert known.mean().tolist() == pytest.approx([1 / 2, 4 / 6])


def test_of_the_views_from_a_pose_those_that_showed_most_are_remembered():
    """Two doors beside one pose, open or shut: what the open ones let see is not forgotten for shut ones."""
    out = OUT_OF_SIGHT
    looks = [[0, 0, 0], [0, 0, out], [out, 0, 0], [out, 0, out], [out, out, out]]
    walked = SimpleNamespace(position=torch.zeros(1, len(looks), 2, dtype=torch.long))
    seen = SimpleNamespace(
        heading=torch.zeros(len(looks), dtype=torch.long), view=torch.tensor(looks)
    )
    kept = views_by_pose(walked, seen, 0)[0, 0, 0]
    assert [view.tolist() for view in kept] == [looks[1], looks[2], looks[0]]


def test_where_nothing_can_be_written_compiled_loops_stay_in_memory(monkeypatch):
    compile_loop = numba.njit

    def read_only(*args, cache=False):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_loop(*args)

    monkeypatch.setattr(numba, "njit", read_only)
    assert compiled(lambda x: x + 1)(1) == 2
