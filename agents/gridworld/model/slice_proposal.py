"""How particles take in a new slice: its event is drawn given what is observed now.

Tables and the token prior are integrated out. Each event that there may have been is tried with a
map of its own (see `new_view`); one is chosen by how well it predicts what is observed, and a particle's
weight is the sum over all of them, an unbiased estimate of that probability.
"""

from dataclasses import replace

import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.model.categorical import draw, draw_alike
from aif_dcpc.agents.gridworld.model.conditionals import (
    LOG_HAND_ERROR,
    GridConditionals,
    GridParticles,
    distinct,
)
from aif_dcpc.agents.gridworld.model.counts import Counts, Tables, outcome_row, tokens_ahead
from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.model.loops import NEVER
from aif_dcpc.agents.gridworld.model.new_view import take_view
from aif_dcpc.agents.gridworld.model.paths import History, Sightings, Trajectory
from aif_dcpc.agents.gridworld.model.segments import Segments


def prior_particles(
    grid: GridConditionals, history: History, num_particles: int, generator: torch.Generator
) -> tuple[GridParticles, Tensor]:
    """Draw particles of slice 0: tables from the stored episodes, the map given the first view.

    Returns:
        the particles, and their log weights `(K,)`: how well the first view was predicted.
    """
    first = history.head(1)
    events = torch.zeros(num_particles, 1, dtype=torch.long)
    misread = grid.memory.draw_misread(num_particles, generator)
    initial, gain = grid.draw_map(events, first, misread, generator)
    tables = replace(grid.draw_all_tables(events, initial, first, generator), misread=misread)
    return GridParticles(events, initial, tables), gain


def propose(
    grid: GridConditionals,
    particles: GridParticles,
    history: History,
    generator: torch.Generator,
    kept: Tensor | None = None,
) -> tuple[GridParticles, Tensor]:
    """Take in the last slice of `history`, which the particles do not cover yet.

    Every event that the slice may have is tried with a map of its own, and one is chosen by its
    weight; the sum of the weights is the weight of what was chosen (properly weighted: Naesseth,
    Lindsten and Schon 2015, section 3).

    Args:
        grid: the world.
        particles: without the slice.
        history: with it.
        generator: source of all randomness.
        kept: `(K,)` events of the slice with which the maps of the particles go: these are tried as
            they are (conditional importance sampling), which leaves the posterior invariant.

    Returns:
        the particles with one more slice, the map in view and all tables that were integrated out
        redrawn; and log incremental weights `(K,)`.
    """
    before = history.head(len(history) - 1)
    trajectory, segments, sightings = grid.trace(particles.events, before)
    body = _body_score(grid, history)
    some = _worth_trying(body, kept)
    cells = _cells_in_view(grid, trajectory, history, some)
    tokens, sight = _tried(
        grid, particles, history, trajectory, segments, sightings, some, cells, kept, generator
    )
    own = grid.counts(particles.events, particles.initial, before)
    ahead = tokens_ahead(segments, particles.initial)[:, -1:]
    ahead = grid.effects.thing_ahead(ahead, history.faced[-1:])[:, 0]
    tried = _event_score(grid, own, ahead, trajectory.passed[:, -1], history, some)
    tried = tried + sight + body[some]
    score = tried.new_full((len(tried), len(body)), NEVER).index_copy(1, some, tried)
    event = draw(score, generator)
    events = torch.cat([particles.events, event[:, None]], 1)
    initial = _with_tokens(particles.initial, cells, tokens, torch.searchsorted(some, event))
    moved = replace(particles, events=events, initial=initial)
    tables = _redraw_tables(grid, moved, history, generator)
    return replace(moved, tables=tables), score.logsumexp(-1)


def redraw_last(
    grid: GridConditionals, particles: GridParticles, history: History, generator: torch.Generator
) -> GridParticles:
    """Draw the last event anew, with the map in view and tables, given all other events."""
    before = replace(particles, events=particles.events[:, :-1])
    return propose(grid, before, history, generator, kept=particles.events[:, -1])[0]


def _worth_trying(body: Tensor, kept: Tensor | None) -> Tensor:
    """Events `(n,)`, ascending, that may have led to what is known of the agent itself, see `_body_score`."""
    possible = body > NEVER / 2
    if not bool(possible.any()):
        return torch.arange(len(body))
    if kept is not None:
        possible[kept] = True
    return possible.nonzero()[:, 0]


def _cells_in_view(
    grid: GridConditionals, trajectory: Trajectory, history: History, some: Tensor
) -> Tensor:
    """Map cells that the last view shows after some events `(n,)`, `(K, n, P)`."""
    shift = grid.sightings(history).since(len(history) - 1).shift
    torus = grid.geometry.torus
    steps = grid.effects.steps.numpy()[some.numpy(), int(history.heading[-2])]
    wrapped = (trajectory.position.numpy()[:, -1, None] + steps) % torus.size
    anchor = wrapped @ [torus.stride, 1]
    return torch.from_numpy(torus.cells.numpy()[anchor[..., None] + shift.numpy()])


