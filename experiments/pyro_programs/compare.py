"""Posteriors of Pyro programs by the engine and by NUTS: do they agree, and how many effective samples a second?

    python -m aif_dcpc.experiments.pyro_programs.compare [--programs "eight schools" ...]

Effective sample sizes come from one formula for both (Geyer's, `pyro.ops.stats`), the engine's
particles being chains. Agreement is the largest difference of posterior means, and of means of
squares, over all elements of all continuous latents, in joint standard errors; `bar` is what the
largest of that many normal scores exceeds once in 1000. Seconds are CPU seconds of sampling after
warm-up.
"""

import argparse
import math
import time
import warnings

import torch
from pyro.infer import MCMC, NUTS
from pyro.ops.stats import effective_sample_size
from torch import Tensor

from aif_dcpc.commands.command import run_script
from aif_dcpc.experiments.pyro_programs.programs import Program, programs
from aif_dcpc.inference import DCPC, GraphicalModel

Draws = dict[str, Tensor]  # site -> (samples, chains, elements)


def by_engine(program: Program, args: argparse.Namespace) -> tuple[Draws, float]:
    """Draws of every continuous latent and the seconds that they took."""
    model, data = GraphicalModel.from_pyro(program[0], *program[1])
    engine = DCPC(model, num_particles=args.particles, warmup=args.warmup)
    state, _ = engine.run(engine.init(data, seed=0), args.warmup)
    names = [n for n in state.conditioning.latent if n not in state.conditioning.discrete]
    start = time.process_time()
    _, info = engine.run(state, args.sweeps, record=names)
    seconds = time.process_time() - start
    return {n: v.reshape(*v.shape[:2], -1).double() for n, v in info.trace.items()}, seconds


def by_nuts(program: Program, args: argparse.Namespace) -> tuple[Draws, float]:
    """The same by NUTS, one chain."""
    torch.manual_seed(1)
    times: list[float] = []

    def clock(kernel: object, samples: object, stage: str, number: int) -> None:
        if stage.startswith("Sample") or number == args.nuts_warmup - 1:
            times.append(time.process_time())

    sampler = MCMC(
        NUTS(program[0], max_plate_nesting=1, jit_compile=False),
        num_samples=args.nuts_samples,
        warmup_steps=args.nuts_warmup,
        disable_progbar=True,
        hook_fn=clock,
    )
    sampler.run(*program[1])
    draws = {n: v.reshape(len(v), 1, -1).double() for n, v in sampler.get_samples().items()}
    return draws, times[-1] - times[0]


def summary(draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard error and effective size by element."""
    ess = effective_sample_size(draws, chain_dim=1, sample_dim=0).clamp(
        1.0, draws.shape[0] * draws.shape[1]
    )
    flat = draws.flatten(0, 1)
    return flat.mean(0), flat.std(0) / ess.sqrt(), ess


def scores(first: Draws, second: Draws) -> tuple[float, int]:
    """Largest difference in joint standard errors, and the number of differences."""
    largest = 0.0
    number = 0
    for name in first:
        for power in (1, 2):
            (m, e, _), (n, f, _) = (summary(d[name] ** power) for d in (first, second))
            largest = max(largest, float(((m - n).abs() / (e.square() + f.square()).sqrt()).max()))
            number += m.numel()
    return largest, number


def least(draws: Draws) -> float:
    """Smallest effective sample size."""
    return min(float(summary(d)[2].min()) for d in draws.values())


def main() -> None:
    """Print one table row per program."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--programs", nargs="+", default=list(programs()), choices=list(programs()))
    parser.add_argument("--particles", type=int, default=32)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--sweeps", type=int, default=500)
    parser.add_argument("--nuts-warmup", type=int, default=300)
    parser.add_argument("--nuts-samples", type=int, default=700)
    args = parser.parse_args()
    print(
        "| program | largest score | bar | engine: least ESS | per second | NUTS: least ESS | per second |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in args.programs:
        engine, seconds = by_engine(programs()[name], args)
        nuts, nuts_seconds = by_nuts(programs()[name], args)
        worst, number = scores(nuts, engine)
        bar = -math.sqrt(2) * float(torch.special.erfinv(torch.tensor(0.001 / number - 1).double()))
        print(
            f"| {name} | {worst:.1f} | {bar:.1f} | {least(engine):.0f} | {least(engine) / seconds:.0f} "
            f"| {least(nuts):.0f} | {least(nuts) / nuts_seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    run_script(main)
