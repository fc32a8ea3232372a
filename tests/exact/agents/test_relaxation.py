"""What is still needed for reward: corridors with a key, a locked door and a goal behind it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aif_dcpc.agents.gridworld.model.geometry import MOTIONS, geometry_of
from aif_dcpc.agents.gridworld.planning.abstract_states import Search, SearchBudget
from aif_dcpc.agents.gridworld.planning.arrivals import ArrivalTables
from aif_dcpc.agents.gridworld.planning.belief import Belief, PosteriorTables
from aif_dcpc.agents.gridworld.planning.plan import Plan
from aif_dcpc.agents.gridworld.planning.planner import Planner
from aif_dcpc.agents.gridworld.planning.region import Region, region_of
from aif_dcpc.agents.gridworld.planning.relaxation import Outlook, Relaxation
from aif_dcpc.agents.preferences import Preferences
from aif_dcpc.agents.protocol import EgocentricView

FLOOR, WALL, BALL, KEY, LOCKED, OPEN = range(6)
EMPTY, HOLDS, BALL_HELD = range(3)  # nothing in hand, the key, the ball
FORWARD, TURN, GRASP, TOGGLE, DROP = range(5)
AHEAD = 4  # motion by one cell
TURNED = 1
TAKEN, UNLOCKED, PUT = 8, 9, 10
SIZE = 32
VIEW = EgocentricView(
    rows=3, columns=3, own_cell=(2, 1), num_tokens=6, unseen_token=99, empty_hand_token=0
)


def corridor(
    tokens: list[int], *, at: int = 0, succeeds: float = 1.0
) -> tuple[Belief, PosteriorTables, Region]:
    """A corridor in which all is known, with the agent on one of its cells, looking along it.

    A key is taken by an empty hand, unlocks a door in hand, and is put on a floor; a ball is
    rewarded if an empty hand grasps it. Each of these succeeds with the same probability.
    """
    geometry = geometry_of(VIEW, SIZE)
    y, x = geometry.start
    cells = np.tile(np.eye(6)[WALL], (SIZE * SIZE, 1))
    seen = np.zeros(SIZE * SIZE, dtype=bool)
    for place, token in enumerate(tokens):
        cells[y * SIZE + x + place] = np.eye(6)[token]
        seen[y * SIZE + x + place] = True
    pose = np.array([(y, x + at, 0)])
    origin = geometry.origin(torch.tensor([(y, x)]))
    nothing = np.ones(1), EMPTY, 0, {}
    belief = Belief(origin, cells, np.eye(6)[WALL], seen, pose, *nothing)
    transition = np.zeros((5, 6, 3, 11))
    transition[..., 0] = 1
    for token in (FLOOR, OPEN):
        transition[FORWARD, token, :, [0, AHEAD]] = np.array([0.0, 1.0])[:, None]
    transition[TURN, :, :, [0, TURNED]] = np.array([0.0, 1.0])[:, None, None]
    for action, token, hand, event in (
        (GRASP, KEY, EMPTY, TAKEN),
        (GRASP, BALL, EMPTY, TAKEN),
        (TOGGLE, LOCKED, HOLDS, UNLOCKED),
        (DROP, FLOOR, HOLDS, PUT),
    ):
        transition[action, token, hand, [0, event]] = 1 - succeeds, succeeds
    outcome = np.zeros((2, 5 + 11, 6, 6))
    outcome[..., 1] = 1  # it goes on without reward
    outcome[:, 5 + TAKEN, BALL] = np.eye(6)[5]
    writes = np.full((11, 7, 3), -1)
    takes = np.full((11, 7, 3), -1)
    writes[TAKEN] = FLOOR
    takes[TAKEN, KEY] = HOLDS
    takes[TAKEN, BALL] = BALL_HELD
    writes[UNLOCKED] = OPEN
    writes[PUT] = KEY
    takes[PUT] = EMPTY
    tables = PosteriorTables(
        transition=transition,
        transition_without_optimism=transition,
        transition_novelty=np.zeros((5, 6, 3)),
        outcome=outcome,
        outcome_without_optimism=outcome,
        outcome_novelty=np.zeros((2, 16, 6)),
        transparency=np.ones(6),
        misread=0.0,
        num_tokens=6,
        steps=np.concatenate([geometry.steps, np.zeros((3, 4, 2), dtype=np.int64)]),
        turns=np.append(MOTIONS[:, 0], [0, 0, 0]),
        writes=writes,
        takes=takes,
    )
    return belief, tables, region_of(belief, tables, geometry)


def reckon(belief: Belief, tables: PosteriorTables) -> Plan:
    """The plan of a belief; a budget of one abstract state."""
    planner = Planner(Preferences(), SearchBudget(configurations=1))
    return planner.plan(belief, tables, geometry_of(VIEW, SIZE))


def outlook(belief: Belief, tables: PosteriorTables, region: Region, hand: int = EMPTY) -> Outlook:
    """The outlook of the present state, with something in hand."""
    search = Search(belief, tables, region, SearchBudget(configurations=1))
    entries = region.state(belief.pose)
    return Relaxation(tables, region).outlook(search.found[0].cells, hand, belief.passed, entries)


def helpful(found: Outlook, region: Region, belief: Belief) -> set[tuple[int, int]]:
    """Helpful interactions as (cell of the corridor, event)."""
    _, x, _ = belief.pose[0]
    return {(region.place(cell)[1] - x, event) for cell, event in found.helpful}


@pytest.mark.parametrize("distance", [1, 2, 5])
@pytest.mark.parametrize("succeeds", [1.0, 0.5, 0.25])
def test_reward_in_sight_is_as_far_as_the_way_and_the_trials(
    distance: int, succeeds: float
) -> None:
    """d - 1 steps until it is ahead, then 1 / p trials; nothing needs to be brought about before."""
    belief, tables, region = corridor([FLOOR] * distance + [BALL], succeeds=succeeds)
    found = outlook(belief, tables, region)
    assert found.effort == pytest.approx(distance - 1 + 1 / succeeds)
    assert not found.helpful


@pytest.mark.parametrize(("size", "trials"), [(0.9, 1 / 0.9), (0.3, 1 / 0.3), (0.01, 5.0)])
def test_a_small_reward_is_one_to_plan_for_and_as_far_as_a_small_chance(
    size: float, trials: float
) -> None:
    """At most as far as the least chance that plans are made for; as a mere chance it would be none."""
    belief, tables, region = corridor([FLOOR, FLOOR, BALL])
    outcome = tables.outcome.copy()
    outcome[:, 5 + TAKEN, BALL] = [0, 0, 0, 0, 1 - size, size]
    small = replace(tables, outcome_without_optimism=outcome, of_any_size=tables)
    assert outlook(belief, small, region).effort == pytest.approx(1 + trials)
    chance = outlook(belief, replace(small, of_any_size=None), region)
    assert (chance.effort == np.inf) == (size < 0.2)


def test_each_step_to_reward_is_told_when_its_turn_comes() -> None:
    """First the key, then the door with the key in hand; with all done, nothing more."""
    tokens = [FLOOR, KEY, FLOOR, LOCKED, FLOOR, BALL]
    belief, tables, region = corridor(tokens)
    found = outlook(belief, tables, region)
    assert helpful(found, region, belief) == {(1, TAKEN)}
    belief, tables, region = corridor([FLOOR, FLOOR, FLOOR, LOCKED, FLOOR, BALL])
    with_key = outlook(belief, tables, region, hand=HOLDS)
    # the door stands three cells on; the hand is full, and reward takes an empty one
    assert (3, UNLOCKED) in helpful(with_key, region, belief)
    assert with_key.effort < found.effort
    belief, tables, region = corridor([FLOOR, FLOOR, FLOOR, OPEN, FLOOR, BALL])
    unlocked = outlook(belief, tables, region, hand=HOLDS)
    assert {event for _, event in helpful(unlocked, region, belief)} == {PUT}
    assert unlocked.effort < with_key.effort
    done = outlook(belief, tables, region)
    assert not done.helpful
    assert done.effort == pytest.approx(5)  # four steps ahead, one grasp


def test_conditions_add_up() -> None:
    """The key is taken in 1 step. Door: 1 ahead by then. Each condition is counted from the start."""
    belief, tables, region = corridor([FLOOR, KEY, LOCKED, BALL])
    # take 1; pass its cell 1 + 1; unlock: hand 1 + ahead 2 + 1 = 4; through: to_state 2 + 4 + 1 ...
    take = 1.0
    behind_key = take + 1  # steps to the cell where the key lay: the key must be gone, and a step
    unlock = take + behind_key + 1
    behind_door = behind_key + unlock + 1
    assert outlook(belief, tables, region).effort == pytest.approx(behind_door + 1)


def test_no_way_is_no_way() -> None:
    """A locked door without a key; and a world in which nothing is known to be rewarded."""
    belief, tables, region = corridor([FLOOR, FLOOR, LOCKED, BALL])
    assert outlook(belief, tables, region) == Outlook(np.inf, frozenset())
    belief, tables, region = corridor([FLOOR, KEY])
    assert outlook(belief, tables, region).effort == np.inf
    belief, tables, region = corridor([FLOOR, BALL], succeeds=0.1)
    assert outlook(belief, tables, region).effort == np.inf  # rewarded less than is known


def test_what_may_lie_unseen_counts_by_its_chance() -> None:
    """A ball may lie in the second cell with probability .05: twenty trials, and one step to it."""
    belief, tables, region = corridor([FLOOR, FLOOR, FLOOR])
    y, x, _ = belief.pose[0]
    belief.cells[y * SIZE + x + 2] = np.eye(6)[FLOOR] * 0.95 + np.eye(6)[BALL] * 0.05
    assert outlook(belief, tables, region).effort == pytest.approx(1 + 20)
    belief.cells[y * SIZE + x + 2] = np.eye(6)[FLOOR] * 0.995 + np.eye(6)[BALL] * 0.005
    assert outlook(belief, tables, region).effort == np.inf


def test_a_milestone_comes_first() -> None:
    """The ball is rewarded only once the door was opened, which lies behind the agent's key."""
    belief, tables, region = corridor([BALL, FLOOR, KEY, LOCKED], at=1)
    outcome = tables.outcome_without_optimism.copy()
    outcome[0] = np.eye(6)[1]
    tables = replace(tables, outcome_without_optimism=outcome, milestone=OPEN)
    found = outlook(belief, tables, region)
    assert helpful(found, region, belief) == {(1, TAKEN)}
    passed = replace(belief, passed=1)
    assert not outlook(passed, tables, region).helpful
    assert outlook(passed, tables, region).effort < found.effort
    tables = replace(tables, milestone=-1)
    assert outlook(belief, tables, region).effort == np.inf


