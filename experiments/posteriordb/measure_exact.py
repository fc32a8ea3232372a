"""Sample what `exact_laws` holds by the engine, ten seeds each, against exact means and standard deviations.

    python -m aif_dcpc.experiments.posteriordb.measure_exact [NAME ...] [--seeds 0 1 .. 9]

A run is `DCPC(model).sample(data, seed=seed)` and nothing else; verdicts are those of `measure`.
Finished runs are lines of `--results`, way "exact".
"""

import argparse
import warnings
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

from aif_dcpc.commands.command import check_names, run_script
from aif_dcpc.devices import set_up
from aif_dcpc.experiments.posteriordb.chains import least_ess, worst_r_hat
from aif_dcpc.experiments.posteriordb.clock import processor_seconds
from aif_dcpc.experiments.posteriordb.exact_laws import EXACT
from aif_dcpc.experiments.posteriordb.files import FOLDER
from aif_dcpc.experiments.posteriordb.measure import array
from aif_dcpc.experiments.posteriordb.report import line, table
from aif_dcpc.experiments.posteriordb.verdict import called, errors
from aif_dcpc.inference import DCPC
from aif_dcpc.results import Results, Row

MOST_MIXED = 60  # parameters of which mixing is computed, spread over all of them


def sampled(name: str, seed: int) -> Row:
    """Sample once; errors over all parameters, mixing over some, processor seconds and warnings."""
    law = EXACT[name]()
    began = processor_seconds()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draws = DCPC(law.model).sample(law.data, seed=seed)
    seconds = processor_seconds() - began
    values = {site: value[:, :, 0] for site, value in draws.values.items()}
    found = {key: array(value) for key, value in law.parameters(values).items()}
    off = errors(name, found, law.moments)
    some = {key: found[key] for key in list(law.moments)[:: 1 + len(law.moments) // MOST_MIXED]}
    return {
        "verdict": called(off, warned=bool(draws.warnings)),
        "mean_error": off.mean,
        "mean_at": off.mean_at,
        "sd_error": off.sd,
        "sd_at": off.sd_at,
        "r_hat": worst_r_hat(some),
        "ess": least_ess(some),
        "seconds": seconds,
        "draws": draws.num_draws * len(draws.log_joint[0]),
        "warnings": list(draws.warnings),
    }


def main(given: Sequence[str] | None = None) -> None:
    """Print one line a run, then the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=list(EXACT), metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--results", type=Path, default=FOLDER / "results.jsonl")
    asked = parser.parse_args(given)
    check_names("exact law", asked.names, EXACT)
    set_up("cpu", 1)
    results = Results(asked.results)
    for name, seed in product(asked.names, asked.seeds):
        key = {"posterior": name, "way": "exact", "seed": seed}
        print(line(results.once(key, partial(sampled, name, seed))), flush=True)
    print(table(results.rows(way="exact")))


if __name__ == "__main__":
    run_script(main)
