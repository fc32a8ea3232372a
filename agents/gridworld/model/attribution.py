"""When an effect happened: exchanging it with a neighbouring step, the tables integrated out."""

from dataclasses import replace

import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.counts import Counts
from aif_dcpc.agents.gridworld.model.paths import History
from aif_dcpc.agents.gridworld.model.segments import misread_log_odds
from aif_dcpc.agents.gridworld.tables.posterior import evidence_gain


def shift_effects(
    grid: GridConditionals, particles: GridParticles, history: History, generator: torch.Generator
) -> GridParticles:
    """Let one effect per particle change places with the step before or after it.

    The tables are integrated out.

    When a change is noticed late (the first sight of it was misread, or the step slipped), the step
    that did it is uncertain. Tables drawn given one attribution make the other look impossible, so
    that updates of events given tables would never find it: here both are weighed by the evidence
    of all counts. Accepted by Metropolis; the pair of steps is chosen in a way that the exchange
    does not change. Where it is accepted, tables are drawn anew.
    """
    trial = _exchanged(grid, particles.events, history, generator)
    tried = (trial != particles.events).any(1).nonzero()[:, 0]
    if not len(tried):
        return particles
    gain = _collapsed_gain(grid, particles.events[tried], trial[tried], particles, tried, history)
    moved = tried[torch.rand(len(tried), generator=generator).log() < gain]
    if not len(moved):
        return particles
    fresh = grid.draw_all_tables(trial[moved], particles.initial[moved], history, generator)
    tables = replace(
        particles.tables,
        transition=particles.tables.transition.index_copy(0, moved, fresh.transition),
        outcome=particles.tables.outcome.index_copy(0, moved, fresh.outcome),
    )
    return replace(
        particles, events=particles.events.index_copy(0, moved, trial[moved]), tables=tables
    )


def _exchanged(
    grid: GridConditionals, events: Tensor, history: History, generator: torch.Generator
) -> Tensor:
    """Exchange one effect (any, evenly) and the step before or after it (evenly) in each sequence.

    Steps that turn are passed over: their events are known. Sequences without an effect stay as
        they are.
    """
    still = ((history.heading[1:] - history.heading[:-1]) % 4 == 0).nonzero()[:, 0] + 1
    acts = (events[:, still] >= grid.effects.num_motions).float()
    has = acts.any(1, keepdim=True)
    if not bool(has.any()):
        return events
    one = torch.multinomial(torch.where(has, acts, 1.0), 1, generator=generator)
    other = one + 2 * torch.randint(2, one.shape, generator=generator) - 1
    other = torch.where(has & (other >= 0) & (other < len(still)), other, one)
    pair = still[torch.cat([one, other], 1)]
    return events.scatter(1, pair, events.gather(1, pair.flip(1)))


def _collapsed_gain(
    grid: GridConditionals,
    old: Tensor,
    new: Tensor,
    particles: GridParticles,
    which: Tensor,
    history: History,
) -> Tensor:
    """log p(new events, observations | map, misread) less that of the old ones, `(N,)`.

    The tables are integrated out.
    """
    initial = particles.initial[which]
    misread = particles.tables.misread[which]
    (before, possible_before), (after, possible_after) = (
        _fit(grid, events, initial, history) for events in (old, new)
    )
    right = after.sightings[:, 0] - before.sightings[:, 0]
    gain = possible_after - possible_before + right * misread_log_odds(misread, grid.num_tokens)
    gain = gain + evidence_gain(grid.memory.events, before.transition, after.transition)
    return gain + evidence_gain(grid.memory.outcomes, before.outcome, after.outcome)


def _fit(
    grid: GridConditionals, events: Tensor, initial: Tensor, history: History
) -> tuple[Counts, Tensor]:
    """Counts, and log p(heading, hand | events)."""
    counts = grid.counts(events, initial, history)
    return counts, grid.log_bodily(events, grid.trace(events, history)[0], history)
