"""Whether outcomes hang on what is ahead before a step or after it; what a row by itself can teach."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aif_dcpc.agents.gridworld.model.counts import TablePrior
from aif_dcpc.agents.gridworld.model.geometry import MOTIONS, geometry_of
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.paths import effects_of
from aif_dcpc.agents.gridworld.model.vocabulary import new_vocabulary
from aif_dcpc.agents.gridworld.planning.arrivals import ArrivalTables, Tried, arrivals_of
from aif_dcpc.agents.gridworld.tables.novelty import dirichlet_information
from aif_dcpc.agents.protocol import EgocentricView

ACTIONS = 3
NOTHING, WON = 1, 5
FLOOR, WALL, BALL = range(3)
TURNED, AHEAD = 1, 4
VIEW = EgocentricView(
    rows=2, columns=1, own_cell=(1, 0), num_tokens=4, unseen_token=3, empty_hand_token=0
)
VOCABULARY = new_vocabulary(Looks.apart(4), FLOOR)
for token in (FLOOR, WALL, BALL):
    VOCABULARY.admit(token)
EFFECTS = effects_of(geometry_of(VIEW, 8), VOCABULARY)
PLACES = EFFECTS.places(torch.zeros(VOCABULARY.tokens.capacity, dtype=torch.long))[:, 0]


def counts(steps: list[tuple[int, int, int]]) -> torch.Tensor:
    """Counts `(A + E, P, O)` of steps (event, token, outcome)."""
    classes, _, colours = EFFECTS.sizes
    table = torch.zeros(ACTIONS + len(EFFECTS.known), classes * colours * 6, 6)
    for event, token, outcome in steps:
        table[ACTIONS + event, PLACES[token], outcome] += 1
    return table


def test_each_event_is_told_for_itself() -> None:
    """To turn towards a ball wins, whatever was ahead; to step onto one wins, whatever comes after it."""
    source = np.random.default_rng(0)
    before: list[tuple[int, int, int]] = []
    after: list[tuple[int, int, int]] = []
    for _ in range(40):
        old, new = source.integers(0, 3, 2).tolist()
        for event, decides in ((TURNED, new), (AHEAD, old)):
            outcome = WON if decides == BALL else NOTHING
            before.append((event, old, outcome))
            after.append((event, new, outcome))
    prior = TablePrior().outcomes(EFFECTS)
    found = arrivals_of(counts(before), counts(after), counts(after), prior, ACTIONS)
    assert np.flatnonzero(found.events).tolist() == [TURNED]
    places = torch.stack([PLACES, PLACES])
    new = np.zeros(found.counts.shape[:2])
    tables = ArrivalTables.of(found, new, places, len(MOTIONS))
    assert tables is not None
    ahead = np.eye(VOCABULARY.tokens.capacity)[[[FLOOR] * len(MOTIONS), [BALL] * len(MOTIONS)]]
    cells = np.arange(2)[:, None].repeat(len(MOTIONS), 1)
    chance = tables.at(ahead, cells, np.zeros(2, np.int64), informative=True)
    assert chance[0, TURNED, WON] < 0.1 < 0.9 < chance[1, TURNED, WON]
    assert np.allclose(chance[:, TURNED].sum(-1), 1)
    assert not chance[:, AHEAD].any()
    few = arrivals_of(counts(before[:2]), counts(after[:2]), counts(after[:2]), prior, ACTIONS)
    assert not few.events.any()
    assert ArrivalTables.of(few, new, places, len(MOTIONS)) is None
    tried = np.full((len(MOTIONS), 3), -1)
    tried[TURNED, 1] = BALL
    again = replace(tables, tried=Tried(tried, 0)).at(
        ahead, cells, np.zeros(2, np.int64), informative=True
    )
    assert again[1, TURNED].tolist() == np.eye(6)[NOTHING].tolist()
    assert (again[0] == chance[0]).all()
    later = replace(tables, tried=Tried(tried, 1)).at(
        ahead, cells, np.zeros(2, np.int64), informative=True
    )
    assert (later == chance).all()


@pytest.mark.parametrize("seen", [[], [NOTHING], [NOTHING, NOTHING, WON], [WON] * 9])
def test_what_a_row_teaches_is_how_far_one_more_outcome_moves_it(seen: list[int]) -> None:
    """Mutual information by its definition: entropy of the next outcome less the mean one, from draws.

    Twenty thousand draws: within five standard errors, a false alarm in a million.
    """
    base = np.array([0.04, 0.8, 0.04, 0.04, 0.04, 0.04])
    tally = np.bincount(seen, minlength=6).astype(float)
    found = dirichlet_information(base + tally)
    draws = np.random.default_rng(1).dirichlet(base + tally, 20_000)
    mean = (base + tally) / (1 + tally.sum())
    entropies = -(draws * np.log(np.maximum(draws, 1e-300))).sum(1)
    expected = -(mean * np.log(mean)).sum() - entropies.mean()
    assert abs(found - expected) < 5 * entropies.std() / len(draws) ** 0.5
    assert found > 0
