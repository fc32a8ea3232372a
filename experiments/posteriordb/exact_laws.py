"""Models whose posteriors are exact by a transfer matrix, by enumeration or by integration.

Each has draws -> parameters, `(S, K)` each, and their exact means and standard deviations:

- `ising`: spins on a 10 x 10 lattice with free borders, neighbours coupled by .55, above the
  critical .44; one site a spin, and for every pair a datum of probability exp(J s t) / 2 cosh J.
- `asia`: the network as published, with its gate of probabilities 0 and 1.
- `selection`: ten predictors, each with a switch and a Gaussian weight.
- `rosenbrock`: y is x^2 to within .1, which a datum says, so that nothing standardises it.
- `long_level`: a local level of 1,000 steps with two unknown scales.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Normal

from aif_dcpc.experiments.evidence.models import (
    ASIA,
    ASIA_PARENTS,
    asia,
    selection,
    selection_data,
)
from aif_dcpc.experiments.posteriordb.posterior import elements
from aif_dcpc.experiments.posteriordb.simulate import grid, level_posterior
from aif_dcpc.experiments.posteriordb.simulated import level_model
from aif_dcpc.inference import GraphicalModel

Array = NDArray[np.float64]
Draws = Mapping[str, Tensor]
Moments = dict[str, dict[str, float]]

SIDE = 10
COUPLING = 0.55
SPINS = [f"s{row}_{column}" for row in range(SIDE) for column in range(SIDE)]
BANANA_WIDTH = 0.1
VAGUE = 100.0
CERTAIN = 1e-3  # thousands of draws do not tell the spread of what is rarer
LONG = 1000


@dataclass(frozen=True)
class ExactLaw:
    """A model whose posterior is known.

    Attributes:
        model, data: what is handed to the engine.
        parameters: values of the sites, `(S, K, *event)` -> numbers by name, `(S, K)`.
        moments: parameter -> mean and sd.
    """

    model: GraphicalModel
    data: dict[str, Tensor]
    parameters: Callable[[Draws], dict[str, Tensor]]
    moments: Moments


def of_indicators(chances: Mapping[str, float]) -> Moments:
    """Moments of numbers that are 0 or 1, but for those that are all but certain."""
    return {
        name: {"mean": p, "sd": math.sqrt(p * (1 - p))}
        for name, p in chances.items()
        if CERTAIN < p < 1 - CERTAIN
    }


# -- Ising -----------------------------------------------------------------------------------------


def pairs() -> list[tuple[int, int]]:
    """Neighbours on the lattice, by their places in `SPINS`."""
    across = [(i, i + 1) for i in range(SIDE**2) if (i + 1) % SIDE]
    return across + [(i, i + SIDE) for i in range(SIDE**2 - SIDE)]


def same_sign(first: Tensor, second: Tensor) -> Distribution:
    """The law of a datum that is 1 with probability exp(J s t) / 2 cosh J, spins coded 0 and 1."""
    product_of_spins = (2 * first - 1) * (2 * second - 1)
    return Bernoulli(logits=2 * COUPLING * product_of_spins)


def ising() -> ExactLaw:
    """The lattice; pair correlations, all 4,950, and the sign of the magnetisation."""
    model = GraphicalModel()
    for name in SPINS:
        model.add_site(name, lambda: Bernoulli(torch.tensor(0.5)))
    bonds = {f"bond{i}_{j}": [SPINS[i], SPINS[j]] for i, j in pairs()}
    for name, ends in bonds.items():
        model.add_site(name, same_sign, ends)
    found = correlations()
    moments = {
        f"s[{i},{j}]": {"mean": float(found[i, j]), "sd": math.sqrt(1 - float(found[i, j]) ** 2)}
        for i, j in combinations(range(SIDE**2), 2)
    }
    moments |= of_indicators({"positive": positive_magnetisation()})
    return ExactLaw(model, dict.fromkeys(bonds, torch.ones(1)), ising_parameters, moments)


def ising_parameters(draws: Draws) -> dict[str, Tensor]:
    """Products of all pairs of spins, and whether the magnetisation is above zero."""
    spins = 2 * torch.stack([draws[name] for name in SPINS]) - 1
    found = {f"s[{i},{j}]": spins[i] * spins[j] for i, j in combinations(range(SIDE**2), 2)}
    return found | {"positive": (spins.sum(0) > 0).double()}


def rows_of_spins() -> Array:
    """All `2**SIDE` rows, `(2**SIDE, SIDE)` of -1 and 1."""
    return np.array(list(product((-1.0, 1.0), repeat=SIDE)))


def transfer() -> tuple[Array, Array]:
    """Weights within a row, `(R,)`, and between two rows, `(R, R)`, scaled against overflow."""
    rows = rows_of_spins()
    within = np.exp(COUPLING * ((rows[:, 1:] * rows[:, :-1]).sum(1) - SIDE))
    return within, np.exp(COUPLING * (rows @ rows.T - SIDE))


def correlations() -> Array:
    """Means of products of two spins, `(SIDE**2, SIDE**2)`."""
    rows = rows_of_spins()
    within, between = transfer()
    above = [within]
    for _ in range(SIDE - 1):
        above.append(within * (between @ above[-1]))
    below = [above[SIDE - 1 - row] / within for row in range(SIDE)]
    total = float(above[0] @ below[0])
    found = np.ones((SIDE**2, SIDE**2))
    for first in range(SIDE):
        marked = above[first][:, None] * rows  # (R, SIDE), one column a spin of the first row
        for second in range(first, SIDE):
            if second > first:
                marked = within[:, None] * (between @ marked)
            block = marked.T @ (rows * below[second][:, None]) / total
            here = slice(first * SIDE, first * SIDE + SIDE)
            there = slice(second * SIDE, second * SIDE + SIDE)
            found[here, there] = block
            found[there, here] = block.T
    return found


def positive_magnetisation() -> float:
    """P(more spins are up than down), by counts of spins that are up."""
    ups = ((rows_of_spins() + 1) / 2).sum(1).astype(int)
    within, between = transfer()
    counts = np.zeros((len(ups), SIDE**2 + 1))
    counts[np.arange(len(ups)), ups] = within
    for _ in range(SIDE - 1):
        moved = within[:, None] * (between @ counts)
        counts = np.stack([np.roll(row, up) for row, up in zip(moved, ups, strict=True)])
    law = counts.sum(0) / counts.sum()
    return float(law[SIDE**2 // 2 + 1 :].sum())


# -- Asia ------------------------------------------------------------------------------------------


def asia_law() -> ExactLaw:
    """P(site = 1) of the six sites that are not observed."""
    known = asia()
    latent = [name for name in ASIA_PARENTS if name not in known.data]
    chances = dict.fromkeys(latent, 0.0)
    for values in product((0, 1), repeat=len(latent)):
        point = dict(zip(latent, values, strict=True), x=1, d=1)
        weight = math.exp(-known.log_evidence) * asia_joint(point)
        for name in latent:
            chances[name] += weight * point[name]
    return ExactLaw(known.model, dict(known.data), as_they_are, of_indicators(chances))


def asia_joint(point: Mapping[str, int]) -> float:
    """Probability of one value of each site."""
    chance = 1.0
    for name, parents in ASIA_PARENTS.items():
        row = sum(point[p] * 2**i for i, p in enumerate(reversed(parents)))
        chance *= ASIA[name][row] if point[name] else 1 - ASIA[name][row]
    return chance


def as_they_are(draws: Draws) -> dict[str, Tensor]:
    """Sites that hold one number."""
    return dict(draws)


# -- variable selection ----------------------------------------------------------------------------


def selection_law() -> ExactLaw:
    """Switches, weights, and the effects that are their products."""
    known = selection()
    inputs, y = (x.double().numpy() for x in selection_data())
    size = inputs.shape[1]
    subsets = np.array(list(product((0.0, 1.0), repeat=size)))
    parts = [weights_given(inputs, y, switches) for switches in subsets]
    logs = np.array([log_density for log_density, _, _ in parts])
    chances = np.exp(logs - logs.max())
    chances /= chances.sum()
    means = np.array([mean for _, mean, _ in parts])
    squares = np.array([variance + mean**2 for _, mean, variance in parts])
    moments = of_indicators({f"g[{i + 1}]": float(chances @ subsets[:, i]) for i in range(size)})
    for name, scale in (("w", np.ones_like(subsets)), ("effect", subsets)):
        mean = chances @ (scale * means)
        sd = np.sqrt(chances @ (scale * squares) - mean**2)
        moments |= {
            f"{name}[{i + 1}]": {"mean": float(mean[i]), "sd": float(sd[i])} for i in range(size)
        }
    return ExactLaw(known.model, dict(known.data), selection_parameters, moments)


def weights_given(inputs: Array, y: Array, switches: Array) -> tuple[float, Array, Array]:
    """Log p(y, switches), and mean and variance of the weights, `(10,)` each.

    Weights are N(0, 1) and noise is 1.
    """
    used = inputs * switches
    precision = used.T @ used + np.eye(len(switches))
    covariance: Array = np.linalg.inv(precision).astype(np.float64)
    mean = covariance @ used.T @ y
    fit = y @ y - y @ used @ mean
    prior = np.where(switches > 0, math.log(0.3), math.log(0.7)).sum()
    return prior - (fit + np.linalg.slogdet(precision)[1]) / 2, mean, covariance.diagonal()


def selection_parameters(draws: Draws) -> dict[str, Tensor]:
    """All switches, weights and effects."""
    values = {"g": draws["g"], "w": draws["w"], "effect": draws["g"] * draws["w"]}
    return {k: v for name, value in values.items() for k, v in elements(name, value).items()}


# -- Rosenbrock and a long series ------------------------------------------------------------------


def rosenbrock() -> ExactLaw:
    """x ~ N(1, 1), y vague, and 0 seen of y - x^2 with noise .1; integrated over x."""
    model = GraphicalModel()
    model.add_site("x", lambda: Normal(torch.tensor(1.0), 1.0))
    model.add_site("y", lambda: Normal(torch.tensor(0.0), VAGUE))
    model.add_site("zero", lambda x, y: Normal(y - x**2, BANANA_WIDTH), ["x", "y"])
    x = np.linspace(-12, 14, 200_001)
    whole = VAGUE**2 + BANANA_WIDTH**2
    logs = -((x - 1) ** 2) / 2 - x**4 / (2 * whole)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    gain = VAGUE**2 / whole
    moments = {
        "x": mean_and_sd(weights, x, np.zeros_like(x)),
        "y": mean_and_sd(weights, gain * x**2, np.full_like(x, gain * BANANA_WIDTH**2)),
    }
    return ExactLaw(model, {"zero": torch.zeros(1)}, as_they_are, moments)


def mean_and_sd(weights: Array, means: Array, variances: Array) -> dict[str, float]:
    """Moments of a mixture."""
    mean = float(weights @ means)
    return {"mean": mean, "sd": math.sqrt(float(weights @ (variances + means**2)) - mean**2)}


def long_level() -> ExactLaw:
    """Steps of .3, seen with noise .5; both scales are HN(1) a priori."""
    generator = torch.Generator().manual_seed(7)
    level = torch.cumsum(0.3 * torch.randn(LONG, generator=generator), 0)
    y = level + 0.5 * torch.randn(LONG, generator=generator)
    model = level_model()
    drift, noise = grid(np.geomspace(0.2, 0.42, 60), np.geomspace(0.4, 0.62, 60))
    found = level_posterior(y.double().numpy(), drift, noise)
    scales = {"drift": found.moments_of(drift), "noise": found.moments_of(noise)}
    moments = {name: {"mean": mean, "sd": sd} for name, (mean, sd) in scales.items()}
    return ExactLaw(model, {"y": y[None]}, both_scales, moments)


def both_scales(draws: Draws) -> dict[str, Tensor]:
    """The two numbers that the path depends on."""
    return {name: draws[name] for name in ("drift", "noise")}


EXACT: Mapping[str, Callable[[], ExactLaw]] = {
    "ising": cache(ising),
    "asia": cache(asia_law),
    "selection": cache(selection_law),
    "rosenbrock": cache(rosenbrock),
    "long_level": cache(long_level),
}
