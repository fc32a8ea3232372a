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
    tokens_in_front,
)
from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.model.loops import NEVER, token_scores
from aif_dcpc.agents.gridworld.model.paths import (
    Effects,
    Path,
    Record,
    Sightings,
    follow,
    sightings_of,
)
from aif_dcpc.agents.gridworld.model.segments import (
    Segments,
    add_front_evidence,
    misread_log_odds,
    segment,
)
from aif_dcpc.agents.gridworld.tables.posterior import TablePosterior
from aif_dcpc.agents.gridworld.tables.prior import Structured

HAND_ERROR = 1e-4  # probability that the hand is not what it seems; keeps a wrong guess revisable


@dataclass(frozen=True)
class Cloud:
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
class Grid:
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
    def events(self) -> Structured:
        """Prior of the transition table."""
        return self.prior.events(self.effects, *self.past.transition.shape[1:3])

    @cached_property
    def outcomes(self) -> Structured:
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
    def _sighted(self) -> list[tuple[Record, Sightings]]:
        return []

    def sightings(self, record: Record) -> Sightings:
        """Sightings of a history; those of the last one are kept for the next caller."""
        for known, sightings in self._sighted:
            if torch.equal(known.view, record.view) and torch.equal(known.heading, record.heading):
                return sightings
        sightings = sightings_of(record, self.geometry)
        self._sighted[:] = [(record, sightings)]
        return sightings

    @cached_property
    def _traces(self) -> list[tuple[Tensor, tuple[Path, Segments, Sightings]]]:
        return []

    def trace(self, events: Tensor, record: Record) -> tuple[Path, Segments, Sightings]:
        """Path, segments and sightings of event sequences `(N, T)`; the last one is kept for the next caller."""
        for known, trace in self._traces:
            if known is events or torch.equal(known, events):
                return trace
        trace = self._trace(events, record)
        self._traces[:] = [(events, trace)]
        return trace

    def _trace(self, events: Tensor, record: Record) -> tuple[Path, Segments, Sightings]:
        path = follow(events, record, self.effects, self.geometry)
        sightings = self.sightings(record)
        return path, segment(path, sightings, self.geometry), sightings

    @cached_property
    def _counted(self) -> list[tuple[Tensor, Tensor, Counts]]:
        return []

    def counts(self, events: Tensor, initial: Tensor, record: Record) -> Counts:
        """This episode's counts per particle; the last ones are kept for the next caller."""
        for known, cells, counts in self._counted:
            if torch.equal(known, events) and torch.equal(cells, initial):
                return counts
        path, segments, sightings = self.trace(events, record)
        counts = count(events, initial, path, segments, record, sightings, self.past)
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

    def step_evidence(self, events: Tensor, path: Path, record: Record, tables: Tables) -> Tensor:
        """log p(event, outcome | token ahead) of every step, `(K, T - 1, V)`."""
        num = torch.arange(events.shape[0])[:, None]
        action = record.action[1:].expand(events.shape[0], -1)
        event = events[:, 1:]
        moved = tables.transition[num, action, :, path.hand[:, :-1], event]
        fate = tables.outcome[
            num,
            outcome_row(event, action, self.num_actions),
            :,
            record.outcome[1:].expand_as(event),
        ]
        return (moved * fate).clamp_min(1e-30).log()

    # -- sweeps ------------------------------------------------------------------------------------

    def redraw_map(self, cloud: Cloud, record: Record, generator: torch.Generator) -> Tensor:
        """The initial map given events and tables, exact: cells are independent."""
        path, segments, sightings = self.trace(cloud.events, record)
        logits = self.segment_logits(
            segments, sightings, cloud.tables.misread, cloud.tables.token_prior
        )
        logits = add_front_evidence(
            logits, segments, self.step_evidence(cloud.events, path, record, cloud.tables)
        )
        return self.draw_map(logits, segments, cloud.tables.token_prior, generator)

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
        cloud: Cloud,
        record: Record,
        generator: torch.Generator,
        *,
        actions: Tensor,
        rows: Tensor,
    ) -> Tables:
        """Tables of some actions and some outcome rows given events and map, exact; the others stay."""
        own = self.counts(cloud.events, cloud.initial, record)
        return self.memory.redraw(own, cloud.tables, generator, actions=actions, rows=rows)

    def draw_all_tables(
        self, events: Tensor, initial: Tensor, record: Record, generator: torch.Generator
    ) -> Tables:
        """All tables given events and map, exact."""
        return self.memory.draw(self.counts(events, initial, record), generator)

    def pick_times(self, num: int, length: int, generator: torch.Generator) -> Tensor:
        """One of `length` places per particle: half of them anywhere, half near the end."""
        anywhere = torch.randint(length, (num,), generator=generator)
        late = length - torch.empty(num).geometric_(0.3, generator=generator).long()
        coin = torch.rand(num, generator=generator) < 0.5
        return torch.where(coin, anywhere, late.clamp_min(0))

    def from_prior(self, num: int, record: Record, generator: torch.Generator) -> Cloud:
        """A cloud over one slice: tables from the past, the map given tables and the first view."""
        empty = Counts(*(torch.zeros(num, *v.shape) for v in vars(self.past).values()))
        tables = self.memory.draw(empty, generator)
        events = torch.zeros(num, 1, dtype=torch.long)
        cloud = Cloud(events, torch.zeros(num, self.geometry.size**2, dtype=torch.long), tables)
        return replace(cloud, initial=self.redraw_map(cloud, record, generator))

    def revive(self, events: Tensor, record: Record, generator: torch.Generator) -> Cloud:
        """A cloud from stored event sequences: the map given what was seen, then tables given events and map.

        Tables must follow the events: rows drawn without them would be nearly deterministic
        guesses, and the next update of the events would bow to them.
        """
        _, segments, sightings = self.trace(events, record)
        misread = self.prior.mean_misread(self.past).expand(len(events))
        token_prior = self.prior.mean_token_prior(self.past).expand(len(events), -1)
        logits = self.segment_logits(segments, sightings, misread, token_prior)
        initial = self.draw_map(logits, segments, token_prior, generator)
        return Cloud(events, initial, self.draw_all_tables(events, initial, record, generator))

    def log_marginal(self, events: Tensor, record: Record, tables: Tables) -> Tensor:
        """log p(events, observations | tables) with the map integrated out, `(N,)`; heading must fit."""
        path, segments, sightings = self._trace(events, record)
        logits = self.segment_logits(segments, sightings, tables.misread, tables.token_prior)
        logits = add_front_evidence(
            logits, segments, self.step_evidence(events, path, record, tables)
        )
        constant = len(sightings.time) * torch.log(tables.misread / (self.num_tokens - 1))
        return constant + logits.logsumexp(-1).sum(-1) + self.log_bodily(events, path, record)

    def log_bodily(self, events: Tensor, path: Path, record: Record) -> Tensor:
        """log p(heading, hand | events), and that slots without an event never happen, `(N,)`."""
        turned = (record.heading[1:] - record.heading[:-1]) % 4
        possible = (self.effects.turns[events[:, 1:]] == turned) & self.effects.known[events[:, 1:]]
        wrong = (path.hand != record.hand).float().sum(1)
        return wrong * torch.log(torch.tensor(HAND_ERROR)) + torch.where(possible, 0.0, NEVER).sum(
            1
        )

    def redraw_events(self, cloud: Cloud, record: Record, generator: torch.Generator) -> Tensor:
        """Gibbs update of one event per particle, the map integrated out, the later poses shifting along.

        Where the heading turned, the event is the one motion that turns so; it is set, not drawn.
        """
        turned = torch.cat([record.heading[:1] * 0, (record.heading[1:] - record.heading[:-1]) % 4])
        turning = torch.stack([(self.effects.turns == turn).int().argmax() for turn in range(4)])
        events = torch.where(turned == 0, cloud.events, turning[turned])
        still = (turned[1:] == 0).nonzero()[:, 0] + 1
        if not len(still):
            return events
        cloud = replace(cloud, events=events)
        times = still[self.pick_times(len(cloud.events), len(still), generator)]
        num = len(cloud.events)
        choices = (self.effects.known & (self.effects.turns == 0)).nonzero()[:, 0]
        trial = cloud.events.repeat_interleave(len(choices), 0)
        trial.scatter_(
            1, times.repeat_interleave(len(choices))[:, None], choices.repeat(num)[:, None]
        )
        tables = Tables(
            *(t.repeat_interleave(len(choices), 0) for t in vars(cloud.tables).values())
        )
        scores = self.log_marginal(trial, record, tables).view(num, len(choices))
        picked = choices[draw(scores, generator)]
        return cloud.events.scatter(1, times[:, None], picked[:, None])

    # -- arrival -----------------------------------------------------------------------------------

    def propose(
        self, cloud: Cloud, record: Record, generator: torch.Generator
    ) -> tuple[Cloud, Tensor]:
        """Take in the last slice of `record`, which the cloud does not cover yet.

        The new event is drawn from its exact conditional with the tables and all map cells but
        those acted on integrated out; the weight is the predictive probability of the new
        observations.

        Returns:
            the cloud with one more slice, all tables and the map redrawn, and log incremental
                weights `(K,)`.
        """
        before = record.head(len(record) - 1)
        path, segments, sightings = self.trace(cloud.events, before)
        own = self.counts(cloud.events, cloud.initial, before)
        front = tokens_in_front(segments, cloud.initial)[:, -1]
        logits = self.segment_logits(
            segments, sightings, cloud.tables.misread, cloud.tables.token_prior
        )
        logits = logits + pins(
            segments.front, tokens_in_front(segments, cloud.initial), logits.shape
        )
        score = self._event_score(own, front, path.hand[:, -1], record)
        score = score + self._sight_score(
            self.present(logits, segments), segments, path, record, cloud.tables
        )
        score = score + self._body_score(path.hand[:, -1], record)
        event = draw(score, generator)
        events = torch.cat([cloud.events, event[:, None]], 1)
        initial = self._redraw_after(events, cloud, record, generator)
        tables = self._tables_after(Cloud(events, initial, cloud.tables), record, generator)
        return Cloud(events, initial, tables), score.logsumexp(-1)

    def _tables_after(self, cloud: Cloud, record: Record, generator: torch.Generator) -> Tables:
        """Redraw what the arrival integrated out."""
        rows = outcome_row(cloud.events[:, -1], record.action[-1], self.num_actions).unique()
        return self.redraw_tables(cloud, record, generator, actions=record.action[-1:], rows=rows)

    def _event_score(self, own: Counts, front: Tensor, hand: Tensor, record: Record) -> Tensor:
        """log p(event, outcome | past), tables integrated out, `(K, E)`."""
        action = record.action[-1]
        hands = own.transition.shape[3]
        size = own.transition.shape[4]
        moved = self.memory.events.mean_at(
            own.transition[:, action], action.expand(len(front)), front * hands + hand
        )
        row = outcome_row(torch.arange(size), action, self.num_actions)
        fates = own.outcome[:, row].flatten(0, 1)
        ahead = front.repeat_interleave(size)
        fate = self.memory.outcomes.mean_at(fates, row.repeat(len(front)), ahead)[
            :, record.outcome[-1]
        ]
        return (moved * fate.view(moved.shape)).clamp_min(1e-30).log()

    def _sight_score(
        self, present: Tensor, segments: Segments, path: Path, record: Record, tables: Tables
    ) -> Tensor:
        """log p(view | event, past), `(K, E)`; cells without a number hold what the token prior says."""
        sightings = self.sightings(record)
        now = sightings.time == len(record) - 1
        code = sightings.code[now]
        shift = sightings.shift[now]
        torus = self.geometry.torus
        position = path.position[:, -1, None] + self.effects.steps[:, record.heading[-2]]
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
        wrote = (writes[:, None] >= 0) & (cells == path.front[:, -1, None, None])
        chance = torch.where(wrote, (writes[:, None] == shown).float(), chance)
        chance = torch.where(code >= 0, chance, 0.0)
        error = tables.misread[:, None, None]
        return ((1 - error) * chance + error / (self.num_tokens - 1) * (1 - chance)).log().sum(-1)

    def _body_score(self, hand: Tensor, record: Record) -> Tensor:
        """log p(heading, hand | event), `(K, E)`."""
        turned = (record.heading[-1] - record.heading[-2]) % 4
        possible = (self.effects.turns == turned) & self.effects.known
        after = torch.where(self.effects.takes >= 0, self.effects.takes, hand[:, None])
        wrong = (after != record.hand[-1]).float()
        return wrong * torch.log(torch.tensor(HAND_ERROR)) + torch.where(possible, 0.0, NEVER)

    def _redraw_after(
        self, events: Tensor, cloud: Cloud, record: Record, generator: torch.Generator
    ) -> Tensor:
        """The initial map given events, the cells acted on keeping their tokens."""
        _, segments, sightings = self.trace(events, record)
        logits = self.segment_logits(
            segments, sightings, cloud.tables.misread, cloud.tables.token_prior
        )
        tokens = tokens_in_front(segments, cloud.initial)
        logits = logits + pins(segments.front[:, :-1], tokens[:, :-1], logits.shape)
        return self.draw_seen(cloud.initial, logits, segments, generator)


