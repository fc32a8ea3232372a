"""Time NumPyro's NUTS on every posterior and hold its draws against the references.

    python -m aif_dcpc.experiments.posteriordb.nuts.run [NAME ...] [--seeds 0 1 2] [--double]

This needs an environment of its own with numpyro, arviz and hydra-core, and neither PyTorch nor the
engine. One compiled loop of 1,000 iterations runs twice, for warming up and for drawing; it is
traced and compiled before the clock starts (`MCMC.run` traces anew at every call, which takes longer
than most of these posteriors). Every form of a posterior is tried with each number of chains; each
finished run is one line of `--results`, and a second call skips what is there. `--double` computes
in double precision, `--dense` adapts a dense mass matrix.
"""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro
from jax import lax, random
from numpyro.infer import NUTS

from aif_dcpc.commands.command import run_script
from aif_dcpc.errors import ConfigError
from aif_dcpc.experiments.posteriordb.chains import least_ess, worst_r_hat
from aif_dcpc.experiments.posteriordb.clock import processor_seconds
from aif_dcpc.experiments.posteriordb.files import FOLDER, reference
from aif_dcpc.experiments.posteriordb.nuts import hierarchies, processes, regressions, series
from aif_dcpc.experiments.posteriordb.nuts import simulated as simulated_ones
from aif_dcpc.experiments.posteriordb.nuts.target import Model, Target
from aif_dcpc.experiments.posteriordb.verdict import Draws, errors
from aif_dcpc.misspelt import unknown_name
from aif_dcpc.results import Results, Row

ITERATIONS = 1000  # of warming up, and as many of drawing
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
FIRST = "eight_schools-eight_schools_centered"


@dataclass(frozen=True)
class Sampler:
    """NUTS, ready to run.

    Attributes:
        state: where the chains start.
        loop: state -> state after `ITERATIONS` iterations; positions, divergences, leapfrog steps.
        postprocess: one unconstrained position -> all sites.
        tracing: processor seconds of setting up.
        compiling: of compiling the loop.
    """

    state: Any
    loop: Callable[[Any], tuple[Any, Any]]
    postprocess: Callable[[Any], Mapping[str, Any]]
    tracing: float
    compiling: float


def targets() -> dict[str, Target]:
    """All posteriors by name; several names may lead to one target."""
    modules = (regressions, series, hierarchies, processes, simulated_ones)
    found = [target for module in modules for target in module.targets()]
    return {name: target for target in found for name in target.posteriors}


def prepare(model: Callable[[], None], *, chains: int, dense: bool, seed: int) -> Sampler:
    """Trace and compile before the clock starts."""
    began = processor_seconds()
    kernel = NUTS(model, dense_mass=dense)
    key = random.PRNGKey(seed)
    state = kernel.init(random.split(key, chains) if chains > 1 else key, ITERATIONS)

    def iterate(state: Any, _: None) -> tuple[Any, Any]:
        state = kernel.sample(state, (), {})
        return state, (state.z, state.diverging, state.num_steps)

    def loop(state: Any) -> tuple[Any, Any]:
        return lax.scan(iterate, state, None, length=ITERATIONS)

    jax.block_until_ready(state)
    traced = processor_seconds()
    compiled = jax.jit(loop).lower(state).compile()
    compiling = processor_seconds() - traced
    return Sampler(state, compiled, kernel.postprocess_fn((), {}), traced - began, compiling)


def timed(loop: Callable[[Any], tuple[Any, Any]], state: Any) -> tuple[Any, Any, float]:
    """Run the loop once; the state, what it kept, and processor seconds."""
    began = processor_seconds()
    state, kept = jax.block_until_ready(loop(state))
    return state, kept, processor_seconds() - began


def parameters(target: Target, sites: Mapping[str, Any], chains: int) -> Draws:
    """Values `(S, [chains,] *event)` of the sites as numbers by name, `(chains, S)` each."""
    found = {}
    for name in target.parameters:
        value = np.asarray(sites[name], dtype=float)
        value = value.swapaxes(0, 1) if chains > 1 else value[None]
        if value.ndim == 2:
            found[name] = value
        else:
            found |= {f"{name}[{i + 1}]": value[..., i] for i in range(value.shape[-1])}
    return found


