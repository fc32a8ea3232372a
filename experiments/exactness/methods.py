"""Samplers compared: exact sweeps, the published update, Pyro's NUTS, a bootstrap filter."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.experiments.exactness.case import Case
from aif_dcpc.experiments.exactness.moments import MAX_ALL_PAIRS, Moments, Row, flatten
from aif_dcpc.inference import DCPC, NonFiniteError, State
from aif_dcpc.inference.model.densities import active_factors, factor_slices, log_density
from aif_dcpc.inference.model.factor_graph import align
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.queries.evidence import estimate_evidence
from aif_dcpc.inference.smc.annealing import log_likelihood

CHUNK = 50  # sweeps that are recorded at a time
RESOLUTION = 0.03 / 5  # standard errors at which 5 of them are 3 % of a posterior sd
LIMIT = 300.0  # processor seconds after which exact sweeps stop all the same
CLOUDS = 32  # of tempering, and of the published update
STEPS = (0.1, 0.03, 0.01, 0.003, 0.001)
FILTER_PARTICLES = 1024


def wanted(engine: DCPC, case: Case) -> Callable[[State], Mapping[str, Tensor]]:
    """Read a cloud: its latents, or what they would have been, natural values `(K, B, [T,] *event)`."""

    def read(state: State) -> Mapping[str, Tensor]:
        if not case.counterfactual:
            return {n: state.constrained(n) for n in case.sites}
        found = engine.counterfactual(state, copies(case.counterfactual, state.batch_size))
        return {n: found[n] for n in case.sites}

    return read


def copies(data: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """One data point repeated, `(number, ...)`."""
    return {n: x.expand(number, *x.shape[1:]) for n, x in data.items()}


def is_shared(case: Case) -> bool:
    """Whether a global site ties all data of a batch together."""
    return any(site.scope == "global" for site in case.model.sites.values())


# -- the engine ------------------------------------------------------------------------------------


def exact(case: Case) -> Iterator[Row]:
    """Sweep as the engine does by default until the moments are precise, or `LIMIT` is reached.

    Once moves are frozen, every particle is a chain of its own.
    """
    start = time.process_time()
    moments = tempered(case) if case.temper else swept(case, start)
    seconds = time.process_time() - start
    method, evidences = evidence_of(case)
    yield moments.row(f"exact ({method})", moments.errors(), seconds, evidences)


def particles_for(size: int) -> int:
    """Particles of an engine for a posterior of so many dimensions, the fewer the more it has."""
    if size <= 20:
        return 2048
    return 256 if size <= MAX_ALL_PAIRS else 128


def swept(case: Case, start: float) -> Moments:
    """400 sweeps of burn-in, 100 of them with adaptation, then as many as the resolution asks for."""
    size = len(case.mean)
    engine = DCPC(case.model, num_particles=particles_for(size), moves=case.moves, warmup=100)
    moments = Moments(case)
    state, _ = engine.run(engine.init(case.data, seed=1, **case.setup), 400)
    while moments.count < 4 * CHUNK or (is_coarse(moments) and time.process_time() - start < LIMIT):
        state, info = engine.run(state, CHUNK, record=wanted(engine, case), adapt=False)
        moments.add(flatten(case, info.trace)[:, :, 0])
    return moments


def is_coarse(moments: Moments) -> bool:
    """Whether 5 standard errors of some mean or covariance exceed 3 %."""
    return float(moments.errors()[1].max()) > RESOLUTION


def tempered(case: Case) -> Moments:
    """Clouds of 8192 particles, each a call: particles share ancestors, so that a cloud is one chain."""
    moments = Moments(case)
    clouds = []
    for seed in range(CLOUDS):
        engine = DCPC(case.model, num_particles=8192, moves=case.moves)
        state, _ = engine.temper(case.data, num_temperatures=20, seed=seed, **case.setup)
        clouds.append(
            flatten(case, {n: x[None] for n, x in wanted(engine, case)(state).items()})[0, :, 0]
        )
    moments.add(torch.stack(clouds, 1))
    return moments


def evidence_of(case: Case) -> tuple[str, list[float]]:
    """The engine's own estimates, from 5 seeds, and the method that it chose (annealed: 1024 chains)."""
    engine = DCPC(case.model, num_particles=64, moves=case.moves, warmup=100)
    found = [
        estimate_evidence(engine, case.data, **case.setup, seed=s, num_chains=1024)
        for s in range(5)
    ]
    return found[0].method, [float(f.log_evidence) for f in found]


# -- the published update --------------------------------------------------------------------------


def paper(case: Case) -> Iterator[Row]:
    """Algorithm 1 with 16 particles, at step .1 or the largest smaller one that does not break down."""
    for step in STEPS:
        try:
            yield published(case, step)
        except NonFiniteError:
            yield Row(case.name, f"paper, step {step:g} (not finite)")
        else:
            return


def published(case: Case, step: float) -> Row:
    """500 sweeps of burn-in and 500 more of 32 clouds; a cloud is one chain, for its particles are resampled."""
    start = time.process_time()
    moments = Moments(case)
    shared = is_shared(case)
    sweeps = 250 if shared else 500
    parts = [
        published_draws(case, step, 1 if shared else CLOUDS, sweeps, seed)
        for seed in range(16 if shared else 1)
    ]
    moments.add(torch.cat(parts, 1))
    return moments.row(f"paper, step {step:g}", moments.errors(), time.process_time() - start)


