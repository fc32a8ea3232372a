"""From data to draws: start, warm up until mixed, draw, diagnose.

Continuous latents move as one block (see `model.coordinates`), everything else by the engine's own
moves in between. Where draws do not look as they should, the block warms up once more with longer
trajectories and smaller steps, and what still does not is said.
"""

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
from aif_dcpc.inference.arrival.judge import Verdict, judge
from aif_dcpc.inference.arrival.progress import SampleProgress
from aif_dcpc.inference.arrival.warm_up import warm_up
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.model.densities import log_joint
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.joint import Chart
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.queries.ranks import rank_diagnostics

CHUNK = 100  # draws of each chain between looks at them
MOST_DRAWS = 400
LONG_TARGET = 0.95
LONG_LENGTH = 4.0  # of a long trajectory, in units of an ordinary one
LONG_STEPS = 64
WARM_SHARE = 0.5  # of the time, at most, is spent on warming up
LEAST_DRAWS = 20


@dataclass
class Kept:
    """Draws as they come.

    Attributes:
        places: vectors by chart, a list of `(K, G, D)`.
        declared: vectors in declared coordinates, after the last chart's move.
        log_prob: the log joint, a list of `(K, G)`.
        acceptance: sum over draws, `(K, G)`.
        rest: latents outside the block, a list for each.
    """

    places: dict[str, list[Tensor]]
    declared: list[Tensor]
    log_prob: list[Tensor]
    acceptance: Tensor
    rest: dict[str, list[Tensor]]


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
            sweeps = warm_up(sampler, began + WARM_SHARE * max_seconds)
            draws = _finish(sampler, *_draw(sampler, began + max_seconds))
            if draws.warnings and sampler.moves:
                again = time.process_time()
                end = began + 2 * max_seconds
                _escalate(sampler)
                sweeps += warm_up(sampler, again + WARM_SHARE * (end - again))
                draws = better(draws, _finish(sampler, *_draw(sampler, end)))
    draws = replace(draws, warmup_sweeps=sweeps, seconds=time.process_time() - began)
    for sentence in draws.warnings:
        warnings.warn(sentence, ConvergenceWarning, stacklevel=3)
    return draws


def better(first: Draws, second: Draws) -> Draws:
    """The draws that fewer warnings stand against; of equals, those that agree better."""

    def faults(draws: Draws) -> tuple[int, float]:
        return len(draws.warnings), max(float(x.max()) for x in draws.r_hat.values())

    return min(first, second, key=faults)


def _escalate(sampler: BlockSampler) -> None:
    """Let trajectories be longer, and their steps smaller."""
    for move in sampler.moves:
        move.target = LONG_TARGET
        move.length *= LONG_LENGTH
        move.most_steps = LONG_STEPS
        move.restart()


def _draw(sampler: BlockSampler, deadline: float) -> tuple[Kept, Verdict]:
    """Chunks of draws until they are settled or the time is up."""
    kept = Kept(
        {m.chart: [] for m in sampler.moves}, [], [], torch.zeros_like(sampler.point.log_prob), {}
    )
    sampler.progress.begin("drawing", CHUNK)
    while True:
        for _ in range(CHUNK):
            _keep(sampler, kept)
            if len(kept.log_prob) >= LEAST_DRAWS and time.process_time() > deadline:
                break
        verdict = _judge(sampler, kept)
        enough = len(kept.log_prob) >= MOST_DRAWS or time.process_time() > deadline
        if verdict.is_settled or enough:
            return kept, verdict
        sampler.progress.extend(CHUNK)


def _keep(sampler: BlockSampler, kept: Kept) -> None:
    acceptances, points = sampler.sweep(adapt=False)
    declared, log_prob = sampler.declared()
    kept.declared.append(declared)
    for chart, point in points.items():
        kept.places[chart].append(point.place)
    kept.log_prob.append(log_prob if points else log_joint(sampler.state))
    kept.acceptance += _least(acceptances, kept.acceptance)
    for name in sampler.block.outside:
        kept.rest.setdefault(name, []).append(sampler.state.constrained(name))


def _least(acceptances: Mapping[Chart, Tensor], like: Tensor) -> Tensor:
    """The least acceptance of a chain's moves; 1 where it has none."""
    found = list(acceptances.values())
    return torch.stack(found).amin(0) if found else torch.ones_like(like)


def _judge(sampler: BlockSampler, kept: Kept) -> Verdict:
    block = sampler.block
    names = [n for n, size in zip(block.names, block.sizes, strict=True) for _ in range(size)]
    places = [torch.stack(x) for x in kept.places.values()]
    outside = [(n, torch.stack(x).double()) for n, x in kept.rest.items()]
    return judge(
        places, outside, torch.stack(kept.log_prob), kept.acceptance / len(kept.log_prob), names
    )


def _finish(sampler: BlockSampler, kept: Kept, verdict: Verdict) -> Draws:
    block = sampler.block
    flat = torch.stack(kept.declared)
    state = sampler.state.with_values(block.unflatten(flat[-1]))
    values = _natural(state, block, flat)
    values |= {n: torch.stack(x) for n, x in kept.rest.items()}
    ordered = {n: values[n] for n in state.conditioning.latent}
    found = {n: rank_diagnostics(x) for n, x in ordered.items()}
    r_hats = {n: x.r_hat for n, x in found.items()}
    return Draws(
        values=ordered,
        log_joint=torch.stack(kept.log_prob),
        acceptance=kept.acceptance / len(kept.log_prob),
        r_hat=r_hats,
        bulk_ess={n: x.bulk_ess for n, x in found.items()},
        tail_ess={n: x.tail_ess for n, x in found.items()},
        warnings=verdict.with_ranks(r_hats).warnings(),
        state=state,
        warmup_sweeps=0,
        seconds=0.0,
    )


def _natural(state: State, block: Any, flat: Tensor) -> dict[str, Tensor]:
    """Draws `(S, K, G, D)` by site, in their own support."""
    number, width = flat.shape[:2]
    found = {}
    for name, value in block.unflatten(flat.flatten(0, 1)).items():
        bijection = state.conditioning.bijections.get(name)
        natural = value if bijection is None else bijection(value)
        found[name] = natural.unflatten(0, (number, width))
    return found
