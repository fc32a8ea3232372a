"""Log evidence: how probable the model finds the data, all latents integrated out, with a check of the estimate itself.

Where all latents are discrete and of small support they are summed out (`elimination`): the result
is exact, and minus infinity for impossible data. Otherwise `gauss_markov` importance-samples from a
proposal fitted to swept particles (`importance`). It is believed where its weights have a light
tail (k-hat below .7) and little spread, where the bridge estimate, which also sees the posterior's
own draws, agrees, and where the particles agreed about the posterior; where more samples would do,
they are drawn. `annealed` carries islands of particles from the prior to the posterior
(`tempering`), more of them until they agree, as far as a budget goes; its draws then serve a second
proposal. What is not known to .1 nats is said.

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
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ConvergenceWarning, ModelError, NonFiniteError
from aif_dcpc.inference.model.elimination import MAX_CELLS, largest_table, obstacle
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.resampling import ess, systematic
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.queries.importance import Importance, marginal_log_joint, pareto_k, weigh
from aif_dcpc.inference.queries.mixing import split_r_hat
from aif_dcpc.inference.sampler import Sampler
from aif_dcpc.inference.smc.annealing import select
from aif_dcpc.inference.smc.paths import choose_path, respaced
from aif_dcpc.inference.smc.tempering import NUM_PILOT, Climb, climb_until, num_coordinates
from aif_dcpc.misspelt import unknown_name

METHODS = ("auto", "gauss_markov", "annealed")
MAX_PARETO_K = 0.7
MAX_ERROR = 0.03  # standard error, nats, of an estimate that shall be right to .1
MAX_DISAGREEMENT = 0.1  # nats
MAX_R_HAT = 1.2  # of the draws that a proposal is fitted to
MIN_CHAINS = 64
FEW_CELLS = 2**8  # largest table of discrete sites next to continuous ones: it stands at each draw
MORE_SAMPLES = 16  # times as many at most, where the error asks for them
MARGIN = 0.8  # of MAX_ERROR, that they are to reach
MOST_DRAWN = 2**27  # latent coordinates of these samples, of all data
MOST_ANNEALED = 2**15  # data times D^1.5 for D latent coordinates, as annealing's cost grows


@dataclass(frozen=True)
class Evidence:
    """An estimate of the log evidence and its quality.

    Attributes:
        log_evidence: `(B,)` nats, or `(1,)` for all data together where a latent site is global.
        standard_error: `(B or 1,)` nats, by the spread of weights or of islands; 0 where exact.
        ess_fraction: `(B or 1,)` importance ESS divided by the number of samples.
        pareto_k: `(B or 1,)` tail index of the weights; above .7 the estimate is unreliable.
        method: which method gave it.
        free_energy: `(B,)` or `(1,)` nats, E_q[log q(z) - log p(data, z)] of the proposal q: minus
            the log evidence plus the divergence of q from the posterior.
        second_opinion: `(B or 1,)` nats, the estimate of another method from the same call; the
            estimate itself where there was none.
        warnings: why it may be wrong by more than .1 nats, one sentence each with its remedy;
            empty if all is well.
    """

    log_evidence: Tensor
    standard_error: Tensor
    ess_fraction: Tensor
    pareto_k: Tensor
    method: str
    free_energy: Tensor
    second_opinion: Tensor
    warnings: tuple[str, ...] = ()


def estimate_evidence(
    engine: Sampler,
    data: Mapping[str, Tensor],
    *,
    method: str = "auto",
    num_samples: int = 8192,
    num_fit: int = 16384,
    num_temperatures: int | None = None,
    num_chains: int = 2048,
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
        method: "gauss_markov", "annealed", or "auto": exact sums where they can be had, else the
            first, unless it is not to be trusted or discrete sites cannot be summed out, and then
            the second (where there is an estimate already, up to some 1,000 latent coordinates).
        num_samples: importance samples per data point, at first; up to 16 times as many where the
            weights are sound and so many make the error small.
        num_fit: particles times sweeps to which the proposal is fitted.
        num_temperatures, num_chains: of annealing; a pilot chooses the temperatures by default, and
            chains are multiplied by 4, and 16, where their islands disagree.
        seed: seeds the engine's generator.
        masks, do, batch_size, length: as `engine.init`.

    Raises:
        ModelError: for an unknown method, discrete sites that "gauss_markov" cannot sum out, or
            data that no draw from the prior can have given (annealed).

    Warns:
        ConvergenceWarning: each of the estimate's own `warnings`.
    """
    if method not in METHODS:
        raise ModelError(unknown_name("method", method, METHODS))
    given: dict[str, Any] = {"masks": masks, "do": do, "batch_size": batch_size, "length": length}
    with no_validation(), torch.no_grad():
        sampler = engine.with_num_particles(max(engine.num_particles, MIN_CHAINS))
        state = sampler.init(data, seed=seed, **given)
        engine.generator = sampler.generator
        blocked = _obstacle(state)
        if method == "gauss_markov" and blocked:
            raise ModelError(f"method='gauss_markov': {blocked} Use method='annealed'.")
        found = None
        if method != "annealed" and not blocked:
            found = _by_importance(sampler, state, num_samples, num_fit, strict=method != "auto")
        if found is not None and found.warnings and method == "auto" and _is_long(state):
            found = replace(found, warnings=(*found.warnings, _not_annealed(state)))
        elif found is None or (found.warnings and method == "auto"):
            annealer = sampler.with_num_particles(num_chains)
            climbed = _climb(annealer, data, num_temperatures, given)
            found = _by_annealing(climbed)
            if found.warnings and method == "auto" and not blocked:
                found = _second_proposal(sampler, climbed, found, num_samples, num_fit)
    for sentence in found.warnings:
        warnings.warn(sentence, ConvergenceWarning, stacklevel=3)
    return found


