"""Sufficient statistics of an episode for the tables, and the tables themselves."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from aif_dcpc.agents.arrays import Bools, Ints
from aif_dcpc.agents.gridworld.model.loops import tally_steps
from aif_dcpc.agents.gridworld.model.paths import (
    SITUATIONS,
    Effects,
    History,
    Sightings,
    Trajectory,
)
from aif_dcpc.agents.gridworld.model.segments import Segments
from aif_dcpc.agents.gridworld.model.vocabulary import SAME, Vocabulary
from aif_dcpc.agents.gridworld.tables.heads import taught
from aif_dcpc.agents.gridworld.tables.prior import (
    PooledDirichletPrior,
    base_measure,
)

# total concentrations of table rows: deterministic, nearly so, or noisy
ALPHAS = (0.001, 0.1, 1.0)
NEITHER_MATTERS = 1 / 3  # prior probability that neither token nor hand matters to an action
AHEAD = 4  # the motion by one cell ahead, see `MOTIONS`
# what of a context outcomes do not hang on, and how likely that is, if they hang on the class ahead
# (axis 0) at all; axes: colour (1), named by the mission (2), milestone passed (3)
OUTCOME_POOLS = ((1, 2, 3), (1, 3), (2, 3), (1, 2), (2,))
OUTCOME_CHANCES = (0.6, 0.2, 0.1, 0.05, 0.05)
NOTHING = 1  # outcome: went on, reward zero
NUM_OUTCOMES = 6  # 3 * terminated + sign of the reward + 1
REWARDED = (2, 5)
PENALISED = (0, 3)


def outcome_code(reward: float, terminated: bool) -> int:
    """Outcome of a step: 3 * terminated + sign of the reward + 1."""
    return 3 * int(terminated) + (reward > 0) - (reward < 0) + 1


def rewarded(outcome: Ints) -> Bools:
    """Whether steps had a reward above zero."""
    found: Bools = outcome % 3 == 2
    return found


def terminated(outcome: Ints) -> Bools:
    """Whether steps ended their episode."""
    found: Bools = outcome >= 3
    return found


@dataclass(frozen=True)
class Counts:
    """How often what happened; leading axes (particles, or none) are free.

    Attributes:
        transition: `(..., A, G, H, E)` event, by action, class of the token ahead, grip.
        outcome: `(..., A + E, P, O)` outcome, by row and place (see `Effects.places`); row = action
            if nothing moved or changed, else A + event.
        tokens: `(..., X, V)` initial tokens of the cells that were seen, by the context of their
            first sighting (see `Sightings`).
        sightings: `(..., 2)` correct and misread sightings.
    """

    transition: Tensor
    outcome: Tensor
    tokens: Tensor
    sightings: Tensor

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    @property
    def sizes(self) -> tuple[int, int, int, int, int, int, int, int]:
        """Number of actions, classes, grips, events, places, outcomes, contexts of cells, tokens."""
        actions, classes, grips, events = self.transition.shape[-4:]
        places, outcomes = self.outcome.shape[-2:]
        contexts, slots = self.tokens.shape[-2:]
        return actions, classes, grips, events, places, outcomes, contexts, slots

    def average(self, weights: Tensor) -> "Counts":
        """Expected counts under particle weights `(K,)`."""
        return Counts(*(torch.tensordot(weights, getattr(self, f.name), 1) for f in fields(self)))

    def resized(self, num_actions: int, vocabulary: Vocabulary) -> "Counts":
        """Zero-padded to the vocabulary's present capacities."""
        slots = vocabulary.tokens.capacity
        classes = vocabulary.classes.capacity
        colours = vocabulary.colours.capacity
        grips = 2 * vocabulary.grips.capacity
        events = vocabulary.max_events
        before = self.transition.shape[-3]
        by_look = self.outcome.unflatten(-2, (before, -1, SITUATIONS))
        beside = self.tokens.unflatten(-2, (before + 1, before + 1))
        grown = _grow(by_look, (num_actions + events, classes, colours, SITUATIONS, NUM_OUTCOMES))
        return replace(
            self,
            transition=_grow(self.transition, (classes, grips, events)),
            outcome=grown.flatten(-4, -2),
            tokens=_grow(beside, (classes + 1, classes + 1, slots)).flatten(-3, -2),
        )


def _grow(counts: Tensor, shape: tuple[int, ...]) -> Tensor:
    have = counts.shape[-len(shape) :]
    missing = [(0, want - got) for want, got in zip(shape, have, strict=True)]
    return pad(counts, [n for pair in reversed(missing) for n in pair])


