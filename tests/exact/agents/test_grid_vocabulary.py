"""What is admitted and registered, in what order, and how rooms for it grow."""

import numpy as np
import torch
from grid_walks import (
    BALL,
    BLUE_CLOSED,
    BLUE_KEY,
    BLUE_OPEN,
    FLOOR,
    LOOKS,
    RED_CLOSED,
    RED_KEY,
    RED_OPEN,
    UNSEEN,
    VIEW,
    WALL,
    vocabulary,
)

from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.paths import ObservedEpisode
from aif_dcpc.agents.gridworld.model.task import Task, named, paired
from aif_dcpc.agents.gridworld.model.vocabulary import (
    PUT,
    TAKEN,
    UNCHANGED,
    Slots,
    Vocabulary,
    new_vocabulary,
)
from aif_dcpc.agents.protocol import EgocentricView


def test_slots_double_when_they_are_full() -> None:
    slots = Slots(2)
    capacities = []
    for member in (7, 3, 7, 5, 9, 1, 3):
        assert slots.add(member) == slots.members.index(member)
        capacities.append(slots.capacity)
    assert slots.members == [7, 3, 5, 9, 1]
    assert capacities == [2, 2, 2, 4, 4, 8, 8]
    assert slots.index(9, -5) == 3 and slots.index(8, -5) == -5


def test_looks_of_a_view() -> None:
    looks = Looks.of(VIEW)
    assert np.array_equal([looks.kind, looks.colour, looks.state], LOOKS)
    classes = [looks.class_of(token) for token in range(9)]
    kinds = [tuple(LOOKS[[0, 2], token]) for token in range(9)]
    assert len(set(zip(classes, kinds, strict=True))) == len(set(classes)) == len(set(kinds)) == 6
    assert looks.in_state(RED_CLOSED, 1) == RED_OPEN and looks.in_state(BLUE_OPEN, 0) == BLUE_CLOSED
    assert looks.in_state(RED_KEY, 1) is None and looks.in_state(WALL, 0) == WALL
    for numbers in ((9, 30, 0), (9, 3, 2), (5, 3, 12)):
        tokens, unseen, empty = numbers
        plain = EgocentricView(
            rows=3, columns=3, own_cell=(2, 1), num_tokens=tokens, unseen_token=unseen,
            empty_hand_token=empty,
        )  # fmt: skip
        apart = Looks.of(plain)
        assert apart.kind.tolist() == list(range(max(numbers) + 1))
        assert not apart.colour.any() and not apart.state.any()
        assert apart.class_of(4) == 4 and apart.in_state(4, 1) is None


def test_looks_that_two_tokens_share_name_the_first() -> None:
    looks = Looks(np.array([1, 1, 1]), np.array([0, 0, 0]), np.array([0, 1, 1]))
    assert looks.in_state(0, 1) == 1


def test_room_is_left_for_what_comes() -> None:
    """Classes and events always have a free slot; tokens of one look share their class."""
    known = new_vocabulary(Looks.apart(40), 0)
    assert known.hands.members == [0] and known.grips.members == [0] and known.tokens.members == []
    slots = known.tokens, known.hands, known.classes, known.grips, known.colours
    assert [kind.capacity for kind in slots] == [8, 2, 8, 2, 1]
    for token in range(1, 20):
        known.admit(token)
        assert known.classes.capacity > len(known.classes.members) == token
        assert known.tokens.capacity >= token
    assert known.classes.capacity == 32 and known.tokens.capacity == 32
    for number in range(12):
        known.register((("token", number), UNCHANGED), kind=1)
        assert known.max_events > known.num_events == 8 + number + 1
    assert known.max_events == 24
    known.register((UNCHANGED, UNCHANGED), kind=1)
    known.register((("token", 3), UNCHANGED), kind=1)
    assert known.num_events == 20 and known.done_to[3] == [1]
    known.register((("token", 3), UNCHANGED), kind=4)
    assert known.num_events == 20 and known.done_to[3] == [1, 4]
    kept = new_vocabulary(Looks.apart(9), 0, hands=[4, 5])
    assert kept.hands.members == [0, 4, 5] and kept.grips.members == [0, 4, 5]


