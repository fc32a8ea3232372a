"""The three simulated posteriors in both forms: a local level, stochastic volatility, a funnel."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array, lax
from numpyro.distributions import constraints

from aif_dcpc.experiments.posteriordb.nuts.target import (
    CENTRED,
    NONCENTRED,
    Data,
    Target,
    target,
)


def free_path(name: str, length: int) -> Array:
    """A path on the line, whose density is added as a factor."""
    flat = dist.ImproperUniform(constraints.real_vector, (), (length,))
    path: Array = numpyro.sample(name, flat)
    return path


def level_scales() -> tuple[Array, Array]:
    """Sample step and noise of the local level model."""
    drift = numpyro.sample("drift", dist.HalfNormal(1))
    return drift, numpyro.sample("noise", dist.HalfNormal(1))


def level_centred(d: Data) -> None:
    """A random walk of unknown step, seen with unknown noise."""
    drift, noise = level_scales()
    level = free_path("level", len(d["y"]))
    numpyro.factor("first", dist.Normal(0, 2).log_prob(level[0]))
    numpyro.factor("steps", dist.Normal(level[:-1], drift).log_prob(level[1:]).sum())
    numpyro.sample("y", dist.Normal(level, noise), obs=d["y"])


def level_noncentred(d: Data) -> None:
    """The same by standardised steps."""
    drift, noise = level_scales()
    standard = numpyro.sample("standard", dist.Normal(0, 1).expand([len(d["y"])]))
    steps = jnp.concatenate([2 * standard[:1], drift * standard[1:]])
    level = numpyro.deterministic("level", jnp.cumsum(steps))
    numpyro.sample("y", dist.Normal(level, noise), obs=d["y"])


def volatility_parameters() -> tuple[Array, Array, Array]:
    """Sample mean, persistence and spread of the log variance."""
    mu = numpyro.sample("mu", dist.Normal(0, 2))
    persistence = numpyro.sample("persistence", dist.Beta(20, 1.5))
    phi = numpyro.deterministic("phi", 2 * persistence - 1)
    return mu, phi, numpyro.sample("sigma", dist.HalfNormal(0.5))


def volatility_centred(d: Data) -> None:
    """Returns whose log variance is a stationary autoregression."""
    mu, phi, sigma = volatility_parameters()
    h = free_path("h", len(d["y"]))
    numpyro.factor("first", dist.Normal(mu, sigma / jnp.sqrt(1 - phi**2)).log_prob(h[0]))
    expected = mu + phi * (h[:-1] - mu)
    numpyro.factor("steps", dist.Normal(expected, sigma).log_prob(h[1:]).sum())
    numpyro.sample("y", dist.Normal(0, jnp.exp(h / 2)), obs=d["y"])


def volatility_noncentred(d: Data) -> None:
    """The same by standardised innovations."""
    mu, phi, sigma = volatility_parameters()
    standard = numpyro.sample("standard", dist.Normal(0, 1).expand([len(d["y"])]))

    def step(before: Array, innovation: Array) -> tuple[Array, Array]:
        now = phi * before + innovation
        return now, now

    first = standard[0] / jnp.sqrt(1 - phi**2)
    _, later = lax.scan(step, first, standard[1:])
    path = jnp.concatenate([first[None], later])
    h = numpyro.deterministic("h", mu + sigma * path)
    numpyro.sample("y", dist.Normal(0, jnp.exp(h / 2)), obs=d["y"])


def funnel(_: Data) -> None:
    """Neal's funnel in ten dimensions."""
    v = numpyro.sample("v", dist.Normal(0, 3))
    with numpyro.plate("values", 9):
        x = numpyro.sample("x", dist.Normal(0, jnp.exp(v / 2)))
    tiny = jnp.finfo(x.dtype).tiny
    numpyro.deterministic("log_x", jnp.log(jnp.maximum(jnp.abs(x), tiny)))


def targets() -> list[Target]:
    """All simulated posteriors, by their names."""
    volatility = {CENTRED: volatility_centred, NONCENTRED: volatility_noncentred}
    level = {CENTRED: level_centred, NONCENTRED: level_noncentred}
    return [
        Target(("local_level",), level, ("level", "drift", "noise")),
        Target(("stochastic_volatility",), volatility, ("h", "mu", "sigma", "phi")),
        target("funnel", model=funnel, parameters="v x log_x", standardised="x"),
    ]
