"""Random walks through a grid world of keys, doors and balls, and what is said of them by plain loops over dictionaries.

Shared by tests of the grid world's parts. Nothing here is taken from the code that is tested but the
vocabulary's lists of members.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.counts import Counts, TablePrior, Tables, no_counts
from aif_dcpc.agents.gridworld.model.geometry import Geometry, geometry_of
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.paths import History, effects_of
from aif_dcpc.agents.gridworld.model.vocabulary import PUT, TAKEN, UNCHANGED, Slots, Vocabulary
from aif_dcpc.agents.protocol import EgocentricView

# kind, colour, state of floor, wall, red and blue key, red door closed and open, the blue one, a ball
LOOKS = np.array(
    [(0, 0, 0), (1, 0, 0), (2, 1, 0), (2, 2, 0), (3, 1, 0), (3, 1, 1), (3, 2, 0), (3, 2, 1), (4, 1, 0)]
).T  # fmt: skip
FLOOR, WALL, RED_KEY, BLUE_KEY, RED_CLOSED, RED_OPEN, BLUE_CLOSED, BLUE_OPEN, BALL = range(9)
UNSEEN = 30
ROWS = 4
COLUMNS = 3
OWN = (2, 1)
VIEW = EgocentricView(
    rows=ROWS, columns=COLUMNS, own_cell=OWN, num_tokens=9, unseen_token=UNSEEN,
    empty_hand_token=FLOOR, looks=LOOKS,
)  # fmt: skip
ACTIONS = 3
OUTCOMES = 6
TAKE, OPEN, DROP = 8, 9, 10  # events
CARDINAL = [(0, 1), (1, 0), (0, -1), (-1, 0)]  # (dy, dx) by heading, clockwise


def vocabulary() -> Vocabulary:
    """It knows all but the open red door's twin colours by name, three effects, and has free slots."""
    known = Vocabulary(
        Looks.of(VIEW),
        Slots(16, [WALL, FLOOR, RED_KEY, BLUE_CLOSED, BLUE_KEY, RED_CLOSED, BALL]),
        Slots(5, [FLOOR, BLUE_KEY]),
        max_events=13,
    )
    floor = known.tokens.members.index(FLOOR)
    known.register((("token", floor), TAKEN), kind=2)
    known.register((("state", 1), UNCHANGED), kind=3)
    known.register((PUT, ("thing", 0)), kind=0)
    known.hold(BALL)
    return known


def motion(event: int, heading: int) -> tuple[int, int, int]:
    """Quarter turns, dy and dx of an event that begins with a heading."""
    turns = event if 1 <= event <= 3 else 0
    ahead = {4: 1, 5: -1}.get(event, 0)
    right = {6: -1, 7: 1}.get(event, 0)
    along = CARDINAL[heading]
    across = CARDINAL[(heading + 1) % 4]
    return turns, ahead * along[0] + right * across[0], ahead * along[1] + right * across[1]


def view_cell(position: tuple[int, int], heading: int, place: int) -> tuple[int, int]:
    """(y, x) of a cell of the view, without wrapping."""
    ahead = OWN[0] - place // COLUMNS
    right = place % COLUMNS - OWN[1]
    along = CARDINAL[heading]
    across = CARDINAL[(heading + 1) % 4]
    return (
        position[0] + ahead * along[0] + right * across[0],
        position[1] + ahead * along[1] + right * across[1],
    )


@dataclass
class Walk:
    """A world, a history drawn at random, and particles drawn at random."""

    vocabulary: Vocabulary
    geometry: Geometry
    grid: GridConditionals
    history: History
    particles: GridParticles
    moving: list[int]
    milestone: int


