"""`Draws`: what `sample` returns, with its own diagnosis."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.model.elements import names_of_elements
from aif_dcpc.inference.model.state import State
from aif_dcpc.inference.queries.arviz_export import inference_data

COLUMNS = ("mean", "sd", "5 %", "50 %", "95 %", "R-hat", "bulk ESS", "tail ESS")
MOST_ROWS = 40  # of a printed summary


@dataclass(frozen=True)
class Draws:
    """Draws from a posterior, and how far they can be trusted.

    Attributes:
        values: latent site -> `(S, K, B, [T,] *event)` in its own support (`B` is 1 for global sites).
        log_joint: `(S, K, B)`, or `(S, K, 1)` where data share a latent; nats.
        acceptance: `(K, B or 1)`, each chain's mean probability of acceptance.
        r_hat, bulk_ess, tail_ess: site -> `(B, [T,] *event)`, on ranks.
        warnings: what is not as it should be, one sentence each with its remedy; empty if all is well.
        state: the cloud as the last draw left it.
        warmup_sweeps: sweeps before the first draw.
        seconds: processor time of the whole call.
    """

    values: Mapping[str, Tensor]
    log_joint: Tensor
    acceptance: Tensor
    r_hat: Mapping[str, Tensor]
    bulk_ess: Mapping[str, Tensor]
    tail_ess: Mapping[str, Tensor]
    warnings: tuple[str, ...]
    state: State = field(repr=False)
    warmup_sweeps: int
    seconds: float

    def __getitem__(self, name: str) -> Tensor:
        """All draws of a site, `(S, K, B, [T,] *event)`; deterministic ones are computed.

        Raises:
            ModelError: for an unknown name, or a site that was given.
        """
        if name in self.values:
            return self.values[name]
        site = self.state.conditioning.site(name)
        if site.kind != "deterministic":
            raise ModelError(f"site {name!r} was given: its data are draws.state.value({name!r}).")
        flat = {n: value.flatten(0, 1) for n, value in self.values.items()}
        given = self.state.constrained
        found = self.state.computed(name, lambda n: flat[n] if n in flat else given(n))
        shape = self.log_joint.shape[:2]
        return found.expand(shape.numel(), *found.shape[1:]).unflatten(0, shape)

    @property
    def num_draws(self) -> int:
        """S, draws kept of each particle."""
        return self.log_joint.shape[0]

    def to_arviz(self, *, seed: int = 0) -> Any:
        """All of it as ArviZ's data object (see `queries.arviz_export`); `seed` is of predictive draws."""
        return inference_data(self, seed=seed)

    def summary(self) -> list[tuple[str, list[float]]]:
        """One row for each number: its name, and the values of `COLUMNS`."""
        rows = []
        for name, value in self.values.items():
            flat = value.flatten(0, 1).double().flatten(1)
            columns = [flat.mean(0), flat.std(0)]
            columns += list(torch.quantile(flat, torch.tensor([0.05, 0.5, 0.95]).to(flat), dim=0))
            for found in (self.r_hat, self.bulk_ess, self.tail_ess):
                columns.append(found[name].flatten())
            table = torch.stack([c.double() for c in columns], 1).tolist()
            labels = self._labels(name, tuple(value.shape[2:]))
            rows += list(zip(labels, table, strict=True))
        return rows

    def _labels(self, name: str, shape: tuple[int, ...]) -> list[str]:
        """Names of the numbers of a site, by names of its elements where they have any."""
        parts = names_of_elements(self.state.conditioning.factor_graph.model.sites, name)
        if not parts or shape[0] != 1:
            return element_names(name, shape)
        return [label for part in parts for label in element_names(part, (1, *shape[2:]))]

    def __str__(self) -> str:
        """The summary as a table, then processor seconds and warnings."""
        rows = self.summary()
        width = max((len(label) for label, _ in rows), default=4)
        lines = [" " * width + "".join(f"{c:>10}" for c in COLUMNS)]
        for label, numbers in rows[:MOST_ROWS]:
            lines.append(label.ljust(width) + "".join(_cells(numbers)))
        if len(rows) > MOST_ROWS:
            lines.append(f"... and {len(rows) - MOST_ROWS} more rows: see .summary()")
        total = self.num_draws * self.acceptance.shape[0]
        lines.append(f"{total} draws, {self.seconds:.1f} s of processor time")
        return "\n".join([*lines, *(f"warning: {w}" for w in self.warnings)])


def _cells(numbers: list[float]) -> list[str]:
    *values, r_hat, bulk, tail = numbers
    return [*(f"{v:10.4g}" for v in values), f"{r_hat:10.3g}", f"{bulk:10.0f}", f"{tail:10.0f}"]


def element_names(name: str, shape: tuple[int, ...]) -> list[str]:
    """Names of the numbers of a site `(B, [T,] *event)`: `beta[0, 1]`; a leading axis of 1 is left out."""
    axes = shape[1:] if shape and shape[0] == 1 else shape
    if not axes:
        return [name]
    index = torch.cartesian_prod(*(torch.arange(n) for n in axes)).reshape(-1, len(axes))
    return [f"{name}[{', '.join(map(str, row))}]" for row in index.tolist()]
