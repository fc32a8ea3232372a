"""Where the time of one `DCPC.sample` goes: recording the densities, and the draws that are kept.

The engine reports one number, which is what a user waits for. A comparison with a sampler whose
compilation stands outside the clock needs the parts, so two of the engine's functions are timed
from outside.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from aif_dcpc.experiments.posteriordb.clock import processor_seconds
from aif_dcpc.inference.arrival import sample
from aif_dcpc.inference.model import joint

RECORDING = (joint, "replayed")
DRAWING = (sample, "_draw")


@dataclass
class Parts:
    """Processor seconds of every call.

    Attributes:
        recording: of densities and maps, one number a graph.
        drawing: one number, and another after every escalation; the last one's draws are kept.
    """

    recording: list[float] = field(default_factory=list)
    drawing: list[float] = field(default_factory=list)


@contextmanager
def stopwatch() -> Iterator[Parts]:
    """Time the parts of whatever is sampled meanwhile."""
    parts = Parts()
    with ExitStack() as stack:
        for (module, name), seconds in ((RECORDING, parts.recording), (DRAWING, parts.drawing)):
            timed = _timed(getattr(module, name), seconds)
            stack.enter_context(patch.object(module, name, timed))
        yield parts


def _timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        began = processor_seconds()
        try:
            return function(*args, **kwargs)
        finally:
            seconds.append(processor_seconds() - began)

    return call
