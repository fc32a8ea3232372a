"""Sample every posterior by the engine and hold the draws against the references.

    python -m aif_dcpc.experiments.posteriordb.measure [NAME ...] [--seeds 0 1 2] [--sites | --compile]

A run is `DCPC(model).sample(data, seed=seed)` and nothing else. Each finished run is one line of
`--results`; a second call skips what is there (`--again` measures it once more, and the last line
counts). A run is right where every mean lies within .1 of the reference's standard deviations and
every standard deviation within 10 %, wrong beyond .2 or 20 %, silently wrong where it does not warn
of it, failed where it raises. `--report` prints the table of what has been measured.
"""

import argparse
import warnings
from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from aif_dcpc.commands.command import run_script
from aif_dcpc.devices import set_up
from aif_dcpc.errors import ConfigError
from aif_dcpc.experiments.posteriordb.by_sites import BY_SITES, Declared
from aif_dcpc.experiments.posteriordb.chains import least_ess, worst_r_hat
from aif_dcpc.experiments.posteriordb.clock import processor_seconds
from aif_dcpc.experiments.posteriordb.files import FOLDER, reference
from aif_dcpc.experiments.posteriordb.programs import POSTERIORS
from aif_dcpc.experiments.posteriordb.report import line, table
from aif_dcpc.experiments.posteriordb.simulated import SIMULATED
from aif_dcpc.experiments.posteriordb.stopwatch import stopwatch
from aif_dcpc.experiments.posteriordb.verdict import Draws, called, errors
from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.misspelt import unknown_name
from aif_dcpc.results import Results, Row

WAYS = ("program", "sites", "compiled")
FIRST = "eight_schools-eight_schools_noncentered"


def build(name: str, *, sites: bool) -> Declared:
    """A posterior's model and data: imported from its program, or declared by sites."""
    if name in SIMULATED:
        return SIMULATED[name].build()
    if sites:
        return BY_SITES[name]()
    return GraphicalModel.from_pyro(POSTERIORS[name].build())


def parameters(name: str, values: Mapping[str, Tensor]) -> Draws:
    """The reference's parameters of draws `(S, K, 1, *event)`, each `(K, S)`."""
    posterior = SIMULATED[name] if name in SIMULATED else POSTERIORS[name]
    found = posterior.parameters({site: value[:, :, 0] for site, value in values.items()})
    return {key: array(value) for key, value in found.items()}


def array(value: Tensor) -> NDArray[np.float64]:
    """Draws of one number, chains first, in double precision."""
    return value.detach().double().T.contiguous().numpy()


def run(name: str, seed: int, *, way: str, max_seconds: float) -> Row:
    """Sample once; a run that raises is reported, not let through. Its row holds its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sampled(name, seed, way=way, max_seconds=max_seconds)
    except Exception as error:  # whatever goes wrong is what is measured
        return {"verdict": "failed", "failure": f"{type(error).__name__}: {error}".splitlines()[0]}


def sampled(name: str, seed: int, *, way: str, max_seconds: float) -> Row:
    """Sample one of `WAYS`, and return errors, mixing, processor seconds and warnings.

    Returns:
        `seconds` of the call of `sample`, of which `recording` went into tracing densities,
        `drawing` into the draws that are kept and `judging` into their diagnostics; `building` the
        model came before.
    """
    began = processor_seconds()
    model, data = build(name, sites=way == "sites")
    built = processor_seconds()
    with stopwatch() as parts:
        engine = DCPC(model, compile=way == "compiled")
        draws = engine.sample(data, seed=seed, max_seconds=max_seconds)
    seconds = processor_seconds() - built
    found = parameters(name, draws.values)
    off = errors(name, found, reference()[name]["parameters"])
    return {
        "verdict": called(off, warned=bool(draws.warnings)),
        "mean_error": off.mean,
        "mean_at": off.mean_at,
        "sd_error": off.sd,
        "sd_at": off.sd_at,
        "r_hat": worst_r_hat(found),
        "ess": least_ess(found),
        "seconds": seconds,
        "building": built - began,
        "recording": sum(parts.recording),
        "drawing": parts.drawing[-1],
        "judging": parts.judging[-1],
        "draws": draws.num_draws * draws.acceptance.shape[0],
        "warnings": list(draws.warnings),
    }


def chosen(names: Sequence[str], *, sites: bool) -> list[str]:
    """The posteriors that are asked for, all of them without a name.

    Raises:
        ConfigError: there is none of such a name.
    """
    known = [*(BY_SITES if sites else POSTERIORS), *SIMULATED]
    for name in names:
        if name not in known:
            kind = "posterior by sites" if sites else "posterior"
            raise ConfigError(unknown_name(kind, name, known))
    return list(names) or known


def measure(asked: argparse.Namespace, results: Results) -> None:
    """Measure what is not there yet, one line of text each."""
    set_up("cpu", 1)
    way = way_of(asked)
    for name, seed in product(chosen(asked.names, sites=asked.sites), asked.seeds):
        key = {"posterior": name, "way": way, "seed": seed}
        print(line(results.once(key, partial(_run, asked, key), again=asked.again)), flush=True)


def _run(asked: argparse.Namespace, key: Row) -> Row:
    _wake()
    return run(key["posterior"], key["seed"], way=key["way"], max_seconds=asked.max_seconds)


@cache
def _wake() -> None:
    """Sample once before any clock starts: what a process imports and prepares is done then."""
    run(FIRST, 0, way="program", max_seconds=1.0)


def way_of(asked: argparse.Namespace) -> str:
    """Which of `WAYS` the command line asks for."""
    if asked.sites:
        return "sites"
    return "compiled" if asked.compile else "program"


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--sites", action="store_true", help="the models of by_sites.py")
    way.add_argument("--compile", action="store_true", help="compile the programs' densities")
    parser.add_argument("--again", action="store_true", help="measure what is there once more")
    parser.add_argument("--report", action="store_true", help="print the table and measure nothing")
    parser.add_argument("--max-seconds", type=float, default=30.0, help="of processor time a run")
    parser.add_argument("--results", type=Path, default=FOLDER / "results.jsonl")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Print one line a run, then the table."""
    asked = arguments(given)
    results = Results(asked.results)
    if not asked.report:
        measure(asked, results)
    print(table(results.rows(way=way_of(asked))))


if __name__ == "__main__":
    run_script(main)
