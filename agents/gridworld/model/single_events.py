"""One event of each particle drawn anew from what can be told without its map and tables.

The best that a proposal can do is the complete conditional of the event. It is approached by what
does not change with the event itself: the views under each event that there may have been, the map
integrated out, times how often the action did each thing in the other steps, where the view showed
the same ahead. What is missing is made good when the move is weighed.

A proposal that is surer than the posterior hardly ever leaves a wrong event, for the way back would
be too unlikely. So views are weighed by the particle's own rate of misreading, which the move
leaves as it is, and no event is too unlikely to be proposed (a defensive mixture: Hesterberg,
Technometrics 37, 1995).
"""

import math

import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.model.categorical import draw
from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.paths import History, follow
from aif_dcpc.agents.gridworld.model.segments import segment

Proposal = tuple[Tensor, Tensor]  # events (N, T); log q(old | new) - log q(new | old), (N,)
RARE = 1e-9  # chance of what an action is thought never to do
FLOOR = 1e-3  # no event is proposed with less of the chance of the likeliest


def pick_times(num: int, length: int, generator: torch.Generator) -> Tensor:
    """One of `length` places per particle: half of them anywhere, half near the end."""
    anywhere = torch.randint(length, (num,), generator=generator)
    late = length - torch.empty(num).geometric_(0.3, generator=generator).long()
    coin = torch.rand(num, generator=generator) < 0.5
    return torch.where(coin, anywhere, late.clamp_min(0))


def still_steps(history: History) -> Tensor:
    """Slices whose step did not turn; the events of the others are known."""
    return ((history.heading[1:] - history.heading[:-1]) % 4 == 0).nonzero()[:, 0] + 1


def fitting(grid: GridConditionals, events: Tensor, history: History) -> Tensor:
    """Events that fit the headings: those that do stay; else the one that turns so, or nothing."""
    turned = torch.zeros_like(history.heading)
    turned[1:] = (history.heading[1:] - history.heading[:-1]) % 4
    turning = grid.effects.turning[turned]
    return torch.where(grid.effects.turns[events] == turned, events, turning)


def faced_codes(grid: GridConditionals, history: History) -> Tensor:
    """Code that was seen ahead before the step into each slice, `(T,)`."""
    ahead = history.view[:, grid.geometry.place_ahead]
    return torch.cat([ahead[:1], ahead[:-1]])


def retried(
    grid: GridConditionals, particles: GridParticles, history: History, generator: torch.Generator
) -> Proposal:
    """Draw the event of one step that does not turn anew, later poses shifting along."""
    events = particles.events
    still = still_steps(history)
    if not len(still):
        return events, torch.zeros(len(events))
    time = still[pick_times(len(events), len(still), generator)][:, None]
    choices = grid.effects.staying
    score = _score_of_views(grid, particles, time, choices, history)
    score = score + _score_of_others(grid, events, time[:, 0], history)[:, choices]
    score = score.clamp_min(score.amax(1, keepdim=True) + math.log(FLOOR)).log_softmax(1)
    new = draw(score, generator)[:, None]
    old = (events.gather(1, time) == choices).int().argmax(1, keepdim=True)
    log_ratio = score.gather(1, old) - score.gather(1, new)
    return events.scatter(1, time, choices[new]), log_ratio[:, 0]


def _score_of_views(
    grid: GridConditionals,
    particles: GridParticles,
    time: Tensor,
    choices: Tensor,
    history: History,
) -> Tensor:
    """log p(views, heading, hand | events) with each of some events at a time `(N, 1)`, `(N, C)`."""
    events = particles.events
    each = len(choices)
    trials = events.repeat_interleave(each, 0)
    trials.scatter_(1, time.repeat_interleave(each, 0), choices.repeat(len(events))[:, None])
    sightings = grid.sightings(history)
    trajectory = follow(trials, history, grid.effects, grid.geometry)
    segments = segment(trajectory, sightings, grid.geometry)
    misread = particles.tables.misread.repeat_interleave(each)
    logits = grid.segment_logits(segments, sightings, misread, grid.shown(history)[None])
    score = logits.logsumexp(-1).sum(-1) + grid.log_bodily(trials, history)
    return score.view(len(events), each)


def _score_of_others(
    grid: GridConditionals, events: Tensor, time: Tensor, history: History
) -> Tensor:
    """log p(event | action) at a time `(N,)`, as the other steps before the same sight say, `(N, E)`."""
    effects = grid.effects
    shape = grid.past.transition.shape[1:]
    code = faced_codes(grid, history)
    thing = code.clamp_min(0)
    context = effects.classes[thing] * shape[1] + effects.grips[thing, history.held]
    action = history.action[time]
    others = (history.action == action[:, None]) & (code >= 0)
    others[:, 0] = False
    others.scatter_(1, time[:, None], False)
    counts = torch.zeros(len(events), shape.numel())
    counts.scatter_add_(1, context * shape[2] + events, others.float())
    chance = grid.memory.events.mean_at(counts.view(-1, *shape), action, context[time])
    return torch.where((code[time] >= 0)[:, None], chance, 1.0).clamp_min(RARE).log()
