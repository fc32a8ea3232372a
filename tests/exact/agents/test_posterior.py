"""The grid world's posterior, by weighted arrivals, by sweeps and by the engine, against enumeration of all trajectories and maps."""

import pytest
import torch
from scipy.stats import beta
from small_grid import NUM_EVENTS, RECORDS, exact_events, small_world

from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.counts import Tables
from aif_dcpc.agents.gridworld.model.engine_values import data_of, particles_of, values_of
from aif_dcpc.agents.gridworld.model.graph import MOVES, GridModel
from aif_dcpc.agents.gridworld.model.paths import History
from aif_dcpc.agents.gridworld.model.slice_proposal import prior_particles, propose, redraw_last
from aif_dcpc.inference import DCPC


def one_sweep(
    grid: GridConditionals, particles: GridParticles, history: History, generator: torch.Generator
) -> GridParticles:
    """The conditional block of the model, once."""
    model = GridModel(grid)
    data = {name: value[None] for name, value in data_of(history).items()}
    values = {**data, **values_of(particles)}
    return particles_of({**values, **model.draw_history(values, generator)})


def assert_close(
    sampled: torch.Tensor, exact: list[torch.Tensor], weights: torch.Tensor, effective: float
) -> None:
    """Every event probability within five standard errors of `effective` independent draws."""
    for t, expected in enumerate(exact, 1):
        found = torch.zeros(NUM_EVENTS).scatter_add_(0, sampled[:, t], weights)
        error = 5 * (expected * (1 - expected).clamp_min(0) / effective).sqrt() + 1e-3
        assert bool(((found - expected).abs() <= error).all()), (t, found, expected)


@pytest.mark.parametrize("name", RECORDS)
def test_arrivals_alone_are_properly_weighted(name: str) -> None:
    history = RECORDS[name]
    grid = small_world(history.view.shape[1] - 1)
    generator = torch.Generator().manual_seed(0)
    particles, log_weights = prior_particles(grid, history.head(1), 8000, generator)
    for end in range(2, len(history) + 1):
        fresh = GridConditionals(
            grid.geometry, grid.effects, grid.prior, grid.past, grid.num_tokens
        )
        particles, gain = propose(fresh, particles, history.head(end), generator)
        log_weights += gain
    weights = log_weights.softmax(0)
    assert_close(
        particles.events, exact_events(history), weights, float(1 / weights.square().sum())
    )


@pytest.mark.parametrize("name", RECORDS)
def test_sweeps_keep_the_exact_posterior(name: str) -> None:
    """Starts from weighted arrivals, resampled, so that any drift is the sweeps' own."""
    history = RECORDS[name]
    grid = small_world(history.view.shape[1] - 1)
    generator = torch.Generator().manual_seed(1)
    particles, log_weights = prior_particles(grid, history.head(1), 10000, generator)
    for end in range(2, len(history) + 1):
        grid = small_world(history.view.shape[1] - 1)
        particles, gain = propose(grid, particles, history.head(end), generator)
        log_weights += gain
    index = torch.multinomial(log_weights.softmax(0), 2000, replacement=True, generator=generator)
    tables = Tables(*(t[index] for t in vars(particles.tables).values()))
    particles = GridParticles(particles.events[index], particles.initial[index], tables)
    before = particles.events
    for _ in range(4):
        particles = one_sweep(grid, particles, history, generator)
    assert float((particles.events != before).any(1).float().mean()) > 0.3  # they do move
    assert_close(particles.events, exact_events(history), torch.full((2000,), 1 / 2000), 1000.0)


def test_drawing_the_last_event_anew_keeps_the_exact_posterior() -> None:
    """Weighted arrivals, resampled, have the exact posterior; drawn anew they keep it."""
    history = RECORDS["two cells ahead"]
    grid = small_world(2)
    generator = torch.Generator().manual_seed(3)
    particles, log_weights = prior_particles(grid, history.head(1), 10000, generator)
    for end in range(2, len(history) + 1):
        grid = small_world(2)
        particles, gain = propose(grid, particles, history.head(end), generator)
        log_weights += gain
    index = torch.multinomial(log_weights.softmax(0), 4000, replacement=True, generator=generator)
    tables = Tables(*(t[index] for t in vars(particles.tables).values()))
    particles = GridParticles(particles.events[index], particles.initial[index], tables)
    for _ in range(3):
        particles = redraw_last(grid, particles, history, generator)
    assert_close(particles.events, exact_events(history), torch.full((4000,), 1 / 4000), 2000.0)


@pytest.mark.filterwarnings(
    "ignore:site 'event'. particles stay apart"
)  # each one; all together are right
@pytest.mark.parametrize("name", RECORDS)
def test_the_engine_on_the_clamped_history_reaches_the_exact_posterior(name: str) -> None:
    """`DCPC.run` from its own start (events drawn without looking at the data)."""
    history = RECORDS[name]
    grid = small_world(history.view.shape[1] - 1)
    engine = DCPC(GridModel(grid).build(), num_particles=200, moves=MOVES)
    state = engine.init(data_of(history), seed=0)
    state, _ = engine.run(state, 30)
    state, info = engine.run(state, 60, record=["event"])
    sampled = info.trace["event"][::3, :, 0].flatten(0, 1)
    assert_close(
        sampled, exact_events(history), torch.full((len(sampled),), 1 / len(sampled)), 1000.0
    )
    assert 0.05 < float(info.acceptance["misread"]) < 1  # the engine's own move
    particles = particles_of(state.values)
    seen = grid.counts(particles.events, particles.initial, history).sightings
    wrong, right = grid.prior.misread
    level = beta.cdf(particles.tables.misread, seen[:, 1] + wrong, seen[:, 0] + right)
    assert abs(level.mean() - 0.5) < 5 / (12 * len(level)) ** 0.5
    assert abs((level < 0.25).mean() - 0.25) < 5 * (0.1875 / len(level)) ** 0.5


def test_a_sweep_moves_every_latent() -> None:
    """A part of the block that is never redrawn leaves the posterior invariant, but is never reached from elsewhere."""
    grid = small_world()
    history = RECORDS["turned and misread"]
    generator = torch.Generator().manual_seed(2)
    particles, _ = prior_particles(grid, history.head(1), 50, generator)
    for end in range(2, len(history) + 1):
        particles, _ = propose(grid, particles, history.head(end), generator)
    after = one_sweep(grid, particles, history, generator)
    for name, old in vars(particles.tables).items():
        assert torch.equal(old, vars(after.tables)[name]) == (name in MOVES)
    assert not torch.equal(particles.initial, after.initial)
