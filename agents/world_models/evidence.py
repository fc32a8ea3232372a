"""What sightings say about the map, given where the agent was: counts per cell, with the map integrated out.

A *segment* is a stretch of a cell's history with one token: the initial map has one segment per cell, and every write
opens a new one. Given the path, segments are independent, so that the map is integrated out exactly:

    log p(views | path) = sum over segments log sum_z p(z) prod over its sightings p(o | z)

with p(o | z) = 1 - misread for o = z and misread / (num_tokens - 1) else.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.agents.world_models.geometry import Geometry
from aif_dcpc.agents.world_models.paths import Path, Record, Sightings, cells_seen
from aif_dcpc.agents.world_models.vocabulary import SAME


@dataclass(frozen=True)
class Segments:
    """Where each sighting and each cell ahead belongs; only map cells that some sequence saw or faced are numbered.

    Attributes:
        cells: `(U,)` the map cell of each of the first U segments: these are initial ones.
        seen: `(N, S)` segment of every sighting.
        front: `(N, T)` segment of the cell ahead at each slice.
        home: `(N, T)` the initial segment of the cell ahead at each slice.
        token: `(N, J)` token of every written segment (SAME where the write did not happen); segment U + j.
        times: slice of each write.
    """

    cells: Tensor
    seen: Tensor
    front: Tensor
    home: Tensor
    token: Tensor
    times: list[int]

    @property
    def count(self) -> int:
        """U + J."""
        return len(self.cells) + len(self.times)

    def initial_tokens(self, initial: Tensor) -> Tensor:
        """Token of every segment, `(N, U + J)`, given the initial map `(N, M)`."""
        return torch.cat([initial[:, self.cells], self.token], 1)

    def latest(self) -> Tensor:
        """`(N, U)` the present segment of every numbered cell."""
        size = len(self.cells)
        last = torch.arange(size).expand(len(self.token), size)
        for number, time in enumerate(self.times):
            wrote = (self.token[:, number, None] != SAME) & (torch.arange(size) == self.home[:, time - 1, None])
            last = torch.where(wrote, size + number, last)
        return last


def segment(path: Path, record: Record, sightings: Sightings, geometry: Geometry) -> Segments:
    """Assign sightings and fronts to segments; loops over the few slices at which something was written."""
    seen_cell = cells_seen(path.position[:, sightings.time], record.heading[sightings.time], sightings.place, geometry)
    cells, local = _number(seen_cell, path.front, geometry.size**2)
    seen = first_seen = local[seen_cell]
    front = home = local[path.front]
    times: list[int] = (path.written != SAME).any(0).nonzero()[:, 0].tolist()
    slices = torch.arange(len(record))
    for number, time in enumerate(times):
        wrote, cell = path.written[:, time, None] != SAME, home[:, time - 1, None]
        seen = torch.where(wrote & (first_seen == cell) & (sightings.time >= time), len(cells) + number, seen)
        front = torch.where(wrote & (home == cell) & (slices >= time), len(cells) + number, front)
    return Segments(cells, seen, front, home, path.written[:, times], times)


def _number(seen: Tensor, front: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The map cells in use `(U,)`, and the number of each map cell `(M,)`."""
    used = torch.zeros(size, dtype=torch.bool)
    used[seen.flatten()] = True
    used[front.flatten()] = True
    return used.nonzero()[:, 0], used.cumsum(0) - 1


def sighting_counts(segments: Segments, sightings: Sightings, num_slots: int) -> Tensor:
    """How often each token was seen in each segment, `(N, segments, V)`."""
    counts = torch.zeros(segments.seen.shape[0], segments.count * num_slots)
    ordinary = sightings.code >= 0
    index = segments.seen * num_slots + sightings.code.clamp_min(0)
    counts.scatter_add_(1, index, ordinary.float().expand_as(index))
    return counts.unflatten(1, (segments.count, num_slots))


def segment_prior(segments: Segments, log_token_prior: Tensor) -> Tensor:
    """log p(z) of every segment, `(N, segments, V)`: the token prior `(N, V)`, or a point mass where it was written.

    Written segments that a sequence does not have keep the token prior, which sums to one: they add nothing.
    """
    num, slots = log_token_prior.shape
    initial = log_token_prior[:, None].expand(num, len(segments.cells), slots)
    if not segments.times:
        return initial
    point = torch.where(torch.arange(slots) == segments.token[..., None], 0.0, -1e9)
    written = torch.where(segments.token[..., None] == SAME, log_token_prior[:, None], point)
    return torch.cat([initial, written], 1)


def front_evidence(segments: Segments, steps: Tensor) -> Tensor:
    """What events and outcomes say about the cell ahead of the slice before, `(N, segments, V)`.

    Args:
        segments: where the cells ahead belong.
        steps: `(N, T - 1, V)` log p(event, outcome | token ahead) of every step.
    """
    num, _, slots = steps.shape
    total = torch.zeros(num, segments.count, slots)
    index = segments.front[:, :-1, None].expand_as(steps)
    return total.scatter_add_(1, index, steps)


def misread_log_odds(misread: Tensor, num_tokens: int) -> Tensor:
    """log p(o = z | z) - log p(o | z) for any other o."""
    return torch.log1p(-misread) - torch.log(misread / (num_tokens - 1))