def run(target: Target, model: Model, key: Row) -> Row:
    """Sample once; a run that raises is reported, not let through."""
    _wake()
    try:
        return {"posteriors": target.posteriors, **sampled(target, model, key)}
    except Exception as error:  # whatever goes wrong is what is measured
        return {"verdict": "failed", "failure": f"{type(error).__name__}: {error}".splitlines()[0]}


def sampled(target: Target, model: Model, key: Row) -> Row:
    """Sample, and return errors, mixing and processor seconds."""
    bound = partial(model, target.data())
    sampler = prepare(bound, chains=key["chains"], dense=key["dense"], seed=key["seed"])
    state, _, warm_up = timed(sampler.loop, sampler.state)
    _, (places, diverging, steps), drawing = timed(sampler.loop, state)
    postprocess = sampler.postprocess
    for _ in range(2 if key["chains"] > 1 else 1):
        postprocess = jax.vmap(postprocess)
    found = parameters(target, jax.jit(postprocess)(places), key["chains"])
    off = errors(key["posterior"], found, reference()[key["posterior"]]["parameters"])
    return {
        "verdict": off.verdict,
        "mean_error": off.mean,
        "mean_at": off.mean_at,
        "sd_error": off.sd,
        "sd_at": off.sd_at,
        "r_hat": worst_r_hat(found),
        "ess": least_ess(found),
        "warm_up": warm_up,
        "drawing": drawing,
        "tracing": sampler.tracing,
        "compiling": sampler.compiling,
        "draws": ITERATIONS * key["chains"],
        "divergences": int(diverging.sum()),
        "leapfrogs": float(steps.mean()),
    }


@cache
def _wake() -> None:
    """Sample once before any clock starts: what a process imports and prepares is done then."""
    target = targets()[FIRST]
    sampler = prepare(
        partial(target.forms["centred"], target.data()), chains=1, dense=False, seed=0
    )
    timed(sampler.loop, sampler.state)


def line(row: Row) -> str:
    """One run in one line."""
    how = f"{row['form']}, {row['chains']} chains, {'double' if row['double'] else 'single'}"
    how += ", dense" if row["dense"] else ""
    head = f"{row['posterior']:48s} {how:32s} seed {row['seed']}  {row['verdict']:8s}"
    if row["verdict"] == "failed":
        return f"{head} {row['failure']}"
    speed = row["ess"] / (row["warm_up"] + row["drawing"])
    return (
        f"{head} mean {row['mean_error']:.3f} sd ({row['mean_at']}), sd {row['sd_error']:.1%} "
        f"({row['sd_at']}), R-hat {row['r_hat']:.3f}, ESS {row['ess']:.0f}, {speed:.0f} a second, "
        f"{row['divergences']} divergences, {row['leapfrogs']:.0f} leapfrog steps"
    )


def chosen(names: Sequence[str]) -> list[Target]:
    """The targets that are asked for, each once; all of them without a name.

    Raises:
        ConfigError: there is none of such a name.
    """
    known = targets()
    for name in names:
        if name not in known:
            raise ConfigError(unknown_name("posterior", name, known))
    found = [known[name] for name in names or known]
    return [target for i, target in enumerate(found) if target not in found[:i]]


def measure(asked: argparse.Namespace, results: Results) -> None:
    """Measure what is not there yet, one line of text each."""
    for target in chosen(asked.names):
        if target.double and not asked.double:
            print(f"{target.posteriors[0]}: only with --double.", flush=True)
            continue
        for form, chains, seed in product(target.forms, asked.chains, asked.seeds):
            key = {
                "posterior": target.posteriors[0],
                "form": form,
                "chains": chains,
                "double": asked.double,
                "dense": asked.dense,
                "seed": seed,
            }
            measured = partial(run, target, target.forms[form], key)
            print(line(results.once(key, measured, again=asked.again)), flush=True)


def set_up(*, double: bool) -> None:
    """One thread, on the CPU; before the first computation."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip()
    numpyro.set_platform("cpu")
    numpyro.enable_x64(double)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--chains", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--double", action="store_true", help="double precision")
    parser.add_argument("--dense", action="store_true", help="a dense mass matrix")
    parser.add_argument("--again", action="store_true", help="measure what is there once more")
    parser.add_argument("--results", type=Path, default=FOLDER / "nuts.jsonl")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Print one line a run."""
    asked = arguments(given)
    set_up(double=asked.double)
    measure(asked, Results(asked.results))


if __name__ == "__main__":
    run_script(main)