def _tried(
    grid: GridConditionals,
    particles: GridParticles,
    history: History,
    trajectory: Trajectory,
    segments: Segments,
    sightings: Sightings,
    some: Tensor,
    cells: Tensor,
    kept: Tensor | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Tokens of the cells in view `(K, n, P)` and log p(view | event, past) `(K, n)`, see `take_view`."""
    used = len(segments.cells)
    now = grid.sightings(history).since(len(history) - 1)
    ahead = int(history.faced[-1])
    known = ahead if ahead >= 0 else grid.num_slots
    none = torch.full((len(cells),), -1)
    which = none if kept is None else torch.searchsorted(some, kept.contiguous())
    misread = particles.tables.misread
    shape = len(cells), len(grid.effects.known) + 1, cells.shape[2]
    # those of the last are for what is kept
    number = torch.rand(shape, generator=generator).numpy()
    tokens, score = take_view(
        segments.seen.numpy(),
        sightings.code.numpy(),
        sightings.context.numpy(),
        particles.initial.contiguous().numpy(),
        segments.token.numpy(),
        segments.cells.numpy(),
        segments.latest.numpy(),
        _acted_on(segments, used).numpy(),
        cells.contiguous().numpy(),
        now.code.numpy(),
        now.context.numpy(),
        trajectory.cell_ahead[:, -1].contiguous().numpy(),
        grid.effects.writes[some, known, history.held[-1]].numpy(),
        which.numpy(),
        grid.odds(misread).numpy(),
        grid.urn,
        number[:, [*some.tolist(), -1]],
    )
    constant = shape[2] * grid.log_wrong(misread)
    return torch.from_numpy(tokens), torch.from_numpy(score).float() + constant[:, None]


def _acted_on(segments: Segments, used: int) -> Tensor:
    """`(K, U)` 1 where a cell has been ahead, before anything was written there."""
    ahead = segments.cell_ahead
    there = torch.zeros(len(ahead), used + 1, dtype=torch.long)
    return there.scatter_(1, ahead.clamp_max(used), 1)[:, :used].contiguous()


def _with_tokens(initial: Tensor, cells: Tensor, tokens: Tensor, event: Tensor) -> Tensor:
    """Initial maps `(K, M)` with the tokens `(K, n, P)` that were drawn for one of some events `(K,)`."""
    chosen = event[:, None, None].expand(-1, 1, cells.shape[2])
    where = cells.gather(1, chosen)[:, 0]
    what = tokens.gather(1, chosen)[:, 0]
    return initial.scatter(1, where, torch.where(what >= 0, what, initial.gather(1, where)))


def _event_score(
    grid: GridConditionals,
    own: Counts,
    token_ahead: Tensor,
    passed: Tensor,
    history: History,
    some: Tensor,
) -> Tensor:
    """log p(event, outcome | past) of some events, tables integrated out, `(K, n)`."""
    action = history.action[-1]
    effects = grid.effects
    grips = own.transition.shape[3]
    grip = effects.grips[token_ahead, history.held[-1]]
    context = effects.classes[token_ahead] * grips + grip
    place = effects.places(history.match)[token_ahead, passed]
    event = grid.memory.events.mean_at(
        own.transition[:, action], action.expand(len(token_ahead)), context
    )[:, some]
    rows = outcome_row(some, action, grid.num_actions)
    outcome = grid.memory.outcomes.mean_at(
        torch.from_numpy(own.outcome.numpy()[:, rows.numpy()]).flatten(0, 1),
        rows.repeat(len(token_ahead)),
        place.repeat_interleave(len(some)),
    )
    seen = outcome[:, history.outcome[-1]].view(event.shape)
    return (event * seen).clamp_min(1e-30).log()


def _body_score(grid: GridConditionals, history: History) -> Tensor:
    """log p(heading, hand | event), `(E,)`."""
    turned = (history.heading[-1] - history.heading[-2]) % 4
    possible = (grid.effects.turns == turned) & grid.effects.known
    every = torch.arange(len(possible))
    hands = grid.hands_after(every, history.faced[-1], history.held[-1])
    wrong = (hands != history.hand[-1]).float()
    return wrong * LOG_HAND_ERROR + torch.where(possible, 0.0, NEVER)


def _redraw_tables(
    grid: GridConditionals, particles: GridParticles, history: History, generator: torch.Generator
) -> Tables:
    """Redraw the tables that the proposal of the event integrated out."""
    rows = distinct(outcome_row(particles.events[:, -1], history.action[-1], grid.num_actions))
    return grid.redraw_tables(particles, history, generator, actions=history.action[-1:], rows=rows)


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
