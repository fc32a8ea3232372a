"""Hierarchies: schools, radon, rats, seeds, item response."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from aif_dcpc.experiments.posteriordb.posterior import (
    Data,
    Draws,
    Posterior,
    Program,
    elements,
    plainly,
)

LARGEST_LOG = 60.0  # of a discrimination: beyond it no answer could be as it is


def normal(name: str, scale: float) -> Tensor:
    """Sample a site from N(0, scale)."""
    value: Tensor = pyro.sample(name, dist.Normal(torch.tensor(0.0), scale))
    return value


def half_normal(name: str, scale: float) -> Tensor:
    """Sample a site from N(0, scale) cut to positive values."""
    value: Tensor = pyro.sample(name, dist.HalfNormal(torch.tensor(scale)))
    return value


def half_cauchy(name: str, scale: float) -> Tensor:
    """Sample a site from Cauchy(0, scale) cut to positive values."""
    value: Tensor = pyro.sample(name, dist.HalfCauchy(torch.tensor(scale)))
    return value


# -- eight schools ---------------------------------------------------------------------------------


def eight_schools_centered(d: Data) -> Program:
    """Rubin's eight schools; effects around their mean."""

    def program() -> None:
        mu, tau = normal("mu", 5.0), half_cauchy("tau", 5.0)
        with pyro.plate("schools", len(d["y"])):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta, d["sigma"]), obs=d["y"])

    return program


def eight_schools_noncentered(d: Data) -> Program:
    """The same schools with standardised effects."""

    def program() -> None:
        mu, tau = normal("mu", 5.0), half_cauchy("tau", 5.0)
        with pyro.plate("schools", len(d["y"])):
            standard = pyro.sample("theta_trans", dist.Normal(torch.tensor(0.0), 1.0))
            pyro.sample("y", dist.Normal(mu + tau * standard, d["sigma"]), obs=d["y"])

    return program


def noncentered_schools(draws: Draws) -> dict[str, Tensor]:
    """Name effects, their mean and their spread."""
    mu, tau = draws["mu"], draws["tau"]
    theta = mu.unsqueeze(-1) + tau.unsqueeze(-1) * draws["theta_trans"]
    return elements("theta", theta) | {"mu": mu, "tau": tau}


# -- radon -----------------------------------------------------------------------------------------


def radon(*, centered: bool, uranium: bool) -> Callable[[Data], Program]:
    """Radon in the houses of 85 counties, an intercept per county; by floor and perhaps uranium."""

    def factory(d: Data) -> Program:
        county, counties, y = d["county_idx"].long() - 1, int(d["J"]), d["log_radon"]
        x = torch.stack([d["log_uppm"], d["floor_measure"]], -1)

        def program() -> None:
            mu, spread = normal("mu_alpha", 10.0), half_normal("sigma_alpha", 1.0)
            noise = half_normal("sigma_y", 1.0)
            alpha = county_levels(mu, spread, counties, centered=centered)
            if uranium:
                slope = x @ pyro.sample("beta", dist.Normal(torch.zeros(2), 10.0).to_event(1))
            else:
                slope = normal("beta", 10.0) * d["floor_measure"]
            with pyro.plate("houses", len(y)):
                pyro.sample("log_radon", dist.Normal(alpha[county] + slope, noise), obs=y)

        return program

    return factory


def county_levels(mu: Tensor, spread: Tensor, counties: int, *, centered: bool) -> Tensor:
    """Sample the counties' intercepts, as they are or standardised."""
    with pyro.plate("counties", counties):
        if centered:
            alpha: Tensor = pyro.sample("alpha", dist.Normal(mu, spread))
            return alpha
        raw: Tensor = pyro.sample("alpha_raw", dist.Normal(torch.tensor(0.0), 1.0))
        return mu + spread * raw


def radon_parameters(*, centered: bool, uranium: bool) -> Callable[[Draws], dict[str, Tensor]]:
    """Name what the reference of a radon model holds, standardised intercepts too where it does."""

    def parameters(draws: Draws) -> dict[str, Tensor]:
        names = ("mu_alpha", "sigma_alpha", "sigma_y")
        found = {name: draws[name] for name in names}
        mu, spread = (draws[n].unsqueeze(-1) for n in names[:2])
        alpha = draws["alpha"] if centered else mu + spread * draws["alpha_raw"]
        found |= elements("alpha", alpha)
        found |= elements("beta", draws["beta"]) if uranium else {"beta": draws["beta"]}
        if centered or uranium:
            return found
        return found | elements("alpha_raw", draws["alpha_raw"])

    return parameters


# -- rats, seeds, item response --------------------------------------------------------------------


