"""The planner's expected free energy, and each of its four terms, against enumeration of all policies.

A policy may look at all that happens, and takes one informative step at most. The enumeration goes
down the tree of actions and events, in plain Python; what lies beyond its depth weighs less than the
tolerance.
"""

from dataclasses import dataclass, field, replace
from functools import cache
from math import log

import numpy as np
import pytest

from aif_dcpc.agents.gridworld.model.geometry import MOTIONS, Geometry, geometry_of
from aif_dcpc.agents.gridworld.planning.abstract_states import SearchBudget
from aif_dcpc.agents.gridworld.planning.arrivals import ArrivalTables
from aif_dcpc.agents.gridworld.planning.belief import Belief, PosteriorTables
from aif_dcpc.agents.gridworld.planning.planner import Planner
from aif_dcpc.agents.preferences import Preferences
from aif_dcpc.agents.protocol import EgocentricView

FLOOR, WALL, GOAL, KEY = range(4)
FORWARD, TURN, GRASP = range(3)
AHEAD = 4
TURNED = 1
GRASPED = 8  # the key is in hand, its cell empty
NUM_EVENTS = 9
OUTCOMES = 6
VIEW = EgocentricView(
    rows=3, columns=3, own_cell=(2, 1), num_tokens=5, unseen_token=99, empty_hand_token=0
)
SIZE = 16
PREFERENCES = Preferences(step_cost=2.0, discount=0.4, lasting=3.0)
DEPTH = 10
TOLERANCE = 2e-3  # .4^10 of what never being rewarded costs, and of the tolerances of the planner
MISREAD = 0.1
FOUND = -1  # what is known once a goal is in sight
WAY = ((1 + 2) + 2 * (1 + 2 + 3) + 6) / 9  # ahead; ahead and aside; a turn for each cell aside


@dataclass
class World:
    """A corridor along +x, walls around; what stands in it is believed, not known."""

    corridor: list[np.ndarray]
    transition: np.ndarray
    later: np.ndarray
    outcome: np.ndarray
    outcome_later: np.ndarray
    novelty: np.ndarray
    outcome_novelty: np.ndarray
    arrival: np.ndarray | None = None  # (V, O) outcome of turning, given what is ahead afterwards
    arrival_novelty: np.ndarray = field(default_factory=lambda: np.zeros(4))
    told: tuple[
        np.ndarray, ...
    ] = ()  # the same, once a sight of the hidden cell has told which it is
    hidden: tuple[int, ...] = ()  # places in the corridor that were not seen yet
    sought: bool = False  # whether a goal is rewarded, and none known
    geometry: Geometry = field(default_factory=lambda: geometry_of(VIEW, SIZE))

    def belief(self) -> Belief:
        cells = np.tile(np.eye(4)[WALL], (SIZE * SIZE, 1))
        seen = np.zeros(SIZE * SIZE, dtype=bool)
        for x, chances in enumerate(self.corridor):
            cells[x] = chances
            seen[x] = x not in self.hidden
        origin = np.array([-4, -4])
        pose = np.array([(0, 0, 0)])
        return Belief(origin, cells, np.eye(4)[WALL], seen, pose, np.ones(1), 0, 0, {})

    def by_milestone(self, outcome: np.ndarray) -> np.ndarray:
        """Outcomes `(2, R, V, O)`; those of an event that hang on what comes ahead are told elsewhere."""
        told = outcome.copy()
        if self.arrival is not None:
            told[3 + TURNED] = 0
        return np.stack([told] * 2)

    def arrivals(self, arrival: np.ndarray | None) -> ArrivalTables | None:
        if arrival is None:
            return None
        outcome = np.zeros((2, NUM_EVENTS, 4, OUTCOMES))
        outcome[:, TURNED] = arrival
        new = np.zeros((2, NUM_EVENTS, 4))
        new[:, TURNED] = self.arrival_novelty
        return ArrivalTables(np.arange(NUM_EVENTS) == TURNED, outcome, outcome, new)

    def tables(self) -> PosteriorTables:
        return PosteriorTables(
            arrivals=self.arrivals(self.arrival),
            resolved=tuple(self.arrivals(one) for one in self.told),
            twins=(GOAL, KEY) if self.told else (),
            transition=self.transition,
            transition_without_optimism=self.later,
            transition_novelty=self.novelty,
            outcome=self.by_milestone(self.outcome),
            outcome_without_optimism=self.by_milestone(self.outcome_later),
            outcome_novelty=self.by_milestone(self.outcome_novelty),
            transparency=np.ones(4),
            misread=MISREAD,
            num_tokens=5,
            steps=np.concatenate([self.geometry.steps, np.zeros((1, 4, 2), dtype=np.int64)]),
            turns=np.append(MOTIONS[:, 0], 0),
            writes=np.tile(np.array([-1] * 8 + [FLOOR])[:, None, None], (1, 5, 2)),
            takes=np.tile(np.array([-1] * 8 + [1])[:, None, None], (1, 5, 2)),
        )


