"""A corridor that is seen four cells ahead, floor and wall, in which one thing can be done to walls."""

from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals
from aif_dcpc.agents.gridworld.model.counts import TablePrior, no_counts
from aif_dcpc.agents.gridworld.model.geometry import geometry_of
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.paths import effects_of
from aif_dcpc.agents.gridworld.model.vocabulary import UNCHANGED, Slots, Vocabulary
from aif_dcpc.agents.protocol import EgocentricView

FLOOR, WALL = 0, 1
AHEAD = 4
ACTIONS = 3
VOCABULARY = Vocabulary(
    Looks.apart(3),
    Slots(2, [0, 1]),
    Slots(1, [0]),
    effects=[(("token", FLOOR), UNCHANGED)],
    done_to=[[WALL]],
    max_events=9,
)
VIEW = EgocentricView(
    rows=4, columns=1, own_cell=(3, 0), num_tokens=3, unseen_token=9, empty_hand_token=0
)


def grid() -> GridConditionals:
    geometry = geometry_of(VIEW, 32)
    past = no_counts(ACTIONS, VOCABULARY)
    return GridConditionals(geometry, effects_of(geometry, VOCABULARY), TablePrior(), past, 3)
