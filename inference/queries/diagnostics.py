"""Has the cloud converged, and is it worth trusting? Diagnostics from the trace of a run, with remedies.

Particles are independent chains, so a trace `(num_sweeps, K, B, *event)` shows both how fast each
forgets (its autocorrelation) and whether they agree (R-hat). All numbers are per data point and
coordinate; `diagnose` sums them up.

    >>> import torch
    >>> from torch.distributions import Normal
    >>> from aif_dcpc.inference import DCPC, GraphicalModel
    >>> model = GraphicalModel()
    >>> model.add_site("z", lambda: Normal(0.0, 1.0))
    >>> model.add_site("x", lambda z: Normal(z, 0.5), parents=["z"])
    >>> engine = DCPC(model, num_particles=16)
    >>> state, _ = engine.run(engine.init({"x": torch.ones(1)}, seed=0), 60)
    >>> state, info = engine.run(state, 200, record=["z"])
    >>> diagnose(info, state).warnings
    ()

Reference: Vehtari, Gelman, Simpson, Carpenter, Bürkner 2021 (arXiv 1903.08008).
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ConvergenceWarning, InferenceError
from aif_dcpc.inference.model.factor_graph import expand_trailing
from aif_dcpc.inference.model.resampling import unique_ancestors
from aif_dcpc.inference.model.state import Info, State

MAX_R_HAT = 1.05
MIN_ESS = 100
MIN_ACCEPTANCE = 0.1
STANDSTILL = 1e-4
# variance left within two clusters of chain means: .36 for a normal law, .25 for a uniform one
TIGHT = 0.15
MIN_CHAINS = 8  # with fewer particles two clusters can be told from one by luck only


@dataclass(frozen=True)
class Diagnosis:
    """What a trace says.

    Attributes:
        r_hat: site -> split R-hat `(B, *event)`; 1 when all particles agree.
        ess: site -> effective sample size of the mean, all particles and sweeps together, `(B,
            *event)`.
        ess_per_sweep: site -> `ess` divided by particles and sweeps (1 for independent draws).
        acceptance: site -> mean acceptance probability.
        unique_ancestors: `(B,)` distinct lineages that survive resampling; None without a state.
        multimodal: names of sites whose particles sit in separate clusters and do not move between
            them.
        warnings: one sentence per problem, with its remedy.
    """

    r_hat: Mapping[str, Tensor]
    ess: Mapping[str, Tensor]
    ess_per_sweep: Mapping[str, Tensor]
    acceptance: Mapping[str, float]
    unique_ancestors: Tensor | None
    multimodal: tuple[str, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        """One line per site, then the warnings."""
        lines = [self._line(name) for name in self.r_hat]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])

    def _line(self, name: str) -> str:
        """The numbers of one site, worst over data and coordinates."""
        columns = (
            f"{name:<12} R-hat {float(self.r_hat[name].max()):#6.4g}",
            f"ESS {float(self.ess[name].min()):10.0f}",
            f"per particle and sweep {float(self.ess_per_sweep[name].min()):7.4f}",
            f"acceptance {self.acceptance.get(name, math.nan):5.2f}",
        )
        return "   ".join(columns)


def diagnose(info: Info, state: State | None = None, *, warn: bool = False) -> Diagnosis:
    """Judge a run recorded with `engine.run(..., record=[names])`.

    Args:
        info: whose trace holds `(num_sweeps, K, B, *event)` per site, at least 8 sweeps.
        state: the cloud, for its surviving lineages, and for which elements are observed or set.
        warn: issue the warnings as `ConvergenceWarning` as well.

    Raises:
        InferenceError: if nothing was recorded, or too little.
    """
    trace = _recorded(info)
    r_hat = {name: split_r_hat(x) for name, x in trace.items()}
    size = {name: effective_sample_size(x) for name, x in trace.items()}
    for name, held in _held(state, r_hat).items():  # what is given cannot but stand still
        r_hat[name] = r_hat[name].masked_fill(held, 1.0)
        size[name] = size[name].masked_fill(held, math.prod(trace[name].shape[:2]))
    acceptance = {name: float(a) for name, a in info.acceptance.items()}
    ancestors = None if state is None else unique_ancestors(state)
    worst = {name: float(value.max()) for name, value in r_hat.items()}
    apart = _separate_clusters(trace, worst)
    agreed = {name: x for name, x in size.items() if worst[name] <= MAX_R_HAT}
    said = [*_disagreement(r_hat, apart), *_scarcity(agreed, acceptance, ancestors)]
    if warn:
        _issue(said)
    return Diagnosis(
        r_hat=r_hat,
        ess=size,
        ess_per_sweep={name: x / math.prod(trace[name].shape[:2]) for name, x in size.items()},
        acceptance=acceptance,
        unique_ancestors=ancestors,
        multimodal=tuple(apart),
        warnings=tuple(said),
    )


def _recorded(info: Info) -> dict[str, Tensor]:
    """The trace in double precision; refuse one that is too short."""
    if not info.trace or any(len(x) < 8 for x in info.trace.values()):
        raise InferenceError(
            "diagnose: expected a trace of at least 8 sweeps; pass record=[sites] to engine.run."
        )
    return {name: x.double() for name, x in info.trace.items()}


def _held(state: State | None, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return where recorded sites are observed, or set by `do`, in the shapes of `like` `(B, *rest)`."""
    masks = {} if state is None else state.masks
    found = {}
    for name, value in like.items():
        if name in masks:
            mask = masks[name][0]
            if mask.ndim > 1:
                mask = mask[:, -value.shape[1] :]  # a window's trace
            found[name] = expand_trailing(mask, value).expand_as(value)
    return found