def no_counts(num_actions: int, vocabulary: Vocabulary) -> Counts:
    """Counts of nothing, with room for everything in the vocabulary."""
    slots = vocabulary.tokens.capacity
    classes = vocabulary.classes.capacity
    events = vocabulary.max_events
    places = classes * vocabulary.colours.capacity * SITUATIONS
    return Counts(
        torch.zeros(num_actions, classes, 2 * vocabulary.grips.capacity, events),
        torch.zeros(num_actions + events, places, NUM_OUTCOMES),
        torch.zeros((classes + 1) ** 2, slots),
        torch.zeros(2),
    )


def outcome_row(events: Tensor, action: Tensor, num_actions: int) -> Tensor:
    """Row of the outcome table."""
    return torch.where(events == 0, action, num_actions + events)


def tokens_ahead(segments: Segments, initial: Tensor) -> Tensor:
    """Token ahead at each slice, `(N, T)`, given the initial map `(N, M)`."""
    return segments.initial_tokens(initial).gather(1, segments.cell_ahead)


def count(
    events: Tensor,
    initial: Tensor,
    trajectory: Trajectory,
    segments: Segments,
    history: History,
    sightings: Sightings,
    effects: Effects,
    like: Counts,
) -> Counts:
    """Counts of event sequences `(N, T)` with initial maps `(N, M)`; `like` gives the sizes."""
    order, held, faced, action, outcome, passed = (
        part.contiguous().numpy()
        for part in (
            events,
            history.held,
            history.faced,
            history.action,
            history.outcome,
            trajectory.passed,
        )
    )
    cell_ahead, seen, code, context = (
        part.numpy()
        for part in (segments.cell_ahead, segments.seen, sightings.code, sightings.context)
    )
    token = segments.initial_tokens(initial).numpy()
    classes, grips, places = (
        part.contiguous().numpy()
        for part in (effects.classes, effects.grips, effects.places(history.match))
    )
    counted = tally_steps(
        order,
        held,
        faced,
        action,
        outcome,
        passed,
        cell_ahead,
        seen,
        code,
        context,
        token,
        len(segments.cells),
        classes,
        grips,
        places,
        effects.moving.numpy(),
        like.sizes,
    )
    return Counts(*(torch.from_numpy(part) for part in counted))


@dataclass(frozen=True)
class Tables:
    """Parameters, one set per particle.

    Attributes:
        transition: `(K, A, G, H, E)` p(event | action, class of the token ahead, grip).
        outcome: `(K, A + E, P, O)` p(outcome | row, place).
        token_prior: `(K, X, V)` p(initial token of a cell | context of its first sighting).
        misread: `(K,)` probability that a sighting shows a random other token.
    """

    transition: Tensor
    outcome: Tensor
    token_prior: Tensor
    misread: Tensor


def active_effects(effects: Effects) -> tuple[Tensor, Tensor]:
    """Which events change something in a context, by class and grip of any of its tokens and hands.

    Returns:
        `(G, 1, E)` those that change the cell ahead whatever is in hand, and leave the hand alone;
            `(G, H, E)` those that change anything. Where no token or hand is known, all may.
    """
    writes, takes, possible = (
        part[:, :-1] for part in (effects.writes, effects.takes, effects.possible)
    )
    tokens = torch.arange(writes.shape[1])[:, None]
    hands = torch.arange(writes.shape[2])
    rewrites = (writes != SAME) & (writes != tokens) & (possible > 0)
    retakes = (takes != SAME) & (takes != hands) & (possible > 0)
    classes, grips, _ = effects.sizes
    by_class = effects.classes[:, None].expand(-1, 1)
    by_context = effects.classes[:, None] * grips + effects.grips
    alone = _anywhere((rewrites & (takes == SAME))[..., :1], by_class, classes)
    active = _anywhere(rewrites | retakes, by_context, classes * grips)
    return alone[:, None], active.unflatten(0, (classes, grips))


def _anywhere(holds: Tensor, context: Tensor, number: int) -> Tensor:
    """Whether something holds at any token and hand of each context, `(number, E)`; true of no case."""
    index = context.flatten().expand(len(holds), -1)
    found = torch.full((len(holds), number), -1).scatter_reduce(
        1, index, holds.flatten(1).long(), "amax"
    )
    return (found != 0).T


def _favour(possible: Tensor, mass: float, odds: Tensor) -> Tensor:
    """Put `mass` on event 0; spread the rest over the other possible events by their `odds`."""
    others = possible * odds
    others[..., 0] = 0
    base = (1 - mass) * others / others.sum(-1, keepdim=True)
    base[..., 0] = mass
    return base


