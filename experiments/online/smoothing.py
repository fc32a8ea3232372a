"""Smoothed posteriors while a series grows by one observation per step, against the exact ones.

    python -m aif_dcpc.experiments.online.smoothing [--length 200] [--particles 16] [--copies 16]

A linear model that mixes slowly (random walk of step .1 under noise of 1, so neighbours correlate by about .99) is
compared with the Kalman smoother; a nonlinear one with a long run on the whole series. Errors are in posterior standard
deviations, rms over all ages and copies of the same data; `bias` averages the copies first and takes off what their
number leaves of Monte Carlo error (zero if that is all there is).
"""

import argparse
import time

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from aif_dcpc.inference import DCPC, GraphicalModel, State, lag

DIMENSION = 4
AGES = (50, 100, 200)


def slow_linear() -> GraphicalModel:
    """A slowly turning random walk in four dimensions, observed through noise."""
    turn = _turn()
    start = Independent(Normal(torch.zeros(DIMENSION), 1.0), 1)
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Independent(Normal(s @ turn.mT, 0.1), 1),
        parents=[lag("s")],
        initial=lambda: start,
        scope="slice",
    )
    model.add_site("o", lambda s: Independent(Normal(s, 1.0), 1), parents=["s"], scope="slice")
    return model


def nonlinear() -> GraphicalModel:
    """A driven oscillation seen through a saturating sensor."""
    start = Independent(Normal(torch.zeros(1), 1.0), 1)
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Independent(Normal(0.9 * s + torch.sin(2 * s) * 0.3, 0.3), 1),
        parents=[lag("s")],
        initial=lambda: start,
        scope="slice",
    )
    model.add_site("o", lambda s: Independent(Normal(torch.tanh(s) * 2, 0.4), 1), parents=["s"], scope="slice")
    return model


def _turn() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    skew = torch.randn(DIMENSION, DIMENSION, generator=generator) * 0.05
    return torch.matrix_exp(skew - skew.mT) * 0.998


def simulate(model: GraphicalModel, length: int) -> Tensor:
    """One series of observations `(length, D)`."""
    engine = DCPC(model, num_particles=1)
    state = engine.init({}, batch_size=1, length=length, seed=1)
    return state.particles["o"][0, 0]


def kalman(data: Tensor) -> tuple[Tensor, Tensor]:
    """Smoothed means and variances `(T, D)` of the linear model, from its joint precision."""
    length, turn = data.shape[0], _turn().double()
    size = length * DIMENSION
    precision = torch.zeros(size, size).double()
    eye = torch.eye(DIMENSION).double()
    for t in range(length):
        now = slice(t * DIMENSION, (t + 1) * DIMENSION)
        precision[now, now] += eye + (100 * eye if t else eye)
        if t:
            before = slice((t - 1) * DIMENSION, t * DIMENSION)
            precision[before, before] += 100 * turn.mT @ turn
            precision[now, before] -= 100 * turn
            precision[before, now] -= 100 * turn.mT
    covariance = precision.inverse()
    mean = (covariance @ data.double().flatten()).reshape(length, -1)
    return mean, covariance.diagonal().reshape(length, -1)


def reference(model: GraphicalModel, data: Tensor) -> tuple[Tensor, Tensor]:
    """Means and variances of a long run on the whole series."""
    engine = DCPC(model, num_particles=64, warmup=300)
    state, _ = engine.run(engine.init({"o": data.expand(16, -1, -1)}, seed=5), 400)
    _, info = engine.run(state, 1500, record=["s"])
    draws = info.trace["s"].double().flatten(0, 2)
    return draws.mean(0), draws.var(0)


def online(data: Tensor, *, copies: int, recent: int | None, engine: DCPC, seconds: list[float]) -> State:
    """Feed the series slice by slice, with one sweep (at most two passes) after each."""
    state = engine.init({"o": data[:1].expand(copies, -1, -1)}, seed=0)
    state, _ = engine.run(state, 30)
    for observation in data[1:]:
        started = time.process_time()
        state = engine.append(state, {"o": observation.expand(copies, -1)})
        state, _ = engine.run(state, 1, recent=recent)
        seconds.append(time.process_time() - started)
    return state


def report(name: str, state: State, mean: Tensor, variance: Tensor, seconds: list[float], passes: int) -> None:
    """Print one row."""
    weights = state.weights()[..., None, None].double()
    particles = state.particles["s"].double()
    found = (weights * particles).sum(0)
    spread = (weights * (particles - mean).square()).sum(0).mean(0)  # around the exact mean: no 1/K bias
    deviation = variance.sqrt()
    chance = (found.var(0) / len(found) / variance).mean()
    bias = (((found.mean(0) - mean) / deviation).square().mean() - chance).clamp_min(0).sqrt()
    rms = ((found - mean) / deviation).square().mean().sqrt()
    ratio = (spread / variance).mean()
    times = " | ".join(f"{1e3 * sorted(seconds[t - 20 : t])[10]:.0f}" for t in AGES if t < len(seconds) + 2)
    print(f"| {name} | {passes} | {bias:.3f} | {rms:.3f} | {ratio:.3f} | {times} |", flush=True)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--particles", type=int, default=16)
    parser.add_argument("--copies", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| model and moves | passes per step | bias | rms of one cloud | variance | ms at T = 50 | 100 | 200 |")
    print("|---|---|---|---|---|---|---|---|")
    variants: list[tuple[str, dict[str, str], int, int | None]] = [
        ("windows of 16 and single slices", {}, 16, None),
        ("windows of 32 and single slices", {}, 32, None),
        ("the last 48 slices only, windows of 32", {}, 32, 48),
        ("whole series in one block", {"s": "block"}, 16, None),
    ]
    for label, build, exact in (("linear", slow_linear, None), ("nonlinear", nonlinear, reference)):
        model = build()
        data = simulate(model, options.length)
        mean, variance = kalman(data) if exact is None else exact(model, data)
        for name, moves, window, recent in variants:
            engine = DCPC(model, num_particles=options.particles, moves=moves, window=window, warmup=150)
            seconds: list[float] = []
            state = online(data, copies=options.copies, recent=recent, engine=engine, seconds=seconds)
            report(f"{label}, {name}", state, mean, variance, seconds, 1 if moves else 2)


if __name__ == "__main__":
    main()
