"""What the search over abstract states opens first, and how it values the effects that it does not open."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aif_dcpc.agents.gridworld.model.geometry import MOTIONS, Geometry, geometry_of
from aif_dcpc.agents.gridworld.planning.abstract_states import Search, SearchBudget
from aif_dcpc.agents.gridworld.planning.belief import Belief, PosteriorTables
from aif_dcpc.agents.gridworld.planning.region import Region, region_of
from aif_dcpc.agents.protocol import EgocentricView

FLOOR, WALL, GOAL, KEY = range(4)
FORWARD, TURN, GRASP = range(3)
AHEAD = 4  # motion by one cell
SPOILED = 8  # the goal becomes a wall
GRASPED = 9  # the key is in hand, its cell empty


def corridor(
    tokens: list[int], *, spoils: float, grasps: float
) -> tuple[Belief, PosteriorTables, Region, Geometry]:
    """A corridor in which all is known; the agent stands on its first cell and looks along it."""
    view = EgocentricView(
        rows=3, columns=3, own_cell=(2, 1), num_tokens=4, unseen_token=99, empty_hand_token=0
    )
    geometry = geometry_of(view, 16)
    y, x = geometry.start
    cells = np.tile(np.eye(4)[WALL], (16 * 16, 1))
    seen = np.zeros(16 * 16, dtype=bool)
    for place, token in enumerate(tokens):
        cells[y * 16 + x + place] = np.eye(4)[token]
        seen[y * 16 + x + place] = True
    origin = geometry.origin(torch.tensor([(y, x)]))
    belief = Belief(
        origin, cells, np.eye(4)[WALL], seen, np.array([(y, x, 0)]), np.ones(1), 0, 0, {}
    )
    transition = np.zeros((3, 4, 2, 10))
    transition[:, :, :, 0] = 1
    for token, event, chance in (
        (FLOOR, AHEAD, 1.0),
        (GOAL, AHEAD, 1 - spoils),
        (GOAL, SPOILED, spoils),
    ):
        transition[FORWARD, token, :, [0, event]] = np.array([1 - chance, chance])[:, None]
    transition[FORWARD, GOAL, :, 0] = 0
    transition[TURN, :, :, [0, 1]] = np.array([0.0, 1.0])[:, None, None]
    transition[GRASP, KEY, 0, [0, GRASPED]] = 1 - grasps, grasps
    outcome = np.full((2, 13, 4, 6), 1 / 6)
    none = np.zeros((3, 4, 2)), np.zeros((2, 13, 4))
    effects = np.array([[-1] * 8 + [WALL, FLOOR], [-1] * 8 + [-1, 1]])
    steps = geometry_of(view, 16).steps
    tables = PosteriorTables(
        transition=transition,
        transition_without_optimism=transition,
        transition_novelty=none[0],
        outcome=outcome,
        outcome_without_optimism=outcome,
        outcome_novelty=none[1],
        transparency=np.ones(4),
        misread=0.0,
        num_tokens=4,
        steps=np.concatenate([steps, np.zeros((2, 4, 2), dtype=np.int64)]),
        turns=np.append(MOTIONS[:, 0], [0, 0]),
        writes=np.tile(effects[0][:, None, None], (1, 5, 2)),
        takes=np.tile(effects[1][:, None, None], (1, 5, 2)),
    )
    return belief, tables, region_of(belief, tables, geometry), geometry


@pytest.mark.parametrize(
    ("chance", "most", "columns"), [(0.11, 27, 9), (0.09, 27, 4), (0.11, 26, 4)]
)
def test_a_plan_reaches_to_where_the_reward_may_well_be(
    chance: float, most: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless so many cells were to be looked at that a plan took too long."""
    monkeypatch.setattr("aif_dcpc.agents.gridworld.planning.region.MOST", most)
    belief, tables, region, geometry = corridor([FLOOR, FLOOR], spoils=0.0, grasps=1.0)
    assert region.shape == (3, 4)
    outcome = np.zeros_like(tables.outcome)
    outcome[..., 1] = 1
    outcome[:, 3 + AHEAD, GOAL] = np.eye(6)[5]
    y, x = geometry.start
    cells = belief.cells.copy()
    cells[y * 16 + x + 6] = [0, 1 - chance, chance, 0]
    tables = replace(tables, outcome=outcome)
    found = region_of(replace(belief, cells=cells), tables, geometry)
    assert found.shape == (3, columns)


