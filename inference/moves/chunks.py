"""Cutting a series into chunks that can be moved at once.

A chunk is `width` free slices followed by `gap` fixed ones. No factor reads free slices of two
chunks as long as the gap is at least the model's longest lag, so all chunks are proposed together
and accepted one by one (Tong et al. 2019, arXiv 1908.09429; Gonzalez et al. 2011). Width 1, gap 1,
phases 0 and 1 is even/odd updating.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Chunks:
    """A partition of `length` slices.

    Slice t lies at position (t + phase) mod (width + gap) of its chunk.

    A negative phase means that the first chunk begins at slice -phase.
    """

    length: int
    width: int
    gap: int
    phase: int = 0

    @classmethod
    def fit(cls, length: int, width: int, gap: int, phase: int = 0) -> "Chunks":
        """Chunks of at most `width` slices.

        A series that is no longer is a single chunk without gap.
        """
        if width >= length:
            return cls(length, length, 0)
        return cls(length, width, gap, phase % (width + gap))

    def from_first(self) -> "Chunks":
        """The same chunks from the first that has its first free slice in the series on."""
        return replace(self, phase=-(-self.phase % self.stride))

    @property
    def stride(self) -> int:
        """Slices per chunk, fixed ones included."""
        return self.width + self.gap

    @property
    def count(self) -> int:
        """Number of chunks of the series, a partly empty one at either end included."""
        return -(-(self.length + self.phase) // self.stride)

    @property
    def padded(self) -> int:
        """Slices of all chunks together, the empty places at both ends included."""
        return self.count * self.stride

    def cut(self, x: Tensor) -> Tensor:
        """The free slices of every chunk: `(K, B, padded, D)` to `(count, K * B, width * D)`."""
        return (
            x.flatten(0, 1)
            .unflatten(1, (self.count, self.stride))[:, :, : self.width]
            .transpose(0, 1)
            .flatten(2)
        )

    def join(self, x: Tensor) -> Tensor:
        """Inverse of `cut`, fixed slices zero and empty places gone: `(K * B, length, D)`."""
        wide = x.transpose(0, 1).unflatten(2, (self.width, -1))
        wide = pad(wide, (0, 0, 0, self.gap)) if self.gap else wide
        return wide.flatten(1, 2)[:, self.phase : self.phase + self.length]

    def free(self, device: torch.device) -> Tensor:
        """`(length,)` True where a slice may move."""
        position = torch.arange(self.phase, self.phase + self.length, device=device) % self.stride
        return position < self.width

    def sum(self, x: Tensor) -> Tensor:
        """Sum over each chunk: `(K, B, padded)` to `(count, K * B)`."""
        return x.view(-1, self.count, self.stride).sum(2).T

    def spread(self, flags: Tensor) -> Tensor:
        """Flags of chunks `(count, K * B)` to all slices of the chunk, `(K * B, length)`."""
        wide = flags.T.unsqueeze(2).expand(-1, -1, self.stride).flatten(1)
        return wide[:, self.phase : self.phase + self.length]


@lru_cache(maxsize=256)
def chunk_rows(
    chunks: Chunks, height: int, offset: int, start: int, stop: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """The `height` slices from `offset` after the start of every chunk on.

    Returns:
        the slices `(count * height,)`, those past the end (`stop`) replaced by the last one; their
            distances from `start`; True where there was none to replace, or None where this is
            everywhere; the slices before the end alone.
    """
    begin = offset - chunks.phase
    last = begin + (chunks.count - 1) * chunks.stride + height
    first = torch.arange(begin, begin + chunks.count * chunks.stride, chunks.stride, device=device)
    slices = (first[:, None] + torch.arange(height, device=device)).flatten()
    rows = slices.clamp_max(stop - 1)
    inside = slices < stop if last > stop else None
    before_the_end = slices[: slices.shape[0] - max(last - stop, 0)]
    return rows, rows - start, inside, before_the_end
