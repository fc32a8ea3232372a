"""Steps of stored episodes in short, and what is counted from them: against plain loops."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from grid_walks import (
    ACTIONS,
    BALL,
    BLUE_CLOSED,
    BLUE_KEY,
    FLOOR,
    RED_CLOSED,
    RED_KEY,
    UNSEEN,
    WALL,
    Walk,
    place_of,
    random_walk,
    raw,
    thing_ahead,
    told,
)

from aif_dcpc.agents.gridworld.deeds import Deeds, deeds_of, seen_twice
from aif_dcpc.agents.gridworld.lessons import Lessons
from aif_dcpc.agents.gridworld.model.counts import TablePrior, outcome_code
from aif_dcpc.agents.gridworld.model.task import Task
from aif_dcpc.agents.gridworld.planning.arrivals import arrivals_of

NOTHING, WON = 1, 5


def rewards_of(walk: Walk) -> list[float]:
    """A number for each slice."""
    return [0.5 * time for time in range(len(walk.history))]


def deeds_in(walk: Walk, best: int) -> Deeds:
    members = walk.vocabulary.tokens.members
    names = np.array(members + [99] * (16 - len(members)))
    return deeds_of(walk.grid, walk.particles, best, walk.history, names, (3, 5), rewards_of(walk))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("best", [0, 2])
def test_deeds_are_what_a_particle_did(seed: int, best: int) -> None:
    """The thing ahead after the last step is the map's; before that a ball may have been faced there."""
    walk = random_walk(seed)
    one = told(walk, best)
    found = deeds_in(walk, best)
    size = walk.geometry.size
    known = walk.vocabulary
    length = len(walk.history)
    things = [thing_ahead(walk, one, t) for t in range(1, length)]
    for t in range(1, length):
        event = int(walk.particles.events[best, t])
        assert found.row[t - 1] == (ACTIONS + event if event else int(walk.history.action[t]))
        assert found.token[t - 1] == raw(known, things[t - 1])
        after = things[t] if t < length - 1 else one.token_ahead[-1]
        assert found.after[t - 1] == raw(known, after)
        assert found.outcome[t - 1] == int(walk.history.outcome[t])
        written = one.written[t]
        assert found.written[t - 1] == (raw(known, written) if written >= 0 else -1)
        assert found.reward[t - 1] == 0.5 * t
        assert found.cell[t - 1] == one.ahead[t][0] * size + one.ahead[t][1]
    assert found.mission == (3, 5) and len(found.row) == len(found.reward) == length - 1
    torus = walk.geometry.torus
    trajectory, _, _ = walk.grid.trace(walk.particles.events, walk.history)
    twice, places = seen_twice(walk.history, trajectory, torus, best)
    assert np.array_equal(found.places, places)
    assert found.twice.tolist() == [[raw(known, slot), time] for slot, time in twice.tolist()]
    again = Deeds.from_tensors(found.tensors())
    for name, value in vars(found).items():
        assert np.array_equal(getattr(again, name), value), name


def steps(**changes: object) -> Deeds:
    """Six steps."""
    deeds = Deeds(
        row=np.array([4, 4, 5, 4, 4, 1]),
        token=np.array([WALL, RED_KEY, FLOOR, FLOOR, BLUE_KEY, WALL]),
        after=np.array([RED_KEY, FLOOR, RED_KEY, RED_KEY, RED_KEY, BLUE_KEY]),
        outcome=np.array([1, 1, 5, 1, 1, 1]),
        written=np.array([-1, FLOOR, -1, FLOOR, BALL, -1]),
        mission=(11, 3),
        cell=np.array([7, 8, 7, 7, 7, 9]),
        twice=np.array([[RED_KEY, 4], [BLUE_KEY, 2], [WALL, 1]]),
        places=np.array([[7, 60], [9, 12], [30, 31]]),
    )
    return replace(deeds, **changes)


def test_a_milestone_counts_from_the_step_after_it() -> None:
    assert steps().before(FLOOR).tolist() == [0, 0, 1, 1, 1, 1]
    assert steps().before(BALL).tolist() == [0, 0, 0, 0, 0, 1]
    assert steps().before(-1).tolist() == [0] * 6
    assert steps().before(RED_KEY).tolist() == [0] * 6


def test_first_arrivals_are_told_apart_by_all_that_may_matter() -> None:
    nothing = np.zeros(6, np.int64)
    assert sorted(steps().first_arrivals(nothing, nothing).tolist()) == [0, 1, 2, 5]
    assert sorted(steps().first_arrivals(np.array([0, 0, 0, 1, 1, 0]), nothing)) == [0, 1, 2, 3, 5]
    assert sorted(steps().first_arrivals(nothing, np.array([0, 0, 0, 0, 1, 1]))) == [0, 1, 2, 4, 5]
    assert len(steps(after=np.arange(6)).first_arrivals(nothing, nothing)) == 6