def world(seed: int) -> World:
    """Forward may slip, the key may resist, outcomes are uncertain, and untried rows promise more at first."""
    source = np.random.default_rng(seed)
    transition = np.zeros((3, 4, 2, NUM_EVENTS))
    transition[..., 0] = 1
    slips = source.uniform(0.0, 0.4)
    for token in (FLOOR, GOAL):
        transition[FORWARD, token, :, 0] = slips
        transition[FORWARD, token, :, AHEAD] = 1 - slips
    transition[TURN, :, :, 0] = 0
    transition[TURN, :, :, 1] = 1
    later = transition.copy()
    transition[GRASP, KEY, 0, 0] = 0.3
    transition[GRASP, KEY, 0, GRASPED] = 0.7
    later[GRASP, KEY, 0, 0] = 0.6
    later[GRASP, KEY, 0, GRASPED] = 0.4
    outcome = np.zeros((3 + NUM_EVENTS, 4, OUTCOMES))
    outcome[..., 1] = 0.9
    outcome[..., 0] = 0.1
    outcome[3 + AHEAD, GOAL] = [0, 0.1, 0, 0.05, 0, 0.85]
    outcome[3 + GRASPED, KEY] = [0, 0.2, 0.8, 0, 0, 0]
    outcome_later = outcome.copy()
    outcome_later[3 + GRASPED, KEY] = [0, 0.5, 0.5, 0, 0, 0]
    # every token is likely enough for the planner to follow what would happen then
    doubtful = [0.2 + 0.2 * source.dirichlet(np.ones(4)) for _ in range(2)]
    corridor = [np.eye(4)[FLOOR], doubtful[0], np.eye(4)[KEY], doubtful[1]]
    # few rows are new, so that it pays to wait with the informative step
    novelty = source.uniform(0, 4.0, (3, 4, 2)) * (source.random((3, 4, 2)) < 0.3)
    outcome_novelty = source.uniform(0, 0.2, (3 + NUM_EVENTS, 4))
    return World(corridor, transition, later, outcome, outcome_later, novelty, outcome_novelty)


def log_preference() -> np.ndarray:
    """Log C of the six outcomes by hand: 2 nats a step without reward, for ever after an end without."""
    never = -2.0 / (1 - 0.4)
    return np.array([-4.0, -2.0, 0.0, -4.0 + 0.4 * never, -2.0 + 0.4 * never, 0.0])


GOES_ON = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
STEP = [(0, 1), (1, 0), (0, -1), (-1, 0)]  # (dy, dx) by heading


def entropy(chances: np.ndarray) -> float:
    return -sum(p * log(p) for p in chances if p > 0)


def sighting_information(cell: np.ndarray) -> float:
    """I(reading; token) from the joint table of both; any of the four other readings is as likely."""
    joint = np.full((4, 5), MISREAD / 4)
    for token in range(4):
        joint[token, token] = 1 - MISREAD
    joint *= cell[:, None]
    return entropy(joint.sum(0)) + entropy(cell) - entropy(joint.ravel())


