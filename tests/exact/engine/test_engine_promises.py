"""What the engine's methods promise: parameters as they stand, options that are not ignored, refusals in time, warm starts."""

import math

import pytest
import torch
from models import gaussian_pair, gaussian_pair_evidence, hidden_markov
from torch import nn
from torch.distributions import Bernoulli, Categorical, Gamma, Independent, Normal, Uniform

from aif_dcpc.inference import (
    DCPC,
    ClampError,
    GraphicalModel,
    ModelError,
    MoveError,
    NonFiniteError,
    lag,
)
from aif_dcpc.inference.arrival import cloud
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.model.bijections import at_edge
from aif_dcpc.inference.model.parameters import Snapshot
from aif_dcpc.inference.moves.independence import MixtureProposal
from aif_dcpc.inference.moves.paper import Paper
from aif_dcpc.inference.smc.annealing import annealed_log_evidence
from aif_dcpc.inference.smc.starts import NEAR
from aif_dcpc.inference.stores import ParticleStore, with_batch

GLOBAL = torch.zeros(())


def through_a_global(z):
    return Normal(z + GLOBAL, 0.5)


class Mean:
    """A kernel that is neither a module nor a function."""

    def __init__(self, value):
        self.value = value

    def __call__(self):
        return Normal(self.value, 1.0)

    def kernel(self):
        return Normal(self.value, 1.0)


def captured(kind):
    """A prior mean held in some way, and the tensor to change."""
    value = torch.zeros(())
    module = nn.Linear(1, 1)
    kernels = {
        "closure": (lambda: Normal(value, 1.0), value),
        "default": (lambda v=value: Normal(v, 1.0), value),
        "object": (Mean(value), value),
        "method": (Mean(value).kernel, value),
        "list": ((lambda held: lambda: Normal(held[0], 1.0))([value]), value),
        "module": (lambda: Normal(module.bias.sum(), 1.0), module.bias),
    }
    return kernels[kind]


def pair_of(prior, likelihood=lambda z: Normal(z, 0.5)):
    """z ~ prior, x ~ likelihood(z)."""
    model = GraphicalModel()
    model.add_site("z", prior)
    model.add_site("x", likelihood, ["z"])
    return model


@pytest.mark.parametrize("kind", ["closure", "default", "object", "method", "list", "module"])
@pytest.mark.parametrize("move", ["langevin", "barker"])
def test_parameters_are_used_as_they_stand_at_each_call(kind, move):
    """z | x ~ Normal((mean + 4 x) / 5, .2); 2000 particles: 5 standard errors are .05."""
    kernel, tensor = captured(kind)
    engine = DCPC(pair_of(kernel), num_particles=2000, moves={"z": move})
    with torch.no_grad():
        tensor.fill_(0.0)
        state, _ = engine.run(engine.init({"x": torch.tensor([-1.0])}, seed=0), 60)
        tensor.fill_(2.0)
        state, info = engine.run(state, 60)
        assert abs(state.particles["z"].mean() + 0.4) < 0.05
        expected = Normal(2.0, 1.0).log_prob(state.values["z"]) + Normal(
            state.values["z"], 0.5
        ).log_prob(torch.tensor(-1.0))
        assert torch.allclose(info.log_joint, expected, atol=1e-5)


def test_tables_that_moves_keep_follow_parameters():
    """b copies a, x ~ Normal(p b, 1) is 3: P(b = 1) is .5 at p = 0 and 90 : 1 at p = 3 (a false alarm in 10^6 runs)."""
    p = torch.zeros(())
    model = GraphicalModel()
    model.add_site("a", lambda: Bernoulli(torch.tensor(0.5)))
    model.add_site("b", lambda a: Bernoulli(a), ["a"])
    model.add_site("x", lambda b: Normal(b * p, 1.0), ["b"])
    engine = DCPC(model, num_particles=4000)
    state, _ = engine.run(engine.init({"x": torch.tensor([3.0])}, seed=0), 2)
    assert abs(state.particles["b"].mean() - 0.5) < 5 * 0.5 / 4000**0.5
    p.fill_(3.0)
    state, _ = engine.run(state, 1)
    exact = 1 / (1 + math.exp(-4.5))
    assert abs(state.particles["b"].mean() - exact) < 5 * (exact * (1 - exact) / 4000) ** 0.5


