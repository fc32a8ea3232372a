"""What kind of world this is, inferred from all that actions have done.

Four kinds of rows (a state with an action) are mixed:

    fixed     one effect always follows, drawn once from the action's usual effects
    usual     effects follow as is usual for the action, wherever it is taken
    own       Dirichlet(concentration * usual effects): a table of its own
    slips     one of three effects, each drawn once from the usual ones, with shared chances

Tables of single rows are integrated out in closed form. What all rows share is a `GraphicalModel`
with global sites, whose joint posterior the engine's sweeps draw: how common each kind is
(`kinds`), the concentration, what each action usually does (`effects`), and how rows slip (`slips`).
In a deterministic world the mass goes to "fixed", and one visit tells a row; where what may go wrong
is the same everywhere, it goes to "slips", and a few visits do.

Reference: Teh et al. (2006), "Hierarchical Dirichlet processes", section 5.1, for the auxiliary
numbers of tables.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, Dirichlet, Distribution, Independent, constraints

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.discrete import loops
from aif_dcpc.agents.discrete.slips import SLOTS
from aif_dcpc.agents.discrete.transitions import Transitions
from aif_dcpc.inference import DCPC, GraphicalModel, State

CONCENTRATIONS = np.geomspace(0.1, 100.0, 13)
FIXED, USUAL, OWN, SLIPS = range(4)
BLOCK = ("kinds", "concentration", "effects", "slips")


@dataclass(frozen=True)
class Rows:
    """The rows that were visited.

    Attributes:
        action: `(R,)`.
        seen, counts, distinct: see `Transitions`, `(R, J)` and `(R,)`.
    """

    action: Ints
    seen: Ints
    counts: Floats
    distinct: Ints

    @classmethod
    def of(cls, transitions: Transitions) -> "Rows":
        """Take the visited rows."""
        visited = transitions.visited
        return cls(
            visited % transitions.num_actions,
            transitions.seen[visited],
            transitions.counts[visited],
            transitions.distinct[visited],
        )

    def dense(self, num_effects: int) -> Tensor:
        """Counts by effect, `(R, E)`."""
        found = np.zeros((len(self.action), num_effects))
        for place in range(self.seen.shape[1]):
            used = np.flatnonzero(self.distinct > place)
            found[used, self.seen[used, place]] += self.counts[used, place]
        return torch.from_numpy(found)


class CollapsedRows(Distribution):
    """The law of the counts of all rows, in the order they were seen, tables integrated out.

    Args:
        kinds: `(*batch, 4)` probabilities of fixed, usual, own and slips.
        concentration: `(*batch)`.
        effects: `(*batch, A, E + 1)`; the last is all effects never seen.
        slips: `(*batch, 3)` probabilities of the slots.
        action: `(R,)`.
    """

    arg_constraints: Mapping[str, Any] = {}  # type: ignore[assignment]

    def __init__(
        self, kinds: Tensor, concentration: Tensor, effects: Tensor, slips: Tensor, action: Tensor
    ) -> None:
        self.kinds = kinds
        self.concentration = concentration
        self.effects = effects
        self.slips = slips
        self.action = action
        event = torch.Size((len(action), effects.shape[-1] - 1))
        super().__init__(kinds.shape[:-1], event, validate_args=False)

    @property
    def support(self) -> Any:
        """Counts are whole numbers of at least 0."""
        return constraints.independent(constraints.nonnegative_integer, 2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of counts `(*batch, R, E)`, nats."""
        usual = self.effects[..., self.action, :-1].clamp_min(1e-300)
        value = value.to(usual.dtype)
        total = value.sum(-1)
        seen = value > 0
        fixed = torch.where(seen, usual.log(), 0.0).sum(-1)
        fixed = torch.where(seen.sum(-1) > 1, -torch.inf, fixed)
        as_usual = (value * usual.log()).sum(-1)
        strength = self.concentration[..., None]
        base = strength[..., None] * usual
        own = torch.where(seen, torch.lgamma(base + value) - torch.lgamma(base), 0.0).sum(-1)
        own = own + torch.lgamma(strength) - torch.lgamma(strength + total)
        log_kinds = self.kinds[..., None, :].log()
        each = torch.stack([fixed, as_usual, own, self._slips(value, usual)], -1)
        return torch.logsumexp(log_kinds + each, -1).sum(-1)

    def _slips(self, value: Tensor, usual: Tensor) -> Tensor:
        """Log probability of each row's counts if it slips, `(*batch, R)`, over all fillings of the slots."""
        distinct = (value > 0).sum(-1)
        most = min(SLOTS, int(distinct.max()) if distinct.numel() else 0)
        counts, places = value.topk(most, -1)
        held = usual.gather(-1, places.expand(*usual.shape[:-1], most)) * (counts > 0)
        held = torch.cat([held, 1 - held.sum(-1, keepdim=True)], -1).clamp_min(1e-300).log()
        fillings = torch.tensor(list(itertools.product(range(most + 1), repeat=SLOTS)))
        holds = F.one_hot(fillings, most + 1).to(usual.dtype)  # (fillings, slots, places)
        shares = torch.einsum("...s,fsp->...pf", self.slips, holds)[..., :most, :]
        told = counts @ shares.clamp_min(1e-300).log() + held @ holds.sum(1).T
        return torch.where(distinct > SLOTS, -torch.inf, told.logsumexp(-1))


