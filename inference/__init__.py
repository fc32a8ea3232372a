"""Divide-and-conquer predictive coding on any directed graphical model: the engine and its errors."""

if not __name__.startswith("aif_dcpc."):
    raise ImportError(
        "import aif_dcpc.inference, not inference: the folder is installed as part of aif_dcpc"
    )

from aif_dcpc.inference.checks.check_model import check_model
from aif_dcpc.inference.engine import DCPC
from aif_dcpc.inference.errors import (
    ClampError,
    InferenceError,
    ModelError,
    MoveError,
    NonFiniteError,
)
from aif_dcpc.inference.model.graph import GraphicalModel, every, lag
from aif_dcpc.inference.model.state import Info, State

__all__ = [
    "DCPC",
    "ClampError",
    "GraphicalModel",
    "InferenceError",
    "Info",
    "ModelError",
    "MoveError",
    "NonFiniteError",
    "State",
    "check_model",
    "every",
    "lag",
]
