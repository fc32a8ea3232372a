"""What is learned from how stored episodes went, beside counts: missions, milestones, arrivals, sizes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.deeds import Deeds
from aif_dcpc.agents.gridworld.model.counts import NOTHING, TablePrior
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.paths import Effects
from aif_dcpc.agents.gridworld.model.task import Task, paired
from aif_dcpc.agents.gridworld.model.vocabulary import SAME, Vocabulary
from aif_dcpc.agents.gridworld.planning.arrivals import Arrivals, Tried, arrivals_of
from aif_dcpc.agents.gridworld.rewards import Sizes
from aif_dcpc.agents.gridworld.task_discovery import discover


class Lessons:
    """Stored episodes in short, and what follows from all of them.

    Args:
        looks: of raw tokens.
        prior: of the tables.
        num_actions: A.

    Attributes:
        task: what missions mean, and what has to be done first.
        deeds: the steps of every stored episode, by its place.
    """

    def __init__(self, looks: Looks, prior: TablePrior, num_actions: int) -> None:
        self.looks = looks
        self.prior = prior
        self.num_actions = num_actions
        self.task = Task()
        self.deeds: list[Deeds] = []
        self.kept = 0
        self._arrivals: tuple[tuple[int, ...], Arrivals] | None = None
        self._sizes: tuple[tuple[int, ...], Sizes] | None = None

    def keep(self, place: int, deeds: Deeds) -> bool:
        """Store the steps of an episode in a place; return whether the task is understood otherwise now."""
        self.deeds[place : place + 1] = [deeds]
        self.kept += 1
        before = self.task
        self.task = discover(before, self.deeds, self.looks)
        return self.task != before

    def latest(self, number: int) -> list[Deeds]:
        """The steps of the last episodes that were stored, so many at most, in order."""
        oldest = self.kept % len(self.deeds) if self.kept > len(self.deeds) > 0 else 0
        return [*self.deeds[oldest:], *self.deeds[:oldest]][-number:]

    def outcomes_of(
        self,
        deeds: Deeds,
        vocabulary: Vocabulary,
        effects: Effects,
        like: Tensor,
        *,
        after: bool = False,
        first: bool = False,
    ) -> Tensor:
        """Count the outcomes of stored steps under the task as it is known now, `(A + E, P, O)`.

        Args:
            deeds: the steps of one episode.
            vocabulary, effects: as they stand now.
            like: gives the shape.
            after: by the token ahead after each step in the place of that before it.
            first: only the first arrivals before each place.
        """
        side, passed = self.sides(deeds, after=after)
        places = self._places(deeds, vocabulary, effects, after=after)
        kept = deeds.first_arrivals(side, passed) if first else np.arange(len(passed))
        every = torch.as_tensor(deeds.row), places, torch.as_tensor(deeds.outcome)
        index = tuple(part[torch.as_tensor(kept)] for part in every)
        return torch.zeros_like(like).index_put(index, torch.ones(len(kept)), accumulate=True)

    def sides(self, deeds: Deeds, *, after: bool) -> tuple[Ints, Ints]:
        """Whether the token of each step is a wanted twin, and whether the milestone was passed, `(T - 1,)`."""
        passed = deeds.before(self.task.milestone)
        side = deeds.paired(self.task.twins, self.task.sighting) if after else 0 * passed
        return side, passed

    def _places(
        self, deeds: Deeds, vocabulary: Vocabulary, effects: Effects, *, after: bool
    ) -> Tensor:
        """Place of each step in the table of outcomes, `(T - 1,)`, see `Effects.places`."""
        tokens = (deeds.after if after else deeds.token).tolist()
        unknown = len(vocabulary.tokens.members) % vocabulary.tokens.capacity  # a free slot, if any
        slots = np.array([vocabulary.tokens.index(t, unknown) for t in tokens], np.int64)
        side, passed = self.sides(deeds, after=after)
        match = self.task.match(vocabulary, deeds.mission)
        return effects.places(match)[slots, passed] + 2 * torch.as_tensor(side)

    def so_far(
        self,
        deeds: Deeds | None,
        vocabulary: Vocabulary,
        effects: Effects,
        like: Tensor,
        num_cells: int,
    ) -> tuple[Tensor, Tried | None, list[int]]:
        """What the running episode tells of arrivals; nothing without its steps.

        Returns:
            `outcomes_of` its steps by the token ahead after each, what was `tried` for nothing, and
            which raw tokens have been seen in two places.
        """
        if deeds is None:
            return torch.zeros_like(like), None, []
        running = self.outcomes_of(deeds, vocabulary, effects, like, after=True)
        return running, self.tried(deeds, vocabulary, num_cells), deeds.twice[:, 0].tolist()

    def tried(self, deeds: Deeds, vocabulary: Vocabulary, num_cells: int) -> Tried:
        """Tell what came of nothing in the running episode, under what is known and done by now.

        Args:
            deeds: the steps of the running episode.
            vocabulary: as it stands now.
            num_cells: of the map.
        """
        slots = np.full((vocabulary.num_events + 1, num_cells + 1), -1)
        if not len(deeds.row):
            return Tried(slots, 0)
        written = deeds.written == self.task.milestone
        passed = deeds.before(self.task.milestone)
        now = int(self.task.milestone != SAME and bool(written.any()))
        doubled = set(deeds.twice[:, 0].tolist())
        side = deeds.paired(self.task.twins)
        alike = side == paired(self.task.twins, deeds.after, doubled)
        moved = deeds.row >= self.num_actions
        kept = moved & alike & (passed == now) & (deeds.outcome == NOTHING)
        found = [vocabulary.tokens.index(t, -1) for t in deeds.after[kept].tolist()]
        slots[deeds.row[kept] - self.num_actions, deeds.cell[kept]] = found
        for token, cell in deeds.elsewhere(self.task.twins, self.task.sighting):
            slots[:, cell] = vocabulary.tokens.index(token, -1)
        return Tried(slots, now)

    def arrivals(self, vocabulary: Vocabulary, effects: Effects, like: Tensor) -> Arrivals:
        """Say which outcomes hang on what is ahead after a step; the last answer is kept.

        Args:
            vocabulary, effects, like: as `outcomes_of`.
        """
        key = self._key(vocabulary, effects)
        if self._arrivals is None or self._arrivals[0] != key:
            before = torch.zeros_like(like)
            after = torch.zeros_like(like)
            first = torch.zeros_like(like)
            known = vocabulary, effects, like
            for deeds in self.deeds:
                before += self.outcomes_of(deeds, *known)
                after += self.outcomes_of(deeds, *known, after=True)
                first += self.outcomes_of(deeds, *known, after=True, first=True)
            prior = self.prior.outcomes(effects)
            self._arrivals = key, arrivals_of(before, after, first, prior, self.num_actions)
        return self._arrivals[1]

    def _key(self, vocabulary: Vocabulary, effects: Effects) -> tuple[int, ...]:
        """What answers hang on that are kept."""
        return *vocabulary.extent(), effects.milestone, len(self.deeds), self.kept

    def sizes(
        self,
        arrivals: Arrivals,
        vocabulary: Vocabulary,
        effects: Effects,
        like: Tensor,
        running: Deeds | None,
    ) -> Sizes:
        """Gather what rewarded and penalised steps brought; that of stored ones is kept.

        Args:
            arrivals: events whose outcomes hang on what is ahead after them.
            vocabulary, effects, like: as `outcomes_of`.
            running: the steps of the running episode, if they matter.
        """
        known = arrivals, vocabulary, effects, like
        key = self._key(vocabulary, effects)
        if self._sizes is None or self._sizes[0] != key:
            every = [self._sizes_in(deeds, *known) for deeds in self.deeds]
            self._sizes = key, sum(every, Sizes.none(like, effects))
        stored = self._sizes[1]
        return stored if running is None else stored + self._sizes_in(running, *known)

    def _sizes_in(
        self,
        deeds: Deeds,
        arrivals: Arrivals,
        vocabulary: Vocabulary,
        effects: Effects,
        like: Tensor,
    ) -> Sizes:
        """The same of one episode."""
        before, after = (
            self._places(deeds, vocabulary, effects, after=after).numpy() for after in (False, True)
        )
        event = (deeds.row - self.num_actions).clip(0)  # 0 changes nothing, and is none of these
        place = np.where(arrivals.events[event], after, before)
        return Sizes.none(like, effects).having(deeds.row, place, deeds.outcome, deeds.reward)

    # -- persistence -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Give everything as plain tensors, numbers and lists."""
        return {
            "lexicon": [[*name, word] for name, word in self.task.lexicon.items()],
            "milestone": self.task.milestone,
            "twins": list(self.task.twins),
            "sighting": self.task.sighting,
            "deeds": [deeds.tensors() for deeds in self.deeds],
            "kept": self.kept,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        lexicon = {(aspect, value): word for aspect, value, word in state["lexicon"]}
        twins = tuple(state["twins"])
        self.task = Task(lexicon, int(state["milestone"]), twins, int(state["sighting"]))
        self.deeds = [Deeds.from_tensors(deeds) for deeds in state["deeds"]]
        self.kept = int(state["kept"])
        self._arrivals = None
        self._sizes = None
