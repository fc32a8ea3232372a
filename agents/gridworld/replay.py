"""Episodes, whole and running, with their particles: what replay keeps.

Stored in torchrl's list storage, one `TensorDict` per episode: raw observations (so that tokens
admitted later can be found in them), and the event sequences of all particles with their weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import ListStorage

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.model.paths import History
from aif_dcpc.agents.gridworld.model.vocabulary import Vocabulary


@dataclass
class ObservedEpisode:
    """What was observed in one episode, raw; slice 0 comes before the first action.

    Attributes:
        action, heading, carried, outcome: `(T,)` numbers as lists.
        view: T arrays `(P,)` of raw tokens.
    """

    action: list[int] = field(default_factory=list)
    heading: list[int] = field(default_factory=list)
    carried: list[int] = field(default_factory=list)
    outcome: list[int] = field(default_factory=list)
    view: list[Ints] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.action)

    def append(self, action: int, heading: int, carried: int, outcome: int, view: Ints) -> None:
        """Add one more slice to the end."""
        self.action.append(action)
        self.heading.append(heading)
        self.carried.append(carried)
        self.outcome.append(outcome)
        self.view.append(view)

    def history(self, vocabulary: Vocabulary, unseen_token: int) -> History:
        """The episode in the vocabulary's codes."""
        hands = [vocabulary.hands.index(c, 0) for c in self.carried]
        view = vocabulary.encode(np.stack(self.view), unseen_token)
        action, heading, hand, outcome = map(
            torch.tensor, (self.action, self.heading, hands, self.outcome)
        )
        return History(action, heading, hand, torch.as_tensor(view), outcome)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that was observed, as tensors."""
        view = (
            torch.as_tensor(np.stack(self.view))
            if self.view
            else torch.zeros(0, 0, dtype=torch.long)
        )
        names = ("action", "heading", "carried", "outcome")
        return {
            **{n: torch.tensor(getattr(self, n), dtype=torch.long) for n in names},
            "view": view,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "ObservedEpisode":
        """Rebuild an episode from what `tensors` gave."""
        lists = {n: tensors[n].tolist() for n in ("action", "heading", "carried", "outcome")}
        return cls(**lists, view=list(tensors["view"].numpy()))


@dataclass(frozen=True)
class StoredEpisode:
    """An episode with its particles: `events` `(K, T)`, `log_weights` `(K,)`."""

    episode: ObservedEpisode
    events: Tensor
    log_weights: Tensor


class EpisodeStore:
    """The last `capacity` episodes.

    Args:
        capacity: how many.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.storage = ListStorage(capacity)
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
        tensors = {name: row[name] for name in ("action", "heading", "carried", "outcome", "view")}
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
        self.storage = ListStorage(self.capacity)
        self.added = int(state["added"])
        for place, row in enumerate(state["rows"]):
            self.storage.set(place, TensorDict(dict(row), batch_size=[]))
