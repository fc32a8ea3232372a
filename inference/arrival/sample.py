"""From data to draws: start, warm up until mixed, draw, diagnose.

Continuous latents move as one block (see `model.coordinates`), everything else by the engine's own
moves in between. Where draws do not look as they should, the block warms up once more with longer
trajectories and smaller steps, and what still does not is said.
"""

import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.arrival.block_sampler import BlockSampler
from aif_dcpc.inference.arrival.build import build_sampler
from aif_dcpc.inference.arrival.draws import Draws
from aif_dcpc.inference.arrival.excursions import worst_excursion
from aif_dcpc.inference.arrival.judge import LEAST_SHARE, Verdict, leans_alike, stand_in
from aif_dcpc.inference.arrival.kept import Kept
from aif_dcpc.inference.arrival.progress import SampleProgress
from aif_dcpc.inference.arrival.unseen import watched
from aif_dcpc.inference.arrival.vague_quantiles import vaguest_quantile
from aif_dcpc.inference.arrival.warm_up import warm_up
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.queries.edges import cut_off
from aif_dcpc.inference.queries.impossible import refuse_impossible
from aif_dcpc.inference.queries.ranks import RankDiagnostics, rank_diagnostics

CHUNK = 100  # draws of each chain between looks at them, and at least for each chart
ENOUGH_DRAWS = 6_400  # of all chains together
MOST_DRAWS = 400
NEARLY = 1.1  # R-hat at which a few more draws will do
LONG_TARGET = 0.95
LONG_LENGTH = 4.0  # of a long trajectory, in units of an ordinary one
LONG_STEPS = 64
WARM_SHARE = 0.5  # of the time, at most, is spent on warming up
LEAST_DRAWS = 20


@dataclass(frozen=True)
class Attempt:
    """Draws, and what is to be said of them.

    Attributes:
        draws: the draws.
        verdict: what stands against them.
        scores: mean prediction error of each chain by chart, `(K, G, D)`.
    """

    draws: Draws
    verdict: Verdict
    scores: list[Tensor]

    @property
    def doubts(self) -> tuple[str, ...]:
        """What stands against single draws: not that few of them make a standard deviation."""
        far = self.verdict.excursion
        over = "" if far.lingers else far.warning()
        return tuple(sentence for sentence in self.draws.warnings if sentence != over)


def sample(
    engine: Any,
    data: Mapping[str, Tensor] | None,
    *,
    num_particles: int | None,
    max_seconds: float,
    seed: int | None,
    progress: bool | None = None,
    **setup: Any,
) -> Draws:
    """Draw from the posterior (see `DCPC.sample`)."""
    began = time.process_time()
    with no_validation(), torch.no_grad():
        sampler = build_sampler(engine, data, num_particles, seed=seed, **setup)
        with SampleProgress(progress) as sampler.progress:
            sweeps, found = attempts(sampler, began, max_seconds)
    seconds = time.process_time() - began
    draws = replace(found.draws, warmup_sweeps=sweeps, seconds=seconds)
    for sentence in draws.warnings:
        warnings.warn(sentence, ConvergenceWarning, stacklevel=3)
    return draws


def attempts(sampler: BlockSampler, began: float, max_seconds: float) -> tuple[int, Attempt]:
    """Warm up and draw, once more with longer trajectories where that may help; sweeps and the better."""
    sweeps = warm_up(sampler, began + WARM_SHARE * max_seconds)
    refuse_impossible(sampler.state)
    escalates = bool(sampler.moves)
    first = _finish(sampler, *_draw(sampler, began + max_seconds, patient=not escalates))
    if not escalates or not first.verdict.may_improve:
        return sweeps, first
    again = time.process_time()
    end = began + 2 * max_seconds
    _escalate(sampler, first.verdict)
    sweeps += warm_up(sampler, again + WARM_SHARE * (end - again))
    second = _finish(sampler, *_draw(sampler, end, patient=True))
    second = calmed(first, second)
    return sweeps, second if first.verdict.is_good else better(first, second)


def calmed(first: Attempt, second: Attempt) -> Attempt:
    """The second attempt, without a word on prediction errors that are the density's own."""
    if not second.verdict.lean or not leans_alike(first.scores, second.scores):
        return second
    calm = replace(second.verdict, lean=0.0)
    over = set(second.verdict.warnings()) - set(calm.warnings())
    said = tuple(sentence for sentence in second.draws.warnings if sentence not in over)
    return replace(second, verdict=calm, draws=replace(second.draws, warnings=said))


def better(first: Attempt, second: Attempt) -> Attempt:
    """The attempt with fewer warnings; of equals, one that knows more than that it is slow, or agrees better."""

    def faults(attempt: Attempt) -> tuple[int, bool, float]:
        verdict = attempt.verdict
        return len(attempt.draws.warnings), verdict.is_slow, verdict.r_hat

    return min(first, second, key=faults)


def _escalate(sampler: BlockSampler, verdict: Verdict) -> None:
    """Let trajectories be longer; their steps smaller too where more is wrong than that chains are slow."""
    for move in sampler.moves:
        move.length *= LONG_LENGTH
        move.most_steps = LONG_STEPS
        if not verdict.is_slow:
            move.target = LONG_TARGET
        move.restart()


