"""What each MiniGrid task asks for, read off the environment itself: for evaluation, agents never see it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minigrid.core.actions import Actions
from minigrid.envs.babyai.core import verifier
from minigrid.envs.blockedunlockpickup import BlockedUnlockPickupEnv
from minigrid.envs.fetch import FetchEnv
from minigrid.envs.gotodoor import GoToDoorEnv
from minigrid.envs.gotoobject import GoToObjectEnv
from minigrid.envs.keycorridor import KeyCorridorEnv
from minigrid.envs.memory import MemoryEnv
from minigrid.envs.redbluedoors import RedBlueDoorEnv
from minigrid.envs.unlock import UnlockEnv
from minigrid.envs.unlockpickup import UnlockPickupEnv

from aif_dcpc.envs.world_state import Layout, WorldState, beside, in_front

Test = Callable[[WorldState], bool]


def never(state: WorldState) -> bool:
    """What holds in no state."""
    return False


@dataclass(frozen=True)
class Aim:
    """How an episode ends.

    Attributes:
        reached: whether a state ends it with reward.
        missed: whether one ends it without.
        then: what is still to be done where it is reached.
    """

    reached: Test
    missed: Test = never
    then: tuple[Actions, ...] = ()


def aim_of(env: Any, layout: Layout) -> Aim | None:
    """The aim of a MiniGrid or BabyAI environment; None for tasks that are not told here."""
    if "goal" in layout.kinds.values():
        return Aim(lambda state: layout.kinds[state.x, state.y] == "goal")
    if hasattr(env, "instrs"):
        return _instructed(env.instrs, layout)
    for task, aim in TASKS:
        if isinstance(env, task):
            return aim(env, layout)
    return None


def _open(env: Any, layout: Layout) -> Aim:
    number = layout.number_of(env.door)
    return Aim(lambda state: number in state.opened)


def _hold(env: Any, layout: Layout) -> Aim:
    number = layout.number_of(env.obj)
    return Aim(lambda state: state.carried == number)


def _open_in_order(env: Any, layout: Layout) -> Aim:
    red, blue = map(layout.number_of, (env.red_door, env.blue_door))
    return Aim(
        lambda state: {red, blue} <= state.opened,
        lambda state: blue in state.opened and red not in state.opened,
    )


def _choose_a_place(env: Any, layout: Layout) -> Aim:
    return Aim(
        lambda state: (state.x, state.y) == env.success_pos,
        lambda state: (state.x, state.y) == env.failure_pos,
    )


def _take_one_of(wanted: frozenset[int], strict: bool) -> Aim:
    """If it is strict, taking anything else ends the episode."""
    return Aim(
        lambda state: state.carried in wanted,
        lambda state: strict and state.carried >= 0 and state.carried not in wanted,
    )


def _fetch(env: Any, layout: Layout) -> Aim:
    named = (env.targetType, env.targetColor)
    fitting = [thing for thing in layout.things if (thing.type, thing.color) == named]
    return _take_one_of(frozenset(map(layout.number_of, fitting)), strict=True)


def _stand_beside(env: Any, layout: Layout) -> Aim:
    """Beside what is named, whatever way one looks; opening a door ends the episode."""
    return Aim(
        lambda state: beside(state, env.target_pos),
        lambda state: len(state.opened) > 0,
        (Actions.done,),
    )


TASKS: tuple[tuple[type, Callable[[Any, Layout], Aim]], ...] = (
    (UnlockEnv, _open),
    (UnlockPickupEnv, _hold),
    (BlockedUnlockPickupEnv, _hold),
    (KeyCorridorEnv, _hold),
    (RedBlueDoorEnv, _open_in_order),
    (MemoryEnv, _choose_a_place),
    (FetchEnv, _fetch),
    (GoToDoorEnv, _stand_beside),
    (GoToObjectEnv, _stand_beside),
)


def _instructed(instruction: Any, layout: Layout) -> Aim | None:
    """BabyAI's instructions of one part: go to, pick up or open one of the things that fit."""
    if not isinstance(instruction, (verifier.GoToInstr, verifier.PickupInstr, verifier.OpenInstr)):
        return None
    if isinstance(instruction, verifier.GoToInstr):
        places = [tuple(map(int, place)) for place in instruction.desc.obj_poss]
        return Aim(lambda state: in_front(state) in places)
    wanted = frozenset(map(layout.number_of, instruction.desc.obj_set))
    if isinstance(instruction, verifier.PickupInstr):
        return _take_one_of(wanted, instruction.strict)
    return Aim(
        lambda state: not wanted.isdisjoint(state.opened),
        lambda state: instruction.strict and not state.opened <= wanted,
    )