class Enumeration:
    """All policies from every situation: (x, heading, hand, where the key was taken from or -1)."""

    def __init__(self, of: World) -> None:
        self.of = of

    def cell(self, y: int, x: int, gone: int) -> np.ndarray:
        if y != 0 or not 0 <= x < len(self.of.corridor):
            return np.eye(4)[WALL]
        return np.eye(4)[FLOOR] if x == gone else self.of.corridor[x]

    def happens(self, situation, event):
        """The situation after an event; none but those of this world have a chance."""
        x, heading, hand, gone = situation
        if event == 1:
            return x, (heading + 1) % 4, hand, gone
        if event == AHEAD:
            dy, dx = STEP[heading]
            assert dy == 0
            return x + dx, heading, hand, gone
        return (x, heading, 1, x + STEP[heading][1]) if event == GRASPED else situation

    def ahead(self, situation) -> np.ndarray:
        """Belief over the cell ahead."""
        x, heading, _, gone = situation
        dy, dx = STEP[heading]
        return self.cell(dy, x + dx, gone)

    def view(self, situation):
        """Places in the view: three columns, two rows ahead of the agent, and its sides."""
        x, heading, _, _ = situation
        dy, dx = STEP[heading]
        ry, rx = STEP[(heading + 1) % 4]
        for ahead in range(3):
            for right in (-1, 0, 1):
                if (ahead, right) != (0, 0):
                    yield ahead * dy + right * ry, x + ahead * dx + right * rx

    def sight(self, situation) -> float:
        """Information of the view."""
        gone = situation[3]
        return sum(sighting_information(self.cell(*place, gone)) for place in self.view(situation))

    def prospects(self, situation, informative, informed):
        """What is known after a step, with probabilities: nothing was told, or which table holds."""
        if informed or not informative:
            return [(1.0, informed)]
        if self.of.sought:
            dark = np.prod(
                [1 - self.cell(*place, situation[3])[GOAL] for place in self.view(situation)]
            )
            return [(dark, 1), (1 - dark, FOUND)]
        hides = [x for y, x in self.view(situation) if y == 0 and x in self.of.hidden]
        silent = np.prod([1 - self.of.corridor[x][[GOAL, KEY]].sum() for x in hides])
        number = len(self.of.told)
        told = [((1 - silent) / number, 2 + k) for k in range(number)]
        return [(silent if number else 1.0, 1), *told]

    def step(self, situation, action, informative, depth, informed):
        """(risk, ambiguity, information gain, novelty) of an action, and the best policy after it."""
        x, heading, hand, gone = situation
        dy, dx = STEP[heading]
        ahead = self.cell(dy, x + dx, gone)
        transition, outcome = (
            (self.of.transition, self.of.outcome)
            if informative
            else (self.of.later, self.of.outcome_later)
        )
        predicted = np.zeros(OUTCOMES)
        terms = np.zeros(4)
        for token in range(4):
            for event in range(NUM_EVENTS):
                chance = ahead[token] * transition[action, token, hand, event]
                if chance == 0:
                    continue
                row = action if event == 0 else 3 + event
                after = self.happens(situation, event)
                ends = outcome[row, token]
                new = self.of.outcome_novelty[row, token]
                if event == TURNED and self.of.arrival is not None:
                    arrival = self.of.told[informed - 2] if informed > 1 else self.of.arrival
                    ends = self.ahead(after) @ arrival
                    new = self.ahead(after) @ self.of.arrival_novelty
                predicted += chance * ends
                stays = 0.4 * chance * (ends @ GOES_ON)
                for share, known in self.prospects(after, informative, informed):
                    terms += share * stays * np.array(self.best(after, depth - 1, known))
                if informative:
                    terms[2] += stays / 0.4 * self.sight(after)
                    terms[3] += 3 * chance * new
            if informative:
                terms[3] += ahead[token] * self.of.novelty[action, token, hand]
        terms[0] += sum(
            p * (log(p) - c) for p, c in zip(predicted, log_preference(), strict=True) if p > 0
        )
        terms[1] += entropy(predicted)
        return tuple(terms)

    @cache
    def best(self, situation, depth, informed):
        """Terms of the policy of least expected free energy."""
        if depth == 0:
            return 2.0 / (1 - 0.4), 0.0, 0.0, 0.0
        if informed == FOUND:  # the way to a cell of the view, then the reward
            way = 2.0 / (1 - 0.4) * (1 - 0.4**WAY)
            return min(way, total(self.best(situation, depth, 1))), 0.0, 0.0, 0.0
        return min(
            (self.first(situation, action, depth, informed) for action in range(3)),
            key=total,
        )

    def first(self, situation, action, depth, informed):
        """Terms of a first action, informative if that is better and allowed."""
        plain = self.step(situation, action, False, depth, informed)
        if informed:
            return plain
        return min(plain, self.step(situation, action, True, depth, 0), key=total)


def total(terms) -> float:
    return terms[0] + terms[1] - terms[2] - terms[3]


