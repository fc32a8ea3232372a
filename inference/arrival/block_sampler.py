"""Sweeps of one block in both charts, with steps and metrics of their own.

A sweep moves the block once in each chart. Where no site's location or scale depends on another
latent, the charts are the same up to constants, and one is enough.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.model.coordinates import Block
from aif_dcpc.inference.model.joint import Chart
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves.hamiltonian import Metric, Point, jitter, trajectory

MAX_STEPS = 32
GAIN = 1.5
DECAY = 0.6


@dataclass
class ChartMove:
    """The move of a block in one chart, and what it has learned.

    Attributes:
        chart: the coordinates.
        density: vector -> log density and score.
        metric: the shape that momenta follow.
        log_step: `(G,)`.
        relative: `(K, G)` step of each chain, in units of the group's.
        length: of the longest trajectory, in units of the metric.
        num_steps: leapfrog steps of the longest trajectory, before rounding.
        time: sweeps since the gains were restarted.
    """

    chart: Chart
    density: Callable[..., tuple[Tensor, Tensor]]
    metric: Metric
    log_step: Tensor
    relative: Tensor
    length: float = math.pi / 2
    target: float = 0.8
    most_steps: int = MAX_STEPS
    num_steps: float = 3.0
    time: int = 1

    def restart(self, time: int = 6) -> None:
        """Let the step be learned anew, and fix how many steps a trajectory takes (reads a number)."""
        self.time = time
        self.fix_length()

    def fix_length(self) -> None:
        """Steps of the longest trajectory at today's step (reads a number from the device)."""
        step = float(self.log_step.exp().min())
        self.num_steps = self.length / max(step, 1e-12)

    def steps(self, share: float) -> int:
        """Leapfrog steps of a trajectory of this share of the longest."""
        return min(max(math.ceil(share * self.num_steps), 1), self.most_steps)

    def adapt(self, acceptance: Tensor) -> None:
        """Follow the target acceptance (Robbins-Monro)."""
        gain = GAIN * self.time**-DECAY
        self.log_step = self.log_step + gain * (acceptance.mean(0) - self.target)
        self.time += 1

    def adapt_chains(self, acceptance: Tensor) -> None:
        """Shorten the steps of chains that are hardly ever accepted."""
        slower = (self.relative * 0.5).clamp_min(1e-4)
        faster = (self.relative * 1.5).clamp_max(1.0)
        self.relative = torch.where(acceptance < 0.1, slower, faster)


@dataclass
class BlockSampler:
    """Both charts' moves of one block.

    Attributes:
        state: data, roles, and the latents outside the block.
        block: which sites.
        moves: by chart, in the order in which a sweep makes them.
        maps: how vectors change charts, "declared" and "standardised" naming the chart arrived at.
        point: where the chains stand, in the chart of `chart`.
        chart: of the last move.
        generator: source of randomness.
        gradients: batched evaluations so far.
    """

    state: State
    block: Block
    moves: tuple[ChartMove, ...]
    maps: dict[Chart, Callable[[Tensor], Tensor]]
    point: Point
    chart: Chart
    generator: torch.Generator | None
    gradients: int = 0

    def __post_init__(self) -> None:
        self.jitter = jitter()

    def sweep(
        self, *, adapt: bool, adapt_chains: bool = False
    ) -> tuple[dict[Chart, Tensor], dict[Chart, Point]]:
        """Move once in each chart; acceptance `(K, G)` and the point after it, by chart."""
        acceptances = {}
        points = {}
        for move in self.moves:
            self.change_chart(move)
            share = next(self.jitter)
            steps = move.steps(share)
            step = move.log_step.exp() * move.relative
            self.point, acceptance = trajectory(
                move.density, self.point, move.metric, step, steps, self.generator
            )
            self.gradients += steps
            if adapt:
                move.adapt(acceptance)
            if adapt_chains:
                move.adapt_chains(acceptance)
            acceptances[move.chart] = acceptance
            points[move.chart] = self.point
        return acceptances, points

    def rest_values(self) -> dict[str, Tensor]:
        """Latents outside the block, in their own support."""
        names = self.state.problem.latent
        return {n: self.state.constrained(n) for n in names if n not in self.block.names}

    def change_chart(self, move: ChartMove) -> None:
        """Stand in a move's chart; the density is evaluated there if it was not."""
        if self.chart != move.chart:
            self.stand(move, self.maps[move.chart](self.point.place))

    def stand(self, move: ChartMove, place: Tensor) -> None:
        """Stand at a vector of a move's chart."""
        self.point = Point(place, *move.density(place))
        self.chart = move.chart
        self.gradients += 1

    def replace_chains(self, sources: Tensor) -> None:
        """Put chain `sources[k, g]` in the place of chain k."""
        wide = sources.unsqueeze(-1).expand_as(self.point.place)
        self.point = Point(
            self.point.place.gather(0, wide),
            self.point.log_prob.gather(0, sources),
            self.point.score.gather(0, wide),
        )
        for move in self.moves:
            move.relative = move.relative.gather(0, sources)


def charts_of(block: Block) -> tuple[Chart, ...]:
    """The charts in which a block moves."""
    return ("standardised", "declared") if block.has_two_charts else ("standardised",)