def test_a_snapshot_tells_what_has_changed():
    value = torch.zeros(2)
    model = pair_of(lambda: Independent(Normal(value, 1.0), 1), through_a_global)
    before = Snapshot.of(model)
    assert before.same(Snapshot.of(model)) and not before.same(None)
    assert any(t is GLOBAL for t in before.tensors)
    value.add_(0)
    assert not before.same(Snapshot.of(model))


def test_a_replaced_tensor_is_noticed():
    holder = {"mean": torch.zeros(())}
    model = pair_of(lambda: Normal(holder["mean"], 1.0))
    before = Snapshot.of(model)
    holder["mean"] = torch.zeros(())
    assert not before.same(Snapshot.of(model))


def test_evidence_takes_masks_and_interventions():
    """log p(x) = Normal(x; 0, 1.25); a hidden datum has evidence 1, do(z = 1) leaves Normal(x; 1, .25)."""
    engine = DCPC(gaussian_pair())
    data = {"x": torch.tensor([0.5, 0.5])}
    exact = gaussian_pair_evidence(torch.tensor(0.5))
    found = engine.log_evidence(data, masks={"x": torch.tensor([True, False])}, seed=0)
    assert abs(found[0] - exact) < 0.02 and abs(found[1]) < 0.02
    done = engine.log_evidence(data, do={"z": torch.ones(2)}, seed=0)
    assert torch.allclose(
        done.float(), Normal(1.0, 0.5).log_prob(torch.tensor([0.5, 0.5])), atol=1e-5
    )
    with pytest.raises(TypeError, match="num_sample"):
        engine.log_evidence(data, num_sample=3)


def test_the_free_energy_bounds_the_evidence():
    """For a Gaussian posterior the fitted proposal is nearly the posterior: a small gap, never a negative one."""
    engine = DCPC(gaussian_pair())
    found = engine.evidence({"x": torch.tensor([0.5])}, seed=0)
    assert 0 <= found.free_energy + found.log_evidence < 0.2


def test_moves_are_refused_when_the_engine_is_built():
    model = gaussian_pair()
    for moves, message in (
        ({"z": "gibbs"}, "needs a site with finite"),
        ({"z": "langevn"}, "Did you mean 'langevin'"),
        ({"z": MixtureProposal("x", torch.zeros(2))}, "updates x"),
    ):
        with pytest.raises(MoveError, match=message):
            DCPC(model, moves=moves)
    with pytest.raises(ModelError, match="unknown site 'y'"):
        DCPC(model, moves={"y": "mala"})
    model.add_deterministic("d", torch.exp, ["z"])
    with pytest.raises(MoveError, match="'d' is deterministic"):
        DCPC(model, moves={"d": "mala"})
    for options in ({"window": 0}, {"warmup": -1}, {"num_particles": 0}):
        with pytest.raises(ModelError, match="expected at least"):
            DCPC(model, **options)
    discrete = pair_of(lambda: Categorical(torch.ones(2)), lambda z: Normal(z.float(), 1.0))
    chain = pair_of(lambda: Normal(0.0, 1.0))
    chain.add_site(
        "s",
        lambda s: Normal(0.9 * s, 1.0),
        [lag("s")],
        initial=lambda: Normal(0.0, 1.0),
        scope="slice",
    )
    with pytest.raises(MoveError, match="needs a site with score without time"):
        DCPC(chain, moves={"s": MixtureProposal("s", torch.zeros(2))})
    with pytest.raises(MoveError, match="needs a site with score"):
        DCPC(discrete, moves={"z": "langevin"})


def test_moves_of_models_with_inputs_are_refused_when_data_are_there():
    model = GraphicalModel()
    model.add_input("u", scope="episode")
    model.add_site("z", lambda u: Normal(u, 1.0), ["u"])
    engine = DCPC(model, moves={"z": "gibbs"})
    with pytest.raises(MoveError, match="needs a site with finite"):
        engine.init({"u": torch.zeros(2)})


def test_a_chain_may_have_one_slice():
    start = torch.tensor([0.4, 0.6])
    move = torch.tensor([[0.7, 0.3], [0.2, 0.8]])
    model = hidden_markov(start, move, lambda s: Bernoulli(0.1 + 0.8 * s))
    engine = DCPC(model, num_particles=4000, moves={"s": "ffbs"})
    state, _ = engine.run(engine.init({"o": torch.ones(1, 1)}, seed=0), 1)
    exact = 0.6 * 0.9 / (0.6 * 0.9 + 0.4 * 0.1)
    assert abs(state.particles["s"].float().mean() - exact) < 5 * math.sqrt(
        exact * (1 - exact) / 4000
    )


