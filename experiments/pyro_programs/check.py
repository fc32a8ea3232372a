"""Compare programs in the manner of Pyro's examples with references: `python -m ...pyro_programs.check [names]`.

Prints, for each program, the largest distance of a posterior mean in joint standard errors (16
independent clouds, and the reference's own), or the sentence by which it is refused; with `--sample`
that of the draws of `engine.sample` (chains for clouds); and what the engine warned of.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.commands.command import run_script
from aif_dcpc.experiments.pyro_programs import (
    classics,
    further,
    further_references,
    references,
    series,
)
from aif_dcpc.inference import DCPC, GraphicalModel, ModelError
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.misspelt import unknown_name

COPIES = 16
FLOOR = 2e-3  # of a difference of means that counts: float32, and the burn-in that is left
Trace = Mapping[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A program, its arguments, its reference (None where it is to be refused), and what else to record."""

    program: Callable[..., Any]
    arguments: tuple[Any, ...]
    reference: Callable[[], references.Means] | None
    derived: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]] = field(default_factory=dict)


SCHOOLS = (classics.EFFECTS, classics.ERRORS)
PLAYERS = (classics.AT_BATS, classics.HITS)
SAME = {"same": ("topic", lambda t: (t == t[..., :1, :1]).double())}
R = {"r": ("factor", lambda f: f[..., 1, 0])}

CASES: dict[str, Case] = {
    "eight schools": Case(classics.eight_schools, SCHOOLS, references.schools),
    "eight schools, reparam": Case(classics.eight_schools_reparam, SCHOOLS, references.schools),
    "baseball, pooled": Case(classics.fully_pooled, PLAYERS, references.pooled),
    "baseball, not pooled": Case(classics.not_pooled, PLAYERS, references.unpooled),
    "baseball, partly": Case(classics.partially_pooled, PLAYERS, references.partly_pooled),
    "baseball, logits": Case(classics.partially_pooled_logits, PLAYERS, references.pooled_logits),
    "regression module": Case(
        classics.Regression(), (classics.X, classics.Y), references.regression
    ),
    "flat priors": Case(classics.flat_regression, (classics.X, classics.Y), references.flat),
    "sparse regression": Case(
        classics.sparse_regression, (classics.X, classics.Y), references.sparse
    ),
    "logistic regression": Case(
        classics.logistic_regression, (classics.X, classics.CHOICES), references.logistic
    ),
    "lkj": Case(classics.lkj, (classics.PAIRS,), references.correlation, R),
    "gaussian mixture": Case(classics.gaussian_mixture, (classics.POINTS,), references.mixture),
    "toy mixture": Case(classics.toy_mixture, (classics.HEADS,), references.coins),
    "lda": Case(classics.lda, (classics.WORDS,), references.topics, SAME),
    "change point": Case(classics.change_point, (classics.COUNTS,), references.change),
    "soft constraint": Case(classics.soft_constraint, (), references.soft),
    "cjs 1": Case(series.cjs_1, (series.CAUGHT,), partial(references.cjs, 1)),
    "cjs 2": Case(series.cjs_2, (series.CAUGHT,), partial(references.cjs, 2)),
    "cjs 3": Case(series.cjs_3, (series.CAUGHT,), partial(references.cjs, 3)),
    "cjs 3, reparam": Case(series.cjs_3_reparam, (series.CAUGHT,), partial(references.cjs, 3)),
    "cjs 4": Case(series.cjs_4, (series.CAUGHT,), partial(references.cjs, 4)),
    "cjs 5": Case(series.cjs_5, (series.CAUGHT, series.SEX), partial(references.cjs, 5)),
    "hmm 0": Case(series.hmm_0, (series.NOTES,), partial(references.hmm, 0)),
    "hmm 1": Case(series.hmm_1, (series.NOTES, series.LENGTHS), partial(references.hmm, 1)),
    "hmm 2": Case(series.hmm_2, (series.NOTES,), partial(references.hmm, 2)),
    "hmm 3": Case(series.hmm_3, (series.NOTES,), partial(references.two_chains, is_led=False)),
    "hmm 4": Case(series.hmm_4, (series.NOTES,), partial(references.two_chains, is_led=True)),
    "hmm 6": Case(series.hmm_6, (series.NOTES,), references.second_order),
    "local level": Case(series.local_level, (series.LEVELS,), references.levels),
    "sir": Case(series.sir, (classics.COUNTS,), None),
    "vae": Case(series.vae, (series.PIXELS,), references.decoder),
    "dmm": Case(series.dmm, (series.PIXELS,), references.deep_chain),
    "zero inflated": Case(
        further.zero_inflated, (further.ZEROS,), further_references.zero_inflated
    ),
    "ordinal": Case(further.ordinal, (further.DOSES, further.ANSWERS), further_references.ordinal),
    "dawid skene": Case(
        further.dawid_skene,
        (further.LABELS,),
        further_references.dawid_skene,
        {"is_first": ("truth", lambda t: (t == 0).double())},
    ),
    "bradley terry": Case(
        further.bradley_terry, (further.GAMES,), further_references.bradley_terry
    ),
    "survival": Case(
        further.survival, (further.LIVES, further.CENSORED), further_references.survival
    ),
    "gaussian process": Case(
        further.gaussian_process,
        (further.PLACES, further.HEIGHTS),
        further_references.gaussian_process,
    ),
    "moving slope": Case(
        further.moving_slope, (further.DRIVE, further.RESPONSE), further_references.moving_slope
    ),
    "hidden states": Case(
        further.hidden_states, (further.SIGNAL,), further_references.hidden_states
    ),
    "imputation": Case(
        further.imputation,
        (further.AGES, further.CLASS, further.SURVIVED),
        further_references.imputation,
    ),
    "oscillation": Case(further.oscillation, (further.TRACK,), further_references.oscillation),
    "ordered mixture": Case(
        further.ordered_mixture, (further.POINTS,), further_references.ordered_mixture
    ),
    "bounded walk": Case(further.bounded_walk, (further.TRACK,), None),
    "subsampled": Case(further.subsampled, (further.POINTS,), None),
    "heavy walk": Case(further.heavy_walk, (further.TRACK,), None),
    "geometric": Case(further.geometric, (), None),
}