def rats(d: Data) -> Program:
    """Weights of 30 rats over time, a line each."""
    rat, time, y = d["rat"].long() - 1, d["x"] - d["xbar"], d["y"]

    def program() -> None:
        mu_alpha, mu_beta = normal("mu_alpha", 100.0), normal("mu_beta", 100.0)
        sigma_alpha, sigma_beta = half_normal("sigma_alpha", 1e3), half_normal("sigma_beta", 1e3)
        sigma_y = half_normal("sigma_y", 1e3)
        with pyro.plate("rats", int(d["N"])):
            alpha = pyro.sample("alpha", dist.Normal(mu_alpha, sigma_alpha))
            beta = pyro.sample("beta", dist.Normal(mu_beta, sigma_beta))
        with pyro.plate("rows", len(y)):
            pyro.sample("y", dist.Normal(alpha[rat] + beta[rat] * time, sigma_y), obs=y)

    return program


def seeds(d: Data) -> Program:
    """Germinated seeds on 21 plates, a random effect each."""
    x1, x2 = d["x1"], d["x2"]

    def program() -> None:
        alpha0, alpha1 = normal("alpha0", 1.0), normal("alpha1", 1.0)
        alpha2, alpha12 = normal("alpha2", 1.0), normal("alpha12", 1.0)
        sigma = half_cauchy("sigma", 1.0)
        with pyro.plate("plates", len(x1)):
            b = pyro.sample("b", dist.Normal(torch.zeros(()), sigma))
            logits = alpha0 + alpha1 * x1 + alpha2 * x2 + alpha12 * x1 * x2 + b
            pyro.sample("n", dist.Binomial(total_count=d["N"], logits=logits), obs=d["n"])

    return program


def item_response(d: Data) -> Program:
    """Two-parameter logistic item response: 20 items, 100 persons."""
    y = d["y"]

    def program() -> None:
        sigma_theta, sigma_a = half_cauchy("sigma_theta", 2.0), half_cauchy("sigma_a", 2.0)
        mu_b, sigma_b = normal("mu_b", 5.0), half_cauchy("sigma_b", 2.0)
        items = pyro.plate("items", y.shape[0], dim=-2)
        persons = pyro.plate("persons", y.shape[1], dim=-1)
        zero = torch.zeros(())
        theta = pyro.sample(
            "theta", dist.Normal(zero, sigma_theta).expand([y.shape[1]]).to_event(1)
        )
        log_a = pyro.sample("log_a", dist.Normal(zero, sigma_a).expand([y.shape[0]]).to_event(1))
        a = pyro.deterministic("a", log_a.clamp(max=LARGEST_LOG).exp(), event_dim=1)
        b = pyro.sample("b", dist.Normal(mu_b, sigma_b).expand([y.shape[0]]).to_event(1))
        with items, persons:
            pyro.sample("y", dist.Bernoulli(logits=a[:, None] * (theta - b[:, None])), obs=y)

    return program


def item_response_parameters(draws: Draws) -> dict[str, Tensor]:
    """Name persons, items and the four parameters of their laws."""
    rest = plainly(vectors="theta b", scalars="sigma_theta sigma_a mu_b sigma_b")(draws)
    return rest | elements("a", draws["log_a"].clamp(max=LARGEST_LOG).exp())


HIERARCHIES = (
    Posterior(
        "eight_schools-eight_schools_centered",
        eight_schools_centered,
        plainly(vectors="theta", scalars="mu tau"),
    ),
    Posterior(
        "eight_schools-eight_schools_noncentered", eight_schools_noncentered, noncentered_schools
    ),
    *(
        Posterior(
            f"radon_mn-radon_{kind}_intercept_{'' if centered else 'non'}centered",
            radon(centered=centered, uranium=kind == "hierarchical"),
            radon_parameters(centered=centered, uranium=kind == "hierarchical"),
        )
        for kind in ("variable", "hierarchical")
        for centered in (True, False)
    ),
    Posterior(
        "rats_data-rats_model",
        rats,
        plainly(vectors="alpha beta", scalars="mu_alpha mu_beta sigma_y sigma_alpha sigma_beta"),
        "wide proper priors in place of flat ones for the three sigmas",
    ),
    Posterior(
        "seeds_data-seeds_stanified_model",
        seeds,
        plainly(vectors="b", scalars="alpha0 alpha1 alpha12 alpha2 sigma"),
    ),
    Posterior(
        "irt_2pl-irt_2pl",
        item_response,
        item_response_parameters,
        "discriminations by their logarithms, whose tails are heavy enough to overflow otherwise",
    ),
)
