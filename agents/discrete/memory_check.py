"""Whether what was seen earlier in an episode still tells what follows: then the state is not wholly seen.

What comes of a row is foretold by its own frequencies, c / n, and once more with a context: the state
before, or the first of the episode. Where the state is all there is, contexts foretell no better,

    evidence of a context = sum ln [(c' + c / n) / (n' + 1)] - ln [c / n]

over results met in the row before, with counts c', n' of the row in that context, has an exponential
of mean 1, and exceeds `ENOUGH` nats with a probability of e^-`ENOUGH` at most (Ville's inequality).
"""

import math
import warnings
from collections import Counter
from collections.abc import Hashable, Sequence

from aif_dcpc.agents.errors import AgentWarning

ENOUGH = 12.0  # nats
CONTEXTS = ("the state before", "the first state of the episode")


class MemoryCheck:
    """Evidence that what was seen earlier matters.

    Attributes:
        nats: evidence of each of `CONTEXTS`.
    """

    def __init__(self) -> None:
        self.nats = [0.0] * len(CONTEXTS)
        self.counts: dict[Hashable, Counter[Hashable]] = {}
        self.seen: list[list[int]] = [[-1, -1]]
        self.warned = False

    def begin(self, seeds: Sequence[int | None]) -> None:
        """Forget what was seen in the worlds that have a seed, whose episodes begin."""
        if len(seeds) != len(self.seen):
            self.seen = [[-1, -1] for _ in seeds]
        for world, seed in enumerate(seeds):
            if seed is not None:
                self.seen[world] = [-1, -1]

    def count(self, world: int, state: int, row: int, result: Hashable) -> None:
        """Count what came of a row, and say once if contexts foretell it better.

        Warns:
            AgentWarning: what follows depends on what was seen earlier.
        """
        own = self.counts.setdefault(row, Counter())
        before, first = self._seen_in(world)
        first = state if first < 0 else first
        for kind, context in enumerate((before, first)):
            longer = self.counts.setdefault((row, kind, context), Counter())
            if own[result]:
                share = own[result] / own.total()
                foretold = (longer[result] + share) / (longer.total() + 1)
                self.nats[kind] += math.log(foretold / share)
            longer[result] += 1
        own[result] += 1
        self.seen[world] = [state, first]
        if not self.warned and max(self.nats) > ENOUGH:
            self._warn()

    def _seen_in(self, world: int) -> list[int]:
        """State before, and first of the episode; a run that is gone on with begins to watch anew."""
        while world >= len(self.seen):
            self.seen.append([-1, -1])
        return self.seen[world]

    def _warn(self) -> None:
        self.warned = True
        most = max(self.nats)
        warnings.warn(
            f"agent 'discrete': what comes of a state and action depends on "
            f"{CONTEXTS[self.nats.index(most)]} as well ({most:.0f} nats of evidence), so that what it "
            "sees is not the whole state: declare what is hidden (docs/your_own_agent.md), or let "
            "the observation tell it.",
            AgentWarning,
            stacklevel=2,
        )
