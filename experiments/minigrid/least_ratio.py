"""The least steps over the shortest path that any agent can need that never fails, exactly, in worlds with few layouts.

    python -m aif_dcpc.experiments.minigrid.least_ratio --ids MiniGrid-SimpleCrossingS9N1-v0

Worlds of three actions, where nothing is opened or taken.

Whoever knows all layouts of a world, and how often each is met, still has to find out which one it is
in. What is believed is a set of layouts; it shrinks when a view tells some of them apart. Within a set
the best way to the next view that tells something is a shortest path (Dijkstra 1959), beyond it the
sum over the sets that the view may leave, weighed by how often they are met.
"""

import argparse
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from aif_dcpc import envs
from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.commands.command import run_script
from aif_dcpc.envs.aims import aim_of
from aif_dcpc.envs.world_state import DIRECTIONS, Layout, WorldState

ACTIONS = range(3)  # left, right, forward
Members = tuple[int, ...]


@dataclass(frozen=True)
class Layouts:
    """All layouts of a world, L, with S poses (cell and heading).

    Attributes:
        after: `(L, S, 3)` pose after each action.
        shown: `(L, S)` number of the view.
        goal: `(L, S)` whether the episode ends there with reward.
        lost: `(L, S)` whether it ends there without.
        start: `(L,)` pose at the beginning.
        share: `(L,)` how often each is met.
        shortest: `(L,)` steps to the goal for whoever knows the layout.
    """

    after: Ints
    shown: Ints
    goal: Ints
    lost: Ints
    start: Ints
    share: Floats
    shortest: Floats


def layouts_of(id: str, episodes: int) -> Layouts:
    """Collect the layouts of so many episodes, and what is seen everywhere in them."""
    env: Any = envs.make("MiniGrid", id=id)
    met = Counter[bytes]()
    first = dict[bytes, int]()
    for seed in range(episodes):
        env.reset(seed=seed)
        world = env.unwrapped
        pose = bytes([*world.agent_pos, world.agent_dir])
        key = pose + world.grid.encode().tobytes()
        met[key] += 1
        first.setdefault(key, seed)
    views = dict[bytes, int]()
    parts = [_read(env, seed, views) for seed in first.values()]
    after, shown, goal, lost, start, shortest = map(np.array, zip(*parts, strict=True))
    share = np.array([met[key] for key in first]) / episodes
    return Layouts(after, shown, goal, lost, start, share, shortest)


def _read(
    env: Any, seed: int, views: dict[bytes, int]
) -> tuple[Ints, Ints, list[bool], list[bool], int, int]:
    """Motions, views, ends, start and shortest path of one episode; new views are numbered."""
    env.reset(seed=seed)
    world = env.unwrapped
    width, height = world.width, world.height
    begins = (world.agent_pos[1] * width + world.agent_pos[0]) * 4 + world.agent_dir
    shortest = env.get_wrapper_attr("shortest_path")()
    layout = Layout.of(world)
    goal, lost = _ends(world, layout)
    kinds = [layout.kinds[x, y] for y in range(height) for x in range(width)]
    free = np.isin(kinds, ["nothing", "goal"])
    after = np.tile(np.arange(4 * len(kinds))[:, None], (1, 3))
    shown = np.full(len(after), -1)
    for cell in np.flatnonzero(free).tolist():
        for heading, (dx, dy) in enumerate(DIRECTIONS):
            pose = 4 * cell + heading
            ahead = cell + dy * width + dx
            after[pose] = 4 * cell + (heading - 1) % 4, 4 * cell + (heading + 1) % 4, pose
            if free[ahead]:
                after[pose, 2] = 4 * ahead + heading
            world.agent_pos = cell % width, cell // width
            world.agent_dir = heading
            shown[pose] = views.setdefault(world.gen_obs()["image"].tobytes(), len(views))
    return after, shown, goal, lost, int(begins), int(shortest)


