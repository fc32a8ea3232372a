"""The same models in NumPyro, and references by its NUTS: means and deviations of long runs in double precision.

    python -m aif_dcpc.experiments.other_models.nuts [NAME ...]

Needs an environment with numpyro (see `experiments/posteriordb/README.md`), neither PyTorch nor the
engine. What is discrete is summed out by hand; hierarchies are standardised, so that NUTS can walk.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.diagnostics import summary
from numpyro.infer import MCMC, NUTS
from numpyro.infer.reparam import LocScaleReparam

from aif_dcpc.commands.command import check_names, run_script
from aif_dcpc.experiments.other_models.data import SETS, data_of
from aif_dcpc.files import atomic

REFERENCE = Path(__file__).with_name("reference.json")
LOGARITHMS = ("overall", "local", "slab", "certainty")  # of which the moments are compared
STANDARDISED = LocScaleReparam(0.0)
Model = Callable[..., None]
sample = numpyro.sample


def overdispersed(x: Any, y: Any) -> None:
    """Regress counts on two covariates, size unknown."""
    intercept = sample("intercept", dist.Normal(0.0, 5.0))
    weights = sample("weights", dist.Normal(jnp.zeros(2), 2.0).to_event(1))
    size = sample("size", dist.Gamma(2.0, 0.5))
    sample("y", dist.NegativeBinomial2(jnp.exp(intercept + x @ weights), size), obs=y)


def two_lines(x: Any, y: Any) -> None:
    """Sum out which line a point lies around."""
    share = sample("share", dist.Beta(2.0, 2.0))
    slope = sample("slope", dist.Normal(0.0, 1.0))
    steeper = sample("steeper", dist.HalfNormal(2.0))
    intercept = sample("intercept", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
    noise = sample("noise", dist.HalfNormal(1.0))
    slopes = jnp.stack([slope, slope + steeper])
    chances = dist.Categorical(jnp.stack([1 - share, share]))
    lines = dist.Normal(intercept + slopes * x[:, None], noise)
    sample("y", dist.MixtureSameFamily(chances, lines).to_event(1), obs=y)


def correlated_effects(group: Any, x: Any, y: Any) -> None:
    """Correlate intercepts and slopes of groups."""
    mean = sample("mean", dist.Normal(jnp.zeros(2), 2.0).to_event(1))
    spread = sample("spread", dist.HalfNormal(jnp.ones(2)).to_event(1))
    root = sample("root", dist.LKJCholesky(2, 2.0))
    noise = sample("noise", dist.HalfNormal(1.0))
    raw = sample("raw", dist.Normal(jnp.zeros((15, 2)), 1.0).to_event(2))
    effects = numpyro.deterministic("effects", mean + raw @ (spread[:, None] * root).T)
    mine = effects[group]
    sample("y", dist.Normal(mean_of(mine, x), noise).to_event(1), obs=y)


def mean_of(mine: Any, x: Any) -> Any:
    """Add a group's intercept and slope times x."""
    return mine[:, 0] + mine[:, 1] * x


def tumours(number: Any, y: Any) -> None:
    """Draw chances from one Beta law."""
    mean = sample("mean", dist.Beta(1.0, 1.0))
    certainty = sample("certainty", dist.LogNormal(2.0, 1.0))
    with numpyro.plate("experiments", len(y)):
        chance = sample("chance", dist.Beta(mean * certainty, (1 - mean) * certainty))
        sample("y", dist.Binomial(number.astype(int), chance), obs=y)


def quarters(y: Any) -> None:
    """Sum out level, slope and season, whose law is Gaussian given four scales."""
    scales = {"level": 0.5, "slope": 0.2, "season": 0.3}
    covariance, steps = path_covariances(len(y))
    for name, prior in scales.items():
        scale = sample(f"{name}_scale", dist.HalfNormal(prior))
        covariance = covariance + scale**2 * steps[name]
    noise = sample("noise", dist.HalfNormal(0.5))
    covariance = covariance + noise**2 * jnp.eye(len(y))
    sample("y", dist.MultivariateNormal(5.0 * jnp.ones(len(y)), covariance), obs=y)