def test_a_plan_is_made_for_every_particle() -> None:
    """One stands three cells beyond what the likeliest has seen."""
    belief, tables, region, geometry = corridor([FLOOR, FLOOR], spoils=0.0, grasps=1.0)
    far = belief.pose + np.array([0, 4, 0])
    apart = replace(belief, pose=np.concatenate([belief.pose, far]), weights=np.array([0.9, 0.1]))
    assert region.shape == (3, 4)
    found = region_of(apart, tables, geometry)
    assert found.shape == (3, 7)
    assert found.place(int(found.state(far[0])) % found.num_cells) == tuple(far[0, :2])


def test_a_harm_that_was_foreseen_is_not_forgotten_after_a_detour() -> None:
    """Three abstract states: as it is, goal spoiled, key taken. With the key in hand the search opens nothing more."""
    belief, tables, region, _ = corridor([FLOOR, GOAL, FLOOR, FLOOR, KEY], spoils=0.5, grasps=1.0)
    search = Search(belief, tables, region, SearchBudget(configurations=3))
    hands = [node.hand for node in search.found]
    spoiled = hands.index(0, 1)
    taken = hands.index(1)
    assert not search.found[taken].children
    size = len(region.cell_ahead)
    start = int(region.state(belief.pose[0]))
    after, bound = search.successors()
    # as if nothing had changed ...
    assert after[taken * size + start, SPOILED] == taken * size + start
    # ... but no better than the goal spoiled
    assert bound[taken * size + start, SPOILED] == spoiled * size + start
    opened = (0 * size + start, SPOILED)
    assert after[opened] == bound[opened] == spoiled * size + start
    motions = slice(0, len(MOTIONS))
    assert (after[:, motions] == bound[:, motions]).all()


def test_what_can_be_had_once_is_not_hoped_for_again_where_it_was_not_opened() -> None:
    """The key is taken once the goal is spoiled; as it is, nobody tried: it is worth no more there."""
    belief, tables, region, _ = corridor([FLOOR, GOAL, KEY], spoils=0.5, grasps=1.0)
    search = Search(belief, tables, region, SearchBudget(configurations=3))
    taken = [node.hand for node in search.found].index(1)
    spoiled = 3 - taken
    at = next(at for at in search.found[0].children if at[1] == GRASPED)
    search.found[spoiled].children[at] = search.found[0].children.pop(at)
    search.found[taken].parent = spoiled
    size = len(region.cell_ahead)
    before_key = int((region.cell_ahead == at[0]).nonzero()[0][0])
    after, bound = search.successors()
    assert after[before_key, GRASPED] == before_key
    assert bound[before_key, GRASPED] == taken * size + before_key
    search.found[spoiled].cells[at[0]] = np.eye(4)[FLOOR]  # nothing like it lies there
    _, bound = search.successors()
    assert bound[before_key, GRASPED] == before_key


@pytest.mark.parametrize(("turn", "far"), [(0, 3), (1, 5), (2, 3)])
def test_what_lies_far_off_is_opened_by_turns(turn: int, far: int) -> None:
    """Three goals that may be spoiled; the budget holds the nearest, and one of the others is opened beside it."""
    belief, tables, region, geometry = corridor(
        [FLOOR, GOAL, FLOOR, GOAL, FLOOR, GOAL], spoils=0.5, grasps=1.0
    )
    budget = SearchBudget(configurations=2, per_event=1)
    search = Search(belief, tables, region, budget, turn=turn)
    y, x = geometry.start
    spoiled = [region.place(*node.changes) for node in search.found[1:]]
    assert sorted(spoiled) == [(y, x + 1), (y, x + far)]
    assert len(search.found) == 3


