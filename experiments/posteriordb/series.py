"""Time series, differential equations and hidden Markov models."""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from aif_dcpc.experiments.posteriordb.equations import concentrations, log_populations
from aif_dcpc.experiments.posteriordb.laws import (
    Arma11,
    CutNormal,
    Garch11,
    HiddenMarkov,
    LowerOfPair,
)
from aif_dcpc.experiments.posteriordb.posterior import (
    Data,
    Draws,
    Posterior,
    Program,
    elements,
    plainly,
)


def autoregression(d: Data) -> Program:
    """Autoregression of order K; the first K values are given."""
    order, y = int(d["K"]), d["y"]
    lags = torch.stack([y[order - k : len(y) - k] for k in range(1, order + 1)], -1)

    def program() -> None:
        alpha = pyro.sample("alpha", dist.Normal(torch.tensor(0.0), 10.0))
        beta = pyro.sample("beta", dist.Normal(torch.zeros(order), 10.0).to_event(1))
        sigma = pyro.sample("sigma", dist.HalfCauchy(torch.tensor(2.5)))
        with pyro.plate("steps", len(lags)):
            pyro.sample("y", dist.Normal(alpha + lags @ beta, sigma), obs=y[order:])

    return program


def arma(d: Data) -> Program:
    """ARMA(1, 1) without bounds on its coefficients."""
    y = d["y"]

    def program() -> None:
        mu = pyro.sample("mu", dist.Normal(torch.tensor(0.0), 10.0))
        phi = pyro.sample("phi", dist.Normal(torch.tensor(0.0), 2.0))
        theta = pyro.sample("theta", dist.Normal(torch.tensor(0.0), 2.0))
        sigma = pyro.sample("sigma", dist.HalfCauchy(torch.tensor(2.5)))
        pyro.sample("y", Arma11(mu, phi, theta, sigma, len(y)), obs=y)

    return program


def garch(d: Data) -> Program:
    """GARCH(1, 1); (alpha1, beta1) are uniform on a triangle, beta1 a fraction of 1 - alpha1."""
    y, first = d["y"], float(d["sigma1"])

    def program() -> None:
        mu = pyro.sample("mu", dist.Normal(torch.tensor(0.0), 100.0))
        alpha0 = pyro.sample("alpha0", dist.HalfNormal(torch.tensor(100.0)))
        alpha1 = pyro.sample("alpha1", dist.Beta(torch.tensor(1.0), torch.tensor(2.0)))
        fraction = pyro.sample("fraction", dist.Uniform(torch.tensor(0.0), 1.0))
        beta1 = fraction * (1 - alpha1)
        pyro.sample("y", Garch11(mu, alpha0, alpha1, beta1, first, len(y)), obs=y)

    return program


def garch_parameters(draws: Draws) -> dict[str, Tensor]:
    """Name the four parameters, beta1 from its fraction."""
    found = {name: draws[name] for name in ("mu", "alpha0", "alpha1")}
    return found | {"beta1": draws["fraction"] * (1 - draws["alpha1"])}


# -- differential equations ------------------------------------------------------------------------


def lotka_volterra(d: Data) -> Program:
    """Pelts of hares and lynxes, lognormal around the populations of prey and predator."""
    times = d["ts"].tolist()
    location, scale = torch.tensor([1.0, 0.05, 1.0, 0.05]), torch.tensor([0.5, 0.05, 0.5, 0.05])

    def program() -> None:
        theta = pyro.sample("theta", CutNormal(location, scale).to_event(1))
        z_init = pyro.sample(
            "z_init", dist.LogNormal(torch.full((2,), math.log(10.0)), 1.0).to_event(1)
        )
        sigma = pyro.sample("sigma", dist.LogNormal(torch.full((2,), -1.0), 1.0).to_event(1))
        pyro.sample("y_init", dist.LogNormal(z_init.log(), sigma).to_event(1), obs=d["y_init"])
        logs = log_populations(theta, z_init, times)
        pyro.sample("y", dist.LogNormal(logs, sigma).to_event(2), obs=d["y"])

    return program


