"""Log evidence and weights of modes against exact answers, seed by seed.

    python -m aif_dcpc.experiments.evidence.measure [--seeds 20] [--only Asia "32 modes"] [--modes 1 5 8]

Errors of the log evidence are in nats; a silent one is above .1 and came without a warning.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from aif_dcpc.commands.command import run_script
from aif_dcpc.experiments.evidence.models import KNOWN, modes
from aif_dcpc.inference import DCPC
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.smc.tempering import share_of

EVIDENCE = (
    "| model | exact | worst error | mean error | warned | silent | method | CPU s |\n"
    "|---|---|---|---|---|---|---|---|"
)
MODES = (
    "| dimensions | worst error in se | largest se | worst error | warned | CPU s |\n"
    "|---|---|---|---|---|---|"
)
PARTICLES = 2000


def heard(call: Callable[[], Any]) -> tuple[Any, bool, float]:
    """What a call returned, whether it warned, and its processor seconds."""
    start = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = call()
    warned = any(issubclass(w.category, ConvergenceWarning) for w in caught)
    return found, warned, time.process_time() - start


def evidence_row(name: str, seeds: range) -> str:
    """One model, all seeds."""
    known = KNOWN[name]()
    errors = []
    flags = []
    seconds = []
    methods = set()
    for seed in seeds:
        engine = DCPC(known.model)
        found, warned, taken = heard(partial(engine.evidence, known.data, seed=seed))
        errors.append(float(found.log_evidence.sum()) - known.log_evidence)
        flags.append(warned)
        seconds.append(taken)
        methods.add(found.method)
    worst = max(errors, key=abs)
    silent = sum(abs(e) > 0.1 and not flag for e, flag in zip(errors, flags, strict=True))
    mean = sum(errors) / len(errors)
    return (
        f"| {name} | {known.log_evidence:.3f} | {worst:+.3f} | {mean:+.3f} | {sum(flags)} | {silent} "
        f"| {', '.join(sorted(methods))} | {sum(seconds) / len(seconds):.1f} |"
    )


def modes_row(size: int, seeds: range) -> str:
    """Tempered weights of modes, all seeds and coordinates."""
    known, weight = modes(size)
    scores = []
    errors = []
    misses = []
    flags = 0
    seconds = 0.0
    for seed in seeds:
        engine = DCPC(known.model, num_particles=PARTICLES)
        (state, info), warned, taken = heard(partial(engine.temper, known.data, seed=seed))
        flags += warned
        seconds += taken
        for coordinate in range(size):
            share, error = share_of(state, info, state.particles["x"][..., coordinate] > 0)
            misses.append(abs(float(share) - weight))
            errors.append(float(error))
            scores.append(misses[-1] / errors[-1])
    return (
        f"| {size} | {max(scores):.1f} | {max(errors):.3f} | {max(misses):.3f} | {flags} "
        f"| {seconds / len(seeds):.1f} |"
    )


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=list(KNOWN), choices=list(KNOWN))
    parser.add_argument("--modes", type=int, nargs="*", default=[1, 5, 8])
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(options.seeds)
    print(EVIDENCE, flush=True)
    for name in options.only:
        print(evidence_row(name, seeds), flush=True)
    print(MODES, flush=True)
    for size in options.modes:
        print(modes_row(size, seeds), flush=True)


if __name__ == "__main__":
    run_script(main)
