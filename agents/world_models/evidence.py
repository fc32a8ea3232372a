"""What sightings say about the map, given where the agent was: counts per cell, with the map integrated out.

A *segment* is a stretch of a cell's history with one token: the initial map has one segment per cell, and every write
opens a new one. Given the path, segments are independent, so that the map is integrated out exactly:

    log p(views | path) = sum over segments log sum_z p(z) prod over its sightings p(o | z)

with p(o | z) = 1 - misread for o = z and misread / (num_tokens - 1) else.
"""

from dataclasses import dataclass

import torch
from aif_dcpc.agents.world_models.geometry import Geometry
from aif_dcpc.agents.world_models.paths import Path, Record, Sightings, cells_seen
from aif_dcpc.agents.world_models.vocabulary import SAME
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """Where each sighting and each cell ahead belongs.

    Attributes:
        seen: `(N, S)` segment of every sighting.
        front: `(N, T)` segment of the cell ahead at each slice.
        last: `(N, M)` current segment of every map cell.
        token: `(N, J)` token of every written segment (SAME where the write did not happen); segment M + j.
    """

    seen: Tensor
    front: Tensor
    last: Tensor
    token: Tensor

    @property
    def count(self) -> int:
        """M + J."""
        return self.last.shape[1] + self.token.shape[1]


def segment(path: Path, record: Record, sightings: Sightings, geometry: Geometry) -> Segments:
    """Assign sightings and fronts to segments; loops over the few slices at which something was written."""
    num, cells = path.position.shape[0], geometry.size**2
    seen = cells_seen(path.position[:, sightings.time], record.heading[sightings.time], sightings.place, geometry)
    front, times = path.front, torch.arange(len(record))
    last = torch.arange(cells).expand(num, cells)
    seen_cell, tokens = seen, []
    for number, time in enumerate((path.written != SAME).any(0).nonzero()[:, 0].tolist()):
        wrote = path.written[:, time, None] != SAME
        cell = path.front[:, time - 1, None]
        label = torch.tensor(cells + number)
        seen = torch.where(wrote & (seen_cell == cell) & (sightings.time >= time), label, seen)
        front = torch.where(wrote & (path.front == cell) & (times >= time), label, front)
        last = torch.where(wrote & (torch.arange(cells) == cell), label, last)
        tokens.append(path.written[:, time])
    token = torch.stack(tokens, 1) if tokens else torch.empty(num, 0, dtype=torch.long)
    return Segments(seen, front, last, token)


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
    initial = log_token_prior[:, None].expand(num, segments.last.shape[1], slots)
    if not segments.token.shape[1]:
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
