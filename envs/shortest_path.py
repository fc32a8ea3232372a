"""Shortest paths by breadth-first search over the whole state, for evaluation only: agents never see this."""

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

MAX_STATES = 200_000
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))


class Node(NamedTuple):
    """Where the agent is, what it carries (index into the objects) and which objects are open or gone."""

    x: int
    y: int
    heading: int
    carried: int
    opened: frozenset[int]
    taken: frozenset[int]


def shortest_path(env: Any) -> int | None:
    """Least number of actions (turn, forward, pick up, toggle) to a goal cell; None if none is found."""
    objects = {(i, j): env.grid.get(i, j) for i in range(env.width) for j in range(env.height)}
    things = [
        (cell, o) for cell, o in objects.items() if o is not None and o.type in ("door", "key")
    ]
    index = {cell: n for n, (cell, _) in enumerate(things)}
    x, y = map(int, env.agent_pos)
    start = Node(x, y, int(env.agent_dir), -1, frozenset(), frozenset())
    queue = deque([(start, 0)])
    seen = {start}
    while queue and len(seen) < MAX_STATES:
        node, steps = queue.popleft()
        here = objects[node.x, node.y]
        if here is not None and here.type == "goal":
            return steps
        for following in _successors(node, objects, things, index):
            if following not in seen:
                seen.add(following)
                queue.append((following, steps + 1))
    return None


def _successors(
    node: Node,
    objects: dict[tuple[int, int], Any],
    things: list[tuple[tuple[int, int], Any]],
    index: dict[tuple[int, int], int],
) -> Iterator[Node]:
    yield node._replace(heading=(node.heading + 1) % 4)
    yield node._replace(heading=(node.heading - 1) % 4)
    dx, dy = DIRECTIONS[node.heading]
    cell = (node.x + dx, node.y + dy)
    front = objects.get(cell)
    number = index.get(cell, -1)
    gone = number in node.taken
    if front is None or gone or front.type in ("goal", "floor") or number in node.opened:
        yield node._replace(x=cell[0], y=cell[1])
    elif front.type == "door":
        if front.is_open:
            yield node._replace(x=cell[0], y=cell[1])
        elif not front.is_locked or (
            node.carried >= 0 and things[node.carried][1].color == front.color
        ):
            yield node._replace(opened=node.opened | {number})
    elif front.type == "key" and node.carried < 0:
        yield node._replace(carried=number, taken=node.taken | {number})
