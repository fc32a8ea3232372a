"""Has the cloud converged, and is it worth trusting? Diagnostics from the trace of a run, with remedies.

Particles are independent chains, so a trace `(num_sweeps, K, B, *event)` shows both how fast each
forgets (its autocorrelation) and whether they agree (R-hat), in the middle and in the tails. All
numbers are per data point and coordinate; `diagnose` sums them up. Of an event that neither speaks of,
as one in a hundred draws, `effective_sample_size` of its indicator tells how well its share is known.

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
from aif_dcpc.inference.queries.mixing import effective_sample_size, split_r_hat
from aif_dcpc.inference.queries.ranks import rank_diagnostics

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
        r_hat: site -> split R-hat `(B, *event)`, the largest of values, ranks and folded ranks; 1
            when all particles agree.
        ess: site -> effective sample size of the mean, all particles and sweeps together, `(B,
            *event)`.
        tail_ess: site -> the same of the shares below the 5 % and the 95 % quantile, the smaller
            one.
        ess_per_sweep: site -> `ess` divided by particles and sweeps (1 for independent draws).
        acceptance: site -> mean acceptance probability.
        unique_ancestors: `(B,)` distinct lineages that survive resampling; None without a state.
        multimodal: names of sites whose particles sit in separate clusters and do not move between
            them.
        warnings: one sentence per problem, with its remedy.
    """

    r_hat: Mapping[str, Tensor]
    ess: Mapping[str, Tensor]
    tail_ess: Mapping[str, Tensor]
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
            f"of the tails {float(self.tail_ess[name].min()):10.0f}",
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
    ranks = {name: rank_diagnostics(x) for name, x in trace.items()}
    r_hat = {name: torch.maximum(split_r_hat(x), ranks[name].r_hat) for name, x in trace.items()}
    size = {name: effective_sample_size(x) for name, x in trace.items()}
    tails = {name: found.tail_ess for name, found in ranks.items()}
    for name, held in _held(state, r_hat).items():  # what is given cannot but stand still
        r_hat[name] = r_hat[name].masked_fill(held, 1.0)
        size[name] = size[name].masked_fill(held, math.prod(trace[name].shape[:2]))
        tails[name] = tails[name].masked_fill(held, math.prod(trace[name].shape[:2]))
    acceptance = {name: float(a) for name, a in info.acceptance.items()}
    ancestors = None if state is None else unique_ancestors(state)
    worst = {name: float(value.max()) for name, value in r_hat.items()}
    apart = _separate_clusters(trace, worst)
    agreed = {name: x for name, x in size.items() if worst[name] <= MAX_R_HAT}
    said = [
        *_disagreement(r_hat, apart),
        *_scarcity(agreed, acceptance, ancestors),
        *_scarce_tails({name: tails[name] for name in agreed if not _is_scarce(agreed[name])}),
    ]
    if warn:
        _issue(said)
    return Diagnosis(
        r_hat=r_hat,
        ess=size,
        tail_ess=tails,
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
        if _is_scarce(value):
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


def _is_scarce(size: Tensor) -> bool:
    """Whether there are too few effective samples of some coordinate."""
    return float(size.min()) < MIN_ESS


def _scarce_tails(tails: Mapping[str, Tensor]) -> list[str]:
    """One sentence for each site whose tails are visited too seldom, though its middle is not."""
    return [
        f"site {name!r}: {float(value.min()):.0f} effective samples of its tails (5 % and 95 % "
        "quantile): how likely extreme values are is not known yet; run more sweeps, or call "
        "engine.sample(data)."
        for name, value in tails.items()
        if _is_scarce(value)
    ]


# -- clusters --------------------------------------------------------------------------------------


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
    count = torch.arange(1, len(line), dtype=line.dtype, device=line.device)
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