def _continuous(state: State) -> list[str]:
    return [n for n in state.conditioning.latent if n not in state.conditioning.discrete]


def _obstacle(state: State) -> str:
    """Say why no proposal can be fitted, or the discrete sites not summed out; "" where all can."""
    for name in state.conditioning.circular:
        return f"site {name!r} is an angle, to which no Gaussian can be fitted."
    cells = FEW_CELLS if _continuous(state) else MAX_CELLS
    return obstacle(state, state.conditioning.discrete, cells)


def _agree(one: Tensor, other: Tensor) -> bool:
    """Whether two estimates lie within a tenth of a nat."""
    return bool(((one - other).abs() <= MAX_DISAGREEMENT).all())


# -- importance sampling ---------------------------------------------------------------------------


def _by_importance(
    engine: Sampler, state: State, num_samples: int, num_fit: int, *, strict: bool
) -> Evidence | None:
    """Weigh draws of a proposal fitted to swept particles; exact where all latents are summed out.

    None where the particles did not reach the posterior at all, unless `strict`.
    """
    names = _continuous(state)
    if not names:
        return _exact(state)
    try:
        trace = _posterior_trace(engine, state, names, num_fit)
    except NonFiniteError:
        if strict:
            raise
        return None
    said = _disagreement(trace)
    found = _weighed(engine, state, trace, num_samples)
    return _judged(found, said)


def _exact(state: State) -> Evidence:
    """The evidence where every latent is summed out."""
    found = marginal_log_joint(state, {}, 1)[0].to(state.log_weights.dtype)
    one = torch.ones_like(found)
    zero = torch.zeros_like(found)
    return Evidence(found, zero, one, zero, "exact", -found, found)


def _posterior_trace(
    engine: Sampler, state: State, names: list[str], num_fit: int
) -> dict[str, Tensor]:
    """Particles of many sweeps after the warm-up (see `_trace`)."""
    # whether they agree is judged by the trace: a run that records itself is not judged twice
    state, _ = engine.run(state, 2 * engine.warmup + 50, record=lambda s: {})
    return _trace(engine, state, names, num_fit)


