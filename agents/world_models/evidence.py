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
from aif_dcpc.agents.world_models.paths import Path, Record, Sightings
from aif_dcpc.agents.world_models.vocabulary import SAME


@dataclass(frozen=True)
class Segments:
    """Where each sighting and each cell ahead belongs; only map cells that some sequence saw or faced are numbered.

    Attributes:
        cells: `(U,)` the map cell of each of the first U segments: these are initial ones.
        seen: `(N, S)` segment of every sighting.
        front: `(N, T)` segment of the cell ahead at each slice.
        home: `(N, J)` the initial segment of the cell that the j-th write of a sequence changed.
        token: `(N, J)` token of the j-th write, segment U + j (SAME where a sequence has fewer writes).
    """

    cells: Tensor
    seen: Tensor
    front: Tensor
    home: Tensor
    token: Tensor

    @property
    def count(self) -> int:
        """U + J."""
        return len(self.cells) + self.token.shape[1]

    def initial_tokens(self, initial: Tensor) -> Tensor:
        """Token of every segment, `(N, U + J)`, given the initial map `(N, M)`."""
        return torch.cat([initial[:, self.cells], self.token], 1)

    def latest(self) -> Tensor:
        """`(N, U)` the present segment of every numbered cell."""
        size = len(self.cells)
        last = torch.arange(size).expand(len(self.token), size)
        for number, (token, home) in enumerate(zip(self.token.T, self.home.T, strict=True)):
            wrote = torch.where(token == SAME, SAME, home)
            last = torch.where(torch.arange(size) == wrote[:, None], size + number, last)
        return last


def segment(path: Path, record: Record, sightings: Sightings, geometry: Geometry) -> Segments:
    """Assign sightings and fronts to segments; loops over the few writes of a sequence, in order of time."""
    cells, first = _number(torch.cat([sightings.cells(path, geometry), path.front], 1), geometry.size**2)
    when = torch.cat([sightings.time, torch.arange(len(record))])
    token, times = _writes(path.written)
    seen = len(sightings.time)
    home = first[:, seen:].gather(1, times - 1)
    after, now = torch.where(token == SAME, len(record), times), first
    for number in range(token.shape[1]):
        wrote = (first == home[:, number, None]) & (when >= after[:, number, None])
        now = torch.where(wrote, len(cells) + number, now)
    return Segments(cells, now[:, :seen], now[:, seen:], home, token)


def _writes(written: Tensor) -> tuple[Tensor, Tensor]:
    """Token and slice of the writes of each sequence, in order of time, `(N, J)`; SAME pads."""
    wrote = written != SAME
    most = int(wrote.sum(1).max())
    times = wrote.byte().sort(dim=1, descending=True, stable=True).indices[:, :most].clamp_min(1)
    return torch.where(torch.arange(most) < wrote.sum(1, keepdim=True), written.gather(1, times), SAME), times


def _number(used: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The map cells in use `(U,)`, and the number of each use among them."""
    present = torch.bincount(used.flatten(), minlength=size) > 0
    return present.nonzero()[:, 0], (present.cumsum(0) - 1).take(used)


def sighting_counts(segments: Segments, sightings: Sightings, num_slots: int) -> Tensor:
    """How often each token was seen in each segment, `(N, segments, V)`."""
    counts = torch.zeros(segments.seen.shape[0], segments.count * num_slots)
    index = segments.seen * num_slots + sightings.code.clamp_min(0)
    counts.scatter_add_(1, index, (sightings.code >= 0).float().expand_as(index))
    return counts.unflatten(1, (segments.count, num_slots))


def add_segment_prior(logits: Tensor, segments: Segments, log_token_prior: Tensor) -> Tensor:
    """Add log p(z) of every segment to `(N, segments, V)`, in place.

    It is the token prior `(N, V)`, or a point mass where a token was written. Written segments that a sequence does not
    have keep the token prior, which sums to one: they add nothing.
    """
    size, slots = len(segments.cells), log_token_prior.shape[-1]
    logits[:, :size] += log_token_prior[:, None]
    if segments.token.shape[1]:
        token = segments.token[..., None]
        point = torch.where(torch.arange(slots) == token, 0.0, -1e9)
        logits[:, size:] += torch.where(token == SAME, log_token_prior[:, None], point)
    return logits


def add_front_evidence(logits: Tensor, segments: Segments, steps: Tensor) -> Tensor:
    """Add what events and outcomes say about the cell ahead of the slice before to `(N, segments, V)`, in place.

    Args:
        logits: log p(token of every segment, its sightings).
        segments: where the cells ahead belong.
        steps: `(N, T - 1, V)` log p(event, outcome | token ahead) of every step.
    """
    return logits.scatter_add_(1, segments.front[:, :-1, None].expand_as(steps), steps)


def misread_log_odds(misread: Tensor, num_tokens: int) -> Tensor:
    """log p(o = z | z) - log p(o | z) for any other o."""
    return torch.log1p(-misread) - torch.log(misread / (num_tokens - 1))
