"""How particles take in a new slice: its event is drawn given what is observed now.

The event comes from its exact conditional with the tables, and all map cells but those acted on,
integrated out; a particle's weight is the predictive probability of the new observations.
"""

from dataclasses import replace

import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.model.categorical import draw, draw_alike
from aif_dcpc.agents.gridworld.model.conditionals import HAND_ERROR, GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.counts import Counts, Tables, outcome_row, tokens_ahead
from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.model.loops import NEVER
from aif_dcpc.agents.gridworld.model.paths import History, Sightings, Trajectory
from aif_dcpc.agents.gridworld.model.segments import Segments


def prior_particles(
    grid: GridConditionals, history: History, num_particles: int, generator: torch.Generator
) -> tuple[GridParticles, Tensor]:
    """Draw particles of slice 0: tables from the stored episodes, the map given the first view.

    Returns:
        the particles, and their log weights `(K,)`: how well the tables of each predicted the first
        view.
    """
    particles = grid.from_prior(num_particles, history.head(1), generator)
    return particles, grid.log_marginal(particles.events, history, particles.tables)


def propose(
    grid: GridConditionals, particles: GridParticles, history: History, generator: torch.Generator
) -> tuple[GridParticles, Tensor]:
    """Take in the last slice of `history`, which the particles do not cover yet.

    Returns:
        the particles with one more slice, the map and all tables that were integrated out redrawn;
        and log incremental weights `(K,)`.
    """
    score = _log_predictive(grid, particles, history)
    event = draw(score, generator)
    events = torch.cat([particles.events, event[:, None]], 1)
    initial = _redraw_map(grid, events, particles, history, generator)
    moved = replace(particles, events=events, initial=initial)
    tables = _redraw_tables(grid, moved, history, generator)
    return replace(moved, tables=tables), score.logsumexp(-1)


def redraw_last(
    grid: GridConditionals, particles: GridParticles, history: History, generator: torch.Generator
) -> GridParticles:
    """Draw the last event anew, with map and tables, from its conditional given all other events.

    The token prior in hand knows the last view by now; when the event was proposed it did not, and one
    that happened to foresee the view may have been chosen whatever its event.
    """
    before = replace(particles, events=particles.events[:, :-1])
    return propose(grid, before, history, generator)[0]


def _log_predictive(grid: GridConditionals, particles: GridParticles, history: History) -> Tensor:
    """log p(event, new observations | past) of every event that the new slice may have, `(K, E)`."""
    before = history.head(len(history) - 1)
    trajectory, segments, sightings = grid.trace(particles.events, before)
    own = grid.counts(particles.events, particles.initial, before)
    tokens = tokens_ahead(segments, particles.initial)
    logits = _map_logits(grid, particles.tables, segments, sightings, segments.cell_ahead, tokens)
    present = grid.present(logits, segments)
    ahead = grid.effects.thing_ahead(tokens[:, -1:], history.faced[-1:])[:, 0]
    score = _event_score(grid, own, ahead, trajectory.passed[:, -1], history)
    score = score + _sight_score(grid, present, segments, trajectory, history, particles.tables)
    return score + _body_score(grid, history)


def _event_score(
    grid: GridConditionals, own: Counts, token_ahead: Tensor, passed: Tensor, history: History
) -> Tensor:
    """log p(event, outcome | past), tables integrated out, `(K, E)`."""
    action = history.action[-1]
    effects = grid.effects
    grips, num_events = own.transition.shape[3:]
    grip = effects.grips[token_ahead, history.held[-1]]
    context = effects.classes[token_ahead] * grips + grip
    place = effects.places(history.match)[token_ahead, passed]
    event = grid.memory.events.mean_at(
        own.transition[:, action], action.expand(len(token_ahead)), context
    )
    rows = outcome_row(torch.arange(num_events), action, grid.num_actions)
    outcome = grid.memory.outcomes.mean_at(
        own.outcome[:, rows].flatten(0, 1),
        rows.repeat(len(token_ahead)),
        place.repeat_interleave(num_events),
    )
    seen = outcome[:, history.outcome[-1]].view(event.shape)
    return (event * seen).clamp_min(1e-30).log()


