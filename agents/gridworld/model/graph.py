"""The grid world as the engine's `GraphicalModel`: its sites, their kernels, and exact updates.

    global    transition, outcome_table (pooled Dirichlet tables),
              token_prior (a Dirichlet for every context), misread (Beta)
    episode   map: initial token of every cell
    slice     event (latent); heading, carried, view, outcome (observed)
    inputs    action; held and faced, the thing in hand and the token ahead before the step into
              the slice, which say what an effect did; match, what the mission names

Kernels of slice sites are functions of the whole series: they give the density of every slice given
all earlier ones in one call. A series is built by clamping its data and by `append`, not by drawing
it slice by slice.

The rate of misreading is left to the engine, which proposes it from its prior given the stored
episodes; all else is one block with a conditional of its own.

A cell's token depends on what stands next to it in the view that shows it first, which follows from
the events. So the density of the map is that of cells without a context, and the kernel of the view
adds, at a cell's first sighting, log p(token | context) - log p(token | no context).
"""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent

from aif_dcpc.agents.gridworld.model.conditionals import (
    LOG_HAND_ERROR,
    GridConditionals,
    GridParticles,
)
from aif_dcpc.agents.gridworld.model.counts import Tables, outcome_row
from aif_dcpc.agents.gridworld.model.distributions import (
    PlainBeta,
    PlainDirichlet,
    PooledTable,
    Readings,
    Views,
)
from aif_dcpc.agents.gridworld.model.engine_values import (
    TABLES,
    SiteValues,
    history_of,
    particles_of,
    values_of,
)
from aif_dcpc.agents.gridworld.model.exchange import exchange_events
from aif_dcpc.agents.gridworld.model.kept import Kept
from aif_dcpc.agents.gridworld.model.paths import History, Sightings, Trajectory, agreement
from aif_dcpc.agents.gridworld.model.segments import Segments, segment
from aif_dcpc.agents.gridworld.model.slice_proposal import propose
from aif_dcpc.agents.gridworld.tables.prior import TINY
from aif_dcpc.inference import GraphicalModel, lag
from aif_dcpc.inference.model.graph import Parent

AGREED, MANY = 0.9, 16  # where fewer are in one place, so many moves of events a sweep
MOVES = {"misread": "prior"}  # drawn by moves of the engine
BLOCK = ("event", "map", *(name for name in TABLES if name not in MOVES))  # by its own conditional


def _without_context(token_prior: Tensor, cells: int) -> Tensor:
    """The first row of a token prior `(..., X, V)` for every cell, `(..., cells, V)`."""
    row = token_prior[..., :1, :]
    return row.expand(*row.shape[:-2], cells, -1)


def map_prior(token_prior: Tensor, *, num_cells: int) -> Distribution:
    """Tokens of all cells as they are without a context."""
    return Independent(Categorical(_without_context(token_prior, num_cells)), 1)


def token_prior(concentration: Tensor) -> Distribution:
    """A Dirichlet for every context."""
    return Independent(PlainDirichlet(concentration), 1)


