"""A grid world seen egocentrically: events move the agent over a map that only it changes.

    event_t   ~ transition[action_t, token ahead, hand]        a motion, or an effect on the cell ahead and the hand
    outcome_t ~ outcome[event_t or action_t, token ahead]      sign of the reward, and whether the episode ended
    pose_t, hand_t, map_t are functions of the events and of the initial map
    view_t    ~ the map's tokens around the pose, each misread with a small probability
    map cells ~ token_prior, at the start of every episode

The functions here are the exact pieces of inference that the engine calls: `propose` (arrival of a
slice), `redraw_events` and `redraw_map` (given tables) and `redraw_tables` (given events and map).
In the first two the map is integrated out.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.model.counts import (
    Counts,
    Memory,
    TablePrior,
    Tables,
    count,
    outcome_row,
    tokens_ahead,
)
from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.model.loops import NEVER, token_scores
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
from aif_dcpc.agents.gridworld.tables.posterior import TablePosterior
from aif_dcpc.agents.gridworld.tables.prior import PooledDirichletPrior

HAND_ERROR = 1e-4  # probability that the hand is not what it seems; keeps a wrong guess revisable


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


@dataclass(frozen=True)
class GridConditionals:
    """Everything fixed while one slice is taken in.

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
        """A."""
        return self.past.transition.shape[0]

    @property
    def num_slots(self) -> int:
        """V."""
        return self.past.tokens.shape[0]

    @cached_property
    def events(self) -> PooledDirichletPrior:
        """Prior of the transition table."""
        return self.prior.events(self.effects, *self.past.transition.shape[1:3])

    @cached_property
    def outcomes(self) -> PooledDirichletPrior:
        """Prior of the outcome table."""
        return self.prior.outcomes(self.num_slots)

    @cached_property
    def memory(self) -> Memory:
        """What the stored episodes say about the tables."""
        events = TablePosterior(self.events, self.past.transition)
        return Memory(
            self.prior, self.past, events, TablePosterior(self.outcomes, self.past.outcome)
        )

    @cached_property
    def _sighted(self) -> list[tuple[History, Sightings]]:
        return []

    def sightings(self, history: History) -> Sightings:
        """Sightings of a history; those of the last one are kept for the next caller."""
        for known, sightings in self._sighted:
            if torch.equal(known.view, history.view) and torch.equal(
                known.heading, history.heading
            ):
                return sightings
        sightings = sightings_of(history, self.geometry)
        self._sighted[:] = [(history, sightings)]
        return sightings

    @cached_property
    def _traces(self) -> list[tuple[Tensor, tuple[Trajectory, Segments, Sightings]]]:
        return []

    def trace(self, events: Tensor, history: History) -> tuple[Trajectory, Segments, Sightings]:
        """Path, segments and sightings of event sequences `(N, T)`; the last one is kept for the next caller."""
        for known, trace in self._traces:
            if known is events or torch.equal(known, events):
                return trace
        trace = self._trace(events, history)
        self._traces[:] = [(events, trace)]
        return trace

    def _trace(self, events: Tensor, history: History) -> tuple[Trajectory, Segments, Sightings]:
        trajectory = follow(events, history, self.effects, self.geometry)
        sightings = self.sightings(history)
        return trajectory, segment(trajectory, sightings, self.geometry), sightings

    @cached_property
    def _counted(self) -> list[tuple[Tensor, Tensor, Counts]]:
        return []

    def counts(self, events: Tensor, initial: Tensor, history: History) -> Counts:
        """This episode's counts per particle; the last ones are kept for the next caller."""
        for known, cells, counts in self._counted:
            if torch.equal(known, events) and torch.equal(cells, initial):
                return counts
        trajectory, segments, sightings = self.trace(events, history)
        counts = count(events, initial, trajectory, segments, history, sightings, self.past)
        self._counted[:] = [(events, initial, counts)]
        return counts

    # -- the map -----------------------------------------------------------------------------------

    def segment_logits(
        self, segments: Segments, sightings: Sightings, misread: Tensor, token_prior: Tensor
    ) -> Tensor:
        """log p(token of every segment, its sightings) up to a constant, `(N, segments, V)`."""
        odds = misread_log_odds(misread, self.num_tokens)
        log_prior = token_prior.clamp_min(1e-30).log()
        seen, code, token = (
            part.numpy() for part in (segments.seen, sightings.code, segments.token)
        )
        scores = token_scores(
            seen, code, token, len(segments.cells), odds.numpy(), log_prior.numpy()
        )
        return torch.from_numpy(scores)

    def present(self, logits: Tensor, segments: Segments) -> Tensor:
        """p(token that every numbered cell holds now), `(N, U, V)`."""
        last = segments.latest()[..., None].expand(-1, -1, self.num_slots)
        return logits.softmax(-1).gather(1, last)

    def step_evidence(
        self, events: Tensor, trajectory: Trajectory, history: History, tables: Tables
    ) -> Tensor:
        """log p(event, outcome | token ahead) of every step, `(K, T - 1, V)`."""
        num = torch.arange(events.shape[0])[:, None]
        action = history.action[1:].expand(events.shape[0], -1)
        event = events[:, 1:]
        moved = tables.transition[num, action, :, trajectory.hand[:, :-1], event]
        outcome = tables.outcome[
            num,
            outcome_row(event, action, self.num_actions),
            :,
            history.outcome[1:].expand_as(event),
        ]
        return (moved * outcome).clamp_min(1e-30).log()

    # -- sweeps ------------------------------------------------------------------------------------

    def redraw_map(
        self, particles: GridParticles, history: History, generator: torch.Generator
    ) -> Tensor:
        """The initial map given events and tables, exact: cells are independent."""
        trajectory, segments, sightings = self.trace(particles.events, history)
        logits = self.segment_logits(
            segments, sightings, particles.tables.misread, particles.tables.token_prior
        )
        logits = add_step_evidence(
            logits,
            segments,
            self.step_evidence(particles.events, trajectory, history, particles.tables),
        )
        return self.draw_map(logits, segments, particles.tables.token_prior, generator)

    def draw_map(
        self, logits: Tensor, segments: Segments, token_prior: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Initial tokens of all map cells: numbered ones from their logits, the others from the prior."""
        initial = draw_alike(token_prior, self.geometry.size**2, generator)
        return self.draw_seen(initial, logits, segments, generator)

    def draw_seen(
        self, initial: Tensor, logits: Tensor, segments: Segments, generator: torch.Generator
    ) -> Tensor:
        """The map with the numbered cells drawn from their logits."""
        return initial.index_copy(
            1, segments.cells, draw(logits[:, : len(segments.cells)], generator)
        )

    def redraw_tables(
        self,
        particles: GridParticles,
        history: History,
        generator: torch.Generator,
        *,
        actions: Tensor,
        rows: Tensor,
    ) -> Tables:
        """Tables of some actions and some outcome rows given events and map, exact; the others stay."""
        own = self.counts(particles.events, particles.initial, history)
        return self.memory.redraw(own, particles.tables, generator, actions=actions, rows=rows)

    def draw_all_tables(
        self, events: Tensor, initial: Tensor, history: History, generator: torch.Generator
    ) -> Tables:
        """All tables given events and map, exact."""
        return self.memory.draw(self.counts(events, initial, history), generator)

    def pick_times(self, num: int, length: int, generator: torch.Generator) -> Tensor:
        """One of `length` places per particle: half of them anywhere, half near the end."""
        anywhere = torch.randint(length, (num,), generator=generator)
        late = length - torch.empty(num).geometric_(0.3, generator=generator).long()
        coin = torch.rand(num, generator=generator) < 0.5
        return torch.where(coin, anywhere, late.clamp_min(0))

    def from_prior(self, num: int, history: History, generator: torch.Generator) -> GridParticles:
        """A cloud over one slice: tables from the past, the map given tables and the first view."""
        empty = Counts(*(torch.zeros(num, *v.shape) for v in vars(self.past).values()))
        tables = self.memory.draw(empty, generator)
        events = torch.zeros(num, 1, dtype=torch.long)
        particles = GridParticles(
            events, torch.zeros(num, self.geometry.size**2, dtype=torch.long), tables
        )
        return replace(particles, initial=self.redraw_map(particles, history, generator))

    def replay(self, events: Tensor, history: History, generator: torch.Generator) -> GridParticles:
        """A cloud from stored event sequences: the map given what was seen, then tables given events and map.

        Tables must follow the events: rows drawn without them would be nearly deterministic
        guesses, and the next update of the events would bow to them.
        """
        _, segments, sightings = self.trace(events, history)
        misread = self.prior.mean_misread(self.past).expand(len(events))
        token_prior = self.prior.mean_token_prior(self.past).expand(len(events), -1)
        logits = self.segment_logits(segments, sightings, misread, token_prior)
        initial = self.draw_map(logits, segments, token_prior, generator)
        return GridParticles(
            events, initial, self.draw_all_tables(events, initial, history, generator)
        )

    def log_marginal(self, events: Tensor, history: History, tables: Tables) -> Tensor:
        """log p(events, observations | tables) with the map integrated out, `(N,)`; heading must fit."""
        trajectory, segments, sightings = self._trace(events, history)
        logits = self.segment_logits(segments, sightings, tables.misread, tables.token_prior)
        logits = add_step_evidence(
            logits, segments, self.step_evidence(events, trajectory, history, tables)
        )
        constant = len(sightings.time) * torch.log(tables.misread / (self.num_tokens - 1))
        return (
            constant + logits.logsumexp(-1).sum(-1) + self.log_bodily(events, trajectory, history)
        )

    def log_bodily(self, events: Tensor, trajectory: Trajectory, history: History) -> Tensor:
        """log p(heading, hand | events), and that slots without an event never happen, `(N,)`."""
        turned = (history.heading[1:] - history.heading[:-1]) % 4
        possible = (self.effects.turns[events[:, 1:]] == turned) & self.effects.known[events[:, 1:]]
        wrong = (trajectory.hand != history.hand).float().sum(1)
        return wrong * torch.log(torch.tensor(HAND_ERROR)) + torch.where(possible, 0.0, NEVER).sum(
            1
        )

    def redraw_events(
        self, particles: GridParticles, history: History, generator: torch.Generator
    ) -> Tensor:
        """Gibbs update of one event per particle, the map integrated out, the later poses shifting along.

        Where the heading turned, the event is the one motion that turns so; it is set, not drawn.
        """
        turned = torch.cat(
            [history.heading[:1] * 0, (history.heading[1:] - history.heading[:-1]) % 4]
        )
        turning = torch.stack([(self.effects.turns == turn).int().argmax() for turn in range(4)])
        events = torch.where(turned == 0, particles.events, turning[turned])
        still = (turned[1:] == 0).nonzero()[:, 0] + 1
        if not len(still):
            return events
        particles = replace(particles, events=events)
        times = still[self.pick_times(len(particles.events), len(still), generator)]
        num = len(particles.events)
        choices = (self.effects.known & (self.effects.turns == 0)).nonzero()[:, 0]
        trial = particles.events.repeat_interleave(len(choices), 0)
        trial.scatter_(
            1, times.repeat_interleave(len(choices))[:, None], choices.repeat(num)[:, None]
        )
        tables = Tables(
            *(t.repeat_interleave(len(choices), 0) for t in vars(particles.tables).values())
        )
        scores = self.log_marginal(trial, history, tables).view(num, len(choices))
        picked = choices[draw(scores, generator)]
        return particles.events.scatter(1, times[:, None], picked[:, None])

    # -- arrival -----------------------------------------------------------------------------------

    def propose(
        self, particles: GridParticles, history: History, generator: torch.Generator
    ) -> tuple[GridParticles, Tensor]:
        """Take in the last slice of `history`, which the cloud does not cover yet.

        The new event is drawn from its exact conditional with the tables and all map cells but
        those acted on integrated out; the weight is the predictive probability of the new
        observations.

        Returns:
            the cloud with one more slice, all tables and the map redrawn, and log incremental
                weights `(K,)`.
        """
        before = history.head(len(history) - 1)
        trajectory, segments, sightings = self.trace(particles.events, before)
        own = self.counts(particles.events, particles.initial, before)
        token_ahead = tokens_ahead(segments, particles.initial)[:, -1]
        logits = self.segment_logits(
            segments, sightings, particles.tables.misread, particles.tables.token_prior
        )
        logits = logits + point_masses(
            segments.cell_ahead, tokens_ahead(segments, particles.initial), logits.shape
        )
        score = self._event_score(own, token_ahead, trajectory.hand[:, -1], history)
        score = score + self._sight_score(
            self.present(logits, segments), segments, trajectory, history, particles.tables
        )
        score = score + self._body_score(trajectory.hand[:, -1], history)
        event = draw(score, generator)
        events = torch.cat([particles.events, event[:, None]], 1)
        initial = self._redraw_after(events, particles, history, generator)
        tables = self._tables_after(
            GridParticles(events, initial, particles.tables), history, generator
        )
        return GridParticles(events, initial, tables), score.logsumexp(-1)

    def _tables_after(
        self, particles: GridParticles, history: History, generator: torch.Generator
    ) -> Tables:
        """Redraw what the arrival integrated out."""
        rows = outcome_row(particles.events[:, -1], history.action[-1], self.num_actions).unique()
        return self.redraw_tables(
            particles, history, generator, actions=history.action[-1:], rows=rows
        )

    def _event_score(
        self, own: Counts, token_ahead: Tensor, hand: Tensor, history: History
    ) -> Tensor:
        """log p(event, outcome | past), tables integrated out, `(K, E)`."""
        action = history.action[-1]
        hands = own.transition.shape[3]
        size = own.transition.shape[4]
        moved = self.memory.events.mean_at(
            own.transition[:, action], action.expand(len(token_ahead)), token_ahead * hands + hand
        )
        row = outcome_row(torch.arange(size), action, self.num_actions)
        outcomes = own.outcome[:, row].flatten(0, 1)
        ahead = token_ahead.repeat_interleave(size)
        outcome = self.memory.outcomes.mean_at(outcomes, row.repeat(len(token_ahead)), ahead)[
            :, history.outcome[-1]
        ]
        return (moved * outcome.view(moved.shape)).clamp_min(1e-30).log()

    def _sight_score(
        self,
        present: Tensor,
        segments: Segments,
        trajectory: Trajectory,
        history: History,
        tables: Tables,
    ) -> Tensor:
        """log p(view | event, past), `(K, E)`; cells without a number hold what the token prior says."""
        sightings = self.sightings(history)
        now = sightings.time == len(history) - 1
        code = sightings.code[now]
        shift = sightings.shift[now]
        torus = self.geometry.torus
        position = trajectory.position[:, -1, None] + self.effects.steps[:, history.heading[-2]]
        cells = torus.cell(torus.anchor(position)[..., None] + shift)
        shown = code.clamp_min(0).expand_as(cells)
        used = len(segments.cells)
        number = torch.full((self.geometry.size**2,), used).index_copy(
            0, segments.cells, torch.arange(used)
        )
        belief = torch.cat([present, tables.token_prior[:, None]], 1).flatten(1)
        chance = belief.gather(1, (number.take(cells) * self.num_slots + shown).flatten(1)).view(
            cells.shape
        )
        writes = self.effects.writes
        wrote = (writes[:, None] >= 0) & (cells == trajectory.cell_ahead[:, -1, None, None])
        chance = torch.where(wrote, (writes[:, None] == shown).float(), chance)
        chance = torch.where(code >= 0, chance, 0.0)
        error = tables.misread[:, None, None]
        return ((1 - error) * chance + error / (self.num_tokens - 1) * (1 - chance)).log().sum(-1)

    def _body_score(self, hand: Tensor, history: History) -> Tensor:
        """log p(heading, hand | event), `(K, E)`."""
        turned = (history.heading[-1] - history.heading[-2]) % 4
        possible = (self.effects.turns == turned) & self.effects.known
        after = torch.where(self.effects.takes >= 0, self.effects.takes, hand[:, None])
        wrong = (after != history.hand[-1]).float()
        return wrong * torch.log(torch.tensor(HAND_ERROR)) + torch.where(possible, 0.0, NEVER)

    def _redraw_after(
        self, events: Tensor, particles: GridParticles, history: History, generator: torch.Generator
    ) -> Tensor:
        """The initial map given events, the cells acted on keeping their tokens."""
        _, segments, sightings = self.trace(events, history)
        logits = self.segment_logits(
            segments, sightings, particles.tables.misread, particles.tables.token_prior
        )
        tokens = tokens_ahead(segments, particles.initial)
        logits = logits + point_masses(segments.cell_ahead[:, :-1], tokens[:, :-1], logits.shape)
        return self.draw_seen(particles.initial, logits, segments, generator)


def point_masses(cell_ahead: Tensor, tokens: Tensor, shape: torch.Size) -> Tensor:
    """Log point masses at the tokens of cells ahead, `(N, segments, V)`."""
    result = torch.zeros(shape)
    index = cell_ahead[..., None].expand(-1, -1, shape[-1])
    point = torch.where(torch.arange(shape[-1]) == tokens[..., None], 0.0, NEVER)
    return result.scatter_(1, index, point)


def draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from categorical distributions along the last axis."""
    return draw_categorical(logits.softmax(-1), generator)


def draw_alike(chances: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Draw `number` values from each of K distributions `(K, V)`, `(K, number)`.

    Each row is a sample of independent values; all rows use the same uniform numbers, sorted once,
    which is fast.
    """
    uniform, order = torch.rand(number, generator=generator).sort()
    total = chances.cumsum(1)
    above = torch.searchsorted(
        uniform, total[:, :-1] / total[:, -1:]
    )  # how many numbers lie below each step
    sorted_values = torch.zeros(len(chances), number + 1, dtype=torch.long)
    sorted_values.scatter_add_(1, above, torch.ones_like(above))
    return torch.empty(len(chances), number, dtype=torch.long).index_copy_(
        1, order, sorted_values.cumsum(1)[:, :-1]
    )


def draw_categorical(chances: Tensor, generator: torch.Generator) -> Tensor:
    """Draw by inverting the distribution function along the last axis."""
    total = chances.cumsum(-1)
    uniform = torch.rand(chances.shape[:-1], generator=generator)[..., None] * total[..., -1:]
    return (uniform >= total).sum(-1).clamp_max(chances.shape[-1] - 1)


def prior_particles(
    grid: GridConditionals, history: History, num_particles: int, generator: torch.Generator
) -> tuple[GridParticles, Tensor]:
    """The cloud after slice 0: tables from the stored episodes, the map given the first view.

    Returns:
        the cloud, and its log weights `(K,)`: how well each particle's tables predicted the first
            view.
    """
    particles = grid.from_prior(num_particles, history.head(1), generator)
    return particles, grid.log_marginal(particles.events, history, particles.tables)


def map_belief(
    grid: GridConditionals,
    particles: GridParticles,
    history: History,
    weights: Tensor,
    counts: Counts,
) -> Tensor:
    """Belief over the token that every map cell holds now, `(M, V)`: particles averaged, cells in closed form."""
    _, segments, sightings = grid.trace(particles.events, history)
    num = len(weights)
    misread = grid.prior.mean_misread(counts).expand(num)
    token_prior = grid.prior.mean_token_prior(counts).expand(num, -1)
    logits = grid.segment_logits(segments, sightings, misread, token_prior)
    belief = (weights @ token_prior).expand(grid.geometry.size**2, -1)
    return belief.index_copy(
        0, segments.cells, torch.tensordot(weights, grid.present(logits, segments), 1)
    )