def random_walk(seed: int, *, size: int = 8, number: int = 3, length: int = 9) -> Walk:
    """Everything at random, however unlikely it is."""
    source = np.random.default_rng(seed)
    known = vocabulary()
    geometry = geometry_of(VIEW, size)
    members = len(known.tokens.members)
    milestone = known.tokens.members.index(FLOOR)  # taking writes it, whatever was there
    moving = [known.tokens.members.index(BALL)]
    effects = effects_of(geometry, known, milestone, moving)
    past = no_counts(ACTIONS, known)
    past = Counts(
        *(torch.as_tensor(source.integers(0, 3, p.shape)).float() for p in vars(past).values())
    )
    grid = GridConditionals(geometry, effects, TablePrior(), past, known.tokens.capacity + 1)

    def whole(low: int, high: int, *shape: int) -> Tensor:
        return torch.as_tensor(source.integers(low, high, shape))

    match = torch.zeros(known.tokens.capacity, dtype=torch.long)
    match[:members] = whole(0, 3, members)
    view = whole(-2, members, length, ROWS * COLUMNS)
    view[torch.as_tensor(source.random(view.shape) < 0.4)] = -1
    history = History(
        whole(0, ACTIONS, length), whole(0, 4, length), whole(0, len(known.hands.members), length), view,
        whole(0, OUTCOMES, length), whole(-2, members, length), match,
    )  # fmt: skip
    tables = Tables(
        torch.as_tensor(source.random((number, *past.transition.shape))).float(),
        torch.as_tensor(source.random((number, *past.outcome.shape))).float(),
        torch.as_tensor(source.dirichlet(np.ones(16), (number, len(past.tokens)))).float(),
        torch.as_tensor(source.random(number) * 0.2 + 0.05).float(),
    )
    particles = GridParticles(
        whole(0, known.num_events, number, length), whole(0, members, number, size**2), tables
    )
    particles.events[0, length // 2] = TAKE
    return Walk(known, geometry, grid, history, particles, moving, milestone)


@dataclass
class Told:
    """What one particle's walk comes to."""

    position: list[tuple[int, int]] = field(default_factory=list)
    ahead: list[tuple[int, int]] = field(default_factory=list)  # wrapped cells
    token_ahead: list[int] = field(default_factory=list)
    segment_ahead: list[Any] = field(
        default_factory=list
    )  # cell, and how often it had been written
    written: list[int] = field(default_factory=list)
    passed: list[int] = field(default_factory=list)
    writes: list[tuple[Any, int]] = field(default_factory=list)
    sights: list[dict[str, Any]] = field(default_factory=list)
    present: dict[Any, int] = field(default_factory=dict)


def raw(known: Vocabulary, slot: int) -> int:
    """The raw token of a slot."""
    return known.tokens.members[slot]


def class_of(known: Vocabulary, slot: int) -> int:
    """Slot of the kind and state of a token."""
    token = raw(known, slot)
    kinds = [tuple(LOOKS[[0, 2], t]) for t in range(9)]
    members = [kinds[_token_of_class(number)] for number in known.classes.members]
    return members.index(kinds[token])


def _token_of_class(number: int) -> int:
    return next(t for t in range(9) if 2 * LOOKS[0, t] + LOOKS[2, t] == number)


def colour_of(known: Vocabulary, slot: int) -> int:
    """Slot of the colour of a token."""
    return known.colours.members.index(int(LOOKS[1, raw(known, slot)]))


def grip_of(known: Vocabulary, slot: int, hand: int) -> int:
    """Twice the slot of what is in hand, and one more where colours agree; 0 for an empty hand."""
    if hand == 0:
        return 0
    thing = known.hands.members[hand]
    kind = 2 * LOOKS[0, thing] + LOOKS[2, thing]
    same = LOOKS[1, thing] == LOOKS[1, raw(known, slot)]
    return 2 * known.grips.members.index(int(kind)) + int(same)


def place_of(known: Vocabulary, slot: int, match: int, passed: int) -> int:
    """Context of the outcome table."""
    look = class_of(known, slot) * known.colours.capacity + colour_of(known, slot)
    return (look * 3 + match) * 2 + passed


def does(
    known: Vocabulary, event: int, faced: int, hand: int
) -> tuple[int | None, int | None, bool]:
    """Slot written ahead, slot in hand afterwards (None: as before), and whether that can be."""
    token = raw(known, faced) if faced >= 0 else None
    floor = known.tokens.members.index(FLOOR)
    if event == TAKE:
        able = token in (RED_KEY, BLUE_KEY)
        return floor, known.hands.members.index(token) if able else None, able
    if event == OPEN:
        opened = {
            RED_CLOSED: RED_OPEN,
            BLUE_CLOSED: BLUE_OPEN,
            RED_OPEN: RED_OPEN,
            BLUE_OPEN: BLUE_OPEN,
        }
        able = token in opened
        return known.tokens.members.index(opened[token]) if able else None, None, able
    if event == DROP:
        able = hand > 0
        return known.tokens.members.index(known.hands.members[hand]) if able else None, 0, able
    return None, None, True


def context_of(walk: Walk, time: int, place: int) -> int:
    """What the view shows next to a cell on the agent's side."""
    y, x = divmod(place, COLUMNS)
    nearer = []
    for row, column in (
        (y + (y < OWN[0]) - (y > OWN[0]), x), (y, x + (x < OWN[1]) - (x > OWN[1])),
    ):  # fmt: skip
        code = int(walk.history.view[time, row * COLUMNS + column])
        known = code >= 0 and (row, column) not in ((y, x), OWN)
        nearer.append(1 + class_of(walk.vocabulary, code) if known else 0)
    return nearer[0] * (walk.vocabulary.classes.capacity + 1) + nearer[1]


def told(walk: Walk, particle: int) -> Told:
    """Follow one particle."""
    history = walk.history
    events = walk.particles.events[particle].tolist()
    size = walk.geometry.size
    now = {
        (y, x): int(walk.particles.initial[particle, y * size + x])
        for y in range(size)
        for x in range(size)
    }
    times = dict.fromkeys(now, 0)
    firsts: set[Any] = set()
    found = Told(present=now)
    y = x = 0
    passed = 0
    for t in range(len(history)):
        written = -1
        if t:
            heading = int(history.heading[t - 1])
            write, _, _ = does(
                walk.vocabulary, events[t], int(history.faced[t]), int(history.hand[t - 1])
            )
            _, dy, dx = motion(events[t], heading)
            y, x = y + dy, x + dx
            if write is not None:
                written = write
                now[found.ahead[-1]] = write
                times[found.ahead[-1]] += 1
                found.writes.append((found.ahead[-1], write))
                passed |= write == walk.milestone
        heading = int(history.heading[t])
        dy, dx = CARDINAL[heading]
        front = (y + dy) % size, (x + dx) % size
        found.position.append((y, x))
        found.written.append(written)
        found.passed.append(int(passed))
        found.ahead.append(front)
        found.token_ahead.append(now[front])
        found.segment_ahead.append((front, times[front]))
        for place, code in enumerate(history.view[t].tolist()):
            if code == -1 or place == OWN[0] * COLUMNS + OWN[1]:
                continue
            cell = tuple(c % size for c in view_cell((y, x), heading, place))
            first = times[cell] == 0 and cell not in firsts
            if first:
                firsts.add(cell)
            found.sights.append(
                {"time": t, "cell": cell, "code": code, "token": now[cell], "first": first,
                 "context": context_of(walk, t, place), "segment": (cell, times[cell])}
            )  # fmt: skip
    return found


def thing_ahead(walk: Walk, found: Told, time: int) -> int:
    """What a step into a slice was done to: the ball that was faced, or what the map says."""
    faced = int(walk.history.faced[time])
    return faced if faced in walk.moving else found.token_ahead[time - 1]
