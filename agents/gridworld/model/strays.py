"""Particles that have not arrived: lineages that lie so far below the best that none of the posterior is there.

Where views look alike for long, particles follow different guesses of what actions do; once something
tells them apart, sweeps find the way from a wrong guess slowly. A particle is replaced by another (as
`engine.sample` does with stuck chains while it warms up) if its joint probability, times the number
of sequences that differ from it in one event, is small beside the best one's.
"""

import math

import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.paths import History
from aif_dcpc.agents.gridworld.tables.posterior import evidence_gain

SMALL = 3.0  # nats


def log_joints(grid: GridConditionals, particles: GridParticles, history: History) -> Tensor:
    """log p(events, data), `(K,)`: maps and tables integrated out, with mean rates for all."""
    events = particles.events
    own = grid.counts(events, particles.initial, history)
    every = own.average(torch.full((len(events),), 1 / len(events)))
    token_prior = grid.prior.mean_token_prior(every + grid.past, grid.past)[None]
    misread = grid.prior.mean_misread(every + grid.past).expand(len(events))
    _, segments, sightings = grid.trace(events, history)
    logits = grid.segment_logits(segments, sightings, misread, token_prior)
    constant = len(sightings.time) * grid.log_wrong(misread)
    log_views = constant + logits.logsumexp(-1).sum(-1) + grid.log_bodily(events, history)
    of_events = evidence_gain(grid.memory.events, 0 * own.transition, own.transition)
    of_outcomes = evidence_gain(grid.memory.outcomes, 0 * own.outcome, own.outcome)
    return log_views + of_events + of_outcomes


def without_strays(
    grid: GridConditionals,
    particles: GridParticles,
    history: History,
    weights: Tensor,
    generator: torch.Generator,
) -> GridParticles:
    """The particles with each stray replaced by one of the others, drawn by their weights `(K,)`."""
    joints = log_joints(grid, particles, history)
    here = joints > joints.max() - SMALL - math.log(2 * len(history))
    if bool(here.all()):
        return particles
    others = torch.multinomial(
        here * weights.clamp_min(1e-12), len(weights), replacement=True, generator=generator
    )
    which = torch.where(here, torch.arange(len(weights)), others)
    return particles.picked(which)
