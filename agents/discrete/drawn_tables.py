"""Tables drawn from the posterior, to plan on while exploring.

What information is worth for the rest of a life does not show in the plan of one episode: an agent
that plans on expected tables alone may hold on to an action that is known well, while another is
better, was tried a few times, and tells too little for one more trial to pay at once. So that
doubt counts as long as it could change a choice, plans are made on one draw of all rows that were
tried more than once, held for an episode; the row that was just visited is drawn anew. Each of several
worlds has a draw of its own. What was
hardly tried stays expected: there novelty counts.

What the slots of a row hold is drawn with half of its evidence (`TRUST`): the model fills them independently of
each other, worlds do not, and where a few trials by chance say that two hold the same, it would be surer
of that than it should.

References: Gruenwald and van Ommen (2017), "Inconsistency of Bayesian inference for misspecified linear
    models", for posteriors of less trust; Osband, Russo and Van Roy (2013), "(More) efficient
    reinforcement learning via posterior sampling".
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.compiled import compiled
from aif_dcpc.agents.discrete.loops import draw_index, draw_unseen, kinds_of_row
from aif_dcpc.agents.discrete.prediction import Prediction
from aif_dcpc.agents.discrete.slips import SLOTS, fillings, slots_of
from aif_dcpc.agents.discrete.world import CONCENTRATIONS

TRUST = 0.5  # share of a row's evidence that counts for what its slots hold
FEWEST = 2  # visits of a row that is drawn: one alone does not tell what varies


class DrawnTables:
    """One draw of the tables of all rows.

    Args:
        prediction: of the rows that were never tried, with the cloud that others are drawn by.
        hold: steps after which all are drawn anew, where episodes are longer.
        trust: share of a row's evidence that counts for what its slots hold.

    Attributes:
        chances: `(S A, E + 1)`, see `Prediction`.
        particle: whose posterior the tables are of.
        drawn_at: number of steps at the last draw of all rows; -1 before any.
        values: `(S,)` nats, of the last plan on them, where the next one begins.
    """

    def __init__(self, prediction: Prediction, *, hold: int, trust: float = TRUST) -> None:
        self.prediction = prediction
        self.hold = hold
        self.trust = trust
        self.values: Floats = np.zeros(prediction.transitions.num_states)
        self.chances: Floats = np.zeros((0, 0))
        self.particle = 0
        self.drawn_at = -1

    def forget(self) -> None:
        """Let all be drawn anew before the next plan: an episode begins."""
        self.drawn_at = -1

    @property
    def stands(self) -> bool:
        """Whether the draw is one of the effects known now, and recent."""
        transitions = self.prediction.transitions
        known = self.chances.shape == self.prediction.chances.shape
        return known and 0 <= self.drawn_at and transitions.steps < self.drawn_at + self.hold

    def current(self, generator: torch.Generator) -> Floats:
        """The tables, all drawn anew where it is time."""
        if not self.stands:
            world = self.prediction.world
            transitions = self.prediction.transitions
            self.particle = int(torch.randint(world.num_particles, (), generator=generator))
            self.chances = self.prediction.chances.copy()
            self.drawn_at = transitions.steps
            self.redraw(transitions.visited, generator)
        return self.chances

    def redraw(self, rows: Ints, generator: torch.Generator) -> None:
        """Draw some rows anew, as their counts have changed."""
        if not self.stands:
            return
        world = self.prediction.world
        transitions = self.prediction.transitions
        visits = transitions.counts[rows].sum(1)
        self.chances[rows] = self.prediction.chances[rows]
        draw_tables(
            int(torch.randint(2**31 - 1, (), generator=generator)),
            rows[visits >= FEWEST],
            self.chances,
            world.kinds[self.particle],
            CONCENTRATIONS[world.concentration[self.particle]],
            world.effects[self.particle],
            world.slips[self.particle],
            transitions.seen,
            transitions.counts,
            transitions.distinct,
            self.trust,
        )

    def state_dict(self) -> dict[str, Any]:
        """The draw, as tensors and numbers."""
        return {
            "chances": torch.from_numpy(self.chances.copy()),
            "particle": self.particle,
            "drawn_at": self.drawn_at,
            "values": torch.from_numpy(self.values.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.chances = state["chances"].numpy().copy()
        self.particle = int(state["particle"])
        self.drawn_at = int(state["drawn_at"])
        self.values = state["values"].numpy().copy()


@compiled
def draw_own(
    usual: Floats, concentration: float, seen: Ints, counts: Floats, distinct: int
) -> Floats:
    """Draw a row's own table, `(E + 1,)`, from its Dirichlet posterior."""
    found = concentration * usual
    for place in range(distinct):
        found[seen[place]] += counts[place]
    for effect in range(len(found)):
        found[effect] = np.random.gamma(max(found[effect], 1e-12), 1.0)
    total = found.sum()
    return found / total if total > 0 else usual.copy()


@compiled
def draw_slipping(
    usual: Floats, slips: Floats, trust: float, seen: Ints, counts: Floats, distinct: int
) -> Floats:
    """Draw the table of a row that slips, `(E + 1,)`: what its three slots hold."""
    found = np.zeros(len(usual))
    _, chances = fillings(usual, slips, seen, trust * counts, distinct)
    slots = slots_of(draw_index(chances), distinct)
    for place in range(distinct + 1):
        for slot in range(SLOTS):
            if slots[place] >> slot & 1:
                other = place == distinct
                effect = draw_unseen(usual, seen, distinct) if other else seen[place]
                found[effect] += slips[slot]
    return found


@compiled
def draw_tables(
    seed: int,
    rows: Ints,
    chances: Floats,
    shares: Floats,
    concentration: float,
    effects: Floats,
    slips: Floats,
    seen: Ints,
    counts: Floats,
    distinct: Ints,
    trust: float,
) -> None:
    """Draw the tables of `rows`, each visited, into `chances`, by one particle.

    Args:
        seed: of the draws.
        rows: which.
        chances: of all rows, `(S A, E + 1)`.
        shares, concentration, effects, slips: `(4,)`, a number, `(A, E + 1)` and `(3,)`.
        seen, counts, distinct: see `Transitions`.
        trust: share of a row's counts by which its slots are drawn.
    """
    np.random.seed(seed)
    for row in rows:
        usual = effects[row % len(effects)]
        told = (seen[row], counts[row], distinct[row])
        kind = draw_index(kinds_of_row(shares, usual, concentration, slips, *told))
        if kind == 0:
            chances[row] = 0.0
            chances[row, seen[row, 0]] = 1.0
        elif kind == 1:
            chances[row] = usual
        elif kind == 2:
            chances[row] = draw_own(usual, concentration, *told)
        else:
            chances[row] = draw_slipping(usual, slips, trust, *told)
