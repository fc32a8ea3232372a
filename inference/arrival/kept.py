"""Draws as they come, thinned where they become many."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.arrival.block_sampler import BlockSampler
from aif_dcpc.inference.arrival.judge import Verdict, judge
from aif_dcpc.inference.arrival.unseen import Highest, unseen_mass
from aif_dcpc.inference.model.densities import log_joint
from aif_dcpc.inference.model.joint import Chart


@dataclass
class Kept:
    """Draws of one attempt.

    Attributes:
        places: vectors by chart, a list of `(K, G, D)`.
        declared: vectors in declared coordinates, after the last chart's move.
        log_prob: the log joint, a list of `(K, G)`.
        heights: the log density in the first chart, a list of `(K, G)`.
        rest: latents outside the block, a list for each.
        acceptance: sum over sweeps, `(K, G)`.
        scores: sum over sweeps of the prediction error in each chart, `(K, G, D)`.
        sweeps: how many have been made.
        every: of how many sweeps one is kept.
        unseen: share of the mass in a spike without a draw (see `unseen`).
    """

    acceptance: Tensor
    places: dict[Chart, list[Tensor]] = field(default_factory=dict)
    declared: list[Tensor] = field(default_factory=list)
    log_prob: list[Tensor] = field(default_factory=list)
    heights: list[Tensor] = field(default_factory=list)
    rest: dict[str, list[Tensor]] = field(default_factory=dict)
    scores: dict[Chart, Tensor] = field(default_factory=dict)
    sweeps: int = 0
    every: int = 1
    unseen: float = 0.0

    def __len__(self) -> int:
        """S, draws kept of each chain."""
        return len(self.log_prob)

    def sweep(self, sampler: BlockSampler) -> None:
        """Sweep, and keep where the chains stand if it is due."""
        acceptances, points = sampler.sweep(adapt=False)
        self.sweeps += 1
        self.acceptance = self.acceptance + _least(acceptances, self.acceptance)
        for chart, point in points.items():
            self.scores[chart] = self.scores.get(chart, 0) + point.score.double()
        if self.sweeps % self.every:
            return
        declared, log_prob = sampler.declared()
        self.declared.append(declared)
        for chart, point in points.items():
            self.places.setdefault(chart, []).append(point.place)
        self.log_prob.append(log_prob if points else log_joint(sampler.state))
        self.heights += [point.log_prob for point in list(points.values())[:1]]
        for name in sampler.block.outside:
            self.rest.setdefault(name, []).append(sampler.state.constrained(name))

    def thin(self) -> None:
        """Drop every second draw, and keep half as many from now on."""
        lists = [*self.places.values(), self.declared, self.log_prob, self.heights]
        lists += self.rest.values()
        for draws in lists:
            del draws[::2]
        self.every *= 2

    @property
    def mean_acceptance(self) -> Tensor:
        """Mean probability of acceptance of each chain, `(K, G)`."""
        return self.acceptance / max(self.sweeps, 1)

    @property
    def mean_scores(self) -> list[Tensor]:
        """Mean prediction error of each chain by chart, `(K, G, D)`."""
        return [x / max(self.sweeps, 1) for x in self.scores.values()]

    def verdict(self, block: Any) -> Verdict:
        """Judge what is kept."""
        sizes = zip(block.names, block.sizes, strict=True)
        return judge(
            [torch.stack(x) for x in self.places.values()],
            [(n, torch.stack(x).double()) for n, x in self.rest.items()],
            torch.stack(self.log_prob),
            self.mean_acceptance,
            [name for name, size in sizes for _ in range(size)],
            scores=self.mean_scores,
            declared=torch.stack(self.declared),
            unseen=self.unseen,
        )

    def look_for_unseen(self, sampler: BlockSampler, highest: Highest) -> None:
        """Ask whether the first draws' trajectories have crossed what none of them stands in."""
        if self.places:
            places = torch.stack(self.places[sampler.moves[0].chart])
            self.unseen = unseen_mass(sampler, highest, places, torch.stack(self.heights))


def _least(acceptances: Mapping[Chart, Tensor], like: Tensor) -> Tensor:
    """The least acceptance of a chain's moves; 1 where it has none."""
    found = list(acceptances.values())
    return torch.stack(found).amin(0) if found else torch.ones_like(like)
