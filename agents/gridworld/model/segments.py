"""What sightings say about the map, given where the agent was: the map is integrated out.

A *segment* is a stretch of a cell's history with one token: the initial map has one segment per
cell, and every write opens a new one. Given the path, segments are independent, so that the map is
integrated out exactly:

    log p(views | path) = sum over segments log sum_z p(z) prod over its sightings p(o | z)

with p(o | z) = 1 - misread for o = z and misread / (num_tokens - 1) else.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.model.loops import divide
from aif_dcpc.agents.gridworld.model.paths import Sightings, Trajectory


@dataclass(frozen=True)
class Segments:
    """Where each sighting and each cell ahead belongs.

    Only map cells that some sequence saw or faced are numbered.

    Attributes:
        cells: `(U,)` the map cell of each of the first U segments: these are initial ones.
        seen: `(N, S)` segment of every sighting.
        cell_ahead: `(N, T)` segment of the cell ahead at each slice.
        token: `(N, J)` token of the j-th write, segment U + j (SAME where a sequence has fewer
            writes).
        latest: `(N, U)` the present segment of every numbered cell.
    """

    cells: Tensor
    seen: Tensor
    cell_ahead: Tensor
    token: Tensor
    latest: Tensor

    @property
    def count(self) -> int:
        """How many segments there are, U + J."""
        return len(self.cells) + self.token.shape[1]

    def initial_tokens(self, initial: Tensor) -> Tensor:
        """Token of every segment, `(N, U + J)`, given the initial map `(N, M)`."""
        return torch.cat([initial.index_select(1, self.cells), self.token], 1)


def segment(trajectory: Trajectory, sightings: Sightings, geometry: Geometry) -> Segments:
    """Assign sightings and cells ahead to segments."""
    anchor, cell_ahead, written = (
        part.contiguous().numpy()
        for part in (trajectory.anchor, trajectory.cell_ahead, trajectory.written)
    )
    time = sightings.time.numpy()
    shift = sightings.shift.numpy()
    parts = divide(
        anchor, cell_ahead, written, time, shift, geometry.torus.cells.numpy(), geometry.size**2
    )
    return Segments(*(torch.from_numpy(part) for part in parts))


def add_step_evidence(logits: Tensor, segments: Segments, steps: Tensor) -> Tensor:
    """Add, in place, log p(event_t, outcome_t | token ahead at t - 1) to the segment of that cell.

    Args:
        logits: `(N, segments, V)` log p(token of every segment, its sightings).
        segments: where the cells ahead belong.
        steps: `(N, T - 1, V)` log p(event, outcome | token ahead) of every step.
    """
    return logits.scatter_add_(1, segments.cell_ahead[:, :-1, None].expand_as(steps), steps)


def misread_log_odds(misread: Tensor, num_tokens: int) -> Tensor:
    """log p(o = z | z) - log p(o | z) for any other o."""
    return torch.log1p(-misread) - torch.log(misread / (num_tokens - 1))
