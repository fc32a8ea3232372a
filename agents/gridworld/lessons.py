"""What is learned from how stored episodes went, beside counts: missions, milestones, arrivals."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.deeds import Deeds
from aif_dcpc.agents.gridworld.model.counts import NOTHING, TablePrior
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.paths import Effects
from aif_dcpc.agents.gridworld.model.task import Task, paired
from aif_dcpc.agents.gridworld.model.vocabulary import SAME, Vocabulary
from aif_dcpc.agents.gridworld.planning.arrivals import Arrivals, Tried, arrivals_of
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

    def keep(self, place: int, deeds: Deeds) -> bool:
        """Store the steps of an episode in a place; return whether the task is understood otherwise now."""
        self.deeds[place : place + 1] = [deeds]
        self.kept += 1
        before = self.task
        self.task = discover(before, self.deeds, self.looks)
        return self.task != before

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
        tokens = (deeds.after if after else deeds.token).tolist()
        slots = np.array([vocabulary.tokens.index(t, 0) for t in tokens])
        match = self.task.match(vocabulary, deeds.mission)
        passed = deeds.before(self.task.milestone)
        side = deeds.paired(self.task.twins) if after else 0 * passed
        places = effects.places(match)[slots, passed] + 2 * torch.as_tensor(side)
        kept = deeds.first_arrivals(side, passed) if first else np.arange(len(slots))
        every = torch.as_tensor(deeds.row), places, torch.as_tensor(deeds.outcome)
        index = tuple(part[torch.as_tensor(kept)] for part in every)
        return torch.zeros_like(like).index_put(index, torch.ones(len(kept)), accumulate=True)

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
        passed = np.append(deeds.before(self.task.milestone), 0)
        now = int(self.task.milestone != SAME and bool(written.any()))
        doubled = set(deeds.twice[:, 0].tolist())
        side = deeds.paired(self.task.twins)
        alike = side == paired(self.task.twins, deeds.after, doubled)
        moved = deeds.row >= self.num_actions
        kept = moved & alike & (passed[:-1] == now) & (deeds.outcome == NOTHING)
        found = [vocabulary.tokens.index(t, -1) for t in deeds.after[kept].tolist()]
        slots[deeds.row[kept] - self.num_actions, deeds.cell[kept]] = found
        return Tried(slots, now)

    def arrivals(self, vocabulary: Vocabulary, effects: Effects, like: Tensor) -> Arrivals:
        """Say which outcomes hang on what is ahead after a step; the last answer is kept.

        Args:
            vocabulary, effects, like: as `outcomes_of`.
        """
        key = (*vocabulary.extent(), effects.milestone, len(self.deeds), self.kept)
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

    # -- persistence -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Give everything as plain tensors, numbers and lists."""
        return {
            "lexicon": [[*name, word] for name, word in self.task.lexicon.items()],
            "milestone": self.task.milestone,
            "twins": list(self.task.twins),
            "deeds": [deeds.tensors() for deeds in self.deeds],
            "kept": self.kept,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        lexicon = {(aspect, value): word for aspect, value, word in state["lexicon"]}
        self.task = Task(lexicon, int(state["milestone"]), tuple(state["twins"]))
        self.deeds = [Deeds.from_tensors(deeds) for deeds in state["deeds"]]
        self.kept = int(state["kept"])
        self._arrivals = None