@pytest.mark.parametrize(("spoils", "grasps", "first_hand"), [(0.9, 0.06, 0), (0.06, 0.9, 1)])
def test_what_happens_soonest_is_opened_first(
    spoils: float, grasps: float, first_hand: int
) -> None:
    """Two steps away or three: what decides is the steps until it has happened, 1 / chance of them trying."""
    belief, tables, region, _ = corridor([FLOOR, FLOOR, GOAL, KEY], spoils=spoils, grasps=grasps)
    search = Search(belief, tables, region, SearchBudget(configurations=2))
    second = Search(belief, tables, region, SearchBudget(configurations=3))
    assert len(search.found) == 2
    assert search.found[1].hand == first_hand
    assert second.found[1].key == search.found[1].key  # a larger budget begins alike


def test_what_was_brought_about_since_the_last_plan_is_intended_no_longer() -> None:
    """The plan was: clear the way, then take the key. The way is clear by now, and the key is still opened."""
    belief, tables, region, geometry = corridor(
        [FLOOR, WALL, FLOOR, GOAL, KEY], spoils=0.5, grasps=1.0
    )
    y, x = geometry.start
    cells = belief.cells.copy()
    cells[y * 16 + x + 1] = np.eye(4)[FLOOR]
    belief = replace(belief, cells=cells)
    done = (y, x + 1, FLOOR)
    taken = (y, x + 4, FLOOR)
    budget = SearchBudget(configurations=1)
    intended = [(0, 0, (done,)), (1, 0, (done, taken))]
    search = Search(belief, tables, region, budget, intended)
    assert search.goals([0, 1]) == [(0, 0, ((y, x + 4, KEY),)), (1, 0, (taken,))]


def test_goals_tell_what_lies_wherever_one_of_them_changes_something() -> None:
    """Two things may be done; each goal tells of both cells, so that it is known when it is undone."""
    belief, tables, region, geometry = corridor([FLOOR, GOAL, KEY], spoils=0.5, grasps=1.0)
    search = Search(belief, tables, region, SearchBudget(configurations=3))
    y, x = geometry.start
    spoiled = 3 - [node.hand for node in search.found].index(1)
    left = {(0, GOAL, KEY), (1, GOAL, FLOOR), (0, WALL, KEY)}
    places = (y, x + 1), (y, x + 2)
    told = search.goals([0, 1, 2])
    assert {(hand, *(token for *_, token in cells)) for hand, _, cells in told} == left
    assert all(tuple(cell[:2] for cell in cells) == places for *_, cells in told)
    alone = search.goals([spoiled])
    assert alone == [(0, 0, ((y, x + 1, WALL),))]


def test_a_milestone_may_be_any_token() -> None:
    """What is written when the key is taken is the floor, slot 0: if that is the milestone, it is passed then."""
    belief, tables, region, _ = corridor([FLOOR, KEY], spoils=0.0, grasps=1.0)
    budget = SearchBudget(configurations=2)
    for milestone, passed in ((FLOOR, 1), (WALL, 0), (-1, 0)):
        search = Search(belief, replace(tables, milestone=milestone), region, budget)
        assert [(node.hand, node.passed) for node in search.found] == [(0, 0), (1, passed)]


def test_states_are_numbered_by_heading_then_by_cell() -> None:
    belief, _, region, _ = corridor([FLOOR, GOAL, KEY], spoils=0.0, grasps=0.0)
    y, x, _ = belief.pose[0].tolist()
    for heading in range(4):
        for cell in (0, 2):
            state = region.state(np.array([y, x + cell, heading]))
            assert state == heading * region.num_cells + region.cell(y, x + cell)
