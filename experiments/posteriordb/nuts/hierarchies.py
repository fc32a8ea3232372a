"""Hierarchies: schools, radon, rats, seeds, item response."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from aif_dcpc.experiments.posteriordb.nuts.target import Data, Model, Target, target


def eight_schools(d: Data) -> None:
    """Rubin's eight schools as NumPyro has them."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", len(d["y"])):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, d["sigma"]), obs=d["y"])


def radon(*, uranium: bool) -> Model:
    """Radon in houses, an intercept per county; by floor and perhaps uranium."""

    def model(d: Data) -> None:
        mu = numpyro.sample("mu_alpha", dist.Normal(0, 10))
        spread = numpyro.sample("sigma_alpha", dist.HalfNormal(1))
        noise = numpyro.sample("sigma_y", dist.HalfNormal(1))
        with numpyro.plate("counties", d["J"]):
            alpha = numpyro.sample("alpha", dist.Normal(mu, spread))
        floor = jnp.asarray(d["floor_measure"])
        if uranium:
            x = jnp.stack([jnp.asarray(d["log_uppm"]), floor], -1)
            slope = x @ numpyro.sample("beta", dist.Normal(0, 10).expand([2]))
        else:
            slope = floor * numpyro.sample("beta", dist.Normal(0, 10))
        mean = alpha[d["county_idx"] - 1] + slope
        numpyro.sample("log_radon", dist.Normal(mean, noise), obs=d["log_radon"])

    return model


def rats(d: Data) -> None:
    """Weights of 30 rats over time, a line each."""
    mu_alpha = numpyro.sample("mu_alpha", dist.Normal(0, 100))
    mu_beta = numpyro.sample("mu_beta", dist.Normal(0, 100))
    sigma_alpha = numpyro.sample("sigma_alpha", dist.HalfNormal(1000))
    sigma_beta = numpyro.sample("sigma_beta", dist.HalfNormal(1000))
    sigma_y = numpyro.sample("sigma_y", dist.HalfNormal(1000))
    with numpyro.plate("rats", d["N"]):
        alpha = numpyro.sample("alpha", dist.Normal(mu_alpha, sigma_alpha))
        beta = numpyro.sample("beta", dist.Normal(mu_beta, sigma_beta))
    rat = d["rat"] - 1
    mean = alpha[rat] + beta[rat] * (d["x"] - d["xbar"])
    numpyro.sample("y", dist.Normal(mean, sigma_y), obs=d["y"])


def seeds(d: Data) -> None:
    """Germinated seeds on 21 plates, a random effect each."""
    names = ("alpha0", "alpha1", "alpha2", "alpha12")
    fixed = jnp.stack([numpyro.sample(name, dist.Normal(0, 1)) for name in names])
    x = np.stack([np.ones(d["I"]), d["x1"], d["x2"], d["x1"] * d["x2"]], -1)
    sigma = numpyro.sample("sigma", dist.HalfCauchy(1))
    with numpyro.plate("plates", d["I"]):
        b = numpyro.sample("b", dist.Normal(0, sigma))
        logits = jnp.asarray(x) @ fixed + b
        numpyro.sample("n", dist.Binomial(d["N"], logits=logits), obs=d["n"])


def item_response(d: Data) -> None:
    """Two-parameter logistic item response: 20 items, 100 persons."""
    sigma_theta = numpyro.sample("sigma_theta", dist.HalfCauchy(2))
    sigma_a = numpyro.sample("sigma_a", dist.HalfCauchy(2))
    mu_b = numpyro.sample("mu_b", dist.Normal(0, 5))
    sigma_b = numpyro.sample("sigma_b", dist.HalfCauchy(2))
    items, persons = d["y"].shape
    theta = numpyro.sample("theta", dist.Normal(0, sigma_theta).expand([persons]))
    log_a = numpyro.sample("log_a", dist.Normal(0, sigma_a).expand([items]))
    b = numpyro.sample("b", dist.Normal(mu_b, sigma_b).expand([items]))
    a = numpyro.deterministic("a", jnp.exp(log_a))
    logits = a[:, None] * (theta - b[:, None])
    numpyro.sample("y", dist.Bernoulli(logits=logits), obs=d["y"])


def targets() -> list[Target]:
    """All hierarchies, by their names."""
    kinds = {"variable": False, "hierarchical": True}
    return [
        target(
            "eight_schools-eight_schools_centered",
            "eight_schools-eight_schools_noncentered",
            model=eight_schools,
            parameters="theta mu tau",
            standardised="theta",
        ),
        *(
            target(
                f"radon_mn-radon_{kind}_intercept_centered",
                f"radon_mn-radon_{kind}_intercept_noncentered",
                model=radon(uranium=uranium),
                parameters="alpha beta mu_alpha sigma_alpha sigma_y",
                standardised="alpha",
            )
            for kind, uranium in kinds.items()
        ),
        target(
            "rats_data-rats_model",
            model=rats,
            parameters="alpha beta mu_alpha mu_beta sigma_y sigma_alpha sigma_beta",
            standardised="alpha beta",
        ),
        target(
            "seeds_data-seeds_stanified_model",
            model=seeds,
            parameters="b alpha0 alpha1 alpha12 alpha2 sigma",
            standardised="b",
        ),
        target(
            "irt_2pl-irt_2pl",
            model=item_response,
            parameters="theta a b sigma_theta sigma_a mu_b sigma_b",
            standardised="theta log_a b",
        ),
    ]