def test_a_twin_is_told_apart_from_the_slice_on_in_which_it_was_seen_twice() -> None:
    """Slice t comes after step t - 1: the red key, seen twice in slice 4, is known to be one after the fourth step."""
    assert steps().paired((RED_KEY, BALL)).tolist() == [0, 0, 0, 2, 2, 0]
    assert steps().paired((RED_KEY, BLUE_KEY)).tolist() == [0, 0, 1, 2, 2, 2]
    assert steps().paired(()).tolist() == [0] * 6
    early = steps(twice=np.array([[RED_KEY, 0]]), places=np.array([[7, 60]]))
    assert early.paired((RED_KEY, BLUE_KEY)).tolist() == [2, 0, 2, 2, 2, 1]


def lessons(task: Task) -> tuple[Lessons, Walk]:
    walk = random_walk(0)
    known = Lessons(walk.vocabulary.looks, TablePrior(), ACTIONS)
    known.task = task
    return known, walk


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_outcomes_are_counted_under_the_task(after: bool, first: bool) -> None:
    """By class, colour, mission and milestone; after steps also by which twin was told apart."""
    task = Task({(0, 2): 11}, milestone=FLOOR, twins=(RED_KEY, BLUE_KEY) if after else ())
    known, walk = lessons(task)
    vocabulary = walk.vocabulary
    deeds = steps()
    like = walk.grid.past.outcome
    found = known.outcomes_of(deeds, vocabulary, walk.grid.effects, like, after=after, first=first)
    expected = torch.zeros_like(like)
    passed = [0, 0, 1, 1, 1, 1]
    side = [0, 0, 1, 2, 2, 2] if after else [0] * 6
    met = set()
    for n in range(6):
        key = (deeds.row[n], deeds.cell[n], deeds.after[n], side[n], passed[n])
        if first and key in met:
            continue
        met.add(key)
        slot = vocabulary.tokens.members.index((deeds.after if after else deeds.token)[n])
        named = 2 if raw(vocabulary, slot) in (RED_KEY, BLUE_KEY) else 1
        place = place_of(vocabulary, slot, named, passed[n]) + 2 * side[n]
        expected[deeds.row[n], place, deeds.outcome[n]] += 1
    assert torch.equal(found, expected) and (first or int(found.sum()) == 6)


def test_what_nobody_has_seen_counts_for_no_thing_that_is_known() -> None:
    known, walk = lessons(Task())
    free = len(walk.vocabulary.tokens.members)
    deeds = steps(token=np.full(6, UNSEEN))
    like = walk.grid.past.outcome
    found = known.outcomes_of(deeds, walk.vocabulary, walk.grid.effects, like)
    places = walk.grid.effects.places(known.task.match(walk.vocabulary, deeds.mission))
    assert found.sum() == found[:, places[free, 0]].sum() == 6


@pytest.mark.parametrize("milestone", [-1, FLOOR])
def test_an_episode_without_a_step_tells_nothing(milestone: int) -> None:
    """Every episode is asked for its steps before the first one, once outcomes hang on what comes ahead."""
    known, walk = lessons(Task({}, milestone=milestone, twins=(RED_KEY, BLUE_KEY)))
    none = np.zeros(0, np.int64)
    deeds = Deeds(none, none, none, none, none, mission=(), cell=none)
    codes = walk.vocabulary, walk.grid.effects, walk.grid.past.outcome
    for after, first in product((False, True), repeat=2):
        assert not known.outcomes_of(deeds, *codes, after=after, first=first).any()
    running, tried, doubled = known.so_far(deeds, *codes, 9)
    assert not running.any() and tried is not None and (tried.slots == -1).all() and not doubled
    arrivals = known.arrivals(*codes)
    assert known.sizes(arrivals, *codes, deeds).worth is None


