"""What happened when, and what an action did all along: events changed together, all else integrated out.

A step that went ahead in open space looks like one that changed nothing; a change that is noticed
late may have been the work of any step since the last look. When it is told apart at last, two
events or more must change at once, which updates of one event at a time do not find, least of all
with tables in hand that were drawn given a wrong guess.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.counts import AHEAD
from aif_dcpc.agents.gridworld.model.paths import History
from aif_dcpc.agents.gridworld.model.single_events import (
    Proposal,
    faced_codes,
    fitting,
    pick_times,
    retried,
    still_steps,
)
from aif_dcpc.agents.gridworld.tables.posterior import evidence_gain

USUAL = 0.75  # how often doing nothing and going ahead are exchanged
FARTHEST = 6  # steps that do not turn, between two whose events change places


def exchange_events(
    grid: GridConditionals, particles: GridParticles, history: History, generator: torch.Generator
) -> GridParticles:
    """Move events together, by one of the proposals, drawn evenly.

    A Metropolis move on events, map and tables given the rate of misreading, the token prior
    integrated out: the events are proposed; the cells of the map are drawn one after another given
    the views, and what they leave to be weighed counts (see `urn`); the tables are integrated out,
    and drawn anew where a move was accepted. The token prior is to be drawn next.
    """
    particles = replace(particles, events=fitting(grid, particles.events, history))
    events = particles.events
    propose = PROPOSALS[int(torch.randint(len(PROPOSALS), (), generator=generator))]
    trial, log_ratio = propose(grid, particles, history, generator)
    tried = (trial != events).any(1).nonzero()[:, 0]
    if not len(tried):
        return particles
    before = events[tried], particles.initial[tried], particles.tables.misread[tried]
    gain, initial = _gain(grid, *before, trial[tried], history, generator)
    accepted = torch.rand(len(tried), generator=generator).log() < gain + log_ratio[tried]
    moved = tried[accepted]
    if not len(moved):
        return particles
    fresh = grid.draw_all_tables(trial[moved], initial[accepted], history, generator)
    tables = replace(
        particles.tables,
        transition=particles.tables.transition.index_copy(0, moved, fresh.transition),
        outcome=particles.tables.outcome.index_copy(0, moved, fresh.outcome),
    )
    return GridParticles(
        events.index_copy(0, moved, trial[moved]),
        particles.initial.index_copy(0, moved, initial[accepted]),
        tables,
    )


def flipped(
    grid: GridConditionals, particles: GridParticles, history: History, generator: torch.Generator
) -> Proposal:
    """Exchange two events (often doing nothing and going ahead) in one step that does not turn.

    Half of the steps are drawn evenly, half near the end.
    """
    events = particles.events
    still = still_steps(history)
    if not len(still):
        return events, torch.zeros(len(events))
    first, second = _pair(grid, len(events), generator)
    step = still[pick_times(len(events), len(still), generator)][:, None]
    other = _exchanged(events.gather(1, step), first, second)
    return events.scatter(1, step, other), torch.zeros(len(events))


def swapped(
    grid: GridConditionals, particles: GridParticles, history: History, generator: torch.Generator
) -> Proposal:
    """Let one event that changed something (any, evenly) change places with another near it.

    Steps that turn are passed over. Sequences in which nothing happened stay as they are. The
    exchange is its own inverse.
    """
    events = particles.events
    still = still_steps(history)
    acts = (events[:, still] != 0).float()
    has = acts.any(1, keepdim=True)
    if not bool(has.any()):
        return events, torch.zeros(len(events))
    one = torch.multinomial(torch.where(has, acts, 1.0), 1, generator=generator)
    away = torch.randint(-FARTHEST, FARTHEST + 1, one.shape, generator=generator)
    other = one + away
    other = torch.where(has & (other >= 0) & (other < len(still)), other, one)
    pair = still[torch.cat([one, other], 1)]
    return events.scatter(1, pair, events.gather(1, pair.flip(1))), torch.zeros(len(events))


def relabelled(
    grid: GridConditionals, particles: GridParticles, history: History, generator: torch.Generator
) -> Proposal:
    """Exchange two events in the steps of one action or two, faced with one token.

    Which action goes ahead may have been mistaken: then two actions change their parts. A step that
    does not turn is drawn, and gives the token that was seen ahead. Actions and events are drawn
    (often doing nothing and going ahead), and all of the episode or a stretch of it. Nothing of
    this looks at the events, so that the exchange is its own inverse.
    """
    events = particles.events
    still = still_steps(history)
    if not len(still):
        return events, torch.zeros(len(events))
    number = len(events)

    def any_of(choices: Tensor) -> Tensor:
        return choices[torch.randint(len(choices), (number, 1), generator=generator)]

    def coin() -> Tensor:
        return torch.rand(number, 1, generator=generator) < 0.5

    faced = faced_codes(grid, history)
    action = history.action
    tried = action[still].unique()
    one = any_of(tried)
    other = torch.where(coin(), one, any_of(tried))
    first, second = _pair(grid, number, generator)
    chosen = (faced == faced[any_of(still)]) & ((action == one) | (action == other))
    chosen &= torch.isin(torch.arange(len(action)), still)
    ends = torch.cat([any_of(still), any_of(still)], 1).sort(1).values
    time = torch.arange(len(action))
    chosen &= coin() | ((time >= ends[:, :1]) & (time <= ends[:, 1:]))
    return torch.where(chosen, _exchanged(events, first, second), events), torch.zeros(number)


def _exchanged(events: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The same, with two events `(N, 1)` in each other's place."""
    return torch.where(events == first, second, torch.where(events == second, first, events))


