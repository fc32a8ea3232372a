"""Tables of declared kernels: p(site | parents) at all combinations of parents, in one call."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.inference import GraphicalModel, State
from aif_dcpc.inference.model.ancestral import expand_to
from aif_dcpc.inference.model.factor_graph import Argument, Factor
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.parameters import Snapshot
from aif_dcpc.inference.model.supports import base_law, exact_log_prob
from aif_dcpc.inference.queries.law import factor_law

MAX_ENTRIES = 2 * 10**7  # of one table, or of all tables joined
MAX_VALUES = 10_000  # of one site
MISSED = 1e-3  # by which chances in single precision may miss a sum of 1


@dataclass(frozen=True)
class KernelTable:
    """One kernel as a table.

    Attributes:
        site: whose kernel it is.
        parents: finite parents, in the order of the table's axes.
        chances: `(K or 1, *sizes of the parents, M)`; K of a kernel that reads parameters, which
            differ from particle to particle.
    """

    site: str
    parents: tuple[Argument, ...]
    chances: Floats

    def mean(self, weights: Floats) -> "KernelTable":
        """Average over the particles, by weights `(K,)`."""
        if len(self.chances) == 1:
            return self
        mean = np.tensordot(weights, self.chances, 1)[None]
        return KernelTable(self.site, self.parents, mean)

    def taken(self, parent: Argument, index: int) -> "KernelTable":
        """Keep one value of a parent, on an axis of size 1."""
        if parent not in self.parents:
            return self
        axis = 1 + self.parents.index(parent)
        return KernelTable(self.site, self.parents, self.chances.take([index], axis))

    def spread(self, axes: tuple[Argument, ...]) -> Floats:
        """Lay the table out along some axes, `(K or 1, *axes)`, size 1 where it does not vary."""
        return spread(self.chances, (*self.parents, Argument(self.site)), axes)


def spread(values: Floats, own: tuple[Argument, ...], axes: tuple[Argument, ...]) -> Floats:
    """Lay values `(K, *own axes)` out along `axes`, which hold all own ones, `(K, *axes)`."""
    order = sorted(range(len(own)), key=lambda place: axes.index(own[place]))
    moved = values.transpose(0, *(1 + place for place in order))
    sizes = dict(zip((own[place] for place in order), moved.shape[1:], strict=True))
    return moved.reshape(len(values), *(sizes.get(axis, 1) for axis in axes))


@dataclass
class TableMemory:
    """What was read of a model before, and is the same for as long as its parameters are.

    Kernels that read particles' parameters are read afresh each time.

    Attributes:
        model: the declaration; None before the first reading.
        snapshot: its parameters.
        values: site -> all its values.
        tables: kernel and inputs -> its table.
        carried: what was seen of an episode -> the belief at its end, of tables that no particle
            makes different; the latest ones.
    """

    model: GraphicalModel | None = None
    snapshot: Snapshot | None = None
    values: dict[str, Tensor | None] = field(default_factory=dict)
    tables: dict[tuple[str, bytes], KernelTable] = field(default_factory=dict)
    carried: dict[bytes, Floats] = field(default_factory=dict)

    def of(self, model: GraphicalModel) -> "TableMemory":
        """Forget everything if the model, or one of its parameters, is another."""
        now = Snapshot.of(model)
        if model is not self.model or not now.same(self.snapshot):
            self.model = model
            self.snapshot = now
            self.values.clear()
            self.tables.clear()
            self.carried.clear()
        return self

    def finite_values(self, state: State, name: str) -> Tensor | None:
        """List all values of a site (see `finite_values`)."""
        if name not in self.values:
            self.values[name] = finite_values(state, name)
        return self.values[name]

    def tabulate(
        self,
        state: State,
        factor: Factor,
        values: Mapping[str, Tensor],
        given: Mapping[Argument, Tensor],
    ) -> KernelTable:
        """Read a kernel's table (see `tabulate`)."""
        told = b"".join(value.cpu().numpy().tobytes() for value in given.values())
        key = (factor.key, told)
        if key not in self.tables:
            found = tabulate(state, factor, values, given)
            if not reads_particles(state, factor, values):
                self.tables[key] = found
            return found
        return self.tables[key]


def reads_particles(state: State, factor: Factor, values: Mapping[str, Tensor]) -> bool:
    """Whether a kernel reads what is neither finite nor an input with time."""
    sites = [state.conditioning.site(argument.site) for argument in factor.inputs]
    return any(site.name not in values and site.period is None for site in sites)


# -- values ----------------------------------------------------------------------------------------


def finite_values(state: State, name: str) -> Tensor | None:
    """List all values of a random site, `(M, *event)`; None where there is no end to them."""
    site = state.conditioning.site(name)
    event = state.values[name].shape[site.batch_ndim :]
    one = state.conditioning.supports.get(name)
    if one is None and name not in state.conditioning.latent:
        one = _observed_values(state, name)
    if one is None or one.shape[1:] == event:
        return one
    number = int(torch.Size(event).numel())
    if one.ndim > 1 or len(one) ** number > MAX_VALUES:
        return None
    return torch.cartesian_prod(*[one] * number).reshape(-1, *event)


