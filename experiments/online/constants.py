"""Two unknown constants beside a series that grows slice by slice, against their exact posterior.

`python -m aif_dcpc.experiments.online.constants` appends 200 slices, sweeps after each, and prints for
each constant how far its mean (in posterior standard deviations) and its standard deviation are from
those of the whole series: of the cloud as it stands after the last slice, and of 500 frozen sweeps
after it. The reference sums the Kalman filter's likelihood over a grid.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import LogNormal, Normal

from aif_dcpc.commands.command import run_script
from aif_dcpc.inference import DCPC, GraphicalModel, State, lag

LEVEL_NOISE = 0.3
GRID = 161


def drift_and_noise() -> GraphicalModel:
    """A random walk with an unknown drift under an unknown observation noise."""
    model = GraphicalModel()
    model.add_site("drift", lambda: Normal(0.0, 0.5), scope="global")
    model.add_site("noise", lambda: LogNormal(0.0, 0.7), scope="global")
    model.add_site(
        "level",
        lambda level, drift: Normal(level + drift, LEVEL_NOISE),
        parents=[lag("level"), "drift"],
        initial=lambda drift: Normal(0.0 * drift, 1.0),
        scope="slice",
    )
    model.add_site(
        "o", lambda level, noise: Normal(level, noise), ["level", "noise"], scope="slice"
    )
    return model


def two_noises() -> GraphicalModel:
    """A random walk whose steps and whose observation noise are of unknown size."""
    model = GraphicalModel()
    model.add_site("step", lambda: LogNormal(-1.0, 0.7), scope="global")
    model.add_site("noise", lambda: LogNormal(0.0, 0.7), scope="global")
    model.add_site(
        "level",
        lambda level, step: Normal(level, step),
        parents=[lag("level"), "step"],
        initial=lambda step: Normal(0.0 * step, 1.0),
        scope="slice",
    )
    model.add_site(
        "o", lambda level, noise: Normal(level, noise), ["level", "noise"], scope="slice"
    )
    return model


MODELS = {"drift": (drift_and_noise, "drift"), "step": (two_noises, "step")}


def series(length: int, seed: int) -> Tensor:
    """Draw observations `(1, T)` of a walk with drift .1, steps .3 and noise .5."""
    generator = torch.Generator().manual_seed(1000 + seed)
    steps = 0.1 + LEVEL_NOISE * torch.randn(1, length, generator=generator)
    return steps.cumsum(1) + 0.5 * torch.randn(1, length, generator=generator)


def kalman(data: Tensor, drift: Tensor, step: Tensor, noise: Tensor) -> Tensor:
    """Return log p(data `(T,)`), nats, for every element of the constants."""
    mean = torch.zeros_like(noise)
    variance = torch.ones_like(noise)
    total = torch.zeros_like(noise)
    for t, observed in enumerate(data):
        if t:
            mean = mean + drift
            variance = variance + step**2
        spread = variance + noise**2
        total = total + Normal(mean, spread.sqrt()).log_prob(observed)
        gain = variance / spread
        mean = mean + gain * (observed - mean)
        variance = variance * (1 - gain)
    return total


def exact(data: Tensor, name: str) -> dict[str, tuple[float, float]]:
    """Compute mean and standard deviation of both constants given `(T,)`, by summing over a grid."""
    priors = {"drift": Normal(0.0, 0.5), "step": Normal(-1.0, 0.7), "noise": Normal(0.0, 0.7)}
    ends = {"drift": (-0.4, 0.6), "step": (-3.5, 0.5), "noise": (-2.0, 0.7)}
    axes = {n: torch.linspace(*ends[n], GRID, dtype=torch.float64) for n in (name, "noise")}
    first, log_noise = torch.meshgrid(axes[name], axes["noise"], indexing="ij")
    drift, step = (first, torch.full_like(first, LEVEL_NOISE))
    if name == "step":
        drift, step = (torch.zeros_like(first), first.exp())
    log_joint = kalman(data.double(), drift, step, log_noise.exp())
    log_joint = log_joint + priors[name].log_prob(first) + priors["noise"].log_prob(log_noise)
    weights = torch.softmax(log_joint.flatten(), 0).view_as(first)
    values = {name: first if name == "drift" else first.exp(), "noise": log_noise.exp()}
    found = {}
    for site, value in values.items():
        mean = (weights * value).sum()
        found[site] = (float(mean), float((weights * (value - mean) ** 2).sum().sqrt()))
    return found


def compare(weights: Tensor, draws: Tensor, reference: tuple[float, float]) -> str:
    """Say how far weighted draws are from a mean (in its sd) and a standard deviation (ratio)."""
    weights = weights.double() / weights.double().sum()
    mean = (weights * draws.double()).sum()
    spread = (weights * (draws.double() - mean) ** 2).sum().sqrt()
    return f"{float((mean - reference[0]) / reference[1]):+.3f} x{float(spread / reference[1]):.3f}"


def online(
    build: Callable[[], GraphicalModel], data: Tensor, args: argparse.Namespace, seed: int
) -> tuple[DCPC, State]:
    """Append slice after slice, with one call of `run` after each."""
    engine = DCPC(build(), num_particles=args.particles)
    state = engine.init({"o": data[:, : args.start]}, seed=seed)
    state, _ = engine.run(state, 60)
    for t in range(args.start, data.shape[1]):
        state = engine.append(state, {"o": data[:, t]})
        state, _ = engine.run(state, args.sweeps, recent=args.recent)
    return engine, state


def main() -> None:
    """Print one line for each model and seed."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--start", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--particles", type=int, default=256)
    parser.add_argument("--sweeps", type=int, default=1)
    parser.add_argument("--recent", type=int, default=None)
    parser.add_argument("--frozen", type=int, default=500)
    args = parser.parse_args()
    for name, (build, first) in MODELS.items():
        for seed in range(args.seeds):
            data = series(args.length, seed)
            reference = exact(data[0], first)
            begin = time.process_time()
            engine, state = online(build, data, args, seed)
            seconds = time.process_time() - begin
            cloud = {
                n: compare(state.weights(), state.particles[n], reference[n]) for n in reference
            }
            state, _ = engine.run(state, 50, adapt=True)
            _, info = engine.run(state, args.frozen, adapt=False, record=list(reference))
            for site, known in reference.items():
                draws = info.trace[site]
                after = compare(torch.ones_like(draws), draws, known)
                rate = float(info.acceptance[site])
                print(
                    f"{name} seed {seed} {site}: cloud {cloud[site]}  draws {after}  "
                    f"acceptance {rate:.2f}  online {seconds:.1f} s",
                    flush=True,
                )


if __name__ == "__main__":
    run_script(main)
