"""Eighteen of the posteriors declared by `GraphicalModel.add_site`, named as in the programs.

All rows of a data set lie in the events of one data point, B = 1; the autoregression is a series of
slices. Kernels take values with leading axes `(K, B)`: a scalar site is `(K, B)`, a vector
`(K, B, n)`, and an axis for the rows comes last.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Dirichlet,
    Distribution,
    Gamma,
    HalfCauchy,
    HalfNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Uniform,
)

from aif_dcpc.experiments.posteriordb.hierarchies import LARGEST_LOG
from aif_dcpc.experiments.posteriordb.laws import (
    Arma11,
    CutNormal,
    Garch11,
    HiddenMarkov,
    LowerOfPair,
)
from aif_dcpc.experiments.posteriordb.posterior import load
from aif_dcpc.experiments.posteriordb.processes import dogs_history, factor, squared_exponential
from aif_dcpc.experiments.posteriordb.regressions import kidscore_interaction, mesquite
from aif_dcpc.inference import GraphicalModel, lag
from aif_dcpc.inference.model.graph import Lag

Declared = tuple[GraphicalModel, dict[str, Tensor]]


def row(value: Tensor) -> Tensor:
    """A scalar site with an axis for the rows, `(K, B, 1)`."""
    return value.unsqueeze(-1)


def many(law: Distribution, size: int) -> Distribution:
    """Independent elements along a last axis, one law for each data point: `(K, B, size)`."""
    shape = law.batch_shape
    return law.expand((*shape[:-1], size) if shape and shape[-1] == 1 else (*shape, size))


def roots(model: GraphicalModel, **laws: Distribution) -> None:
    """Declare sites without parents."""
    for name, law in laws.items():
        model.add_site(name, lambda law=law: law)


def number(value: float) -> Tensor:
    """A scalar in the default dtype of now."""
    return torch.tensor(value)


# -- regressions -----------------------------------------------------------------------------------


def regression(y: Tensor, x: Tensor, width: float, noise: Distribution) -> Declared:
    """Coefficients and sigma; y has all rows."""
    model = GraphicalModel()
    roots(model, beta=Normal(torch.zeros(x.shape[1]), width), sigma=noise)
    model.add_site("y", lambda b, s: Normal(b @ x.mT, row(s)), parents=["beta", "sigma"])
    return model, {"y": y[None]}


def kidscore() -> Declared:
    """Scores by high school, IQ and their product."""
    return regression(*kidscore_interaction(load("kidiq")), 1000.0, HalfCauchy(number(2.5)))


def bushes() -> Declared:
    """Weights of mesquite bushes."""
    return regression(*mesquite(load("mesquite")), 1e4, HalfNormal(number(1e4)))


def dogs() -> Declared:
    """Avoidance learning; the event is dogs by trials."""
    y = load("dogs")["y"]
    avoided, shocked = dogs_history(y)
    model = GraphicalModel()
    roots(model, beta=Normal(torch.zeros(3), 100.0))

    def trials(beta: Tensor) -> Distribution:
        one, two, three = beta[..., None, None].unbind(-3)
        return Bernoulli(logits=one + two * avoided + three * shocked)

    model.add_site("y", trials, parents=["beta"])
    return model, {"y": y[None]}


# -- series ----------------------------------------------------------------------------------------


def autoregression() -> Declared:
    """A slice for each step; the first ones have a law without latents, since they are given."""
    d = load("arK")
    order = int(d["K"])
    model = GraphicalModel()
    roots(
        model,
        alpha=Normal(number(0.0), 10.0),
        beta=Normal(torch.zeros(order), 10.0),
        sigma=HalfCauchy(number(2.5)),
    )

    def step(alpha: Tensor, beta: Tensor, sigma: Tensor, *before: Tensor) -> Distribution:
        return Normal(alpha + (beta * torch.stack(before, -1)).sum(-1), sigma)

    def given(alpha: Tensor, *_: Tensor) -> Distribution:
        return Normal(torch.zeros_like(alpha), 1.0)

    lags = [lag("y", k) for k in range(1, order + 1)]
    parents: list[str | Lag] = ["alpha", "beta", "sigma", *lags]
    model.add_site("y", step, parents=parents, initial=given, scope="slice")
    return model, {"y": d["y"][None]}


def arma() -> Declared:
    """ARMA(1, 1); the event is the series."""
    y = load("arma")["y"]
    model = GraphicalModel()
    roots(
        model,
        mu=Normal(number(0.0), 10.0),
        phi=Normal(number(0.0), 2.0),
        theta=Normal(number(0.0), 2.0),
        sigma=HalfCauchy(number(2.5)),
    )
    parents = ["mu", "phi", "theta", "sigma"]
    model.add_site("y", lambda m, p, t, s: Arma11(m, p, t, s, len(y)), parents=parents)
    return model, {"y": y[None]}


def garch() -> Declared:
    """GARCH(1, 1), beta1 as a fraction of 1 - alpha1; the event is the series."""
    d = load("garch")
    y, first = d["y"], float(d["sigma1"])
    model = GraphicalModel()
    roots(
        model,
        mu=Normal(number(0.0), 100.0),
        alpha0=HalfNormal(number(100.0)),
        alpha1=Beta(number(1.0), number(2.0)),
        fraction=Uniform(number(0.0), 1.0),
    )
    model.add_deterministic("beta1", lambda f, a: f * (1 - a), ["fraction", "alpha1"])
    parents = ["mu", "alpha0", "alpha1", "beta1"]
    model.add_site("y", lambda m, a, b, c: Garch11(m, a, b, c, first, len(y)), parents=parents)
    return model, {"y": y[None]}


def hidden_markov() -> Declared:
    """Two hidden states, summed out; the event is the series."""
    y = load("hmm_example")["y"]
    model = GraphicalModel()
    uniform = Dirichlet(torch.ones(2))
    roots(model, theta1=uniform, theta2=uniform, mu_low=LowerOfPair(3.0, 10.0))
    model.add_site("mu_gap", lambda low: CutNormal(10.0 - low, 1.0), parents=["mu_low"])

    def series(one: Tensor, two: Tensor, low: Tensor, gap: Tensor) -> Distribution:
        emissions = Normal(torch.stack([low, low + gap], -1), 1.0)
        return HiddenMarkov(torch.stack([one, two], -2), emissions, len(y))

    model.add_site("y", series, parents=["theta1", "theta2", "mu_low", "mu_gap"])
    return model, {"y": y[None]}


# -- hierarchies -----------------------------------------------------------------------------------


def schools(*, centered: bool) -> Declared:
    """Eight schools, effects as they are or standardised."""
    d = load("eight_schools")
    model = GraphicalModel()
    roots(model, mu=Normal(number(0.0), 5.0), tau=HalfCauchy(number(5.0)))
    effect = levels(model, "theta" if centered else "theta_trans", ("mu", "tau"), 8, centered)
    model.add_site("y", lambda theta: Normal(theta, d["sigma"]), parents=[effect])
    return model, {"y": d["y"][None]}


def levels(
    model: GraphicalModel, name: str, parents: Sequence[str], size: int, centered: bool
) -> str:
    """Declare effects around a mean with a spread; the name of the site that holds them."""
    if centered:
        model.add_site(name, lambda m, s: many(Normal(row(m), row(s)), size), parents=parents)
        return name
    roots(model, **{name: Normal(torch.zeros(size), 1.0)})
    effect = f"{name}_effect"
    model.add_deterministic(effect, lambda m, s, z: row(m) + row(s) * z, [*parents, name])
    return effect


def radon(*, centered: bool, uranium: bool) -> Declared:
    """Radon in houses by county and floor, and perhaps by uranium."""
    d = load("radon_mn")
    county, y = d["county_idx"].long() - 1, d["log_radon"]
    slopes = Normal(torch.zeros(2), 10.0) if uranium else Normal(number(0.0), 10.0)
    spreads = HalfNormal(number(1.0))
    model = GraphicalModel()
    roots(model, mu_alpha=Normal(number(0.0), 10.0), sigma_alpha=spreads, sigma_y=spreads)
    name, parents = "alpha" if centered else "alpha_raw", ("mu_alpha", "sigma_alpha")
    alpha = levels(model, name, parents, int(d["J"]), centered)
    roots(model, beta=slopes)
    x = torch.stack([d["log_uppm"], d["floor_measure"]])

    def houses(alpha: Tensor, beta: Tensor, noise: Tensor) -> Distribution:
        line = beta @ x if uranium else row(beta) * x[1]
        return Normal(alpha[..., county] + line, row(noise))

    model.add_site("log_radon", houses, parents=[alpha, "beta", "sigma_y"])
    return model, {"log_radon": y[None]}


def rats() -> Declared:
    """A line for every rat."""
    d = load("rats_data")
    rat, time, wide = d["rat"].long() - 1, d["x"] - d["xbar"], HalfNormal(number(1e3))
    centre = Normal(number(0.0), 100.0)
    model = GraphicalModel()
    roots(model, mu_alpha=centre, mu_beta=centre)
    roots(model, sigma_alpha=wide, sigma_beta=wide, sigma_y=wide)
    for name in ("alpha", "beta"):
        levels(model, name, (f"mu_{name}", f"sigma_{name}"), int(d["N"]), True)

    def weights(alpha: Tensor, beta: Tensor, noise: Tensor) -> Distribution:
        return Normal(alpha[..., rat] + beta[..., rat] * time, row(noise))

    model.add_site("y", weights, parents=["alpha", "beta", "sigma_y"])
    return model, {"y": d["y"][None]}


def seeds() -> Declared:
    """Germinated seeds, a random effect for every plate."""
    d = load("seeds_data")
    x = torch.stack([torch.ones_like(d["x1"]), d["x1"], d["x2"], d["x1"] * d["x2"]])
    names = ("alpha0", "alpha1", "alpha2", "alpha12")
    model = GraphicalModel()
    roots(model, **dict.fromkeys(names, Normal(number(0.0), 1.0)), sigma=HalfCauchy(number(1.0)))
    size = len(d["n"])
    model.add_site(
        "b",
        lambda s: Normal(torch.zeros(size), row(s).expand(*s.shape, size)),
        parents=["sigma"],
    )

    def counts(b: Tensor, *alphas: Tensor) -> Distribution:
        return Binomial(total_count=d["N"], logits=torch.stack(alphas, -1) @ x + b)

    model.add_site("n", counts, parents=["b", *names])
    return model, {"n": d["n"][None]}


def item_response() -> Declared:
    """Two-parameter logistic model; the event is items by persons."""
    y = load("irt_2pl")["y"]
    items, persons = y.shape
    wide = HalfCauchy(number(2.0))
    model = GraphicalModel()
    roots(model, sigma_theta=wide, sigma_a=wide, mu_b=Normal(number(0.0), 5.0), sigma_b=wide)
    for name, size, scale in (("theta", persons, "sigma_theta"), ("log_a", items, "sigma_a")):
        model.add_site(
            name,
            lambda s, size=size: many(Normal(torch.zeros_like(row(s)), row(s)), size),
            parents=[scale],
        )
    model.add_deterministic("a", lambda log_a: log_a.clamp(max=LARGEST_LOG).exp(), ["log_a"])
    levels(model, "b", ("mu_b", "sigma_b"), items, True)

    def answers(theta: Tensor, a: Tensor, b: Tensor) -> Distribution:
        return Bernoulli(logits=row(a) * (theta.unsqueeze(-2) - row(b)))

    model.add_site("y", answers, parents=["theta", "a", "b"])
    return model, {"y": y[None]}


# -- others ----------------------------------------------------------------------------------------


def mixture() -> Declared:
    """Two Gaussians in order, labels summed out."""
    y = load("low_dim_gauss_mix")["y"]
    model = GraphicalModel()
    roots(
        model,
        mu_middle=Normal(number(0.0), math.sqrt(2.0)),
        mu_gap=HalfNormal(number(2.0 * math.sqrt(2.0))),
        sigma=HalfNormal(torch.full((2,), 2.0)),
        theta=Beta(number(5.0), number(5.0)),
    )

    def points(middle: Tensor, gap: Tensor, sigma: Tensor, theta: Tensor) -> Distribution:
        mu = torch.stack([middle - gap / 2, middle + gap / 2], -1)
        weights = torch.stack([theta, 1 - theta], -1)
        parts = Normal(mu.unsqueeze(-2), sigma.unsqueeze(-2))
        law = MixtureSameFamily(Categorical(weights.unsqueeze(-2)), parts)
        return many(law, len(y))

    model.add_site("y", points, parents=["mu_middle", "mu_gap", "sigma", "theta"])
    return model, {"y": y[None]}


def process() -> Declared:
    """Gaussian-process regression; the event is all points."""
    d = load("gp_pois_regr")
    x = d["x"]
    model = GraphicalModel()
    roots(
        model,
        rho=Gamma(number(25.0), number(4.0)),
        alpha=HalfNormal(number(2.0)),
        sigma=HalfNormal(number(1.0)),
    )

    def points(rho: Tensor, alpha: Tensor, sigma: Tensor) -> Distribution:
        lower = factor(squared_exponential(x, alpha, rho), sigma)
        return MultivariateNormal(torch.zeros_like(x), scale_tril=lower)

    model.add_site("y", points, parents=["rho", "alpha", "sigma"])
    return model, {"y": d["y"][None]}


RADON = "radon_mn-radon_{kind}_intercept_{prefix}centered"
BY_SITES: dict[str, Callable[[], Declared]] = {
    "kidiq-kidscore_interaction": kidscore,
    "mesquite-mesquite": bushes,
    "dogs-dogs": dogs,
    "arK-arK": autoregression,
    "arma-arma11": arma,
    "garch-garch11": garch,
    "hmm_example-hmm_example": hidden_markov,
    "eight_schools-eight_schools_centered": partial(schools, centered=True),
    "eight_schools-eight_schools_noncentered": partial(schools, centered=False),
    **{
        RADON.format(kind=kind, prefix=prefix): partial(
            radon, centered=not prefix, uranium=kind == "hierarchical"
        )
        for kind in ("variable", "hierarchical")
        for prefix in ("", "non")
    },
    "rats_data-rats_model": rats,
    "seeds_data-seeds_stanified_model": seeds,
    "irt_2pl-irt_2pl": item_response,
    "low_dim_gauss_mix-low_dim_gauss_mix": mixture,
    "gp_pois_regr-gp_regr": process,
}