def _trace(engine: Sampler, state: State, names: list[str], num_fit: int) -> dict[str, Tensor]:
    """Particles of some more sweeps, `(num_sweeps, K, B or 1, [T,] *event)`, unconstrained coordinates."""
    num_sweeps = max(1, num_fit // state.num_particles)
    _, info = engine.run(
        state, num_sweeps, record=lambda s: {n: s.values[n] for n in names}, adapt=False
    )
    return dict(info.trace)


def _disagreement(trace: Mapping[str, Tensor]) -> list[str]:
    """Say which sites' particles had not agreed about the posterior."""
    said = []
    for name, value in trace.items():
        worst = float(split_r_hat(value.double()).max()) if len(value) >= 8 else 1.0
        if worst > MAX_R_HAT:
            said.append(
                f"evidence: the particles of site {name!r}, to which the proposal is fitted, disagree "
                f"(R-hat {worst:.3g}, expected below {MAX_R_HAT}); use method='annealed'."
            )
    return said


def _weighed(
    engine: Sampler, state: State, trace: Mapping[str, Tensor], num_samples: int
) -> Importance:
    draws = {n: x.flatten(0, 1) for n, x in trace.items()}
    cells = largest_table(state, state.conditioning.discrete)
    found = weigh(state, draws, num_samples, engine.generator, cells)
    needed = _samples_needed(found)
    size = max(state.batch_size * num_coordinates(state), 1)
    if num_samples < needed <= min(MORE_SAMPLES * num_samples, MOST_DRAWN // size):
        # all of them anew: what told how many must not count among them
        found = weigh(state, draws, needed, engine.generator, cells)
    return found


def _samples_needed(found: Importance) -> int:
    """How many samples the worst datum's error asks for; 0 where more of them would be of no use."""
    error = float(found.standard_error.max())
    sound = bool((pareto_k(found.log_weights) <= MAX_PARETO_K).all())
    if not sound or not MAX_ERROR < error < float("inf"):
        return 0
    return math.ceil(len(found.log_weights) * (error / (MARGIN * MAX_ERROR)) ** 2)


def _judged(found: Importance, said: list[str]) -> Evidence:
    """Turn weights into an estimate, with what speaks against it."""
    k = pareto_k(found.log_weights)
    error = found.standard_error
    bridge = found.bridge
    remedy = "raise num_samples and num_fit, or use method='annealed'."
    if not bool((k <= MAX_PARETO_K).all()):
        said.append(
            f"evidence: the importance weights have a heavy tail (k-hat {float(k.max()):.2f}, "
            f"expected below {MAX_PARETO_K}): {remedy}"
        )
    if not bool((error <= MAX_ERROR).all()):
        said.append(
            f"evidence: its standard error is {float(error.max()):.2f} nats by the spread of the "
            f"weights: {remedy}"
        )
    if not _agree(found.log_evidence, bridge):
        apart = float((found.log_evidence - bridge).abs().max())
        said.append(
            f"evidence: the proposal's draws and the posterior's tell it {apart:.2f} nats apart; the "
            f"proposal does not cover the posterior: {remedy}"
        )
    number = len(found.log_weights)
    return Evidence(
        log_evidence=found.log_evidence,
        standard_error=error,
        ess_fraction=ess(found.log_weights) / number,
        pareto_k=k,
        method="gauss_markov",
        free_energy=-found.log_weights.mean(0),
        second_opinion=bridge,
        warnings=tuple(said),
    )


# -- annealing -------------------------------------------------------------------------------------


def _is_long(state: State) -> bool:
    """Whether a path from the prior is too long to be walked without being asked for.

    Its temperatures grow as the root of the number of coordinates, a sweep's cost as that number.
    """
    return state.batch_size * num_coordinates(state) ** 1.5 > MOST_ANNEALED


def _not_annealed(state: State) -> str:
    """Say that annealing was not tried by itself."""
    return (
        f"evidence: annealing was not tried by itself, since it takes minutes for "
        f"{state.batch_size} x {num_coordinates(state)} latent coordinates; method='annealed' "
        "begins it all the same."
    )


def _climb(
    engine: Sampler,
    data: Mapping[str, Tensor],
    num_temperatures: int | None,
    given: Mapping[str, Any],
) -> Climb:
    """Carry islands of particles from the prior to the posterior until they agree."""
    pilot = engine.with_num_particles(NUM_PILOT)
    path = choose_path(pilot, pilot.init(data, **given))
    if num_temperatures is not None:
        path = respaced(path, num_temperatures)
    return climb_until(engine, path, lambda found: found.is_within(MAX_ERROR), data, **given)


def _by_annealing(climbed: Climb) -> Evidence:
    """What the islands say."""
    error = climbed.evidence_error
    number = climbed.state.num_particles
    said = []
    if not climbed.is_within(MAX_ERROR):
        said.append(
            f"evidence: independent islands of annealed chains disagree (standard error "
            f"{float(error.max()):.2f} nats, expected below {MAX_ERROR}); raise num_chains to "
            f"{4 * number}."
        )
    return Evidence(
        log_evidence=climbed.log_evidence,
        standard_error=error,
        ess_fraction=ess(climbed.log_weights) / number,
        pareto_k=pareto_k(climbed.log_weights),
        method="annealed",
        free_energy=-climbed.log_evidences.mean(0),
        second_opinion=climbed.log_evidence,
        warnings=tuple(said),
    )


def _second_proposal(
    engine: Sampler, climbed: Climb, annealed: Evidence, num_samples: int, num_fit: int
) -> Evidence:
    """Fit a proposal to the annealed particles; believe it where nothing speaks against it."""
    state = select(climbed.state, systematic(climbed.log_weights, engine.generator))
    names = _continuous(state)
    found = _judged(_weighed(engine, state, _trace(engine, state, names, num_fit), num_samples), [])
    apart = (found.log_evidence - annealed.log_evidence).abs()
    if found.warnings or bool((apart > MAX_DISAGREEMENT + 4 * annealed.standard_error).any()):
        return replace(annealed, second_opinion=found.log_evidence)
    return replace(found, second_opinion=annealed.log_evidence)