def test_to_stand_before_a_thing_may_be_what_is_wanted() -> None:
    """Outcomes that hang on what is ahead after a step are reward as well."""
    belief, tables, region = corridor([FLOOR, FLOOR, FLOOR, KEY])
    events = np.zeros(11, dtype=bool)
    events[AHEAD] = True
    outcome = np.zeros((2, 11, 6, 6))
    outcome[..., 1] = 1
    outcome[:, AHEAD, KEY] = np.eye(6)[5]
    arrivals = ArrivalTables(events, outcome, outcome, np.zeros((2, 11, 6)))
    found = outlook(belief, replace(tables, arrivals=arrivals), region)
    assert found.effort == pytest.approx(3)  # two steps, and once more for the outcome
    assert not found.helpful


def test_the_search_opens_the_way_to_reward_before_anything_nearer() -> None:
    """Three doors can be shut beside the way; four abstract states are enough for key, door and drop."""
    belief, tables, region = corridor(
        [OPEN, OPEN, FLOOR, OPEN, FLOOR, KEY, FLOOR, LOCKED, FLOOR, BALL], at=2
    )
    transition = tables.transition_without_optimism.copy()
    shut = 11
    transition = np.concatenate([transition, np.zeros((5, 6, 3, 1))], -1)
    transition[TOGGLE, OPEN, :, [0, shut]] = np.array([0.0, 1.0])[:, None]
    writes = np.concatenate([tables.writes, np.full((1, 7, 3), LOCKED)])
    takes = np.concatenate([tables.takes, np.full((1, 7, 3), -1)])
    outcome = np.zeros((2, 5 + 12, 6, 6))
    outcome[:, :16] = tables.outcome
    outcome[:, 16, :, 1] = 1  # shutting a door
    tables = replace(
        tables,
        transition=transition,
        transition_without_optimism=transition,
        outcome=outcome,
        outcome_without_optimism=outcome,
        writes=writes,
        takes=takes,
        steps=np.concatenate([tables.steps, np.zeros((1, 4, 2), dtype=np.int64)]),
        turns=np.append(tables.turns, 0),
    )
    region = region_of(belief, tables, geometry_of(VIEW, SIZE))
    search = Search(belief, tables, region, SearchBudget(configurations=4, per_event=1))
    _, x, _ = belief.pose[0]
    made = [
        (
            node.hand,
            {
                region.place(cell)[1] - x: token
                for cell, token in node.changes.items()
                if token != KEY
            },
        )
        for node in search.found[:4]
    ]
    taken = {3: FLOOR}
    assert made[:3] == [(EMPTY, {}), (HOLDS, taken), (HOLDS, {**taken, 5: OPEN})]
    assert made[3] == (EMPTY, {**taken, 5: OPEN})


