"""Log evidence: how probable the model finds the data, all latents integrated out, with a check of the estimate itself.

`gauss_markov` importance-samples from a Gauss-Markov proposal fitted to swept particles (see
`gauss_markov`); discrete sites of finite support are summed out exactly. Its Pareto k-hat says
whether the weights can be trusted (below .7). `annealed` follows a path from the prior (see
`annealing`); it needs no good proposal, and costs more.

    >>> import torch
    >>> from torch.distributions import Normal
    >>> from aif_dcpc.inference import DCPC, GraphicalModel
    >>> model = GraphicalModel()
    >>> model.add_site("z", lambda: Normal(0.0, 1.0))
    >>> model.add_site("x", lambda z: Normal(z, 1.0), parents=["z"])
    >>> data = torch.tensor([0.0, 2.0])
    >>> found = DCPC(model).log_evidence({"x": data})
    >>> exact = Normal(0.0, 2.0**0.5).log_prob(data)
    >>> bool((found - exact).abs().max() < 0.05)
    True

References: Vehtari, Simpson, Gelman, Yao, Gabry 2024 (arXiv 1507.02646) for k-hat.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.model.ancestral import no_validation, rng_from
from aif_dcpc.inference.model.densities import active_factors, evaluate, factors_of
from aif_dcpc.inference.model.graph import Scope
from aif_dcpc.inference.model.resampling import ess
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.moves.forward_backward import chain_tables, is_tabular
from aif_dcpc.inference.queries.gauss_markov import GaussMarkov
from aif_dcpc.inference.sampler import Sampler
from aif_dcpc.inference.smc.annealing import annealed_log_evidence, is_coupled
from aif_dcpc.misspelt import unknown_name

METHODS = ("auto", "gauss_markov", "annealed")
MAX_PARETO_K = 0.7
MIN_CHAINS = 64
VALUES_PER_CHUNK = 2**21


@dataclass(frozen=True)
class Evidence:
    """An estimate of the log evidence and its quality.

    Attributes:
        log_evidence: `(B,)` nats, or `(1,)` for all data together where a latent site is global.
        ess_fraction: `(B or 1,)` importance ESS divided by the number of samples.
        pareto_k: `(B or 1,)` tail index of the weights; above .7 the estimate is unreliable.
        method: which method gave it.
        free_energy: `(B,)` or `(1,)` nats, E_q[log q(z) - log p(data, z)] of the proposal q: minus
            the log evidence plus the divergence of q from the posterior.
    """

    log_evidence: Tensor
    ess_fraction: Tensor
    pareto_k: Tensor
    method: str
    free_energy: Tensor


def estimate_evidence(
    engine: Sampler,
    data: Mapping[str, Tensor],
    *,
    method: str = "auto",
    num_samples: int = 8192,
    num_fit: int = 16384,
    num_temperatures: int = 200,
    num_chains: int = 256,
    seed: int | None = None,
    masks: Mapping[str, Tensor] | None = None,
    do: Mapping[str, Tensor] | None = None,
    batch_size: int | None = None,
    length: int | None = None,
) -> Evidence:
    """Estimate log p(data) and how far the estimate can be trusted.

    Args:
        engine: model and moves.
        data: as `engine.init`.
        method: "gauss_markov", "annealed", or "auto": the first, unless its k-hat exceeds .7 or
            discrete sites cannot be summed out, and then the second.
        num_samples: importance samples per datum.
        num_fit: particles times sweeps to which the proposal is fitted.
        num_temperatures, num_chains: of annealing (see `annealing.annealed_log_evidence`).
        seed: seeds the engine's generator.
        masks, do, batch_size, length: as `engine.init`.

    Raises:
        ModelError: for an unknown method, or discrete sites that "gauss_markov" cannot sum out.
    """
    if method not in METHODS:
        raise ModelError(unknown_name("method", method, METHODS))
    given: dict[str, Any] = {"masks": masks, "do": do, "batch_size": batch_size, "length": length}
    with no_validation(), torch.no_grad():
        sampler = engine.with_num_particles(max(engine.num_particles, MIN_CHAINS))
        state = sampler.init(data, seed=seed, **given)
        obstacle = _obstacle(state)
        if method == "gauss_markov" and obstacle:
            raise ModelError(f"method='gauss_markov': {obstacle} Use method='annealed'.")
        if method != "annealed" and not obstacle:
            found = _importance(sampler, state, num_samples, num_fit)
            if method == "gauss_markov" or float(found.pareto_k.max()) <= MAX_PARETO_K:
                return found
    options = {
        "num_temperatures": num_temperatures,
        "num_chains": num_chains,
        "seed": seed,
        **given,
    }
    annealed = annealed_log_evidence(engine, data, **options)
    return _evidence(annealed.log_weights, "annealed", annealed.log_evidence)


def _evidence(log_weights: Tensor, method: str, log_evidence: Tensor | None = None) -> Evidence:
    """What importance weights `(num_samples, B or 1)` say."""
    number = log_weights.shape[0]
    if log_evidence is None:
        log_evidence = torch.logsumexp(log_weights, 0) - math.log(number)
    return Evidence(
        log_evidence=log_evidence,
        ess_fraction=ess(log_weights) / number,
        pareto_k=pareto_k(log_weights),
        method=method,
        free_energy=-log_weights.mean(0),
    )


# -- importance sampling ---------------------------------------------------------------------------


def _obstacle(state: State) -> str:
    """Why the discrete sites cannot be summed out one by one; "" where they can."""
    discrete = state.conditioning.discrete
    for name in sorted(discrete):
        if not is_tabular(state, name):
            return f"site {name!r} has no small table of values to sum out."
        for factor in factors_of(state, name):
            others = {argument.site for argument in factor.inputs} & discrete - {name}
            if others:
                return f"discrete sites {name!r} and {min(others)!r} are coupled and cannot be summed out one by one."
    return ""


def _importance(engine: Sampler, state: State, num_samples: int, num_fit: int) -> Evidence:
    """Weigh draws of a Gauss-Markov proposal; exact where all latents are summed out."""
    names = [n for n in state.conditioning.latent if n not in state.conditioning.discrete]
    if not names:
        return _exact(state)
    proposal = GaussMarkov(state, _posterior_draws(engine, state, names, num_fit))
    size = max(64, VALUES_PER_CHUNK // (state.batch_size * max(state.length, 1)))
    parts = []
    with rng_from(engine.generator):
        for start in range(0, num_samples, size):
            parts.append(_log_weights(state, proposal, min(size, num_samples - start)))
    return _evidence(torch.cat(parts), "gauss_markov")


def _exact(state: State) -> Evidence:
    """The evidence where every latent is summed out."""
    found = _log_joint(_with_values(state, {}, 1))[0]
    one = torch.ones_like(found)
    return Evidence(found, one, torch.zeros_like(one), "exact", -found)


def _posterior_draws(
    engine: Sampler, state: State, names: list[str], num_fit: int
) -> dict[str, Tensor]:
    """Particles of many sweeps after the warm-up, unconstrained coordinates, `(N, B, [T,] *event)`."""
    state, _ = engine.run(state, 2 * engine.warmup + 50)
    num_sweeps = max(1, num_fit // state.num_particles)
    _, info = engine.run(
        state, num_sweeps, record=lambda s: {n: s.values[n] for n in names}, adapt=False
    )
    return {n: x.flatten(0, 1) for n, x in info.trace.items()}


def _log_weights(state: State, proposal: GaussMarkov, number: int) -> Tensor:
    """Draw from the proposal and weigh, log p - log q, `(number, B)`, or `(number, 1)` where data are coupled."""
    values, own, shared = proposal.sample(number)
    log_q = own.sum(1, keepdim=True) + shared if is_coupled(state) else own
    return _log_joint(_with_values(state, values, number)) - log_q


def _with_values(state: State, values: Mapping[str, Tensor], number: int) -> State:
    """The state with other particles; discrete sites keep one, which is never read."""
    weights = state.log_weights.new_zeros(number, state.batch_size)
    idle = {n: state.values[n][:1] for n in state.conditioning.discrete}
    return state.replace(
        values={**state.values, **idle, **values}, log_weights=weights, cache={}, adaptation={}
    )


def _log_joint(state: State) -> Tensor:
    """log p(data, continuous latents), discrete ones summed out, `(N, B)`, or `(N, 1)` where data are coupled."""
    own = torch.zeros_like(state.log_weights).double()
    shared = torch.zeros_like(state.log_weights[:, :1]).double()
    for scope, log_prob in _log_joint_parts(state):
        total = (log_prob if log_prob.ndim == 2 else log_prob.sum(2)).double()
        if scope == "global":
            shared = shared + total
        else:
            own = own + total
    if is_coupled(state):
        return own.sum(1, keepdim=True) + shared
    return own + shared / state.batch_size


def _log_joint_parts(state: State) -> Iterator[tuple[Scope, Tensor]]:
    """Terms of the log joint with their scopes, `(N, B, [T])`: factors of continuous latents, discrete sites summed out."""
    discrete = state.conditioning.discrete
    for factor in active_factors(state):
        if discrete.isdisjoint(argument.site for argument in factor.inputs):
            yield factor.site.scope, evaluate(state, factor, scores=False).log_prob
    for name in discrete:
        log_normaliser = chain_tables(state, name).log_normaliser()
        yield state.conditioning.site(name).scope, log_normaliser


def pareto_k(log_weights: Tensor) -> Tensor:
    """Shape of the generalised Pareto law that fits the largest weights, `(N, B)` to `(B,)`.

    Distrust the weights where it is above .7.

    Zhang and Stephens 2009 with the prior of Vehtari et al. 2024, on the min(N/5, 3 sqrt N) largest
    weights.
    """
    number = len(log_weights)
    tail = int(min(0.2 * number, 3 * math.sqrt(number)))
    if tail < 5:
        return torch.full_like(log_weights[0], math.inf)
    largest = (log_weights - log_weights.max(0).values).double().sort(0).values[-tail - 1 :].exp()
    x = (largest[1:] - largest[0]).clamp_min(1e-300)
    grid = 30 + int(math.sqrt(tail))
    steps = torch.arange(1, grid + 1, device=x.device).double()[:, None]
    quartile = x[(tail + 2) // 4 - 1]
    theta = 1 / x[-1] + (1 - (grid / (steps - 0.5)).sqrt()) / (3 * quartile)  # (grid, B)
    shape = torch.log1p(-theta[:, None] * x).mean(1)
    profile = tail * (torch.log((-theta / shape).clamp_min(1e-300)) - shape - 1)
    mean = (theta * torch.softmax(profile, 0)).sum(0)
    k = torch.log1p(-mean * x).mean(0)
    k = (tail * k + 5) / (tail + 10)
    return torch.nan_to_num(k, nan=math.inf).to(log_weights.dtype)
