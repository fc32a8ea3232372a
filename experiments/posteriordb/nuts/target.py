"""What every posterior of this folder states: its model in one form or several, and its parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpyro.handlers import reparam
from numpyro.infer.reparam import LocScaleReparam

from aif_dcpc.experiments.posteriordb.files import raw

Data = Mapping[str, Any]  # arrays and numbers
Model = Callable[[Data], None]
CENTRED = "centred"
NONCENTRED = "non-centred"


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