def one_compartment(d: Data) -> Program:
    """A drug with first-order absorption and Michaelis-Menten elimination."""
    times = [float(d["t0"]), *d["times"].tolist()]
    dose, volume = float(d["D"]), float(d["V"])

    def program() -> None:
        k_a, k_m, v_m, sigma = (
            pyro.sample(name, dist.HalfCauchy(torch.tensor(1.0)))
            for name in ("k_a", "K_m", "V_m", "sigma")
        )
        amounts = concentrations((k_a, k_m, v_m), dose, volume, times)
        logs = amounts.clamp_min(torch.finfo(amounts.dtype).tiny).log()
        pyro.sample("C_hat", dist.LogNormal(logs, sigma).to_event(1), obs=d["C_hat"])

    return program


# -- hidden Markov models --------------------------------------------------------------------------


def ordered_pair(name: str, first: float, second: float) -> Tensor:
    """Sample a ~ N(first, 1), b ~ N(second, 1) on 0 < a < b, by a and their difference; `(2,)`."""
    low = pyro.sample(f"{name}_low", LowerOfPair(first, second))
    gap = pyro.sample(f"{name}_gap", CutNormal(second - low, 1.0))
    return torch.stack([low, low + gap], -1)


def ordered_elements(name: str, draws: Draws) -> dict[str, Tensor]:
    """Name both members of an ordered pair."""
    low = draws[f"{name}_low"]
    return elements(name, torch.stack([low, low + draws[f"{name}_gap"]], -1))


def hmm_example(d: Data) -> Program:
    """Two hidden states with normal observations of unit variance."""
    y = d["y"]

    def program() -> None:
        rows = [pyro.sample(n, dist.Dirichlet(torch.ones(2))) for n in ("theta1", "theta2")]
        mu = ordered_pair("mu", 3.0, 10.0)
        law = HiddenMarkov(torch.stack(rows, -2), dist.Normal(mu, 1.0), len(y))
        pyro.sample("y", law, obs=y)

    return program


def hmm_example_parameters(draws: Draws) -> dict[str, Tensor]:
    """Name transition rows and the ordered means."""
    return plainly(vectors="theta1 theta2")(draws) | ordered_elements("mu", draws)


def hmm_drive(d: Data) -> Program:
    """Two hidden states with two exponential observations each."""
    uv = torch.stack([d["u"], d["v"]], -1)

    def program() -> None:
        rows = [
            pyro.sample(name, dist.Dirichlet(alpha))
            for name, alpha in zip(("theta1", "theta2"), d["alpha"], strict=True)
        ]
        rates = torch.stack([ordered_pair("phi", 0.0, 3.0), ordered_pair("lambda", 0.0, 3.0)], -1)
        emissions = dist.Exponential(rates).to_event(1)
        pyro.sample("uv", HiddenMarkov(torch.stack(rows, -2), emissions, len(uv)), obs=uv)

    return program


def hmm_drive_parameters(draws: Draws) -> dict[str, Tensor]:
    """Name transition rows and both ordered pairs of rates."""
    pairs = ordered_elements("phi", draws) | ordered_elements("lambda", draws)
    return plainly(vectors="theta1 theta2")(draws) | pairs


PAIRS = "ordered pairs by their first member and the difference"
SERIES = (
    Posterior("arK-arK", autoregression, plainly(vectors="beta", scalars="alpha sigma")),
    Posterior("arma-arma11", arma, plainly(scalars="mu phi theta sigma")),
    Posterior(
        "garch-garch11",
        garch,
        garch_parameters,
        "wide proper priors for mu and alpha0; beta1 as a fraction of 1 - alpha1",
    ),
    Posterior(
        "hudson_lynx_hare-lotka_volterra", lotka_volterra, plainly(vectors="theta z_init sigma")
    ),
    Posterior(
        "one_comp_mm_elim_abs-one_comp_mm_elim_abs",
        one_compartment,
        plainly(scalars="k_a K_m V_m sigma"),
        "compare logarithms or quantiles: K_m and V_m have a heavy right tail along a ridge",
    ),
    Posterior("hmm_example-hmm_example", hmm_example, hmm_example_parameters, PAIRS),
    Posterior("bball_drive_event_0-hmm_drive_0", hmm_drive, hmm_drive_parameters, PAIRS),
)
