"""What every posterior of this folder states: its model in one form or several, and its parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.handlers import reparam
from numpyro.infer.reparam import LocScaleReparam

from aif_dcpc.experiments.posteriordb.files import raw

Data = Mapping[str, Any]  # arrays and numbers
Model = Callable[[Data], None]
Pair = Callable[[str, dist.Distribution], Array]  # a name, laws `(2,)` -> two values in order
CENTRED = "centred"
NONCENTRED = "non-centred"
ORDERED = "ordered by transformation"
CUT = "ordered by rejection"


@dataclass(frozen=True)
class Target:
    """One posterior as NUTS samples it.

    Attributes:
        posteriors: keys of `reference.json`; several where programs differ in their coordinates alone.
        forms: name of a form -> model.
        parameters: sites that hold the reference's parameters, deterministic ones too.
        double: whether single precision cannot hold it.
    """

    posteriors: tuple[str, ...]
    forms: Mapping[str, Model]
    parameters: tuple[str, ...]
    double: bool = False

    def data(self) -> dict[str, Any]:
        """Read the data, lists as arrays."""
        found = raw(self.posteriors[0].partition("-")[0])
        return {k: np.array(v) if isinstance(v, list) else v for k, v in found.items()}


def target(
    *posteriors: str,
    model: Model,
    parameters: str,
    standardised: str = "",
    double: bool = False,
) -> Target:
    """A target; with the names of sites to standardise it has a non-centred form too."""
    forms = {CENTRED: model}
    if standardised:
        config = {site: LocScaleReparam(0) for site in standardised.split()}
        forms[NONCENTRED] = reparam(model, config=config)
    return Target(posteriors, forms, tuple(parameters.split()), double)


def ordered_target(posterior: str, model: Callable[[Data, Pair], None], parameters: str) -> Target:
    """A target with ordered pairs, which its model takes a way to sample for."""
    forms: dict[str, Model] = {
        ORDERED: lambda d: model(d, transformed_pair),
        CUT: lambda d: model(d, cut_pair),
    }
    return Target((posterior,), forms, tuple(parameters.split()))


def transformed_pair(name: str, law: dist.Distribution) -> Array:
    """Two values in order under independent laws `(2,)`, by a transformation of the plane."""
    support = dist.constraints.positive_ordered_vector
    if law.support is dist.constraints.real:
        support = dist.constraints.ordered_vector
    pair: Array = numpyro.sample(name, dist.ImproperUniform(support, (), (2,)))
    numpyro.factor(f"{name}_law", law.log_prob(pair).sum())
    return pair


def cut_pair(name: str, law: dist.Distribution) -> Array:
    """The same, where what is out of order has density zero: each value keeps its own coordinate."""
    pair: Array = numpyro.sample(name, law)
    numpyro.factor(f"{name}_order", jnp.where(pair[0] < pair[1], 0.0, -jnp.inf))
    return pair
