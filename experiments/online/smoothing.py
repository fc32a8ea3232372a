"""Smoothed posteriors while a series grows by one observation per step, against the exact ones.

    python -m aif_dcpc.experiments.online.smoothing [--length 200] [--particles 16] [--copies 64]

A linear model that mixes slowly (random walk of step .1 under noise of 1, so neighbours correlate
by about .99) is compared with the Kalman smoother; a nonlinear one with a long run on the whole
series. Errors are in posterior standard deviations, rms over all ages; `bias` is that of the
expected mean, estimated without Monte Carlo error from products of independent copies (whole series
in one block: eight times as many, as its bar is finer).
"""

import argparse
import time

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from aif_dcpc.commands.command import run_script
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
    model.add_site(
        "o", lambda s: Independent(Normal(torch.tanh(s) * 2, 0.4), 1), parents=["s"], scope="slice"
    )
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
    length = data.shape[0]
    turn = _turn().double()
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

    def moments(state: State) -> dict[str, Tensor]:
        particles = state.particles["s"].double()
        return {"mean": particles.mean((0, 1)), "square": particles.square().mean((0, 1))}

    _, info = engine.run(state, 1500, record=moments)
    mean = info.trace["mean"].mean(0)
    return mean, info.trace["square"].mean(0) - mean.square()


def online(
    data: Tensor, *, copies: int, recent: int | None, engine: DCPC, seconds: list[float]
) -> State:
    """Feed the series slice by slice, with one sweep (at most two passes) after each."""
    state = engine.init({"o": data[:1].expand(copies, -1, -1)}, seed=0)
    state, _ = engine.run(state, 30)
    for observation in data[1:]:
        started = time.process_time()
        state = engine.append(state, {"o": observation.expand(copies, -1)})
        state, _ = engine.run(state, 1, recent=recent)
        seconds.append(time.process_time() - started)
    return state


def squared_bias(errors: Tensor) -> tuple[float, float]:
    """Mean square over entries of the expected error, unbiased, and its standard error (jackknife over copies).

    Args:
        errors: `(copies, ...)` of independent clouds; only products of different copies enter (a
            U-statistic).
    """
    flat = errors.flatten(1)
    products = flat @ flat.mT / flat.shape[1]
    products.fill_diagonal_(0.0)
    by_copy = products.sum(1) / (len(flat) - 1)
    return float(by_copy.mean()), float(2 * by_copy.std() / len(flat) ** 0.5)


def report(
    name: str, state: State, mean: Tensor, variance: Tensor, seconds: list[float], passes: str
) -> None:
    """Print one row of the table."""
    weights = state.weights()[..., None, None].double()
    particles = state.particles["s"].double()
    errors = ((weights * particles).sum(0) - mean) / variance.sqrt()
    spread = (weights * (particles - mean).square()).sum(
        0
    ) / variance  # around the exact mean: no 1/K bias
    square, chance = squared_bias(errors)
    bias = max(square, 0.0) ** 0.5
    most = max(square + 2 * chance, 0.0) ** 0.5
    by_copy = spread.flatten(1).mean(1)
    ratio = by_copy.mean()
    doubt = by_copy.std() / len(by_copy) ** 0.5
    times = " | ".join(
        f"{1e3 * sorted(seconds[t - 20 : t])[10]:.0f}" for t in AGES if t < len(seconds) + 2
    )
    row = (
        f"{bias:.3f} | {most:.3f} | {errors.square().mean().sqrt():.3f} | {ratio:.3f} ({doubt:.3f})"
    )
    print(f"| {name} | {passes} | {len(by_copy)} | {row} | {times} |", flush=True)


def main() -> None:
    """Measure every move and number of passes, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--particles", type=int, default=16)
    parser.add_argument("--copies", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| model and moves | passes | copies | bias | bias + 2 se | one cloud | variance (se) | ms at T = 50 | 100 | 200 |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    variants: list[tuple[str, dict[str, str], int, int | None, int]] = [
        ("windows of 16 and single slices", {}, 16, None, 1),
        ("windows of 32 and single slices", {}, 32, None, 1),
        ("the last 48 slices only, windows of 32", {}, 32, 48, 1),
        ("whole series in one block", {"s": "block"}, 16, None, 8),
    ]
    for label, build, exact in (("linear", slow_linear, None), ("nonlinear", nonlinear, reference)):
        model = build()
        data = simulate(model, options.length)
        mean, variance = kalman(data) if exact is None else exact(model, data)
        for name, moves, window, recent, times in variants:
            engine = DCPC(
                model, num_particles=options.particles, moves=moves, window=window, warmup=150
            )
            seconds: list[float] = []
            state = online(
                data, copies=options.copies * times, recent=recent, engine=engine, seconds=seconds
            )
            report(f"{label}, {name}", state, mean, variance, seconds, "1 or 2" if moves else "2")


if __name__ == "__main__":
    run_script(main)
