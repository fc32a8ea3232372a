"""What an action will do, and how much it would tell: averages over the particles of a `World`.

For every row, with the posterior of its kind at each particle k:

    chances = mean over k of p(effect | row, k)
    novelty = mean over k of H[p(effect | row, k)] - E[H(table of the row) | k]

the information, in nats, that the effect would bring about the row's own table and its kind, given
what all rows share; what it tells of that is not counted.
"""

import math

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.compiled import compiled
from aif_dcpc.agents.discrete.loops import digamma, kinds_of_row, minus_entropy
from aif_dcpc.agents.discrete.slips import (
    entropy_of_fillings,
    fillings,
    powers_of,
    shares_of_seen,
    unseen_mass,
)
from aif_dcpc.agents.discrete.transitions import Transitions
from aif_dcpc.agents.discrete.world import CONCENTRATIONS, World

UNLIKELY = 1e-9  # a kind of row that is left out


class Prediction:
    """Predictive tables of all rows.

    Attributes:
        chances: `(S A, E + 1)`, the last of all effects that were never seen.
        novelty: `(S A,)` nats.
    """

    def __init__(self, transitions: Transitions, world: World) -> None:
        self.transitions = transitions
        self.world = world
        self.chances: Floats = np.zeros((0, 0))
        self.novelty: Floats = np.zeros(0)
        self.refresh()

    def refresh(self) -> None:
        """Predict all rows anew, as the cloud has changed."""
        rows = np.arange(self.transitions.num_states * self.transitions.num_actions)
        self.chances = np.zeros((len(rows), len(self.transitions.effects) + 1))
        self.novelty = np.zeros(len(rows))
        self.update(rows)

    def update(self, rows: Ints) -> None:
        """Predict some rows anew, as their counts have changed."""
        world = self.world
        predict_rows(
            rows,
            self.chances,
            self.novelty,
            self.transitions.num_states,
            world.kinds,
            CONCENTRATIONS[world.concentration],
            world.effects,
            world.slips,
            self.transitions.seen,
            self.transitions.counts,
            self.transitions.distinct,
        )


@compiled
def _spread(chances: Floats, unseen: float) -> float:
    """Entropy of chances whose last is spread over so many effects, nats."""
    found = 0.0
    for effect in range(len(chances) - 1):
        found -= minus_entropy(chances[effect])
    last = chances[-1]
    return found - minus_entropy(last) + last * math.log(max(unseen, 1.0))


@compiled
def _own_terms(usual: Floats, concentration: float, unseen: float) -> float:
    """Sum of b digamma(b + 1) over the Dirichlet parameters b of a table without counts."""
    found = 0.0
    for effect in range(len(usual) - 1):
        base = concentration * usual[effect]
        found += base * digamma(base + 1)
    base = concentration * usual[-1]
    return found + base * digamma(base / max(unseen, 1.0) + 1)


@compiled
def _own_entropy(
    terms: float,
    usual: Floats,
    concentration: float,
    seen: Ints,
    counts: Floats,
    distinct: int,
) -> float:
    """Expected entropy of a table drawn from its Dirichlet posterior, nats.

    E[H] = digamma(t + 1) - sum b digamma(b + 1) / t over its parameters b, whose sum is t.
    """
    total = concentration
    for place in range(distinct):
        base = concentration * usual[seen[place]]
        after = base + counts[place]
        terms += after * digamma(after + 1) - base * digamma(base + 1)
        total += counts[place]
    return digamma(total + 1) - terms / total


@compiled
def _add_row(
    chances: Floats,
    kinds: Floats,
    usual: Floats,
    concentration: float,
    seen: Ints,
    counts: Floats,
    distinct: int,
) -> None:
    """Add one particle's prediction of a row to `chances`, but for what follows if it slips."""
    total = counts[:distinct].sum()
    share = kinds[1] + kinds[2] * concentration / (concentration + total)
    if distinct == 0:
        share = 1.0 - kinds[3]
    chances += share * usual
    for place in range(distinct):
        chances[seen[place]] += kinds[2] * counts[place] / (concentration + total)
    if distinct == 1:
        chances[seen[0]] += kinds[0]


@compiled
def _add_slips(
    chances: Floats,
    weight: float,
    usual: Floats,
    slips: Floats,
    powers: Floats,
    seen: Ints,
    counts: Floats,
    distinct: int,
) -> float:
    """Add what follows in a row that slips, times a weight, to `chances`; returns its entropy, weighted."""
    _, filled = fillings(usual, slips, seen, counts, distinct)
    shares = shares_of_seen(filled, slips, distinct)
    rest = weight * shares[distinct] / unseen_mass(usual, seen, distinct)
    chances += rest * usual
    for place in range(distinct):
        chances[seen[place]] += weight * shares[place] - rest * usual[seen[place]]
    return weight * entropy_of_fillings(filled, usual, slips, powers, seen, distinct)


@compiled
def predict_rows(
    rows: Ints,
    chances: Floats,
    novelty: Floats,
    num_states: int,
    shares: Floats,
    concentration: Floats,
    effects: Floats,
    slips: Floats,
    seen: Ints,
    counts: Floats,
    distinct: Ints,
) -> None:
    """Predict `rows` in place, see `Prediction`.

    Args:
        rows: which.
        chances, novelty: of all rows.
        num_states: S.
        shares, concentration, effects, slips: `(K, 4)`, `(K,)`, `(K, A, E + 1)` and `(K, 3)` of the
            particles.
        seen, counts, distinct: see `Transitions`.
    """
    number, num_actions, width = effects.shape
    unseen = float(num_states - width + 1)
    terms = np.zeros((number, num_actions))
    entropies = np.zeros((number, num_actions))
    powers = np.zeros((number, num_actions, 2))
    for k in range(number):
        for action in range(num_actions):
            terms[k, action] = _own_terms(effects[k, action], concentration[k], unseen)
            entropies[k, action] = _spread(effects[k, action], unseen)
            powers[k, action] = powers_of(effects[k, action], unseen)
    alike = np.full(num_actions, -1)  # rows in which nothing was seen differ by their action alone
    for row in rows:
        action = row % num_actions
        if distinct[row] == 0 and alike[action] >= 0:
            chances[row] = chances[alike[action]]
            novelty[row] = novelty[alike[action]]
            continue
        total = np.zeros(width)
        known = 0.0
        for k in range(number):
            usual = effects[k, action]
            told = (seen[row], counts[row], distinct[row])
            kinds = kinds_of_row(shares[k], usual, concentration[k], slips[k], *told)
            chance = np.zeros(width)
            _add_row(chance, kinds, usual, concentration[k], *told)
            if kinds[3] > UNLIKELY:
                known += _add_slips(chance, kinds[3], usual, slips[k], powers[k, action], *told)
            total += chance
            known -= _spread(chance, unseen)
            known += kinds[1] * entropies[k, action]
            known += kinds[2] * _own_entropy(terms[k, action], usual, concentration[k], *told)
        chances[row] = total / number
        novelty[row] = max(-known / number, 0.0)
        if distinct[row] == 0:
            alike[action] = row