def test_what_came_of_nothing_is_not_tried_again() -> None:
    """Steps that moved or changed something, to no avail, under what is known and done by now."""
    known, walk = lessons(Task(milestone=BALL))
    found = known.tried(steps(), walk.vocabulary, 64)
    events = walk.vocabulary.num_events
    assert found.slots.shape == (events + 1, 65) and found.passed == 1
    expected = np.full((events + 1, 65), -1)
    assert np.array_equal(found.slots, expected)  # all steps but the last came before the milestone
    known.task = Task(milestone=RED_CLOSED)
    found = known.tried(steps(), walk.vocabulary, 64)
    red, floor = (walk.vocabulary.tokens.members.index(t) for t in (RED_KEY, FLOOR))
    expected[1, [7, 8]] = red, floor
    assert found.passed == 0 and np.array_equal(found.slots, expected)
    known.task = Task()
    again = known.tried(steps(), walk.vocabulary, 64)
    assert again.passed == 0 and np.array_equal(again.slots, expected)
    known.task = Task(twins=(RED_KEY, 77))  # seen twice only later: the first step counts no more
    found = known.tried(steps(), walk.vocabulary, 64)
    assert np.array_equal(found.slots, expected)
    known.task = Task(twins=(RED_KEY, BLUE_KEY))
    later = steps(cell=np.array([6, 8, 7, 7, 7, 9]))
    found = known.tried(later, walk.vocabulary, 64)
    assert np.array_equal(found.slots, expected)
    known.task = Task(
        twins=(RED_KEY, BLUE_KEY), sighting=2
    )  # nor where the likes were seen first, by any deed
    found = known.tried(later, walk.vocabulary, 64)
    first = expected.copy()
    blue = walk.vocabulary.tokens.members.index(BLUE_KEY)
    first[:, 7], first[:, 9] = red, blue
    assert np.array_equal(found.slots, first)
    known.task = Task(milestone=FLOOR)
    found = known.tried(steps(written=np.array([-1, -1, FLOOR, -1, -1, -1])), walk.vocabulary, 64)
    expected[1, 8] = -1
    assert found.passed == 1 and np.array_equal(found.slots, expected)
    nothing = replace(
        steps(),
        **{
            n: np.zeros(0, np.int64)
            for n in ("row", "token", "after", "outcome", "written", "cell")
        },
    )
    assert (known.tried(nothing, walk.vocabulary, 3).slots == -1).all()
    assert known.tried(nothing, walk.vocabulary, 3).slots.shape == (events + 1, 4)


def test_lessons_are_kept_by_place_and_told_when_they_change_the_task() -> None:
    known, _ = lessons(Task())
    lost = steps(outcome=np.full(6, NOTHING), mission=(3,))
    assert not known.keep(0, lost) and not known.keep(1, steps(mission=(3,)))
    assert known.kept == 2 and len(known.deeds) == 2
    assert not known.keep(0, steps(mission=(3,)))
    assert known.kept == 3 and len(known.deeds) == 2 and known.deeds[0].outcome[2] == WON
    twin = Lessons(known.looks, TablePrior(), ACTIONS)
    known.task = Task({(0, 2): 11, (1, 1): 4}, 5, (2, 3), 2)
    twin.load_state_dict(known.state_dict())
    assert twin.task == known.task and twin.kept == 3
    assert np.array_equal(twin.deeds[1].twice, known.deeds[1].twice)


def test_a_word_that_is_learned_changes_the_task() -> None:
    """Red keys and blue ones, each rewarded when its word was said: told at the step that convinces."""
    known, _ = lessons(Task())
    changed = []
    source = np.random.default_rng(0)
    for number in range(40):
        word, token = source.integers(0, 2, 2)
        one = np.array([RED_KEY, BLUE_KEY])[[token]]
        outcome = np.array([WON if word == token else outcome_code(0.0, True)])
        changed.append(
            known.keep(
                number, Deeds(one * 0 + 7, one, one, outcome, one * 0 - 1, (10 + int(word), 30))
            )
        )
    assert any(changed) and set(known.task.lexicon.values()) <= {10, 11}
    assert all(aspect == 1 for aspect, _ in known.task.lexicon)


def test_arrivals_are_summed_over_episodes_and_kept() -> None:
    known, walk = lessons(Task())
    for place in range(3):
        known.deeds[place : place + 1] = [steps()]
    given = walk.vocabulary, walk.grid.effects, walk.grid.past.outcome
    found = known.arrivals(*given)
    assert known.arrivals(*given) is found
    counts = [
        3 * known.outcomes_of(steps(), *given, after=after, first=first)
        for after, first in ((False, False), (True, False), (True, True))
    ]
    expected = arrivals_of(*counts, TablePrior().outcomes(walk.grid.effects), ACTIONS)
    for name, value in vars(expected).items():
        assert np.array_equal(np.asarray(getattr(found, name)), np.asarray(value)), name
    known.kept += 1
    assert known.arrivals(*given) is not found


def test_a_closed_door_of_another_colour_is_no_milestone() -> None:
    written = np.array([-1, RED_CLOSED, BLUE_CLOSED, -1, -1, -1])
    assert steps(written=written).before(BLUE_CLOSED).tolist() == [0, 0, 0, 1, 1, 1]
