"""Gaussian processes, generalised linear models and a mixture."""

import math

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
    load,
    plainly,
)

JITTER = 1e-10
# beyond these densities are zero for any purpose, and single precision would overflow
LOG_SCALES = (-30.0, 80.0)
LARGEST_LOG_RATE = 60.0


def squared_exponential(x: Tensor, alpha: Tensor, rho: Tensor) -> Tensor:
    """alpha^2 exp(-(x_i - x_j)^2 / (2 rho^2)) in double precision, `(..., n, n)`."""
    distance = (x[:, None] - x).double()
    alpha, rho = (p.double()[..., None, None] for p in (alpha, rho))
    return alpha**2 * torch.exp(-0.5 * (distance / rho) ** 2)


def factor(covariance: Tensor, diagonal: Tensor) -> Tensor:
    """Cholesky factor of covariance + diagonal I, found in double precision, in the default dtype."""
    n = covariance.shape[-1]
    noise = diagonal.double()[..., None, None] * torch.eye(n, dtype=torch.double)
    lower: Tensor = torch.linalg.cholesky_ex(covariance + noise).L
    return lower.to(torch.get_default_dtype())


def process_regression(d: Data) -> Program:
    """Eleven points of a Gaussian process with noise of variance sigma."""
    x, y = d["x"], d["y"]

    def program() -> None:
        rho = pyro.sample("rho", dist.Gamma(torch.tensor(25.0), torch.tensor(4.0)))
        alpha = pyro.sample("alpha", dist.HalfNormal(torch.tensor(2.0)))
        sigma = pyro.sample("sigma", dist.HalfNormal(torch.tensor(1.0)))
        lower = factor(squared_exponential(x, alpha, rho), sigma)
        pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), scale_tril=lower), obs=y)

    return program


def latent_process(draws: Draws, x: Tensor) -> Tensor:
    """f = L f_tilde at all points, `(..., n)`."""
    jitter = torch.full_like(draws["rho"], JITTER)
    lower = factor(squared_exponential(x, draws["alpha"], draws["rho"]), jitter)
    return (lower @ draws["f_tilde"].unsqueeze(-1)).squeeze(-1)


def process_poisson(d: Data) -> Program:
    """Eleven counts, their log rates a Gaussian process."""
    x, k = d["x"], d["k"]

    def program() -> None:
        rho = pyro.sample("rho", dist.Gamma(torch.tensor(25.0), torch.tensor(4.0)))
        alpha = pyro.sample("alpha", dist.HalfNormal(torch.tensor(2.0)))
        standard = pyro.sample("f_tilde", dist.Normal(torch.zeros(len(x)), 1.0).to_event(1))
        f = latent_process({"rho": rho, "alpha": alpha, "f_tilde": standard}, x)
        with pyro.plate("points", len(x)):
            pyro.sample("k", dist.Poisson(f.exp()), obs=k)

    return program


def process_poisson_parameters(draws: Draws) -> dict[str, Tensor]:
    """Name rho, alpha and the log rates."""
    f = latent_process(draws, load("gp_pois_regr")["x"])
    return {"rho": draws["rho"], "alpha": draws["alpha"]} | elements("f", f)


def spectral_scale(frequency: Tensor, spread: Tensor, length: Tensor) -> Tensor:
    """Square roots of the spectral density, spread (2 pi)^(1/4) sqrt(length) exp(-length^2 w^2 / 4)."""
    return (
        spread * (2 * math.pi) ** 0.25 * length.sqrt() * torch.exp(-((length * frequency) ** 2) / 4)
    )


def expansion(name: str, frequencies: Tensor, basis: Tensor) -> Tensor:
    """Sample a Gaussian process by its coefficients in a basis; its values at the rows."""
    spread_law = dist.FoldedDistribution(dist.StudentT(3.0, torch.tensor(0.0), 36.0))
    spread = pyro.sample(f"sdgp_{name}", spread_law)
    length_law = dist.InverseGamma(torch.tensor(1.124909), torch.tensor(0.0177))
    length = pyro.sample(f"lscale_{name}", length_law)
    standard = pyro.sample(
        f"zgp_{name}", dist.Normal(torch.zeros(len(frequencies)), 1.0).to_event(1)
    )
    return basis @ (spectral_scale(frequencies, spread, length) * standard)


