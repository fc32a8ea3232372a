"""Whole episodes with their particles: what replay keeps.

Stored in torchrl's list storage, one `TensorDict` per episode: raw observations (so that tokens
admitted later can be found in them), and the event sequences of all particles with their weights.
"""

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tensordict import TensorDict
from torch import Tensor

from aif_dcpc.agents.gridworld.model.paths import SERIES, ObservedEpisode


@dataclass(frozen=True)
class StoredEpisode:
    """An episode with its particles: `events` `(K, T)`, `log_weights` `(K,)`."""

    episode: ObservedEpisode
    events: Tensor
    log_weights: Tensor


def _list_storage(capacity: int) -> Any:
    """A list storage; importing torchrl would change how all processes of the program start, and is undone."""
    method = multiprocessing.get_start_method(allow_none=True)
    from torchrl.data import ListStorage

    multiprocessing.set_start_method(method, force=True)  # type: ignore[arg-type]
    return ListStorage(capacity)


class EpisodeStore:
    """The last `capacity` episodes.

    Args:
        capacity: how many.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.storage = _list_storage(capacity)
        self.added = 0

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, stored: StoredEpisode) -> int:
        """Store an episode in the place of the oldest; returns its place."""
        place = self.added % self.capacity
        self.put(place, stored)
        self.added += 1
        return place

    def put(self, place: int, stored: StoredEpisode) -> None:
        """Replace the episode in a place."""
        particles = {"events": stored.events, "log_weights": stored.log_weights}
        self.storage.set(
            place, TensorDict({**stored.episode.tensors(), **particles}, batch_size=[])
        )

    def get(self, place: int) -> StoredEpisode:
        """The episode in a place."""
        row = self.storage.get(place)
        tensors = {name: row[name] for name in (*SERIES, "reward", "view", "mission")}
        return StoredEpisode(
            ObservedEpisode.from_tensors(tensors), row["events"], row["log_weights"]
        )

    def __iter__(self) -> Iterator[StoredEpisode]:
        return (self.get(place) for place in range(len(self)))

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        rows = [
            {name: row[name] for name in row.keys()}
            for row in map(self.storage.get, range(len(self)))
        ]
        return {"added": self.added, "rows": rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.storage = _list_storage(self.capacity)
        self.added = int(state["added"])
        for place, row in enumerate(state["rows"]):
            self.storage.set(place, TensorDict(dict(row), batch_size=[]))
