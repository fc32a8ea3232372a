"""Where the time of one `DCPC.sample` goes: recording, the draws that are kept, and judging them.

The engine reports one number, which is what a user waits for. A comparison with a sampler whose
compilation and diagnostics stand outside the clock needs the parts, so functions of the engine are
timed from outside.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from aif_dcpc.experiments.posteriordb.clock import processor_seconds
from aif_dcpc.inference.arrival import sample
from aif_dcpc.inference.frontends import tensor_graphs
from aif_dcpc.inference.model import joint

RECORDING = ((joint, "replayed"), (tensor_graphs, "flat_graph"))
DRAWING = ((sample, "_draw"),)
JUDGING = ((sample, "_finish"),)


@dataclass
class Parts:
    """Processor seconds of every call.

    Attributes:
        recording: of densities, maps and a program's statements, one number a graph; what is
            recorded within another recording counts once.
        drawing: one number, and another after every escalation; the last one's draws are kept.
        judging: as drawing.
    """

    recording: list[float] = field(default_factory=list)
    drawing: list[float] = field(default_factory=list)
    judging: list[float] = field(default_factory=list)


@contextmanager
def stopwatch() -> Iterator[Parts]:
    """Time the parts of whatever is sampled meanwhile."""
    parts = Parts()
    timed = ((RECORDING, parts.recording), (DRAWING, parts.drawing), (JUDGING, parts.judging))
    with ExitStack() as stack:
        for places, seconds in timed:
            for module, name in places:
                function = _timed(getattr(module, name), seconds)
                stack.enter_context(patch.object(module, name, function))
        yield parts


def _timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        before = len(seconds)
        began = processor_seconds()
        try:
            return function(*args, **kwargs)
        finally:
            spent = processor_seconds() - began
            seconds.append(spent - sum(seconds[before:]))

    return call
