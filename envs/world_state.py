"""What can change in a MiniGrid world, and what stood where at first: for evaluation, agents never see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))
PORTABLE = ("key", "ball", "box")
Cell = tuple[int, int]


class WorldState(NamedTuple):
    """Where the agent is, and what it did to the things that the layout numbers.

    Attributes:
        x, y, heading: where the agent is.
        carried: number of the thing in its hand; -1 for none.
        opened: numbers of the doors that were opened.
        taken: of the things that are not where they were at first.
        dropped: where those lie that were put down, (number, cell).
    """

    x: int
    y: int
    heading: int
    carried: int = -1
    opened: frozenset[int] = frozenset()
    taken: frozenset[int] = frozenset()
    dropped: frozenset[tuple[int, Cell]] = frozenset()


@dataclass(frozen=True)
class Layout:
    """What stood where at the beginning.

    Attributes:
        kinds: cell -> what is there, see `kind`.
        numbers: cell of a closed door or a portable thing -> its number.
        things: these in the order of their numbers, then what is in the agent's hand.
        portable: how many of them can be carried.
    """

    kinds: Mapping[Cell, str]
    numbers: Mapping[Cell, int]
    things: list[Any]
    portable: int

    @classmethod
    def of(cls, env: Any) -> "Layout":
        """Look at every cell of a MiniGrid environment, and into the agent's hand."""
        cells = [(x, y) for x in range(env.width) for y in range(env.height)]
        kinds = {cell: kind(env.grid.get(*cell)) for cell in cells}
        kept = [cell for cell in cells if kinds[cell] in ("door", *PORTABLE)]
        numbers = {cell: number for number, cell in enumerate(kept)}
        things = [env.grid.get(*cell) for cell in kept]
        if env.carrying is not None:
            things.append(env.carrying)
        portable = sum(kind(thing) in PORTABLE for thing in things)
        return cls(kinds, numbers, things, portable)

    def number_of(self, thing: Any) -> int:
        """The number of a closed door or a portable thing; -1 for None, as of empty hands, -2 for anything else."""
        other = -1 if thing is None else -2
        return next((number for number, known in enumerate(self.things) if known is thing), other)

    def state_of(self, env: Any) -> WorldState:
        """The state of the environment that was looked at."""
        x, y = map(int, env.agent_pos)
        return WorldState(x, y, int(env.agent_dir), self.number_of(env.carrying))


def kind(thing: Any) -> str:
    """Type of a MiniGrid object; "nothing" where there is none, "open door" for one that stands open."""
    if thing is None:
        return "nothing"
    return "open door" if thing.type == "door" and thing.is_open else str(thing.type)


def in_front(state: WorldState) -> Cell:
    """The cell ahead of the agent."""
    dx, dy = DIRECTIONS[state.heading]
    return state.x + dx, state.y + dy


def beside(state: WorldState, cell: Cell) -> bool:
    """Whether the agent stands next to a cell, whatever way it looks."""
    return abs(state.x - cell[0]) + abs(state.y - cell[1]) == 1
