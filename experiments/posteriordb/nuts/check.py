"""Check every NumPyro model against the log density written by hand (`densities.py`).

    python -m aif_dcpc.experiments.posteriordb.nuts.check [NAME ...]

At 20 points around the reference means, differences of log densities agree to 1e-4 of their size,
or to 1e-3 where a differential equation is solved in few steps, in double precision. The two paths
that are standardised by hand are held to their centred forms too, by the determinant of the change;
`LocScaleReparam` is NumPyro's own.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from numpyro.distributions import biject_to, constraints
from numpyro.handlers import seed, substitute, trace
from numpyro.infer import init_to_uniform
from scipy.stats import beta, norm

from aif_dcpc.commands.command import check_names, run_script
from aif_dcpc.experiments.posteriordb import steps
from aif_dcpc.experiments.posteriordb.densities import DENSITIES, Density, Values
from aif_dcpc.experiments.posteriordb.files import reference
from aif_dcpc.experiments.posteriordb.nuts.run import set_up, targets
from aif_dcpc.experiments.posteriordb.nuts.target import NONCENTRED, Model, Target

POINTS = 20
TOLERANCE = 1e-4
# narrower clouds where independent scatter would drown every prior in the data's log density
NARROW = {
    "mcycle_gp-accel_gp": 0.05,
    "GLM_Poisson_Data-GLM_Poisson_model": 0.02,
    "gp_pois_regr-gp_pois_regr": 0.3,
}
PATHS = ("level", "h")
Point = dict[str, NDArray[np.float64]]


def centre(site: str, size: int, known: Mapping[str, float]) -> NDArray[np.float64]:
    """The reference's value of one site, `(size,)`; 0 where a standardised one has none."""
    if site == "fraction":
        return np.array([known["beta1"] / (1 - known["alpha1"])])
    if site == "persistence":
        return np.array([(1 + known["phi"]) / 2])
    name = {"log_a": "a"}.get(site, site)
    found = [known.get(name if size == 1 else f"{name}[{i + 1}]", 0.0) for i in range(size)]
    return np.log(found) if site == "log_a" else np.array(found)


def sites(model: Model, target: Target) -> dict[str, Any]:
    """The latent sample statements of a model."""
    started = substitute(seed(model, 0), substitute_fn=init_to_uniform)
    found = trace(started).get_trace(target.data())
    return {
        name: site
        for name, site in found.items()
        if site["type"] == "sample" and not site["is_observed"]
    }


def scattered(site: str, message: Any, target: Target, rng: np.random.Generator) -> Any:
    """One value: two standard deviations wide on the line, else .3 in unconstrained coordinates."""
    name = target.posteriors[0]
    known = reference()[name]["parameters"]
    shape = np.shape(message["value"])
    size = int(np.prod(shape))
    noise = NARROW.get(name, 1.0) * rng.standard_normal(size)
    middle = centre(site, size, {k: v["mean"] for k, v in known.items()})
    support = message["fn"].support
    if support in (constraints.real, constraints.real_vector):
        width = centre(site, size, {k: v["sd"] for k, v in known.items()})
        return (middle + 2 * np.where(width > 0, width, 0.25) * noise).reshape(shape)
    bijection = biject_to(support)
    free = bijection.inv(jnp.asarray(middle.reshape(shape)))
    return np.asarray(bijection(free + 0.3 * noise[: free.size].reshape(free.shape)))


def by_numpyro(model: Any, target: Target, point: Point) -> float:
    """NumPyro's log joint at one point."""
    found = trace(seed(substitute(model, point), 0)).get_trace(target.data())
    values = [s["fn"].log_prob(s["value"]).sum() for s in found.values() if s["type"] == "sample"]
    return float(sum(values))


def by_hand(name: str, target: Target, point: Point) -> float:
    """The log density by hand at one point, in the coordinates of `densities.py`."""
    values: dict[str, Any] = dict(point)
    for pair in ("mu", "phi", "lambda"):
        if pair in point and point[pair].shape == (2,):
            low, high = point[pair]
            values |= {f"{pair}_low": low, f"{pair}_gap": high - low}
            values[f"{pair}_middle"] = (low + high) / 2
    return (DENSITIES | SIMULATED)[name](values, target.data())


