"""Following the running episode: vocabulary, history, particles.

Each new observation is taken in by the arrival proposal; then sweeps re-infer the full latent
history of the episode.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.effect_discovery import suspected_effect
from aif_dcpc.agents.gridworld.model.conditionals import (
    GridConditionals,
    GridParticles,
    map_belief,
)
from aif_dcpc.agents.gridworld.model.counts import NOTHING, Counts, Tables, no_counts
from aif_dcpc.agents.gridworld.model.geometry import geometry_of
from aif_dcpc.agents.gridworld.model.graph import (
    GridModel,
    data_of,
    particles_of,
    slice_of,
    values_of,
)
from aif_dcpc.agents.gridworld.model.paths import History, Trajectory, effects_of
from aif_dcpc.agents.gridworld.model.slice_proposal import prior_particles
from aif_dcpc.agents.gridworld.model.vocabulary import new_vocabulary
from aif_dcpc.agents.gridworld.planning.belief import Belief, PosteriorTables
from aif_dcpc.agents.gridworld.planning.visibility import Transparency
from aif_dcpc.agents.gridworld.replay import ObservedEpisode
from aif_dcpc.agents.gridworld.settings import HierarchicalSettings
from aif_dcpc.agents.gridworld.tables.prior import Summary
from aif_dcpc.agents.protocol import EgocentricView, Observation
from aif_dcpc.inference import DCPC, State
from aif_dcpc.inference.model.densities import log_joint
from aif_dcpc.inference.model.resampling import ess, resample_lineages

RECENT = 5  # slices over which sightings of a new token are counted
SIGHTINGS = 2  # needed where misreading is common
RARE_MISREADING = 0.02


@dataclass(frozen=True)
class Running:
    """The running episode: observations in codes, the model, the engine's cloud.

    Attributes:
        history: the history.
        grid: the fixed parts of the model.
        engine: infers.
        state: the engine's cloud, K particles.
    """

    history: History
    grid: GridConditionals
    engine: DCPC
    state: State

    @property
    def particles(self) -> GridParticles:
        """The particles."""
        return particles_of(self.state.values)

    @property
    def weights(self) -> Tensor:
        """Normalised `(K,)`."""
        return self.state.weights()[:, 0]

    @property
    def free_energy(self) -> float:
        """Minus the sum of log mean incremental weights, nats."""
        return -float(self.state.log_evidence)

    @property
    def ess(self) -> float:
        """Effective sample size of the weights."""
        return float(ess(self.state.log_weights)[0])


class EpisodeFilter:
    """Particles over the full history of the running episode.

    Args:
        view: geometry of the view.
        num_actions: A.
        settings: of the agent.
        generator: source of all randomness.
    """

    def __init__(
        self,
        view: EgocentricView,
        num_actions: int,
        settings: HierarchicalSettings,
        generator: torch.Generator,
    ) -> None:
        self.view = view
        self.num_actions = num_actions
        self.settings = settings
        self.generator = generator
        self.geometry = geometry_of(view, settings.map_size)
        self.vocabulary = new_vocabulary(view.empty_hand_token)
        self.past = no_counts(num_actions, self.vocabulary)
        self.transparency = Transparency.new(self.vocabulary.tokens.capacity)
        self.summaries = Summary(0), Summary(NOTHING)
        self.episode = ObservedEpisode()
        self.running: Running | None = None
        self.misread = 0.0
        self.settled = 0
        self.ms_per_sweep = 0.0
        self.acceptance: dict[str, float] = {}

    @property
    def now(self) -> Running:
        """The running episode.

        Raises:
            RuntimeError: before the first observation.
        """
        if self.running is None:
            raise RuntimeError("no episode is running: call act with the first observation.")
        return self.running

    # -- arrival -----------------------------------------------------------------------------------

    def observe(self, observation: Observation, action: int, outcome: int) -> None:
        """Append what was observed after an action, and sweep."""
        view = np.asarray(observation["view"]).ravel()
        heading = int(observation["heading"])
        carried = int(observation["carried"])
        self.episode.append(action, heading, carried, outcome, view)
        self.vocabulary.hands.add(carried)
        news = self._admit()
        history = self.episode.history(self.vocabulary, self.view.unseen_token)
        self.transparency.update(history.view[-1].numpy(), self.geometry)
        for end in range(max(len(history) - RECENT, 2) if news else len(history), len(history) + 1):
            effect = suspected_effect(history.head(end), self.geometry, self.view.columns)
            if effect is not None:
                self.vocabulary.register(effect)
        self._arrive(history)
        start = time.perf_counter()
        sweeps = self.settings.inference.num_sweeps
        for _ in range(sweeps):
            self.sweep()
        self.ms_per_sweep = 1e3 * (time.perf_counter() - start) / max(sweeps, 1)

    def _admit(self) -> bool:
        """Admit tokens seen often enough lately not to be misreadings; where misreading is rare, once is enough.

        They are numbered in the order of their first sighting, so that renaming tokens changes
        nothing.
        """
        recent = np.concatenate(self.episode.view[-RECENT:])
        tokens, first, counts = np.unique(
            recent[recent != self.view.unseen_token], return_index=True, return_counts=True
        )
        tokens = tokens[first.argsort()]
        counts = counts[first.argsort()]
        needed = 1 if self.misread < RARE_MISREADING else SIGHTINGS
        known = len(self.vocabulary.tokens.members)
        for token in tokens[counts >= needed]:
            self.vocabulary.tokens.add(int(token))
        self.transparency.grow(self.vocabulary.tokens.capacity)
        return len(self.vocabulary.tokens.members) > known

    def grid(self) -> GridConditionals:
        """The model as it stands now."""
        self.past = self.past.resized(self.num_actions, self.vocabulary)
        effects = effects_of(self.geometry, self.vocabulary)
        return GridConditionals(
            self.geometry,
            effects,
            self.settings.prior,
            self.past,
            self.vocabulary.tokens.capacity + 1,
        )

    def _arrive(self, history: History) -> None:
        before = self.running
        if before is None:
            self.running = self._start(history)
            return
        if self._grown(before):
            before = self._regrown(before, history.head(len(before.history)))
        state = before.engine.append(before.state, slice_of(history), self.generator)
        self.running = replace(before, history=history, state=state)

    def _start(self, history: History) -> Running:
        """The engine on slice 0, its cloud weighed by how well stored experience predicted the first view."""
        first = self._engine_on(history)
        particles, gain = prior_particles(
            first.grid, history, self.settings.inference.num_particles, self.generator
        )
        evidence = torch.logsumexp(gain, 0) - np.log(len(gain))
        state = first.state.with_values(values_of(particles))
        state = resample_lineages(
            state.replace(log_weights=gain[:, None], log_evidence=evidence[None]), self.generator
        )
        fresh = torch.arange(len(gain))[:, None]
        return replace(first, state=state.replace(ancestors=fresh))

    def _engine_on(self, history: History) -> Running:
        grid = self.grid()
        self.settled = len(self.vocabulary.tokens.members)
        engine = DCPC(GridModel(grid).build(), num_particles=self.settings.inference.num_particles)
        return Running(history, grid, engine, engine.init(data_of(history.head(1)), seed=0))

    def _grown(self, before: Running) -> bool:
        """Whether the vocabulary has grown since the engine was set up, or tokens were admitted in hindsight."""
        new = self.vocabulary
        old = before.grid
        sizes = new.tokens.capacity, new.hands.capacity, new.max_events
        known = int(old.effects.known.sum()) == new.num_events and self.settled == len(
            new.tokens.members
        )
        return sizes != tuple(old.past.transition.shape[1:]) or not known

    def _regrown(self, before: Running, history: History) -> Running:
        """The same particles under the grown vocabulary, all tables drawn anew given events and map."""
        after = self._engine_on(history)
        particles = before.particles
        tables = after.grid.draw_all_tables(
            particles.events, particles.initial, history, self.generator
        )
        return replace(
            after,
            state=self._state_on(after, before.state, replace(particles, tables=tables), history),
        )

    @staticmethod
    def _state_on(after: Running, old: State, particles: GridParticles, history: History) -> State:
        data = {name: value[None] for name, value in data_of(history).items()}
        return after.state.replace(
            values={**data, **values_of(particles)},
            length=len(history),
            log_weights=old.log_weights,
            ancestors=old.ancestors,
            log_evidence=old.log_evidence,
            sweeps=old.sweeps,
            cache={},
        )

    # -- sweeps ------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Re-infer the history of the running episode once."""
        now = self.now
        state, info = now.engine.sweep(now.state, self.generator, adapt=False, log_joint=False)
        self.acceptance = {site: float(value) for site, value in info.acceptance.items()}
        self.running = replace(now, state=state)

    def log_joint(self) -> float:
        """log p(data, particles), averaged over particles, nats."""
        now = self.now
        return float((now.weights * log_joint(now.state)[:, 0]).sum())

    def reinfer(
        self, episode: ObservedEpisode, events: Tensor, num_sweeps: int
    ) -> tuple[Tensor, Counts]:
        """Infer a stored episode afresh, its own old counts taken out of `past` by the caller.

        Returns:
            new event sequences `(K, T)` and the episode's counts per particle.
        """
        history = episode.history(self.vocabulary, self.view.unseen_token)
        now = self._engine_on(history)
        particles = now.grid.replay(events, history, self.generator)
        state = self._state_on(now, now.state, particles, history)
        for _ in range(num_sweeps):
            state, _ = now.engine.sweep(state, self.generator, adapt=False, log_joint=False)
        particles = particles_of(state.values)
        return particles.events, now.grid.counts(particles.events, particles.initial, history)

    def counts(self) -> Counts:
        """Expected counts of the running episode."""
        now = self.now
        return now.grid.counts(now.particles.events, now.particles.initial, now.history).average(
            now.weights
        )

    # -- what the planner is told ------------------------------------------------------------------

    def belief(self, total: Counts) -> Belief:
        """The present state of the world, particles averaged."""
        now = self.now
        trajectory, _, _ = now.grid.trace(now.particles.events, now.history)
        best = int(now.weights.argmax())
        cells = map_belief(now.grid, now.particles, now.history, now.weights, total)
        pose = torch.cat(
            [trajectory.position[:, -1], now.history.heading[-1].expand(len(now.weights), 1)], 1
        )
        return Belief(
            cells=cells.double().numpy(),
            unseen=now.grid.prior.mean_token_prior(total).double().numpy(),
            seen=self._seen(trajectory, best),
            pose=pose.numpy(),
            weights=now.weights.double().numpy(),
            hand=int(trajectory.hand[best, -1]),
            visited=_visited(trajectory, now.history, best),
        )

    def _seen(self, trajectory: Trajectory, best: int) -> npt.NDArray[np.bool_]:
        now = self.now
        torus = self.geometry.torus
        sights = now.grid.sightings(now.history)
        anchor = trajectory.anchor[best]
        seen = np.zeros(self.geometry.size**2, dtype=bool)
        seen[torus.cell(anchor[sights.time] + sights.shift).numpy()] = True
        seen[torus.cell(anchor + torus.here).numpy()] = True
        return seen

    def posterior_tables(self, total: Counts) -> PosteriorTables:
        """The tables, given expected counts of all episodes."""
        grid = self.now.grid
        known = self.vocabulary.num_events
        transition, newness, transition_without_optimism = self.summaries[0].update(
            total.transition, grid.events
        )
        outcome, outcome_newness, outcome_without_optimism = self.summaries[1].update(
            total.outcome, grid.outcomes
        )
        effects = grid.effects
        self.misread = float(grid.prior.mean_misread(total))
        return PosteriorTables(
            transition=_folded(transition, known),
            transition_without_optimism=_folded(transition_without_optimism, known),
            transition_novelty=newness.double().numpy(),
            outcome=outcome.double().numpy(),
            outcome_without_optimism=outcome_without_optimism.double().numpy(),
            outcome_novelty=outcome_newness.double().numpy(),
            transparency=self.transparency.mean(),
            misread=self.misread,
            num_tokens=grid.num_tokens,
            steps=effects.steps[:known].numpy(),
            turns=effects.turns[:known].numpy(),
            writes=effects.writes[:known].numpy(),
            takes=effects.takes[:known].numpy(),
        )

    # -- persistence -------------------------------------------------------------------------------

    def forget(self) -> None:
        """Drop the running episode."""
        self.episode = ObservedEpisode()
        self.running = None

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors, numbers, lists and dicts."""
        state: dict[str, Any] = {
            "vocabulary": self.vocabulary.state_dict(),
            "past": dict(vars(self.past)),
            "misread": self.misread,
            "settled": self.settled,
            "transparency": torch.as_tensor(self.transparency.counts),
            "summaries": [summary.state_dict() for summary in self.summaries],
            "episode": self.episode.tensors(),
            "running": None,
        }
        if self.running is not None:
            particles = self.running.particles
            state_now = self.running.state
            state["running"] = {
                "events": particles.events,
                "initial": particles.initial,
                "tables": dict(vars(particles.tables)),
                "log_weights": state_now.log_weights,
                "ancestors": state_now.ancestors,
                "log_evidence": state_now.log_evidence,
                "sweeps": state_now.sweeps,
            }
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.vocabulary = self.vocabulary.from_state_dict(state["vocabulary"])
        self.past = Counts(**state["past"])
        for summary, kept in zip(self.summaries, state["summaries"], strict=True):
            summary.load_state_dict(kept)
        self.transparency = Transparency(np.array(state["transparency"]))
        self.misread = float(state["misread"])
        self.settled = int(state["settled"])
        self.episode = ObservedEpisode.from_tensors(state["episode"])
        self.running = None
        saved = state["running"]
        if saved is not None:
            particles = GridParticles(saved["events"], saved["initial"], Tables(**saved["tables"]))
            history = self.episode.history(self.vocabulary, self.view.unseen_token)
            fresh = self._engine_on(history)
            kept = {
                name: saved[name] for name in ("log_weights", "ancestors", "log_evidence", "sweeps")
            }
            self.running = replace(
                fresh, state=self._state_on(fresh, fresh.state.replace(**kept), particles, history)
            )


def _folded(table: Tensor, known: int) -> Floats:
    """A transition table without its free event slots, whose probability goes to event 0."""
    folded = table.double().numpy()[..., :known].copy()
    folded[..., 0] += table.double().numpy()[..., known:].sum(-1)
    return folded


def _visited(
    trajectory: Trajectory, history: History, best: int
) -> dict[tuple[int, int, int], Ints]:
    """What was last seen from each pose, on the best particle's path."""
    position = trajectory.position[best].tolist()
    heading = history.heading.tolist()
    view = history.view.numpy()
    return {(*position[t], heading[t]): view[t] for t in range(len(history))}
