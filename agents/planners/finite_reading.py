"""Reading a finite model off a declared graph: what are states and outcomes, and their tables.

States are all combinations of the finite latents, of what holds for an episode, and of what is
observed and read by others (or follows from the past by itself). Every other observed site is a
modality of its own, read from its kernel; observed factors of the state are modalities that tell
them. What is latent, without time and no finite factor is a parameter: tables are averaged over its
particles, and their spread is what there is to learn.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import gymnasium
import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.kernel_tables import (
    MAX_ENTRIES,
    KernelTable,
    TableMemory,
    information,
    reads_particles,
    spread,
)
from aif_dcpc.agents.planners.protocol import Situation
from aif_dcpc.inference import State
from aif_dcpc.inference.model.factor_graph import Argument, Factor, FactorGraph
from aif_dcpc.misspelt import unknown_name

INSTEAD = "plan with CrossEntropy or SampledTree instead."
Tables = dict[str, KernelTable]


def action_values(space: gymnasium.Space[object]) -> Tensor:
    """List all actions of a finite space, `(A, *event)`.

    Raises:
        AgentError: the space is not finite.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return torch.arange(int(space.n)) + int(space.start)
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        ranges = [torch.arange(int(n)) for n in space.nvec.ravel()]
        listed = torch.cartesian_prod(*ranges).reshape(-1, *space.nvec.shape)
        return listed + torch.as_tensor(space.start)
    raise AgentError(f"actions in {space} cannot be listed for exact planning; {INSTEAD}")


