"""Events that change together: a wrong past is found out."""

import itertools

import torch

from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.counts import TablePrior, no_counts
from aif_dcpc.agents.gridworld.model.exchange import Guess, exchange_events
from aif_dcpc.agents.gridworld.model.geometry import geometry_of
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.paths import History, effects_of
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


def test_the_guess_is_a_distribution() -> None:
    """Probabilities of all sequences sum to one; draws have them, within five standard errors."""
    guess = Guess(grid(), torch.tensor([0, 2, 0]))
    choices = [0, 4, 5, 6, 7, 8]
    every = torch.tensor(list(itertools.product(choices, repeat=3)))
    chances = guess.log_prob(every).exp()
    assert abs(float(chances.sum()) - 1) < 1e-5
    number = 40_000
    drawn = guess.draw(number, torch.Generator().manual_seed(0))
    found = (drawn[:, None] == every).all(-1).float().mean(0)
    assert bool(((found - chances).abs() <= 5 * (chances / number).sqrt() + 1e-4).all())


def test_steps_that_were_thought_to_lead_nowhere_are_found_out_together() -> None:
    """A corridor of floor: three steps ahead look like none, until a wall stands right ahead.

    From "nothing ever happened" to "action 1 goes ahead", which fits all that was seen.
    """
    rows = [[0, 0, 0, -1], [0, 0, 0, -1], [1, 0, 0, -1], [-1, 1, 0, -1], [-1, 1, 0, -1]]
    length = len(rows)
    still = torch.zeros(length, dtype=torch.long)
    action = torch.tensor([0, 1, 1, 1, 2])
    seen = action, still, still, torch.tensor(rows), torch.ones(length).long(), still - 2
    history = History(*seen, torch.zeros(2, dtype=torch.long))
    world = grid()
    generator = torch.Generator().manual_seed(0)
    start = torch.zeros(32, length, dtype=torch.long)
    particles = world.replay(start, history, generator)
    for _ in range(150):
        particles = exchange_events(world, particles, history, generator)
        tables = world.draw_all_tables(particles.events, particles.initial, history, generator)
        particles = GridParticles(particles.events, particles.initial, tables)
    right = torch.tensor([0, AHEAD, AHEAD, AHEAD, 0])
    assert float((particles.events == right).all(1).float().mean()) > 0.8
