"""Posteriors and evidence of every model with a closed form: exact sweeps, the published update, NUTS, a particle filter.

    python -m aif_dcpc.experiments.exactness.compare [--only WORD] [--figure comparison.png]

Errors of means are in posterior standard deviations, of (cross-)covariances relative to the product of both standard
deviations; z is the worst error in Monte Carlo standard errors over all entries. Prints a table and asserts nothing.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.experiments.exactness.cases import CASES, Case
from aif_dcpc.inference import DCPC, NonFiniteError, State
from aif_dcpc.inference.annealing import log_likelihood
from aif_dcpc.inference.evidence import Evidence, estimate_evidence
from aif_dcpc.inference.factors import active_factors, factor_slices, log_density
from aif_dcpc.inference.lowering import align
from aif_dcpc.inference.sampling import quiet_distributions

MAX_ALL_PAIRS = 100  # above this many coordinates only those up to one slice apart are compared
CHUNK = 50


@dataclass(frozen=True)
class Row:
    """One method on one case; `nan` where it does not apply.

    Attributes:
        case, method: names.
        mean_error: largest error of a mean, posterior sd.
        covariance_error: largest error of a variance or cross-covariance, relative.
        variance_ratio: mean of found over exact variances.
        z: largest error in Monte Carlo standard errors.
        resolution: largest standard error of a mean, posterior sd.
        evidence_error: nats.
        seconds: time for the posterior.
    """

    case: str
    method: str
    mean_error: float
    covariance_error: float
    variance_ratio: float
    z: float
    resolution: float
    evidence_error: float
    seconds: float


def pairs_of(case: Case) -> tuple[Tensor, Tensor]:
    """Indices of the covariances that are compared."""
    size = len(case.mean)
    rows, columns = torch.triu_indices(size, size)
    if size > MAX_ALL_PAIRS:
        width = case.model.sites[case.sites[0]].num_lead and next(iter(case.data.values())).shape[-1]
        near = rows // width + 1 >= columns // width
        rows, columns = rows[near], columns[near]
    return rows, columns


def flatten(case: Case, particles: Mapping[str, Tensor]) -> Tensor:
    """Latents of one datum side by side, `(..., D)`, from `(..., K, 1, [T,] *event)` with `...` the sweeps."""
    parts = [particles[n].double() for n in case.sites]
    return torch.cat([x.reshape(*x.shape[:3], -1) for x in parts], -1)


class Moments:
    """Running means of every chain: of the coordinates, and of products of deviations from the exact mean."""

    def __init__(self, case: Case) -> None:
        self.case, self.pairs = case, pairs_of(case)
        self.count, self.first, self.second = 0, torch.zeros(()), torch.zeros(())

    def add(self, draws: Tensor) -> None:
        """Take in `(S, chains, D)`."""
        deviations = draws - self.case.mean
        rows, columns = self.pairs
        self.first = self.first + deviations.sum(0)
        self.second = self.second + sum(d[:, rows] * d[:, columns] for d in deviations)
        self.count += len(draws)

    def row(self, method: str, evidence: float, seconds: float) -> Row:
        """Errors of the means over chains, and what chains say of their uncertainty."""
        rows, columns = self.pairs
        covariance, deviation = self.case.covariance, self.case.covariance.diagonal().clamp_min(1e-300).sqrt()
        scale = deviation[rows] * deviation[columns]
        mean_errors = self.first / self.count / deviation
        product_errors = (self.second / self.count - covariance[rows, columns]) / scale
        both = torch.cat([mean_errors, product_errors], -1)
        error, spread = both.mean(0), both.std(0) / math.sqrt(len(both))
        size = len(deviation)
        variances = 1 + error[size:][rows == columns] - error[:size].square()
        return Row(
            case=self.case.name,
            method=method,
            mean_error=float(error[:size].abs().max()),
            covariance_error=float(error[size:].abs().max()),
            variance_ratio=float(variances.mean()),
            z=float((error.abs() / spread.clamp_min(1e-12)).max()) if len(both) > 1 else math.nan,
            resolution=float(spread[:size].max()) if len(both) > 1 else math.nan,
            evidence_error=evidence - self.case.log_evidence,
            seconds=seconds,
        )


# -- methods -----------------------------------------------------------------------------------------------------------


def exact(case: Case) -> Row:
    """The engine's default; every particle is a chain of its own once moves are frozen."""
    small = len(case.mean) <= MAX_ALL_PAIRS
    engine = DCPC(case.model, num_particles=256 if small else 128, moves=case.moves, warmup=100)
    start = time.perf_counter()
    if case.temper:
        engine.num_particles = 8192
        state, _ = engine.temper(case.data, num_temperatures=20, seed=1, **case.setup)
        state, sweeps = state.replace(sweeps=engine.warmup), 10
    else:
        state, _ = engine.run(engine.init(case.data, seed=1, **case.setup), 400)
        sweeps = 1000 if small else 600
    moments = sweep_moments(engine, state, case, sweeps)
    seconds = time.perf_counter() - start
    found = evidence_of(case)
    return moments.row(f"exact ({found.method})", float(found.log_evidence), seconds)


