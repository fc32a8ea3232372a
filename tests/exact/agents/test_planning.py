"""The compiled parts of planning against their definitions, written without loops."""

from types import SimpleNamespace

import numba
import numpy as np
import pytest
import torch

from aif_dcpc.agents.compiled import compiled
from aif_dcpc.agents.gridworld.model.vocabulary import OUT_OF_SIGHT
from aif_dcpc.agents.gridworld.planning.belief import views_by_pose
from aif_dcpc.agents.gridworld.planning.distances import distances, least_effort
from aif_dcpc.agents.gridworld.planning.value_iteration import (
    one_step,
    optimal_value,
    predecessors,
    until_left,
)
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


def until_settled(parts, value_of_information_step):
    found = until_left(*parts)
    return optimal_value(
        *found,
        *predecessors(*found[2:]),
        value_of_information_step,
        np.full(STATES, -10.0),
        1e-10,
        1000,
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("stop", [-np.inf, -3.0])
def test_the_optimal_value_solves_its_equation(seed, stop):
    """Also where an action often leaves all as it is, bounded or not."""
    preference, flow, successor, bound = process(seed)
    here = np.arange(STATES)[:, None]
    successor[:, 0] = here[:, 0]
    bound = np.where(np.random.default_rng(seed).random(bound.shape) < 0.2, here, bound)
    bound[:, 0] = np.where(here[:, 0] % 2, here[:, 0], bound[:, 0])
    value_of_information_step = np.full(STATES, stop)
    value = until_settled((preference, flow, successor, bound), value_of_information_step)
    later = np.minimum(value[successor], value[bound])
    score = preference + np.einsum("nae,ne->na", flow, later)
    assert np.allclose(one_step(preference, flow, successor, bound, value), score)
    assert np.allclose(value, np.maximum(score.max(1), value_of_information_step), atol=1e-8)
    assert np.isfinite(value).all() and value.std() > 0


def test_an_action_goes_on_until_its_state_is_left():
    """One push in ten opens the door: -1 a push, -10 in all without a discount; by a bound it counts as a step."""
    preference = np.array([[-1.0], [0.0]])
    flow = np.array([[[0.9, 0.06, 0.04]], [[0.0, 0.0, 0.0]]])
    successor = np.array([[0, 1, 1], [1, 1, 1]])
    gain, total, after, limit, size = until_left(preference, flow, successor, successor)
    assert gain[0, 0] == pytest.approx(-10)
    assert size[0] == 1 and after[0, 0] == limit[0, 0] == 1
    assert total[0, 0, 0] == pytest.approx(1)
    capped = np.array([[1, 1, 1], [1, 1, 1]])
    gain, total, after, limit, size = until_left(preference, flow, successor, capped)
    assert gain[0, 0] == -1 and size[0] == 2
    assert total[0, :2, 0].tolist() == pytest.approx([0.9, 0.1])
    assert after[0, :2].tolist() == [0, 1] and limit[0, :2].tolist() == [1, 1]


@pytest.mark.parametrize("seed", range(3))
def test_what_hangs_on_a_state_is_what_it_may_follow(seed):
    _, _, successor, bound = process(seed)
    size = np.arange(STATES) % (EVENTS + 1)
    before, first = predecessors(successor, bound, size)
    for state in range(STATES):
        hang = {
            one
            for one in range(STATES)
            if state in successor[one, : size[one]] or state in bound[one, : size[one]]
        }
        assert set(before[first[state] : first[state + 1]].tolist()) == hang


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
