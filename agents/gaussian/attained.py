"""What was attained of a preference, and what is still to be gained by knowing more.

Log preferences are 0 where nothing is left to wish. Knowledge serves what is preferred: what a plan
would tell is worth no more than what is between the best that was ever met and that, at each of its
steps. Where the best has been met, what is known already suffices for it, and novelty, which never
ends in a large world, no longer delays it.

Worlds that end where they are at their best, as at a flag, leave nothing to be seen beyond: what is
imagined after such a state is neither liked less nor news.

What is learned sooner serves more of the steps that remain (`by_use`). Without that a plan may look
at what is new late, at each step again, and never get there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Attained:
    """Log preferences of states met in a life, nats.

    Attributes:
        best: the largest.
        going_on: the largest after which the episode went on.
        ended: those with which the world ended an episode, larger than that.
    """

    best: float = -math.inf
    going_on: float = -math.inf
    ended: list[float] = field(default_factory=list)

    def note(self, log_preference: float, *, ended: bool) -> None:
        """Take note of a state, and whether the world ended the episode with it."""
        self.best = max(self.best, log_preference)
        if ended:
            self.ended.append(log_preference)
        else:
            self.going_on = max(self.going_on, log_preference)
        self.ended = [value for value in self.ended if value > self.going_on]

    @property
    def final(self) -> float:
        """The log preference from which on every state met was an end; infinite if there is none."""
        return min(self.ended, default=math.inf)

    def worth(self, steps: int) -> float:
        """What so many steps could gain over the best that was met, nats; no bound before anything was."""
        return steps * max(0.0, -self.best)

    def bounded(self, novelty: Tensor) -> Tensor:
        """Count novelty `(N, H)` so that the sequence that tells most is worth what it could gain."""
        most = float(novelty.sum(-1).max())
        worth = self.worth(novelty.shape[1])
        return novelty if most <= worth else novelty * (worth / most)

    def beyond(self, log_preference: Tensor) -> Tensor:
        """Whether a state before has ended the episode, `(K, N, H)`, given log preferences of states."""
        reached = (log_preference >= self.final).cummax(-1).values
        return torch.nn.functional.pad(reached[..., :-1], (1, 0))

    # -- keeping -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that was noted."""
        return {"best": self.best, "going_on": self.going_on, "ended": list(self.ended)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.best = float(state["best"])
        self.going_on = float(state["going_on"])
        self.ended = [float(value) for value in state["ended"]]


def by_use(novelty: Tensor) -> Tensor:
    """Weigh what each step tells `(N, H)` by the steps that remain to use it, with weights of mean 1."""
    steps = novelty.shape[-1]
    remain = torch.arange(steps, 0, -1).to(novelty)
    return novelty * remain / remain.mean()