def check_terms(small: World) -> None:
    """Total and terms of every first action against enumeration."""
    planner = Planner(
        PREFERENCES,
        SearchBudget(configurations=8, per_event=8, min_probability=1e-6, passable=1e-6),
        tolerance=1e-9,
        max_sweeps=1000,
    )
    plan = planner.plan(small.belief(), small.tables(), small.geometry)
    enumeration = Enumeration(small)
    expected = np.array([enumeration.first((0, 0, 0, -1), action, DEPTH, 0) for action in range(3)])
    found = np.stack([plan.risk, plan.ambiguity, plan.information_gain, plan.novelty], 1)
    assert np.allclose(plan.expected_free_energy, [total(e) for e in expected], atol=TOLERANCE)
    assert np.allclose(found, expected, atol=TOLERANCE)
    assert (expected[:, 1:3] > 1e-3).all()  # every term says something


@pytest.mark.parametrize("seed", range(4))
def test_total_and_terms_are_those_of_the_best_policy(seed: int) -> None:
    check_terms(world(seed))


@pytest.mark.parametrize("seed", range(3))
def test_a_goal_that_may_come_in_sight_is_worth_the_way_to_it(seed: int) -> None:
    """Nothing is known to be rewarded but goals, and these may be in two cells of the corridor."""
    small = world(seed)
    for outcome in (small.outcome, small.outcome_later):
        outcome[3 + GRASPED, KEY] = [0, 1, 0, 0, 0, 0]
    check_terms(replace(small, sought=True))


@pytest.mark.parametrize("seed", range(2))
def test_to_stand_before_a_thing_may_be_what_is_wanted(seed: int) -> None:
    """Turning ends the episode, rewarded or not, by what is ahead afterwards: a wall, a doubtful cell."""
    arrival = np.tile([0.1, 0.7, 0.1, 0, 0.1, 0], (4, 1))
    arrival[WALL] = [0, 0.5, 0.1, 0, 0.1, 0.3]
    arrival[FLOOR] = [0, 0.2, 0, 0.1, 0, 0.7]
    check_terms(replace(world(seed), arrival=arrival))


@pytest.mark.parametrize("seed", range(2))
def test_to_look_first_is_worth_what_it_lets_one_choose(seed: int) -> None:
    """Which of two things to turn to is told by a sight of a hidden cell: the planner goes and looks."""
    none = np.tile([0.0, 1, 0, 0, 0, 0], (4, 1))
    win, lose = np.array([[0, 0.3, 0, 0, 0, 0.7], [0, 0.3, 0, 0, 0.7, 0]])
    tables = [none.copy() for _ in range(3)]
    for table, wall, floor in zip(tables, (0.5, 1, 0), (0.5, 0, 1), strict=True):
        table[WALL] = wall * win + (1 - wall) * lose
        table[FLOOR] = floor * win + (1 - floor) * lose
    small = replace(
        world(seed),
        arrival=tables[0],
        told=tuple(tables[1:]),
        hidden=(3,),
        arrival_novelty=np.array([0.3, 0.1, 0.2, 0.4]),
    )
    check_terms(small)
    deaf = Planner(PREFERENCES, SearchBudget(), tolerance=1e-9)
    tables_then = small.tables()
    plan = deaf.plan(small.belief(), tables_then, small.geometry)
    without = deaf.plan(small.belief(), replace(tables_then, resolved=()), small.geometry)
    gain = without.expected_free_energy - plan.expected_free_energy
    assert gain.min() > -1e-9 and gain.max() > 1e-3


def test_what_is_learned_for_later_counts_once_where_nothing_is_kept() -> None:
    """A frozen agent's novelty is that of an agent to which later episodes are worth nothing."""
    small = world(1)
    once = Planner(replace(PREFERENCES, lasting=1.0), SearchBudget())
    frozen = Planner(PREFERENCES, SearchBudget())
    frozen.learns = False
    plans = [p.plan(small.belief(), small.tables(), small.geometry) for p in (once, frozen)]
    assert np.array_equal(plans[0].novelty, plans[1].novelty)
    assert np.array_equal(plans[0].expected_free_energy, plans[1].expected_free_energy)
    learning = Planner(PREFERENCES, SearchBudget())
    assert (
        learning.plan(small.belief(), small.tables(), small.geometry).novelty > plans[0].novelty
    ).any()


def test_what_was_seen_before_is_told_apart_from_what_was_not() -> None:
    """With everything known there is no information gain, and an unknown cell brings some."""
    small = world(0)
    known = replace(small, corridor=[np.eye(4)[FLOOR]] * 4)
    planner = Planner(PREFERENCES, SearchBudget())
    sure = planner.plan(known.belief(), known.tables(), known.geometry)
    unsure = planner.plan(small.belief(), small.tables(), small.geometry)
    assert np.allclose(sure.information_gain, 0)
    assert (unsure.information_gain > 0.01).all()