def test_what_moves_by_itself_is_waited_for() -> None:
    """A door blocks the way to the ball, and to run into it ends all; next time it may have gone."""
    belief, tables, _ = corridor([FLOOR, LOCKED, BALL])
    outcome = tables.outcome.copy()
    outcome[:, FORWARD, LOCKED] = np.eye(6)[3]  # ends badly
    tables = replace(tables, outcome=outcome, outcome_without_optimism=outcome)
    y, x, _ = belief.pose[0]
    later = belief.cells.copy()
    later[y * SIZE + x + 1] = np.eye(6)[FLOOR]
    never = -Preferences().log_preference_of_never
    hopeless = reckon(belief, tables).expected_free_energy
    assert hopeless[1:].min() > never - 1
    waits = reckon(replace(belief, later=later), tables).expected_free_energy
    assert waits[FORWARD] == pytest.approx(hopeless[FORWARD])  # it stands there now
    # one step of waiting with no matter what, one ahead, and the grasp, each but the last at 10 nats
    assert waits[DROP] == pytest.approx(10 * (1 + 0.97), abs=0.5)
    assert waits.argmin() != FORWARD


def test_what_helps_is_opened_before_what_is_near() -> None:
    """To take the key costs more than it brings nearer, as dropping it seldom succeeds; open doors may be pulled down.

    A budget of four holds the whole chain: the key taken, the door unlocked, the key dropped behind it.
    """
    belief, tables, region = corridor(
        [OPEN, OPEN, OPEN, FLOOR, KEY, FLOOR, FLOOR, LOCKED, FLOOR, BALL], at=3
    )
    chance = tables.transition.copy()
    chance[GRASP, OPEN, EMPTY] = np.eye(11)[TAKEN]
    chance[DROP, FLOOR, HOLDS, [0, PUT]] = 0.8, 0.2
    tables = replace(tables, transition=chance, transition_without_optimism=chance)
    search = Search(belief, tables, region, SearchBudget(configurations=4))
    found = [(node.hand, sorted(node.changes.values())) for node in search.found[:4]]
    assert found == [
        (EMPTY, []),
        (HOLDS, [FLOOR]),
        (HOLDS, [FLOOR, OPEN]),
        (EMPTY, [FLOOR, KEY, OPEN]),
    ]


@pytest.mark.parametrize("succeeds", [1.0, 0.3])
def test_a_course_goes_as_far_as_it_leads_elsewhere(succeeds: float) -> None:
    """Up to the first grasp, whether that most likely succeeds or leaves all as it is; nothing follows a grasp."""
    tokens = [FLOOR, FLOOR, FLOOR, FLOOR, BALL]
    belief, tables, _ = corridor(tokens, succeeds=succeeds)
    course = reckon(belief, tables).course
    assert list(course.actions) == [FORWARD, FORWARD, GRASP]
    assert (course.poses[:, 1] - belief.pose[0, 1]).tolist() == [1, 2, 3]
    assert (np.diff(course.costs) < 0).all()
    belief, tables, _ = corridor(tokens, at=3, succeeds=succeeds)
    plan = reckon(belief, tables)
    assert plan.expected_free_energy.argmin() == GRASP and not plan.course.actions
