"""Warming up in windows until the chains agree: metrics renewed, steps learned, stuck chains replaced.

Nothing here keeps the posterior invariant: what is learned is frozen before draws are kept.
"""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.arrival.block_sampler import BlockSampler, ChartMove
from aif_dcpc.inference.arrival.metric import covariance_metric, fisher_metric, within_chains
from aif_dcpc.inference.arrival.start import healthy_sources
from aif_dcpc.inference.model.joint import Chart
from aif_dcpc.inference.moves.hamiltonian import Metric
from aif_dcpc.inference.queries.mixing import split_r_hat

WINDOWS = (10, 10, 10, 20, 40)
MORE = 12  # further windows of the last size, at most
SETTLE = 8  # sweeps of step learning alone, at the end
MOST_SETTLES = 4
LONGER = 2.0  # growth of trajectories, in steps, after which steps are learned once more
ACCEPTED = 0.5  # mean acceptance, at least
FISHER_WINDOWS = 2
MIXED = 1.05
MIXED_EARLY = 1.02  # at which the windows that are left are not needed
FIRST_LOOK = 1  # number of the first window after which they may not be
LEVEL = (
    0.5  # standard deviations by which log densities may have risen between halves of an early one
)
ROWS = 10  # places in an early window for each dimension, at least
STUCK = 0.15  # mean acceptance below which a chain is replaced
APART = 10.0  # variance between chains over that within them, at which they sit in different modes


@dataclass
class Window:
    """What one window has recorded.

    Attributes:
        places, scores: by chart, `(S, K, G, D)`.
        log_prob: `(S, K, G)`, of the first chart.
        acceptance: `(K, G)`, the least of the charts' means.
    """

    places: dict[Chart, Tensor]
    scores: dict[Chart, Tensor]
    log_prob: Tensor
    acceptance: Tensor


def warm_up(sampler: BlockSampler, deadline: float, *, more: int = MORE) -> int:
    """Adapt until the chains agree, the windows end or processor time passes `deadline`; sweeps made."""
    if not sampler.moves:
        return _warm_up_rest(sampler)
    sweeps = 0
    sampler.progress.begin("warming up", sum(WINDOWS) + SETTLE)
    for number, size in enumerate((*WINDOWS, *[WINDOWS[-1]] * more)):
        if number >= len(WINDOWS):
            sampler.progress.extend(size)
        window = run_window(sampler, size, adapt_chains=True)
        sweeps += size
        replace_stuck(sampler, window)
        for move in sampler.moves:
            move.metric = new_metric(move, window, use_scores=number < FISHER_WINDOWS)
            move.restart()
        if time.process_time() > deadline or is_enough(number, window):
            break
    return sweeps + settle(sampler)


def settle(sampler: BlockSampler) -> int:
    """Learn steps alone, until they and the number of them in a trajectory go together; sweeps made."""
    for move in sampler.moves:
        move.relative = move.relative.clamp_min(0.25)
    sweeps = 0
    while sweeps < MOST_SETTLES * SETTLE:
        before = [move.num_steps for move in sampler.moves]
        window = run_window(sampler, SETTLE, adapt_chains=False)
        sweeps += SETTLE
        for move in sampler.moves:
            move.fix_length()
        growth = max(m.num_steps / n for m, n in zip(sampler.moves, before, strict=True))
        if growth < LONGER and float(window.acceptance.mean()) > ACCEPTED:
            break
    return sweeps


def _warm_up_rest(sampler: BlockSampler) -> int:
    number = sum(WINDOWS) + SETTLE
    sampler.progress.begin("warming up", number)
    for _ in range(number):
        sampler.sweep(adapt=True)
    return number


def run_window(sampler: BlockSampler, size: int, *, adapt_chains: bool) -> Window:
    """Sweep while steps are learned, and record."""
    places: dict[Chart, list[Tensor]] = {m.chart: [] for m in sampler.moves}
    scores: dict[Chart, list[Tensor]] = {m.chart: [] for m in sampler.moves}
    log_prob = []
    taken: dict[Chart, Tensor] = {}
    for _ in range(size):
        acceptances, points = sampler.sweep(adapt=True, adapt_chains=adapt_chains)
        for chart, point in points.items():
            places[chart].append(point.place)
            scores[chart].append(point.score)
            taken[chart] = taken.get(chart, 0) + acceptances[chart] / size
        log_prob.append(next(iter(points.values())).log_prob)
    return Window(
        {c: torch.stack(x) for c, x in places.items()},
        {c: torch.stack(x) for c, x in scores.items()},
        torch.stack(log_prob),
        torch.stack(list(taken.values())).amin(0),
    )


def replace_stuck(sampler: BlockSampler, window: Window) -> None:
    """Chains that lie far below the others, or that hardly move, become copies of ones that do not."""
    dimension = sampler.block.dimension
    height = window.log_prob.mean(0)
    low = height < height.median(0).values - max(30.0, 10.0 * math.sqrt(dimension / 2))
    healthy = ~(low | (window.acceptance < STUCK))
    enough = healthy.double().mean(0) > 0.5
    healthy = healthy | ~enough
    sampler.replace_chains(healthy_sources(healthy, sampler.generator))


def new_metric(move: ChartMove, window: Window, *, use_scores: bool) -> Metric:
    """The metric of what a window has seen of one chart."""
    places = window.places[move.chart]
    if use_scores:
        return fisher_metric(places.flatten(0, 1), window.scores[move.chart].flatten(0, 1))
    if float(between_over_within(places)) > APART:
        return covariance_metric(within_chains(places))
    return covariance_metric(places.flatten(0, 1))


def between_over_within(places: Tensor) -> Tensor:
    """Largest ratio of the variance of chains' means to the mean variance within chains (0-dim)."""
    within = places.var(0).mean(0)
    return (places.mean(0).var(0, correction=0) / within.clamp_min(1e-30)).max()


def is_enough(number: int, window: Window) -> bool:
    """Whether chains are accepted, stand level and agree in every chart, well if this is an early window."""
    if number < FIRST_LOOK or float(window.acceptance.mean()) < ACCEPTED:
        return False
    is_early = number < len(WINDOWS) - 1
    if is_early and not (is_level(window.log_prob) and fills_metric(window)):
        return False
    bound = MIXED_EARLY if is_early else MIXED
    return max(float(grouped_r_hat(x)) for x in window.places.values()) < bound


def is_level(log_prob: Tensor) -> bool:
    """Whether log densities `(S, K, G)` no longer rise or fall together, by halves of a window."""
    half = len(log_prob) // 2
    rise = log_prob[-half:].mean((0, 1)) - log_prob[:half].mean((0, 1))
    return bool((rise.abs() <= LEVEL * log_prob.flatten(0, 1).std(0)).all())


def fills_metric(window: Window) -> bool:
    """Whether a window holds enough places for a matrix."""
    number, chains, _, dimension = next(iter(window.places.values())).shape
    return number * chains >= ROWS * dimension


def grouped_r_hat(places: Tensor) -> Tensor:
    """Largest R-hat of the means of chains in groups of eight (0-dim)."""
    number = places.shape[1] // 8 * 8
    if number < 16:
        return split_r_hat(places).max()
    grouped = places[:, :number].unflatten(1, (-1, 8))
    means = grouped.mean((0, 2)).var(0)
    whole = places.flatten(0, 1).var(0)
    return (1 + means / whole.clamp_min(1e-30)).sqrt().max()
