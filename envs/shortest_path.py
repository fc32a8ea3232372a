"""Shortest paths by breadth-first search over the whole state: for evaluation, agents never see it."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from minigrid.core.actions import Actions

from aif_dcpc.envs.aims import aim_of
from aif_dcpc.envs.world_state import PORTABLE, Cell, Layout, WorldState, in_front

MAX_STATES = 200_000
Origins = dict[WorldState, tuple[WorldState, Actions] | None]  # the state before, and what was done


def shortest_path(env: Any) -> int | None:
    """Least number of actions that end the episode with reward, for whoever knows everything.

    None for tasks whose aim is not told in `aims`, and where no way is found among `MAX_STATES` states.
    """
    actions = shortest_actions(env)
    return None if actions is None else len(actions)


def shortest_actions(env: Any) -> list[Actions] | None:
    """Actions of a shortest path; None as in `shortest_path`.

    Turns, steps ahead, picking up, putting down, opening doors, and `done` where a task asks for it.
    What moves by itself stands still here, boxes stay closed, and opened doors stay open.
    """
    layout = Layout.of(env)
    aim = aim_of(env, layout)
    if aim is None:
        return None
    start = layout.state_of(env)
    hands = env.action_space.n > Actions.pickup
    queue = deque([start])
    origins: Origins = {start: None}
    while queue and len(origins) < MAX_STATES:
        state = queue.popleft()
        if aim.reached(state):
            return [*_actions_to(state, origins), *aim.then] or [Actions.done]
        for action, following in _successors(state, layout, hands):
            if following not in origins and not aim.missed(following):
                origins[following] = state, action
                queue.append(following)
    return None


def _actions_to(state: WorldState, origins: Origins) -> list[Actions]:
    """What was done from the start on."""
    actions = []
    origin = origins[state]
    while origin is not None:
        before, action = origin
        actions.append(action)
        origin = origins[before]
    return actions[::-1]


def _successors(
    state: WorldState, layout: Layout, hands: bool
) -> Iterator[tuple[Actions, WorldState]]:
    """Actions that change something, and the states after them; without hands nothing is taken or opened."""
    yield Actions.right, state._replace(heading=(state.heading + 1) % 4)
    yield Actions.left, state._replace(heading=(state.heading - 1) % 4)
    cell = in_front(state)
    if cell not in layout.kinds:
        return
    number, ahead = _ahead(state, layout, cell)
    if ahead in ("nothing", "goal", "floor", "open door") or number in state.opened:
        yield Actions.forward, state._replace(x=cell[0], y=cell[1])
    if hands:
        yield from _deeds(state, layout, number, ahead)


def _deeds(
    state: WorldState, layout: Layout, number: int, ahead: str
) -> Iterator[tuple[Actions, WorldState]]:
    """What hands can do with what is ahead."""
    cell = in_front(state)
    if ahead == "door" and number not in state.opened and _can_open(state, number, layout):
        yield Actions.toggle, state._replace(opened=state.opened | {number})
    elif ahead in PORTABLE and state.carried < 0:
        taken = state.taken | {number}
        left = state.dropped - {(number, cell)}
        yield Actions.pickup, state._replace(carried=number, taken=taken, dropped=left)
    elif ahead == "nothing" and state.carried >= 0 and layout.portable > 1:
        lying = state.dropped | {(state.carried, cell)}
        yield Actions.drop, state._replace(carried=-1, dropped=lying)


def _ahead(state: WorldState, layout: Layout, cell: Cell) -> tuple[int, str]:
    """Number (-1 for what has none) and kind of what is in a cell now."""
    for number, place in state.dropped:
        if place == cell:
            return number, str(layout.things[number].type)
    number = layout.numbers.get(cell, -1)
    if number in state.taken:
        return -1, "nothing"
    return number, layout.kinds[cell]


def _can_open(state: WorldState, number: int, layout: Layout) -> bool:
    """Whether a closed door is unlocked, or the agent carries its key."""
    door = layout.things[number]
    if not door.is_locked:
        return True
    if state.carried < 0:
        return False
    held = layout.things[state.carried]
    return bool(held.type == "key" and held.color == door.color)