def _issue(sentences: list[str]) -> None:
    """Warn the caller of `diagnose` of each problem."""
    for sentence in sentences:
        warnings.warn(sentence, ConvergenceWarning, stacklevel=3)


def _separate_clusters(trace: Mapping[str, Tensor], worst: Mapping[str, float]) -> list[str]:
    """Sites whose particles disagree because they sit in separate clusters; `worst` is their largest R-hat."""
    disagreeing = [name for name in trace if worst[name] > MAX_R_HAT]
    return [name for name in disagreeing if is_clustered(trace[name])]


def low_acceptance(info: Info) -> list[str]:
    """Say which sites' moves are hardly ever accepted, one sentence each with its remedy.

    Reads from the device: call it outside sweeps.
    """
    still = {n: rate for n, x in info.acceptance.items() if (rate := float(x)) < STANDSTILL}
    return [
        f"site {name!r}: its moves are accepted at a rate of {rate:.0e}; the particles stand still. "
        f"Lengthen the engine's warmup, choose moves={{{name!r}: 'mala'}}, or check for values that "
        "are not finite."
        for name, rate in still.items()
    ]


def _disagreement(r_hat: Mapping[str, Tensor], apart: list[str]) -> list[str]:
    """One sentence for each site whose particles disagree.

    `apart` names those in separate clusters.
    """
    said = []
    for name, value in r_hat.items():
        worst = float(value.max())
        if name in apart:
            said.append(
                f"site {name!r}: the posterior looks multimodal (particles sit in separate "
                f"clusters, R-hat {worst:.3g}); local moves keep the modes' starting weights: "
                "use engine.temper(data) to weigh them."
            )
        elif worst > MAX_R_HAT:
            said.append(
                f"site {name!r}: particles disagree (R-hat {worst:.3g}, expected below "
                f"{MAX_R_HAT}): not converged; run more sweeps, or engine.temper(data) where "
                "several modes are possible."
            )
    return said


def _scarcity(
    size: Mapping[str, Tensor], acceptance: Mapping[str, float], ancestors: Tensor | None
) -> list[str]:
    """One sentence for whatever there is too little of: effective samples, acceptance, lineages."""
    said = []
    for name, value in size.items():
        if float(value.min()) < MIN_ESS:
            said.append(
                f"site {name!r}: {float(value.min()):.0f} effective samples in all; run more "
                "sweeps."
            )
    for name, rate in acceptance.items():
        if rate < MIN_ACCEPTANCE:
            said.append(
                f"site {name!r}: acceptance {rate:.3f}; lengthen the engine's warmup, or choose "
                f"moves={{{name!r}: 'mala'}}."
            )
    if ancestors is not None and int(ancestors.min()) == 1 < len(ancestors):
        said.append(
            "one lineage is left after resampling: sweep more between new slices, or use more "
            "particles."
        )
    return said


# -- numbers ---------------------------------------------------------------------------------------


def _split(trace: Tensor) -> Tensor:
    """Halves of every particle's trace as chains of their own, `(S // 2, 2 K, B, *event)`."""
    half = len(trace) // 2
    return torch.cat([trace[:half], trace[-half:]], 1)


