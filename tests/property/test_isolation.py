"""Engines leave alone what torch keeps for the whole process, and do not disturb each other in threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributions as d
from torch.nn.functional import dropout, gumbel_softmax

from aif_dcpc.inference import DCPC, GraphicalModel, lag
from aif_dcpc.inference.model.isolation import DrawsFrom, no_validation, rng_from

HALF = torch.tensor(0.5)
TWO = torch.tensor(2.0)
LAWS = [
    d.Normal(0.0, 1.0),
    d.MultivariateNormal(torch.zeros(2), torch.eye(2)),
    d.Gamma(HALF, TWO),
    d.Beta(HALF, TWO),
    d.Dirichlet(torch.ones(3)),
    d.StudentT(3.0),
    d.Cauchy(0.0, 1.0),
    d.Exponential(1.0),
    d.VonMises(HALF, TWO),
    d.Gumbel(0.0, 1.0),
    d.Uniform(0.0, 1.0),
    d.LKJCholesky(3, 1.0),
    d.ContinuousBernoulli(HALF),
    d.Bernoulli(HALF),
    d.Categorical(torch.ones(3)),
    d.Binomial(5, HALF),
    d.Poisson(TWO),
    d.Geometric(HALF),
    d.Multinomial(5, torch.ones(3)),
]
DRAWS = {type(law).__name__: lambda law=law: law.sample((5,)) for law in LAWS} | {
    "dropout": lambda: dropout(torch.ones(50)),
    "gumbel_softmax": lambda: gumbel_softmax(torch.ones(5)),
    "randperm": lambda: torch.randperm(9),
    "randint": lambda: torch.randint(2, 50, (9,)),
    "rand_like": lambda: torch.rand_like(torch.ones(3)),
    "generator=None": lambda: torch.poisson(torch.ones(9), None),
    "first weights": lambda: torch.nn.Linear(3, 4).weight.detach(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_those_of_the_seed_and_leave_the_global_generator(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = DRAWS[name]()
        torch.manual_seed(4)
        before = torch.get_rng_state()
        with DrawsFrom(3):
            found = DRAWS[name]()
        assert torch.equal(found, expected)
        assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_that_is_named_is_used():
    with DrawsFrom(3):
        found = torch.rand(3, generator=torch.Generator().manual_seed(7))
    assert torch.equal(found, torch.rand(3, generator=torch.Generator().manual_seed(7)))


def series() -> GraphicalModel:
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: d.Gamma(1 + s, 1.0),
        parents=[lag("s")],
        initial=lambda: d.Gamma(torch.tensor(1.0), torch.tensor(1.0)),
        scope="slice",
    )
    model.add_site("o", lambda s: d.Normal(s, 1.0), parents=["s"], scope="slice")
    return model


def results(seed):
    """Whatever an engine draws: a first cloud, sweeps, a slice, a forecast, replicated data."""
    engine = DCPC(series(), num_particles=8)
    state = engine.init({"o": torch.arange(6.0)[None] / 10}, seed=seed)
    state, _ = engine.run(state, 3)
    state = engine.append(state, {"o": torch.ones(1)})
    return [
        state.particles["s"],
        engine.forecast(state, length=10)["o"],
        engine.predict(state)["o"],
    ]


def test_engines_in_threads_give_what_they_give_one_by_one():
    seeds = range(40)
    expected = [results(seed) for seed in seeds]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(results, seeds))
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def validating():
    """Torch's own setting, which other libraries may have switched off, on for a test."""
    kept = d.Distribution._validate_args
    d.Distribution.set_default_validate_args(True)
    yield
    d.Distribution.set_default_validate_args(kept)


@pytest.mark.usefixtures("validating")
def test_another_thread_keeps_validating():
    within = threading.Event()
    seen = threading.Event()

    def infer():
        with no_validation():
            assert d.Normal(0.0, -1.0).scale == -1
            within.set()
            assert seen.wait(10)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(infer)
        assert within.wait(10)
        with pytest.raises(ValueError, match="scale"):
            d.Normal(0.0, -1.0)
        assert d.Distribution._validate_args is True
        seen.set()
        running.result()
    assert d.Distribution.__dict__["_validate_args"] is True


@pytest.mark.usefixtures("validating")
def test_threads_that_overlap_leave_the_flag_as_it_was():
    first = no_validation()
    second = no_validation()
    with ThreadPoolExecutor(1) as pool:
        first.__enter__()
        pool.submit(second.__enter__).result()
        first.__exit__(None, None, None)
        assert d.Distribution._validate_args is True
        assert pool.submit(lambda: d.Distribution._validate_args).result() is False
        pool.submit(second.__exit__, None, None, None).result()
    assert d.Distribution.__dict__["_validate_args"] is True


def test_a_setting_made_meanwhile_is_kept():
    try:
        with no_validation():
            d.Distribution.set_default_validate_args(False)
        assert d.Distribution.__dict__["_validate_args"] is False
        with no_validation(), no_validation():
            assert d.Distribution._validate_args is False
        assert d.Distribution.__dict__["_validate_args"] is False
    finally:
        d.Distribution.set_default_validate_args(True)


def test_draws_by_one_thread_do_not_follow_another_ones_generator():
    def draw(_):
        generator = torch.Generator().manual_seed(5)
        found = []
        for _ in range(20):
            with rng_from(generator):
                found.append(d.Gamma(HALF, TWO).sample((4,)))
        return torch.stack(found)

    expected = draw(0)
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(found, expected) for found in pool.map(draw, range(16)))