@dataclass(frozen=True)
class TablePrior:
    """Base measures: most likely nothing moves and nothing is gained.

    Attributes:
        stay: prior probability that a step changes nothing, if the token ahead matters.
        stay_alike: the same for an action to which nothing matters.
        effect_odds: prior odds of one effect against one motion.
        ahead_odds: prior odds of going one cell ahead against any other motion.
        deterministic: prior share of actions that do the same, and end alike, in a context each time.
        nothing: prior probability of the outcome "went on, reward zero".
        hand_matters: prior probability that the hand matters to an action, if the class ahead does.
        token_concentration: total concentration of the token prior in each context.
        misread: Beta parameters (misread, correct).
    """

    stay: float = 0.72
    stay_alike: float = 0.5
    effect_odds: float = 0.2
    ahead_odds: float = 18.0
    deterministic: float = 0.9
    nothing: float = 0.8
    hand_matters: float = 0.2
    token_concentration: float = 0.5
    misread: tuple[float, float] = (0.5, 100.0)

    @property
    def shares(self) -> tuple[float, ...]:
        """How likely each of `ALPHAS` is."""
        return self.deterministic, *[(1 - self.deterministic) / 2] * 2

    def events(self, effects: Effects) -> PooledDirichletPrior:
        """Prior of the transition table, a mixture over what matters to an action.

        Neither token nor hand matters, or the token's class does, and at some classes the grip. If
        neither matters, nothing but motion happens. Where the hand does not matter, it does not
        change. An effect that leaves everything as it is, is none.
        """
        motion = (torch.arange(len(effects.known)) < effects.num_motions)[None, None]
        alone, active = active_effects(effects)
        odds = torch.where(motion[0, 0], 1.0, self.effect_odds)
        odds[AHEAD] = self.ahead_odds
        bases = [
            _favour(possible, stay, odds)
            for possible, stay in (
                (motion, self.stay_alike),
                (motion | alone | ~effects.known, self.stay),
                (motion | active | ~effects.known, self.stay),
            )
        ]
        chances = NEITHER_MATTERS, 1 - self.hand_matters, self.hand_matters
        context = effects.sizes[:2]
        ignored = (0, 1), (1,), ()
        return PooledDirichletPrior.of(context, ignored, bases, ALPHAS, chances, self.shares)

    def taught_events(self, effects: Effects, counts: Tensor) -> PooledDirichletPrior:
        """Prior of the transition table, as what has happened `(A, G, H, E)` says."""
        known = int(effects.known.sum())
        return taught(self.events(effects), counts, known)

    def outcomes(self, effects: Effects) -> PooledDirichletPrior:
        """Prior of the outcome table: what is ahead does not matter, or it does.

        If it does, its class matters, and perhaps whether the mission names it, its colour, whether
        the milestone is passed, or both of the latter.
        """
        base = base_measure(NUM_OUTCOMES, NOTHING, self.nothing)
        classes, _, colours = effects.sizes
        context = classes, colours, 3, 2
        chances = (0.5, *OUTCOME_CHANCES)
        ignored = ((0, 1, 2, 3), *OUTCOME_POOLS)
        bases = [base] * len(ignored)
        return PooledDirichletPrior.of(context, ignored, bases, ALPHAS, chances, self.shares)

    def mean_misread(self, counts: Counts) -> Tensor:
        """Posterior mean of the misread rate."""
        wrong, right = self.misread
        total = counts.sightings.sum(-1) + wrong + right
        return (counts.sightings[..., 1] + wrong) / total

    def frequencies(self, counts: Counts) -> Tensor:
        """Posterior mean of the token of a cell of which nothing is known, `(..., V)`."""
        tokens = counts.tokens.sum(-2) + self.token_concentration / counts.tokens.shape[-1]
        return tokens / tokens.sum(-1, keepdim=True)

    def token_parameters(self, past: Counts) -> Tensor:
        """Dirichlet parameters of the token prior given past counts, `(..., X, V)`.

        What was not met in one context is guessed from all of them together.
        """
        return past.tokens + self.token_concentration * self.frequencies(past)[..., None, :]

    def mean_token_prior(self, counts: Counts, past: Counts) -> Tensor:
        """Posterior mean of the token prior, `(..., X, V)`; `past` are the stored episodes'."""
        rows = self.token_parameters(past) - past.tokens + counts.tokens
        return rows / rows.sum(-1, keepdim=True)
