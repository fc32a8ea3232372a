"""Weights of two far modes in many dimensions, tempered and not, seed by seed.

    python -m aif_dcpc.experiments.exactness.far_modes [--size 32] [--particles 10000]
    [--temperatures 120] [--seeds 0 1 2]

The prior is symmetric, the likelihood a mixture of two Gaussians: the posterior's modes lie 10 of
its standard deviations apart, with weights .7 and .3. Every seed is a call of its own, with its own
pilot, which places the temperatures and fits the moves (`--clouds` above 1 runs several clouds per
call, which share it). The untempered cloud of the same seed is diagnosed beside it: what share of
it sits in the first mode, and whether it is warned about.
"""

import argparse
import time
import warnings

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from aif_dcpc.commands.command import run_script
from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.queries.diagnostics import diagnose

PRIOR_SCALE = 5.0
WEIGHT = 0.7
HEADER = "| seed | weight (.7) | error of log evidence | CPU s | untempered weight | warned |\n|---|---|---|---|---|---|"


def two_modes(size: int) -> tuple[GraphicalModel, float]:
    """x = 0 was seen through z + m with probability .7, or z - m; with the exact log evidence, nats."""
    offset = torch.full((size,), 5 * ((1 + 1 / PRIOR_SCALE**2) / size) ** 0.5)
    offsets = torch.stack([offset, -offset])
    model = GraphicalModel()
    model.add_site("z", lambda: Independent(Normal(torch.zeros(size), PRIOR_SCALE), 1))

    def likelihood(z: Tensor) -> MixtureSameFamily:
        weights = Categorical(torch.tensor([WEIGHT, 1 - WEIGHT]).expand(*z.shape[:-1], 2))
        return MixtureSameFamily(weights, Independent(Normal(z.unsqueeze(-2) + offsets, 1.0), 1))

    model.add_site("x", likelihood, parents=["z"])
    evidence = Independent(Normal(torch.zeros(size), (1 + PRIOR_SCALE**2) ** 0.5), 1).log_prob(
        offset
    )
    return model, float(evidence)


def tempered(options: argparse.Namespace, seed: int) -> tuple[Tensor, Tensor, float]:
    """Share of the first mode and error of the log evidence of each cloud, and processor seconds a cloud."""
    model, evidence = two_modes(options.size)
    engine = DCPC(model, num_particles=options.particles)
    data = {"x": torch.zeros(options.clouds, options.size)}
    start = time.process_time()
    state, _ = engine.temper(
        data,
        num_temperatures=options.temperatures,
        sweeps_per_temperature=options.sweeps,
        seed=seed,
    )
    seconds = (time.process_time() - start) / options.clouds
    return first_mode(state.particles["z"]), state.log_evidence - evidence, seconds


def untempered(size: int, seed: int) -> tuple[float, bool]:
    """Share of the first mode without tempering, and whether the diagnosis names the remedy."""
    engine = DCPC(two_modes(size)[0], num_particles=64)
    state, _ = engine.run(engine.init({"x": torch.zeros(1, size)}, seed=seed), 100)
    state, info = engine.run(state, 100, record=["z"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = diagnose(info, state, warn=True)
    said = [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]
    warned = found.multimodal == ("z",) and any("engine.temper" in sentence for sentence in said)
    return float(first_mode(state.particles["z"])[0]), warned


def first_mode(z: Tensor) -> Tensor:
    """Share of particles in the mode of weight .7, `(B,)`."""
    return (z.sum(-1) < 0).double().mean(0)


def main() -> None:
    """Measure several seeds, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--particles", type=int, default=10000)
    parser.add_argument("--temperatures", type=int, default=120)
    parser.add_argument("--sweeps", type=int, default=1)
    parser.add_argument("--clouds", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(6)))
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights = []
    errors = []
    print(HEADER, flush=True)
    for seed in options.seeds:
        found, error, seconds = tempered(options, seed)
        share, warned = untempered(options.size, seed)
        for weight, miss in zip(found.tolist(), error.tolist(), strict=True):
            print(
                f"| {seed} | {weight:.3f} | {miss:+.3f} | {seconds:.1f} | {share:.2f} | {warned} |",
                flush=True,
            )
        weights.append(found)
        errors.append(error)
    every = torch.cat(weights)
    print(
        f"mean {every.mean():.4f}, sd {every.std():.4f}, worst error {(every - WEIGHT).abs().max():.3f}"
    )
    print(
        f"log evidence: mean error {torch.cat(errors).mean():+.3f}, sd {torch.cat(errors).std():.3f}"
    )


if __name__ == "__main__":
    run_script(main)