class GridModel:
    """Joins a `GridConditionals` to the engine (B = 1).

    Args:
        grid: the world as it is known now.
    """

    def __init__(self, grid: GridConditionals) -> None:
        self.grid = grid
        self._in_view = Kept[Tensor]()
        self._appearance = Kept[Tensor]()

    def build(self) -> GraphicalModel:
        """Declare every site, the conditional block and the slice proposal."""
        model = GraphicalModel()
        self._add_globals(model)
        cells = self.grid.geometry.size**2
        model.add_site(
            "map",
            partial(map_prior, num_cells=cells),
            parents=["token_prior"],
        )
        model.add_input("action")
        model.add_input("held")
        model.add_input("faced")
        model.add_input("match", scope="episode")
        past: list[Parent] = [
            lag("event"),
            lag("heading"),
            lag("faced"),
            lag("held"),
            "faced",
            "held",
            "map",
            "transition",
            "action",
        ]
        model.add_site("event", self.event_kernel, past, initial=self.first_event, scope="slice")
        model.add_site(
            "heading",
            self.heading_kernel,
            ["event", lag("heading")],
            initial=self.any_heading,
            scope="slice",
        )
        model.add_site("carried", self.carried_kernel, ["event", "faced", "held"], scope="slice")
        moves = ["event", "heading", "faced", "held"]
        model.add_site(
            "view", self.view_kernel, [*moves, "map", "misread", "token_prior"], scope="slice"
        )
        model.add_site(
            "outcome",
            self.outcome_kernel,
            [*moves, "map", "outcome_table", "action", "match"],
            scope="slice",
        )
        model.add_conditional(BLOCK, self.draw_history)
        model.add_slice_proposal(self.propose)
        return model

    def _add_globals(self, model: GraphicalModel) -> None:
        past = self.grid.past
        prior = self.grid.prior
        tokens = self.grid.memory.token_parameters
        wrong, right = prior.misread
        model.add_site("transition", self.event_table, scope="global")
        model.add_site("outcome_table", self.outcome_table, scope="global")
        model.add_site("token_prior", partial(token_prior, tokens), scope="global")
        seen_right = past.sightings[0] + right
        seen_wrong = past.sightings[1] + wrong
        model.add_site("misread", partial(PlainBeta, seen_wrong, seen_right), scope="global")

    def event_table(self) -> PooledTable:
        """Prior of what an action brings about."""
        return PooledTable(self.grid.memory.events)

    def outcome_table(self) -> PooledTable:
        """Prior of how a step ends."""
        return PooledTable(self.grid.memory.outcomes)

    # -- kernels: all slices in one call -----------------------------------------------------------

    def event_kernel(
        self,
        event: Tensor,
        heading: Tensor,
        faced: Tensor,
        held: Tensor,
        faces: Tensor,
        holds: Tensor,
        initial: Tensor,
        table: Tensor,
        action: Tensor,
    ) -> Distribution:
        """p(event_t | action_t, token ahead at t - 1, what it faces and holds)."""
        _, segments = self._trace(event, heading, faced, held)
        tokens = segments.initial_tokens(initial[:, 0, 0].expand(len(event), -1))
        effects = self.grid.effects
        token_ahead = tokens.gather(1, segments.cell_ahead)
        token_ahead = effects.thing_ahead(token_ahead, faces[0, 0])
        rows = torch.arange(len(table))[:, None].expand(len(event), 1)
        grip = effects.grips[token_ahead, holds[0, 0]]
        where = action[0, 0].expand_as(token_ahead), effects.classes[token_ahead], grip
        chances = table[:, 0, 0][rows, *where]
        return Categorical(probs=chances.clamp_min(TINY)[:, None])

    def first_event(
        self, faced: Tensor, held: Tensor, initial: Tensor, table: Tensor, action: Tensor
    ) -> Distribution:
        """Slice 0 has event 0: nothing."""
        nothing = torch.zeros(table.shape[-1])
        nothing[0] = 1.0
        return Categorical(probs=nothing.expand(len(initial), 1, 1, -1))

    def heading_kernel(self, event: Tensor, heading: Tensor) -> Distribution:
        """The heading turns as the event does."""
        turned = (heading + self.grid.effects.turns[event]) % 4
        return Categorical(probs=torch.nn.functional.one_hot(turned, 4).float().clamp_min(TINY))

    def any_heading(self, event: Tensor) -> Distribution:
        """Every heading is as likely as any other at slice 0."""
        return Categorical(probs=torch.full((*event.shape, 4), 0.25))

    def carried_kernel(self, event: Tensor, faced: Tensor, held: Tensor) -> Distribution:
        """What is in hand, seen almost without error."""
        hand = self.grid.hands_after(event[:, 0], faced[0, 0], held[0, 0])
        return Readings(hand[:, None, :, None], torch.zeros(()), LOG_HAND_ERROR)

    def view_kernel(
        self,
        event: Tensor,
        heading: Tensor,
        faced: Tensor,
        held: Tensor,
        initial: Tensor,
        misread: Tensor,
        token_prior: Tensor,
    ) -> Distribution:
        """The map's present tokens around the pose, misread with a small probability."""
        path = event, heading, faced, held
        token = self._in_view.get((event, heading, initial), lambda: self._tokens(*path, initial))
        error = misread[..., None]
        wrong = (error / (self.grid.num_tokens - 1)).log()

        def appearance(view: Tensor) -> Tensor:
            """What contexts add at first sightings, `(K, 1, T)`, given views `(K, 1, T, P)`."""
            what = initial, token_prior, view
            return self._appearance.get(
                (event, heading, *what), lambda: self._first_sights(*path, *what)
            )

        return Views(token, torch.log1p(-error), wrong, appearance)

    def _tokens(
        self, event: Tensor, heading: Tensor, faced: Tensor, held: Tensor, initial: Tensor
    ) -> Tensor:
        """What every view cell shows if nothing is misread, `(K, 1, T, P)`."""
        length = event.shape[2]
        places = self.grid.geometry.offsets.shape[1]
        time = torch.arange(length).repeat_interleave(places)
        shift = self.grid.geometry.torus.views[heading[0, 0]]
        every = Sightings(time, shift.flatten(), time, time)
        _, segments = self._trace(event, heading, faced, held, every)
        tokens = segments.initial_tokens(initial[:, 0, 0]).gather(1, segments.seen)
        return tokens.view(-1, 1, length, places)

    def _first_sights(
        self,
        event: Tensor,
        heading: Tensor,
        faced: Tensor,
        held: Tensor,
        initial: Tensor,
        token_prior: Tensor,
        view: Tensor,
    ) -> Tensor:
        """What contexts add at first sightings, `(K, 1, T)`."""
        history = replace(_bodily(heading[0, 0], faced, held), view=view[0, 0])
        _, segments, sightings = self.grid.trace(event[:, 0], history)
        return self.grid.first_sights(segments, sightings, initial[:, 0, 0], token_prior[:, 0, 0])

    def outcome_kernel(
        self,
        event: Tensor,
        heading: Tensor,
        faced: Tensor,
        held: Tensor,
        initial: Tensor,
        table: Tensor,
        action: Tensor,
        match: Tensor,
    ) -> Distribution:
        """p(outcome_t | row_t, place of the token ahead at t - 1); even at slice 0."""
        trajectory, segments = self._trace(event, heading, faced, held)
        tokens = segments.initial_tokens(initial[:, 0, 0])
        token_ahead = tokens.gather(1, segments.cell_ahead)[:, :-1]
        token_ahead = self.grid.effects.thing_ahead(token_ahead, faced[0, 0, 1:])
        row = outcome_row(
            event[:, 0, 1:], action[0, 0, 1:].expand_as(token_ahead), self.grid.num_actions
        )
        places = self.grid.effects.places(match[0, 0, 0])
        place = places[token_ahead, trajectory.passed[:, :-1]]
        chances = table[:, 0, 0][torch.arange(len(event))[:, None], row, place]
        first = torch.full((len(event), 1, chances.shape[-1]), 1 / chances.shape[-1])
        return Categorical(probs=torch.cat([first, chances], 1).clamp_min(TINY)[:, None])

    def _trace(
        self,
        event: Tensor,
        heading: Tensor,
        faced: Tensor,
        held: Tensor,
        sightings: Sightings | None = None,
    ) -> tuple[Trajectory, Segments]:
        """Follow `(K, 1, T)` events."""
        trajectory = self.grid.path(event[:, 0], _bodily(heading[0, 0], faced, held))
        sights = sightings or Sightings(*4 * [torch.zeros(0, dtype=torch.long)])
        return trajectory, segment(trajectory, sights, self.grid.geometry)

    # -- what the engine calls ---------------------------------------------------------------------

    def draw_history(self, values: SiteValues, generator: torch.Generator) -> SiteValues:
        """Update the block once: events (many times where particles are apart), the map, tables.

        The token prior is integrated out until it is drawn, last of all, given the map.
        """
        particles = particles_of(values)
        history = history_of(values)
        position = self.grid.path(particles.events, history).position
        for _ in range(1 if agreement(position[:, -1]) >= AGREED else MANY):
            particles = exchange_events(self.grid, particles, history, generator)
        initial = self.grid.redraw_map(particles, history, generator)
        particles = replace(particles, initial=initial)
        tables = self.draw_tables(particles, history, generator)
        drawn = values_of(replace(particles, tables=tables))
        return {name: drawn[name] for name in BLOCK}

    def draw_tables(
        self, particles: GridParticles, history: History, generator: torch.Generator
    ) -> Tables:
        """Draw the tables of one action and two outcome rows, given events and map.

        The other heads stay: they are independent given the counts, so that this is a Gibbs update
            of the block.
        """
        grid = self.grid
        actions = torch.randperm(grid.num_actions, generator=generator)[:1]
        rows = torch.randperm(len(grid.past.outcome), generator=generator)[:2]
        return grid.redraw_tables(particles, history, generator, actions=actions, rows=rows)

    def propose(
        self, values: SiteValues, observation: SiteValues, generator: torch.Generator
    ) -> tuple[SiteValues, Tensor]:
        """Take in one more slice; log incremental weights `(K, 1)`."""
        series = {
            n: torch.cat([values[n], new[None, :, None]], 2) for n, new in observation.items()
        }
        particles, gain = propose(
            self.grid, particles_of(values), history_of({**values, **series}), generator
        )
        return values_of(particles), gain[:, None]


def _bodily(heading: Tensor, faced: Tensor, held: Tensor) -> History:
    """A history `(T,)` of which nothing is known but headings, and what is ahead and in hand before steps."""
    none = torch.zeros_like(heading)
    hand = torch.cat([held[0, 0, 1:], held[0, 0, -1:]])
    return History(none, heading, hand, none, none, faced[0, 0], none)
