"""Recorded and compiled sweeps against the sweeps themselves, and compiled clouds against closed forms.

A replay draws the numbers that the sweep would have drawn, so a recording must agree with it to the last
bit, at a cloud that it has not seen and after parameters have changed; a compiled graph up to rounding.
"""

import pytest
import torch
from clouds import agrees
from compilers import NO_COMPILER, needs_compiler
from models import hidden_markov, linear_gaussian, linear_gaussian_smoother
from torch import nn
from torch.distributions import Categorical, HalfCauchy, Independent, Normal, Poisson

from aif_dcpc.inference import DCPC, GraphicalModel, ModelError, lag
from aif_dcpc.inference.compiled_sweeps import COST, CompiledSweeps, Kind
from aif_dcpc.inference.errors import CompileWarning
from aif_dcpc.inference.learning import learn_step
from aif_dcpc.inference.model import compiling
from aif_dcpc.inference.model.parts import Parts
from aif_dcpc.inference.model.recording import CannotRecord
from aif_dcpc.inference.recorded_sweeps import record_sweep
from aif_dcpc.inference.sweeping import make_moves

# -- models ----------------------------------------------------------------------------------------


def eight_schools():
    effects = torch.tensor([[28.0, 8, -3, 7, -1, 1, 18, 12]])
    errors = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])
    model = GraphicalModel()
    model.add_site("mu", lambda: Normal(0.0, 5.0))
    model.add_site("tau", lambda: HalfCauchy(5.0))
    model.add_site(
        "theta",
        lambda mu, tau: Independent(
            Normal(mu.unsqueeze(-1), tau.unsqueeze(-1)).expand((*mu.shape, 8)), 1
        ),
        ["mu", "tau"],
    )
    model.add_site("y", lambda theta: Independent(Normal(theta, errors), 1), ["theta"])
    return model, {"y": effects}, {}


def series_with_gaps():
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Normal(0.9 * s, 0.5),
        [lag("s")],
        initial=lambda: Normal(0.0, 1.0),
        scope="slice",
    )
    model.add_site("o", lambda s: Normal(s, 1.0), ["s"], scope="slice")
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(2, 40, generator=generator)
    return model, {"o": data}, {"masks": {"o": data > -0.5}}


def mixture():
    centres = torch.tensor([-2.0, 0.0, 3.0])
    shares = torch.tensor([0.5, 0.3, 0.2])
    model = GraphicalModel()
    model.add_site("k", lambda: Categorical(shares))
    model.add_site("x", lambda k: Normal(centres[k], 1.0), ["k"])
    data = torch.linspace(-3, 4, 8)
    return model, {"x": data}, {}


def chain():
    move = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    model = hidden_markov(torch.tensor([0.5, 0.5]), move, lambda s: Normal(2.0 * s, 1.0))
    return model, {"o": torch.linspace(-1, 3, 10).expand(2, 10)}, {}


def counts():
    model = GraphicalModel()
    model.add_site("n", lambda: Poisson(3.0))
    model.add_site("x", lambda n: Normal(n, 1.0), ["n"])
    return model, {"x": torch.tensor([4.0, 2.0])}, {}


def regressor_first():
    """The first tensor of the cloud is data, which no sweep changes."""
    model = GraphicalModel()
    model.add_site("u", lambda: Normal(0.0, 1.0))
    model.add_site("z", lambda u: Normal(u, 1.0), ["u"])
    model.add_site("x", lambda z: Normal(z, 0.5), ["z"])
    return model, {"u": torch.tensor([1.0, -1.0]), "x": torch.tensor([0.5, 2.0])}, {}


def network():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 5))
    model = GraphicalModel()
    model.layers = layers
    model.add_site("z", lambda: Independent(Normal(torch.zeros(2), 1.0), 1))
    model.add_site("x", lambda z: Independent(Normal(layers(z), 0.3), 1), ["z"])
    return model, {"x": torch.linspace(-1, 1, 30).reshape(6, 5)}, {}


