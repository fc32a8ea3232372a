"""Make `simulated.json`: data of three models that posteriordb lacks, and their exact posteriors.

    python -m aif_dcpc.experiments.posteriordb.simulate

The local level model is integrated over a grid of its two scales, smoothed by Kalman's recursions
at each; stochastic volatility over a grid of its three parameters, its path by the forward-backward
algorithm on a grid of levels; the funnel is known in closed form. Trapezoids over smooth densities
that vanish at both ends converge faster than any power of the spacing. The models are written out
in `simulated.py`.
"""

import argparse
import json
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, logsumexp

from aif_dcpc.commands.command import run_script
from aif_dcpc.experiments.posteriordb.files import FOLDER
from aif_dcpc.files import atomic

Array = NDArray[np.float64]
Moments = dict[str, tuple[float, float]]  # parameter -> mean, standard deviation
LEVEL_STEPS, VOLATILITY_STEPS = 100, 150
FUNNEL_WIDTH = 9
SPREAD_OF_V = 3.0
CENTRE = -1.0  # about where the mean of the log variance lies


class Posterior(NamedTuple):
    """Weights of the points of a grid, `(G,)`, and moments of a path at each of them, `(T, G)`."""

    weights: Array
    mean: Array
    variance: Array

    def moments_of(self, value: Array) -> tuple[float, float]:
        """Mean and standard deviation of a function of the parameters, `(G,)`."""
        mean = float(self.weights @ value)
        return mean, float(np.sqrt(self.weights @ (value - mean) ** 2))

    def moments_of_path(self, name: str) -> Moments:
        """Mean and standard deviation of every step of the path."""
        means = self.mean @ self.weights
        spread = self.variance + (self.mean - means[:, None]) ** 2
        sds = np.sqrt(spread @ self.weights)
        return {
            f"{name}[{t + 1}]": (float(m), float(s))
            for t, (m, s) in enumerate(zip(means, sds, strict=True))
        }


def normalised(log_density: Array) -> Array:
    """Weights `(G,)` in proportion to a density that is given by its logarithm."""
    weights: Array = np.exp(log_density - logsumexp(log_density))
    return weights


def grid(*axes: Array) -> list[Array]:
    """All combinations of the axes' points, flat."""
    return [a.ravel() for a in np.meshgrid(*axes, indexing="ij")]


# -- local level -----------------------------------------------------------------------------------


def level_data(rng: np.random.Generator) -> Array:
    """A random walk of step .3, seen with noise 1."""
    level = np.cumsum(0.3 * rng.standard_normal(LEVEL_STEPS))
    return level + rng.standard_normal(LEVEL_STEPS)


def level_posterior(y: Array, drift: Array, noise: Array) -> Posterior:
    """Kalman's filter and smoother at every pair of scales `(G,)`; both are HN(1) a priori."""
    steps, size = len(y), len(drift)
    mean = np.zeros((steps, size))
    variance = np.zeros((steps, size))
    prior_mean = np.zeros(size)
    prior_variance = np.full(size, 4.0)
    log_density = -(drift**2 + noise**2) / 2 + np.log(drift * noise)
    for t in range(steps):
        whole = prior_variance + noise**2
        log_density += -((y[t] - prior_mean) ** 2) / (2 * whole) - np.log(whole) / 2
        gain = prior_variance / whole
        mean[t] = prior_mean + gain * (y[t] - prior_mean)
        variance[t] = (1 - gain) * prior_variance
        prior_mean = mean[t]
        prior_variance = variance[t] + drift**2
    for t in range(steps - 2, -1, -1):
        ahead = variance[t] + drift**2
        gain = variance[t] / ahead
        variance[t] += gain**2 * (variance[t + 1] - ahead)
        mean[t] += gain * (mean[t + 1] - mean[t])
    return Posterior(normalised(log_density), mean, variance)


def level_moments(y: Array, points: int = 150) -> Moments:
    """Moments of both scales and of the path."""
    drift, noise = np.exp(
        grid(np.linspace(np.log(5e-4), np.log(3), points), np.linspace(-1, 1, points))
    )
    found = level_posterior(y, drift, noise)
    scales = {"drift": found.moments_of(drift), "noise": found.moments_of(noise)}
    return scales | found.moments_of_path("level")


# -- stochastic volatility -------------------------------------------------------------------------


def volatility_data(rng: np.random.Generator) -> Array:
    """Returns whose log variance is an autoregression around -1 with persistence .95."""
    path = [rng.standard_normal() * 0.4 / np.sqrt(1 - 0.95**2)]
    for _ in range(VOLATILITY_STEPS - 1):
        path.append(0.95 * path[-1] + 0.4 * rng.standard_normal())
    returns: Array = np.exp((np.array(path) - 1) / 2) * rng.standard_normal(VOLATILITY_STEPS)
    return returns


