"""Sweeps of one block in both charts, with steps and metrics of their own.

A sweep moves the block once in each chart. Where no site's location or scale depends on another
latent, the charts are the same up to constants, and one is enough.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.arrival.progress import SampleProgress
from aif_dcpc.inference.arrival.rest import RestMoves
from aif_dcpc.inference.model.coordinates import Block
from aif_dcpc.inference.model.joint import Chart
from aif_dcpc.inference.model.resampling import take
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves.hamiltonian import Density, Metric, Point, jitter, trajectory

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
    density: Density
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
    """A cloud, the moves of its block in both charts, and the moves of everything else.

    Attributes:
        state: data, roles, and the latents outside the block as they stand.
        block: which sites.
        moves: by chart, in the order in which a sweep makes them.
        maps: how vectors change charts, by the chart arrived at; they take the latents outside too.
        rest: visits the latents outside the block; None where there are none.
        point: where the chains stand, in the chart of `chart`.
        chart: of the last move.
        generator: source of randomness.
    """

    state: State
    block: Block
    moves: tuple[ChartMove, ...]
    maps: dict[Chart, Density]
    rest: RestMoves | None
    point: Point
    chart: Chart
    generator: torch.Generator | None

    def __post_init__(self) -> None:
        self.jitter = jitter()
        self.progress = SampleProgress(show=False)

    def sweep(
        self, *, adapt: bool, adapt_chains: bool = False
    ) -> tuple[dict[Chart, Tensor], dict[Chart, Point]]:
        """Move the block once in each chart, then all else; acceptance `(K, G)` and point by chart."""
        acceptances = {}
        points = {}
        for move in self.moves:
            self.change_chart(move)
            step = move.log_step.exp() * move.relative
            self.point, acceptance = trajectory(
                self.density(move),
                self.point,
                move.metric,
                step,
                move.steps(next(self.jitter)),
                self.generator,
            )
            if adapt:
                move.adapt(acceptance)
            if adapt_chains:
                move.adapt_chains(acceptance)
            acceptances[move.chart] = acceptance
            points[move.chart] = self.point
        if self.rest is not None:
            self.sweep_rest(self.rest, adapt=adapt)
        self.progress.advance()
        return acceptances, points

    def sweep_rest(self, rest: RestMoves, *, adapt: bool) -> None:
        """Visit the latents outside the block, given where the block stands."""
        declared, _ = self.declared()
        state = self.state.with_values(self.block.unflatten(declared))
        self.state = rest.sweep(state, self.generator, adapt=adapt)
        if self.moves:
            place = declared
            if self.chart == "standardised":
                place = self.maps["standardised"](declared, *self.others())[0]
            self.stand(self.current_move, place)

    def declared(self) -> tuple[Tensor, Tensor]:
        """Where the chains stand, in declared coordinates `(K, G, D)`, and the log joint `(K, G)`."""
        place = self.point.place
        log_prob = self.point.log_prob - self.block.idle_log_prob(place)
        if self.chart == "declared":
            return place, log_prob
        declared, log_det = self.maps["declared"](place, *self.others())
        return declared, log_prob - log_det

    def change_chart(self, move: ChartMove) -> None:
        """Stand in a move's chart; the density is evaluated there if it was not."""
        if self.chart != move.chart:
            self.stand(move, self.maps[move.chart](self.point.place, *self.others())[0])

    def stand(self, move: ChartMove, place: Tensor) -> None:
        """Stand at a vector of a move's chart."""
        self.point = Point(place, *self.density(move)(place))
        self.chart = move.chart

    @property
    def current_move(self) -> ChartMove:
        """The move of the chart in which the chains stand."""
        return next(move for move in self.moves if move.chart == self.chart)

    def density(self, move: ChartMove) -> Density:
        """A move's density given the latents outside the block."""
        return partial_density(move.density, self.others())

    def others(self) -> tuple[Tensor, ...]:
        """Latents outside the block as they stand."""
        return tuple(self.state.values[n] for n in self.block.outside)

    def replace_chains(self, sources: Tensor) -> None:
        """Put chain `sources[k, g]` in the place of chain k, latents outside the block included."""
        place = self.point.place.gather(0, sources.unsqueeze(-1).expand_as(self.point.place))
        self.state = self.state.with_values(
            {n: _replaced(self.state.values[n], sources) for n in self.block.outside}
        )
        for move in self.moves:
            move.relative = move.relative.gather(0, sources)
        self.stand(self.current_move, place)


def _replaced(value: Tensor, sources: Tensor) -> Tensor:
    """Values `(K, B or 1, ...)` by sources `(K, G)`; what chains of several data share stays."""
    if value.shape[1] < sources.shape[1]:
        return value
    return take(value, sources.expand(-1, value.shape[1]))


def partial_density(density: Density, others: tuple[Tensor, ...]) -> Density:
    """A density of the vector alone, the latents outside the block held."""
    return (lambda place: density(place, *others)) if others else density


def charts_of(block: Block) -> tuple[Chart, ...]:
    """The charts in which a block moves."""
    if not block.names:
        return ()
    return ("standardised", "declared") if block.has_two_charts else ("standardised",)