def path_covariances(length: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Covariances of the path's values, of where it begins and of unit steps of each part."""
    moved = np.array(
        [[1, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, -1, -1, -1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]
    )
    powers = [np.linalg.matrix_power(moved, t) for t in range(length)]
    seen = np.array([1, 0, 1, 0, 0])
    begun = np.stack([seen @ power for power in powers])
    steps = {}
    for place, name in enumerate(("level", "slope", "season")):
        reached = np.zeros((length, length - 1))
        for t in range(1, length):
            reached[t:, t - 1] = begun[: length - t, place]
        steps[name] = reached @ reached.T
    return begun * np.square([2.0, 0.5, 1.0, 1.0, 1.0]) @ begun.T, steps


def few_of_many(x: Any, y: Any) -> None:
    """Shrink weights by the regularised horseshoe."""
    number = x.shape[-1]
    noise = sample("noise", dist.HalfNormal(2.0))
    overall = sample("overall", dist.HalfCauchy(1.0))
    slab = sample("slab", dist.InverseGamma(2.0, 8.0))
    with numpyro.plate("predictors", number):
        local = sample("local", dist.HalfCauchy(1.0))
        raw = sample("raw", dist.Normal(0.0, 1.0))
    shrunk = overall * noise * (3 / (number - 3) / math.sqrt(len(y)))
    width = jnp.sqrt(slab * local**2 / (slab + shrunk**2 * local**2))
    weights = numpyro.deterministic("weights", raw * width * shrunk)
    sample("y", dist.Normal(x @ weights, noise).to_event(1), obs=y)


def outliers(x: Any, y: Any) -> None:
    """Fit a line under Student's noise."""
    intercept = sample("intercept", dist.Normal(0.0, 2.0))
    slope = sample("slope", dist.Normal(0.0, 2.0))
    scale = sample("scale", dist.HalfNormal(1.0))
    freedom = sample("freedom", dist.Gamma(2.0, 0.1))
    sample("y", dist.StudentT(freedom, intercept + slope * x, scale).to_event(1), obs=y)


def shares(y: Any) -> None:
    """Draw shares from one Dirichlet law."""
    mean = sample("mean", dist.Dirichlet(jnp.ones(4)))
    certainty = sample("certainty", dist.LogNormal(2.0, 1.0))
    with numpyro.plate("groups", len(y)):
        chances = sample("chances", dist.Dirichlet(certainty * mean))
        sample("y", dist.Multinomial(25, chances), obs=y.astype(int))


def sightings(y: Any) -> None:
    """Sum out which places are lived in."""
    lived_in = sample("lived_in", dist.Beta(1.0, 1.0))
    seen = sample("seen", dist.Beta(1.0, 1.0))
    number = y.sum(-1)
    there = lived_in * seen**number * (1 - seen) ** (y.shape[-1] - number)
    numpyro.factor("y", jnp.log(there + (1 - lived_in) * (number == 0)).sum())


def wiggle(x: Any, y: Any) -> None:
    """Classify by a Gaussian process."""
    scale = sample("scale", dist.HalfNormal(2.0))
    length = sample("length", dist.InverseGamma(5.0, 5.0))
    raw = sample("raw", dist.Normal(jnp.zeros(len(y)), 1.0).to_event(1))
    kernel = scale**2 * jnp.exp(-0.5 * ((x[:, None] - x) / length) ** 2) + 1e-4 * jnp.eye(len(y))
    curve = numpyro.deterministic("curve", jnp.linalg.cholesky(kernel) @ raw)
    sample("y", dist.Bernoulli(logits=curve).to_event(1), obs=y)


def cut_off(x: Any, y: Any, is_cut: Any) -> None:
    """Count what is cut off by its chance."""
    intercept = sample("intercept", dist.Normal(0.0, 2.0))
    slope = sample("slope", dist.Normal(0.0, 2.0))
    noise = sample("noise", dist.HalfNormal(1.0))
    mean = intercept + slope * x
    below = jax.scipy.stats.norm.logcdf(y, mean, noise)
    at = jax.scipy.stats.norm.logpdf(y, mean, noise)
    numpyro.factor("y", jnp.where(is_cut > 0, below, at).sum())


def crossed(age: Any, state: Any, late: Any, y: Any) -> None:
    """Cross effects of ages and states."""
    intercept = sample("intercept", dist.Normal(0.0, 1.5))
    effect = sample("effect", dist.Normal(0.0, 1.0))
    age_scale = sample("age_scale", dist.HalfNormal(1.0))
    state_scale = sample("state_scale", dist.HalfNormal(1.0))
    with numpyro.plate("ages", 6):
        of_age = sample("of_age", dist.Normal(0.0, age_scale))
    with numpyro.plate("states", 20):
        of_state = sample("of_state", dist.Normal(0.0, state_scale))
    odds = intercept + effect * late + of_age[age] + of_state[state]
    sample("y", dist.Bernoulli(logits=odds).to_event(1), obs=y)


def noisy_inputs(x: Any, y: Any) -> None:
    """Infer inputs that were measured with error."""
    centre = sample("centre", dist.Normal(0.0, 2.0))
    width = sample("width", dist.HalfNormal(2.0))
    intercept = sample("intercept", dist.Normal(0.0, 2.0))
    slope = sample("slope", dist.Normal(0.0, 2.0))
    noise = sample("noise", dist.HalfNormal(1.0))
    with numpyro.plate("data", len(y)):
        true = sample("true", dist.Normal(centre, width))
        sample("x", dist.Normal(true, 0.5), obs=x)
        sample("y", dist.Normal(intercept + slope * true, noise), obs=y)


def bearings_by_grid(y: Any) -> dict[str, Any]:
    """Sum over a grid: for NUTS a circle has an end, at which these directions lie."""
    direction = jnp.linspace(-math.pi, math.pi, 1200, endpoint=False)[:, None]
    certainty = jnp.linspace(0.005, 30.0, 3000)
    normaliser = jnp.log(jax.scipy.special.i0e(certainty)) + certainty
    log_p = certainty * jnp.cos(y[:, None, None] - direction).sum(0) - len(y) * normaliser
    log_p = log_p + 0.1 * jnp.cos(direction) + jnp.log(certainty) - 0.5 * certainty
    values = {
        "cosine": jnp.cos(direction),
        "sine": jnp.sin(direction),
        "certainty": jnp.log(certainty),
    }
    return by_grid(log_p, values)


def by_grid(log_p: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Moments of functions of a grid by its log density, up to a constant."""
    p = jax.nn.softmax(log_p.ravel()).reshape(log_p.shape)
    found = {}
    for site, x in values.items():
        mean = (p * x).sum()
        sd = jnp.sqrt((p * (x - mean) ** 2).sum())
        found[site] = told([float(mean)], [float(sd)], 1.0, 1e9)
    return found


def four_together(y: Any) -> None:
    """Infer scales and correlations of four numbers."""
    mean = sample("mean", dist.Normal(jnp.zeros(4), 3.0).to_event(1))
    spread = sample("spread", dist.HalfCauchy(2 * jnp.ones(4)).to_event(1))
    root = sample("root", dist.LKJCholesky(4, 1.0))
    with numpyro.plate("data", len(y)):
        sample("y", dist.MultivariateNormal(mean, scale_tril=spread[:, None] * root), obs=y)


def three_outcomes(x: Any, y: Any) -> None:
    """Regress three outcomes at once."""
    unit = jnp.array([1.0, 1e3, 1e-3])
    intercept = sample("intercept", dist.Normal(jnp.zeros(3), 5 * unit).to_event(1))
    slope = sample("slope", dist.Normal(jnp.zeros(3), 5 * unit).to_event(1))
    spread = sample("spread", dist.HalfNormal(2 * unit).to_event(1))
    root = sample("root", dist.LKJCholesky(3, 2.0))
    with numpyro.plate("data", len(y)):
        mean = intercept + x[:, None] * slope
        sample("y", dist.MultivariateNormal(mean, scale_tril=spread[:, None] * root), obs=y)


def aftershocks(y: Any) -> None:
    """Let counts raise one another."""
    base = sample("base", dist.Gamma(2.0, 1.0))
    offspring = sample("offspring", dist.Beta(2.0, 2.0))
    stays = sample("stays", dist.Beta(2.0, 2.0))
    apart = jnp.arange(len(y))[:, None] - jnp.arange(len(y)) - 1
    weight = jnp.where(apart >= 0, (1 - stays) * stays ** jnp.maximum(apart, 0), 0.0)
    sample("y", dist.Poisson(base + offspring * (weight @ y)).to_event(1), obs=y.astype(int))


def tides(y: Any, known: Any) -> None:
    """Filter the rotation out (Kalman): given four numbers its law is Gaussian."""
    speed = sample("speed", dist.Normal(0.6, 0.2))
    damping = sample("damping", dist.Beta(20.0, 1.0))
    push = sample("push", dist.HalfNormal(1.0))
    noise = sample("noise", dist.HalfNormal(1.0))
    cosine = damping * jnp.cos(speed)
    sine = damping * jnp.sin(speed)
    turn = jnp.stack([jnp.stack([cosine, -sine]), jnp.stack([sine, cosine])])

    def step(belief: Any, seen: Any) -> Any:
        mean, covariance = belief
        value, is_known = seen
        variance = covariance[0, 0] + noise**2
        gain = is_known * covariance[:, 0] / variance
        log_p = is_known * dist.Normal(mean[0], jnp.sqrt(variance)).log_prob(value)
        mean = mean + gain * (value - mean[0])
        covariance = covariance - jnp.outer(gain, covariance[0])
        return (turn @ mean, turn @ covariance @ turn.T + push**2 * jnp.eye(2)), log_p

    _, log_p = jax.lax.scan(step, (jnp.zeros(2), 4.0 * jnp.eye(2)), (y, known))
    numpyro.factor("y", log_p.sum())


def claims(group: Any, exposed: Any, y: Any) -> None:
    """Draw rates of groups around a mean."""
    mean = sample("mean", dist.Normal(0.0, 10.0))
    spread = sample("spread", dist.HalfNormal(1.0))
    size = sample("size", dist.LogNormal(0.0, 1.0))
    with numpyro.plate("groups", 12):
        rate = sample("rate", dist.Normal(mean, spread))
    expected = jnp.exp(rate[group]) * exposed
    sample("y", dist.NegativeBinomial2(expected, size).to_event(1), obs=y.astype(int))


def growth(time: Any, y: Any) -> None:
    """Fit the logistic curve."""
    capacity = sample("capacity", dist.LogNormal(6.0, 2.0))
    start = sample("start", dist.LogNormal(2.0, 2.0))
    rate = sample("rate", dist.LogNormal(-1.0, 1.0))
    noise = sample("noise", dist.HalfNormal(1.0))
    size = capacity / (1 + (capacity / start - 1) * jnp.exp(-rate * time))
    sample("y", dist.LogNormal(jnp.log(size), noise).to_event(1), obs=y)


def three_heaps(y: Any) -> None:
    """Sum out where a number belongs."""
    share = sample("share", dist.Dirichlet(2 * jnp.ones(3)))
    ordered = dist.transforms.OrderedTransform()
    first = dist.Normal(jnp.zeros(3), 2.0).to_event(1)
    place = sample("place", dist.TransformedDistribution(first, ordered))
    width = sample("width", dist.HalfNormal(1.0))
    heaps = dist.MixtureSameFamily(dist.Categorical(share), dist.Normal(place, width))
    with numpyro.plate("data", len(y)):
        sample("y", heaps, obs=y)


def faint_by_grid(y: Any) -> dict[str, Any]:
    """Sum over a grid of means and noises."""
    mean = jnp.linspace(-4e-5, 8e-5, 1201)[:, None]
    noise = jnp.linspace(1e-7, 8e-5, 1201)
    log_p = dist.Normal(mean[..., None], noise[:, None]).log_prob(y).sum(-1)
    log_p = log_p + dist.Normal(0.0, 1e-4).log_prob(mean) + dist.HalfNormal(1e-4).log_prob(noise)
    return by_grid(log_p, {"mean": mean, "noise": noise})


MODELS: dict[str, Model] = {name: globals()[name] for name in SETS if name in globals()}
REPARAMETERISED = {
    "crossed": {"of_age": STANDARDISED, "of_state": STANDARDISED},
    "noisy_inputs": {"true": STANDARDISED},
    "claims": {"rate": STANDARDISED},
}
APART = ("raw",)  # auxiliary
BY_GRID = {"bearings": bearings_by_grid, "faint": faint_by_grid}


def told(mean: list[float], sd: list[float], r_hat: float, least: float) -> dict[str, Any]:
    """What is kept of a site: moments of its numbers in a row, and how well they are known."""
    return {"mean": mean, "sd": sd, "r_hat": r_hat, "ess": least}


def reference(name: str) -> dict[str, Any]:
    """Mean and standard deviation of every number of every site."""
    data = {n: jnp.asarray(x) for n, x in data_of(name).items()}
    if name in BY_GRID:
        return BY_GRID[name](**data)
    model = MODELS[name]
    if name in REPARAMETERISED:
        model = numpyro.handlers.reparam(model, config=REPARAMETERISED[name])
    chains = MCMC(
        NUTS(model, target_accept_prob=0.95),
        num_warmup=1000,
        num_samples=2500,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
    chains.run(jax.random.PRNGKey(0), **data)
    samples = chains.get_samples(group_by_chain=True)
    sites = [n for n in samples if n not in APART and not n.endswith("_decentered")]
    return {n: of_draws(n, np.asarray(samples[n])) for n in sites}


def of_draws(site: str, draws: np.ndarray) -> dict[str, Any]:
    """Moments of draws `(chains, S, *event)`."""
    x = np.log(draws) if site in LOGARITHMS else draws
    known = summary({site: x}, prob=0.9)[site]
    mean = np.atleast_1d(x.mean((0, 1))).ravel().tolist()
    sd = np.atleast_1d(x.std((0, 1))).ravel().tolist()
    return told(mean, sd, float(np.nanmax(known["r_hat"])), float(np.nanmin(known["n_eff"])))


def main() -> None:
    """Make the references that are asked for anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*MODELS, *BY_GRID])
    names = parser.parse_args().names
    check_names("program", names, [*MODELS, *BY_GRID])
    jax.config.update("jax_enable_x64", True)
    for name in names:
        found = reference(name)
        known = json.loads(REFERENCE.read_text(encoding="utf-8")) if REFERENCE.exists() else {}
        known[name] = found
        with atomic(REFERENCE) as file:
            file.write_text(json.dumps(known), encoding="utf-8")
        worst = max(x["r_hat"] for x in found.values())
        least = min(x["ess"] for x in found.values())
        print(f"{name}: R-hat {worst:.3f}, {least:.0f} effective draws", flush=True)


if __name__ == "__main__":
    run_script(main)
