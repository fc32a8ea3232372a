"""Shortest paths by breadth-first search over the whole state: for evaluation, agents never see it."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

MAX_STATES = 200_000
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))
Cell = tuple[int, int]


class WorldState(NamedTuple):
    """Where the agent is, what it carries, and which doors and keys are open or gone, by number."""

    x: int
    y: int
    heading: int
    carried: int
    opened: frozenset[int]
    taken: frozenset[int]


@dataclass(frozen=True)
class Layout:
    """What stood where at the beginning.

    Attributes:
        objects: cell -> MiniGrid object, or None.
        numbers: cell of a door or key -> its number.
        things: doors and keys in the order of their numbers.
    """

    objects: Mapping[Cell, Any]
    numbers: Mapping[Cell, int]
    things: list[Any]

    @classmethod
    def of(cls, env: Any) -> "Layout":
        """Look at every cell of a MiniGrid environment."""
        cells = [(x, y) for x in range(env.width) for y in range(env.height)]
        objects = {cell: env.grid.get(*cell) for cell in cells}
        kept = [cell for cell in cells if kind(objects[cell]) in ("door", "key")]
        numbers = {cell: number for number, cell in enumerate(kept)}
        return cls(objects, numbers, [objects[cell] for cell in kept])


def shortest_path(env: Any) -> int | None:
    """Least number of actions (turn, forward, pick up, toggle) to a goal cell; None if none is found."""
    layout = Layout.of(env)
    if "goal" not in map(kind, layout.objects.values()):
        return None
    x, y = map(int, env.agent_pos)
    start = WorldState(x, y, int(env.agent_dir), -1, frozenset(), frozenset())
    queue = deque([(start, 0)])
    seen = {start}
    while queue and len(seen) < MAX_STATES:
        state, steps = queue.popleft()
        if kind(layout.objects[state.x, state.y]) == "goal":
            return steps
        for following in _successors(state, layout):
            if following not in seen:
                seen.add(following)
                queue.append((following, steps + 1))
    return None


def kind(thing: Any) -> str:
    """Type of a MiniGrid object; "nothing" where there is none."""
    return "nothing" if thing is None else str(thing.type)


def _successors(state: WorldState, layout: Layout) -> Iterator[WorldState]:
    """States after one action that changes something."""
    yield state._replace(heading=(state.heading + 1) % 4)
    yield state._replace(heading=(state.heading - 1) % 4)
    dx, dy = DIRECTIONS[state.heading]
    cell = (state.x + dx, state.y + dy)
    if cell not in layout.objects:
        return
    ahead = layout.objects.get(cell)
    number = layout.numbers.get(cell, -1)
    if _can_enter(state, ahead, number):
        yield state._replace(x=cell[0], y=cell[1])
    elif kind(ahead) == "door" and _can_open(state, ahead, layout):
        yield state._replace(opened=state.opened | {number})
    elif kind(ahead) == "key" and state.carried < 0:
        yield state._replace(carried=number, taken=state.taken | {number})


def _can_enter(state: WorldState, ahead: Any, number: int) -> bool:
    """Whether the agent can step onto what is ahead."""
    if number in state.taken or number in state.opened:
        return True
    if kind(ahead) == "door":
        return bool(ahead.is_open)
    return kind(ahead) in ("nothing", "goal", "floor")


def _can_open(state: WorldState, door: Any, layout: Layout) -> bool:
    """Whether a closed door is unlocked, or the agent carries its key."""
    if not door.is_locked:
        return True
    return state.carried >= 0 and layout.things[state.carried].color == door.color
