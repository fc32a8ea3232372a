"""What one evaluation of the log joint with all scores costs, beside densities written by hand.

    python -m aif_dcpc.experiments.posteriordb.gradients [--compile]

The engine's density is what `sample` evaluates, through the same general path for every model. Beside
it stands a function of the vector in PyTorch, as terse as its author could make it, with one autograd
call; the two agree in every score. Processor time of one call at 128 chains, the least of alternated
rounds, on one thread. With `--compile` both are compiled, in the same way.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal

from aif_dcpc.commands.command import run_script
from aif_dcpc.devices import set_up
from aif_dcpc.experiments.posteriordb.by_sites import BY_SITES, Declared
from aif_dcpc.experiments.posteriordb.clock import processor_seconds
from aif_dcpc.experiments.posteriordb.posterior import load
from aif_dcpc.experiments.posteriordb.regressions import kidscore_interaction
from aif_dcpc.experiments.posteriordb.report import cells
from aif_dcpc.experiments.posteriordb.simulated import local_level
from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.model.coordinates import Block
from aif_dcpc.inference.model.joint import JointDensity
from aif_dcpc.inference.model.replay import replayed

CHAINS = 128
ROUNDS = 7
SECONDS = 0.15  # of one round
TOLERANCE = 1e-3  # of scores, in units of the largest
ROWS = 400  # of the logistic regression, which is generated here
HEADER = ("model", "dimensions", "engine, us", "by hand, us", "ratio")

Density = Callable[[Tensor], Tensor]
Scored = Callable[[Tensor], tuple[Tensor, ...]]


read = cache(load)
counties = cache(lambda: load("radon_mn")["county_idx"].long() - 1)
kidscores = cache(lambda: kidscore_interaction(load("kidiq")))


def normal(value: Tensor, scale: Tensor | float) -> Tensor:
    """Log density of N(0, scale) but for a constant."""
    log_scale = scale.log() if isinstance(scale, Tensor) else math.log(scale)
    return -0.5 * (value / scale) ** 2 - log_scale


def kidscore(z: Tensor) -> Tensor:
    """Four weights and the logarithm of a half-Cauchy noise."""
    y, x = kidscores()
    beta, log_noise = z[..., :4], z[..., 4]
    noise = log_noise.exp()
    fit = normal(y - beta @ x.mT, noise.unsqueeze(-1)).sum(-1)
    return fit + normal(beta, 1000.0).sum(-1) - (1 + (noise / 2.5) ** 2).log() + log_noise


def schools(z: Tensor) -> Tensor:
    """A mean, the logarithm of a half-Cauchy spread, eight effects."""
    d = read("eight_schools")
    mean, log_spread, effect = z[..., :1], z[..., 1], z[..., 2:]
    spread = log_spread.exp()
    prior = normal(mean[..., 0], 5.0) - (1 + (spread / 5) ** 2).log() + log_spread
    fit = normal(d["y"] - effect, d["sigma"]) + normal(effect - mean, spread.unsqueeze(-1))
    return prior + fit.sum(-1)


def radon(z: Tensor) -> Tensor:
    """A mean, the logarithms of two half-normal spreads, effects of counties, a slope."""
    d = read("radon_mn")
    county = counties()
    mean, log_spread, log_noise = z[..., :1], z[..., 1:2], z[..., 2:3]
    alpha, beta = z[..., 3:-1], z[..., -1:]
    spread, noise = log_spread.exp(), log_noise.exp()
    line = alpha[..., county] + beta * d["floor_measure"]
    logs = (log_spread + log_noise - 0.5 * (spread**2 + noise**2))[..., 0]
    prior = normal(mean[..., 0], 10.0) + normal(beta[..., 0], 10.0) + logs
    effects = normal(alpha - mean, spread).sum(-1)
    return prior + effects + normal(d["log_radon"] - line, noise).sum(-1)


def walk(z: Tensor) -> Tensor:
    """The logarithms of two half-normal scales, a path."""
    y = read("local_level")["y"]
    log_drift, log_noise, level = z[..., :1], z[..., 1:2], z[..., 2:]
    drift, noise = log_drift.exp(), log_noise.exp()
    prior = (log_drift + log_noise - 0.5 * (drift**2 + noise**2))[..., 0]
    steps = normal(level[..., 1:] - level[..., :-1], drift).sum(-1)
    return prior + normal(level[..., 0], 2.0) + steps + normal(y - level, noise).sum(-1)


@cache
def answers() -> tuple[Tensor, Tensor]:
    """A design `(ROWS, 5)` and answers `(ROWS,)`."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 5, generator=generator)
    chance = torch.sigmoid(x @ torch.linspace(-1, 1, 5))
    return x, torch.bernoulli(chance, generator=generator)