@dataclass(frozen=True)
class Reading:
    """The finite model behind a situation.

    Inputs other than the action are 0 in what is planned, as in `engine.imagine`.

    Args:
        situation: the cloud, the action and the preferences.
        memory: what need not be read again.

    Raises:
        AgentError: the model is not finite, looks back more than one slice, or is of several data.
    """

    situation: Situation
    memory: TableMemory = field(default_factory=TableMemory, repr=False)

    def __post_init__(self) -> None:
        state = self.state
        self.memory.of(self.graph.model)
        if state.batch_size != 1 or state.length == 0:
            raise AgentError(
                f"exact planning reads one life with time, found {state.batch_size} data over "
                f"{state.length} slices."
            )
        for factor in self.graph.factors:
            self._check_reach(factor)
        if self.entries > MAX_ENTRIES:
            raise AgentError(
                f"the model has {self.num_states} states and {len(self.values[self.action])} "
                f"actions, too many for a table of transitions; {INSTEAD}"
            )

    def _check_reach(self, factor: Factor) -> None:
        """Refuse kernels that look too far back, or read the action before it was chosen."""
        for argument in factor.inputs:
            if argument.lag > 1:
                raise AgentError(
                    f"site {factor.site.name!r} reads {argument.site!r} {argument.lag} slices "
                    "back: for exact planning let a site of the slice before remember it, and read that."
                )
            if argument == Argument(self.action):
                raise AgentError(
                    f"site {factor.site.name!r} reads action {argument.site!r} within its own "
                    f"slice; read lag({argument.site!r})."
                )

    # -- roles -------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The cloud that is planned from."""
        return self.situation.state

    @property
    def action(self) -> str:
        """Name of the input that is chosen."""
        return self.situation.action

    @property
    def graph(self) -> FactorGraph:
        """Factors of the declared model."""
        return self.state.conditioning.factor_graph

    @cached_property
    def timed(self) -> tuple[str, ...]:
        """Random sites with a value in each slice.

        Raises:
            AgentError: there are slower ones, or one is set by `do`.
        """
        found = [
            site
            for site in self.graph.model.sites.values()
            if site.kind != "deterministic" and site.period is not None
        ]
        for site in found:
            if site.period != 1 or site.name in self.state.conditioning.intervened:
                raise AgentError(
                    f"site {site.name!r} has no value of its own in each slice (it is slow, or set "
                    f"by do=): its tables cannot be read; {INSTEAD}"
                )
        return tuple(site.name for site in found if site.kind == "stochastic")

    @cached_property
    def kept(self) -> tuple[str, ...]:
        """Finite latents that hold for an episode."""
        latent = self.state.conditioning.latent
        sites = [self.graph.model.sites[name] for name in latent]
        episode = [site.name for site in sites if site.scope == "episode"]
        return tuple(
            name for name in episode if self.memory.finite_values(self.state, name) is not None
        )

    @cached_property
    def values(self) -> dict[str, Tensor]:
        """Finite site, or the action, -> its values `(M, *event)`.

        Raises:
            AgentError: a site with time is not finite.
        """
        found = {self.action: action_values(self.situation.action_space)}
        for name in (*self.kept, *self.timed):
            values = self.memory.finite_values(self.state, name)
            if values is None:
                raise AgentError(
                    f"site {name!r} has no finite number of values: its tables cannot be read; "
                    f"{INSTEAD}"
                )
            found[name] = values
        return found

    @cached_property
    def _read_by_others(self) -> frozenset[str]:
        """Sites that a kernel reads, other than as its own present value."""
        return frozenset(
            argument.site
            for factor in self.graph.factors
            for argument in factor.inputs
            if argument != Argument(factor.site.name)
        )

    def _looks_back(self, name: str) -> bool:
        """Whether a site follows from the slice before."""
        own = self.graph.factors_by_key[name]
        return any(argument.lag for argument in own.inputs)

    @cached_property
    def factors(self) -> tuple[str, ...]:
        """Sites of which a state is a combination."""
        kept = {*self._read_by_others, *self.state.conditioning.latent}
        states = [name for name in self.timed if name in kept or self._looks_back(name)]
        return (*self.kept, *states)

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """Observed sites that only tell of the present state."""
        return tuple(name for name in self.timed if name not in self.factors)

    @cached_property
    def told(self) -> tuple[str, ...]:
        """Factors of the state that are observed, always or at times."""
        latent = self.state.conditioning.latent
        masks = self.state.masks
        return tuple(
            n for n in self.factors if n not in self.kept and (n not in latent or n in masks)
        )

    @cached_property
    def varies(self) -> bool:
        """Whether tables differ from particle to particle, by what is still to be learned."""
        factors = [self.graph.factors_by_key[name] for name in self.timed]
        return any(reads_particles(self.state, factor, self.values) for factor in factors)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each factor."""
        return tuple(len(self.values[name]) for name in self.factors)

    @property
    def num_states(self) -> int:
        """The number of states, S."""
        return int(np.prod(self.sizes))

    @property
    def entries(self) -> int:
        """Size of a table of transitions, A S S."""
        return len(self.values[self.action]) * self.num_states**2

    # -- axes --------------------------------------------------------------------------------------

    @cached_property
    def now(self) -> tuple[Argument, ...]:
        """Axes of a state."""
        return tuple(Argument(name) for name in self.factors)

    @cached_property
    def before(self) -> tuple[Argument, ...]:
        """Axes of the state of the slice before."""
        return tuple(Argument(name, 1) for name in self.factors)

    @cached_property
    def chosen(self) -> Argument:
        """Axis of the action that led here."""
        return Argument(self.action, 1)

    @cached_property
    def inputs(self) -> tuple[Argument, ...]:
        """Other inputs that kernels read, slice by slice."""
        found = {
            argument
            for factor in self.graph.factors
            for argument in factor.inputs
            if argument.site != self.action
            and self.graph.model.sites[argument.site].kind == "input"
            and self.graph.model.sites[argument.site].period == 1
        }
        return tuple(sorted(found))

    def zero(self, argument: Argument) -> Tensor:
        """Return what another input is in slices that are planned, `(*event)`."""
        return torch.zeros_like(self.state.values[argument.site][0, 0, 0])

    def log_preferences(self) -> dict[str, Floats]:
        """Return the log preference of every value of the preferred sites, `(O,)` nats each.

        Raises:
            AgentError: a site is not observed.
        """
        found = {}
        observed = (*self.told, *self.leaves)
        for name, wanted in self.situation.preferences.items():
            if name not in observed:
                raise AgentError(unknown_name("preferred site", name, observed))
            listed = wanted(self.values[name]) if callable(wanted) else wanted
            found[name] = listed.detach().double().cpu().numpy()
        return found

    # -- tables ------------------------------------------------------------------------------------

    def tables(self, given: Mapping[Argument, Tensor], *, first: bool = False) -> Tables:
        """Read the table of every kernel at some values of the inputs.

        Args:
            given: input -> its value `(*event)`.
            first: whether this is the first slice of a series, which has kernels of its own.
        """
        found = {}
        for name in (*self.timed, *(self.kept if first else ())):
            initial = self.graph.factors_by_key.get(f"{name}@initial")
            factor = initial if first and initial is not None else self.graph.factors_by_key[name]
            found[name] = self.memory.tabulate(self.state, factor, self.values, given)
        for name in () if first else self.kept:
            same = np.eye(len(self.values[name]))[None]
            found[name] = KernelTable(name, (Argument(name, 1),), same)
        return found

    def transitions(self, tables: Tables) -> Floats:
        """Join the tables of the state's factors, `(K or 1, A or 1, S, S')`."""
        axes = (self.chosen, *self.before, *self.now)
        parts = [tables[name].spread(axes) for name in self.factors]
        found = joined(parts, (*self.sizes, *self.sizes))
        return found.reshape(len(found), -1, self.num_states, self.num_states)

    def likelihood(self, table: KernelTable) -> Floats:
        """Lay a modality's table out along states, `(K or 1, S, O)`."""
        size = len(self.values[table.site])
        wide = table.spread((*self.now, Argument(table.site)))
        wide = np.broadcast_to(wide, (len(wide), *self.sizes, size))
        return wide.reshape(len(wide), self.num_states, size)

    def first_belief(self, tables: Tables) -> Floats:
        """Join the tables of the first slice's state, `(K or 1, S)`."""
        found = joined([tables[name].spread(self.now) for name in self.factors], self.sizes)
        return found.reshape(len(found), -1)

    def identity(self, name: str) -> Floats:
        """Tell a factor of the state, `(S, M)`."""
        index = np.unravel_index(np.arange(self.num_states), self.sizes)[self.factors.index(name)]
        return np.eye(len(self.values[name]))[index]

    def novelty(self, tables: Tables, weights: Floats, transitions: Floats) -> dict[str, Floats]:
        """What the particles' parameters leave to be learned, site -> `(A, S)` nats.

        I(site; parameters | parents), had the site and its parents been seen.
        """
        axes = (self.chosen, *self.before, *self.now)
        shape = (len(transitions), *self.sizes, *self.sizes)
        found = {}
        for name, table in tables.items():
            if len(table.chances) > 1:
                told = spread(information(table, weights), table.parents, axes)
                wide = np.broadcast_to(told[0], shape).reshape(transitions.shape)
                found[name] = (wide * transitions).sum(2)
        return found


def joined(parts: list[Floats], sizes: tuple[int, ...]) -> Floats:
    """Multiply tables that vary along some axes each, the last of which have these sizes."""
    found = parts[0]
    for part in parts[1:]:
        found = found * part
    leading = found.shape[: found.ndim - len(sizes)]
    return np.broadcast_to(found, (*leading, *sizes))
