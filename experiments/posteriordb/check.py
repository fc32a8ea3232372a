"""Check every program's log density against one written by hand (`densities`).

    python -m aif_dcpc.experiments.posteriordb.check [NAME ...]

At 20 points around the reference means, twice as wide as the posterior and wider for positive
values, differences of log densities agree to 1e-4 of their size, or to 1e-3 where a differential
equation is solved in few steps. Models written by `add_site` are then held against the imported
programs, at the same points, by the engine's own log joint. Everything is in double precision.
"""

import argparse
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyro
import torch
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import biject_to

from aif_dcpc.commands.command import run_script
from aif_dcpc.errors import ConfigError
from aif_dcpc.experiments.posteriordb import steps
from aif_dcpc.experiments.posteriordb.by_sites import BY_SITES
from aif_dcpc.experiments.posteriordb.densities import DENSITIES
from aif_dcpc.experiments.posteriordb.files import raw, reference
from aif_dcpc.experiments.posteriordb.posterior import Program
from aif_dcpc.experiments.posteriordb.programs import POSTERIORS
from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.misspelt import unknown_name

POINTS, TOLERANCE = 20, 1e-4
# narrower clouds where independent scatter would drown every prior in the data's log density
NARROW = {
    "mcycle_gp-accel_gp": 0.05,
    "GLM_Poisson_Data-GLM_Poisson_model": 0.02,
    "gp_pois_regr-gp_pois_regr": 0.3,
}
Point = dict[str, Tensor]


def centre(site: str, like: Tensor, means: Mapping[str, float]) -> Tensor:
    """The reference's value of one site, or 0 where a standardised site has none."""
    if site in means:
        return torch.tensor(means[site])
    if f"{site}[1]" in means:
        return torch.tensor([means[f"{site}[{i + 1}]"] for i in range(len(like))])
    if site == "fraction":
        return torch.tensor(means["beta1"] / (1 - means["alpha1"]))
    base, _, role = site.partition("_")
    if role in ("low", "gap", "middle"):
        low, high = means[f"{base}[1]"], means[f"{base}[2]"]
        return torch.tensor({"low": low, "gap": high - low, "middle": (low + high) / 2}[role])
    if site == "log_a":
        return torch.tensor([means[f"a[{i + 1}]"] for i in range(len(like))]).log()
    return torch.zeros_like(like)


def spread(site: str, like: Tensor, sds: Mapping[str, float]) -> Tensor:
    """The reference's standard deviation of one site, or 1/2."""
    if site in sds:
        return torch.tensor(sds[site])
    if f"{site}[1]" in sds:
        return torch.tensor([sds[f"{site}[{i + 1}]"] for i in range(len(like))])
    return torch.full_like(like, 0.5)


def latent_sites(program: Program) -> dict[str, Any]:
    """The sample statements that are not observed, from one run."""
    trace = pyro.poutine.trace(program).get_trace()
    nodes = {name: trace.nodes[name] for name in trace.stochastic_nodes}
    return {name: n for name, n in nodes.items() if not site_is_subsample(n)}


def points(name: str, generator: torch.Generator) -> list[Point]:
    """Scatter points around the reference means, in the sites' supports."""
    known = reference()[name]["parameters"]
    means, sds = ({k: v[key] for k, v in known.items()} for key in ("mean", "sd"))
    found: list[Point] = [{} for _ in range(POINTS)]
    for site, message in latent_sites(POSTERIORS[name].build()).items():
        support, like = message["fn"].support, message["value"]
        middle = centre(site, like, means)
        for point in found:
            noise = NARROW.get(name, 1.0) * torch.randn(like.shape, generator=generator)
            point[site] = scattered(support, middle, spread(site, like, sds), noise)
    return found


def scattered(support: Any, middle: Tensor, width: Tensor, noise: Tensor) -> Tensor:
    """One point: two standard deviations wide on the line, else .3 in unconstrained coordinates."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if support is torch.distributions.constraints.real:
        return middle + 2 * width * noise
    bijection = biject_to(support)
    free = bijection.inv(middle)
    noise = noise[..., : free.shape[-1]] if free.ndim else noise
    moved: Tensor = bijection(free + 0.3 * noise)
    return moved


def program_density(program: Program, point: Point) -> float:
    """Pyro's log joint at one point."""
    with pyro.poutine.block():
        trace = pyro.poutine.trace(pyro.condition(program, data=point)).get_trace()
    return float(trace.log_prob_sum())


def hand_density(name: str, point: Point) -> float:
    """The log density by hand at one point."""
    plain = raw(name.partition("-")[0])
    data = {k: np.array(v, dtype=float) if isinstance(v, list) else v for k, v in plain.items()}
    return DENSITIES[name]({k: v.numpy() for k, v in point.items()}, data)


def site_densities(model: GraphicalModel, data: dict[str, Tensor], cloud: list[Point]) -> Tensor:
    """The engine's log joint at all points, in its unconstrained coordinates."""
    particles = {k: torch.stack([point[k] for point in cloud])[:, None] for k in cloud[0]}
    engine = DCPC(model, num_particles=len(cloud))
    return engine.log_joint(engine.init(data, particles=particles, seed=0))[:, 0]


def discrepancy(ours: Tensor, theirs: Tensor) -> float:
    """Largest error of differences to the first point, relative to their size (at least 1 nat)."""
    one, two = ours[1:] - ours[0], theirs[1:] - theirs[0]
    return float(((one - two).abs() / two.abs().clamp_min(1.0)).max())


def check(name: str) -> str:
    """Compare one posterior's densities; one line of text.

    Raises:
        AssertionError: they differ.
    """
    cloud = points(name, torch.Generator().manual_seed(0))
    program = POSTERIORS[name].build()
    ours = torch.tensor([program_density(program, point) for point in cloud])
    theirs = torch.tensor([hand_density(name, point) for point in cloud])
    error = discrepancy(ours, theirs)
    bound = steps.TOLERANCE if name in steps.SOLVED else TOLERANCE
    assert error < bound, f"{name}: {error:.1e}; {ours - ours[0]}, {theirs - theirs[0]}"
    line = f"{name:50s} {error:.0e} over {float(theirs.max() - theirs.min()):9.1f} nats"
    if name in BY_SITES:
        imported = site_densities(*GraphicalModel.from_pyro(program), cloud)
        error = discrepancy(site_densities(*BY_SITES[name](), cloud), imported)
        assert error < TOLERANCE, f"{name} by sites: {error:.1e}"
        line += f", by sites {error:.0e}"
    return line


def main() -> None:
    """Print one line per posterior."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=list(POSTERIORS))
    args = parser.parse_args()
    torch.set_default_dtype(torch.double)
    for name in args.names:
        if name not in POSTERIORS:
            raise ConfigError(unknown_name("posterior", name, POSTERIORS))
        print(check(name), flush=True)


if __name__ == "__main__":
    run_script(main)
