"""One event of each particle drawn anew, the map integrated out: an update of the engine's events."""

import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.model.categorical import draw
from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.counts import Tables, outcome_row
from aif_dcpc.agents.gridworld.model.paths import History
from aif_dcpc.agents.gridworld.model.vocabulary import SAME


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
    turning = torch.stack([(grid.effects.turns == turn).int().argmax() for turn in range(4)])
    return torch.where(grid.effects.turns[events] == turned, events, turning[turned])


def redraw_events(
    grid: GridConditionals, particles: GridParticles, history: History, generator: torch.Generator
) -> Tensor:
    """Gibbs update of one event per particle, the map integrated out, the later poses shifting along.

    Where the heading turned, the event is the one motion that turns so; it is set, not drawn.
    """
    events = fitting(grid, particles.events, history)
    still = still_steps(history)
    if not len(still):
        return events
    time = still[pick_times(len(events), len(still), generator)]
    return _redraw_at(grid, time, events, history, particles.tables, generator)


def _steps_of_trials(
    grid: GridConditionals,
    time: Tensor,
    events: Tensor,
    choices: Tensor,
    history: History,
    tables: Tables,
) -> Tensor:
    """`step_evidence` of sequences `(K, T)` with each of some events at one time `(K,)`, `(N, T - 1, V)`.

    What a trial leaves as it is is asked once.
    """
    trajectory, _, _ = grid.trace(events, history)
    each = len(choices)
    steps = grid.step_evidence(events, trajectory, history, tables).repeat_interleave(each, 0)
    action = history.action[time][:, None, None]
    event = choices[:, None]
    effects = grid.effects
    every = torch.arange(grid.num_slots)[:, None].expand(-1, len(time))
    thing = effects.thing_ahead(every, history.faced[time]).T  # (K, V)
    grip = effects.grips[thing, history.held[time][:, None]]
    number = torch.arange(len(time))[:, None, None]
    chance = tables.transition[
        number, action, effects.classes[thing][:, None], grip[:, None], event
    ]
    row = outcome_row(event, action, grid.num_actions)
    place = effects.places(history.match)[thing, 0][:, None]
    outcome = tables.outcome[number, row, place, history.outcome[time][:, None, None]]
    new = (chance * outcome).clamp_min(1e-30).log().flatten(0, 1)
    steps[torch.arange(len(steps)), (time - 1).repeat_interleave(each)] = new
    return steps


def _redraw_at(
    grid: GridConditionals,
    time: Tensor,
    events: Tensor,
    history: History,
    tables: Tables,
    generator: torch.Generator,
) -> Tensor:
    """Redraw the event at one time `(K,)` of each particle among the events that do not turn."""
    choices = (grid.effects.known & (grid.effects.turns == 0)).nonzero()[:, 0]
    each = len(choices)
    trials = events.repeat_interleave(each, 0)
    tried = choices.repeat(len(events))
    trials.scatter_(1, time.repeat_interleave(each)[:, None], tried[:, None])
    which = torch.arange(len(events)).repeat_interleave(each)
    steps = None
    if grid.effects.milestone == SAME:  # else a change may tell on later steps
        steps = _steps_of_trials(grid, time, events, choices, history, tables)
    scores = grid.log_marginal(trials, history, tables, which, steps).view(len(events), each)
    picked = choices[draw(scores, generator)]
    return events.scatter(1, time[:, None], picked[:, None])
