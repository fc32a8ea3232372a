"""Where a covariance is not positive definite there is no density: NaN for that chain, no error for all of them.

Kernels factor covariances of many chains at once. A chain that tries a singular one, as those of
long length scales are in single precision, must be rejected on its own.
"""

import math
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class NaNWhereNotDefinite(TorchFunctionMode):
    """Gives Cholesky factors of matrices that have none as NaN, without asking whether there are any."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch; a Cholesky decomposition by the one that raises nothing."""
        if func is not torch.linalg.cholesky:
            return func(*args, **(kwargs or {}))
        factor, failed = torch.linalg.cholesky_ex(*args, **(kwargs or {}))
        return torch.where(failed[..., None, None] == 0, factor, math.nan)