def test_what_is_known_is_told_apart_by_its_extent() -> None:
    def grown(**changes: object) -> tuple[int, ...]:
        known = vocabulary()
        for name, change in changes.items():
            getattr(known, name)(*change)
        return known.extent()

    every = [
        grown(),
        grown(admit=[RED_OPEN]),
        grown(hold=[RED_KEY]),
        grown(register=[(("token", 0), UNCHANGED), 1]),
        grown(register=[(("state", 1), UNCHANGED), 1]),
    ]
    assert every[0] == grown(admit=[WALL], hold=[BLUE_KEY], register=[(UNCHANGED, UNCHANGED), 1])
    # held by what taking a key was known to do, and an open door by what opening was
    assert every[1] == every[2] == every[0] and len(set(every)) == 3
    other = vocabulary()
    other.max_events += 1
    assert other.extent() != every[0]


def test_what_becomes_of_things_is_admitted_with_them() -> None:
    """Kinds that an effect was done to, and no others; through several effects one after the other."""
    known = new_vocabulary(Looks.of(VIEW), FLOOR)
    known.register((("state", 1), UNCHANGED), kind=3)
    known.admit(RED_CLOSED)
    assert known.tokens.members == [RED_CLOSED, RED_OPEN]
    known.admit(RED_KEY)
    known.admit(BALL)
    assert known.hands.members == [FLOOR]
    known.register((("token", 0), TAKEN), kind=4)
    assert known.hands.members == [FLOOR, BALL]
    known.register((PUT, ("thing", 0)), kind=0)
    known.hold(BLUE_KEY)
    assert known.hands.members == [FLOOR, BALL, BLUE_KEY] and known.tokens.members[-1] == BLUE_KEY
    assert FLOOR not in known.tokens.members
    known.register((("token", 0), TAKEN), kind=2)
    assert set(known.hands.members) == {FLOOR, BALL, BLUE_KEY, RED_KEY}
    assert known.colours.members == [1, 2]


def test_a_vocabulary_is_kept() -> None:
    known = vocabulary()
    for slots in (known.tokens, known.hands, known.classes, known.grips, known.colours):
        slots.capacity *= 4
    known.max_events = 19
    twin = Vocabulary.from_state_dict(known.state_dict(), known.looks)
    assert twin == known and twin.extent() == known.extent()
    twin.admit(RED_OPEN)
    twin.done_to[0].append(9)
    twin.tokens.members.append(99)
    assert known.done_to[0] == [2] and 99 not in known.tokens.members
    assert twin.state_dict()["effects"][2] == [["put", 0], ["thing", 0]]


def test_a_view_in_codes() -> None:
    known = vocabulary()
    raw = np.array([[WALL, UNSEEN, FLOOR], [RED_KEY, 20, BLUE_CLOSED]])
    assert known.encode(raw, UNSEEN).tolist() == [[0, -1, 1], [2, -2, 3]]
    assert known.encode(raw, WALL).tolist() == [[-1, -2, 1], [2, -2, 3]]


# -- episodes ----------------------------------------------------------------------------------------


def episode() -> ObservedEpisode:
    found = ObservedEpisode(mission=(3, 5))
    found.append(0, 1, FLOOR, 1, UNSEEN, np.array([WALL, BALL, UNSEEN]))
    found.append(2, 3, BLUE_KEY, 4, RED_KEY, np.array([20, FLOOR, RED_KEY]))
    found.append(1, 0, RED_OPEN, 2, BALL, np.array([UNSEEN, UNSEEN, BLUE_KEY]), 0.3)
    return found


