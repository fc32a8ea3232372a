"""Following the running episode: vocabulary, history, and the engine's particles.

Each new observation is taken in by the slice proposal; then sweeps re-infer the full latent
history of the episode.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Ints
from aif_dcpc.agents.gridworld.deeds import Deeds, deeds_of
from aif_dcpc.agents.gridworld.effect_discovery import suspected_effect
from aif_dcpc.agents.gridworld.layouts import KNOWN, Layouts
from aif_dcpc.agents.gridworld.lessons import Lessons
from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals
from aif_dcpc.agents.gridworld.model.counts import NOTHING, Counts, no_counts
from aif_dcpc.agents.gridworld.model.engine_values import slice_of
from aif_dcpc.agents.gridworld.model.geometry import geometry_of
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.paths import (
    Effects,
    History,
    ObservedEpisode,
    effects_of,
    follow,
)
from aif_dcpc.agents.gridworld.model.vocabulary import SAME, new_vocabulary
from aif_dcpc.agents.gridworld.planning.belief import Belief, PosteriorTables, ahead_of, tables_of
from aif_dcpc.agents.gridworld.planning.visibility import Transparency
from aif_dcpc.agents.gridworld.rewards import by_size
from aif_dcpc.agents.gridworld.running import Running, regrown, set_up, start, sweeps_due
from aif_dcpc.agents.gridworld.settings import HierarchicalSettings
from aif_dcpc.agents.gridworld.tables.heads import stages
from aif_dcpc.agents.gridworld.tables.prior import PooledDirichletPrior
from aif_dcpc.agents.gridworld.tables.summary import Summary
from aif_dcpc.agents.gridworld.usual_map import Places, UsualMap
from aif_dcpc.agents.gridworld.wanderers import Wanderers
from aif_dcpc.agents.protocol import EgocentricView, Observation

RECENT = 5  # slices over which sightings of a new token are counted
SIGHTINGS = 2  # needed where misreading is common
RARE_MISREADING = 0.02
NO_WORDS = np.zeros(0, np.int64)


class EpisodeFilter:
    """Particles over the full history of the running episode.

    Args:
        view: geometry of the view.
        num_actions: A.
        settings: of the agent.
        generator: source of all randomness.

    Attributes:
        learns: unless so, what lets sight pass and what moves by itself stay as they are known; what
            is met for the first time gets its slot all the same.
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
        self.looks = Looks.of(view)
        self.vocabulary = new_vocabulary(self.looks, view.empty_hand_token)
        self.past = no_counts(num_actions, self.vocabulary)
        self.transparency = Transparency.new(self.vocabulary.tokens.capacity)
        self.summaries = Summary(0), Summary(NOTHING, apart=True)
        self.episode = ObservedEpisode()
        self.running: Running | None = None
        self.learns = True
        self.misread = 0.0
        self.settled = 0
        self.ms_per_sweep = 0.0
        self.acceptance: dict[str, float] = {}
        self.lessons = Lessons(self.looks, settings.prior, num_actions)
        self.wanderers = Wanderers(self.looks, view.columns)
        self.layouts = Layouts(usual=UsualMap(self.looks.kind))
        self._effects: tuple[tuple[int, ...], Effects] | None = None
        self._events: tuple[Tensor, GridConditionals, PooledDirichletPrior] | None = None

    @property
    def now(self) -> Running:
        """The episode that is being followed.

        Raises:
            RuntimeError: before the first observation.
        """
        if self.running is None:
            raise RuntimeError("no episode is running: call act with the first observation.")
        return self.running

    # -- one more observation ----------------------------------------------------------------------

    def observe(
        self, observation: Observation, action: int, outcome: int, faced: int, reward: float = 0.0
    ) -> None:
        """Append what was observed after an action, done while facing a raw token, and sweep."""
        view = np.array(observation["view"]).ravel()
        carried = int(observation["carried"])
        if not len(self.episode):
            words = np.unique(observation.get("mission", NO_WORDS))
            self.episode.mission = tuple(words[words > 0].tolist())
        heading = int(observation["heading"])
        self.episode.append(action, heading, carried, outcome, faced, view, reward)
        self.vocabulary.hold(carried)
        admitted = self._admit()
        history = self.history_of(self.episode)
        shown = self.vocabulary.encode(view, self.view.unseen_token)
        if self.learns:
            self.transparency.update(shown, self.geometry)
        if self._discover_effects(history, slices=RECENT if admitted else 0):
            self.transparency.grow(self.vocabulary.tokens.capacity)
            history = self.history_of(self.episode)
        self._append(history)
        started = time.perf_counter()
        every = self.settings.inference.num_sweeps
        num_sweeps = sweeps_due(every, len(history), self.generator)
        for _ in range(num_sweeps):
            self.sweep()
        if num_sweeps:
            self.ms_per_sweep = 1e3 * (time.perf_counter() - started) / num_sweeps
        self.running = self.now.gathered(self.generator)
        if self.learns and self._watch():
            history = self.history_of(self.episode)
        self.running = self._with_room(self.now, history)

    def _watch(self) -> bool:
        """Look what has changed its place since the last slice; return whether other kinds move now."""
        if len(self.episode) < 2:
            return False
        moving = self.moving()
        before, ahead = self._cells(-2)
        after, _ = self._cells(-1)
        self.wanderers.watch(self.episode.view[-2:], [before, after], ahead, self.view.unseen_token)
        return self.moving() != moving

    def _cells(self, time: int) -> tuple[Ints, int]:
        """Map cells of the view in a slice, and the one ahead, by the likeliest particle's path."""
        now = self.now
        best = now.likeliest
        trajectory = now.grid.path(now.particles.events, now.history)
        torus = self.geometry.torus
        places = trajectory.anchor[best, time] + torus.views[now.history.heading[time]]
        return torus.cell(places).numpy(), int(trajectory.cell_ahead[best, time])

    def history_of(self, episode: ObservedEpisode) -> History:
        """An episode in the codes of the vocabulary."""
        match = self.lessons.task.match(self.vocabulary, episode.mission)
        return episode.history(self.vocabulary, self.view.unseen_token, match, self.moving())

    def moving(self) -> list[int]:
        """Slots of tokens whose kind changes its place by itself."""
        return self.wanderers.slots(self.vocabulary)

    def faced(self, belief: Belief) -> int:
        """The raw token that the likeliest particle faces; the unseen one if it does not know it."""
        return self.raw(ahead_of(belief, self.geometry))

    def raw(self, slot: int) -> int:
        """The raw token of a slot; the unseen one where the slot is free or less than 0."""
        members = self.vocabulary.tokens.members
        return members[slot] if 0 <= slot < len(members) else self.view.unseen_token

    def _discover_effects(self, history: History, slices: int) -> bool:
        """Register the effects that the last slice suggests, and so many slices before it.

        Returns:
            whether the vocabulary has grown.
        """
        known = self.vocabulary.extent()
        now = len(history)
        first = max(now - slices, 2) if slices else now
        for end in range(first, now + 1):
            found = suspected_effect(
                history.head(end), self.geometry, self.view.columns, self.vocabulary
            )
            if found is not None:
                self.vocabulary.register(*found)
        return self.vocabulary.extent() != known

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
            self.vocabulary.admit(int(token))
        self.transparency.grow(self.vocabulary.tokens.capacity)
        return len(self.vocabulary.tokens.members) > known

    def effects(self) -> Effects:
        """What events do, as the vocabulary stands now; made anew where it has grown."""
        milestone = self.vocabulary.tokens.index(self.lessons.task.milestone, SAME)
        moving = self.moving()
        key = (*self.vocabulary.extent(), milestone, *moving)
        if self._effects is None or self._effects[0] != key:
            self._effects = key, effects_of(self.geometry, self.vocabulary, milestone, moving)
        return self._effects[1]

    def grid(self) -> GridConditionals:
        """The model as it stands now, with room for everything in the vocabulary."""
        self.past = self.past.resized(self.num_actions, self.vocabulary)
        known = self.settings.prior, self.past, self.vocabulary.tokens.capacity + 1
        return GridConditionals(self.geometry, self.effects(), *known)

    def _append(self, history: History) -> None:
        """Let the particles take in the last slice of a history."""
        before = self.running
        if before is None:
            self.running = start(self._set_up(history), self.generator)
            return
        now = self._with_room(before, history.head(len(history) - 1))
        state = now.engine.append(now.state, slice_of(history), self.generator)
        self.running = now.arrived(state, self.generator)

    def _with_room(self, before: Running, history: History) -> Running:
        """The same particles, with room for all tokens, events and places that they know of."""
        events = before.particles.events
        effects = self.effects()
        if before.grid.effects is effects:
            path = before.grid.path(events, history)
        else:
            path = follow(events, history, effects, self.geometry)
        self.geometry = self.geometry.holding(path.position)
        if not self._grown(before):
            return before
        return regrown(before, self._set_up(history), history, self.generator)

    def _set_up(self, history: History) -> Running:
        grid = self.grid()
        self.settled = len(self.vocabulary.tokens.members)
        return set_up(grid, history, self.settings.inference.num_particles)

    def _grown(self, before: Running) -> bool:
        """Whether vocabulary or map have grown since the engine was set up, be it in hindsight."""
        old, new = before.grid.effects, self.effects()
        same_tokens = self.settled == len(self.vocabulary.tokens.members)
        same_sizes = old.sizes == new.sizes and old.writes.shape == new.writes.shape
        same_map = before.grid.geometry.size == self.geometry.size
        if not (same_sizes and same_map and same_tokens):
            return True
        parts = () if old is new else ("possible", "known", "grips", "moving")
        return not all(torch.equal(getattr(old, part), getattr(new, part)) for part in parts)

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
        history = self.history_of(episode)
        path = follow(events, history, self.effects(), self.geometry)
        self.geometry = self.geometry.holding(path.position)
        now = self._set_up(history)
        particles = now.grid.replay(events, history, self.generator)
        now = now.holding(particles, history, now.state)
        for _ in range(num_sweeps):
            now, _ = now.sweep(self.generator)
        return now.particles.events, now.counts_by_particle()

    def counts(self) -> Counts:
        """Expected counts of the running episode."""
        return self.now.counts_by_particle().average(self.now.weights)

    def with_wanderers(self, belief: Belief) -> Belief:
        """A belief in which moving things stand where they are seen now, and may be gone later."""
        if not self.moving():
            return belief
        shown = self.vocabulary.encode(self.episode.view[-1], self.view.unseen_token)
        return self.wanderers.standing(belief, self._cells(-1)[0], shown, self.vocabulary)

    def with_layouts(self, belief: Belief) -> Belief:
        """A belief in which cells that were not seen yet hold what earlier episodes say."""
        if not self.layouts.episodes:
            return belief
        known = self.geometry.unwrapped(belief.origin), self.vocabulary.tokens.members
        return self.layouts.recall(belief, *known, self.start_of(belief))

    def start_of(self, belief: Belief) -> Places:
        """What stood where at the start, as far as that is known, by the likeliest particle."""
        cells = (belief.seen & (belief.cells.max(1) > KNOWN)).nonzero()[0]
        places = self.geometry.unwrapped(belief.origin)[cells].tolist()
        slots = self.now.particles.initial[belief.likeliest, cells].tolist()
        return {(y, x): self.raw(slot) for (y, x), slot in zip(places, slots, strict=True)}

    def latest_deeds(self) -> Deeds:
        """The steps of the running episode, as its likeliest particle knows them."""
        now = self.now
        names = np.array([self.raw(slot) for slot in range(now.grid.num_slots)])
        known = now.particles, now.likeliest, now.history
        return deeds_of(now.grid, *known, names, self.episode.mission, self.episode.reward)

    def outcomes_of(self, deeds: Deeds) -> Tensor:
        """Counts of outcomes `(A + E, P, O)` of steps, under the task as it is known now."""
        return self.lessons.outcomes_of(deeds, self.vocabulary, self.effects(), self.past.outcome)

    def posterior_tables(self, total: Counts) -> PosteriorTables:
        """The tables, given expected counts of all episodes."""
        known = self.vocabulary.num_events + 1
        match = self.now.history.match
        now = self.now.grid, self.summaries, self._prior_of_events(total), self.transparency
        codes = self.vocabulary, self.effects(), self.past.outcome
        arrivals = self.lessons.arrivals(*codes)
        deeds = self.latest_deeds() if arrivals.any or any(self.episode.reward) else None
        running, tried, doubled = self.lessons.so_far(deeds, *codes, self.geometry.size**2)
        wanted = self.lessons.task.wanted(self.vocabulary, self.episode.mission, doubled)
        tables = tables_of(*now, total, known, match, arrivals, wanted, running, tried)
        self.misread = tables.misread
        sizes = self.lessons.sizes(arrivals, *codes, deeds)
        return by_size(tables, sizes.worth, self.effects(), match, wanted)

    def _prior_of_events(self, total: Counts) -> PooledDirichletPrior:
        """Prior of the events as all that has happened says; made anew when something new has."""
        met = stages(total.transition)
        grid = self.now.grid
        last = self._events
        if last is None or last[1] is not grid or not torch.equal(last[0], met):
            prior = grid.prior.taught_events(grid.effects, total.transition)
            self._events = last = met, grid, replace(prior, shares=grid.events.shares)
        return last[2]

    # -- persistence -------------------------------------------------------------------------------

    def forget(self) -> None:
        """Drop the running episode."""
        self.episode = ObservedEpisode()
        self.running = None

    def state_dict(self) -> dict[str, Any]:
        """Everything but the settings, as plain tensors, numbers, lists and dicts."""
        return {
            "map_size": self.geometry.size,
            "vocabulary": self.vocabulary.state_dict(),
            "past": dict(vars(self.past)),
            "misread": self.misread,
            "lessons": self.lessons.state_dict(),
            "layouts": self.layouts.state_dict(),
            "wanderers": self.wanderers.state_dict(),
            "transparency": torch.tensor(self.transparency.counts),
            "summaries": [summary.state_dict() for summary in self.summaries],
            "episode": self.episode.tensors(),
            "running": None if self.running is None else self.running.saved(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.geometry = replace(self.geometry, size=int(state["map_size"]))
        self.vocabulary = self.vocabulary.from_state_dict(state["vocabulary"], self.looks)
        self._effects = None
        self.past = Counts(**state["past"])
        for summary, kept in zip(self.summaries, state["summaries"], strict=True):
            summary.load_state_dict(kept)
        self.transparency = Transparency(np.array(state["transparency"]))
        self.misread = float(state["misread"])
        self.lessons.load_state_dict(state["lessons"])
        self.layouts.load_state_dict(state["layouts"])
        self.wanderers.load_state_dict(state["wanderers"])
        self.episode = ObservedEpisode.from_tensors(state["episode"])
        self.running = None
        if state["running"] is not None:
            history = self.history_of(self.episode)
            self.running = self._set_up(history).restored(state["running"], history)