def discrepancy(ours: list[float], theirs: list[float]) -> float:
    """Largest error of differences to the first point, relative to their size (at least 1 nat)."""
    one = np.array(ours[1:]) - ours[0]
    two = np.array(theirs[1:]) - theirs[0]
    return float((np.abs(one - two) / np.maximum(np.abs(two), 1)).max())


def check(name: str, target: Target) -> str:
    """Compare one posterior; one line of text.

    Raises:
        AssertionError: they differ.
    """
    rng = np.random.default_rng(0)
    model, *others = (m for form, m in target.forms.items() if form != NONCENTRED)
    latent = sites(model, target)
    cloud = [{s: scattered(s, m, target, rng) for s, m in latent.items()} for _ in range(POINTS)]
    theirs = [by_hand(name, target, point) for point in cloud]
    error = 0.0
    for form in (model, *others):
        ours = [by_numpyro(form, target, point) for point in cloud]
        error = max(error, discrepancy(ours, theirs))
    if name in LOG_DETERMINANTS:
        error = max(error, standardised_discrepancy(name, target, cloud, rng))
    bound = steps.TOLERANCE if name in steps.SOLVED else TOLERANCE
    assert error < bound, f"{name}: {error:.1e}"
    return f"{name:50s} {error:.0e} over {max(theirs) - min(theirs):9.1f} nats"


def standardised_discrepancy(
    name: str, target: Target, cloud: list[Point], rng: np.random.Generator
) -> float:
    """The same for the non-centred form, at the path that standard normal values lead to."""
    ours = []
    theirs = []
    for point in cloud:
        rest = {k: v for k, v in point.items() if k not in PATHS}
        rest["standard"] = rng.standard_normal(len(target.data()["y"]))
        found = trace(seed(substitute(target.forms[NONCENTRED], rest), 0)).get_trace(target.data())
        reached = point | {k: np.asarray(found[k]["value"]) for k in PATHS if k in found}
        ours.append(by_numpyro(target.forms[NONCENTRED], target, rest))
        steps = len(rest["standard"])
        theirs.append(by_hand(name, target, reached) + LOG_DETERMINANTS[name](point, steps))
    return discrepancy(ours, theirs)


# -- the simulated posteriors by hand --------------------------------------------------------------


def local_level(s: Values, d: Values) -> float:
    """A random walk, seen with noise."""
    total = norm.logpdf([s["drift"], s["noise"]]).sum() + norm.logpdf(s["level"][0], 0, 2)
    total += norm.logpdf(np.diff(s["level"]), 0, s["drift"]).sum()
    return float(total + norm.logpdf(d["y"], s["level"], s["noise"]).sum())


def volatility(s: Values, d: Values) -> float:
    """An autoregression of log variances."""
    mu, sigma = s["mu"], s["sigma"]
    phi = 2 * s["persistence"] - 1
    total = norm.logpdf(mu, 0, 2) + beta.logpdf(s["persistence"], 20, 1.5)
    total += norm.logpdf(sigma, 0, 0.5) + norm.logpdf(s["h"][0], mu, sigma / np.sqrt(1 - phi**2))
    for before, now in zip(s["h"], s["h"][1:], strict=False):
        total += norm.logpdf(now, mu + phi * (before - mu), sigma)
    return float(total + norm.logpdf(d["y"], 0, np.exp(s["h"] / 2)).sum())


def funnel(s: Values, _: Values) -> float:
    """Nine values of one scale."""
    return float(norm.logpdf(s["v"], 0, 3) + norm.logpdf(s["x"], 0, np.exp(s["v"] / 2)).sum())


SIMULATED: dict[str, Density] = {
    "local_level": local_level,
    "stochastic_volatility": volatility,
    "funnel": funnel,
}


LOG_DETERMINANTS: dict[str, Callable[[Values, int], float]] = {
    "local_level": lambda s, steps: (steps - 1) * np.log(s["drift"]),
    "stochastic_volatility": lambda s, steps: (
        steps * np.log(s["sigma"]) - np.log(1 - (2 * s["persistence"] - 1) ** 2) / 2
    ),
}


def main() -> None:
    """Print one line per posterior."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = {target.posteriors[0]: target for target in targets().values()}
    parser.add_argument("names", nargs="*", default=list(known))
    args = parser.parse_args()
    check_names("posterior", args.names, known)
    set_up(double=True)
    for name in args.names:
        print(check(name, known[name]), flush=True)


if __name__ == "__main__":
    run_script(main)