def _sight_score(
    grid: GridConditionals,
    present: Tensor,
    segments: Segments,
    trajectory: Trajectory,
    history: History,
    tables: Tables,
) -> Tensor:
    """log p(view | event, past), `(K, E)`; cells without a number hold what their context says."""
    sightings = grid.sightings(history)
    now = sightings.time == len(history) - 1
    code = sightings.code[now]
    torus = grid.geometry.torus
    position = trajectory.position[:, -1, None] + grid.effects.steps[:, history.heading[-2]]
    cells = torus.cell(torus.anchor(position)[..., None] + sightings.shift[now])
    shown = code.clamp_min(0).expand_as(cells)
    beside = sightings.context[now].expand_as(cells)
    chance = _chance_of(grid, present, segments, tables, cells, shown, beside)
    ahead = int(history.faced[-1])
    known = ahead if ahead >= 0 else grid.num_slots
    writes = grid.effects.writes[:, known, history.held[-1]]
    wrote = (writes[:, None] >= 0) & (cells == trajectory.cell_ahead[:, -1, None, None])
    chance = torch.where(wrote, (writes[:, None] == shown).float(), chance)
    chance = torch.where(code >= 0, chance, 0.0)
    error = tables.misread[:, None, None]
    return ((1 - error) * chance + error / (grid.num_tokens - 1) * (1 - chance)).log().sum(-1)


def _chance_of(
    grid: GridConditionals,
    present: Tensor,
    segments: Segments,
    tables: Tables,
    cells: Tensor,
    token: Tensor,
    context: Tensor,
) -> Tensor:
    """p(map cells hold tokens now), all `(K, E, S)`, given that of the numbered cells `(K, U, V)`.

    A cell without a number is seen for the first time, in a context.
    """
    used = len(segments.cells)
    unnumbered = torch.full((grid.geometry.size**2,), used)
    number = unnumbered.index_copy(0, segments.cells, torch.arange(used))
    belief = torch.cat([present, tables.token_prior], 1).flatten(1)
    row = number.take(cells)
    row = torch.where(row == used, used + context, row)
    place = row * grid.num_slots + token
    return belief.gather(1, place.flatten(1)).view(cells.shape)


def _body_score(grid: GridConditionals, history: History) -> Tensor:
    """log p(heading, hand | event), `(E,)`."""
    turned = (history.heading[-1] - history.heading[-2]) % 4
    possible = (grid.effects.turns == turned) & grid.effects.known
    every = torch.arange(len(possible))[:, None].expand(-1, len(history))
    wrong = (grid.hands_after(every, history)[:, -1] != history.hand[-1]).float()
    return wrong * torch.log(torch.tensor(HAND_ERROR)) + torch.where(possible, 0.0, NEVER)


def _redraw_map(
    grid: GridConditionals,
    events: Tensor,
    particles: GridParticles,
    history: History,
    generator: torch.Generator,
) -> Tensor:
    """Redraw the initial map given events, the cells acted on keeping their tokens."""
    _, segments, sightings = grid.trace(events, history)
    acted_on = segments.cell_ahead[:, :-1]
    tokens = tokens_ahead(segments, particles.initial)[:, :-1]
    logits = _map_logits(grid, particles.tables, segments, sightings, acted_on, tokens)
    return grid.draw_seen(particles.initial, logits, segments, generator)


def _redraw_tables(
    grid: GridConditionals, particles: GridParticles, history: History, generator: torch.Generator
) -> Tables:
    """Redraw the tables that the proposal of the event integrated out."""
    rows = outcome_row(particles.events[:, -1], history.action[-1], grid.num_actions).unique()
    return grid.redraw_tables(particles, history, generator, actions=history.action[-1:], rows=rows)


def _map_logits(
    grid: GridConditionals,
    tables: Tables,
    segments: Segments,
    sightings: Sightings,
    acted_on: Tensor,
    tokens: Tensor,
) -> Tensor:
    """log p(token of every segment, its sightings) with point masses where the agent acted."""
    logits = grid.segment_logits(segments, sightings, tables.misread, tables.token_prior)
    return logits + point_masses(acted_on, tokens, logits.shape)


def point_masses(segments: Tensor, tokens: Tensor, shape: torch.Size) -> Tensor:
    """Log point masses at the tokens `(N, T)` of segments `(N, T)`, `(N, segments, V)`; else zero."""
    index = segments[..., None].expand(-1, -1, shape[-1])
    point = torch.where(torch.arange(shape[-1]) == tokens[..., None], 0.0, NEVER)
    return torch.zeros(shape).scatter_(1, index, point)


def widened(
    grid: GridConditionals,
    particles: GridParticles,
    old: Geometry,
    position: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """The initial map of a smaller geometry on a larger one; what lies farther out is drawn.

    Args:
        grid: with the larger geometry.
        particles: with the smaller map.
        old: the smaller geometry.
        position: `(K, T, 2)` where the particles have been, without wrapping.
        generator: source of randomness.
    """
    size = grid.geometry.size
    wider = draw_alike(particles.tables.token_prior[:, 0], size**2, generator)
    at = old.unwrapped(old.origin(position)) % size
    cells = torch.as_tensor(at @ [size, 1])
    return wider.index_copy(1, cells, particles.initial)
