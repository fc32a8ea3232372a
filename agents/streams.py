"""What worlds show and what can be done in them, as tensors."""

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.life import Streams
from aif_dcpc.agents.protocol import Observation


def as_streams(observations: Observation) -> Streams:
    """Turn what worlds show, `(B, *shape)`, into tensors: int64 for integers, else floats."""
    return {name: _as_tensor(value) for name, value in observations.items()}


def of_one_world(observation: Observation) -> dict[str, npt.NDArray[Any]]:
    """Give what one world shows a leading axis."""
    return {name: np.asarray(value)[None] for name, value in observation.items()}


def _as_tensor(value: Any) -> Tensor:
    array = np.asarray(value)
    if np.issubdtype(array.dtype, np.integer) or array.dtype == bool:
        return torch.as_tensor(array.astype(np.int64))
    return torch.tensor(array, dtype=torch.get_default_dtype())  # a world may go on using its own


def require_finite(what: str, values: Any) -> None:
    """Refuse infinite numbers and NaN, which would be learned from as if they were measured.

    Raises:
        AgentError: there is one.
    """
    array = np.asarray(values, float)
    if not np.isfinite(array).all():
        raise AgentError(
            f"{what} is {array.tolist()}: expected finite numbers; mend the world, or wrap it so that "
            "it shows what stands for them."
        )


def placeholder(space: gymnasium.Space[Any]) -> Tensor:
    """Return what stands for an action that has not been chosen, `(*event)`.

    Raises:
        AgentError: the space is neither Discrete nor Box.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return torch.zeros((), dtype=torch.int64)
    if isinstance(space, gymnasium.spaces.Box):
        return torch.zeros(space.shape)
    raise AgentError(
        f"actions in {space}: an agent chooses among Discrete actions or in a Box; wrap the "
        "environment."
    )