def _observed_values(state: State, name: str) -> Tensor | None:
    """List the values of one element of an observed site, by its law at the particles."""
    last = state.last()
    factors = last.conditioning.factors_of(name, last.length)
    factor = next(f for f in factors if f.site.name == name)
    with no_validation(), torch.no_grad():
        law = base_law(factor_law(last, factor, last.natural))
        if not law.has_enumerate_support:
            return None
        try:
            values: Tensor = law.enumerate_support(expand=False)
        except NotImplementedError:
            return None
    return values.reshape(len(values), *law.event_shape)


def indices(values: Tensor, found: Tensor) -> Tensor:
    """Where among all `values` `(M, *event)` those stand that were found, `(*leading, *event)`; `(*leading)` indices."""
    event = values.ndim - 1
    same = found.unsqueeze(found.ndim - event) == values
    same = same.flatten(found.ndim - event + 1).all(-1) if event else same
    return same.int().argmax(-1)


# -- tables ----------------------------------------------------------------------------------------


def tabulate(
    state: State, factor: Factor, values: Mapping[str, Tensor], given: Mapping[Argument, Tensor]
) -> KernelTable:
    """Call a kernel on all combinations of its finite parents at once.

    Args:
        state: holds the values of what is not finite and has no time: parameters.
        factor: the kernel.
        values: finite site or action -> its values `(M, *event)`.
        given: input -> its value `(*event)`.

    Raises:
        AgentError: the table is too large, or its chances do not sum to 1.
    """
    name = factor.site.name
    own = Argument(name)
    parents = tuple(a for a in factor.inputs if a != own and a.site in values)
    sizes = [len(values[a.site]) for a in parents]
    number = int(np.prod(sizes))
    if number * len(values[name]) > MAX_ENTRIES:
        raise AgentError(
            f"site {name!r}: a table of {number} combinations of its parents is too large to "
            "plan exactly; plan with a sampled tree instead."
        )
    lead = factor.site.batch_ndim
    batch = (1, number, *[1] * (lead - 2))
    aligned = _constants(state, factor, values, given, batch)
    grid = torch.unravel_index(torch.arange(number), sizes) if sizes else ()
    for argument, index in zip(parents, grid, strict=True):
        picked = values[argument.site][index]
        aligned[argument] = picked.reshape(*batch, *picked.shape[1:])
    chances = _chances(factor, aligned, values[name], batch)
    return KernelTable(name, parents, chances.reshape(len(chances), *sizes, -1))


def _constants(
    state: State,
    factor: Factor,
    values: Mapping[str, Tensor],
    given: Mapping[Argument, Tensor],
    batch: tuple[int, ...],
) -> dict[Argument, Tensor]:
    """Lay out what is the same at all combinations of finite parents: inputs and parameters."""
    found = {}
    for argument in factor.inputs:
        if argument in given:
            value = given[argument]
            found[argument] = value.expand(*batch, *value.shape)
        elif argument.site not in values:
            value = state.constrained(argument.site)
            found[argument] = value.unsqueeze(2) if len(batch) == 3 else value
    return found


def _chances(
    factor: Factor, aligned: Mapping[Argument, Tensor], values: Tensor, batch: tuple[int, ...]
) -> Floats:
    """Evaluate a kernel's law at all values, `(K, N, M)`."""
    lead = len(batch)
    with no_validation(), torch.no_grad():
        law = expand_to(factor.distribution(aligned), batch, root=not factor.args)
        points = values.reshape(len(values), *[1] * lead, *values.shape[1:])
        log_prob = exact_log_prob(law, points)
    log_prob = log_prob.flatten(lead + 1).sum(-1) if log_prob.ndim > lead + 1 else log_prob
    found = log_prob.double().exp().cpu().numpy()
    found = np.moveaxis(found.reshape(len(values), -1, batch[1]), 0, -1)
    total = found.sum(-1, keepdims=True)
    if not (np.abs(total - 1) < MISSED).all():
        worst = float(total.flat[np.abs(total - 1).argmax()])
        raise AgentError(
            f"site {factor.site.name!r}: the chances of its {len(values)} values sum to "
            f"{worst:.4g} for some values of its parents; give it one support whatever its parents."
        )
    normalised: Floats = found / total
    return normalised


def information(table: KernelTable, weights: Floats) -> Floats:
    """I(site; parameters | parents) over the particles, `(1, *sizes of the parents)` nats.

    It is H[mean] - mean H, at least 0, and at most the logarithm of the number of particles.
    """
    mean = table.mean(weights).chances
    whole = -np.sum(mean * np.log(np.where(mean > 0, mean, 1.0)), -1)
    each = table.chances
    parts = -np.sum(each * np.log(np.where(each > 0, each, 1.0)), -1)
    return np.maximum(whole - np.tensordot(weights, parts, 1)[None], 0.0)