def sweep_moments(engine: DCPC, state: State, case: Case, sweeps: int) -> Moments:
    """Run and accumulate, chunk by chunk."""
    moments = Moments(case)
    for _ in range(math.ceil(sweeps / CHUNK)):
        state, info = engine.run(state, min(CHUNK, sweeps), record=case.sites, adapt=False)
        moments.add(flatten(case, info.trace)[:, :, 0])
    return moments


def evidence_of(case: Case) -> Evidence:
    """The engine's own estimate."""
    engine = DCPC(case.model, num_particles=64, moves=case.moves, warmup=100)
    return estimate_evidence(engine, case.data, setup=case.setup, seed=0)


def paper(case: Case) -> Row:
    """Algorithm 1: 8 clouds of 16 particles, 400 sweeps; a cloud is one chain, for its particles are resampled."""
    clouds, moments, start = 8, Moments(case), time.perf_counter()
    engine = DCPC(case.model, num_particles=16, update="paper")
    data = {n: x.expand(clouds, *x.shape[1:]) for n, x in case.data.items()}
    setup: dict[str, Any] = {
        k: {n: x.expand(clouds, *x.shape[1:]) for n, x in given.items()} for k, given in case.setup.items()
    }
    state, _ = engine.run(engine.init(data, seed=1, **setup), 200)
    for _ in range(200 // CHUNK):
        state, info = engine.run(state, CHUNK, record=case.sites)
        draws = flatten(case, info.trace)  # (S, K, clouds, D)
        for k in range(draws.shape[1]):
            moments.add(draws[:, k])
    return moments.row("paper", math.nan, time.perf_counter() - start)


def nuts(case: Case) -> Row:
    """Pyro's NUTS on the same log joint in the same unconstrained coordinates: 2 chains, 200 + 500 samples."""
    from pyro.infer import MCMC, NUTS  # needed here only

    moments, start = Moments(case), time.perf_counter()
    chains = []
    for seed in range(2):
        torch.manual_seed(seed)
        state = DCPC(case.model, num_particles=1).init(case.data, seed=seed, **case.setup)
        begin = {n: state.values[n] for n in state.problem.latent}
        kernel = NUTS(potential_fn=lambda z, s=state: potential(s, z))
        sampler = MCMC(kernel, num_samples=500, warmup_steps=200, initial_params=begin, disable_progbar=True)
        with quiet_distributions():
            sampler.run()
        drawn = sampler.get_samples()
        natural = {n: state.problem.bijections[n](v) if n in state.problem.bijections else v for n, v in drawn.items()}
        chains.append(flatten(case, natural)[:, 0])
    moments.add(torch.cat(chains, 1))
    return moments.row("NUTS", math.nan, time.perf_counter() - start)


def potential(state: State, values: Mapping[str, Tensor]) -> Tensor:
    """Minus the log joint, differentiable."""
    current, total = {**state.values, **values}, torch.zeros(())
    for factor in active_factors(state):
        start, stop = factor_slices(state, factor)
        aligned = {
            leaf: align(current[leaf.site], state.problem.site(leaf.site), leaf, factor.site, start, stop)
            for leaf in factor.inputs
        }
        total = total - log_density(state, factor, aligned, start, stop).sum()
    return total


def particle_filter(case: Case) -> Row:
    """Bootstrap filter with 1024 particles: appending slices without a sweep; smoothed by surviving lineages."""
    engine, moments, start = DCPC(case.model, num_particles=1024), Moments(case), time.perf_counter()
    series = next(iter(case.data.values()))
    evidences, rows = [], []
    for seed in range(8):
        state = engine.init({n: x[:, :1] for n, x in case.data.items()}, seed=seed)
        weights = log_likelihood(state)
        state = state.replace(log_weights=weights, log_evidence=torch.logsumexp(weights, 0) - math.log(1024))
        for t in range(1, series.shape[1]):
            state = engine.append(state, {n: x[:, t] for n, x in case.data.items()})
        rows.append((state.weights() * 1024, flatten(case, {n: x[None] for n, x in state.particles.items()})[0, :, 0]))
        evidences.append(float(state.log_evidence))
    moments.first = torch.stack([(w * (x - case.mean)).mean(0) for w, x in rows])
    pairs = moments.pairs
    moments.second = torch.stack(
        [(w * (x - case.mean)[:, pairs[0]] * (x - case.mean)[:, pairs[1]]).mean(0) for w, x in rows]
    )
    moments.count = 1
    return moments.row("bootstrap filter", sum(evidences) / 8, time.perf_counter() - start)


def methods_for(case: Case) -> Iterator[Callable[[Case], Row]]:
    """What can run on a case."""
    state = DCPC(case.model, num_particles=2).init(case.data, **case.setup)
    yield exact
    shared = any(site.scope == "global" for site in case.model.sites.values())
    if not state.problem.discrete and not shared:
        yield paper
    if not state.problem.discrete and not state.length:
        yield nuts
    if state.length and not case.setup and all(state.problem.site(n).period == 1 for n in case.sites):
        yield particle_filter


METHODS = (exact, paper, nuts, particle_filter)

# -- report ------------------------------------------------------------------------------------------------------------

HEADER = (
    "| model | method | mean error (sd) | covariance error | variance / exact | worst z | se of means (sd) | "
    "log evidence error | seconds |\n|---|---|---|---|---|---|---|---|---|"
)


def line(row: Row) -> str:
    """One line of the table."""
    numbers = [
        f"{row.mean_error:.3f}",
        f"{row.covariance_error:.3f}",
        f"{row.variance_ratio:.3f}",
        f"{row.z:.1f}",
        f"{row.resolution:.4f}",
        f"{row.evidence_error:+.3f}",
        f"{row.seconds:.0f}",
    ]
    return "| " + " | ".join([row.case, row.method, *("-" if "nan" in n else n for n in numbers)]) + " |"


def attempt(method: Callable[[Case], Row], case: Case) -> Row:
    """A row, empty where the method broke down."""
    try:
        return method(case)
    except NonFiniteError:
        return Row(case.name, f"{method.__name__} (not finite)", *[math.nan] * 7)


def draw(rows: list[Row], path: Path) -> None:
    """Variance ratio and error of the means by case and method."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(r.case for r in rows))
    figure, axes = plt.subplots(1, 2, figsize=(13, 0.42 * len(names) + 1.5), sharey=True, layout="constrained")
    for method, marker in (("exact", "o"), ("paper", "x"), ("NUTS", "s"), ("bootstrap filter", "^")):
        mine = [r for r in rows if r.method.startswith(method)]
        places = [names.index(r.case) for r in mine]
        axes[0].plot([max(r.mean_error, 1e-3) for r in mine], places, marker, label=method, alpha=0.8)
        axes[1].plot([max(r.variance_ratio, 1e-3) for r in mine], places, marker, label=method, alpha=0.8)
    axes[0].set(
        xscale="log", xlabel="largest error of a mean (posterior sd)", yticks=range(len(names)), yticklabels=names
    )
    axes[1].set(xscale="log", xlabel="variance found / exact (mean over coordinates)")
    axes[1].axvline(1, color="grey", linewidth=0.8)
    axes[0].invert_yaxis()
    axes[1].legend(loc="lower left")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--figure", type=Path, help="where to save the plot")
    parser.add_argument("--methods", nargs="+", default=[m.__name__ for m in METHODS], help="which methods")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(HEADER, flush=True)
    for case in (make() for make in CASES):
        if options.only in case.name:
            for method in (m for m in methods_for(case) if m.__name__ in options.methods):
                rows.append(attempt(method, case))
                print(line(rows[-1]), flush=True)
    if options.figure and rows:
        draw(rows, options.figure)


if __name__ == "__main__":
    main()
