"""Events that change together: a wrong past is found out."""

import itertools

import torch
from small_corridor import AHEAD, grid

from aif_dcpc.agents.gridworld.model.conditionals import GridParticles
from aif_dcpc.agents.gridworld.model.exchange import Guess, exchange_events
from aif_dcpc.agents.gridworld.model.paths import History


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