def _draw(sampler: BlockSampler, deadline: float, *, patient: bool) -> tuple[Kept, Verdict]:
    """Chunks of draws until they are settled and know every standard deviation, or the time is up."""
    kept, verdict = _settled(sampler, deadline, patient=patient)
    while verdict.is_good and len(kept) < MOST_DRAWS and time.process_time() < deadline:
        if worst_excursion(_unjudged(sampler, kept), sampler.block.names).is_known:
            break
        sampler.progress.extend(CHUNK * kept.every)
        _chunk(sampler, kept, deadline)
        verdict = kept.verdict(sampler.block)
    return kept, verdict


def _settled(sampler: BlockSampler, deadline: float, *, patient: bool) -> tuple[Kept, Verdict]:
    """Chunks of draws until they are settled, or the time is up.

    Where nothing but more draws would help, and they nearly suffice or it is `patient`, it goes on with
    every second draw, every fourth, ...; else it ends with the most that are kept.
    """
    kept = Kept(torch.zeros_like(sampler.point.log_prob))
    sampler.progress.begin("drawing", CHUNK)
    with watched(sampler) as highest:
        _chunk(sampler, kept, deadline)
    kept.look_for_unseen(sampler, highest)
    while True:
        verdict = kept.verdict(sampler.block)
        of_all = len(kept) * len(kept.acceptance)
        is_enough = of_all >= ENOUGH_DRAWS and len(kept) >= CHUNK * len(sampler.moves)
        if (verdict.is_settled and is_enough) or time.process_time() > deadline:
            return kept, verdict
        if len(kept) >= MOST_DRAWS:
            if not (verdict.wants_more and (patient or verdict.r_hat < NEARLY)):
                return kept, verdict
            kept.thin()
        sampler.progress.extend(CHUNK * kept.every)
        _chunk(sampler, kept, deadline)


def _chunk(sampler: BlockSampler, kept: Kept, deadline: float) -> None:
    for _ in range(CHUNK * kept.every):
        kept.sweep(sampler)
        if len(kept) >= LEAST_DRAWS and time.process_time() > deadline:
            break


def _finish(sampler: BlockSampler, kept: Kept, verdict: Verdict) -> Attempt:
    block = sampler.block
    draws = _unjudged(sampler, kept)
    found = {n: rank_diagnostics(x) for n, x in draws.values.items()}
    verdict = verdict.with_ranks(_ranks_of_healthy(draws.values, found, verdict))
    draws = replace(
        draws,
        r_hat={n: x.r_hat for n, x in found.items()},
        bulk_ess={n: x.bulk_ess for n, x in found.items()},
        tail_ess={n: x.tail_ess for n, x in found.items()},
    )
    share = _least_share([found[n] for n in block.names], kept)
    verdict = replace(
        verdict,
        share=share,
        excursion=worst_excursion(draws, block.names),
        vague=vaguest_quantile(
            draws.values, draws.tail_ess, block.names if share < LEAST_SHARE else ()
        ),
    )
    flat = torch.stack(kept.declared).flatten(0, 1)
    said = (*verdict.warnings(), *cut_off(draws.state, block.unflatten(flat)))
    return Attempt(replace(draws, warnings=said), verdict, kept.mean_scores)


def _unjudged(sampler: BlockSampler, kept: Kept) -> Draws:
    """What is kept, by site, not yet judged."""
    block = sampler.block
    flat = torch.stack(kept.declared)
    state = sampler.state.with_values(block.unflatten(flat[-1]))
    values = _natural(state, block, flat)
    values |= {n: torch.stack(x) for n, x in kept.rest.items()}
    return Draws(
        values={n: values[n] for n in state.conditioning.latent},
        log_joint=torch.stack(kept.log_prob),
        acceptance=kept.mean_acceptance,
        r_hat={},
        bulk_ess={},
        tail_ess={},
        warnings=(),
        state=state,
        warmup_sweeps=0,
        seconds=0.0,
    )


def _least_share(found: list[RankDiagnostics], kept: Kept) -> float:
    """The least effective number of draws, for the middle and for tails, of a sweep of one chain."""
    sizes = [float(torch.minimum(x.bulk_ess, x.tail_ess).min()) for x in found]
    return min(sizes, default=math.inf) / (kept.sweeps * len(kept.acceptance))


def _ranks_of_healthy(
    values: Mapping[str, Tensor], found: Mapping[str, RankDiagnostics], verdict: Verdict
) -> dict[str, Tensor]:
    """R-hat on ranks by site, of the chains that are not lost."""
    if not (verdict.stuck or verdict.astray):
        return {n: x.r_hat for n, x in found.items()}
    return {n: rank_diagnostics(stand_in(x, verdict.sources)).r_hat for n, x in values.items()}


def _natural(state: State, block: Any, flat: Tensor) -> dict[str, Tensor]:
    """Draws `(S, K, G, D)` by site, in their own support."""
    number, width = flat.shape[:2]
    found = {}
    for name, value in block.unflatten(flat.flatten(0, 1)).items():
        bijection = state.conditioning.bijections.get(name)
        natural = value if bijection is None else bijection(value)
        found[name] = natural.unflatten(0, (number, width))
    return found
