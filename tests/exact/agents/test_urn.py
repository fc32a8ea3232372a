"""Map cells drawn one after another with the token prior integrated out, against enumeration of all maps."""

import itertools
from math import exp, log

import pytest
import torch
from small_grid import FLOOR, RECORDS, SIZE, WALL, log_tokens, sightings, small_world, walk

from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.counts import TablePrior, no_counts
from aif_dcpc.agents.gridworld.model.geometry import geometry_of
from aif_dcpc.agents.gridworld.model.looks import Looks
from aif_dcpc.agents.gridworld.model.paths import History, effects_of
from aif_dcpc.agents.gridworld.model.vocabulary import Slots, Vocabulary
from aif_dcpc.agents.protocol import EgocentricView

MISREAD = 0.1
ALPHABET = 4
DRAWS = 4000


def probability(events: tuple[int, ...], history: History) -> dict[tuple[int, ...], float]:
    """p(map, views | events, misread) of every map of the cells that were seen, by their tokens in order."""
    seen = sightings(events, history)
    _, fronts = walk(events, history)
    cells = sorted({cell for here in seen for cell, _, _ in here})
    found = {}
    for tokens in itertools.product(range(2), repeat=len(cells)):
        world = dict(zip(cells, tokens, strict=True))
        now = dict(world)
        total = 0.0
        firsts: dict[tuple[int, int], int] = {}
        for t, here in enumerate(seen):
            if t and events[t - 1] == 8:  # it turns the wall ahead into floor
                now[fronts[t - 1]] = FLOOR
            for cell, code, context in here:
                total += log(1 - MISREAD if code == now[cell] else MISREAD / (ALPHABET - 1))
                firsts.setdefault(cell, context)
        found[tokens] = exp(total + log_tokens(world, firsts))
    return found


CASES = [
    ("opened or moved", (0, 0, 0)),
    ("opened or moved", (8, 0, 0)),
    ("opened or moved", (4, 0, 5)),
    ("turned and misread", (0, 1, 4)),
    ("two cells ahead", (4, 0)),
    ("two cells ahead", (8, 4)),
]


@pytest.mark.parametrize(("name", "events"), CASES)
def test_views_are_weighed_without_bias_and_a_map_keeps_its_weight(
    name: str, events: tuple[int, ...]
) -> None:
    """Five standard errors: a false alarm in about two of a million."""
    history = RECORDS[name]
    grid = small_world(history.view.shape[1] - 1)
    many = torch.tensor([(0, *events)]).expand(DRAWS, -1).contiguous()
    misread = torch.full((DRAWS,), MISREAD)
    maps, gain = grid.draw_map(many, history, misread, torch.Generator().manual_seed(0))
    chance = gain.double().exp()
    exact = sum(probability(events, history).values())
    assert abs(float(chance.mean()) - exact) <= 5 * float(chance.std()) / DRAWS**0.5 + 1e-5 * exact
    assert torch.equal(grid.log_views(many, maps, history, misread), gain)


@pytest.mark.parametrize(("name", "events"), CASES)
def test_weighted_draws_of_maps_have_their_posterior(name: str, events: tuple[int, ...]) -> None:
    """Before and after each cell was drawn anew given the others; five standard errors of the worst case."""
    history = RECORDS[name]
    grid = small_world(history.view.shape[1] - 1)
    generator = torch.Generator().manual_seed(1)
    many = torch.tensor([(0, *events)]).expand(DRAWS, -1).contiguous()
    maps, gain = grid.draw_map(many, history, torch.full((DRAWS,), MISREAD), generator)
    picked = torch.multinomial(gain.softmax(0), DRAWS, replacement=True, generator=generator)
    tables = grid.draw_all_tables(many, maps, history, generator)
    even = torch.full_like(tables.transition, 0.1)  # what was done says nothing about the map
    tables.transition.copy_(even)
    tables.outcome.fill_(0.1)
    tables.misread.fill_(MISREAD)
    particles = GridParticles(many, maps[picked], tables)
    exact = probability(events, history)
    total = sum(exact.values())
    cells = sorted({cell for here in sightings(events, history) for cell, _, _ in here})
    down, right = (int(place) - 1 for place in grid.geometry.start)
    flat = torch.tensor([(y + down) % SIZE * SIZE + (x + right) % SIZE for y, x in cells])
    for found in (particles.initial, grid.redraw_map(particles, history, generator)):
        for tokens, value in exact.items():
            share = (found[:, flat] == torch.tensor(tokens)).all(1).float().mean()
            expected = value / total
            error = 5 * (2 * expected * (1 - expected) / DRAWS) ** 0.5 + 1e-3
            assert abs(float(share) - expected) <= error, (tokens, share, expected)


def test_a_thing_that_a_context_has_never_shown_is_believed_at_the_second_sight() -> None:
    """A token prior in hand would give it e^-50; a misread wall would be likelier however often it is seen."""
    vocabulary = Vocabulary(Looks.apart(3), Slots(4, [FLOOR, WALL, 2]), Slots(1, [0]))
    view = EgocentricView(
        rows=2, columns=1, own_cell=(1, 0), num_tokens=3, unseen_token=9, empty_hand_token=0
    )
    geometry = geometry_of(view, 16)
    past = no_counts(2, vocabulary)
    past.tokens[:, WALL] = 200.0  # every cell that was ever seen was a wall
    past.sightings[0] = 20_000.0
    grid = GridConditionals(geometry, effects_of(geometry, vocabulary), TablePrior(), past, 5)
    twice = torch.zeros(2, dtype=torch.long)
    rows = torch.tensor([[2, -1], [2, -1]])
    history = History(twice, twice, twice, rows, twice + 1, twice - 2, torch.zeros(4).long())
    particles = grid.replay(torch.zeros(64, 2).long(), history, torch.Generator().manual_seed(0))
    _, segments, _ = grid.trace(particles.events, history)
    seen = particles.initial[:, segments.cells[segments.seen[0, 0]]]
    assert float((seen == 2).float().mean()) > 0.95
