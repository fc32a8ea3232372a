"""Abstract states: what the world can be made into by acting on it.

An abstract state is what is in hand and which cells have been changed. Inside one, the agent only
moves; an interaction whose predicted effect is likely enough leads to another. They are opened
nearest first, under a budget: near in the steps until the effect has happened, of which trying
takes 1 / chance.
"""

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.planning.belief import Belief, PosteriorTables
from aif_dcpc.agents.gridworld.planning.distances import distances, least_effort
from aif_dcpc.agents.gridworld.planning.region import Region
from aif_dcpc.agents.gridworld.planning.relaxation import Interaction, Outlook, Relaxation

Key = tuple[int, int, tuple[tuple[int, int], ...]]
# thing in hand; whether the milestone is passed; (y, x, token) of the changes
Goal = tuple[int, int, tuple[tuple[int, int, int], ...]]
# steps to reward by it, tie break, steps to itself, abstract state, interaction, states
Step = tuple[float, int, float, int, Interaction | None, Ints]
HOPELESS = 1e4  # steps that states count for from which no way to a known reward leads
# steps still needed weigh more than those made: the sum of conditions overcounts, and falls by less
# than what was done for it (Bonet and Geffner 2001, the planner HSP2)
WEIGHT = 5.0
# what is not on the way counts for more: else every door near by is shut and opened before what helps
# hangs together (preferred operators of Helmert 2006, "The Fast Downward planning system")
ASIDE = 25.0


@dataclass
class AbstractState:
    """One node of the search.

    Attributes:
        hand: slot in hand.
        passed: 1 if the milestone has been written, else 0.
        changes: region cell -> token.
        cells: `(cells + 1, V)` belief over tokens, the last row for everything outside.
        chance: `(S, E)` the most that any action makes of each event (an upper bound where the
            token ahead is uncertain).
        parent: number of the abstract state that it was found from; its own number for the first.
        children: (region cell ahead, event) -> number of the abstract state it leads to.
    """

    hand: int
    passed: int
    changes: dict[int, int]
    cells: Floats
    chance: Floats
    parent: int
    children: dict[Interaction, int] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """What tells it from every other abstract state."""
        return key_of(self.hand, self.passed, self.changes)

    def holds(self, at: Interaction) -> tuple[int, int]:
        """What is in hand, and the likeliest token in the cell of an interaction."""
        return self.hand, int(self.cells[at[0]].argmax())


def key_of(hand: int, passed: int, changes: dict[int, int]) -> Key:
    """Identity of the abstract state with these changes."""
    return hand, passed, tuple(sorted(changes.items()))


@dataclass(frozen=True, kw_only=True)
class SearchBudget:
    """How far the search looks.

    Attributes:
        configurations: how many abstract states at most.
        per_event: how many cells (the nearest) each kind of effect is tried on, per abstract state.
        min_probability: predicted effects less likely than this are not followed.
        passable: motions less likely than this do not count as a way.
    """

    configurations: int = 6
    per_event: int = 2
    min_probability: float = 0.05
    passable: float = 0.1


