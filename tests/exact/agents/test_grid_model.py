"""The grid world as the engine knows it: log densities by plain loops, exact arrivals, draws of tables."""

import itertools
from math import lgamma, log

import numpy as np
import pytest
import torch
from grid_walks import (
    ACTIONS,
    COLUMNS,
    OUTCOMES,
    OWN,
    Told,
    Walk,
    class_of,
    does,
    grip_of,
    place_of,
    random_walk,
    thing_ahead,
    told,
)
from small_grid import NUM_EVENTS, RECORDS, log_joint, sightings, small_world

from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.counts import Tables
from aif_dcpc.agents.gridworld.model.engine_values import (
    data_of,
    history_of,
    particles_of,
    slice_of,
    values_of,
)
from aif_dcpc.agents.gridworld.model.graph import BLOCK, GridModel
from aif_dcpc.agents.gridworld.model.single_events import fitting
from aif_dcpc.agents.gridworld.model.slice_proposal import (
    _event_score,
    propose,
)
from aif_dcpc.inference import DCPC
from aif_dcpc.inference.queries.law import law

Case = tuple[Walk, list[Told]]
MISREAD = 0.1


@pytest.fixture(params=[0, 1, 2])
def case(request: pytest.FixtureRequest) -> Case:
    drawn = random_walk(request.param)
    return drawn, [told(drawn, n) for n in range(len(drawn.particles.events))]


def log_dirichlet(chances: np.ndarray, concentration: np.ndarray) -> float:
    """Log density of one Dirichlet row."""
    constant = lgamma(concentration.sum()) - sum(map(lgamma, concentration))
    return float(constant + ((concentration - 1) * np.log(chances)).sum())


def log_density(drawn: Walk, one: Told, n: int) -> float:
    """log p(rates, token prior, map, events, all that was observed | tables) of one particle."""
    known, history, tables = drawn.vocabulary, drawn.history, drawn.particles.tables
    misread = float(tables.misread[n])
    right, wrong = (drawn.grid.past.sightings + torch.tensor([100.0, 0.5])).tolist()
    total = (right - 1) * log(1 - misread) + (wrong - 1) * log(misread)
    total += lgamma(right + wrong) - lgamma(right) - lgamma(wrong)
    prior = tables.token_prior[n].double().numpy()
    concentration = drawn.grid.memory.token_parameters.double().numpy()
    total += sum(log_dirichlet(p, a) for p, a in zip(prior, concentration, strict=True))
    total += np.log(prior[0, drawn.particles.initial[n]]).sum() + log(0.25)
    total += sum(
        log(prior[s["context"], s["token"]] / prior[0, s["token"]])
        for s in one.sights
        if s["first"]
    )
    own = OWN[0] * COLUMNS + OWN[1]
    size = drawn.geometry.size
    for t in range(len(history)):
        y, x = one.position[t]
        here = int(history.view[t, own])
        if here != -1:  # the view of one's own cell is a reading as any other
            stands = _standing(drawn, n, one, t, (y % size, x % size))
            total += log(1 - misread if here == stands else misread / 16)
    for sight in one.sights:
        total += log(1 - misread if sight["code"] == sight["token"] else misread / 16)
    total -= log(OUTCOMES)
    for t in range(len(history)):
        event = int(drawn.particles.events[n, t]) if t else 0
        before = int(history.hand[max(t - 1, 0)])
        _, taken, _ = does(known, event, int(history.faced[t]), before)
        hand = before if taken is None else taken
        total += log(1e-4) * (hand != int(history.hand[t]))
        if t:
            action = int(history.action[t])
            thing = thing_ahead(drawn, one, t)
            grip = grip_of(known, thing, before)
            total += log(float(tables.transition[n, action, class_of(known, thing), grip, event]))
            row = ACTIONS + event if event else action
            place = place_of(known, thing, int(history.match[thing]), one.passed[t - 1])
            total += log(float(tables.outcome[n, row, place, int(history.outcome[t])]))
    return total