def test_a_move_of_ones_own_is_used():
    """Two modes at -3 and 3 of equal weight: only proposals from a bank that knows both hop between them."""
    bank = torch.cat([torch.randn(200) - 3, torch.randn(200) + 3])
    model = pair_of(lambda: Normal(0.0, 3.0), lambda z: Normal(z.square(), 1.0))
    engine = DCPC(model, num_particles=2000, moves={"z": MixtureProposal("z", bank)})
    state = engine.init(
        {"x": torch.tensor([9.0])}, particles={"z": torch.full((2000, 1), 3.0)}, seed=0
    )
    state, info = engine.run(state, 60)
    assert abs((state.particles["z"] > 0).float().mean() - 0.5) < 5 * 0.5 / math.sqrt(2000)
    assert info.acceptance["z"] > 0.01


def test_a_cloud_starts_from_given_particles():
    model = gaussian_pair()
    engine = DCPC(model, num_particles=3)
    data = {"x": torch.zeros(2)}
    start = torch.arange(6.0).view(3, 2)
    assert torch.equal(engine.init(data, particles={"z": start}).particles["z"], start)
    with pytest.raises(ClampError, match=r"expected \(3, 2\), found \(2, 3\)"):
        engine.init(data, particles={"z": start.T})
    with pytest.raises(ClampError, match="unknown latent site 'x'"):
        engine.init(data, particles={"x": start})
    other = DCPC(gaussian_pair(), num_particles=3)
    with pytest.raises(ModelError, match="another model"):
        other.run(engine.init(data), 1)
    with pytest.raises(ModelError, match="num_sweeps=-1"):
        engine.run(engine.init(data), -1)


def of_a_fraction():
    """z ~ Uniform(0, 10), x ~ Normal(z, 1)."""
    return pair_of(lambda: Uniform(torch.zeros(()), 10.0), lambda z: Normal(z, 1.0))


def test_given_particles_and_observed_values_may_lie_at_an_edge():
    """A sweep multiplies 5e-5 by a few at most; drawn anew it would lie above 1."""
    engine = DCPC(of_a_fraction(), num_particles=8)
    at_the_edge = torch.full((8, 2), 5e-5)
    data = {"x": torch.ones(2)}
    state, _ = engine.run(engine.init(data, particles={"z": at_the_edge}, seed=0), 1)
    assert (state.particles["z"] < 0.5).all()
    shown = {**data, "z": at_the_edge[0]}
    state = engine.init(shown, masks={"z": torch.tensor([True, False])}, seed=0)
    state, _ = engine.run(state, 1)
    assert torch.allclose(state.particles["z"][:, 0], at_the_edge[:, 0])


def test_sites_beside_given_particles_do_not_start_at_an_edge():
    """Draws of Gamma(.001, .001) are almost all zero in float32."""
    model = pair_of(lambda: Normal(0.0, 1.0))
    model.add_site("scale", lambda: Gamma(torch.tensor(0.001), 0.001))
    engine = DCPC(model, num_particles=64)
    data = {"x": torch.zeros(1)}
    drawn = engine.init(data, seed=0)
    given = engine.init(data, particles={"z": torch.full((64, 1), 9.0)}, seed=0)
    edge = drawn.conditioning.bijections["scale"]
    assert at_edge(edge, drawn.values["scale"] / NEAR).double().mean() > 0.5
    assert not at_edge(edge, given.values["scale"] / NEAR).any()
    assert (given.particles["z"] == 9).all()


# -- moves and seeds of other engines --------------------------------------------------------------


def test_engines_with_other_moves_choose_them_anew():
    engine = DCPC(gaussian_pair(), num_particles=4, update="paper")
    state, _ = engine.run(engine.init({"x": torch.ones(1)}, seed=0), 1)
    assert all(isinstance(move, Paper) for move in engine.schedule(state).moves(0))
    exact = engine.with_num_particles(256)
    assert not any(isinstance(move, Paper) for move in exact.schedule(state).moves(0))


