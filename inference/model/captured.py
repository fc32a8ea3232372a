"""A function of an accelerator's tensors as one launch: its kernels are recorded once, then replayed.

A sweep on a GPU is hundreds of small kernels, and starting them one by one takes the host longer than
running them takes the device. A CUDA graph starts all of them by one call (Gray 2019, "Getting started
with CUDA graphs"). It reads and writes the memory that it was recorded with, so arguments are
copied in before, and results out after.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.model.recording import Function

REHEARSALS = 2  # calls before the recording, in which libraries set themselves up


class Captured:
    """A function without random draws and without looks at numbers, replayed by one launch.

    Args:
        function: takes and returns tensors on one CUDA device, always of the same shapes.
        examples: arguments to record at; tensors on the host stay as they are now.
    """

    def __init__(self, function: Function, *examples: Tensor) -> None:
        self.moving = tuple(place for place, x in enumerate(examples) if x.is_cuda)
        places = [x.detach().clone() for x in examples]
        self.given = [places[place] for place in self.moving]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(aside):
            for _ in range(REHEARSALS):
                function(*places)
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self.graph, pool=_shared_memory()):
            self.found = tuple(function(*places))

    def __call__(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        """Return what the function returns for these arguments, without gradients."""
        with torch.no_grad():
            torch._foreach_copy_(self.given, [arguments[place] for place in self.moving])
            self.graph.replay()
            return tuple(x.clone() for x in self.found)


@functools.cache
def _shared_memory() -> Any:
    """Memory between the kernels of all recordings: results are copied out before the next is replayed."""
    return torch.cuda.graph_pool_handle()
