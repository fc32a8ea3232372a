"""An episode that is being followed: the model as it stands, the engine, and its particles."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.counts import Counts, Tables
from aif_dcpc.agents.gridworld.model.engine_values import (
    data_of,
    history_of,
    particles_of,
    values_of,
)
from aif_dcpc.agents.gridworld.model.graph import AGREED, MOVES, GridModel
from aif_dcpc.agents.gridworld.model.paths import History, agreement, likeliest
from aif_dcpc.agents.gridworld.model.slice_proposal import prior_particles, redraw_last, widened
from aif_dcpc.agents.gridworld.model.strays import log_joints, without_strays
from aif_dcpc.inference import DCPC, State
from aif_dcpc.inference.model.resampling import ess, resample_lineages

FLAT = 100  # slices up to which every step makes all its sweeps
WEIGHTS = ("log_weights", "ancestors", "log_evidence", "sweeps")  # what a state holds of its past


@dataclass(frozen=True)
class Running:
    """An episode that is being followed.

    Attributes:
        grid: the fixed parts of the model.
        engine: infers.
        state: the engine's state: what was observed, and K particles.
    """

    grid: GridConditionals
    engine: DCPC
    state: State

    @cached_property
    def history(self) -> History:
        """What was observed, in the codes of the vocabulary, as the engine holds it."""
        return history_of(self.state.values)

    @cached_property
    def particles(self) -> GridParticles:
        """The latents of the K particles."""
        return particles_of(self.state.values)

    @cached_property
    def weights(self) -> Tensor:
        """The normalised weights of the particles, `(K,)`."""
        return self.state.weights()[:, 0]

    @cached_property
    def likeliest(self) -> int:
        """Number of the heaviest particle of those in the likeliest place."""
        trajectory = self.grid.path(self.particles.events, self.history)
        return likeliest(trajectory.position[:, -1], self.weights)

    @property
    def free_energy(self) -> float:
        """Minus the sum of log mean incremental weights, nats."""
        return -float(self.state.log_evidence)

    @property
    def ess(self) -> float:
        """Effective sample size of the weights."""
        return float(ess(self.state.log_weights)[0])

    @property
    def log_joint(self) -> float:
        """log p(data, events), maps and tables integrated out, averaged over particles, nats."""
        found = log_joints(self.grid, self.particles, self.history)
        return float((self.weights * found).sum())

    def counts_by_particle(self) -> Counts:
        """What happened how often, `(K, ...)`."""
        particles = self.particles
        return self.grid.counts(particles.events, particles.initial, self.history)

    def sweep(self, generator: torch.Generator) -> tuple["Running", dict[str, float]]:
        """Re-infer the whole history once; return the acceptance rates of the sites, too."""
        state, info = self.engine.sweep(self.state, generator, adapt=False, log_joint=False)
        accepted = {site: float(value) for site, value in info.acceptance.items()}
        return replace(self, state=state), accepted

    def arrived(self, state: State, generator: torch.Generator) -> "Running":
        """The same model after one more slice; the last event is drawn anew if lineages were resampled."""
        if bool((state.log_weights != state.log_weights[0]).any()):
            return replace(self, state=state)
        values = state.values
        found = redraw_last(self.grid, particles_of(values), history_of(values), generator)
        return replace(self, state=state.with_values(values_of(found)))

    def gathered(self, generator: torch.Generator) -> "Running":
        """The same with strays brought back, where the particles do not agree where they are now."""
        particles = self.particles
        trajectory = self.grid.path(particles.events, self.history)
        if agreement(trajectory.position[:, -1]) >= AGREED:
            return self
        found = without_strays(self.grid, particles, self.history, self.weights, generator)
        return replace(self, state=self.state.with_values(values_of(found)))

    def holding(self, particles: GridParticles, history: History, old: State) -> "Running":
        """The same model with other particles of a history, with the weights of another state."""
        data = {name: value[None] for name, value in data_of(history).items()}
        state = self.state.replace(
            values={**data, **values_of(particles)},
            length=len(history),
            cache={},
            **{name: getattr(old, name) for name in WEIGHTS},
        )
        return replace(self, state=state)

    def saved(self) -> dict[str, Any]:
        """The particles and their weights as plain tensors."""
        particles = self.particles
        return {
            "events": particles.events,
            "initial": particles.initial,
            "tables": dict(vars(particles.tables)),
            **{name: getattr(self.state, name) for name in WEIGHTS},
        }

    def restored(self, saved: Mapping[str, Any], history: History) -> "Running":
        """The same model with the particles of a history that `saved` gave."""
        particles = GridParticles(saved["events"], saved["initial"], Tables(**saved["tables"]))
        old = self.state.replace(**{name: saved[name] for name in WEIGHTS})
        return self.holding(particles, history, old)


def set_up(grid: GridConditionals, history: History, num_particles: int) -> Running:
    """Set the engine up on slice 0 of a history, with placeholders for particles."""
    engine = DCPC(GridModel(grid).build(), num_particles=num_particles, moves=MOVES)
    return Running(grid, engine, engine.init(data_of(history.head(1)), seed=0))


def start(first: Running, generator: torch.Generator) -> Running:
    """Draw the particles of slice 0, weighed by how well they predicted the first view."""
    number = len(first.state.log_weights)
    particles, gain = prior_particles(first.grid, first.history, number, generator)
    evidence = torch.logsumexp(gain, 0) - np.log(len(gain))
    state = first.state.with_values(values_of(particles))
    weighed = state.replace(log_weights=gain[:, None], log_evidence=evidence[None])
    resampled = resample_lineages(weighed, generator)
    fresh = torch.arange(len(gain))[:, None]
    return replace(first, state=resampled.replace(ancestors=fresh))


def regrown(
    before: Running, after: Running, history: History, generator: torch.Generator
) -> Running:
    """The particles of `before` under the grown vocabulary and map of `after`, with new tables.

    All tables are drawn anew given events and map; `history` is in the codes of the grown
    vocabulary.
    """
    particles = before.particles
    if after.grid.geometry.size > before.grid.geometry.size:
        position = after.grid.path(particles.events, history).position
        wider = widened(after.grid, particles, before.grid.geometry, position, generator)
        particles = replace(particles, initial=wider)
    tables = after.grid.draw_all_tables(particles.events, particles.initial, history, generator)
    return after.holding(replace(particles, tables=tables), history, before.state)


def sweeps_due(every: int, length: int, generator: torch.Generator) -> int:
    """How many sweeps a step makes: fewer in a long episode, so that a step costs what it did.

    A sweep goes through the full history. Beyond `FLAT` slices each is made with probability
    `FLAT` / length.

    Args:
        every: how many a step makes in a short episode.
        length: of the history, slices.
        generator: source of randomness.
    """
    if length <= FLAT:
        return every
    return int((torch.rand(every, generator=generator) < FLAT / length).sum())