def standard_path(y: Array, phi: float, mu: Array, sd: Array) -> tuple[Array, Array, Array]:
    """The path u of unit variance with y ~ N(0, exp((mu + sd u) / 2)), at one persistence.

    Args:
        y: `(T,)`.
        phi: of the path.
        mu, sd: of the log variance, `(G,)`.

    Returns:
        log density of y, `(G,)`; mean and variance of u, `(T, G)`.
    """
    innovation = np.sqrt(1 - phi**2)
    u = np.linspace(-6, 6, int(np.clip(12 / (0.8 * innovation), 100, 800)))
    moves = np.exp(-(((u[:, None] - phi * u) / innovation) ** 2) / 2)
    moves /= innovation * np.sqrt(2 * np.pi) / (u[1] - u[0])  # to, from
    log_variance = mu + np.outer(u, sd)
    seen = [-(log_variance + value**2 * np.exp(-log_variance)) / 2 for value in y]
    heights = [s.max(0) for s in seen]
    seen = [np.exp(s - h) for s, h in zip(seen, heights, strict=True)]
    start = np.exp(-(u**2) / 2)[:, None]
    ahead = [seen[0] * start / start.sum()]
    log_density = np.sum(heights, 0)
    for t in range(1, len(y)):
        total = ahead[-1].sum(0)
        log_density += np.log(total)
        ahead.append(seen[t] * (moves @ (ahead[-1] / total)))
    log_density += np.log(ahead[-1].sum(0))
    return log_density, *_smoothed(u, moves, seen, ahead)


def _smoothed(u: Array, moves: Array, seen: list[Array], ahead: list[Array]) -> tuple[Array, Array]:
    mean = np.zeros((len(seen), seen[0].shape[1]))
    variance = np.zeros_like(mean)
    back = np.ones_like(seen[0])
    for t in range(len(seen) - 1, -1, -1):
        both = ahead[t] * back
        both /= both.sum(0)
        mean[t] = u @ both
        variance[t] = u**2 @ both - mean[t] ** 2
        back = moves.T @ (seen[t] * back)
        back /= back.max(0)
    return mean, variance


def volatility_posterior(
    y: Array, place: Array, log_odds: Array, log_sigma: Array
) -> tuple[Posterior, list[Array]]:
    """The posterior on a grid of axes, and the grid's mu, phi, sigma.

    mu ~ N(0, 2) is `CENTRE + sinh(place) / 5`, finer in the middle; p ~ Beta(20, 1.5) is given by its
    log odds, phi = 2 p - 1; sigma ~ HN(.5) by its logarithm.
    """
    at_place, at_sigma = grid(place, np.exp(log_sigma))
    at_mu = CENTRE + np.sinh(at_place) / 5
    parts = []
    for odds in log_odds:
        phi = 2 * expit(odds) - 1
        sd = at_sigma / np.sqrt(1 - phi**2)
        likelihood, mean, variance = standard_path(y, phi, at_mu, sd)
        prior = 20 * log_expit(odds) + 1.5 * log_expit(-odds) - at_mu**2 / 8
        prior += -2 * at_sigma**2 + np.log(at_sigma) + np.log(np.cosh(at_place))
        parts.append((likelihood + prior, at_mu + sd * mean, sd**2 * variance))
    density, mean, variance = (np.concatenate(part, -1) for part in zip(*parts, strict=True))
    points = [np.tile(at_mu, len(log_odds)), np.repeat(2 * expit(log_odds) - 1, len(at_mu))]
    points.append(np.tile(at_sigma, len(log_odds)))
    return Posterior(normalised(density), mean, variance), points


def volatility_moments(y: Array, points: int = 28) -> Moments:
    """Moments of the three parameters and of the path of log variances."""
    axes = [np.linspace(*ends, points) for ends in ((-4.0, 4.0), (-0.5, 9.0), (-4.0, 0.7))]
    found, values = volatility_posterior(y, *axes)
    names = ("mu", "phi", "sigma")
    parameters = {n: found.moments_of(v) for n, v in zip(names, values, strict=True)}
    return parameters | found.moments_of_path("h")


# -- funnel ----------------------------------------------------------------------------------------


def funnel_moments() -> Moments:
    """Of v ~ N(0, 3) and log|x|, x ~ N(0, exp(v / 2)): log|z| of a standard normal z is known."""
    mean = -(np.euler_gamma + np.log(2)) / 2
    sd = np.sqrt(SPREAD_OF_V**2 / 4 + np.pi**2 / 8)
    logs = {f"log_x[{i + 1}]": (float(mean), float(sd)) for i in range(FUNNEL_WIDTH)}
    return {"v": (0.0, SPREAD_OF_V), **logs}


def entry(data: dict[str, Any], source: str, moments: Moments) -> dict[str, Any]:
    """One posterior as `reference.json` holds it."""
    parameters = {name: {"mean": mean, "sd": sd} for name, (mean, sd) in moments.items()}
    return {"data": data, "source": source, "parameters": parameters}


def main() -> None:
    """Write the file of simulated data."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    level = level_data(np.random.default_rng(1)).round(4)
    returns = volatility_data(np.random.default_rng(2)).round(4)
    found = {
        "local_level": entry(
            {"y": level.tolist()}, "grid and Kalman smoother", level_moments(level)
        ),
        "stochastic_volatility": entry(
            {"y": returns.tolist()}, "grid and forward-backward", volatility_moments(returns)
        ),
        "funnel": entry({}, "closed form", funnel_moments()),
    }
    with atomic(FOLDER / "simulated.json") as file:
        file.write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
