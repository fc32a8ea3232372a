"""The log densities once more, by hand in NumPy and SciPy, from the published models alone.

Every function takes the values of the program's sites `s` and the raw data `d`, and returns log p
up to a constant, in the coordinates of the sites (where these differ from the published parameters,
with the logarithm of the Jacobian). They share no code with the programs.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.special import logsumexp
from scipy.stats import (
    beta,
    cauchy,
    dirichlet,
    expon,
    gamma,
    invgamma,
    lognorm,
    multivariate_normal,
    norm,
    poisson,
    t,
)

Values = Mapping[str, Any]
Density = Callable[[Values, Values], float]
Array = NDArray[np.float64]


def n(x: Any, m: Any, s: Any) -> float:
    """Sum of log N(x; m, s), s a standard deviation."""
    return float(np.sum(norm.logpdf(x, m, s)))


def c(x: Any, s: float) -> float:
    """Log of the Cauchy density of a positive value."""
    return float(np.sum(cauchy.logpdf(x, 0, s)))


def ln(x: Any, m: Any, s: Any) -> float:
    """Sum of log LN(x; m, s)."""
    return float(np.sum(lognorm.logpdf(x, s=s, scale=np.exp(m))))


def answers(y: Any, logit: Any) -> float:
    """Log probability of single trials, given their log odds."""
    return float(np.sum(y * logit - np.logaddexp(0, logit)))


# -- regressions -----------------------------------------------------------------------------------


def regression(
    design: Callable[[Values], tuple[Any, list[Any]]], width: float, noise: float | None
) -> Density:
    """A regression on the listed columns; `noise` as the scale of N+, None for C+(2.5)."""

    def density(s: Values, d: Values) -> float:
        y, cols = design(d)
        mean = s["beta"][0] + sum(b * col for b, col in zip(s["beta"][1:], cols, strict=True))
        prior = c(s["sigma"], 2.5) if noise is None else n(s["sigma"], 0, noise)
        return n(s["beta"], 0, width) + prior + n(y, mean, s["sigma"])

    return density


def nes_design(d: Values) -> tuple[Any, list[Any]]:
    """Party identification and its eight columns."""
    ages = [1.0 * (d["age_discrete"] == k) for k in (2, 3, 4)]
    rest = [d[k] for k in ("educ1", "gender", "income")]
    return d["partyid7"], [d["real_ideo"], d["race_adj"], *ages, *rest]


def vash_design(d: Values) -> tuple[Any, list[Any]]:
    """Log weights of bushes and their five columns."""
    one, two = np.log(d["diam1"]), np.log(d["diam2"])
    tall, high = np.log(d["canopy_height"]), np.log(d["total_height"])
    return np.log(d["weight"]), [one + two + tall, one + two, one - two, high, d["group"]]


MEASURES = ("diam1", "diam2", "canopy_height", "total_height", "density", "group")


def blr(s: Values, d: Values) -> float:
    """Regression without an intercept."""
    return n(s["beta"], 0, 10) + n(s["sigma"], 0, 10) + n(d["y"], d["X"] @ s["beta"], s["sigma"])


def kilpisjarvi(s: Values, d: Values) -> float:
    """Regress temperatures on the year."""
    prior = n(s["alpha"], d["pmualpha"], d["psalpha"]) + n(s["beta"], d["pmubeta"], d["psbeta"])
    mean = s["alpha"] + s["beta"] * d["x"]
    return prior + n(s["sigma"], 0, 100) + n(d["y"], mean, s["sigma"])


def diamonds(s: Values, d: Values) -> float:
    """Prices by centred columns."""
    x = d["X"][:, 1:] - d["X"][:, 1:].mean(0)
    prior = n(s["b"], 0, 1) + t.logpdf(s["Intercept"], 3, 8, 10) + t.logpdf(s["sigma"], 3, 0, 10)
    return float(prior + n(d["Y"], s["Intercept"] + x @ s["b"], s["sigma"]))


# -- series ----------------------------------------------------------------------------------------


def autoregression(s: Values, d: Values) -> float:
    """AR(5), the first five values given."""
    total = n(s["alpha"], 0, 10) + n(s["beta"], 0, 10) + c(s["sigma"], 2.5)
    for i in range(5, len(d["y"])):
        mean = s["alpha"] + sum(s["beta"][k] * d["y"][i - 1 - k] for k in range(5))
        total += n(d["y"][i], mean, s["sigma"])
    return total


def arma(s: Values, d: Values) -> float:
    """ARMA(1, 1) by its errors."""
    y, total = d["y"], n(s["mu"], 0, 10) + n(s["phi"], 0, 2) + n(s["theta"], 0, 2)
    error = y[0] - s["mu"] - s["phi"] * s["mu"]
    errors = [error]
    for i in range(1, len(y)):
        error = y[i] - s["mu"] - s["phi"] * y[i - 1] - s["theta"] * error
        errors.append(error)
    return total + c(s["sigma"], 2.5) + n(errors, 0, s["sigma"])


def garch(s: Values, d: Values) -> float:
    """GARCH(1, 1); d beta1 / d fraction = 1 - alpha1."""
    y, beta1 = d["y"], s["fraction"] * (1 - s["alpha1"])
    total = n(s["mu"], 0, 100) + n(s["alpha0"], 0, 100) + np.log(1 - s["alpha1"])
    scale = d["sigma1"]
    for i in range(len(y)):
        if i:
            variance = s["alpha0"] + s["alpha1"] * (y[i - 1] - s["mu"]) ** 2 + beta1 * scale**2
            scale = np.sqrt(variance)
        total += n(y[i], s["mu"], scale)
    return float(total)


def lotka_volterra(s: Values, d: Values) -> float:
    """Follow hares and lynxes by their equations."""
    one, two, three, four = s["theta"]
    total = n(s["theta"], [1, 0.05, 1, 0.05], [0.5, 0.05, 0.5, 0.05])
    total += ln(s["sigma"], -1, 1) + ln(s["z_init"], np.log(10), 1)
    z = solve_ivp(
        lambda _, z: [(one - two * z[1]) * z[0], (-three + four * z[0]) * z[1]],
        (0, 20),
        s["z_init"],
        t_eval=d["ts"],
        rtol=1e-10,
        atol=1e-10,
    ).y.T
    total += ln(d["y_init"], np.log(s["z_init"]), s["sigma"])
    return total + ln(d["y"], np.log(z), np.broadcast_to(s["sigma"], z.shape))


def one_compartment(s: Values, d: Values) -> float:
    """Michaelis-Menten elimination with absorption."""
    dose, volume = d["D"], d["V"]
    amounts = solve_ivp(
        lambda u, x: (
            np.exp(-s["k_a"] * u) * dose * s["k_a"] / volume
            - s["V_m"] / volume * x / (s["K_m"] + x)
        ),
        (d["t0"], d["times"][-1]),
        [0.0],
        t_eval=d["times"],
        method="LSODA",
        rtol=1e-10,
        atol=1e-12,
    ).y[0]
    prior = sum(c(s[k], 1) for k in ("k_a", "K_m", "V_m", "sigma"))
    return prior + ln(d["C_hat"], np.log(amounts), s["sigma"])


def forward(theta: Array, emitted: Array) -> float:
    """Forward algorithm step by step, weights 1 for the first state."""
    logs = emitted[0]
    for row in emitted[1:]:
        logs = np.array([logsumexp(logs + np.log(theta[:, j])) + row[j] for j in range(2)])
    return float(logsumexp(logs))


def pair(s: Values, name: str) -> Array:
    """Both values of an ordered pair; the Jacobian is 1."""
    return np.array([s[f"{name}_low"], s[f"{name}_low"] + s[f"{name}_gap"]])


def hmm_example(s: Values, d: Values) -> float:
    """Sum out states with normal emissions."""
    mu = pair(s, "mu")
    emitted = norm.logpdf(d["y"][:, None], mu, 1)
    return n(mu, [3, 10], 1) + forward(np.stack([s["theta1"], s["theta2"]]), emitted)


def hmm_drive(s: Values, d: Values) -> float:
    """Pairs of exponential emissions."""
    phi, rate = pair(s, "phi"), pair(s, "lambda")
    total = n(phi, [0, 3], 1) + n(rate, [0, 3], 1)
    for k in range(2):
        total += dirichlet.logpdf(s[f"theta{k + 1}"], d["alpha"][k])
    emitted = expon.logpdf(d["u"][:, None], scale=1 / phi)
    emitted = emitted + expon.logpdf(d["v"][:, None], scale=1 / rate)
    return float(total + forward(np.stack([s["theta1"], s["theta2"]]), emitted))


# -- hierarchies -----------------------------------------------------------------------------------


def schools_centered(s: Values, d: Values) -> float:
    """Effects around their mean."""
    total = n(s["mu"], 0, 5) + c(s["tau"], 5) + n(s["theta"], s["mu"], s["tau"])
    return total + n(d["y"], s["theta"], d["sigma"])


def schools_noncentered(s: Values, d: Values) -> float:
    """The centred density at the effects, times the Jacobian tau^8."""
    theta = s["mu"] + s["tau"] * s["theta_trans"]
    return schools_centered({**s, "theta": theta}, d) + 8 * float(np.log(s["tau"]))


def radon(kind: str) -> Density:
    """Radon with or without uranium, centred or (by the Jacobian) not."""

    def density(s: Values, d: Values) -> float:
        raw = "alpha_raw" in s
        alpha = s["mu_alpha"] + s["sigma_alpha"] * s["alpha_raw"] if raw else s["alpha"]
        total = n(alpha, s["mu_alpha"], s["sigma_alpha"])
        total += 85 * float(np.log(s["sigma_alpha"])) if raw else 0
        total += n(s["mu_alpha"], 0, 10) + n(s["beta"], 0, 10)
        total += n(s["sigma_alpha"], 0, 1) + n(s["sigma_y"], 0, 1)
        mean = np.array([alpha[int(j) - 1] for j in d["county_idx"]])
        if kind == "hierarchical":
            mean = mean + s["beta"][0] * d["log_uppm"] + s["beta"][1] * d["floor_measure"]
        else:
            mean = mean + s["beta"] * d["floor_measure"]
        return total + n(d["log_radon"], mean, s["sigma_y"])

    return density


def rats(s: Values, d: Values) -> float:
    """A line for every rat."""
    total = n(s["mu_alpha"], 0, 100) + n(s["mu_beta"], 0, 100)
    total += sum(n(s[k], 0, 1000) for k in ("sigma_y", "sigma_alpha", "sigma_beta"))
    total += n(s["alpha"], s["mu_alpha"], s["sigma_alpha"])
    total += n(s["beta"], s["mu_beta"], s["sigma_beta"])
    for rat, x, y in zip(d["rat"], d["x"], d["y"], strict=True):
        r = int(rat) - 1
        total += n(y, s["alpha"][r] + s["beta"][r] * (x - d["xbar"]), s["sigma_y"])
    return total


def seeds(s: Values, d: Values) -> float:
    """Count germinated seeds by plate."""
    total = sum(n(s[k], 0, 1) for k in ("alpha0", "alpha1", "alpha2", "alpha12"))
    total += c(s["sigma"], 1) + n(s["b"], 0, s["sigma"])
    x1, x2 = d["x1"], d["x2"]
    logit = s["alpha0"] + s["alpha1"] * x1 + s["alpha2"] * x2 + s["alpha12"] * x1 * x2 + s["b"]
    return total + float(np.sum(d["n"] * logit - d["N"] * np.logaddexp(0, logit)))


def item_response(s: Values, d: Values) -> float:
    """Two-parameter logistic model; d a / d log a = a."""
    a = np.exp(s["log_a"])
    total = n(s["theta"], 0, s["sigma_theta"]) + ln(a, 0, s["sigma_a"]) + float(np.log(a).sum())
    total += n(s["b"], s["mu_b"], s["sigma_b"]) + n(s["mu_b"], 0, 5)
    total += sum(c(s[k], 2) for k in ("sigma_theta", "sigma_a", "sigma_b"))
    for i in range(20):
        logit = a[i] * (s["theta"] - s["b"][i])
        total += answers(d["y"][i], logit)
    return total


# -- processes and others --------------------------------------------------------------------------


def kernel(s: Values, d: Values) -> Array:
    """Squared-exponential covariance, element by element."""
    x = d["x"]
    found: Array = np.array(
        [[s["alpha"] ** 2 * np.exp(-((p - q) ** 2) / (2 * s["rho"] ** 2)) for p in x] for q in x]
    )
    return found


def process_regression(s: Values, d: Values) -> float:
    """Gaussian process with noise of variance sigma."""
    total = gamma.logpdf(s["rho"], 25, scale=1 / 4) + n(s["alpha"], 0, 2) + n(s["sigma"], 0, 1)
    covariance = kernel(s, d) + s["sigma"] * np.eye(11)
    return float(total + multivariate_normal.logpdf(d["y"], np.zeros(11), covariance))


def process_poisson(s: Values, d: Values) -> float:
    """Counts whose log rates are a Gaussian process."""
    total = gamma.logpdf(s["rho"], 25, scale=1 / 4) + n(s["alpha"], 0, 2) + n(s["f_tilde"], 0, 1)
    f = np.linalg.cholesky(kernel(s, d) + 1e-10 * np.eye(11)) @ s["f_tilde"]
    return float(total + poisson.logpmf(d["k"], np.exp(f)).sum())


def motorcycle(s: Values, d: Values) -> float:
    """Mean and log standard deviation by their expansions."""
    total, parts = 0.0, []
    for i in ("1", "sigma_1"):
        w, scale, length = d[f"slambda_{i}"][:, 0], s[f"sdgp_{i}"], s[f"lscale_{i}"]
        root = scale * (2 * np.pi) ** 0.25 * np.sqrt(length) * np.exp(-(length**2) * w**2 / 4)
        parts.append(d[f"Xgp_{i}"] @ (root * s[f"zgp_{i}"]))
        total += t.logpdf(scale, 3, 0, 36) + invgamma.logpdf(length, 1.124909, scale=0.0177)
        total += n(s[f"zgp_{i}"], 0, 1)
    total += t.logpdf(s["Intercept"], 3, -13, 36) + t.logpdf(s["Intercept_sigma"], 3, 0, 10)
    spread = np.exp(s["Intercept_sigma"] + parts[1])
    return float(total + n(d["Y"], s["Intercept"] + parts[0], spread))


def dogs(s: Values, d: Values) -> float:
    """Avoidance learning, trial by trial."""
    total = n(s["beta"], 0, 100)
    for row in d["y"]:
        avoid = shock = 0
        for y in row:
            logit = s["beta"][0] + s["beta"][1] * avoid + s["beta"][2] * shock
            total += answers(y, logit)
            avoid, shock = avoid + (y == 0), shock + (y == 1)
    return total


def poisson_cubic(s: Values, d: Values) -> float:
    """Counts by a cubic; the priors are constants."""
    x = d["year"]
    logs = s["alpha"] + s["beta1"] * x + s["beta2"] * x**2 + s["beta3"] * x**3
    return float(poisson.logpmf(d["C"], np.exp(logs)).sum())


def gauss_mix(s: Values, d: Values) -> float:
    """Mixture of two; the Jacobian of middle and gap is 1."""
    mu = s["mu_middle"] + np.array([-0.5, 0.5]) * s["mu_gap"]
    total = n(mu, 0, 2) + n(s["sigma"], 0, 2) + beta.logpdf(s["theta"], 5, 5)
    first = np.log(s["theta"]) + norm.logpdf(d["y"], mu[0], s["sigma"][0])
    second = np.log1p(-s["theta"]) + norm.logpdf(d["y"], mu[1], s["sigma"][1])
    return float(total + np.logaddexp(first, second).sum())


DENSITIES: dict[str, Density] = {
    "kidiq-kidscore_interaction": regression(
        lambda d: (d["kid_score"], [d["mom_hs"], d["mom_iq"], d["mom_hs"] * d["mom_iq"]]),
        1000,
        None,
    ),
    "kidiq-kidscore_momhs": regression(lambda d: (d["kid_score"], [d["mom_hs"]]), 1000, None),
    "kidiq_with_mom_work-kidscore_mom_work": regression(
        lambda d: (d["kid_score"], [1.0 * (d["mom_work"] == k) for k in (2, 3, 4)]), 1000, 1000
    ),
    "earnings-earn_height": regression(lambda d: (d["earn"], [d["height"]]), 1e6, 1e6),
    "earnings-log10earn_height": regression(
        lambda d: (np.log(d["earn"]) / np.log(10), [d["height"]]), 100, 100
    ),
    "earnings-logearn_interaction": regression(
        lambda d: (np.log(d["earn"]), [d["height"], d["male"], d["male"] * d["height"]]), 100, 100
    ),
    "mesquite-mesquite": regression(lambda d: (d["weight"], [d[k] for k in MEASURES]), 1e4, 1e4),
    "mesquite-logmesquite_logvash": regression(vash_design, 100, 100),
    "nes1972-nes": regression(nes_design, 100, 100),
    "nes1996-nes": regression(nes_design, 100, 100),
    "sblrc-blr": blr,
    "kilpisjarvi_mod-kilpisjarvi": kilpisjarvi,
    "diamonds-diamonds": diamonds,
    "arK-arK": autoregression,
    "arma-arma11": arma,
    "garch-garch11": garch,
    "hudson_lynx_hare-lotka_volterra": lotka_volterra,
    "one_comp_mm_elim_abs-one_comp_mm_elim_abs": one_compartment,
    "hmm_example-hmm_example": hmm_example,
    "bball_drive_event_0-hmm_drive_0": hmm_drive,
    "eight_schools-eight_schools_centered": schools_centered,
    "eight_schools-eight_schools_noncentered": schools_noncentered,
    "radon_mn-radon_variable_intercept_centered": radon("variable"),
    "radon_mn-radon_variable_intercept_noncentered": radon("variable"),
    "radon_mn-radon_hierarchical_intercept_centered": radon("hierarchical"),
    "radon_mn-radon_hierarchical_intercept_noncentered": radon("hierarchical"),
    "rats_data-rats_model": rats,
    "seeds_data-seeds_stanified_model": seeds,
    "irt_2pl-irt_2pl": item_response,
    "gp_pois_regr-gp_regr": process_regression,
    "gp_pois_regr-gp_pois_regr": process_poisson,
    "mcycle_gp-accel_gp": motorcycle,
    "dogs-dogs": dogs,
    "GLM_Poisson_Data-GLM_Poisson_model": poisson_cubic,
    "low_dim_gauss_mix-low_dim_gauss_mix": gauss_mix,
}