class World:
    """A cloud over what all rows share.

    Args:
        transitions: the counts, read at each `infer`.
        num_particles: K.
        novel: total concentration of the prior over an action's usual effects.

    Attributes:
        kinds: `(K, 4)`.
        concentration: `(K,)` indices into `CONCENTRATIONS`.
        effects: `(K, A, E + 1)`.
        slips: `(K, 3)`.
    """

    def __init__(
        self, transitions: Transitions, *, num_particles: int = 8, novel: float = 1.0
    ) -> None:
        self.transitions = transitions
        self.num_particles = num_particles
        self.novel = novel
        self.kinds: Floats = np.full((num_particles, 4), 1 / 4)
        self.concentration: Ints = np.full(num_particles, len(CONCENTRATIONS) // 3)
        self.effects: Floats = np.ones((num_particles, transitions.num_actions, 1))
        self.slips: Floats = np.full((num_particles, SLOTS), 1 / SLOTS)
        self.log_joint = 0.0

    @property
    def prior_of_effects(self) -> Floats:
        """Dirichlet parameters of one action's usual effects, `(E + 1,)`: all S shifts alike."""
        size = self.transitions.num_states
        known = len(self.transitions.effects)
        return self.novel / size * np.array([1.0] * known + [max(size - known, 1e-3)])

    def meet(self, generator: torch.Generator) -> None:
        """Give effects that were seen for the first time their share of what was never seen."""
        while self.effects.shape[-1] - 1 < len(self.transitions.effects):
            rest = self.transitions.num_states - self.effects.shape[-1]
            shape = torch.tensor([1.0, max(rest, 1e-3)]) * self.novel / self.transitions.num_states
            shape = shape.double().expand(*self.effects.shape[:2], 2)
            share = torch._sample_dirichlet(shape, generator=generator).numpy().clip(1e-9, 1 - 1e-9)
            split = self.effects[..., -1:] * share
            self.effects = np.concatenate([self.effects[..., :-1], split], -1)

    def infer(self, generator: torch.Generator, num_sweeps: int = 2) -> None:
        """Sweep the posterior of all that rows share, given every transition of the life."""
        self.meet(generator)
        rows = Rows.of(self.transitions)
        engine = DCPC(self.model(rows), num_particles=self.num_particles)
        engine.generator = generator
        counts = rows.dense(len(self.transitions.effects))
        state = engine.init({"counts": counts}, particles=self.particles())
        state, info = engine.run(state, num_sweeps, record=_nothing)
        self._take(state)
        assert info.log_joint is not None
        self.log_joint = float(info.log_joint.mean())

    def model(self, rows: Rows) -> GraphicalModel:
        """Declare what rows share, and the counts that it explains."""
        base = torch.from_numpy(self.prior_of_effects)
        grid = torch.from_numpy(CONCENTRATIONS)
        action = torch.from_numpy(rows.action)
        num_actions = self.transitions.num_actions
        model = GraphicalModel()
        model.add_site("kinds", lambda: Dirichlet(torch.ones(4).double()), scope="global")
        model.add_site(
            "concentration",
            lambda: Categorical(torch.ones(len(grid)).double()),
            scope="global",
        )
        model.add_site(
            "effects",
            lambda: Independent(Dirichlet(base.expand(num_actions, -1)), 1),
            scope="global",
        )
        model.add_site("slips", lambda: Dirichlet(torch.ones(SLOTS).double()), scope="global")
        model.add_site(
            "counts",
            lambda kinds, index, effects, slips: CollapsedRows(
                kinds, grid[index], effects, slips, action
            ),
            list(BLOCK),
            scope="global",
        )
        model.add_conditional(BLOCK, RedrawShared(rows, self.prior_of_effects))
        return model

    def particles(self) -> dict[str, Tensor]:
        """The cloud as the engine takes it, `(K, 1, *event)` by site."""
        found = {
            "kinds": self.kinds,
            "concentration": self.concentration,
            "effects": self.effects,
            "slips": self.slips,
        }
        return {name: torch.from_numpy(value[:, None].copy()) for name, value in found.items()}

    def _take(self, state: State) -> None:
        """Keep the cloud of a state."""
        found = {name: value[:, 0].numpy() for name, value in state.particles.items()}
        self.kinds = found["kinds"].astype(float)
        self.concentration = found["concentration"].astype(np.int64)
        self.effects = found["effects"].astype(float)
        self.slips = found["slips"].astype(float)

    def state_dict(self) -> dict[str, Any]:
        """The cloud, as tensors."""
        return {**self.particles(), "log_joint": self.log_joint}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; what was stored before rows could slip has none that do."""
        kinds = state["kinds"][:, 0].numpy().copy()
        self.kinds = np.pad(kinds, ((0, 0), (0, 4 - kinds.shape[1])))
        self.concentration = state["concentration"][:, 0].numpy().copy()
        self.effects = state["effects"][:, 0].numpy().copy()
        if "slips" in state:
            self.slips = state["slips"][:, 0].numpy().copy()
        self.log_joint = float(state["log_joint"])


@dataclass(frozen=True)
class RedrawShared:
    """Gibbs draws of all that rows share, through the kind of each row and its number of tables.

    Metropolis steps of slips | all but the kinds of rows; these kinds | all; concentration | them;
    numbers of tables and what slots hold | both; then `effects`, `kinds` and `slips` from their
    Dirichlet conditionals: the joint posterior stays as it is.

    Attributes:
        rows: the visited ones.
        prior_of_effects: `(E + 1,)`.
    """

    rows: Rows
    prior_of_effects: Floats

    def __call__(
        self, values: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Draw the block at every particle."""
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        concentration, kinds, tables, slots = loops.draw_rows(
            seed,
            values["kinds"][:, 0].numpy(),
            values["concentration"][:, 0].numpy(),
            values["slips"][:, 0].numpy(),
            values["effects"][:, 0].numpy(),
            CONCENTRATIONS,
            self.rows.action,
            self.rows.seen,
            self.rows.counts,
            self.rows.distinct,
        )
        effects = torch.from_numpy(self.prior_of_effects + tables)
        drawn = torch._sample_dirichlet(effects, generator=generator)
        shares = torch._sample_dirichlet(torch.from_numpy(1.0 + kinds), generator=generator)
        slips = torch._sample_dirichlet(torch.from_numpy(1.0 + slots), generator=generator)
        return {
            "kinds": shares[:, None],
            "concentration": torch.from_numpy(concentration)[:, None],
            "effects": drawn[:, None],
            "slips": slips[:, None],
        }


def _nothing(state: State) -> dict[str, Tensor]:
    """Record nothing, and judge nothing: the draws are exact."""
    return {}
