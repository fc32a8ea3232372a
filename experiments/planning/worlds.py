"""The worlds that planning is timed on, in pymdp's layout: factors of the state and modalities.

A modality's likelihood is `(O_m, S_f, S_g, ...)` over the factors that it depends on;
transitions of a factor are `(S_f', S_f, U_f)`. `finite` joins them to the tables that our planners
take.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.planners.finite_model import FiniteModel

GRID = (5, 7)
START = (0, 0)
CUE_1 = (2, 0)
CUES_2 = ((0, 2), (1, 3), (3, 3), (4, 2))
ENDS = ((1, 5), (3, 5))
STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0))


@dataclass(frozen=True)
class World:
    """A world in factors.

    Attributes:
        likelihoods: modality -> `(O_m, *sizes of the factors that it depends on)`.
        depends: modality -> indices of these factors.
        transitions: `(S_f', S_f, U)` of each factor; U is 1 for one that no action moves.
        initial: `(S_f,)` of each factor.
        log_preferences: modality -> `(O_m,)` nats.
    """

    likelihoods: Mapping[str, Floats]
    depends: Mapping[str, tuple[int, ...]]
    transitions: tuple[Floats, ...]
    initial: tuple[Floats, ...]
    log_preferences: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each factor."""
        return tuple(len(prior) for prior in self.initial)

    @property
    def num_actions(self) -> int:
        """The number of actions."""
        return max(table.shape[2] for table in self.transitions)

    def finite(self) -> FiniteModel:
        """Join the factors to one state."""
        return FiniteModel(
            initial=joined(self.initial),
            transitions=np.stack([self._transition(action) for action in range(self.num_actions)]),
            likelihood={name: self._likelihood(name) for name in self.likelihoods},
            log_preferences=self.log_preferences,
        )

    def _transition(self, action: int) -> Floats:
        """`(S, S')` of all factors together."""
        found: Floats = np.ones((1, 1))
        for table in self.transitions:
            own = table[:, :, min(action, table.shape[2] - 1)].T
            found = np.kron(found, own).astype(np.float64)
        return found

    def _likelihood(self, name: str) -> Floats:
        """`(S, O_m)`: a modality says the same whatever the factors that it does not depend on."""
        table = self.likelihoods[name]
        factors = self.depends[name]
        shape = [size if factor in factors else 1 for factor, size in enumerate(self.sizes)]
        wide = np.broadcast_to(table.reshape(len(table), *shape), (len(table), *self.sizes))
        return np.ascontiguousarray(wide.reshape(len(table), -1).T)


def joined(parts: tuple[Floats, ...]) -> Floats:
    """Make one belief of independent ones, the last factor fastest."""
    found: Floats = np.ones(1)
    for part in parts:
        found = np.kron(found, part).astype(np.float64)
    return found


def tmaze(cue_reliability: float = 0.95) -> World:
    """Centre, two arms and a cue that tells which arm is baited; arms are left no more."""
    place = np.eye(4)
    cue = np.zeros((3, 4, 2))
    reward = np.zeros((3, 4, 2))
    cue[0] = 1.0
    reward[0] = 1.0
    for side in range(2):
        cue[:, 3, side] = [0.0, 1 - cue_reliability, 1 - cue_reliability]
        cue[1 + side, 3, side] = cue_reliability
        for arm in range(2):
            reward[:, 1 + arm, side] = np.eye(3)[2 if arm == side else 1]
    moves = np.zeros((4, 4, 4))
    for action in range(4):
        moves[action, [0, 3], action] = 1.0
        moves[1, 1, action] = moves[2, 2, action] = 1.0
    return World(
        {"place": place, "cue": cue, "reward": reward},
        {"place": (0,), "cue": (0, 1), "reward": (0, 1)},
        (moves, np.eye(2)[..., None]),
        (np.eye(4)[0], np.full(2, 0.5)),
        {"reward": np.array([0.0, -3.0, 3.0])},
    )


def cue_chaining() -> World:
    """A grid of 5 x 7: a first cue tells where the second is, that one which end is rewarded."""
    cells = GRID[0] * GRID[1]
    cue_1 = np.zeros((5, cells, 4))
    cue_2 = np.zeros((3, cells, 4, 2))
    reward = np.zeros((3, cells, 2))
    for table in (cue_1, cue_2, reward):
        table[0] = 1.0
    for where in range(4):
        cue_1[:, cell(CUE_1), where] = np.eye(5)[1 + where]
        for side in range(2):
            cue_2[:, cell(CUES_2[where]), where, side] = np.eye(3)[1 + side]
    for side in range(2):
        for end, place in enumerate(ENDS):
            reward[:, cell(place), side] = np.eye(3)[1 if end == side else 2]
    return World(
        {"place": np.eye(cells), "cue_1": cue_1, "cue_2": cue_2, "reward": reward},
        {"place": (0,), "cue_1": (0, 1), "cue_2": (0, 1, 2), "reward": (0, 2)},
        (_walk(), np.eye(4)[..., None], np.eye(2)[..., None]),
        (np.eye(cells)[cell(START)], np.full(4, 0.25), np.full(2, 0.5)),
        {"reward": np.array([0.0, 2.0, -4.0])},
    )


def _walk() -> Floats:
    """Go up, down, left, right or stay, `(S', S, 5)`."""
    cells = GRID[0] * GRID[1]
    moves = np.zeros((cells, cells, len(STEPS)))
    for action, (down, right) in enumerate(STEPS):
        for row in range(GRID[0]):
            for column in range(GRID[1]):
                there = (
                    min(max(row + down, 0), GRID[0] - 1),
                    min(max(column + right, 0), GRID[1] - 1),
                )
                moves[cell(there), cell((row, column)), action] = 1.0
    return moves


def cell(place: tuple[int, int]) -> int:
    """Number a cell, row by row."""
    return place[0] * GRID[1] + place[1]


def random_world(
    seed: int, sizes: tuple[int, ...] = (5, 4), outcomes: tuple[int, ...] = (4, 3)
) -> World:
    """A world of random tables, in which the first factor follows the action."""
    source = np.random.default_rng(seed)
    factors = tuple(range(len(sizes)))
    likelihoods = {
        f"o{number}": np.moveaxis(source.dirichlet(np.ones(size), sizes), -1, 0)
        for number, size in enumerate(outcomes)
    }
    transitions = tuple(
        np.moveaxis(source.dirichlet(np.full(size, 0.3), (size, 3 if factor == 0 else 1)), 2, 0)
        for factor, size in enumerate(sizes)
    )
    wanted = {
        name: np.log(source.dirichlet(np.ones(len(table)))) for name, table in likelihoods.items()
    }
    initial = tuple(source.dirichlet(np.ones(size)) for size in sizes)
    return World(likelihoods, dict.fromkeys(likelihoods, factors), transitions, initial, wanted)