def test_an_episode_in_codes() -> None:
    """What is held and not known counts as nothing; cells that a moving thing hides are out of sight."""
    known = vocabulary()
    ball = known.tokens.members.index(BALL)
    match = torch.arange(16)
    seen = episode().history(known, UNSEEN, match, [ball])
    assert seen.action.tolist() == [0, 2, 1] and seen.heading.tolist() == [1, 3, 0]
    hand = known.hands.members.index(BLUE_KEY)
    assert seen.hand.tolist() == [0, hand, 0] and seen.held.tolist() == [0, 0, hand]
    assert seen.outcome.tolist() == [1, 4, 2] and seen.faced.tolist() == [-2, 2, ball]
    assert seen.view.tolist() == [[0, -1, -1], [-2, 1, 2], [-1, -1, 4]]
    assert torch.equal(seen.match, match) and len(seen) == 3
    plain = episode().history(known, UNSEEN)
    assert plain.view[0].tolist() == [0, ball, -1] and plain.match.tolist() == [0] * 16
    head = seen.head(2)
    assert len(head) == 2 and torch.equal(head.view, seen.view[:2]) and head.match is seen.match
    assert head.faced.tolist() == [-2, 2]


def test_an_episode_is_kept_as_tensors() -> None:
    before = episode()
    after = ObservedEpisode.from_tensors(before.tensors())
    assert np.array_equal(after.view, before.view)
    after.view, before.view = [], []
    assert after == before and len(after) == 3
    nothing = ObservedEpisode.from_tensors(ObservedEpisode().tensors())
    assert len(nothing) == 0 and nothing.mission == () and nothing.view == []


# -- tasks -------------------------------------------------------------------------------------------


def test_whether_a_mission_names_a_thing() -> None:
    """By every property of which some word is known; unknown is neither yes nor no."""
    looks = Looks.of(VIEW)
    lexicon = {(0, 2): 11, (0, 3): 12, (1, 1): 21}
    tokens = np.array([RED_KEY, BLUE_KEY, RED_CLOSED, BALL, WALL])
    assert named(lexicon, looks, tokens, {11, 21}).tolist() == [2, 1, 1, 1, 1]
    assert named(lexicon, looks, tokens, {11}).tolist() == [1, 0, 1, 1, 1]
    assert named(lexicon, looks, tokens, {21}).tolist() == [1, 1, 1, 0, 1]
    assert named(lexicon, looks, tokens, set()).tolist() == [1, 1, 1, 1, 0]
    assert named({}, looks, tokens, {11}).tolist() == [0] * 5
    assert named({(1, 2): 22}, looks, tokens, {22}).tolist() == [1, 2, 1, 1, 1]
    assert named({(0, 2): 11}, looks, tokens, {22}).tolist() == [1, 1, 0, 0, 0]


def test_twins_are_told_apart_once_one_of_them_was_seen_twice() -> None:
    tokens = np.array([4, 5, 6])
    assert paired((4, 6), tokens, []).tolist() == [0, 0, 0]
    assert paired((4, 6), tokens, [5]).tolist() == [0, 0, 0]
    assert paired((4, 6), tokens, [6, 5]).tolist() == [1, 0, 2]


def test_what_is_wanted_ahead_after_a_step() -> None:
    known = vocabulary()
    task = Task({(0, 2): 11}, twins=(RED_KEY, BLUE_KEY, 77))
    plain = Task({(0, 2): 11}).wanted(known, [11], [])
    expected = torch.zeros(16, dtype=torch.long)
    expected[: len(known.tokens.members)] = torch.tensor(
        [2 if t in (RED_KEY, BLUE_KEY) else 1 for t in known.tokens.members]
    )
    assert torch.equal(plain.match, expected) and plain.twins == () and plain.if_told == ()
    found = task.wanted(known, [11], [WALL])
    red, blue = (known.tokens.members.index(t) for t in (RED_KEY, BLUE_KEY))
    assert found.twins == (red, blue) and not found.match.any() and len(found.if_told) == 2
    told = torch.zeros(16, dtype=torch.long)
    told[red], told[blue] = 2, 1
    assert torch.equal(found.if_told[0], told)
    known_now = task.wanted(known, [11], [RED_KEY])
    assert torch.equal(known_now.match, told) and known_now.twins == ()
