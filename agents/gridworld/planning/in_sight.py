"""Looking for what is rewarded: where it is not known, an informative step may show it.

Arriving in a state s shows it with probability

    q(s) = 1 - product over cells in sight (1 - p(the cell holds something rewarded))

and from there on it is worth what the way through half a view is, with the reward at its end, unless
more could be had without. So it is looked for where it is likely to be, and not where most is unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.planning.abstract_states import Search
from aif_dcpc.agents.gridworld.planning.belief import Belief, PosteriorTables
from aif_dcpc.agents.gridworld.planning.stage import Prospect, expected_value
from aif_dcpc.agents.gridworld.planning.terms import NUM_TERMS
from aif_dcpc.agents.preferences import Preferences

SURE = 0.5  # probability from which a cell is known to hold something rewarded


def surprise_at_none(cells: Floats, tables: PosteriorTables) -> Floats | None:
    """Minus the log probability that a sighting of each cell shows nothing rewarded, `(n, cells)`.

    None where something rewarded is known to be somewhere, or nothing was ever rewarded.

    Args:
        cells: `(n, cells, V)` belief over tokens in each abstract state, the present one first.
        tables: what is rewarded.
    """
    chance = cells[..., tables.rewarded].sum(-1)
    if not 0 < chance[0].max() <= SURE:
        return None
    return _surprise_at_none(chance, SURE)


def surprise_at_no_twin(search: Search, belief: Belief, tables: PosteriorTables) -> Floats:
    """Minus the log probability that a cell not seen yet shows none of the twins, `(n, cells + 1)`."""
    region = search.region
    seen = np.append(belief.seen[region.index], False)
    chance = search.present[:, list(tables.twins)].sum(1)
    news = np.where(seen, 0.0, _surprise_at_none(chance, 0.999))
    return np.broadcast_to(news, (len(search.found), len(news))).copy()


def _surprise_at_none(chance: Floats, most: float) -> Floats:
    """Minus the log probability that what has some chance, or at most so much, is not there."""
    found: Floats = -np.log1p(-np.minimum(chance, most))
    return found


@dataclass(frozen=True)
class Found:
    """What follows once something rewarded is in sight; see `Steps`.

    Attributes:
        value: `(N,)` of every state.
    """

    value: Floats

    def totals(self, entries: Ints) -> Floats:
        """Terms of all that follows, `(N, 4)`: risk alone, since it is known where to go."""
        terms = np.zeros((len(self.value), NUM_TERMS))
        terms[:, 0] = -self.value
        return terms


def with_sight_of_reward(
    prospects: Sequence[Prospect], shows: Floats, preferences: Preferences, geometry: Geometry
) -> list[Prospect]:
    """Prospects of an informative step that may show what is rewarded.

    Args:
        prospects: of one that does not.
        shows: `(N,)` probability that arriving in a state does.
        preferences, geometry: what the way to it costs.
    """
    never = preferences.log_preference_of_never
    found = never * (1 - preferences.discount ** way_through(geometry))
    value = np.maximum(expected_value(prospects), found)
    other = [replace(one, share=one.share * (1 - shows)) for one in prospects]
    return [*other, Prospect(shows, Found(value))]


def way_through(geometry: Geometry) -> float:
    """Steps to the cells of a view, turns included, on average."""
    away = np.abs(geometry.offsets[0])
    return float((away.sum(1) + (away[:, 0] > 0)).mean())
