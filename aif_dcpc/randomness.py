"""Seeds derived from one seed, and the global random states that a checkpoint carries."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np

# purposes of derived seeds
ENVIRONMENT_EPISODE = 0
AGENT_EPISODE = 1
AGENT_SEED = 2
IMAGE_ORDER = 3
IMAGE_PARTICLES = 4
IMAGE_VALIDATION = 5
IMAGE_BINARY = 6


def derive(seed: int, *path: int) -> int:
    """Return a seed in [0, 2^31) for a purpose named by integers; distinct paths give independent seeds."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1)[0]) & 0x7FFFFFFF


def seed_everything(seed: int) -> None:
    """Seed the global generators; the project's own code uses explicit ones, libraries may not."""
    import torch

    seed_host(seed)
    torch.manual_seed(seed)


def seed_host(seed: int) -> None:
    """Seed Python's and NumPy's global generators, without torch."""
    random.seed(seed)
    np.random.seed(derive(seed, 0))


def random_states() -> dict[str, Any]:
    """Return the states of the global generators as tensors, numbers and lists."""
    import torch

    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, words, spare = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "numpy": [
            name,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            position,
            has_gauss,
            gauss,
        ],
        "python": [version, list(words), spare],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Restore what `random_states` gave."""
    import torch

    name, keys, position, has_gauss, gauss = states["numpy"]
    version, words, spare = states["python"]
    torch.set_rng_state(states["torch"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    random.setstate((version, tuple(words), spare))
