"""Where events lead, what was seen there and how often what happened: against plain loops over dictionaries."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from grid_walks import (
    ACTIONS,
    COLUMNS,
    OUTCOMES,
    OWN,
    ROWS,
    Told,
    Walk,
    class_of,
    colour_of,
    does,
    grip_of,
    motion,
    place_of,
    random_walk,
    thing_ahead,
    told,
    view_cell,
    vocabulary,
)

from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals
from aif_dcpc.agents.gridworld.model.counts import no_counts
from aif_dcpc.agents.gridworld.model.kept import Kept
from aif_dcpc.agents.gridworld.model.paths import agreement, effects_of, likeliest
from aif_dcpc.agents.gridworld.model.single_events import faced_codes, fitting, still_steps

SEEDS = [0, 1, 2]
Case = tuple[Walk, list[Told]]


@pytest.fixture(params=SEEDS)
def case(request: pytest.FixtureRequest) -> Case:
    walk = random_walk(request.param)
    return walk, [told(walk, n) for n in range(len(walk.particles.events))]


def test_a_path_is_that_of_its_events(case: Case) -> None:
    walk, every = case
    trajectory, _, _ = walk.grid.trace(walk.particles.events, walk.history)
    size = walk.geometry.size
    assert trajectory.position.tolist() == [[list(p) for p in one.position] for one in every]
    assert trajectory.cell_ahead.tolist() == [[y * size + x for y, x in one.ahead] for one in every]
    assert trajectory.written.tolist() == [one.written for one in every]
    assert trajectory.passed.tolist() == [one.passed for one in every]
    assert {0, 1} == set(every[0].passed)


def test_a_segment_is_what_a_cell_held_between_two_writes(case: Case) -> None:
    walk, every = case
    _, segments, sightings = walk.grid.trace(walk.particles.events, walk.history)
    tokens = segments.initial_tokens(walk.particles.initial)
    used = len(segments.cells)
    size = walk.geometry.size
    cells = [(int(c) // size, int(c) % size) for c in segments.cells]
    assert segments.count == used + max(len(one.writes) for one in every) == tokens.shape[1]
    in_use = {s["cell"] for one in every for s in one.sights} | {
        c for one in every for c in one.ahead
    }
    assert set(cells) == in_use and len(cells) == len(in_use)
    for n, one in enumerate(every):
        assert tokens[n, segments.seen[n]].tolist() == [s["token"] for s in one.sights]
        assert tokens[n, segments.cell_ahead[n]].tolist() == one.token_ahead
        numbers = segments.seen[n].tolist() + segments.cell_ahead[n].tolist()
        names = [s["segment"] for s in one.sights] + one.segment_ahead
        assert len(set(zip(numbers, names, strict=True))) == len(set(numbers)) == len(set(names))
        for number, (cell, times) in zip(numbers, names, strict=True):
            assert (number < used) == (times == 0) and (times or cells[number] == cell)
        mine = len(one.writes)
        assert segments.token[n, :mine].tolist() == [token for _, token in one.writes]
        assert set(segments.token[n, mine:].tolist()) <= {-1}
        now = tokens[n, segments.latest[n]].tolist()
        assert now == [one.present[cell] for cell in cells]
    assert sightings.time.tolist() == [s["time"] for s in every[0].sights]
    assert sightings.code.tolist() == [s["code"] for s in every[0].sights]
    assert sightings.context.tolist() == [s["context"] for s in every[0].sights]


def test_what_happened_is_counted(case: Case) -> None:
    walk, every = case
    history = walk.history
    known = walk.vocabulary
    own = walk.grid.counts(walk.particles.events, walk.particles.initial, history)
    for n, one in enumerate(every):
        expected = no_counts(ACTIONS, known)
        for t in range(1, len(history)):
            event = int(walk.particles.events[n, t])
            action = int(history.action[t])
            thing = thing_ahead(walk, one, t)
            grip = grip_of(known, thing, int(history.hand[t - 1]))
            expected.transition[action, class_of(known, thing), grip, event] += 1
            row = ACTIONS + event if event else action
            place = place_of(known, thing, int(history.match[thing]), one.passed[t - 1])
            expected.outcome[row, place, int(history.outcome[t])] += 1
        for sight in one.sights:
            expected.sightings[int(sight["token"] != sight["code"])] += 1
            if sight["first"]:
                expected.tokens[sight["context"], sight["token"]] += 1
        for name, value in vars(expected).items():
            assert torch.equal(getattr(own, name)[n], value), name


def test_counts_grow_with_what_is_known() -> None:
    """Counted with more room, or counted and given more room: the same."""
    walk = random_walk(3)
    more = vocabulary()
    for slots in (more.tokens, more.classes, more.colours, more.grips):
        slots.capacity *= 2
    more.max_events += 3
    match = torch.cat([walk.history.match, torch.zeros(16, dtype=torch.long)])
    effects = effects_of(walk.geometry, more, walk.milestone, walk.moving)
    empty = no_counts(ACTIONS + 1, more)
    grid = GridConditionals(walk.geometry, effects, walk.grid.prior, empty, 33)
    initial, events = walk.particles.initial, walk.particles.events
    small = walk.grid.counts(events, initial, walk.history)
    large = grid.counts(events, initial, replace(walk.history, match=match))
    grown = small.resized(ACTIONS, more)
    assert torch.equal(grown.transition, large.transition[:, :ACTIONS])
    assert torch.equal(grown.outcome[:, :ACTIONS], large.outcome[:, :ACTIONS])
    assert torch.equal(grown.outcome[:, ACTIONS:], large.outcome[:, ACTIONS + 1 :])
    assert torch.equal(grown.tokens, large.tokens) and torch.equal(grown.sightings, large.sightings)
    both = small + small
    assert torch.equal(both.tokens, 2 * small.tokens)
    for part, twice in zip(vars(both - small).values(), vars(small).values(), strict=True):
        assert torch.equal(part, twice)
    weights = torch.tensor([0.5, 0.2, 0.3])
    mean = small.average(weights).transition
    assert torch.allclose(mean, (weights[:, None, None, None, None] * small.transition).sum(0))
    assert small.sizes == (
        *small.transition.shape[1:],
        *small.outcome.shape[2:],
        *small.tokens.shape[1:],
    )


def test_heading_and_hand_bear_on_events(case: Case) -> None:
    """An event must turn as the heading did, and be known; a hand that is not as it should be is all but impossible."""
    walk, _ = case
    history = walk.history
    known = walk.vocabulary
    events = torch.cat([walk.particles.events, torch.full((1, len(history)), 12)])
    found = walk.grid.log_bodily(events, history)
    hands = walk.grid.hands_after(events, history.faced, history.held)
    for n, sequence in enumerate(events.tolist()):
        expected = 0.0
        for t in range(1, len(history)):
            event = sequence[t]
            turned = int(history.heading[t] - history.heading[t - 1]) % 4
            expected -= 1e9 * (motion(event, 0)[0] != turned or event >= known.num_events)
            before = int(history.hand[t - 1])
            _, taken, _ = does(known, event, int(history.faced[t]), before)
            after = before if taken is None else taken
            assert int(hands[n, t]) == after
            expected += np.log(1e-4) * (after != int(history.hand[t]))
        assert float(found[n]) == pytest.approx(expected, rel=1e-6)


def test_events_are_made_to_fit_headings(case: Case) -> None:
    walk, _ = case
    found = fitting(walk.grid, walk.particles.events, walk.history)
    heading = walk.history.heading.tolist()
    for n, sequence in enumerate(walk.particles.events.tolist()):
        for t, event in enumerate(sequence):
            turned = (heading[t] - heading[t - 1]) % 4 if t else 0
            fits = motion(event, 0)[0] == turned
            assert int(found[n, t]) == (event if fits else turned)
    turns = [(heading[t] - heading[t - 1]) % 4 for t in range(1, len(heading))]
    assert still_steps(walk.history).tolist() == [t + 1 for t, turn in enumerate(turns) if not turn]
    front = (OWN[0] - 1) * COLUMNS + OWN[1]
    seen = walk.history.view[:, front].tolist()
    assert faced_codes(walk.grid, walk.history).tolist() == [seen[0], *seen[:-1]]


def test_tables_know_tokens_by_their_looks() -> None:
    walk = random_walk(0)
    known = walk.vocabulary
    effects = walk.grid.effects
    members = range(len(known.tokens.members))
    assert effects.classes[: len(members)].tolist() == [class_of(known, s) for s in members]
    assert effects.colours[: len(members)].tolist() == [colour_of(known, s) for s in members]
    assert set(effects.classes[len(members) :].tolist()) == {len(known.classes.members)}
    for slot in members:
        grips = [grip_of(known, slot, hand) for hand in range(len(known.hands.members))]
        assert effects.grips[slot, : len(grips)].tolist() == grips
    assert effects.sizes == (
        known.classes.capacity,
        2 * known.grips.capacity,
        known.colours.capacity,
    )
    assert effects.known.tolist() == [n < known.num_events for n in range(known.max_events)]
    assert effects.moving.nonzero()[:, 0].tolist() == walk.moving and effects.num_motions == 8


def test_what_events_do_is_what_they_are_said_to_do() -> None:
    known = vocabulary()
    effects = random_walk(0).grid.effects
    for event in range(known.num_events):
        for heading in range(4):
            turns, *step = motion(event, heading)
            assert int(effects.turns[event]) == turns
            assert effects.steps[event, heading].tolist() == step
        for hand in range(len(known.hands.members)):
            for token in range(len(known.tokens.members)):
                write, take, able = does(known, event, token, hand)
                assert int(effects.writes[event, token, hand]) == (-1 if write is None else write)
                assert int(effects.takes[event, token, hand]) == (-1 if take is None else take)
                assert int(effects.possible[event, token, hand]) == able


def test_a_view_lies_around_the_agent() -> None:
    geometry = random_walk(0).geometry
    places = range(ROWS * COLUMNS)
    for heading in range(4):
        cells = [list(view_cell((0, 0), heading, place)) for place in places]
        assert geometry.offsets[heading].tolist() == cells
        assert geometry.cell_ahead[heading].tolist() == list(motion(4, heading)[1:])
    assert geometry.reach == 2 and geometry.start == (0, 0) and geometry.own == 7
    assert geometry.place_ahead == 4
    away = {p: abs(OWN[0] - p // COLUMNS) + abs(p % COLUMNS - OWN[1]) for p in places}
    order = geometry.outwards.tolist()
    assert sorted(order) == [p for p in places if p != 7]
    assert [away[p] for p in order] == sorted(away[p] for p in order)
    for place in places:
        y, x = divmod(place, COLUMNS)
        down, across = (np.sign(OWN[0] - y), np.sign(OWN[1] - x))
        nearer = {(y + down, x), (y, x + across), (y + down, x + across)} - {(y, x)}
        expected = sorted(int(r * COLUMNS + c) for r, c in nearer)
        assert sorted(geometry.nearer[place].tolist()) == [-1] * (3 - len(expected)) + expected
        assert geometry.beside[0, place] == ((y + down) * COLUMNS + x if down else 7)
        assert geometry.beside[1, place] == (y * COLUMNS + x + across if across else 7)


def test_the_map_holds_what_lies_around_where_one_was() -> None:
    geometry = random_walk(0).geometry  # it sees two cells far, and keeps two cells free
    for extent, size in ((0, 16), (7, 16), (8, 32), (23, 32), (24, 64)):
        path = torch.tensor([[(3, 1), (3 + extent, 1)], [(4, 1), (3, 0)]])
        assert geometry.holding(path).size == size
        assert geometry.origin(path).tolist() == [0, -3]
    places = geometry.unwrapped(np.array([5, -3]))
    assert {tuple(p) for p in places.tolist()} == {
        (y, x) for y in range(5, 13) for x in range(-3, 5)
    }
    assert [(y % 8) * 8 + x % 8 for y, x in places.tolist()] == list(range(64))


def test_the_likeliest_particle_is_the_heaviest_in_the_likeliest_place() -> None:
    position = torch.tensor([(0, 1), (2, 2), (0, 1), (2, 2), (2, 2), (5, 5)])
    weights = torch.tensor([0.1, 0.05, 0.2, 0.15, 0.2, 0.3])
    assert likeliest(position, weights) == 4
    assert agreement(position) == pytest.approx(0.5)
    assert agreement(position[:1]) == 1


def test_outcomes_are_six() -> None:
    walk = random_walk(0)
    assert walk.grid.past.outcome.shape[-1] == OUTCOMES


@pytest.mark.parametrize("number", [1, 2])
def test_what_was_found_is_kept_for_the_next_caller(number: int) -> None:
    """By the values of the tensors; the latest ones, of which the oldest goes."""
    kept = Kept[int](number)
    found = []

    def ask(*values: int) -> int:
        key = tuple(torch.tensor([v]) for v in values)
        return kept.get(key, lambda: found.append(values) or len(found))

    assert [ask(1, 2), ask(1, 2), ask(1, 3)] == [1, 1, 2]
    assert [ask(1, 3), ask(1, 2)] == ([2, 3] if number == 1 else [2, 1])
    assert ask(2, 2) == len(found) and ask(1, 2) == len(found)