def warm(case, sweeps=14, **options):
    """An engine and a cloud whose moves have learned for a while and stand."""
    model, data, given = case()
    engine = DCPC(model, num_particles=8, warmup=6, **options)
    state, _ = engine.run(engine.init(data, seed=0, **given), sweeps)
    return engine, state


def next_sweep(engine, state, adapt):
    """The sweep itself and its replay, of a recording made one cycle earlier with other noise."""
    period = len(engine.schedule(state).cycle)
    moves = engine.schedule(state).moves(state.sweeps)
    recording, later, _ = record_sweep(moves, state, engine.generator, adapt=adapt)
    for _ in range(2 * period - 1):
        later, _ = engine.sweep(later, adapt=adapt, log_joint=False)
    parts = Parts.of(later)
    assert parts.rest == Parts.of(state).rest
    drawn = engine.generator.get_state()
    expected = make_moves(moves, later, engine.generator, adapt=adapt)
    engine.generator.set_state(drawn)
    with torch.no_grad():
        outputs = recording.graph(*recording.arguments(parts, engine.generator))
    moved, _, acceptance = recording.result(later, parts, outputs)
    return expected, (moved, acceptance)


def assert_same(expected, found, close=torch.equal):
    for (state, acceptance), (other, rates) in [(expected, found)]:
        assert state.sweeps == other.sweeps
        pairs = zip(Parts.of(state).leaves, Parts.of(other).leaves, strict=True)
        assert Parts.of(state).rest == Parts.of(other).rest
        assert Parts.of(state).counts == Parts.of(other).counts
        assert all(close(a, b) for a, b in pairs)
        assert acceptance.keys() == rates.keys()
        assert all(close(acceptance[name], rates[name]) for name in rates)


# -- recordings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapt", [False, True], ids=["frozen", "learning"])
@pytest.mark.parametrize(
    "case",
    [eight_schools, series_with_gaps, mixture, chain, counts, regressor_first],
    ids=lambda c: c.__name__,
)
def test_a_replay_gives_what_the_sweep_gives(case, adapt):
    engine, state = warm(case, sweeps=5 if adapt else 14)
    assert_same(*next_sweep(engine, state, adapt))


def test_a_replay_follows_parameters_that_change_in_place():
    engine, state = warm(network)
    moves = engine.schedule(state).moves(state.sweeps)
    recording, state, _ = record_sweep(moves, state, engine.generator, adapt=False)
    state, _ = engine.sweep(state, log_joint=False)
    before = state
    with torch.no_grad():
        for parameter in engine.model.parameters():
            parameter.mul_(1.5)
    results = []
    for given in (before, before.replace(cache={})):
        state = given if given.cache else make_cache(given)
        engine.generator.manual_seed(3)
        parts = Parts.of(state)
        with torch.no_grad():
            outputs = recording.graph(*recording.arguments(parts, engine.generator))
        results.append(recording.result(state, parts, outputs)[0].values["z"])
        engine.generator.manual_seed(3)
        expected, _ = make_moves(moves, state, engine.generator, adapt=False)
        assert torch.equal(expected.values["z"], results[-1])
    assert not torch.equal(*results)


def make_cache(state):
    from aif_dcpc.inference.model.densities import fill_cache
    from aif_dcpc.inference.model.isolation import no_validation

    with no_validation():
        return fill_cache(state, state.conditioning.latent)


def reads_a_number():
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda z: Normal(z, 1.0 + float(z.mean() > 0)), ["z"])
    return model, {"x": torch.ones(3)}, {}


def draws_by_itself():
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda z: Normal(z + 0.0 * torch.randn(()), 1.0), ["z"])
    return model, {"x": torch.ones(3)}, {}


@pytest.mark.parametrize(
    ("case", "said"),
    [(reads_a_number, "reads numbers"), (draws_by_itself, "not from the generator")],
)
def test_what_cannot_be_recorded_is_refused(case, said):
    engine, state = warm(case)
    moves = engine.schedule(state).moves(state.sweeps)
    with pytest.raises(CannotRecord, match=said):
        record_sweep(moves, state, engine.generator, adapt=False)


# -- falling back ----------------------------------------------------------------------------------


def values_after(case, sweeps=12, **options):
    _, state = warm(case, sweeps, **options)
    return state.values