def motorcycle(d: Data) -> Program:
    """Acceleration in a crash: processes for the mean and for the log standard deviation."""
    y = d["Y"]

    def program() -> None:
        intercept = pyro.sample("Intercept", dist.StudentT(3.0, torch.tensor(-13.0), 36.0))
        base = pyro.sample("Intercept_sigma", dist.StudentT(3.0, torch.tensor(0.0), 10.0))
        mean = intercept + expansion("1", d["slambda_1"][:, 0], d["Xgp_1"])
        logs = base + expansion("sigma_1", d["slambda_sigma_1"][:, 0], d["Xgp_sigma_1"])
        with pyro.plate("rows", len(y)):
            pyro.sample("Y", dist.Normal(mean, logs.clamp(*LOG_SCALES).exp()), obs=y)

    return program


# -- generalised linear models and the mixture -----------------------------------------------------


def dogs_history(y: Tensor) -> tuple[Tensor, Tensor]:
    """Earlier avoidances and earlier shocks before every trial, `(dogs, trials)` each."""
    return (1 - y).cumsum(1) - (1 - y), y.cumsum(1) - y


def dogs(d: Data) -> Program:
    """Thirty dogs learn to avoid a shock; the log odds follow what each has met."""
    y = d["y"]
    avoided, shocked = dogs_history(y)

    def program() -> None:
        beta = pyro.sample("beta", dist.Normal(torch.zeros(3), 100.0).to_event(1))
        logits = beta[0] + beta[1] * avoided + beta[2] * shocked
        with pyro.plate("dogs", y.shape[0], dim=-2), pyro.plate("trials", y.shape[1], dim=-1):
            pyro.sample("y", dist.Bernoulli(logits=logits), obs=y)

    return program


def poisson_cubic(d: Data) -> Program:
    """Counts of peregrines by a cubic of the year."""
    year, counts = d["year"], d["C"]

    def program() -> None:
        alpha = pyro.sample("alpha", dist.Uniform(torch.tensor(-20.0), torch.tensor(20.0)))
        b1, b2, b3 = (
            pyro.sample(f"beta{i}", dist.Uniform(torch.tensor(-10.0), torch.tensor(10.0)))
            for i in (1, 2, 3)
        )
        logs = alpha + b1 * year + b2 * year**2 + b3 * year**3
        rates = logs.clamp(max=LARGEST_LOG_RATE).exp()
        with pyro.plate("years", len(counts)):
            pyro.sample("C", dist.Poisson(rates), obs=counts)

    return program


def gauss_mix(d: Data) -> Program:
    """Two Gaussians in order, labels summed out; the means by their middle and difference."""
    y = d["y"]

    def program() -> None:
        middle = pyro.sample("mu_middle", dist.Normal(torch.tensor(0.0), math.sqrt(2.0)))
        gap = pyro.sample("mu_gap", dist.HalfNormal(torch.tensor(2.0 * math.sqrt(2.0))))
        sigma = pyro.sample("sigma", dist.HalfNormal(torch.full((2,), 2.0)).to_event(1))
        theta = pyro.sample("theta", dist.Beta(torch.tensor(5.0), torch.tensor(5.0)))
        mu = torch.stack([middle - gap / 2, middle + gap / 2], -1)
        weights = torch.stack([theta, 1 - theta], -1)
        with pyro.plate("rows", len(y)):
            parts = dist.Normal(mu, sigma)
            pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(weights), parts), obs=y)

    return program


def gauss_mix_parameters(draws: Draws) -> dict[str, Tensor]:
    """Name means, spreads and the weight of the first."""
    middle, half = draws["mu_middle"], draws["mu_gap"] / 2
    mu = torch.stack([middle - half, middle + half], -1)
    return elements("mu", mu) | plainly(vectors="sigma", scalars="theta")(draws)


PROCESSES = (
    Posterior("gp_pois_regr-gp_regr", process_regression, plainly(scalars="rho alpha sigma")),
    Posterior(
        "gp_pois_regr-gp_pois_regr",
        process_poisson,
        process_poisson_parameters,
        "Cholesky factors in double precision, since the jitter is 1e-10",
    ),
    Posterior(
        "mcycle_gp-accel_gp",
        motorcycle,
        plainly(
            vectors="zgp_1 zgp_sigma_1",
            scalars="Intercept sdgp_1 lscale_1 Intercept_sigma sdgp_sigma_1 lscale_sigma_1",
        ),
    ),
    Posterior("dogs-dogs", dogs, plainly(vectors="beta")),
    Posterior(
        "GLM_Poisson_Data-GLM_Poisson_model",
        poisson_cubic,
        plainly(scalars="alpha beta1 beta2 beta3"),
    ),
    Posterior(
        "low_dim_gauss_mix-low_dim_gauss_mix",
        gauss_mix,
        gauss_mix_parameters,
        "the ordered means by their middle and difference",
    ),
)
