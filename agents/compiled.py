"""Loops over small arrays, compiled: calls of an array library would cost more than arithmetic.

Loops spell out what `np.where` and the like say: compiling those takes tens of megabytes, for errors about shapes.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile at the first call.

    What was compiled is kept on disk, or in memory alone where nothing can be written.
    """
    try:
        return cast(Function, numba.njit(cache=True)(function))
    except RuntimeError:  # no place for the cache
        return cast(Function, numba.njit(function))
