"""What a planner is told: means and novelties of the tables, beliefs over the map and the pose."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.counts import REWARDED, Counts
from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.model.paths import Effects, History, Trajectory, likeliest
from aif_dcpc.agents.gridworld.model.task import Wanted
from aif_dcpc.agents.gridworld.model.vocabulary import OTHER, OUT_OF_SIGHT, SAME
from aif_dcpc.agents.gridworld.planning.arrivals import Arrivals, ArrivalTables, Tried
from aif_dcpc.agents.gridworld.planning.visibility import Transparency
from aif_dcpc.agents.gridworld.tables.prior import PooledDirichletPrior
from aif_dcpc.agents.gridworld.tables.summary import Summary

REMEMBERED = 3  # views of each pose
LIKELY = 0.5  # probability of reward from which a token counts as rewarded


@dataclass(frozen=True)
class PosteriorTables:
    """Tables as a planner sees them, one event standing for all that are not known yet.

    Attributes:
        transition: `(A, V, C, E)` posterior mean p(event | action, token ahead, hand).
        transition_without_optimism: the same after one pseudo-observation of "nothing happened";
            used on every step but the informative one, so that optimism about untried rows counts
            once.
        transition_novelty: `(A, V, C)` nats, I(event; table).
        outcome: `(2, A + E', V, O)` posterior mean p(outcome | row, token ahead), before the
            milestone and after it.
        outcome_without_optimism: likewise, after one pseudo-observation of "nothing gained".
        outcome_novelty: `(2, A + E', V)` nats.
        transparency: `(V,)` probability that one sees past a token.
        misread: probability of a misread sighting.
        num_tokens: size of the token alphabet.
        steps, turns: what events do, `(E, 4, 2)`, `(E,)`.
        writes, takes: likewise, by token ahead and thing in hand, `(E, V + 1, C)`.
        milestone: token whose being written is remembered, or SAME.
        arrivals: outcomes that hang on what is ahead after an event; those events have none in
            `outcome`.
        resolved: the same, once it is known which twin is wanted, for each that it may be, evenly;
            none where nothing is open.
        twins: slots of these.
        of_any_size: the same, where each reward counts as a whole one; None where all are of a size.
    """

    transition: Floats
    transition_without_optimism: Floats
    transition_novelty: Floats
    outcome: Floats
    outcome_without_optimism: Floats
    outcome_novelty: Floats
    transparency: Floats
    misread: float
    num_tokens: int
    steps: Ints
    turns: Ints
    writes: Ints
    takes: Ints
    milestone: int = SAME
    arrivals: ArrivalTables | None = None
    resolved: tuple[ArrivalTables, ...] = ()
    twins: tuple[int, ...] = ()
    of_any_size: "PosteriorTables | None" = None

    @property
    def num_actions(self) -> int:
        """How many actions there are, A."""
        return self.transition.shape[0]

    @property
    def num_events(self) -> int:
        """How many events there are, E."""
        return self.transition.shape[3]

    @cached_property
    def rewarded(self) -> npt.NDArray[np.bool_]:
        """`rewarded_tokens` of these tables, found once."""
        return rewarded_tokens(self)

    @cached_property
    def outcome_rows(self) -> Ints:
        """`(A, E)` row of the outcome table."""
        actions = np.arange(self.num_actions)[:, None]
        events = np.arange(self.num_events)[None]
        return np.where(events == 0, actions, self.num_actions + events)


def rewarded_tokens(tables: PosteriorTables) -> npt.NDArray[np.bool_]:
    """Which tokens ahead some action is likely to be rewarded for, whatever is in hand, `(V,)`.

    What is worth less than `LIKELY` of the greatest reward is none: who has it in sight looks on.
    """
    of_rows = tables.outcome[..., REWARDED].sum(-1)[:, tables.outcome_rows]  # (2, A, E, V)
    chance = np.einsum("avce,paev->pacv", tables.transition, of_rows)
    found: npt.NDArray[np.bool_] = chance.max((0, 1, 2)) > LIKELY
    return found


def tables_of(
    grid: GridConditionals,
    summaries: tuple[Summary, Summary],
    events: PooledDirichletPrior,
    transparency: Transparency,
    counts: Counts,
    num_events: int,
    match: Tensor,
    arrivals: Arrivals,
    wanted: Wanted,
    running: Tensor,
    tried: Tried | None,
) -> PosteriorTables:
    """The tables as a planner sees them.

    Args:
        grid: the model.
        summaries: of events and of outcomes; what has not changed since the last call is reused.
        events: prior of the events.
        transparency: learned from the views.
        counts: expected counts of all episodes.
        num_events: motions, registered effects, and one that stands for all that are not known yet.
        match: `(V,)` what the mission names, see `History`.
        arrivals: learned from stored episodes.
        wanted: what is wanted ahead after a step.
        running: `(A + E, P, O)` counts of the running episode by the token ahead after each step.
        tried: what was tried for nothing in this episode, see `ArrivalTables`.
    """
    of_events, of_outcomes = summaries
    transition, transition_novelty, transition_later = of_events.update(counts.transition, events)
    outcome, outcome_novelty, outcome_later = of_outcomes.update(counts.outcome, grid.outcomes)
    effects = grid.effects
    context = effects.classes.numpy()[:, None], effects.grips.numpy()
    places = effects.places(match).numpy().T

    def by_token(table: Tensor) -> Floats:
        """Spread a table of events `(A, G, H, ...)` over tokens and hands, `(A, V, C, ...)`."""
        return table.numpy()[:, *context].astype(float, order="C")

    def by_place(table: Tensor) -> Floats:
        """Spread a table of outcomes `(R, P, ...)` over milestone and tokens, `(2, R, V, ...)`."""
        rows = table.numpy().reshape(len(table), -1, table.shape[-1])
        spread = rows.take(places, 1).swapaxes(0, 1).astype(float)
        spread[:, grid.num_actions :][:, arrivals.events] = 0
        return spread

    novelty = arrivals.novelty(running[grid.num_actions :], grid.outcomes)
    of_arrivals = _arrival_tables(arrivals, novelty, effects, wanted, num_events)
    if of_arrivals:
        of_arrivals["arrivals"] = replace(of_arrivals["arrivals"], tried=tried)
    return PosteriorTables(
        transition=_folded(by_token(transition), num_events),
        transition_without_optimism=_folded(by_token(transition_later), num_events),
        transition_novelty=by_token(transition_novelty),
        outcome=by_place(outcome),
        outcome_without_optimism=by_place(outcome_later),
        outcome_novelty=by_place(outcome_novelty[..., None])[..., 0],
        transparency=transparency.mean(),
        misread=float(grid.prior.mean_misread(counts)),
        num_tokens=grid.num_tokens,
        steps=effects.steps[:num_events].numpy(),
        turns=effects.turns[:num_events].numpy(),
        writes=effects.writes[:num_events].numpy(),
        takes=effects.takes[:num_events].numpy(),
        milestone=effects.milestone,
        **of_arrivals,
    )


def _arrival_tables(
    arrivals: Arrivals, novelty: Floats, effects: Effects, wanted: Wanted, num_events: int
) -> dict[str, Any]:
    """The fields of `PosteriorTables` that tell of arrivals."""
    now, *later = (
        ArrivalTables.of(arrivals, novelty, effects.places(match).T, num_events)
        for match in (wanted.match, *wanted.if_told)
    )
    if now is None:
        return {}
    resolved = tuple(table for table in later if table is not None)
    return {"arrivals": now, "resolved": resolved, "twins": wanted.twins}


def _folded(table: Floats, known: int) -> Floats:
    """A transition table whose last event stands for all free slots."""
    folded = table[..., :known].copy()
    folded[..., -1] += table[..., known:].sum(-1)
    return folded


@dataclass(frozen=True)
class Belief:
    """The present state of the world, as believed.

    Attributes:
        origin: (y, x) without wrapping where the map is laid out from, see `Geometry.origin`.
        cells: `(M, V)` belief over the token of every map cell, given the likeliest place.
        unseen: `(V,)` belief over a cell that was never seen.
        seen: `(M,)` whether a cell was ever seen.
        pose: `(K, 3)` (y, x, heading) of the particles, without wrapping.
        weights: `(K,)` normalised.
        hand: slot in hand.
        passed: 1 if the milestone has been written in this episode, else 0.
        visited: pose (y, x, heading) -> views seen there, `(P,)` codes, that differ in what was out of
            sight, those that showed most.
        likeliest: number of the heaviest particle of those in the likeliest place.
        later: `(M, V)` belief over the cells from the next step on, where things that change their
            places by themselves may have gone; None where nothing does.
    """

    origin: Ints
    cells: Floats
    unseen: Floats
    seen: npt.NDArray[np.bool_]
    pose: Ints
    weights: Floats
    hand: int
    passed: int
    visited: dict[tuple[int, int, int], list[Ints]]
    likeliest: int = 0
    later: Floats | None = None

    def with_tokens(self, at: Ints, tokens: Ints) -> "Belief":
        """The same, surely with tokens `(n,)` in map cells `(n,)` that are seen now."""
        cells = self.cells.copy()
        seen = self.seen.copy()
        cells[at] = np.eye(cells.shape[1])[tokens]
        seen[at] = True
        return replace(self, cells=cells, seen=seen)


def belief_of(
    grid: GridConditionals,
    particles: GridParticles,
    history: History,
    weights: Tensor,
    counts: Counts,
) -> Belief:
    """The present state of the world, particles averaged.

    Args:
        grid: the model.
        particles: of the running episode, K.
        history: what was observed in it.
        weights: `(K,)` normalised.
        counts: expected counts of all episodes.
    """
    trajectory, _, _ = grid.trace(particles.events, history)
    best = likeliest(trajectory.position[:, -1], weights)
    heading = history.heading[-1].expand(len(weights), 1)
    pose = torch.cat([trajectory.position[:, -1], heading], 1)
    return Belief(
        origin=grid.geometry.origin(trajectory.position),
        cells=_cells(grid, particles, history, _of_place(trajectory, weights, best), counts)
        .double()
        .numpy(),
        unseen=grid.prior.frequencies(counts).double().numpy(),
        seen=_seen(grid, history, trajectory, best),
        pose=pose.numpy(),
        weights=weights.double().numpy(),
        likeliest=best,
        hand=int(history.hand[-1]),
        passed=int(trajectory.passed[best, -1]),
        visited=views_by_pose(trajectory, history, best),
    )


def _of_place(trajectory: Trajectory, weights: Tensor, best: int) -> Tensor:
    """Weights `(K,)` of the particles that stand where the best one does: maps of others are laid out otherwise."""
    position = trajectory.position[:, -1]
    there = weights * (position == position[best]).all(-1)
    return there / there.sum()


def ahead_of(belief: Belief, geometry: Geometry) -> int:
    """Slot of the likeliest token ahead of the likeliest particle; below 0 if the cell was never seen."""
    y, x, heading = belief.pose[belief.likeliest]
    row, column = (y, x) + geometry.cell_ahead[heading]
    cell = (row % geometry.size) * geometry.size + column % geometry.size
    return int(belief.cells[cell].argmax()) if belief.seen[cell] else OTHER


def _cells(
    grid: GridConditionals,
    particles: GridParticles,
    history: History,
    weights: Tensor,
    counts: Counts,
) -> Tensor:
    """Token that every map cell holds now, `(M, V)`: particles averaged, cells in closed form."""
    _, segments, sightings = grid.trace(particles.events, history)
    num = len(weights)
    misread = grid.prior.mean_misread(counts).expand(num)
    token_prior = grid.prior.mean_token_prior(counts, grid.past)[None]
    logits = grid.segment_logits(segments, sightings, misread, token_prior)
    never_seen = grid.prior.frequencies(counts).expand(grid.geometry.size**2, -1)
    seen = torch.tensordot(weights, grid.present(logits, segments), 1)
    return never_seen.index_copy(0, segments.cells, seen)


def _seen(
    grid: GridConditionals, history: History, trajectory: Trajectory, best: int
) -> npt.NDArray[np.bool_]:
    """Which map cells the best particle has seen or stood on, `(M,)`."""
    torus = grid.geometry.torus
    sights = grid.sightings(history)
    anchor = trajectory.anchor[best]
    seen = np.zeros(grid.geometry.size**2, dtype=bool)
    seen[torus.cell(anchor[sights.time] + sights.shift).numpy()] = True
    seen[torus.cell(anchor + torus.here).numpy()] = True
    return seen


def views_by_pose(
    trajectory: Trajectory, history: History, best: int
) -> dict[tuple[int, int, int], list[Ints]]:
    """What was seen from each pose, on the best particle's path, with doors open or shut: most last."""
    position = trajectory.position[best].tolist()
    heading = history.heading.tolist()
    views = history.view.numpy()
    in_sight = views != OUT_OF_SIGHT
    most = in_sight.sum(1).tolist()
    visited: dict[tuple[int, int, int], dict[bytes, int]] = {}
    for time, ((y, x), facing) in enumerate(zip(position, heading, strict=True)):
        seen = visited.setdefault((y, x, facing), {})
        shown = in_sight[time].tobytes()
        seen.pop(shown, None)
        seen[shown] = time
    return {
        pose: [views[time] for time in sorted(seen.values(), key=most.__getitem__)[-REMEMBERED:]]
        for pose, seen in visited.items()
    }


def cell_information(cells: Floats, misread: float, num_tokens: int) -> Floats:
    """I(o; z) in nats of one sighting of each cell.

    It is the entropy of what will be read, less that of misreading.

    Args:
        cells: `(..., V)` belief over tokens.
        misread: probability of reading one of the other tokens, uniformly.
        num_tokens: size of the alphabet, at least V.
    """
    wrong = misread / (num_tokens - 1)
    read = cells * (1 - misread) + (1 - cells) * wrong
    rest = num_tokens - cells.shape[-1]
    entropy = _entropy(read).sum(-1) + rest * _entropy(np.array(wrong))
    noise = _entropy(np.array(1 - misread)) + (num_tokens - 1) * _entropy(np.array(wrong))
    return np.maximum(entropy - noise, 0)


def _entropy(chance: Floats) -> Floats:
    return -chance * np.log(np.maximum(chance, 1e-300))