def test_chains_that_arrive_leave_the_moves_of_the_user_aside(monkeypatch):
    model = pair_of(lambda: Bernoulli(torch.tensor(0.5)))
    engine = DCPC(model, num_particles=4, moves={"z": "prior"})
    state, _ = engine.run(engine.init({"x": torch.ones(1)}, seed=0), 1)
    kept = engine.schedule(state)
    found = []
    monkeypatch.setattr(cloud, "sampler_at", lambda chains, *_, **__: found.append(chains))
    cloud.arrived(engine, state, engine.generator)
    assert found[0].schedule(state) != kept == engine.schedule(state)


def test_estimates_seed_the_engine_and_go_on_from_there():
    model = pair_of(lambda: Bernoulli(torch.tensor(0.5)), lambda z: Normal(z, 1.0))
    data = {"x": torch.tensor([0.5, 0.5])}
    options = {"num_particles": 8, "max_seconds": 1.0}
    before = torch.get_rng_state()
    for ask in (
        lambda engine, **seed: engine.sample(data, **options, **seed),
        lambda engine, **seed: engine.evidence(data, **seed),
        lambda engine, **seed: engine.temper(data, **seed),
        lambda engine, **seed: annealed_log_evidence(
            engine, data, num_temperatures=3, num_chains=4, **seed
        ),
    ):
        engine = DCPC(model)
        ask(engine, seed=3)
        assert engine.generator is not None and engine.generator.initial_seed() == 3
    fresh = DCPC(model)
    one, other = (fresh.sample(data, **options).values["z"] for _ in range(2))
    least = min(len(one), len(other))
    assert not torch.equal(one[:least], other[:least])
    assert torch.equal(torch.get_rng_state(), before)


def test_deterministic_values_can_be_recorded():
    model = GraphicalModel()
    model.add_site("g", lambda: Normal(0.0, 1.0), scope="global")
    model.add_site(
        "s", lambda s: Normal(s, 1.0), [lag("s")], initial=lambda: Normal(0.0, 1.0), scope="slice"
    )
    model.add_deterministic("d", lambda s, g: s.exp() + g, ["s", "g"], scope="slice")
    model.add_site("o", lambda d: Normal(d, 1.0), ["d"], scope="slice")
    engine = DCPC(model, num_particles=4)
    state, info = engine.run(
        engine.init({"o": torch.zeros(3, 5)}, seed=0), 2, record=["d", "s", "g"]
    )
    assert info.trace["d"].shape == (2, 4, 3, 5)
    assert torch.equal(info.trace["d"], info.trace["s"].exp() + info.trace["g"].unsqueeze(-1))
    assert torch.equal(state.value("d"), info.trace["d"][-1])
    with pytest.raises(ModelError, match="unknown site 'e'"):
        engine.run(state, 1, record=["e"])


def test_what_is_not_finite_is_named_for_discrete_sites_as_well():
    model = pair_of(
        lambda: Categorical(torch.ones(2)), lambda z: Normal(z.float(), torch.tensor(float("nan")))
    )
    engine = DCPC(model, num_particles=2)
    with pytest.raises(NonFiniteError, match="site 'x', by sweep 1"):
        engine.run(engine.init({"x": torch.zeros(1)}, seed=0), 1)


def test_particles_that_stand_still_are_reported():
    def likelihood(z):
        # not finite off the whole numbers
        return Normal(torch.where(z == z.round(), z, z * float("nan")), 1.0)

    model = pair_of(lambda: Normal(0.0, 1.0), likelihood)
    engine = DCPC(model, num_particles=4, warmup=3)
    state = engine.init({"x": torch.zeros(1)}, particles={"z": torch.zeros(4, 1)}, seed=0)
    with pytest.warns(ConvergenceWarning, match="site 'z': its moves are accepted at a rate of 0e"):
        engine.run(state, 8)


def test_a_store_keeps_the_types_of_its_sites(tmp_path):
    model = GraphicalModel()
    model.add_site("c", lambda: Categorical(torch.ones(3)))
    model.add_site("z", lambda c: Normal(c.double(), 1.0), ["c"])
    model.add_site("x", lambda z: Normal(z, 0.5), ["z"])
    engine = DCPC(model, num_particles=2)
    data = {"x": torch.zeros(4, dtype=torch.float64)}
    state = engine.init(data, seed=0)
    for folder in (None, tmp_path):
        store = ParticleStore.like(state, 4, folder=folder)
        store.write(torch.arange(4), state.values)
        back = store.read(torch.arange(4))
        assert {n: v.dtype for n, v in back.items()} == {"c": torch.int64, "z": torch.float64}
        engine.run(with_batch(state, data, back), 2)
