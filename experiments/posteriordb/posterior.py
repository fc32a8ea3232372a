"""What every posterior of this folder states: its data, its program and its parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.experiments.posteriordb.files import raw

Data = Mapping[str, Tensor]
Draws = Mapping[str, Tensor]
Program = Callable[[], None]


@dataclass(frozen=True)
class Posterior:
    """One posterior of posteriordb.

    Attributes:
        name: key in `reference.json`, data set first.
        program: data -> a Pyro program without arguments, its observations bound.
        parameters: values of the program's sites, with any leading axes -> the reference's
            parameters by name, `(*leading)` each.
        notes: where the program departs from the letter of the published model, and why.
    """

    name: str
    program: Callable[[Data], Program]
    parameters: Callable[[Draws], dict[str, Tensor]]
    notes: str = ""

    def build(self) -> Program:
        """Bind the program to its data, in the default dtype of now."""
        return self.program(load(self.name.partition("-")[0]))


def load(name: str) -> dict[str, Tensor]:
    """Read one data set, every entry in the default dtype of now."""
    dtype = torch.get_default_dtype()
    return {key: torch.tensor(value, dtype=dtype) for key, value in raw(name).items()}


def elements(name: str, vector: Tensor) -> dict[str, Tensor]:
    """Name the elements along the last axis, from 1 on: `name[1]`, `name[2]` ..."""
    return {f"{name}[{i + 1}]": vector[..., i] for i in range(vector.shape[-1])}


def plainly(*, vectors: str = "", scalars: str = "") -> Callable[[Draws], dict[str, Tensor]]:
    """Parameters that are sites of the same name; names parted by blanks."""

    def parameters(draws: Draws) -> dict[str, Tensor]:
        found = {name: draws[name] for name in scalars.split()}
        for name in vectors.split():
            found |= elements(name, draws[name])
        return found

    return parameters
