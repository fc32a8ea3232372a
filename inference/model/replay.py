"""Replaying a recorded graph operation by operation, at less than half of what Python's calls cost.

A small operation takes a microsecond, and Python as long again to call it and twice that to look it
up. TorchScript's interpreter runs the same operations in the same order, to the same bits, without
Python between them; unlike a compiler (see `compiling`) it needs milliseconds to begin. PyTorch calls
TorchScript deprecated: where it is gone, or refuses a graph, the graph is called as it stands.
"""

import warnings
from typing import cast

import torch
from torch import Tensor, fx

from aif_dcpc.inference.model.recording import Function, flat_graph

SETTLING = 2  # calls in which the interpreter makes its plan


def replayed(function: Function, *examples: Tensor, compiles: bool = False) -> Function:
    """Record a function and run its operations at the least cost each; itself where it can't be recorded.

    Args:
        function: takes tensors like the examples, returns a tuple of tensors; no gradient is needed.
        examples: arguments to record at; later ones have the same shapes, types and device.
        compiles: fuse the operations, which takes seconds to begin with (see `compiling`).
    """
    graph = flat_graph(function, *examples)
    if not isinstance(graph, fx.GraphModule):
        return graph
    if compiles:
        from aif_dcpc.inference.model.compiling import compiled  # two seconds: where needed

        return compiled(graph, *examples)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of deprecation
            traced = torch.jit.trace(graph, examples, check_trace=False)
            for _ in range(SETTLING):
                traced(*examples)
    except Exception:  # whatever it has no words for
        return graph
    return cast("Function", traced)
