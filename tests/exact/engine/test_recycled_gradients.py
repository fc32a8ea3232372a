"""The compiled evaluation of learning steps: what `evaluated` gives, at other data and parameters."""

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from aif_dcpc.inference import DCPC, GraphicalModel, NonFiniteError
from aif_dcpc.inference.errors import CompileWarning
from aif_dcpc.inference.learning import Learner, reuse_gradients_step
from aif_dcpc.inference.model import compiling
from aif_dcpc.inference.recycled_gradients import CompiledEvaluation, evaluated
from aif_dcpc.inference.stores import ParticleStore


class Layer(nn.Module):
    """p(x | z) = Normal(W z + b, exp(s)), with a parameter that nothing reads."""

    def __init__(self, reads=False):
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.idle = nn.Parameter(torch.zeros(2))
        self.reads = reads

    def forward(self, z):
        if self.reads and float(z.detach().mean()) > 1e9:
            z = -z
        return Independent(Normal(self.linear(z), self.log_scale.exp()), 1)


def setting(*, reads=False, batch=5):
    """An engine, and a cloud of `batch` data."""
    torch.manual_seed(0)
    model = GraphicalModel()
    model.add_site("z", lambda: Independent(Normal(torch.zeros(2), 1.0), 1))
    model.add_site("x", Layer(reads), parents=["z"])
    engine = DCPC(model, num_particles=3)
    return engine, engine.init({"x": torch.randn(batch, 3)}, seed=0)


def elsewhere(state, seed):
    """The same cloud with other particles and data."""
    generator = torch.Generator().manual_seed(seed)
    values = {name: torch.randn(x.shape, generator=generator) for name, x in state.values.items()}
    return state.replace(values=values, cache={})


def results(engine, evaluate, state):
    """Densities, scores and gradients, by name."""
    engine.model.zero_grad(set_to_none=True)
    found = {}
    for key, value in evaluate(state).cache.items():
        found[key] = value.log_prob
        found.update({f"{key} {argument}": score for argument, score in value.scores.items()})
    gradients = {name: p.grad for name, p in engine.model.named_parameters()}
    return found | {name: grad.clone() for name, grad in gradients.items() if grad is not None}


def same(one, other):
    """Whether two results are equal but for rounding."""
    assert one.keys() == other.keys()
    return all(torch.allclose(one[name], other[name], rtol=1e-5, atol=1e-6) for name in one)


@pytest.fixture
def as_recorded(monkeypatch):
    """Use recorded graphs as they are: what inductor does to graphs has tests of its own."""
    monkeypatch.setattr(compiling, "compiled_or_raise", lambda graph, *given: graph.forward)


def test_the_graph_gives_what_evaluating_gives_elsewhere_too(as_recorded):
    engine, state = setting()
    compiled = CompiledEvaluation()
    for seed in range(5):
        here = elsewhere(state, seed)
        assert same(results(engine, compiled, here), results(engine, evaluated, here))
        assert (compiled.graph is not None) is (seed > 0)
        with torch.no_grad():
            for parameter in engine.model.parameters():
                parameter.add_(0.1 * (seed + 1))
    assert "modules_of_sites.x:kernel.idle" not in results(engine, compiled, state)


def test_terms_without_particles_count_in_full(as_recorded):
    """y ~ Normal(mean, 1) is seen: minus the gradient of log p(y) is the sum of mean - y, for any K."""
    mean = nn.Parameter(torch.zeros(()))
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda z: Normal(z, 1.0), ["z"])
    model.add_site("y", lambda: Normal(mean, 1.0))
    model.register_parameter("mean", mean)
    y = torch.tensor([1.0, 2.0, 4.0])
    state = DCPC(model, num_particles=8).init({"x": y, "y": y}, seed=0)
    compiled = CompiledEvaluation()
    for seed in range(4):
        for evaluate in (evaluated, compiled):
            mean.grad = None
            moved = state.with_values({"z": elsewhere(state, seed).values["z"]})
            found = evaluate(moved)
            torch.testing.assert_close(mean.grad, -y.sum())
            score = next(iter(found.cache["x"].scores.values()))
            torch.testing.assert_close(score, y - moved.values["z"])
    assert compiled.graph is not None


def test_clouds_of_another_layout_get_a_graph_of_their_own(as_recorded):
    compiled = CompiledEvaluation()
    for batch in (5, 7):
        engine, state = setting(batch=batch)
        for seed in range(4):
            here = elsewhere(state, seed)
            assert same(results(engine, compiled, here), results(engine, evaluated, here))


def test_what_is_not_finite_is_told_and_leaves_no_gradient(as_recorded):
    engine, state = setting()
    compiled = CompiledEvaluation()
    for seed in range(3):
        results(engine, compiled, elsewhere(state, seed))
    engine.model.zero_grad(set_to_none=True)
    values = {**state.values, "x": torch.full_like(state.values["x"], float("nan"))}
    with pytest.raises(NonFiniteError, match="'x'"):
        compiled(state.replace(values=values, cache={}))
    assert all(p.grad is None for p in engine.model.parameters())


def test_kernels_that_read_numbers_are_evaluated_as_they_stand():
    engine, state = setting(reads=True)
    compiled = CompiledEvaluation()
    results(engine, compiled, state)
    with pytest.warns(CompileWarning, match="reads numbers"):
        found = results(engine, compiled, elsewhere(state, 1))
    assert same(found, results(engine, evaluated, elsewhere(state, 1)))
    assert same(results(engine, compiled, state), results(engine, evaluated, state))


def test_a_learner_of_an_engine_that_compiles_learns_the_same(as_recorded):
    learned = []
    for compile_ in (False, "auto"):
        engine, template = setting()
        engine = DCPC(engine.model, num_particles=3, compile=compile_)
        data = {"x": torch.randn(10, 3, generator=torch.Generator().manual_seed(3))}
        template = engine.init({"x": data["x"][:5]}, seed=0)
        store = ParticleStore.like(template, 10)
        optimizer = torch.optim.Adam(engine.model.parameters(), lr=0.01)
        learner = Learner(engine, optimizer, template, store, recycle=True, steps_per_batch=2)
        for step in range(6):
            indices = torch.arange(5) + 5 * (step % 2)
            learner.step({"x": data["x"][indices]}, indices)
        learned.append([p.detach().clone() for p in engine.model.parameters()])
        assert isinstance(learner.evaluate, CompiledEvaluation) is (compile_ == "auto")
    assert learner.evaluate.graph is not None
    for one, other in zip(*learned, strict=True):
        torch.testing.assert_close(one, other)


def test_a_step_uses_the_evaluation_that_it_is_given():
    engine, state = setting()
    called = []

    def evaluate(state):
        called.append(state)
        return evaluated(state)

    optimizer = torch.optim.SGD(engine.model.parameters(), lr=0.1)
    reuse_gradients_step(engine, state, optimizer, evaluate=evaluate)
    assert len(called) == 1