def same_values(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_sweeps_that_cannot_be_compiled_are_made_as_they_stand():
    with pytest.warns(CompileWarning, match=r"without a compiler: .*reads numbers"):
        found = values_after(reads_a_number, compile=True)
    assert same_values(found, values_after(reads_a_number))


def beside_a_counter():
    """A site whose kernel reads numbers beside two that do not share a factor with it."""
    model, data, _ = mixture()
    model.add_site("r", lambda: Normal(0.0, 1.0))
    model.add_site("y", lambda r: Normal(r, 1.0 + float(r.mean() > 9)), ["r"])
    return model, {**data, "y": torch.ones(8)}, {}


@needs_compiler
def test_moves_that_can_be_compiled_are_beside_one_that_cannot():
    with pytest.warns(CompileWarning, match="reads numbers"):
        engine, state = warm(beside_a_counter, 22, compile=True)
    kinds = engine.compiled._kinds
    assert {key[0][0].site for key, kind in kinds.items() if kind.function} == {"k"}
    assert {key[0][0].site for key, kind in kinds.items() if kind.refused} == {"r"}
    _, expected = warm(beside_a_counter, 22)
    assert same_values(state.values, expected.values)


def test_without_a_compiler_sweeps_are_made_as_they_stand():
    said = r"no C\+\+ compiler was found \(no_such_compiler\)"
    with NO_COMPILER, pytest.warns(CompileWarning, match=said):
        found = values_after(mixture, compile=True)
    assert same_values(found, values_after(mixture))


def test_few_sweeps_are_not_compiled():
    assert same_values(values_after(mixture, compile="auto"), values_after(mixture))


def test_sweeps_are_compiled_where_those_ahead_take_longer_than_compiling():
    """Sweeps of 10 ms in a cycle of two, of which compiling saves half, pay 20 s from 8,000 on."""
    sweeps = CompiledSweeps("auto", 10)
    kind = Kind((), met=5, seconds=0.01)
    number = round(2 * COST / (0.5 * 0.01))
    for ahead, pays in ((number - 100, False), (number + 100, True)):
        sweeps.ahead = ahead
        assert sweeps._pays(kind, 2, adapt=False) is pays
    sweeps.ahead = 0
    kind.met = number // 2 + 50
    assert sweeps._pays(kind, 2, adapt=False)


@pytest.mark.parametrize(("met", "pays"), [(5, False), (6, True)])
def test_sweeps_that_learn_are_compiled_when_there_are_more_than_a_warm_up_has(met, pays):
    assert CompiledSweeps(True, 10)._pays(Kind((), met=met, seconds=0.01), 2, adapt=True) is pays


def test_another_setting_is_refused():
    with pytest.raises(
        ModelError, match=r"compile: expected False, True or 'auto', found 'always'"
    ):
        DCPC(mixture()[0], compile="always")


# -- compiled --------------------------------------------------------------------------------------


def near(a, b):
    return torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-3, equal_nan=True)


@needs_compiler
def test_compiled_sweeps_of_eight_schools_are_the_sweeps_up_to_rounding():
    engine, state = warm(eight_schools, 20, compile=True)
    compiled = [kind.function is not None for kind in engine.compiled._kinds.values()]
    assert engine.compiled.causes == []
    assert sum(compiled) >= 2
    for seed in range(8):
        engine.generator.manual_seed(seed)
        moves = engine.schedule(state).moves(state.sweeps)
        expected = make_moves(moves, state, engine.generator, adapt=False)
        engine.generator.manual_seed(seed)
        found = engine.sweep(state, log_joint=False)
        assert_same(expected, (found[0], found[1].acceptance), near)
        state = found[0]