class Search:
    """Best-first expansion of abstract states from the present one.

    Args:
        belief, tables, region: what is known.
        budget: how far to look.
        intended: goals of the previous plan, with places on the map: they are always expanded, so
            that replanning cannot lose them to the search budget.
        turn: of the present state, each event is opened at one more cell, by turns: what lies far off
            is found in time, and is then intended if it is worth it.
    """

    def __init__(
        self,
        belief: Belief,
        tables: PosteriorTables,
        region: Region,
        budget: SearchBudget,
        intended: Sequence[Goal] = (),
        turn: int = 0,
    ) -> None:
        self.tables = tables
        self.turn = turn
        self.region = region
        self.budget = budget
        self.relaxation = Relaxation(tables, region)
        # p(event) by the action that most likely brings it about
        self.likeliest = tables.transition.max(0)
        most = np.maximum(tables.writes, tables.takes).max((1, 2))
        self.effects: list[int] = np.flatnonzero(most >= 0).tolist()
        lasting = belief.cells if belief.later is None else belief.later
        self.present = self._laid_out(belief, lasting)
        self.intended = {self._key_now(goal) for goal in intended}
        self.found: list[AbstractState] = []
        self.reward_known = False
        self.numbers: dict[Key, int] = {}
        self._number(key_of(belief.hand, belief.passed, {}), 0)
        self._run(int(region.state(belief.pose[belief.likeliest])))
        self.moment = 0 if belief.later is None else self._momentary(belief)

    def _laid_out(self, belief: Belief, cells: Floats) -> Floats:
        """Cells of the region, and one for everything outside."""
        return np.concatenate([cells[self.region.index], belief.unseen[None]])

    def _key_now(self, goal: Goal) -> Key:
        """Identity of a goal of the previous plan; what has been brought about since is no change any more."""
        hand, passed, changes = goal
        wanted: dict[int, int] = {}
        for y, x, token in changes:
            wanted = self._changed(wanted, self.region.cell(y, x), token)
        return key_of(hand, passed, wanted)

    def _momentary(self, belief: Belief) -> int:
        """Number of the abstract state that holds for one step, while what moves stands where it is."""
        now = self._laid_out(belief, belief.cells)
        self.found.append(self._node(belief.hand, belief.passed, {}, now, 0))
        return len(self.found) - 1

    def _run(self, state: int) -> None:
        """Expand abstract states and open interactions, those nearest to reward first."""
        start: Step = (0.0, 0, 0.0, 0, None, np.array([state]))
        queue = [start]
        ticks = itertools.count(1)
        while queue:
            _, _, cost, number, interaction, states = heapq.heappop(queue)
            if interaction is None:
                for total, effort, ahead, at in self._interactions(number, states):
                    step = cost + total, next(ticks), cost + effort, number, ahead, at
                    heapq.heappush(queue, step)
            else:
                child = self._open(number, *interaction)
                if child is not None:
                    heapq.heappush(queue, (cost, next(ticks), cost, child, None, states))

    def _interactions(
        self, number: int, entries: Ints
    ) -> list[tuple[float, float, Interaction, Ints]]:
        """What can be tried in an abstract state.

        Each comes with the steps until reward, where a way to it is known, and until it has happened,
        (cell, event), and the states to try it from.
        """
        node = self.found[number]
        if not self.effects or (self._full and number and node.key not in self.intended):
            return []
        outlook = self.relaxation.outlook(node.cells, node.hand, node.passed, entries)
        if outlook.effort < np.inf:
            self.reward_known = True
        distance = self._distances(node.chance, entries)
        least = self.budget.min_probability
        possible = (node.chance >= least) & np.isfinite(distance)[:, None]
        layout = self.region.cell_ahead, self.region.num_cells
        found: list[tuple[float, float, Interaction, Ints]] = []
        for event in self.effects:
            effort = least_effort(distance, node.chance[:, event], *layout, least)
            for cell in self._nearest(number, event, effort, outlook):
                facing = self.region.facing[cell]
                states = facing[possible[facing, event]]
                steps = float(effort[cell])
                total = self._total(outlook, steps, (cell, event))
                found.append((total, steps, (cell, event), states))
        return found

    def _total(self, outlook: Outlook, steps: float, at: Interaction) -> float:
        """Weighted steps to reward by an interaction; to itself where no reward is known."""
        if outlook.effort < np.inf:
            return WEIGHT * outlook.effort + (0.0 if at in outlook.helpful else steps + ASIDE)
        return steps + (HOPELESS if self.reward_known else 0.0)

    def _nearest(self, number: int, event: int, effort: Floats, outlook: Outlook) -> list[int]:
        """Cells to try an event at: those of least effort, that help, or are intended; one by turns."""
        possible = np.flatnonzero(effort < np.inf)
        within_reach: list[int] = possible[effort[possible].argsort(kind="stable")].tolist()
        near = within_reach[: self.budget.per_event]
        far = within_reach[self.budget.per_event :]
        if far and not number:
            self.intended.add(self._key_after(number, far[self.turn % len(far)], event))
        return near + [
            cell
            for cell in far
            if (cell, event) in outlook.helpful
            or (self.intended and self._key_after(number, cell, event) in self.intended)
        ]

    def _open(self, number: int, cell: int, event: int) -> int | None:
        """Follow an interaction while there is room.

        Returns:
            the number of the abstract state that it leads to, if that is new.
        """
        key = self._key_after(number, cell, event)
        known = key in self.numbers
        if self._full and not known and key not in self.intended:
            return None
        child = self._number(key, number)
        self.found[number].children[cell, event] = child
        return None if known else child

    def _key_after(self, number: int, cell: int, event: int) -> Key:
        """The abstract state that an event at a cell makes of this one."""
        node = self.found[number]
        tables = self.tables
        token = int((node.cells[cell] * self.likeliest[:, node.hand, event]).argmax())
        takes = int(tables.takes[event, token, node.hand])
        writes = int(tables.writes[event, token, node.hand])
        hand = takes if takes >= 0 else node.hand
        passed = 1 if writes == tables.milestone >= 0 else node.passed
        changes = self._changed(node.changes, cell, writes) if writes >= 0 else node.changes
        return key_of(hand, passed, changes)

    @property
    def _full(self) -> bool:
        return len(self.found) >= self.budget.configurations

    def goals(self, numbers: Sequence[int]) -> list[Goal]:
        """Abstract states by what lies in every cell that any of them changes, in places on the map.

        So they are known again when what lies there has changed: where that is a change is told by
        the present of then.
        """
        touched = sorted({cell for number in numbers for cell in self.found[number].changes})
        return [self._goal(self.found[number], touched) for number in numbers]

    def _goal(self, node: AbstractState, touched: Sequence[int]) -> Goal:
        sure = [
            cell for cell in touched if node.cells[cell].max() > 1 - self.budget.min_probability
        ]
        tokens = node.cells[sure].argmax(1).tolist()
        changes = ((*self.region.place(c), t) for c, t in zip(sure, tokens, strict=True))
        return node.hand, node.passed, tuple(changes)

    def _changed(self, changes: dict[int, int], cell: int, token: int) -> dict[int, int]:
        """Changes after writing a token; a cell that is back to what it surely was is no change."""
        rest = {c: t for c, t in changes.items() if c != cell}
        if self.present[cell, token] > 1 - self.budget.min_probability:
            return rest
        return {**rest, cell: token}

    def _number(self, key: Key, parent: int) -> int:
        """Number of an abstract state, which is laid out if it is new."""
        if key not in self.numbers:
            hand, passed, changed = key
            changes = dict(changed)
            cells = self.present.copy()
            for cell, token in changes.items():
                cells[cell] = 0
                cells[cell, token] = 1
            self.numbers[key] = len(self.found)
            self.found.append(self._node(hand, passed, changes, cells, parent))
        return self.numbers[key]

    def _node(
        self, hand: int, passed: int, changes: dict[int, int], cells: Floats, parent: int
    ) -> AbstractState:
        chance = (cells @ self.likeliest[:, hand])[self.region.cell_ahead]
        return AbstractState(hand, passed, changes, cells, chance, parent)

    def _distances(self, chance: Floats, entries: Ints) -> Floats:
        """Steps from the nearest entry to each state along passable motions."""
        motions = len(self.tables.turns)
        passable = chance[:, :motions] >= self.budget.passable
        return distances(self.region.next[:, :motions], passable, entries)

    def successors(self) -> tuple[Ints, Ints]:
        """What follows every event, and what bounds its value.

        An interaction that was not opened here, and so seems to change nothing, may have been opened
        elsewhere: in the abstract state that this one was found from (or that one's, and so on), or
        else where the same lies there and the same is in hand. What it led to there bounds what it
        leads to here, so that a harm that was foreseen before a detour is not forgotten after it,
        and what can be had once is not hoped for again and again.

        Returns:
            `(n * S, E)` flat state (abstract state * S + state) after every event, where effects
            that were not opened change nothing; and the flat state whose value bounds that: itself
            where nothing is known from elsewhere.
        """
        size = len(self.region.cell_ahead)
        after = np.arange(len(self.found))[:, None, None] * size + self.region.next
        bound = after.copy()
        opened = self._opened()
        inherited = list[dict[Interaction, int]]()
        for number, node in enumerate(self.found):
            above = {**inherited[node.parent], **self.found[node.parent].children} if number else {}
            inherited.append(above)
            likewise = {
                at: opened[at][here] for at in opened if (here := node.holds(at)) in opened[at]
            }
            for (cell, event), child in {**likewise, **above, **node.children}.items():
                at = self.region.facing[cell]
                bound[number, at, event] = child * size + at
                if (cell, event) in node.children:
                    after[number, at, event] = child * size + at
        if self.moment:
            after[self.moment] = after[0]
            bound[self.moment] = bound[0]
        return after.reshape(-1, after.shape[2]), bound.reshape(-1, after.shape[2])

    def _opened(self) -> dict[Interaction, dict[tuple[int, int], int]]:
        """What each interaction led to, by what was in hand and lay there; that found first."""
        opened: dict[Interaction, dict[tuple[int, int], int]] = {}
        for node in self.found:
            for at, child in node.children.items():
                opened.setdefault(at, {}).setdefault(node.holds(at), child)
        return opened
