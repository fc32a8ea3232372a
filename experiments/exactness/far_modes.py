"""Weights of two far modes in many dimensions by tempering, over independent clouds.

    python -m aif_dcpc.experiments.exactness.far_modes [--size 32] [--particles 10000] [--temperatures 120] [--clouds 6]

The prior is symmetric, the likelihood a mixture of two Gaussians: the posterior's modes lie 10 of its standard deviations
apart, with weights .7 and .3. Clouds share one pilot, which places the temperatures and fits the moves.
"""

import argparse
import time

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from aif_dcpc.inference import DCPC, GraphicalModel

PRIOR_SCALE = 5.0
WEIGHT = 0.7


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
    evidence = Independent(Normal(torch.zeros(size), (1 + PRIOR_SCALE**2) ** 0.5), 1).log_prob(offset)
    return model, float(evidence)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--particles", type=int, default=10000)
    parser.add_argument("--temperatures", type=int, default=120)
    parser.add_argument("--sweeps", type=int, default=1)
    parser.add_argument("--clouds", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, evidence = two_modes(options.size)
    engine, data = DCPC(model, num_particles=options.particles), {"x": torch.zeros(options.clouds, options.size)}
    started = time.process_time()
    state, _ = engine.temper(
        data, num_temperatures=options.temperatures, sweeps_per_temperature=options.sweeps, seed=options.seed
    )
    seconds = (time.process_time() - started) / options.clouds
    found = (state.particles["z"].sum(-1) < 0).double().mean(0)
    error = state.log_evidence - evidence
    print("weights", ", ".join(f"{w:.3f}" for w in found.tolist()))
    print(f"sd {found.std():.4f}, worst error {(found - WEIGHT).abs().max():.3f}, {seconds:.1f} s a cloud")
    print(f"log evidence error {error.mean():+.3f}, sd {error.std():.3f}")


if __name__ == "__main__":
    main()