def _standing(drawn: Walk, n: int, one: Told, time: int, cell: tuple[int, int]) -> int:
    """What a cell holds in a slice."""
    size = drawn.geometry.size
    token = int(drawn.particles.initial[n, cell[0] * size + cell[1]])
    for t in range(1, time + 1):
        if one.written[t] >= 0 and one.ahead[t - 1] == cell:
            token = one.written[t]
    return token


def normalised(drawn: Walk) -> Walk:
    """The same walk with tables whose rows are distributions, and events that turn as headings do, none in the first slice."""
    tables = drawn.particles.tables
    rows = [t / t.sum(-1, keepdim=True) for t in (tables.transition, tables.outcome)]
    events = fitting(drawn.grid, drawn.particles.events, drawn.history)
    events[:, 0] = 0
    new = Tables(*rows, tables.token_prior, tables.misread)
    drawn.particles = GridParticles(events, drawn.particles.initial, new)
    return drawn


def state_of(drawn: Walk) -> tuple[DCPC, object]:
    """The engine and its state with the walk's particles."""
    engine = DCPC(GridModel(drawn.grid).build(), num_particles=3)
    state = engine.init(data_of(drawn.history), seed=0)
    return engine, state.replace(values={**state.values, **values_of(drawn.particles)}, cache={})


def test_the_joint_density_is_that_of_the_definition(case: Case) -> None:
    """All sites but the pooled tables, whose densities count as zero; the token seen in one's own cell included."""
    drawn = normalised(case[0])
    engine, state = state_of(drawn)
    found = engine.log_joint(state)[:, 0]
    for n in range(3):
        assert float(found[n]) == pytest.approx(log_density(drawn, told(drawn, n), n), rel=1e-4)


def test_values_are_particles_and_back(case: Case) -> None:
    drawn = normalised(case[0])
    _, state = state_of(drawn)
    back = particles_of(state.values)
    assert torch.equal(back.events, drawn.particles.events)
    assert torch.equal(back.initial, drawn.particles.initial)
    for name, table in vars(drawn.particles.tables).items():
        assert torch.equal(getattr(back.tables, name), table), name
    seen = history_of(state.values)
    for name, series in vars(drawn.history).items():
        assert torch.equal(getattr(seen, name), series), name
    last = slice_of(drawn.history)
    assert "match" not in last and int(last["held"]) == int(drawn.history.hand[-2])
    assert torch.equal(last["view"][0], drawn.history.view[-1])


def test_headings_turn_as_events_do_and_the_first_outcome_is_any(case: Case) -> None:
    """A heading that does not fit is all but impossible."""
    drawn = normalised(case[0])
    _, state = state_of(drawn)
    outcome = law(state, "outcome").probs
    assert torch.allclose(outcome[:, 0, 0], torch.full((3, OUTCOMES), 1 / OUTCOMES))
    heading = drawn.history.heading
    chances = law(state, "heading").probs[:, 0]
    assert (chances.argmax(-1) == heading[1:]).all() and bool(
        (chances.max(-1).values > 1 - 1e-6).all()
    )


def test_a_block_leaves_the_rate_of_misreading_alone(case: Case) -> None:
    drawn = normalised(case[0])
    model = GridModel(drawn.grid)
    values = {name: value[None] for name, value in data_of(drawn.history).items()}
    values = {**values, **values_of(drawn.particles)}
    generator = torch.Generator().manual_seed(0)
    found = model.draw_history(values, generator)
    assert tuple(found) == BLOCK
    tables = model.draw_tables(drawn.particles, drawn.history, generator)
    before = drawn.particles.tables
    changed = [(getattr(tables, n) != getattr(before, n)).flatten(2).any(2).any(0) for n in ("transition", "outcome")]  # fmt: skip
    assert [int(c.sum()) for c in changed] == [1, 2]
    met = drawn.grid.sightings(drawn.history).context.unique()
    changed = (tables.token_prior != before.token_prior).any(2).any(0).nonzero()[:, 0]
    assert torch.equal(changed, met)


