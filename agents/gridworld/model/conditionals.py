"""A grid world seen egocentrically: events move the agent over a map that only it changes.

    event_t   ~ transition[action_t, class of the token ahead, grip]   a motion, or an effect on the cell ahead and the hand
    outcome_t ~ outcome[event_t or action_t, place]      sign of the reward, and whether the episode ended
    pose_t, hand_t, map_t are functions of the events and of the initial map
    view_t    ~ the map's tokens around the pose, each misread with a small probability
    map cells ~ token_prior[what stands next to them], when they are first seen in an episode

The methods here are pieces of inference: `draw_map` and `redraw_map` (given events, the token prior integrated out,
see `urn`) and `redraw_tables` (given events and map).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.model.categorical import draw_alike
from aif_dcpc.agents.gridworld.model.counts import (
    Counts,
    TablePrior,
    Tables,
    count,
    outcome_row,
)
from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.model.kept import Kept
from aif_dcpc.agents.gridworld.model.loops import NEVER, first_sights, token_scores
from aif_dcpc.agents.gridworld.model.memory import Memory
from aif_dcpc.agents.gridworld.model.paths import (
    Effects,
    History,
    Sightings,
    Trajectory,
    follow,
    sightings_of,
)
from aif_dcpc.agents.gridworld.model.segments import (
    Segments,
    add_step_evidence,
    misread_log_odds,
    segment,
)
from aif_dcpc.agents.gridworld.model.urn import NOT_DRAWN, draw_in_turn, redraw_cells
from aif_dcpc.agents.gridworld.tables.posterior import TablePosterior
from aif_dcpc.agents.gridworld.tables.prior import Array, PooledDirichletPrior

HAND_ERROR = 1e-4  # probability that the hand is not what it seems; keeps a wrong guess revisable
LOG_HAND_ERROR = torch.tensor(HAND_ERROR).log()


def distinct(values: Tensor) -> Tensor:
    """The distinct numbers among `(n,)` small ones, 0 at least, ascending."""
    return torch.from_numpy(np.flatnonzero(np.bincount(values.numpy())))


@dataclass(frozen=True)
class GridParticles:
    """Latents of the running episode, K particles.

    Attributes:
        events: `(K, T)`; slice 0 is 0.
        initial: `(K, M)` initial token of every map cell.
        tables: parameters.
    """

    events: Tensor
    initial: Tensor
    tables: Tables

    def picked(self, which: Tensor) -> "GridParticles":
        """Those with some numbers, each as often as it is named."""
        tables = Tables(*(table[which] for table in vars(self.tables).values()))
        return GridParticles(self.events[which], self.initial[which], tables)


@dataclass(frozen=True)
class GridConditionals:
    """Exact conditionals of the latents, given what is fixed while one slice is taken in.

    Attributes:
        geometry: the view and the motions.
        effects: what events do.
        prior: base measures of the tables.
        past: counts of the stored episodes.
        num_tokens: readings that there can be: the slots of the vocabulary, and "other".
    """

    geometry: Geometry
    effects: Effects
    prior: TablePrior
    past: Counts
    num_tokens: int

    @property
    def num_actions(self) -> int:
        """How many actions there are, A."""
        return self.past.transition.shape[0]

    @property
    def num_slots(self) -> int:
        """How many tokens the tables have room for, V."""
        return self.past.tokens.shape[-1]

    @cached_property
    def events(self) -> PooledDirichletPrior:
        """Prior of the transition table, how noisy worlds are being learned."""
        return self.memory.events.prior

    @cached_property
    def outcomes(self) -> PooledDirichletPrior:
        """Prior of the outcome table, likewise."""
        return self.memory.outcomes.prior

    @cached_property
    def memory(self) -> Memory:
        """What the stored episodes say about the tables."""
        of_events = self.prior.taught_events(self.effects, self.past.transition)
        of_outcomes = self.prior.outcomes(self.effects)
        events = TablePosterior(of_events, self.past.transition).with_learned_shares()
        outcomes = TablePosterior(of_outcomes, self.past.outcome).with_learned_shares()
        return Memory(self.prior, self.past, events, outcomes)

    # -- what follows from events, kept for the next caller ----------------------------------------

    @cached_property
    def _sighted(self) -> Kept[Sightings]:
        return Kept()

    def sightings(self, history: History) -> Sightings:
        """Sightings of a history; those of the last one are kept for the next caller."""
        key = history.view, history.heading
        return self._sighted.get(key, lambda: sightings_of(history, self.geometry, self.effects))

    @cached_property
    def _paths(self) -> Kept[Trajectory]:
        return Kept(2)  # of a proposal, and of what it may replace

    def path(self, events: Tensor, history: History) -> Trajectory:
        """Where event sequences `(N, T)` lead; kept for the next caller."""
        key = events, history.heading
        return self._paths.get(key, lambda: follow(events, history, self.effects, self.geometry))

    @cached_property
    def _traces(self) -> Kept[tuple[Trajectory, Segments, Sightings]]:
        return Kept(2)

    def trace(self, events: Tensor, history: History) -> tuple[Trajectory, Segments, Sightings]:
        """Trajectory, segments and sightings of event sequences `(N, T)`; the last ones are kept for the next caller."""
        return self._traces.get((events, history.heading), lambda: self._trace(events, history))

    def _trace(self, events: Tensor, history: History) -> tuple[Trajectory, Segments, Sightings]:
        trajectory = self.path(events, history)
        sightings = self.sightings(history)
        return trajectory, segment(trajectory, sightings, self.geometry), sightings

    @cached_property
    def _counted(self) -> Kept[Counts]:
        return Kept()

    def counts(self, events: Tensor, initial: Tensor, history: History) -> Counts:
        """This episode's counts per particle; the last ones are kept for the next caller."""
        return self._counted.get((events, initial), lambda: self._count(events, initial, history))

    def _count(self, events: Tensor, initial: Tensor, history: History) -> Counts:
        trajectory, segments, sightings = self.trace(events, history)
        views = segments, history, sightings
        return count(events, initial, trajectory, *views, self.effects, self.past)

    # -- the map -----------------------------------------------------------------------------------

    @cached_property
    def urn(self) -> Array:
        """Dirichlet parameters of the token prior in every context, `(X, V)`."""
        return self.memory.token_parameters.double().numpy()

    def odds(self, misread: Tensor) -> Tensor:
        """Log odds of a right sighting, `(N,)`."""
        return misread_log_odds(misread, self.num_tokens)

    def shown(self, history: History) -> Tensor:
        """A guess of the token prior that does not hang on events, `(X, V)`: every sighting counts."""
        sightings = self.sightings(history)
        right = sightings.code >= 0
        counts = torch.zeros(self.past.tokens.shape)
        where = sightings.context[right], sightings.code[right]
        counts.index_put_(where, torch.ones(()), accumulate=True)
        rows = self.memory.token_parameters + counts
        return rows / rows.sum(-1, keepdim=True)

    def segment_logits(
        self, segments: Segments, sightings: Sightings, misread: Tensor, token_prior: Tensor
    ) -> Tensor:
        """log p(token of every segment, its sightings) up to a constant, `(N, segments, V)`."""
        odds = self.odds(misread)
        log_prior = token_prior.clamp_min(1e-30).log()
        scores = token_scores(
            segments.seen.numpy(),
            sightings.code.numpy(),
            sightings.context.numpy(),
            segments.token.numpy(),
            len(segments.cells),
            odds.numpy(),
            log_prior.numpy(),
        )
        return torch.from_numpy(scores)

    def first_sights(
        self, segments: Segments, sightings: Sightings, initial: Tensor, token_prior: Tensor
    ) -> Tensor:
        """What contexts add to log p(initial map) in each slice, `(K, 1, T)`.

        Args:
            segments, sightings: of the particles.
            initial: `(K, M)` or `(1, M)`.
            token_prior: `(K, X, V)`.
        """
        tokens = segments.initial_tokens(initial.expand(len(segments.seen), -1))
        gain = first_sights(
            segments.seen.numpy(),
            sightings.time.numpy(),
            sightings.context.numpy(),
            tokens.contiguous().numpy(),
            len(segments.cells),
            token_prior.detach().clamp_min(1e-30).log().contiguous().numpy(),
            segments.cell_ahead.shape[1],
        )
        return torch.from_numpy(gain)[:, None]

    def present(self, logits: Tensor, segments: Segments) -> Tensor:
        """p(token that every numbered cell holds now), `(N, U, V)`."""
        last = segments.latest[..., None].expand(-1, -1, self.num_slots)
        return logits.softmax(-1).gather(1, last)

    def step_evidence(
        self,
        events: Tensor,
        trajectory: Trajectory,
        history: History,
        tables: Tables,
    ) -> Tensor:
        """log p(event, outcome | token ahead) of every step, `(N, T - 1, V)`."""
        num = torch.arange(len(events))[:, None, None]
        action = history.action[1:, None]
        event = events[:, 1:, None]
        row = outcome_row(event, action, self.num_actions)
        outcome = history.outcome[1:, None]
        effects = self.effects
        every = torch.arange(self.num_slots)[:, None].expand(-1, len(history) - 1)
        thing = effects.thing_ahead(every, history.faced[1:]).T  # (T - 1, V)
        grip = effects.grips[thing, history.held[1:, None]]
        chance_of_event = tables.transition[num, action, effects.classes[thing], grip, event]
        place = effects.places(history.match)[thing, trajectory.passed[:, :-1, None]]
        chance_of_outcome = tables.outcome[num, row, place, outcome]
        return (chance_of_event * chance_of_outcome).clamp_min(1e-30).log()

    # -- sweeps ------------------------------------------------------------------------------------

    def log_wrong(self, misread: Tensor) -> Tensor:
        """Log probability of one wrong reading, `(N,)`."""
        return torch.log(misread / (self.num_tokens - 1))

    def draw_map(
        self, events: Tensor, history: History, misread: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw initial maps `(N, M)` given events `(N, T)` and views, the token prior integrated out.

        Returns:
            the maps, and an unbiased estimate of p(views | events, misread) in logs, `(N,)`.
        """
        _, segments, sightings = self.trace(events, history)
        none = torch.full((len(events), len(segments.cells)), NOT_DRAWN)
        tokens, gain = self._in_turn(segments, sightings, none, misread, generator)
        anywhere = torch.from_numpy(self.urn[0]).expand(len(events), -1)
        initial = draw_alike(anywhere, self.geometry.size**2, generator)
        there = initial.index_select(1, segments.cells)
        tokens = torch.where(tokens == NOT_DRAWN, there, tokens)
        return initial.index_copy(1, segments.cells, tokens), gain

    def log_views(
        self, events: Tensor, initial: Tensor, history: History, misread: Tensor
    ) -> Tensor:
        """The estimate of p(views | events, misread) that goes with given maps, in logs, `(N,)`."""
        _, segments, sightings = self.trace(events, history)
        tokens = initial.index_select(1, segments.cells)
        return self._in_turn(segments, sightings, tokens, misread, None)[1]

    def _in_turn(
        self,
        segments: Segments,
        sightings: Sightings,
        tokens: Tensor,
        misread: Tensor,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        number = torch.zeros(tokens.shape)
        found, gain = draw_in_turn(
            segments.seen.numpy(),
            sightings.code.numpy(),
            sightings.context.numpy(),
            tokens.contiguous().numpy(),
            segments.token.numpy(),
            self.odds(misread).numpy(),
            self.urn,
            (number if generator is None else number.uniform_(generator=generator)).numpy(),
        )
        constant = len(sightings.time) * self.log_wrong(misread)
        return torch.from_numpy(found), torch.from_numpy(gain).float() + constant

    def redraw_map(
        self, particles: GridParticles, history: History, generator: torch.Generator
    ) -> Tensor:
        """Redraw every cell that was seen given the others, the token prior integrated out."""
        events = particles.events
        trajectory, segments, sightings = self.trace(events, history)
        done = torch.zeros(len(events), segments.count, self.num_slots)
        steps = self.step_evidence(events, trajectory, history, particles.tables)
        tokens = particles.initial.index_select(1, segments.cells)
        found = redraw_cells(
            segments.seen.numpy(),
            sightings.code.numpy(),
            sightings.context.numpy(),
            tokens.contiguous().numpy(),
            self.odds(particles.tables.misread).numpy(),
            self.urn,
            add_step_evidence(done, segments, steps).numpy(),
            torch.rand(tokens.shape, generator=generator).numpy(),
        )
        return particles.initial.index_copy(1, segments.cells, torch.from_numpy(found))

    def redraw_tables(
        self,
        particles: GridParticles,
        history: History,
        generator: torch.Generator,
        *,
        actions: Tensor,
        rows: Tensor,
    ) -> Tables:
        """Tables of some actions and outcome rows, and rates, given events and map, exact; the others stay.

        In contexts that the episode has not met the token prior stays as it is: nothing bears on it.
        """
        own = self.counts(particles.events, particles.initial, history)
        met = distinct(self.sightings(history).context)
        heads = {"actions": actions, "rows": rows, "contexts": met}
        return self.memory.redraw(own, particles.tables, generator, **heads)

    def draw_all_tables(
        self, events: Tensor, initial: Tensor, history: History, generator: torch.Generator
    ) -> Tables:
        """All tables given events and map, exact."""
        return self.memory.draw(self.counts(events, initial, history), generator)

    def replay(self, events: Tensor, history: History, generator: torch.Generator) -> GridParticles:
        """Particles from stored event sequences: the map given what was seen, then tables given events and map.

        Tables must follow the events: rows drawn without them would be nearly deterministic
        guesses, and the next update of the events would bow to them.
        """
        misread = self.prior.mean_misread(self.past).expand(len(events))
        initial, _ = self.draw_map(events, history, misread, generator)
        tables = self.draw_all_tables(events, initial, history, generator)
        return GridParticles(events, initial, tables)

    def log_bodily(self, events: Tensor, history: History) -> Tensor:
        """log p(heading, hand | events), and that slots without an event never happen, `(N,)`."""
        turned = (history.heading[1:] - history.heading[:-1]) % 4
        possible = (self.effects.turns[events[:, 1:]] == turned) & self.effects.known[events[:, 1:]]
        hands = self.hands_after(events, history.faced, history.held)
        wrong = (hands != history.hand)[:, 1:].float().sum(1)
        log_hand = wrong * LOG_HAND_ERROR
        return log_hand + torch.where(possible, 0.0, NEVER).sum(1)

    def hands_after(self, events: Tensor, faced: Tensor, held: Tensor) -> Tensor:
        """Thing in hand after events `(N, T)`, given what was ahead and in hand before each, `(T,)`."""
        ahead = torch.where(faced >= 0, faced, self.num_slots)
        takes = self.effects.takes[events, ahead, held]
        return torch.where(takes >= 0, takes, held)
