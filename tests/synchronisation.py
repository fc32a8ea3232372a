"""What would make the host wait for an accelerator; shared by the tests of moves and of their parts."""

import traceback
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

SYNCHRONISES = (
    *(
        "_local_scalar_dense",
        "nonzero",
        "nonzero_numpy",
        "unique",
        "_unique",
        "_unique2",
        "equal",
        "bincount",
    ),
    *("_linalg_check_errors", "_linalg_eigh", "lift_fresh", "masked_select", "is_nonzero", "item"),
)


class NoSynchronisation(TorchDispatchMode):
    """Collects operations that would make the host wait for an accelerator."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        masks = name in ("index", "index_put", "index_put_") and any(
            isinstance(i, torch.Tensor) and i.dtype == torch.bool for i in args[1] or ()
        )
        if name in SYNCHRONISES or masks:
            lines = [f for f in traceback.extract_stack() if "inference" in f.filename]
            self.found.append(
                (name, f"{Path(lines[-1].filename).name}:{lines[-1].lineno}" if lines else "test")
            )
        return func(*args, **(kwargs or {}))