def pins(front: Tensor, tokens: Tensor, shape: torch.Size) -> Tensor:
    """Log point masses at the tokens of cells ahead, `(N, segments, V)`."""
    result = torch.zeros(shape)
    index = front[..., None].expand(-1, -1, shape[-1])
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


def prior_cloud(
    grid: Grid, record: Record, num_particles: int, generator: torch.Generator
) -> tuple[Cloud, Tensor]:
    """The cloud after slice 0: tables from the stored episodes, the map given the first view.

    Returns:
        the cloud, and its log weights `(K,)`: how well each particle's tables predicted the first
            view.
    """
    cloud = grid.from_prior(num_particles, record.head(1), generator)
    return cloud, grid.log_marginal(cloud.events, record, cloud.tables)


def map_belief(grid: Grid, cloud: Cloud, record: Record, weights: Tensor, counts: Counts) -> Tensor:
    """Belief over the token that every map cell holds now, `(M, V)`: particles averaged, cells in closed form."""
    _, segments, sightings = grid.trace(cloud.events, record)
    num = len(weights)
    misread = grid.prior.mean_misread(counts).expand(num)
    token_prior = grid.prior.mean_token_prior(counts).expand(num, -1)
    logits = grid.segment_logits(segments, sightings, misread, token_prior)
    belief = (weights @ token_prior).expand(grid.geometry.size**2, -1)
    return belief.index_copy(
        0, segments.cells, torch.tensordot(weights, grid.present(logits, segments), 1)
    )