def _pair(grid: GridConditionals, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two events that do not turn, `(N, 1)` each: mostly doing nothing and going ahead."""
    choices = grid.effects.staying
    pairs = choices[torch.randint(len(choices), (2, number, 1), generator=generator)]
    usual = torch.rand(number, 1, generator=generator) < USUAL
    first, second = torch.where(usual, torch.tensor([0, AHEAD])[:, None, None], pairs)
    return first, second


def remade(
    grid: GridConditionals, particles: GridParticles, history: History, generator: torch.Generator
) -> Proposal:
    """Draw all events afresh in steps that faced one token: one action does one thing, the others nothing.

    A step that does not turn is drawn: it gives the token that was seen ahead. Of all such steps
    few have other events (see `Guess`).
    """
    events = particles.events
    still = still_steps(history)
    if not len(still):
        return events, torch.zeros(len(events))
    faced = faced_codes(grid, history)
    one = still[torch.randint(len(still), (1,), generator=generator)]
    steps = still[faced[still] == faced[one]]
    guess = Guess(grid, history.action[steps])
    drawn = guess.draw(len(events), generator)
    log_ratio = guess.log_prob(events[:, steps]) - guess.log_prob(drawn)
    return events.index_copy(1, steps, drawn), log_ratio


PROPOSALS = (*6 * [retried], flipped, flipped, relabelled, relabelled, swapped, remade)


@dataclass(frozen=True)
class Guess:
    """A distribution over the events of S steps: one action moves or does something, the others nothing.

    Which action, and which event, are drawn evenly (going ahead half of the time); then each step,
    independently, has any event with a small probability: about once in all steps, or in every
    tenth one.

    Attributes:
        grid: what events there are.
        action: `(S,)`.
    """

    grid: GridConditionals
    action: Tensor

    @cached_property
    def _choices(self) -> Tensor:
        """`(E',)` events that do not turn; 0 is the first."""
        return self.grid.effects.staying

    @cached_property
    def _hypotheses(self) -> tuple[Tensor, Tensor, Tensor]:
        """Events of all steps under each hypothesis `(Q, S)`, how rare others are, log prior `(Q,)`."""
        actions = self.action.unique()
        others = self._choices[1:]
        odds = torch.where(others == AHEAD, len(others) - 1.0, 1.0)
        what = torch.where(self.action == actions[:, None, None], others[:, None], 0).flatten(
            0, 1
        )  # (actions * events, S)
        prior = (odds / odds.sum()).log().repeat(len(actions)) - math.log(len(actions))
        rare = torch.tensor([0.5 / (len(self.action) + 1), 0.1])
        return (
            what.repeat(2, 1),
            rare.repeat_interleave(len(what)),
            prior.repeat(2) - math.log(2),
        )

    def draw(self, number: int, generator: torch.Generator) -> Tensor:
        """Draw events independently of each other, `(number, S)`."""
        what, rare, prior = self._hypotheses
        which = torch.multinomial(prior.exp(), number, replacement=True, generator=generator)
        shape = number, len(self.action)
        other = self._choices[torch.randint(len(self._choices), shape, generator=generator)]
        differs = torch.rand(shape, generator=generator) < rare[which, None]
        return torch.where(differs, other, what[which])

    def log_prob(self, events: Tensor) -> Tensor:
        """Log probability of events `(N, S)`, `(N,)`."""
        what, rare, prior = self._hypotheses
        any_event = rare / len(self._choices)
        agree = (events[:, None] == what).float().sum(-1)  # (N, Q)
        right = (1 - rare + any_event).log()
        terms = agree * right + (len(self.action) - agree) * any_event.log() + prior
        return terms.logsumexp(1)


def _gain(
    grid: GridConditionals,
    events: Tensor,
    initial: Tensor,
    misread: Tensor,
    trial: Tensor,
    history: History,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Log acceptance ratio `(N,)` of trial events `(N, T)`, and the maps drawn for them.

    `initial` `(N, M)` are the maps of the events so far, `misread` `(N,)` the rates for both.
    """
    before = grid.counts(events, initial, history)
    old = grid.log_views(events, initial, history, misread)
    drawn, new = grid.draw_map(trial, history, misread, generator)
    after = grid.counts(trial, drawn, history)
    gain = new - old + grid.log_bodily(trial, history) - grid.log_bodily(events, history)
    gain = gain + evidence_gain(grid.memory.events, before.transition, after.transition)
    return gain + evidence_gain(grid.memory.outcomes, before.outcome, after.outcome), drawn