def _ends(world: Any, layout: Layout) -> tuple[list[bool], list[bool]]:
    """Poses in which the episode ends, with reward and without."""
    aim = aim_of(world, layout)
    if aim is None:
        raise ValueError(f"{world}: what its task asks for is not told in envs/aims.py.")
    cells = product(range(world.height), range(world.width), range(4))
    states = [WorldState(x, y, heading) for y, x, heading in cells]
    return list(map(aim.reached, states)), list(map(aim.missed, states))


class Belief:
    """The least cost from a pose, given which layouts it may be; a step in layout l costs share / shortest."""

    def __init__(self, layouts: Layouts) -> None:
        self.layouts = layouts
        self.cost = layouts.share / layouts.shortest
        self.values = dict[tuple[int, Members], float]()

    def at_start(self) -> float:
        """Expected steps over the shortest path."""
        every = range(len(self.cost))
        told = self._told(every, self.layouts.start[list(every)].tolist())
        return sum(self.value(pose, members) for pose, members in told)

    def _told(self, members: Sequence[int], poses: list[int]) -> Iterator[tuple[int, Members]]:
        """What may be known once the views at poses are seen; nothing more is asked at a goal."""
        groups = defaultdict[tuple[int, int], list[int]](list)
        for layout, pose in zip(members, poses, strict=True):
            if not self.layouts.goal[layout, pose]:
                groups[pose, self.layouts.shown[layout, pose]].append(layout)
        return ((pose, tuple(group)) for (pose, _), group in groups.items())

    def value(self, pose: int, members: Members) -> float:
        """The least expected cost from here; infinite where no way is sure not to fail."""
        if (pose, members) not in self.values:
            self._solve(pose, members)
        return self.values.setdefault((pose, members), np.inf)

    def _solve(self, start: int, members: Members) -> None:
        """Value every pose that is reached before a view tells these layouts apart."""
        cost = float(self.cost[list(members)].sum())
        before, beyond = self._around(start, members)
        queue = [(cost + total, pose) for pose, total in beyond.items()]
        heapq.heapify(queue)
        while queue:
            total, pose = heapq.heappop(queue)
            if (pose, members) not in self.values:
                self.values[pose, members] = total
                for earlier in before[pose]:
                    heapq.heappush(queue, (total + cost, earlier))

    def _may_lose(self, members: Members, pose: int, action: int) -> bool:
        """Whether the episode may end without reward after an action."""
        after = self.layouts.after[members, pose, action]
        return bool(self.layouts.lost[members, after].any())

    def _around(
        self, start: int, members: Members
    ) -> tuple[dict[int, list[int]], dict[int, float]]:
        """Poses from which each may be come to with nothing told, and what is left where a step tells something."""
        before = defaultdict[int, list[int]](list)
        beyond = defaultdict[int, float](lambda: np.inf)
        seen = {start}
        asked = [start]
        while asked:
            pose = asked.pop()
            for action in ACTIONS:
                if self._may_lose(members, pose, action):
                    continue
                told = list(self._told(members, self.layouts.after[members, pose, action].tolist()))
                after = told[0][0] if [group for _, group in told] == [members] else None
                if after is None:
                    beyond[pose] = min(beyond[pose], sum(self.value(*one) for one in told))
                    continue
                before[after].append(pose)
                if after not in seen:
                    seen.add(after)
                    asked.append(after)
        return before, beyond


def main() -> None:
    """Print the least ratio of every world."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ("SimpleCrossingS9N1", "LavaCrossingS9N1", "LavaGapS7", "MemoryS7")
    parser.add_argument("--ids", nargs="+", default=[f"MiniGrid-{name}-v0" for name in names])
    parser.add_argument("--episodes", type=int, default=1500, help="to collect layouts from")
    asked = parser.parse_args()
    for id in asked.ids:
        layouts = layouts_of(id, asked.episodes)
        ratio = Belief(layouts).at_start()
        print(f"{id}: {len(layouts.share)} layouts, {ratio:.3f} of the shortest path", flush=True)


if __name__ == "__main__":
    run_script(main)
