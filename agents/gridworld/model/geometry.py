"""Egocentric geometry: where the cells of a view lie on the map, and what each motion does to a pose.

This is the first piece of prior knowledge that a grid agent is given (`knowledge: egocentric_view`;
all of it stands in `knowledge_of`): a view is laid around the agent, and a step moves it by at most
one cell or turns it by quarter turns. Which action does which, and on which tokens, is learned.

The map is a torus of `size` x `size` cells in the agent's own frame: it starts at (0, 0),
heading h in 0..3 turns clockwise, heading 0 looks along +x, y points down. It grows before anything
that is seen could wrap around onto what was seen elsewhere.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.protocol import EgocentricView

AHEAD: Ints = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])  # (dy, dx) by heading
RIGHT: Ints = np.array([(1, 0), (0, -1), (-1, 0), (0, 1)])
ROOM = 2  # cells that the map keeps free on every side of all that was seen

# A motion is (quarter turns clockwise, cells ahead, cells to the right); motion 0 changes nothing.
MOTIONS: Ints = np.array(
    [(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, -1), (0, 0, 1)]
)


@dataclass(frozen=True)
class Geometry:
    """Offsets of the view's cells and of motions, by heading.

    Attributes:
        size: cells along a side of the map; the next larger one has twice as many.
        offsets: `(4, rows * columns, 2)` (dy, dx) of every view cell from the agent, by heading.
        cell_ahead: `(4, 2)` (dy, dx) of the cell ahead.
        steps: `(num_motions, 4, 2)` displacement of a motion that starts with a heading.
        turns: `(num_motions,)` quarter turns clockwise.
        nearer: `(rows * columns, 3)` the up to three neighbours of a view cell that lie nearer to
            the agent; -1 pads.
        outwards: `(rows * columns - 1,)` the other view cells from the agent outwards: after their
            nearer neighbours.
        beside: `(2, rows * columns)` the neighbour of a view cell one step nearer along its column,
            and along its row; `own` where there is none.
        own: index of the agent's own cell in the view.
    """

    size: int
    offsets: Ints
    cell_ahead: Ints
    steps: Ints
    turns: Ints
    nearer: Ints
    outwards: Ints
    beside: Ints
    own: int

    @property
    def start(self) -> tuple[int, int]:
        """Where every episode starts, (y, x)."""
        return 0, 0

    @cached_property
    def torus(self) -> "Torus":
        """Map cells around a position, by lookup."""
        return Torus.of(self)

    @cached_property
    def reach(self) -> int:
        """How far from the agent a cell can lie that it sees or faces, along either axis."""
        return int(max(np.abs(self.offsets).max(), np.abs(self.cell_ahead).max()))

    @cached_property
    def place_ahead(self) -> int:
        """Number of the view cell ahead of the agent; that of its own cell if it does not see it."""
        at = (self.offsets[0] == self.cell_ahead[0]).all(-1).nonzero()[0]
        return int(at[0]) if len(at) else self.own

    def holding(self, positions: Tensor) -> "Geometry":
        """The same on a map that is large enough, doubled as often as it takes.

        Args:
            positions: `(..., 2)` (y, x) without wrapping; there is room around them for what is
                seen, and for a few cells more.
        """
        places = positions.numpy().reshape(-1, 2)
        extent = int(np.ptp(places, 0).max()) + 1
        size = self.size
        while size < extent + 2 * (self.reach + ROOM):
            size *= 2
        return self if size == self.size else replace(self, size=size)

    def origin(self, positions: Tensor) -> Ints:
        """First row and column, without wrapping, of the map as laid out around positions."""
        origin: Ints = positions.numpy().reshape(-1, 2).min(0) - self.reach - 1
        return origin

    def unwrapped(self, origin: Ints) -> Ints:
        """(y, x) without wrapping of every map cell, `(size^2, 2)`, laid out from an origin."""
        return origin + (self._cells - origin) % self.size

    @cached_property
    def _cells(self) -> Ints:
        """(row, column) of every map cell, `(size^2, 2)`."""
        return np.stack(np.divmod(np.arange(self.size**2), self.size), -1)


@dataclass(frozen=True)
class Torus:
    """Which map cell lies where, seen from a position: one addition and one lookup, without wrapping.

    Every position on the torus has an *anchor*: its place in a frame so wide that no view leaves
    it. The cell at some offset is `cells[anchor + shift of the offset]`.

    Attributes:
        size: cells along a side of the map.
        stride: cells along a side of the wide frame.
        cells: `(stride^2,)` map cell of every place in the wide frame.
        here: shift of the cell that the agent stands on.
        views: `(4, P)` shift of every view cell, by heading.
        cells_ahead: `(4,)` shift of the cell ahead, by heading.
    """

    size: int
    stride: int
    cells: Tensor
    here: int
    views: Tensor
    cells_ahead: Tensor

    @classmethod
    def of(cls, geometry: Geometry) -> "Torus":
        """The lookup for a view on a map."""
        reach = geometry.reach
        stride = geometry.size + 2 * reach
        along = (np.arange(stride) - reach) % geometry.size
        here = reach * stride + reach
        views, cells_ahead = (
            torch.as_tensor(at @ [stride, 1] + here)
            for at in (geometry.offsets, geometry.cell_ahead)
        )
        cells = torch.as_tensor(along[:, None] * geometry.size + along).flatten()
        return cls(geometry.size, stride, cells, here, views, cells_ahead)

    def anchor(self, position: Tensor) -> Tensor:
        """Anchors of positions (y, x) `(..., 2)`, which need not be wrapped."""
        wrapped = position % self.size
        return wrapped[..., 0] * self.stride + wrapped[..., 1]

    def cell(self, place: Tensor) -> Tensor:
        """Map cells of places in the wide frame."""
        return self.cells.take(place)


def geometry_of(view: EgocentricView, size: int) -> Geometry:
    """Lay a view onto a map of `size` x `size` cells."""
    rows, columns = np.divmod(np.arange(view.rows * view.columns), view.columns)
    ahead = view.own_cell[0] - rows
    right = columns - view.own_cell[1]
    offsets = ahead[None, :, None] * AHEAD[:, None] + right[None, :, None] * RIGHT[:, None]
    steps = MOTIONS[:, None, 1:2] * AHEAD + MOTIONS[:, None, 2:3] * RIGHT
    nearer: Ints = np.array(
        [_nearer(a, r, view) for a, r in zip(ahead, right, strict=True)], dtype=np.int64
    )
    away = np.abs(ahead) + np.abs(right)
    outwards = away.argsort(kind="stable")[1:]
    own = view.own_cell[0] * view.columns + view.own_cell[1]
    place = np.arange(view.rows * view.columns)
    along_column = np.where(ahead == 0, own, place + np.sign(ahead) * view.columns)
    along_row = np.where(right == 0, own, place - np.sign(right))
    beside = np.stack([along_column, along_row])
    places: Ints = offsets.astype(np.int64)
    return Geometry(size, places, AHEAD, steps, MOTIONS[:, 0], nearer, outwards, beside, own)


def _nearer(ahead: int, right: int, view: EgocentricView) -> list[int]:
    """Neighbours one step towards the agent: along the column, along the row, along the diagonal."""
    towards = (int(np.sign(ahead)), int(np.sign(right)))
    found = {(ahead - a, right - r) for a, r in ((towards[0], 0), (0, towards[1]), towards)} - {
        (ahead, right)
    }
    cells = [(view.own_cell[0] - a) * view.columns + view.own_cell[1] + r for a, r in sorted(found)]
    return cells + [-1] * (3 - len(cells))
