"""Time series, hidden Markov models and differential equations."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array, lax
from jax.scipy.special import logsumexp

from aif_dcpc.experiments.posteriordb.nuts.target import Data, Pair, Target, ordered_target, target
from aif_dcpc.experiments.posteriordb.steps import FIRST_STEPS, LATER_STEPS, STEPS


def autoregression(d: Data) -> None:
    """Autoregression of order K; the first K values are given."""
    order = d["K"]
    y = d["y"]
    lags = np.stack([y[order - k : len(y) - k] for k in range(1, order + 1)], -1)
    alpha = numpyro.sample("alpha", dist.Normal(0, 10))
    beta = numpyro.sample("beta", dist.Normal(0, 10).expand([order]))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    numpyro.sample("y", dist.Normal(alpha + jnp.asarray(lags) @ beta, sigma), obs=y[order:])


def arma(d: Data) -> None:
    """ARMA(1, 1) without bounds on its coefficients."""
    y = jnp.asarray(d["y"])
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    phi = numpyro.sample("phi", dist.Normal(0, 2))
    theta = numpyro.sample("theta", dist.Normal(0, 2))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))

    def step(error: Array, inputs: Array) -> tuple[Array, Array]:
        error = inputs - theta * error
        return error, error

    before = jnp.concatenate([mu[None], y[:-1]])
    _, errors = lax.scan(step, jnp.zeros_like(mu), y - mu - phi * before)
    numpyro.factor("y", dist.Normal(0, sigma).log_prob(errors).sum())


def garch(d: Data) -> None:
    """GARCH(1, 1); (alpha1, beta1) are uniform on a triangle, beta1 a fraction of 1 - alpha1."""
    y = jnp.asarray(d["y"])
    mu = numpyro.sample("mu", dist.Normal(0, 100))
    alpha0 = numpyro.sample("alpha0", dist.HalfNormal(100))
    alpha1 = numpyro.sample("alpha1", dist.Beta(1, 2))
    fraction = numpyro.sample("fraction", dist.Uniform(0, 1))
    beta1 = numpyro.deterministic("beta1", fraction * (1 - alpha1))

    def step(variance: Array, driven: Array) -> tuple[Array, Array]:
        variance = driven + beta1 * variance
        return variance, variance

    first = jnp.full_like(mu, d["sigma1"] ** 2)
    _, later = lax.scan(step, first, alpha0 + alpha1 * (y[:-1] - mu) ** 2)
    scale = jnp.sqrt(jnp.concatenate([first[None], later]))
    numpyro.sample("y", dist.Normal(mu, scale), obs=y)


# -- hidden Markov models --------------------------------------------------------------------------


def positive_normal(*means: float) -> dist.Distribution:
    """N(mean, 1) cut to positive values, for each of the means."""
    return dist.TruncatedNormal(jnp.array(means), 1.0, low=0.0)


def forward(transition: Array, emitted: Array) -> Array:
    """Log density of a series by the forward algorithm; the first state is uniform."""
    moves = jnp.log(transition)

    def step(log_weights: Array, log_density: Array) -> tuple[Array, None]:
        return logsumexp(log_weights[:, None] + moves, 0) + log_density, None

    last, _ = lax.scan(step, emitted[0], emitted[1:])
    return logsumexp(last)


def hmm_example(d: Data, pair: Pair) -> None:
    """Two hidden states with normal observations of unit variance."""
    rows = [numpyro.sample(name, dist.Dirichlet(jnp.ones(2))) for name in ("theta1", "theta2")]
    mu = pair("mu", positive_normal(3.0, 10.0))
    emitted = dist.Normal(mu, 1).log_prob(jnp.asarray(d["y"])[:, None])
    numpyro.factor("y", forward(jnp.stack(rows), emitted))


def hmm_drive(d: Data, pair: Pair) -> None:
    """Two hidden states with two exponential observations each."""
    prior = dict(zip(("theta1", "theta2"), jnp.asarray(d["alpha"]) * 1.0, strict=True))
    rows = [numpyro.sample(name, dist.Dirichlet(alpha)) for name, alpha in prior.items()]
    phi = pair("phi", positive_normal(0.0, 3.0))
    rate = pair("lambda", positive_normal(0.0, 3.0))
    emitted = dist.Exponential(phi).log_prob(jnp.asarray(d["u"])[:, None])
    emitted = emitted + dist.Exponential(rate).log_prob(jnp.asarray(d["v"])[:, None])
    numpyro.factor("uv", forward(jnp.stack(rows), emitted))


# -- differential equations ------------------------------------------------------------------------


def solve(slope: Any, start: Array, times: Any) -> Array:
    """States at `times[1:]` by one Runge-Kutta step of fourth order from each time to the next."""

    def step(state: Array, interval: Array) -> tuple[Array, Array]:
        time, size = interval
        one = slope(time, state)
        two = slope(time + size / 2, state + size / 2 * one)
        three = slope(time + size / 2, state + size / 2 * two)
        four = slope(time + size, state + size * three)
        state = state + size / 6 * (one + 2 * two + 2 * three + four)
        return state, state

    intervals = jnp.stack([jnp.asarray(times[:-1]), jnp.diff(jnp.asarray(times))], -1)
    _, states = lax.scan(step, start, intervals)
    return states


def divided(times: Sequence[float], steps: int) -> Any:
    """Every interval in equal steps, the first time included."""
    parts = [np.linspace(a, b, steps + 1)[1:] for a, b in pairwise(times)]
    return np.concatenate([[times[0]], *parts])


def lotka_volterra(d: Data) -> None:
    """Pelts of hares and lynxes, lognormal around the populations of prey and predator."""
    centre = jnp.array([1, 0.05, 1, 0.05])
    theta = numpyro.sample(
        "theta", dist.TruncatedNormal(centre, jnp.array([0.5, 0.05, 0.5, 0.05]), low=0.0)
    )
    z_init = numpyro.sample("z_init", dist.LogNormal(jnp.log(10.0), 1).expand([2]))
    sigma = numpyro.sample("sigma", dist.LogNormal(-1, 1).expand([2]))

    def slope(_: Array, logs: Array) -> Array:
        prey, predator = jnp.exp(logs)
        return jnp.stack([theta[0] - theta[1] * predator, -theta[2] + theta[3] * prey])

    grid = divided([0.0, *d["ts"]], STEPS)
    logs = solve(slope, jnp.log(z_init), grid)[STEPS - 1 :: STEPS]
    numpyro.sample("y_init", dist.LogNormal(jnp.log(z_init), sigma), obs=d["y_init"])
    numpyro.sample("y", dist.LogNormal(logs, sigma), obs=d["y"])


def one_compartment(d: Data) -> None:
    """A drug with first-order absorption and Michaelis-Menten elimination."""
    names = ("k_a", "K_m", "V_m", "sigma")
    k_a, k_m, v_m, sigma = (numpyro.sample(name, dist.HalfCauchy(1)) for name in names)
    volume = d["V"]

    def slope(time: Array, amount: Array) -> Array:
        entering = jnp.exp(-k_a * time) * d["D"] * k_a / volume
        amount = jnp.maximum(amount, 0.0)
        return entering - v_m / volume * amount / (k_m + amount)

    times = d["times"]
    first = times[0] - d["t0"]
    early = d["t0"] + first * (np.arange(FIRST_STEPS + 1) / FIRST_STEPS) ** 2
    grid = np.concatenate([early, divided(times, LATER_STEPS)[1:]])
    amounts = solve(slope, jnp.zeros_like(k_a), grid)[FIRST_STEPS - 1 :: LATER_STEPS]
    tiny = jnp.finfo(amounts.dtype).tiny
    logs = jnp.log(jnp.maximum(amounts, tiny))
    numpyro.sample("C_hat", dist.LogNormal(logs, sigma), obs=d["C_hat"])


def targets() -> list[Target]:
    """All time series, by their names."""
    return [
        target("arK-arK", model=autoregression, parameters="alpha beta sigma"),
        target("arma-arma11", model=arma, parameters="mu phi theta sigma"),
        target("garch-garch11", model=garch, parameters="mu alpha0 alpha1 beta1"),
        ordered_target("hmm_example-hmm_example", hmm_example, "theta1 theta2 mu"),
        ordered_target("bball_drive_event_0-hmm_drive_0", hmm_drive, "theta1 theta2 phi lambda"),
        target(
            "hudson_lynx_hare-lotka_volterra",
            model=lotka_volterra,
            parameters="theta z_init sigma",
        ),
        target(
            "one_comp_mm_elim_abs-one_comp_mm_elim_abs",
            model=one_compartment,
            parameters="k_a K_m V_m sigma",
        ),
    ]