def _moments(chains: Tensor) -> tuple[Tensor, Tensor]:
    """Mean variance within chains, and the pooled estimate of the posterior variance."""
    within = chains.var(0).mean(0)
    return within, within * (len(chains) - 1) / len(chains) + chains.mean(0).var(0)


def split_r_hat(trace: Tensor) -> Tensor:
    """Square root of pooled over within-chain variance, halves of particles as chains, `(B, *event)`."""
    within, pooled = _moments(_split(trace))
    ratio = (pooled / within.clamp_min(1e-300)).sqrt()
    return torch.where(_is_constant(trace, pooled), torch.ones_like(pooled), ratio)


def _is_constant(trace: Tensor, variance: Tensor) -> Tensor:
    """Whether a coordinate has the same value throughout, but for rounding."""
    return variance <= 1e-12 * trace.square().mean((0, 1)).clamp_min(1e-300)


def autocovariance(chains: Tensor) -> Tensor:
    """Biased autocovariances at all lags `(S, ...)` of chains `(S, C, ...)`, their mean over chains."""
    centred = chains - chains.mean(0)
    length = len(chains)
    spectrum = torch.view_as_real(torch.fft.rfft(centred, n=2 * length, dim=0))
    power = spectrum.square().mean(1).sum(-1)  # the inverse is linear: once for all chains
    return torch.fft.irfft(power, n=2 * length, dim=0)[:length] / length


def effective_sample_size(trace: Tensor) -> Tensor:
    """Independent draws that would give the same error of the mean, `(B, *event)`, all particles together.

    Geyer's initial monotone sequence on the autocorrelation of all chains (Vehtari et al. 2021,
    equations 10 to 13). What never moves has few: it may be stuck.
    """
    chains = _split(trace)
    within, pooled = _moments(chains)
    covariances = autocovariance(chains) * len(chains) / (len(chains) - 1)
    correlation = 1 - (within - covariances) / pooled.clamp_min(1e-300)
    correlation[0] = 1
    even = len(chains) // 2 * 2
    pairs = correlation[0:even:2] + correlation[1:even:2]
    positive = (pairs > 0).to(pairs.dtype).cumprod(0)
    time = -1 + 2 * (pairs.cummin(0).values * positive).sum(0)
    total = math.prod(chains.shape[:2])
    return total / time.clamp_min(1 / math.log10(max(total, 10)))


def is_clustered(trace: Tensor) -> bool:
    """Whether, for some datum, the particles' means along the sweeps form two tight clusters.

    Means are projected onto their main direction and cut in two where the variance left within the
    parts is least.
    """
    means = trace.mean(0).unsqueeze(-1).flatten(2)  # (K, B, D)
    if len(means) < MIN_CHAINS:
        return False
    return any(_two_clusters(means[:, b]) < TIGHT for b in range(means.shape[1]))


def _two_clusters(means: Tensor) -> float:
    """Least fraction of variance left within two parts of the means `(K, D)` along their main direction."""
    centred = means - means.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    line = (centred @ directions[0]).sort().values
    total = line.square().sum()
    if float(total) == 0:
        return 1.0
    count = torch.arange(1, len(line), dtype=line.dtype)
    left = line.cumsum(0)[:-1]
    between = left.square() * (1 / count + 1 / (len(line) - count))  # the whole sums to zero
    return float(1 - between.max() / total)


# -- export ----------------------------------------------------------------------------------------


def to_arviz(info: Info, *, datum: int = 0) -> Any:
    """The trace of one data point as ArviZ's data object: particles are chains, sweeps are draws.

    Raises:
        InferenceError: if ArviZ is not installed, or nothing was recorded.
    """
    if not info.trace:
        raise InferenceError("to_arviz: nothing was recorded; pass record=[sites] to engine.run.")
    try:
        import arviz  # an extra: needed here only
    except ImportError as error:
        raise InferenceError(
            "to_arviz needs ArviZ: pip install 'aif_dcpc[diagnostics]'."
        ) from error
    chains = {
        n: x[:, :, min(datum, x.shape[2] - 1)].transpose(0, 1).cpu().numpy()
        for n, x in info.trace.items()
    }
    modern = int(arviz.__version__.split(".")[0]) >= 1
    return arviz.from_dict({"posterior": chains}) if modern else arviz.from_dict(posterior=chains)