@needs_compiler
def test_a_compiled_cloud_has_the_moments_of_the_smoother():
    model, rotation, data = linear_gaussian(2, 5)
    engine = DCPC(model, num_particles=32, warmup=30, moves={"s": "mala"}, compile=True)
    copies = data.expand(32, *data.shape)
    state, _ = engine.run(engine.init({"o": copies}, seed=0), 40)
    state, info = engine.run(state, 300, record=["s"])
    assert sum(kind.function is not None for kind in engine.compiled._kinds.values()) >= 2
    mean, covariance = linear_gaussian_smoother(rotation, data)
    trace = info.trace["s"].flatten(3)
    for place in range(len(mean)):
        assert agrees(trace[..., place], mean[place], floor=0.01)
        variance = (trace[..., place] - mean[place]).square()
        assert agrees(variance, covariance[place, place], floor=0.01)


@needs_compiler
def test_a_compiled_mixture_has_the_shares_of_bayes_rule():
    model, data, _ = mixture()
    engine = DCPC(model, num_particles=64, warmup=0, compile=True)
    state, _ = engine.run(engine.init({"x": data["x"].repeat(16)}, seed=0), 10)
    _, info = engine.run(state, 200, record=["k"])
    assert sum(kind.function is not None for kind in engine.compiled._kinds.values()) >= 1
    centres = torch.tensor([-2.0, 0.0, 3.0]).double()
    shares = torch.tensor([0.5, 0.3, 0.2]).double()
    weight = shares * (-0.5 * (data["x"].double()[:, None] - centres).square()).exp()
    right = weight / weight.sum(1, keepdim=True)
    drawn = info.trace["k"].unflatten(2, (16, 8))
    for datum in range(8):
        for component in range(3):
            share = (drawn[..., datum] == component).double()
            assert agrees(share, right[datum, component], floor=0.01)


@needs_compiler
def test_learning_steps_are_recorded_and_learn_the_same(monkeypatch):
    """The recorded graph stands for the compiled one, which would take a minute."""
    monkeypatch.setattr(compiling, "compiled_or_raise", lambda graph, *examples: graph)
    learned = []
    for setting in (False, True):
        model, data, _ = network()
        engine = DCPC(model, num_particles=4, warmup=2, compile=setting)
        state = engine.init(data, seed=0)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(14):
            state, _ = learn_step(engine, state, optimizer)
        learned.append([p.detach().clone() for p in model.parameters()])
    assert sum(kind.function is not None for kind in engine.compiled._kinds.values()) == 2
    assert all(torch.equal(a, b) for a, b in zip(*learned, strict=True))


@needs_compiler
def test_numbers_that_change_between_runs_are_followed(monkeypatch):
    monkeypatch.setattr(compiling, "compiled_or_raise", lambda graph, *examples: graph)
    settings = {"noise": 1.0}
    found = []
    for setting in (False, True):
        model = GraphicalModel()
        model.add_site("z", lambda: Normal(0.0, 1.0))
        model.add_site("x", lambda z: Normal(z, settings["noise"]), ["z"])
        engine = DCPC(model, num_particles=8, warmup=4, compile=setting)
        state = engine.init({"x": torch.ones(3)}, seed=0)
        for noise in (1.0, 0.1):
            settings["noise"] = noise
            state, _ = engine.run(state, 16, adapt=False)
        found.append(state.values["z"])
    assert any(kind.function is not None for kind in engine.compiled._kinds.values())
    assert torch.equal(*found)


@needs_compiler
def test_windows_of_constant_length_are_of_one_kind(monkeypatch):
    """A cycle of sweeps of the last ten slices is compiled once, however long the series grows."""
    monkeypatch.setattr(compiling, "compiled_or_raise", lambda graph, *examples: graph)
    found = []
    for setting in (False, True):
        model, data, given = series_with_gaps()
        engine = DCPC(model, num_particles=8, warmup=4, compile=setting)
        first = {"o": data["o"][:, :30]}
        masks = {"o": given["masks"]["o"][:, :30]}
        state, _ = engine.run(engine.init(first, masks=masks, seed=0), 8)
        for t in range(30, 40):
            state = engine.append(state, {"o": data["o"][:, t]})
            state, _ = engine.run(state, 4, recent=10, adapt=False)
        found.append(state.values["s"])
    cycle = len(engine.schedule(state).cycle)
    compiled = [kind for kind in engine.compiled._kinds.values() if kind.function is not None]
    assert 0 < len(compiled) <= cycle
    assert torch.equal(*found)
