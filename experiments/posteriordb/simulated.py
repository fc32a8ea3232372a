"""Three models that posteriordb lacks, declared by sites: a local level, stochastic volatility, a funnel.

Their data and exact posteriors are in `simulated.json`; `simulate.py` makes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Beta, Distribution, HalfNormal, Normal

from aif_dcpc.experiments.posteriordb.by_sites import Declared, row
from aif_dcpc.experiments.posteriordb.posterior import Draws, elements, load, plainly
from aif_dcpc.inference import GraphicalModel, lag

FUNNEL_WIDTH = 9


@dataclass(frozen=True)
class Simulated:
    """One posterior of simulated data.

    Attributes:
        build: the model and its data.
        parameters: values of the sites, with any leading axes -> numbers by name, `(*leading)` each.
    """

    build: Callable[[], Declared]
    parameters: Callable[[Draws], dict[str, Tensor]]


def roots(model: GraphicalModel, **laws: Distribution) -> None:
    """Declare global sites without parents."""
    for name, law in laws.items():
        model.add_site(name, lambda law=law: law, scope="global")


def level_model() -> GraphicalModel:
    """Declare a random walk of unknown step, seen with unknown noise."""
    model = GraphicalModel()
    scale = HalfNormal(torch.tensor(1.0))
    roots(model, drift=scale, noise=scale)
    model.add_site(
        "level",
        lambda drift, before: Normal(before, drift),
        parents=["drift", lag("level")],
        initial=lambda drift: Normal(torch.zeros_like(drift), 2.0),
        scope="slice",
    )
    model.add_site("y", Normal, parents=["level", "noise"], scope="slice")
    return model


def local_level() -> Declared:
    """A random walk of unknown step, seen with unknown noise."""
    return level_model(), {"y": load("local_level")["y"][None]}


def stochastic_volatility() -> Declared:
    """Returns whose log variance is a stationary autoregression."""
    model = GraphicalModel()
    roots(
        model,
        mu=Normal(torch.tensor(0.0), 2.0),
        persistence=Beta(torch.tensor(20.0), torch.tensor(1.5)),
        sigma=HalfNormal(torch.tensor(0.5)),
    )
    model.add_deterministic("phi", lambda p: 2 * p - 1, ["persistence"], scope="global")
    model.add_site(
        "h",
        lambda mu, phi, sigma, before: Normal(mu + phi * (before - mu), sigma),
        parents=["mu", "phi", "sigma", lag("h")],
        initial=lambda mu, phi, sigma: Normal(mu, sigma / (1 - phi**2).sqrt()),
        scope="slice",
    )
    model.add_site(
        "y", lambda h: Normal(torch.zeros_like(h), (h / 2).exp()), parents=["h"], scope="slice"
    )
    return model, {"y": load("stochastic_volatility")["y"][None]}


def volatility_parameters(draws: Draws) -> dict[str, Tensor]:
    """Name mean, persistence, spread and path of the log variance."""
    found = plainly(vectors="h", scalars="mu sigma")(draws)
    return found | {"phi": 2 * draws["persistence"] - 1}


def funnel() -> Declared:
    """Neal's funnel in ten dimensions."""
    model = GraphicalModel()
    model.add_site("v", lambda: Normal(torch.tensor(0.0), 3.0))
    model.add_site("x", funnel_width, parents=["v"])
    return model, {}


def funnel_width(v: Tensor) -> Distribution:
    """Nine values of one scale, `(K, B, 9)`."""
    scale = row((v / 2).exp())
    return Normal(torch.zeros(FUNNEL_WIDTH), scale.expand(*v.shape, FUNNEL_WIDTH))


def funnel_parameters(draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name v, the values, and the logarithms of their sizes, whose law is less heavy in its tails."""
    tiny = torch.finfo(draws["x"].dtype).tiny
    found = plainly(vectors="x", scalars="v")(draws)
    return found | elements("log_x", draws["x"].abs().clamp_min(tiny).log())


SIMULATED: Mapping[str, Simulated] = {
    "local_level": Simulated(local_level, plainly(vectors="level", scalars="drift noise")),
    "stochastic_volatility": Simulated(stochastic_volatility, volatility_parameters),
    "funnel": Simulated(funnel, funnel_parameters),
}
