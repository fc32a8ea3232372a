"""Following the running episode: vocabulary, history, particles.

Each new observation is taken in by the arrival proposal; then sweeps re-infer the full latent
history of the episode.
"""

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.effect_discovery import suspected_effect
from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, map_belief
from aif_dcpc.agents.gridworld.model.counts import NOTHING, Counts, no_counts
from aif_dcpc.agents.gridworld.model.geometry import geometry_of
from aif_dcpc.agents.gridworld.model.paths import (
    History,
    ObservedEpisode,
    Trajectory,
    effects_of,
)
from aif_dcpc.agents.gridworld.model.vocabulary import new_vocabulary
from aif_dcpc.agents.gridworld.planning.belief import Belief, PosteriorTables
from aif_dcpc.agents.gridworld.planning.visibility import Transparency
from aif_dcpc.agents.gridworld.running import Running, regrown, set_up, start
from aif_dcpc.agents.gridworld.settings import HierarchicalSettings
from aif_dcpc.agents.gridworld.tables.prior import Summary
from aif_dcpc.agents.protocol import EgocentricView, Observation

RECENT = 5  # slices over which sightings of a new token are counted
SIGHTINGS = 2  # needed where misreading is common
RARE_MISREADING = 0.02


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
        """The episode that is being followed.

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
        admitted = self._admit()
        history = self.episode.history(self.vocabulary, self.view.unseen_token)
        self.transparency.update(history.view[-1].numpy(), self.geometry)
        self._discover_effects(history, slices=RECENT if admitted else 0)
        self._arrive(history)
        started = time.perf_counter()
        num_sweeps = self.settings.inference.num_sweeps
        for _ in range(num_sweeps):
            self.sweep()
        self.ms_per_sweep = 1e3 * (time.perf_counter() - started) / max(num_sweeps, 1)

    def _discover_effects(self, history: History, slices: int) -> None:
        """Register the effects that the last slice suggests, and so many slices before it."""
        now = len(history)
        first = max(now - slices, 2) if slices else now
        for end in range(first, now + 1):
            effect = suspected_effect(history.head(end), self.geometry, self.view.columns)
            if effect is not None:
                self.vocabulary.register(effect)

    def _admit(self) -> bool:
        """Admit tokens seen often enough lately not to be misreadings; return whether any was new.

        Where misreading is rare, once is enough. Tokens are numbered in the order of their first
        sighting, so that renaming tokens changes nothing.
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
        """The model as it stands now, with room for everything in the vocabulary."""
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
        """Let the particles take in the last slice of a history."""
        before = self.running
        if before is None:
            self.running = start(self._set_up(history), self.generator)
            return
        if self._grown(before):
            after = self._set_up(history.head(len(before.history)))
            before = regrown(before, after, self.generator)
        self.running = before.append(history, self.generator)

    def _set_up(self, history: History) -> Running:
        grid = self.grid()
        self.settled = len(self.vocabulary.tokens.members)
        return set_up(grid, history, self.settings.inference.num_particles)

    def _grown(self, before: Running) -> bool:
        """Whether the vocabulary has grown since the engine was set up, be it in hindsight."""
        new = self.vocabulary
        old = before.grid
        sizes = new.tokens.capacity, new.hands.capacity, new.max_events
        same_events = int(old.effects.known.sum()) == new.num_events
        same_tokens = self.settled == len(new.tokens.members)
        return sizes != tuple(old.past.transition.shape[1:]) or not (same_events and same_tokens)

    # -- sweeps ------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Re-infer the history of the running episode once."""
        self.running, self.acceptance = self.now.sweep(self.generator)

    def reinfer(
        self, episode: ObservedEpisode, events: Tensor, num_sweeps: int
    ) -> tuple[Tensor, Counts]:
        """Infer a stored episode afresh, its own old counts taken out of `past` by the caller.

        Returns:
            new event sequences `(K, T)` and the episode's counts per particle.
        """
        history = episode.history(self.vocabulary, self.view.unseen_token)
        now = self._set_up(history)
        particles = now.grid.replay(events, history, self.generator)
        now = now.holding(particles, history, now.state)
        for _ in range(num_sweeps):
            now, _ = now.sweep(self.generator)
        return now.particles.events, now.counts_by_particle()

    def counts(self) -> Counts:
        """Expected counts of the running episode."""
        return self.now.counts_by_particle().average(self.now.weights)

    # -- what the planner is told ------------------------------------------------------------------

    def belief(self, total: Counts) -> Belief:
        """The present state of the world, particles averaged."""
        now = self.now
        trajectory, _, _ = now.grid.trace(now.particles.events, now.history)
        best = int(now.weights.argmax())
        cells = map_belief(now.grid, now.particles, now.history, now.weights, total)
        heading = now.history.heading[-1].expand(len(now.weights), 1)
        pose = torch.cat([trajectory.position[:, -1], heading], 1)
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
        """Which map cells the best particle has seen or stood on, `(M,)`."""
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
        of_events, of_outcomes = self.summaries
        transition, transition_novelty, transition_later = of_events.update(
            total.transition, grid.events
        )
        outcome, outcome_novelty, outcome_later = of_outcomes.update(total.outcome, grid.outcomes)
        effects = grid.effects
        self.misread = float(grid.prior.mean_misread(total))
        return PosteriorTables(
            transition=_folded(transition, known),
            transition_without_optimism=_folded(transition_later, known),
            transition_novelty=transition_novelty.double().numpy(),
            outcome=outcome.double().numpy(),
            outcome_without_optimism=outcome_later.double().numpy(),
            outcome_novelty=outcome_novelty.double().numpy(),
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
        """Everything but the settings, as plain tensors, numbers, lists and dicts."""
        return {
            "vocabulary": self.vocabulary.state_dict(),
            "past": dict(vars(self.past)),
            "misread": self.misread,
            "settled": self.settled,
            "transparency": torch.as_tensor(self.transparency.counts),
            "summaries": [summary.state_dict() for summary in self.summaries],
            "episode": self.episode.tensors(),
            "running": None if self.running is None else self.running.saved(),
        }

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
        if state["running"] is not None:
            history = self.episode.history(self.vocabulary, self.view.unseen_token)
            self.running = self._set_up(history).restored(state["running"])


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