def logistic_model() -> Declared:
    """Five weights of a logistic regression."""
    x, y = answers()
    model = GraphicalModel()
    model.add_site("beta", lambda: Independent(Normal(torch.zeros(5), 2.0), 1))
    model.add_site(
        "y", lambda beta: Independent(Bernoulli(logits=beta @ x.mT), 1), parents=["beta"]
    )
    return model, {"y": y[None]}


def logistic(z: Tensor) -> Tensor:
    """Log density of the same weights, by hand."""
    x, y = answers()
    line = z @ x.mT
    return normal(z, 2.0).sum(-1) + (y * line - torch.nn.functional.softplus(line)).sum(-1)


CASES: dict[str, tuple[Callable[[], Declared], Density]] = {
    "kidiq-kidscore_interaction": (BY_SITES["kidiq-kidscore_interaction"], kidscore),
    "eight_schools_centered": (BY_SITES["eight_schools-eight_schools_centered"], schools),
    "radon_variable_intercept": (BY_SITES["radon_mn-radon_variable_intercept_centered"], radon),
    "local_level": (local_level, walk),
    "logistic regression": (logistic_model, logistic),
}


def scored(density: Density, place: Tensor) -> tuple[Tensor, ...]:
    """Log density and score of a density written by hand."""
    with torch.enable_grad():
        place = place.detach().requires_grad_()
        log_prob = density(place)
        (score,) = torch.autograd.grad(log_prob.sum(), place)
    return log_prob.detach(), score


def both(name: str, *, compiles: bool) -> tuple[Scored, Scored, Tensor]:
    """The engine's density, the one by hand, and a vector `(CHAINS, 1, D)` to evaluate them at."""
    build, density = CASES[name]
    model, data = build()
    state = DCPC(model, num_particles=CHAINS).init(data, seed=0)
    block = Block.of(state)
    generator = torch.Generator().manual_seed(1)
    place = 0.3 * torch.randn(CHAINS, 1, block.dimension, generator=generator)
    by_engine = JointDensity(block, "declared").recorded(place, compiles=compiles)
    by_hand = partial(scored, density)
    return by_engine, replayed(by_hand, place, compiles=True) if compiles else by_hand, place


def least_microseconds(functions: Sequence[Scored], place: Tensor) -> list[float]:
    """Processor time of one call of each, the least of alternated rounds."""
    found = [math.inf] * len(functions)
    for _ in range(ROUNDS):
        for number, function in enumerate(functions):
            began = processor_seconds()
            calls = 0
            while processor_seconds() - began < SECONDS:
                for _ in range(10):
                    function(place)
                calls += 10
            found[number] = min(found[number], (processor_seconds() - began) / calls * 1e6)
    return found


def measured(name: str, *, compiles: bool) -> str:
    """One line of the table."""
    by_engine, by_hand, place = both(name, compiles=compiles)
    with torch.no_grad():
        off = (by_engine(place)[1] - by_hand(place)[1]).abs().max()
        assert off < TOLERANCE * by_hand(place)[1].abs().max(), name
        ours, hands = least_microseconds((by_engine, by_hand), place)
    numbers = (f"{place.shape[-1]}", f"{ours:.0f}", f"{hands:.0f}", f"{ours / hands:.2f}")
    return cells(name, *numbers)


def main(given: Sequence[str] | None = None) -> None:
    """Print the table, a line for each model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compile", action="store_true", help="compile both")
    asked = parser.parse_args(given)
    set_up("cpu", 1)
    print(cells(*HEADER), "|---" * len(HEADER) + "|", sep="\n")
    for name in CASES:
        print(measured(name, compiles=asked.compile), flush=True)


if __name__ == "__main__":
    run_script(main)
