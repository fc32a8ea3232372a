"""Linear regressions: y ~ N(X beta, sigma), with the wide proper priors of the programs."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from aif_dcpc.experiments.posteriordb.nuts.target import Data, Model, Target, target

Rows = tuple[Any, Any]  # y `(N,)`, X `(N, D)`
Design = Callable[[Data], Rows]


def linear(design: Design, width: float, noise: Any, *names: str) -> Target:
    """A regression with N(0, width) coefficients and a law of sigma."""

    def model(d: Data) -> None:
        y, x = design(d)
        beta = numpyro.sample("beta", dist.Normal(0, width).expand([x.shape[1]]))
        sigma = numpyro.sample("sigma", noise)
        numpyro.sample("y", dist.Normal(jnp.asarray(x) @ beta, sigma), obs=y)

    return target(*names, model=model, parameters="beta sigma")


def columns(*parts: Any) -> Any:
    """A design matrix with a column of ones before the given ones."""
    return np.stack([np.ones(len(parts[0])), *parts], -1).astype(float)


def levels(values: Any, *which: int) -> list[Any]:
    """Indicator columns, one per level."""
    return [values == level for level in which]


def bushes(d: Data) -> Rows:
    """Weights by six measurements."""
    names = ("diam1", "diam2", "canopy_height", "total_height", "density", "group")
    return d["weight"], columns(*(d[name] for name in names))


def log_bushes(d: Data) -> Rows:
    """Logarithms of weights by volume, area, shape, height and group."""
    area = d["diam1"] * d["diam2"]
    logs = (area * d["canopy_height"], area, d["diam1"] / d["diam2"], d["total_height"])
    return np.log(d["weight"]), columns(*map(np.log, logs), d["group"])


def nes(d: Data) -> Rows:
    """Party identification by ideology, race, age, education, gender and income."""
    ages = levels(d["age_discrete"], 2, 3, 4)
    rest = (d["educ1"], d["gender"], d["income"])
    return d["partyid7"], columns(d["real_ideo"], d["race_adj"], *ages, *rest)


def kilpisjarvi(d: Data) -> None:
    """Summer temperatures by year, the year not centred."""
    alpha = numpyro.sample("alpha", dist.Normal(d["pmualpha"], d["psalpha"]))
    beta = numpyro.sample("beta", dist.Normal(d["pmubeta"], d["psbeta"]))
    sigma = numpyro.sample("sigma", dist.HalfNormal(100.0))
    numpyro.sample("y", dist.Normal(alpha + beta * jnp.asarray(d["x"]), sigma), obs=d["y"])


def diamonds(d: Data) -> None:
    """Logarithms of prices by 24 centred columns."""
    rest = d["X"][:, 1:]
    x = jnp.asarray(rest - rest.mean(0))
    b = numpyro.sample("b", dist.Normal(0, 1).expand([x.shape[1]]))
    intercept = numpyro.sample("Intercept", dist.StudentT(3.0, 8.0, 10.0))
    sigma = numpyro.sample("sigma", dist.FoldedDistribution(dist.StudentT(3.0, 0.0, 10.0)))
    numpyro.sample("Y", dist.Normal(intercept + x @ b, sigma), obs=d["Y"])


def interaction(d: Data) -> Rows:
    """Scores by high school, IQ and their product."""
    return d["kid_score"], columns(d["mom_hs"], d["mom_iq"], d["mom_hs"] * d["mom_iq"])


def log_earnings(d: Data) -> Rows:
    """Logarithms of earnings by height, sex and their product."""
    return np.log(d["earn"]), columns(d["height"], d["male"], d["height"] * d["male"])


CAUCHY = 2.5
WIDE: list[tuple[str, Design, float, float | None]] = [
    ("kidiq-kidscore_interaction", interaction, 1e3, None),
    ("kidiq-kidscore_momhs", lambda d: (d["kid_score"], columns(d["mom_hs"])), 1e3, None),
    (
        "kidiq_with_mom_work-kidscore_mom_work",
        lambda d: (d["kid_score"], columns(*levels(d["mom_work"], 2, 3, 4))),
        1e3,
        1e3,
    ),
    ("earnings-earn_height", lambda d: (d["earn"], columns(d["height"])), 1e6, 1e6),
    (
        "earnings-log10earn_height",
        lambda d: (np.log10(d["earn"]), columns(d["height"])),
        100.0,
        100.0,
    ),
    ("earnings-logearn_interaction", log_earnings, 100.0, 100.0),
    ("mesquite-mesquite", bushes, 1e4, 1e4),
    ("mesquite-logmesquite_logvash", log_bushes, 100.0, 100.0),
    ("nes1972-nes", nes, 100.0, 100.0),
    ("nes1996-nes", nes, 100.0, 100.0),
    ("sblrc-blr", lambda d: (d["y"], d["X"]), 10.0, 10.0),
]
MODELS: dict[str, tuple[Model, str]] = {
    "kilpisjarvi_mod-kilpisjarvi": (kilpisjarvi, "alpha beta sigma"),
    "diamonds-diamonds": (diamonds, "b Intercept sigma"),
}


def targets() -> list[Target]:
    """All regressions, by their names."""
    found = []
    for name, design, width, scale in WIDE:
        noise = dist.HalfCauchy(CAUCHY) if scale is None else dist.HalfNormal(scale)
        found.append(linear(design, width, noise, name))
    found += [target(n, model=m, parameters=p) for n, (m, p) in MODELS.items()]
    return found
