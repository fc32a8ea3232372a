"""What is still needed for reward, if nothing that was once had were ever lost.

Hoffmann and Nebel (2001), "The FF planning system", ignore what actions destroy: a door that was
opened stays open and shut, a thing that was taken is in hand and the hand still empty. So relaxed,
the steps to anything are found without a search, and which interactions come first on the way to
reward: those are helpful. Steps of several conditions add up (Bonet and Geffner 2001, "Planning as
heuristic search"), and what happens with a chance takes 1 / chance steps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.compiled import compiled
from aif_dcpc.agents.gridworld.model.counts import REWARDED
from aif_dcpc.agents.gridworld.planning.belief import PosteriorTables
from aif_dcpc.agents.gridworld.planning.region import Region

KNOWN = 0.2  # rows less likely rewarded are not what a plan can be made for
LEAST = 0.01  # chances below this are none: a thing may lie where nobody has looked
NONE = -2  # no milestone; -1 is what effects write that change nothing
ROUNDS = 8  # how many interactions may hang on one another
CLOSE = 1e-9  # steps by which nothing comes nearer

Interaction = tuple[int, int]  # region cell ahead, event
Cause = tuple[int, int, int, int]  # region cell ahead, event, thing in hand, token before


@dataclass(frozen=True)
class Outlook:
    """How far reward is.

    Attributes:
        effort: steps to it under the relaxation; infinite where no way is known.
        helpful: interactions on that way that can be made at once.
    """

    effort: float
    helpful: frozenset[Interaction]


class Relaxation:
    """The world of one belief, relaxed.

    Args:
        tables, region: what is known.
    """

    def __init__(self, tables: PosteriorTables, region: Region) -> None:
        self._tables = tables
        self._region = region

    @cached_property
    def _most(self) -> Floats:
        """The most that any action makes of each event, `(C, V, E)`."""
        most = self._tables.transition_without_optimism.max(0)
        return np.ascontiguousarray(most.transpose(1, 0, 2))

    @cached_property
    def _reward(self) -> Floats:
        """The most that any action makes of reward, `(2, C, V)`; a small one is a small chance."""
        chance = _chance_of_reward(self._tables)
        every = self._tables.of_any_size
        known = (chance if every is None else _chance_of_reward(every)) >= KNOWN
        return np.ascontiguousarray(np.where(known, np.maximum(chance, KNOWN), 0.0))

    def outlook(self, cells: Floats, hand: int, passed: int, entries: Ints) -> Outlook:
        """How far reward is from an abstract state.

        Args:
            cells: `(cells + 1, V)` belief over tokens.
            hand, passed: slot in hand, and whether the milestone is passed.
            entries: states to start from.
        """
        tables = self._tables
        chances = self._most, self._reward
        layout = self._region.next, self._region.cell_ahead
        effects = tables.writes, tables.takes
        milestone = tables.milestone if tables.milestone >= 0 else NONE
        start = milestone, hand, passed
        ways = Ways(*relaxed(cells[:-1], *chances, *layout, *effects, *start, entries))
        first = ways.first() if ways.effort < np.inf else set[Interaction]()
        return Outlook(ways.effort, frozenset(first))


@dataclass(frozen=True)
class Ways:
    """How everything was reached, as `relaxed` tells it.

    Attributes:
        effort: steps to reward.
        goal: `(4,)` cell, thing in hand, token and milestone with which reward is had; V stands for
            a cell as it is believed to be.
        nearest: `(cells,)` the state from which each cell is nearest ahead.
        came: `(S, 3)` the state before each, and the thing in hand and token on the way; -1: none.
        made: `(cells, V + 1, 4)` what made each token: cell, event, thing in hand and token before;
            -1: nothing did.
        taken, passing: `(C, 4)` and `(2, 4)` the same of things in hand and of the milestone.
        cell_ahead: `(S,)`.
    """

    effort: float
    goal: Ints
    nearest: Ints
    came: Ints
    made: Ints
    taken: Ints
    passing: Ints
    cell_ahead: Ints

    def first(self) -> set[Interaction]:
        """Interactions on the way to reward that hang on no other."""
        cell, hand, token, passed = self.goal.tolist()
        needed = {*self._before(cell, hand, token), *self._causes(self.passing[passed])}
        seen = set(needed)
        found = set[Interaction]()
        while needed:
            cell, event, hand, token = needed.pop()
            before = set(self._before(cell, hand, token))
            if not before:
                found.add((cell, event))
            needed |= before - seen
            seen |= before
        return found

    def _before(self, cell: int, hand: int, token: int) -> Iterator[Cause]:
        """What must have been done before a cell is ahead with a thing in hand and a token in it."""
        yield from self._causes(self.taken[hand])
        yield from self._causes(self.made[cell, token])
        state, hand, token = self.came[self.nearest[cell]].tolist()
        while state >= 0:
            yield from self._causes(self.taken[hand])
            yield from self._causes(self.made[self.cell_ahead[state], token])
            state, hand, token = self.came[state].tolist()

    def _causes(self, cause: Ints) -> Iterator[Cause]:
        """A cause, if there is one."""
        if cause[0] >= 0:
            cell, event, hand, token = cause.tolist()
            yield cell, event, hand, token


def _chance_of_reward(tables: PosteriorTables) -> Floats:
    """The most that any action makes of reward, by milestone, thing in hand and token, `(2, C, V)`."""
    rows = tables.outcome_without_optimism[:, tables.outcome_rows][..., REWARDED].sum(-1)
    chance: Floats = np.einsum("avce,paev->pacv", tables.transition_without_optimism, rows).max(1)
    if tables.arrivals is not None:
        ahead = tables.arrivals.outcome_without_optimism[:, tables.arrivals.events]
        chance = np.maximum(chance, ahead[..., REWARDED].sum(-1).max(1)[:, None])
    return chance


@compiled
def relaxed(
    cells: Floats,
    most: Floats,
    reward: Floats,
    following: Ints,
    cell_ahead: Ints,
    writes: Ints,
    takes: Ints,
    milestone: int,
    hand: int,
    passed: int,
    entries: Ints,
) -> tuple[float, Ints, Ints, Ints, Ints, Ints, Ints, Ints]:
    """Steps to everything, round by round, until nothing more comes nearer.

    Args:
        cells: `(cells, V)` belief over tokens.
        most: `(C, V, E)` the most that any action makes of each event.
        reward: `(2, C, V)` and of reward.
        following: `(S, E)` state after each event.
        cell_ahead: `(S,)` cell ahead; `cells` outside.
        writes, takes, milestone: see `PosteriorTables`.
        hand, passed, entries: where it starts.

    Returns:
        the attributes of `Ways`, in order.
    """
    size, num_tokens = cells.shape
    hands = len(most)
    to_state = np.full(len(cell_ahead), np.inf)
    to_state[entries] = 0.0
    to_hand = np.full(hands, np.inf)
    to_hand[hand] = 0.0
    to_token = np.full((size, num_tokens + 1), np.inf)
    to_token[:, num_tokens] = 0.0  # as it is
    to_passed = np.full(2, np.inf)
    to_passed[passed] = 0.0
    came = np.full((len(cell_ahead), 3), -1)
    made = np.full((size, num_tokens + 1, 4), -1)
    taken = np.full((hands, 4), -1)
    passing = np.full((2, 4), -1)
    near = np.full(size, np.inf)
    nearest = np.zeros(size, np.int64)
    chance = np.zeros((hands, size, most.shape[2]))
    known = np.zeros(hands, np.bool_)
    for _ in range(ROUNDS):
        for held in np.flatnonzero(to_hand < np.inf):
            if not known[held]:
                chance[held] = cells @ most[held]
                known[held] = True
        step, how = steps_until(chance, most, to_hand, to_token)
        come_nearer(step, how, following, cell_ahead, to_state, came)
        face(to_state, cell_ahead, near, nearest)
        if not act(
            cells,
            chance,
            most,
            writes,
            takes,
            milestone,
            near,
            to_hand,
            to_token,
            to_passed,
            made,
            taken,
            passing,
        ):
            break
    effort, goal = gain(cells, reward, near, to_hand, to_token, to_passed)
    return effort, goal, nearest, came, made, taken, passing, cell_ahead


@compiled
def steps_until(
    chance: Floats, most: Floats, to_hand: Floats, to_token: Floats
) -> tuple[Floats, Ints]:
    """Fewest steps until each event has happened with each cell ahead, `(cells, E)`.

    Args:
        chance: `(C, cells, E)` of each event with a cell ahead as it is believed to be.
        most: see `relaxed`.
        to_hand: `(C,)` steps to each thing in hand.
        to_token: `(cells, V + 1)` steps to each token; the last: as it is.

    Returns:
        the steps, and `(cells, E, 2)` thing in hand and token for them.
    """
    size, variants = to_token.shape
    events = most.shape[2]
    step = np.full((size, events), np.inf)
    how = np.zeros((size, events, 2), np.int64)
    for held in np.flatnonzero(to_hand < np.inf):
        for cell in range(size):
            for variant in range(variants):
                before = to_hand[held] + to_token[cell, variant]
                if before == np.inf:
                    continue
                row = chance[held, cell] if variant == variants - 1 else most[held, variant]
                for event in range(1, events):
                    if row[event] >= LEAST:
                        total = before + 1 / row[event]
                        if total < step[cell, event]:
                            step[cell, event] = total
                            how[cell, event, 0] = held
                            how[cell, event, 1] = variant
    return step, how


@compiled
def come_nearer(
    step: Floats, how: Ints, following: Ints, cell_ahead: Ints, to_state: Floats, came: Ints
) -> None:
    """Bring the steps to all states `(S,)` up to date, and how they were come to, `(S, 3)`.

    It goes through them back and forth until none comes nearer.

    Args:
        step, how: as `steps_until` tells.
        following, cell_ahead: see `relaxed`.
        to_state, came: overwritten.
    """
    states = len(to_state)
    changed = True
    sweep = 0
    while changed:
        changed = False
        for place in range(states):
            state = place if sweep % 2 == 0 else states - 1 - place
            cell = cell_ahead[state]
            if to_state[state] == np.inf or cell == len(step):
                continue
            for event in range(1, following.shape[1]):
                after = following[state, event]
                total = to_state[state] + step[cell, event]
                if total < to_state[after] - CLOSE:
                    to_state[after] = total
                    came[after, 0] = state
                    came[after, 1:] = how[cell, event]
                    changed = True
        sweep += 1


@compiled
def face(to_state: Floats, cell_ahead: Ints, near: Floats, nearest: Ints) -> None:
    """Bring up to date the fewest steps until each cell is ahead, and the state that it is ahead of."""
    for state in range(len(to_state)):
        cell = cell_ahead[state]
        if cell < len(near) and to_state[state] < near[cell]:
            near[cell] = to_state[state]
            nearest[cell] = state


@compiled
def act(
    cells: Floats,
    chance: Floats,
    most: Floats,
    writes: Ints,
    takes: Ints,
    milestone: int,
    near: Floats,
    to_hand: Floats,
    to_token: Floats,
    to_passed: Floats,
    made: Ints,
    taken: Ints,
    passing: Ints,
) -> bool:
    """Let all effects happen wherever they can; return whether anything comes nearer by that.

    The last six are brought up to date; others as in `relaxed` and `steps_until`.
    """
    changed = False
    for held in np.flatnonzero(to_hand < np.inf):
        for cell in np.flatnonzero(near < np.inf):
            known = to_token[cell] < np.inf  # what is attained below waits for the next round
            for variant in range(len(known)):
                if not known[variant]:
                    continue
                asis = variant == len(known) - 1
                row = chance[held, cell] if asis else most[held, variant]
                before = near[cell] + to_hand[held] + to_token[cell, variant]
                for event in range(len(row)):
                    if row[event] < LEAST:
                        continue
                    token = likeliest_token(cells[cell], most[held, :, event]) if asis else variant
                    total = before + 1 / row[event]
                    cause = int(cell), event, int(held), variant
                    wrote = writes[event, token, held]
                    changed |= attain(total, cause, wrote, to_token[cell], made[cell])
                    changed |= attain(total, cause, takes[event, token, held], to_hand, taken)
                    if wrote == milestone:
                        changed |= attain(total, cause, 1, to_passed, passing)
    return changed


@compiled
def likeliest_token(cell: Floats, most: Floats) -> int:
    """The token of a cell `(V,)` that most likely brings an event about, by its chances `(V,)`."""
    best = 0
    for token in range(1, len(cell)):
        if cell[token] * most[token] > cell[best] * most[best]:
            best = token
    return best


@compiled
def attain(total: float, cause: Cause, what: int, steps: Floats, causes: Ints) -> bool:
    """Note what brings something about (below 0: nothing) in fewer steps; return whether it does."""
    if what >= 0 and total < steps[what] - CLOSE:
        steps[what] = total
        for place in range(len(cause)):
            causes[what, place] = cause[place]
        return True
    return False


@compiled
def gain(
    cells: Floats,
    reward: Floats,
    near: Floats,
    to_hand: Floats,
    to_token: Floats,
    to_passed: Floats,
) -> tuple[float, Ints]:
    """Fewest steps to reward; and cell, thing in hand, token and milestone with which it is had."""
    best = np.inf
    goal = np.zeros(4, np.int64)
    for passed in np.flatnonzero(to_passed < np.inf):
        for held in np.flatnonzero(to_hand < np.inf):
            there = cells @ reward[passed, held]
            for cell in np.flatnonzero(near < np.inf):
                for variant in np.flatnonzero(to_token[cell] < np.inf):
                    asis = variant == to_token.shape[1] - 1
                    chance = there[cell] if asis else reward[passed, held, variant]
                    before = near[cell] + to_hand[held] + to_token[cell, variant]
                    if chance >= LEAST:
                        total = before + to_passed[passed] + 1 / chance
                        if total < best:
                            best = total
                            goal = np.array([cell, held, variant, passed])
    return best, goal
