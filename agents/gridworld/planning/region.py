"""The part of the map worth planning in, and where events lead within it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.planning.belief import (
    REMEMBERED,
    Belief,
    PosteriorTables,
)

PROMISING = 0.1  # probability of something rewarded from which a cell is worth planning for
MOST = 400  # cells up to which a region is widened for such cells


@dataclass(frozen=True)
class Region:
    """The part of the map worth planning in: the agent, what was seen, or may be rewarded, and one cell around.

    State s = heading * cells + cell; cell index `cells` stands for everything outside.

    Attributes:
        index: `(cells,)` map cell of each region cell.
        next: `(S, E)` state after each event (blocked at the border).
        cell_ahead: `(S,)` cell ahead.
        view: `(S, P)` cells in the view.
        shape: (rows, columns).
        corner: (y, x) of the first cell, without wrapping.
        steps, turns: what events do, see `PosteriorTables`.
        size: cells along a side of the map.
    """

    index: Ints
    next: Ints
    cell_ahead: Ints
    view: Ints
    shape: tuple[int, int]
    corner: tuple[int, int]
    steps: Ints
    turns: Ints
    size: int

    @property
    def num_cells(self) -> int:
        """Cells in the region."""
        return len(self.index)

    @cached_property
    def facing(self) -> list[Ints]:
        """States that have each cell ahead, ascending; the last: that have a cell outside ahead."""
        order = self.cell_ahead.argsort(kind="stable")
        ends = np.searchsorted(self.cell_ahead[order], np.arange(1, self.num_cells + 1))
        return np.split(order, ends)

    def place(self, cell: int) -> tuple[int, int]:
        """(y, x) without wrapping of a region cell."""
        y, x = divmod(cell, self.shape[1])
        return y + self.corner[0], x + self.corner[1]

    def cell(self, y: int, x: int) -> int:
        """Region cell at a place; `cells` outside."""
        row = y - self.corner[0]
        column = x - self.corner[1]
        inside = 0 <= row < self.shape[0] and 0 <= column < self.shape[1]
        return row * self.shape[1] + column if inside else self.num_cells

    def state(self, pose: Ints) -> Ints:
        """States of poses `(..., 3)`, which lie inside."""
        y = pose[..., 0] - self.corner[0]
        x = pose[..., 1] - self.corner[1]
        return pose[..., 2] * self.num_cells + y * self.shape[1] + x

    def poses_along(self, pose: Ints, events: Sequence[int]) -> Ints:
        """Poses from one on along events, `(L, 3)`."""
        found = [int(self.state(pose))]
        for event in events:
            found.append(int(self.next[found[-1], event]))
        heading, cell = np.divmod(np.array(found), self.num_cells)
        row, column = np.divmod(cell, self.shape[1])
        return np.stack([row + self.corner[0], column + self.corner[1], heading], -1)


def region_of(
    belief: Belief, tables: PosteriorTables, geometry: Geometry, last: Region | None = None
) -> Region:
    """The bounding box of poses and of cells that were seen or may well hold what is rewarded, and one around.

    The last region is returned if it still fits.
    """
    places = geometry.unwrapped(belief.origin)
    known = np.concatenate([places[belief.seen], belief.pose[:, :2]])
    promising = belief.cells[:, tables.rewarded].sum(1) > PROMISING
    box = _around(np.concatenate([known, places[promising]]))
    (rows, columns), (top, left) = box if np.prod(box[0]) <= MOST else _around(known)
    if last is not None and last.size == geometry.size:
        same = (last.shape, last.corner) == ((rows, columns), (top, left))
        if (
            same
            and np.array_equal(last.steps, tables.steps)
            and np.array_equal(last.turns, tables.turns)
        ):
            return last
    return _lay_out((rows, columns), (top, left), tables, geometry)


def _around(places: Ints) -> tuple[tuple[int, int], tuple[int, int]]:
    """Shape and first cell of the box around places `(n, 2)`, with a margin of one."""
    top, left = (places.min(0) - 1).tolist()
    rows, columns = (places.max(0) - (top, left) + 2).tolist()
    return (rows, columns), (top, left)


def _lay_out(
    shape: tuple[int, int], corner: tuple[int, int], tables: PosteriorTables, geometry: Geometry
) -> Region:
    (rows, columns) = shape
    (top, left) = corner
    y, x = (a.ravel() for a in np.mgrid[:rows, :columns])
    index = ((y + top) % geometry.size) * geometry.size + (x + left) % geometry.size
    place = np.stack([y, x], -1)

    def cell(at: Ints) -> Ints:
        inside = (at >= 0).all(-1) & (at[..., 0] < rows) & (at[..., 1] < columns)
        return np.where(inside, at[..., 0] * columns + at[..., 1], rows * columns)

    cell_ahead = cell(place + geometry.cell_ahead[:, None]).ravel()
    view = cell(place[:, None] + geometry.offsets[:, None]).reshape(4 * rows * columns, -1)
    target = cell(place[:, None] + tables.steps.transpose(1, 0, 2)[:, None])
    target = np.where(target == rows * columns, np.arange(rows * columns)[:, None], target)
    heading = (np.arange(4)[:, None] + tables.turns) % 4
    following = (heading[:, None] * rows * columns + target).reshape(4 * rows * columns, -1)
    world = tables.steps, tables.turns, geometry.size
    return Region(index, following, cell_ahead, view, shape, corner, *world)


def views_remembered(belief: Belief, region: Region, number: Ints, size: int) -> tuple[Ints, Ints]:
    """Which views were seen in each of `size` kept states `(N, M)`, fullest first (or -1), and the views.

    Args:
        belief, region: what is known.
        number: `(n, S)` row of each state, or -1.
        size: N.
    """
    memory = np.full((size, REMEMBERED), -1)
    views = [view for seen in belief.visited.values() for view in seen]
    if not views:
        return memory, np.zeros((1, 1), np.int64)
    latest = np.full((len(belief.visited), REMEMBERED), -1)
    first = 0
    for pose, seen in enumerate(belief.visited.values()):
        latest[pose, : len(seen)] = range(first + len(seen) - 1, first - 1, -1)
        first += len(seen)
    rows = number[:, region.state(np.array(list(belief.visited)))]
    poses = np.broadcast_to(np.arange(len(latest)), rows.shape)
    memory[rows[rows >= 0]] = latest[poses[rows >= 0]]
    return memory, np.stack(views)
