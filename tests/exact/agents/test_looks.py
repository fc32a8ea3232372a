"""What tokens have in common: effects said relatively, and the contexts that tables know."""

import numpy as np
import torch

from aif_dcpc.agents.gridworld.effect_discovery import suspected_effect
from aif_dcpc.agents.gridworld.model.geometry import MOTIONS, geometry_of
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.paths import History, effects_of
from aif_dcpc.agents.gridworld.model.vocabulary import (
    PUT,
    TAKEN,
    UNCHANGED,
    Vocabulary,
    new_vocabulary,
)
from aif_dcpc.agents.protocol import EgocentricView

# kind, colour, state: 0 floor; 1, 2 red and blue key; 3, 4 red door closed, open; 5, 6 blue ones
LOOKS = np.array([(0, 0, 0), (1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 1, 1), (2, 2, 0), (2, 2, 1)]).T
FLOOR, RED_KEY, BLUE_KEY, RED_CLOSED, RED_OPEN, BLUE_CLOSED, BLUE_OPEN = range(7)
VIEW = EgocentricView(
    rows=3,
    columns=3,
    own_cell=(2, 1),
    num_tokens=7,
    unseen_token=6,
    empty_hand_token=FLOOR,
    looks=LOOKS,
)
GEOMETRY = geometry_of(VIEW, 16)


def vocabulary() -> Vocabulary:
    """It has met all but what effects make of things."""
    known = new_vocabulary(Looks.of(VIEW), FLOOR)
    for token in (FLOOR, RED_KEY, RED_CLOSED, BLUE_CLOSED):
        known.admit(token)
    return known


def test_an_effect_on_one_colour_is_known_of_all() -> None:
    """Taking the red key and opening the red door: what both do to blue things needs no trial."""
    known = vocabulary()
    known.register((("token", known.tokens.index(FLOOR, -1)), TAKEN), kind=1)
    known.register((("state", 1), UNCHANGED), kind=2)
    known.register((PUT, ("thing", 0)), kind=0)
    known.admit(BLUE_KEY)
    slot = {token: known.tokens.index(token, -1) for token in range(7)}
    hand = {thing: known.hands.index(thing, -1) for thing in (FLOOR, RED_KEY, BLUE_KEY)}
    assert min(slot.values()) >= 0 and min(hand.values()) >= 0  # open doors and held keys as well
    does = effects_of(GEOMETRY, known)
    take, opens, put = range(len(MOTIONS), len(MOTIONS) + 3)
    empty = hand[FLOOR]
    for key in (RED_KEY, BLUE_KEY):
        assert does.takes[take, slot[key], empty] == hand[key]
        assert does.writes[take, slot[key], empty] == slot[FLOOR]
        assert does.writes[put, slot[FLOOR], hand[key]] == slot[key]
        assert does.takes[put, slot[FLOOR], hand[key]] == empty
    assert does.writes[opens, slot[RED_CLOSED], empty] == slot[RED_OPEN]
    assert does.writes[opens, slot[BLUE_CLOSED], empty] == slot[BLUE_OPEN]
    # floor cannot be taken or opened, and an empty hand puts nothing
    assert not does.possible[[take, opens], slot[FLOOR]].any()
    assert not does.possible[put, :, empty].any()


def test_tables_know_class_and_grip_and_nothing_of_names() -> None:
    known = vocabulary()
    known.hold(RED_KEY)
    known.admit(BLUE_KEY)
    does = effects_of(GEOMETRY, known)
    slot = {token: known.tokens.index(token, -1) for token in range(7)}
    red_key = known.hands.index(RED_KEY, -1)
    assert does.classes[slot[RED_CLOSED]] == does.classes[slot[BLUE_CLOSED]]
    assert does.classes[slot[RED_CLOSED]] != does.classes[slot[RED_KEY]]
    same, other = does.grips[slot[RED_CLOSED], red_key], does.grips[slot[BLUE_CLOSED], red_key]
    assert int(same - other) == 1 and int(does.grips[:, 0].max()) == 0
    free = does.classes[len(known.tokens.members) :]
    assert not set(free.tolist()) & set(does.classes[: len(known.tokens.members)].tolist())
    match = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    places = does.places(match)
    number = len(known.tokens.members)
    looks = {(int(c), int(q)) for c, q in zip(does.classes, does.colours, strict=True)}
    assert len({int(p) for p in places[:number].flatten()}) == 2 * number
    assert len(looks) >= number


def seen(before: list[int], after: list[int], hands: tuple[int, int]) -> History:
    """Two slices without a turn."""
    none = torch.zeros(2, dtype=torch.long)
    return History(none, none, torch.tensor(hands), torch.tensor([before, after]), none, none, none)


def test_what_a_step_did_is_said_relatively_where_it_can_be() -> None:
    known = vocabulary()
    for token in (RED_OPEN, BLUE_KEY):
        known.admit(token)
    known.hold(RED_KEY)
    slot = {token: known.tokens.index(token, -1) for token in range(7)}
    floor, wall = slot[FLOOR], slot[BLUE_CLOSED]

    def suspected(ahead: tuple[int, int], hands: tuple[int, int]) -> object:
        around = [wall, floor, wall, wall, -9, floor, wall, -1, floor]
        before, after = ([a if code == -9 else code for code in around] for a in ahead)
        return suspected_effect(seen(before, after, hands), GEOMETRY, 3, known)

    red_key = known.hands.index(RED_KEY, -1)
    assert suspected((slot[RED_KEY], floor), (0, red_key)) == ((("token", floor), TAKEN), 1)
    assert suspected((floor, slot[RED_KEY]), (red_key, 0)) == ((PUT, ("thing", 0)), 0)
    assert suspected((slot[RED_CLOSED], slot[RED_OPEN]), (0, 0)) == ((("state", 1), UNCHANGED), 2)
    assert suspected((floor, slot[RED_KEY]), (0, 0)) == ((("token", slot[RED_KEY]), UNCHANGED), 0)
    assert suspected((floor, floor), (0, 0)) is None


def test_a_step_ahead_is_no_effect() -> None:
    """All of the view has moved by one cell: the door ahead did not appear, it came nearer."""
    known = vocabulary()
    floor, wall = known.tokens.index(FLOOR, -1), known.tokens.index(RED_CLOSED, -1)
    before = [floor, wall, floor, floor, floor, floor, floor, -1, floor]
    after = [wall, floor, wall, floor, wall, floor, floor, -1, floor]
    assert suspected_effect(seen(before, after, (0, 0)), GEOMETRY, 3, known) is None
