"""Gaussian processes, generalised linear models and a mixture."""

import jax.numpy as jnp
import jax.scipy as jsp
import numpyro
import numpyro.distributions as dist
from jax import Array

from aif_dcpc.experiments.posteriordb.nuts.target import Data, Pair, Target, ordered_target, target

JITTER = 1e-10


def squared_exponential(x: Array, alpha: Array, rho: Array) -> Array:
    """alpha^2 exp(-(x_i - x_j)^2 / (2 rho^2)), `(n, n)`."""
    distance = x[:, None] - x
    return alpha**2 * jnp.exp(-0.5 * (distance / rho) ** 2)


def process_regression(d: Data) -> None:
    """Eleven points of a Gaussian process with noise of variance sigma."""
    rho = numpyro.sample("rho", dist.Gamma(25, 4))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    covariance = squared_exponential(jnp.asarray(d["x"]), alpha, rho) + sigma * jnp.eye(d["N"])
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(d["N"]), covariance), obs=d["y"])


def process_poisson(d: Data) -> None:
    """Eleven counts, their log rates a Gaussian process."""
    rho = numpyro.sample("rho", dist.Gamma(25, 4))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2))
    standard = numpyro.sample("f_tilde", dist.Normal(0, 1).expand([d["N"]]))
    covariance = squared_exponential(jnp.asarray(d["x"]), alpha, rho) + JITTER * jnp.eye(d["N"])
    f = numpyro.deterministic("f", jnp.linalg.cholesky(covariance) @ standard)
    numpyro.sample("k", dist.Poisson(jnp.exp(f)), obs=d["k"])


def expansion(name: str, frequencies: Array, basis: Array) -> Array:
    """Sample a Gaussian process by its coefficients in a basis; its values at the rows."""
    spread = numpyro.sample(f"sdgp_{name}", dist.FoldedDistribution(dist.StudentT(3, 0, 36)))
    length = numpyro.sample(f"lscale_{name}", dist.InverseGamma(1.124909, 0.0177))
    standard = numpyro.sample(f"zgp_{name}", dist.Normal(0, 1).expand([len(frequencies)]))
    root = jnp.sqrt(length) * jnp.exp(-((length * frequencies) ** 2) / 4)
    return basis @ (spread * (2 * jnp.pi) ** 0.25 * root * standard)


def motorcycle(d: Data) -> None:
    """Acceleration in a crash: processes for the mean and for the log standard deviation."""
    intercept = numpyro.sample("Intercept", dist.StudentT(3, -13, 36))
    base = numpyro.sample("Intercept_sigma", dist.StudentT(3, 0, 10))
    arrays = {k: jnp.asarray(d[k]) for k in d if k.startswith(("slambda", "Xgp"))}
    mean = expansion("1", arrays["slambda_1"][:, 0], arrays["Xgp_1"])
    logs = expansion("sigma_1", arrays["slambda_sigma_1"][:, 0], arrays["Xgp_sigma_1"])
    numpyro.sample("Y", dist.Normal(intercept + mean, jnp.exp(base + logs)), obs=d["Y"])


def dogs(d: Data) -> None:
    """Thirty dogs learn to avoid a shock; the log odds follow what each has met."""
    y = d["y"]
    avoided = jnp.asarray((1 - y).cumsum(1) - (1 - y))
    shocked = jnp.asarray(y.cumsum(1) - y)
    beta = numpyro.sample("beta", dist.Normal(0, 100).expand([3]))
    logits = beta[0] + beta[1] * avoided + beta[2] * shocked
    numpyro.sample("y", dist.Bernoulli(logits=logits), obs=y)


def poisson_cubic(d: Data) -> None:
    """Counts of peregrines by a cubic of the year."""
    x = jnp.asarray(d["year"])
    logs = numpyro.sample("alpha", dist.Uniform(-20, 20))
    for power in (1, 2, 3):
        logs = logs + numpyro.sample(f"beta{power}", dist.Uniform(-10, 10)) * x**power
    numpyro.sample("C", dist.Poisson(jnp.exp(logs)), obs=d["C"])


def gauss_mix(d: Data, pair: Pair) -> None:
    """Two Gaussians in order, labels summed out."""
    mu = pair("mu", dist.Normal(0, 2).expand([2]))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2).expand([2]))
    theta = numpyro.sample("theta", dist.Beta(5, 5))
    y = jnp.asarray(d["y"])[:, None]
    parts = jnp.log(jnp.stack([theta, 1 - theta])) + dist.Normal(mu, sigma).log_prob(y)
    numpyro.factor("y", jsp.special.logsumexp(parts, -1).sum())


def targets() -> list[Target]:
    """All processes, by their names."""
    return [
        target("gp_pois_regr-gp_regr", model=process_regression, parameters="rho alpha sigma"),
        target(
            "gp_pois_regr-gp_pois_regr",
            model=process_poisson,
            parameters="rho alpha f",
            double=True,
        ),
        target(
            "mcycle_gp-accel_gp",
            model=motorcycle,
            parameters="Intercept sdgp_1 lscale_1 zgp_1 "
            "Intercept_sigma sdgp_sigma_1 lscale_sigma_1 zgp_sigma_1",
        ),
        target("dogs-dogs", model=dogs, parameters="beta"),
        target(
            "GLM_Poisson_Data-GLM_Poisson_model",
            model=poisson_cubic,
            parameters="alpha beta1 beta2 beta3",
        ),
        ordered_target("low_dim_gauss_mix-low_dim_gauss_mix", gauss_mix, "mu sigma theta"),
    ]
