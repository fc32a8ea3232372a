"""Linear regressions: y ~ N(X beta, sigma).

Flat priors of the published models are wide proper ones here: normal for coefficients, half-normal
for sigma. They move no posterior mean by more than .0012 of its standard deviation.
"""

from collections.abc import Callable, Mapping

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from aif_dcpc.experiments.posteriordb.posterior import Data, Posterior, Program, plainly

Rows = tuple[Tensor, Tensor]  # y `(N,)`, X `(N, D)`
BETA_SIGMA = plainly(vectors="beta", scalars="sigma")


def linear(y: Tensor, x: Tensor, width: float, noise: TorchDistribution) -> Program:
    """Regression with independent N(0, width) coefficients and the given law of sigma."""

    def program() -> None:
        beta = pyro.sample("beta", dist.Normal(torch.zeros(x.shape[1]), width).to_event(1))
        sigma = pyro.sample("sigma", noise)
        with pyro.plate("rows", len(y)):
            pyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)

    return program


def columns(*parts: Tensor) -> Tensor:
    """A design matrix with a column of ones before the given ones."""
    return torch.stack([torch.ones_like(parts[0]), *parts], -1)


def levels(values: Tensor, *which: int) -> list[Tensor]:
    """Indicator columns, one per level."""
    return [(values == level).to(values.dtype) for level in which]


# -- designs ---------------------------------------------------------------------------------------


def kidscore_interaction(d: Data) -> Rows:
    """Scores by high school, IQ and their product."""
    return d["kid_score"], columns(d["mom_hs"], d["mom_iq"], d["mom_hs"] * d["mom_iq"])


def kidscore_momhs(d: Data) -> Rows:
    """Scores by high school alone."""
    return d["kid_score"], columns(d["mom_hs"])


def kidscore_mom_work(d: Data) -> Rows:
    """Scores by the mother's work, four levels."""
    return d["kid_score"], columns(*levels(d["mom_work"], 2, 3, 4))


def earn_height(d: Data) -> Rows:
    """Earnings in dollars by height."""
    return d["earn"], columns(d["height"])


def log10earn_height(d: Data) -> Rows:
    """Decimal logarithms of earnings by height."""
    return d["earn"].log10(), columns(d["height"])


def logearn_interaction(d: Data) -> Rows:
    """Logarithms of earnings by height, sex and their product."""
    return d["earn"].log(), columns(d["height"], d["male"], d["height"] * d["male"])


def mesquite(d: Data) -> Rows:
    """Weights of bushes by six measurements."""
    names = ("diam1", "diam2", "canopy_height", "total_height", "density", "group")
    return d["weight"], columns(*(d[name] for name in names))


def logmesquite_logvash(d: Data) -> Rows:
    """Logarithms of weights by volume, area, shape, height and group."""
    area = d["diam1"] * d["diam2"]
    parts = (area * d["canopy_height"], area, d["diam1"] / d["diam2"], d["total_height"])
    return d["weight"].log(), columns(*(p.log() for p in parts), d["group"])


def nes(d: Data) -> Rows:
    """Party identification by ideology, race, age, education, gender and income."""
    ages = levels(d["age_discrete"], 2, 3, 4)
    rest = (d["educ1"], d["gender"], d["income"])
    return d["partyid7"], columns(d["real_ideo"], d["race_adj"], *ages, *rest)


def with_wide_priors(
    design: Callable[[Data], Rows], width: float, noise: float | None = None
) -> Callable[[Data], Program]:
    """A regression with N(0, width) coefficients; sigma half-normal of scale `noise`, else C+(2.5)."""

    def program(data: Data) -> Program:
        law = dist.HalfCauchy(torch.tensor(2.5)) if noise is None else half_normal(noise)
        return linear(*design(data), width, law)

    return program


def half_normal(scale: float) -> TorchDistribution:
    """N(0, scale) cut to positive values, in the default dtype of now."""
    return dist.HalfNormal(torch.tensor(scale))


# -- others ----------------------------------------------------------------------------------------


def blr(d: Data) -> Program:
    """Regression without an intercept, N(0, 10) coefficients and sigma ~ N+(10)."""
    return linear(d["y"], d["X"], 10.0, half_normal(10.0))


def kilpisjarvi(d: Data) -> Program:
    """Summer temperatures by year, the year not centred."""
    x, y = d["x"], d["y"]

    def program() -> None:
        alpha = pyro.sample("alpha", dist.Normal(d["pmualpha"], d["psalpha"]))
        beta = pyro.sample("beta", dist.Normal(d["pmubeta"], d["psbeta"]))
        sigma = pyro.sample("sigma", half_normal(100.0))
        with pyro.plate("years", len(y)):
            pyro.sample("y", dist.Normal(alpha + beta * x, sigma), obs=y)

    return program


def diamonds(d: Data) -> Program:
    """Logarithms of prices by 24 centred columns."""
    rest = d["X"][:, 1:]
    x, y = rest - rest.mean(0), d["Y"]

    def program() -> None:
        b = pyro.sample("b", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
        intercept = pyro.sample("Intercept", dist.StudentT(3.0, torch.tensor(8.0), 10.0))
        half = dist.FoldedDistribution(dist.StudentT(3.0, torch.tensor(0.0), 10.0))
        sigma = pyro.sample("sigma", half)
        with pyro.plate("rows", len(y)):
            pyro.sample("Y", dist.Normal(intercept + x @ b, sigma), obs=y)

    return program


# name -> design, width of the coefficients' prior, scale of sigma's half-normal (None: C+(2.5))
WIDE: Mapping[str, tuple[Callable[[Data], Rows], float, float | None]] = {
    "kidiq-kidscore_interaction": (kidscore_interaction, 1000.0, None),
    "kidiq-kidscore_momhs": (kidscore_momhs, 1000.0, None),
    "kidiq_with_mom_work-kidscore_mom_work": (kidscore_mom_work, 1000.0, 1000.0),
    "earnings-earn_height": (earn_height, 1e6, 1e6),
    "earnings-log10earn_height": (log10earn_height, 100.0, 100.0),
    "earnings-logearn_interaction": (logearn_interaction, 100.0, 100.0),
    "mesquite-mesquite": (mesquite, 1e4, 1e4),
    "mesquite-logmesquite_logvash": (logmesquite_logvash, 100.0, 100.0),
    "nes1972-nes": (nes, 100.0, 100.0),
    "nes1996-nes": (nes, 100.0, 100.0),
}
FLAT = "wide proper priors in place of flat ones"
REGRESSIONS = (
    *(Posterior(name, with_wide_priors(*row), BETA_SIGMA, FLAT) for name, row in WIDE.items()),
    Posterior("sblrc-blr", blr, BETA_SIGMA),
    Posterior(
        "kilpisjarvi_mod-kilpisjarvi", kilpisjarvi, plainly(scalars="alpha beta sigma"), FLAT
    ),
    Posterior("diamonds-diamonds", diamonds, plainly(vectors="b", scalars="Intercept sigma")),
)