def score(
    case: Case, *, sweeps: int = 400, seed: int = 0, by_sample: bool = False
) -> tuple[float, str, tuple[str, ...]]:
    """Largest distance of a posterior mean from its reference in standard errors, the site, and warnings."""
    model, data = GraphicalModel.from_pyro(case.program, *case.arguments)
    if case.reference is None:
        raise AssertionError("the program was to be refused")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        means = case.reference()
    sources = {name: case.derived.get(name, (name, Tensor.double)) for name in means}
    recorded = sorted({site for site, _ in sources.values()})
    draw = _by_sample if by_sample else partial(_by_sweeps, sweeps=sweeps)
    trace, said = draw(model, data, recorded, seed)
    found = {name: distance(f(trace[s]), *means[name]) for name, (s, f) in sources.items()}
    worst = max(found, key=found.__getitem__)
    return found[worst], worst, said


def _by_sweeps(
    model: GraphicalModel, data: Trace, sites: list[str], seed: int, *, sweeps: int
) -> tuple[Trace, tuple[str, ...]]:
    """Traces `(sweeps, K, COPIES, *event)` of independent clouds."""
    engine = DCPC(model, num_particles=16, warmup=sweeps // 2)
    wide = {name: value.expand(COPIES, *value.shape[1:]) for name, value in data.items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        state, _ = engine.run(engine.init(wide, seed=seed), sweeps // 2)
        _, info = engine.run(state, sweeps, record=sites)
    said = [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]
    return info.trace, tuple(said)


def _by_sample(
    model: GraphicalModel, data: Trace, sites: list[str], seed: int
) -> tuple[Trace, tuple[str, ...]]:
    """Draws `(S, 1, K, *event)`: chains are independent."""
    draws = DCPC(model).sample(data, seed=seed)
    return {name: draws[name].movedim(2, 1) for name in sites}, draws.warnings


def distance(trace: Tensor, mean: Tensor, error: Tensor) -> float:
    """Largest distance of `(S, K, copies, *event)` from a mean in joint standard errors."""
    per_copy = trace.double().mean((0, 1))
    own = per_copy.std(0) / len(per_copy) ** 0.5
    difference = ((per_copy.mean(0) - mean.reshape(own.shape)).abs() - FLOOR).clamp_min(0)
    joint = (own.square() + error.reshape(own.shape).square()).sqrt().clamp_min(1e-12)
    return float((difference / joint).max())


def main() -> None:
    """Print a row for every program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of: {'; '.join(CASES)}")
    parser.add_argument("--sweeps", type=int, default=400)
    parser.add_argument("--sample", action="store_true")
    options = parser.parse_args()
    for name in options.names:
        if name not in CASES:
            parser.error(unknown_name("program", name, CASES))
    warnings.simplefilter("ignore")
    for name in options.names or CASES:
        start = time.process_time()
        try:
            case = CASES[name]
            far, site, said = score(case, sweeps=options.sweeps, by_sample=options.sample)
            row = " ".join([f"{far:.1f} ({site})", *said])
        except ModelError as error:
            row = f"refused: {error}"
        print(f"| {name} | {row} | {time.process_time() - start:.0f} s |", flush=True)


if __name__ == "__main__":
    run_script(main)