# -- arrivals: weights by enumeration -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["opened or moved", "turned and misread"])
def test_a_particle_is_weighed_by_all_that_may_have_happened(name: str) -> None:
    """Where a view shows one cell, the weight is exact: log p(slice | events and map before), tables integrated out."""
    record = RECORDS[name]
    for end in range(2, len(record) + 1):
        before, after = record.head(end - 1), record.head(end)
        for events in itertools.islice(_events_of(before), 0, None, 3):
            grid = small_world(1)
            cells = sorted({c for here in sightings(events, before) for c, _, _ in here})
            for number, tokens in enumerate(itertools.product(range(2), repeat=len(cells))):
                if number % 2 == (end + sum(events)) % 2:
                    continue
                world = dict(zip(cells, tokens, strict=True))
                old = log_joint(events, world, before, MISREAD)
                if not old > -1e300:
                    continue
                particles = _particles(grid, events, world)
                _, found = propose(grid, particles, after, torch.Generator().manual_seed(0))
                terms = _terms(events, world, after)
                expected = np.logaddexp.reduce(list(terms.values())) - old
                assert float(found[0]) == pytest.approx(expected, abs=2e-3)


def _events_of(history: object) -> list[tuple[int, ...]]:
    turns = [(int(b) - int(a)) % 4 for a, b in itertools.pairwise(history.heading)]
    allowed = [[turn] if turn else [0, 4, 7, 8] for turn in turns]
    return list(itertools.product(*allowed))


def _terms(events: tuple[int, ...], world: dict, after: object) -> dict:
    """log p of all that may have happened in the last slice, and of the token that it showed first."""
    turn = (int(after.heading[-1]) - int(after.heading[-2])) % 4
    terms = {}
    for event in range(NUM_EVENTS):
        if (event if event < 4 else 0) != turn:
            continue
        longer = (*events, event)
        new = {c for here in sightings(longer, after) for c, _, _ in here} - set(world)
        for tokens in itertools.product(range(2), repeat=len(new)):
            value = log_joint(
                longer, {**world, **dict(zip(sorted(new), tokens, strict=True))}, after, MISREAD
            )
            if value > -1e300:
                terms[event, tokens] = value
    return terms


def _particles(grid: GridConditionals, events: tuple[int, ...], world: dict) -> GridParticles:
    initial = torch.zeros(1, 9, dtype=torch.long)
    for (y, x), token in world.items():
        initial[0, (y - 1) % 3 * 3 + (x - 1) % 3] = token
    past = grid.past
    tables = Tables(
        torch.zeros(1, *past.transition.shape), torch.zeros(1, *past.outcome.shape),
        torch.zeros(1, *past.tokens.shape), torch.tensor([MISREAD]),
    )  # fmt: skip
    return GridParticles(torch.tensor([(0, *events)]), initial, tables)


def test_events_are_scored_by_what_is_ahead_and_in_hand(case: Case) -> None:
    """p(event) p(outcome) of the last step given the steps before; class, grip and place by plain loops."""
    drawn, _ = case
    grid, history, known = drawn.grid, drawn.history, drawn.vocabulary
    before = history.head(len(history) - 1)
    events = drawn.particles.events[:, :-1]
    own = grid.counts(events, drawn.particles.initial, before)
    some = torch.tensor([0, 4, 9])
    every = [told(drawn, n) for n in range(3)]
    things = torch.tensor([thing_ahead(drawn, one, len(before)) for one in every])
    passed = torch.tensor([one.passed[-2] for one in every])
    found = _event_score(grid, own, things, passed, history, some)
    action = history.action[-1:]
    for n, (thing, done) in enumerate(zip(things.tolist(), passed.tolist(), strict=True)):
        grip = grip_of(known, thing, int(history.hand[-2]))
        context = class_of(known, thing) * own.transition.shape[3] + grip
        place = place_of(known, thing, int(history.match[thing]), done)
        happens = grid.memory.events.mean_at(
            own.transition[n : n + 1, int(action)], action, torch.tensor([context])
        )
        for number, event in enumerate(some.tolist()):
            row = torch.tensor([ACTIONS + event]) if event else action
            ends = grid.memory.outcomes.mean_at(
                own.outcome[n : n + 1, int(row)], row, torch.tensor([place])
            )
            expected = log(max(float(happens[0, event] * ends[0, history.outcome[-1]]), 1e-30))
            assert float(found[n, number]) == pytest.approx(expected, rel=1e-4)