def published_draws(case: Case, step: float, clouds: int, sweeps: int, seed: int) -> Tensor:
    """Every fifth sweep of the second half, particles as further draws, `(S K, clouds, D)`."""
    engine = DCPC(case.model, num_particles=16, update="paper", step=step)
    setup: dict[str, Any] = {k: copies(given, clouds) for k, given in case.setup.items()}
    state = engine.init(copies(case.data, clouds), seed=seed, **setup)
    for _ in range(sweeps // CHUNK):
        state, _ = engine.run(state, CHUNK)
    kept = []
    for _ in range(sweeps // 5):
        state, info = engine.run(state, 4)
        state, info = engine.run(state, 1, record=wanted(engine, case))
        kept.append(flatten(case, info.trace))
    return torch.cat(kept).flatten(0, 1)


# -- others ----------------------------------------------------------------------------------------


def nuts(case: Case) -> Iterator[Row]:
    """Pyro's NUTS on the same log joint in the same unconstrained coordinates: 2 chains, 200 + 500 samples."""
    from pyro.infer import MCMC, NUTS  # needed here only

    start = time.process_time()
    moments = Moments(case)
    chains = []
    for seed in range(2):
        torch.manual_seed(seed)
        engine = DCPC(case.model, num_particles=1)
        state = engine.init(case.data, seed=seed, **case.setup)
        begin = {n: state.values[n] for n in state.conditioning.latent}
        kernel = NUTS(potential_fn=lambda z, s=state: potential(s, z))
        sampler = MCMC(
            kernel, num_samples=500, warmup_steps=200, initial_params=begin, disable_progbar=True
        )
        with no_validation():
            sampler.run()
        drawn = {
            n: x[:, 0] for n, x in sampler.get_samples().items()
        }  # samples take the place of particles
        cloud = state.with_values(drawn).replace(log_weights=state.log_weights.expand(500, -1))
        chains.append(
            flatten(case, {n: x[None] for n, x in wanted(engine, case)(cloud).items()})[0, :, 0]
        )
    found = moments.errors_of_trace(torch.stack(chains, 1))
    yield moments.row("NUTS", found, time.process_time() - start)


def potential(state: State, values: Mapping[str, Tensor]) -> Tensor:
    """Minus the log joint, differentiable."""
    current = {**state.values, **values}
    total = torch.zeros(())
    for factor in active_factors(state):
        start, stop = factor_slices(state, factor)
        aligned = {
            argument: align(
                current[argument.site],
                state.conditioning.site(argument.site),
                argument,
                factor.site,
                start,
                stop,
            )
            for argument in factor.inputs
        }
        total = total - log_density(state, factor, aligned, start, stop).sum()
    return total


def particle_filter(case: Case) -> Iterator[Row]:
    """Bootstrap filter: slices appended without a sweep, smoothed by surviving lineages; 32 runs (T = 200: 16)."""
    start = time.process_time()
    moments = Moments(case)
    runs = CLOUDS if len(case.mean) <= MAX_ALL_PAIRS else CLOUDS // 2
    if is_shared(case):
        parts = [filtered(case, 1, seed) for seed in range(runs)]
    else:
        parts = [filtered(case, runs, 1)]
    draws, weights, evidences = zip(*parts, strict=True)
    moments.add(torch.cat(draws, 1), torch.cat(weights, -1))
    yield moments.row(
        "bootstrap filter",
        moments.errors(),
        time.process_time() - start,
        torch.cat(evidences, -1).tolist(),
    )


def filtered(case: Case, runs: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lineages `(K, runs, D)`, their weights `(K, runs)` and log evidences `(runs,)` of a batch of runs."""
    engine = DCPC(case.model, num_particles=FILTER_PARTICLES)
    data = copies(case.data, runs)
    state = engine.init({n: x[:, :1] for n, x in data.items()}, seed=seed)
    weights = log_likelihood(state)
    level = torch.logsumexp(weights, 0) - math.log(FILTER_PARTICLES)
    state = state.replace(log_weights=weights, log_evidence=level)
    for t in range(1, next(iter(data.values())).shape[1]):
        state = engine.append(state, {n: x[:, t] for n, x in data.items()})
    particles = {
        n: x[None].expand(1, x.shape[0], runs, *x.shape[2:])
        for n, x in wanted(engine, case)(state).items()
    }
    return flatten(case, particles)[0], state.weights().double(), state.log_evidence


METHODS = (exact, paper, nuts, particle_filter)


def methods_for(case: Case) -> Iterator[Callable[[Case], Iterator[Row]]]:
    """What can run on a case.

    NUTS needs continuous sites alone, the published update some of them; the filter time, and whole
    slices of data.
    """
    state = DCPC(case.model, num_particles=2).init(case.data, **case.setup)
    yield exact
    if state.conditioning.discrete != set(state.conditioning.latent):
        yield paper
    if not state.conditioning.discrete:
        yield nuts
    if state.length and not case.setup:
        yield particle_filter
