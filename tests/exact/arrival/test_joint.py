"""The density of a block against the engine's log joint, its charts against each other, its score against differences."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from block_models import MODELS, data, number, path, schools, shared, switched
from torch.distributions import MultivariateNormal, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.model.coordinates import Block
from aif_dcpc.inference.model.densities import log_joint
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.model.joint import JointDensity, recorded_map

K = 3


def program(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 3.0))
    spread = pyro.sample("spread", dist.HalfCauchy(2.0))
    with pyro.plate("groups", 4):
        effect = pyro.sample("effect", dist.Normal(mean, spread))
        pyro.sample("y", dist.Normal(effect, torch.tensor([1.0, 0.5, 2.0, 1.0])), obs=y)


def imported():
    return *GraphicalModel.from_pyro(program, data(4).float()), {}


def with_gap():
    gap = torch.tensor([[True, False, True, True], [True, True, True, False]])
    return *path(), {"masks": {"y": gap}}


def partly_known():
    """A slice of a latent path is known, and a slice of its data is missing."""
    model, observed = path()
    known = torch.tensor([[False, False, True, False], [False, False, False, True]])
    path_data = torch.full((2, 4), 1.5, dtype=torch.float64)
    return model, {**observed, "s": path_data}, {"masks": {"s": known, "y": ~known}}


def intervened():
    return *schools(), {"do": {"spread": number([2.0])}}


def partly_intervened():
    """A slice of a path is set: the density of that slice is cut, those of others stay."""
    model, observed = path()
    mask = torch.tensor([[False, False, True, False]] * 2)
    setting = torch.full((2, 4), -1.0, dtype=torch.float64)
    return model, observed, {"do": {"s": setting}, "masks": {"s": mask}}


SETUPS = {name: (lambda build=build: (*build(), {})) for name, build in MODELS.items()}
for special in (imported, with_gap, partly_known, intervened, partly_intervened):
    SETUPS[special.__name__] = special
SETUP = pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)


def cloud(setup):
    """A cloud and its block; log weights of a cloud of double precision are so as well."""
    model, observed, options = setup()
    batch = {"batch_size": 1} if setup is imported else {}
    state = DCPC(model, num_particles=K).init(observed, seed=0, **options, **batch)
    return state, Block.of(state)


def others(density):
    return [density.block.state.values[n] for n in density.block.outside]


def vectors(block, seed=1):
    flat = 0.5 * data(K, block.num_chains, block.dimension, seed=seed)
    return flat.to(block.state.log_weights.dtype)


def expected_log_joint(state, block, flat):
    """The engine's log joint with the block at a vector; sites that data share count once."""
    moved = state.with_values(block.unflatten(flat))
    total = log_joint(moved)
    if not block.is_coupled:
        return total
    once = sum(
        f.distribution({a: moved.constrained(a.site) for a in f.inputs}).log_prob(
            moved.constrained(f.site.name)
        )
        + jacobian(moved, f.site.name)
        for f in state.conditioning.factor_graph.factors
        if f.site.scope == "global"
    )
    return total.sum(1, keepdim=True) - (state.batch_size - 1) * once


def jacobian(state, name):
    bijection = state.conditioning.bijections.get(name)
    if bijection is None:
        return 0.0
    return bijection.log_abs_det_jacobian(state.values[name], state.constrained(name))


@SETUP
def test_declared_density_is_the_engines_log_joint(setup):
    state, block = cloud(setup)
    flat = vectors(block)
    density = JointDensity(block, "declared").log_prob(flat, {})
    idle = block.idle_log_prob(flat)
    assert torch.allclose(density - idle, expected_log_joint(state, block, flat), atol=1e-5)


def test_idle_coordinates_have_a_standard_normal_law():
    state, block = cloud(partly_known)
    flat = vectors(block)
    idle = flat[..., 1:][:, state.masks["s"][0]]
    assert torch.allclose(block.idle_log_prob(flat), Normal(0.0, 1.0).log_prob(idle))
    _, block = cloud(with_gap)
    assert not block.idle_log_prob(vectors(block)).any()


@SETUP
def test_the_standardised_density_counts_the_change_of_volume(setup):
    _, block = cloud(setup)
    w = vectors(block)
    declared, log_det = block.to_declared(w)
    there = JointDensity(block, "declared").log_prob(declared, {})
    found = JointDensity(block, "standardised").log_prob(w, {})
    assert torch.allclose(found, there + log_det, atol=1e-4)


@pytest.mark.parametrize("chart", ["declared", "standardised"])
@SETUP
def test_scores_are_slopes(setup, chart):
    """Central differences of a double-precision density, coordinate by coordinate."""
    _, block = cloud(setup)
    density = JointDensity(block, chart)
    flat = vectors(block)
    _, score = density.value_and_score(flat, *others(density))
    small, tolerance = (1e-5, 1e-5) if flat.dtype is torch.float64 else (1e-2, 2e-2)
    for place in range(block.dimension):
        step = torch.zeros_like(flat)
        step[..., place] = small
        rise = density.log_prob(flat + step, {}) - density.log_prob(flat - step, {})
        slope = rise / (2 * small)
        assert torch.allclose(score[..., place], slope, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("chart", ["declared", "standardised"])
@SETUP
def test_recordings_of_density_and_maps_are_those_of_the_block(setup, chart):
    _, block = cloud(setup)
    density = JointDensity(block, chart)
    replay = density.recorded(vectors(block))
    assert replay != density.value_and_score
    change = recorded_map(block, chart, vectors(block))
    for seed in (2, 3):
        flat = 3 * vectors(block, seed)
        for a, b in zip(
            replay(flat, *others(density)),
            density.value_and_score(flat, *others(density)),
            strict=True,
        ):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True)
        back = block.to_declared(flat)[0] if chart == "declared" else block.to_standardised(flat)
        assert torch.allclose(change(flat, *others(density))[0], back, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chart", ["declared", "standardised"])
def test_a_recording_follows_the_sites_outside_the_block(chart):
    _, block = cloud(SETUPS["switched"])
    density = JointDensity(block, chart)
    assert density.block.outside == ("which",)
    w = vectors(block)
    replay = density.recorded(w)
    for which in (torch.zeros(K, 3).long(), torch.ones(K, 3).long(), torch.eye(3).long()):
        found, score = replay(w, which)
        assert torch.allclose(found, density.log_prob(w, {"which": which}))
        assert torch.allclose(found, by_hand(block, chart, w, which))
        assert torch.allclose(score, density.value_and_score(w, which)[1])


def by_hand(block, chart, w, which):
    """mean ~ N(0, 2), z ~ N(mean, scale of which), y ~ N(z, 1/2), and p(which)."""
    scale = number([0.3, 2.0])[which]
    mean = w[..., 0]
    z = w[..., 1]
    if chart == "standardised":
        mean = 2 * w[..., 0]
        z = mean + scale * w[..., 1]
    total = Normal(0.0, 2.0).log_prob(mean) + Normal(mean, scale).log_prob(z)
    total = total + Normal(z, 0.5).log_prob(block.state.values["y"])
    total = total + number([0.4, 0.6])[which].log()
    return total + torch.log(2 * scale) if chart == "standardised" else total


@pytest.mark.parametrize("build", [path, shared, switched])
def test_tempered_states_have_tempered_densities(build):
    """Powers of the likelihood from 0 (the prior) to 1, one for each datum."""
    model, observed = build()
    state = DCPC(model, num_particles=K).init(observed, seed=0)
    power = number([0.3]).expand(state.batch_size)
    tempered = state.replace(inverse_temperature=power, cache={})
    flat = vectors(Block.of(state))
    found = JointDensity(Block.of(tempered), "declared").log_prob(flat, {})
    whole = JointDensity(Block.of(state), "declared").log_prob(flat, {})
    cold = state.replace(inverse_temperature=torch.zeros_like(power), cache={})
    prior = JointDensity(Block.of(cold), "declared").log_prob(flat, {})
    assert torch.allclose(found, prior + 0.3 * (whole - prior))


def test_a_covariance_that_is_not_positive_definite_has_no_density():
    """Chains with a correlation beyond 1 are told by NaN, all others as ever; the function is recorded."""

    def kernel(r):
        off = torch.stack([torch.ones_like(r), r, r, torch.ones_like(r)], -1)
        return MultivariateNormal(torch.zeros(2, dtype=torch.float64), off.reshape(*r.shape, 2, 2))

    model = GraphicalModel()
    model.add_site("r", lambda: Normal(number(0.0), number(0.5)))
    model.add_site("y", kernel, ["r"])
    y = number([[0.3, -1.2]])
    state = DCPC(model, num_particles=1).init({"y": y}, particles={"r": number([[0.0]])}, seed=0)
    density = JointDensity(Block.of(state), "declared")
    r = number([-1.5, -0.5, 0.0, 0.9, 1.5])
    replay = density.recorded(r[:, None, None])
    assert replay != density.value_and_score
    broken = r.abs() > 1
    quadratic = (0.09 + 2 * 0.36 * r + 1.44) / (1 - r**2)
    expected = Normal(0.0, 0.5).log_prob(r) - 0.5 * (quadratic + torch.log1p(-(r**2)))
    for function in (replay, density.value_and_score):
        with no_validation():
            log_prob, score = function(r[:, None, None])
        assert torch.equal(torch.isnan(log_prob.flatten()), broken)
        right = (expected - torch.log(2 * number(torch.pi)))[~broken]
        assert torch.allclose(log_prob.flatten()[~broken], right)
        assert torch.isfinite(score.flatten()[~broken]).all()


def test_a_gaussian_joint_has_the_marginal_of_its_closed_form():
    """Integrated over the block, exp of the density is the evidence: a Gaussian integral by its score.

    log Z = log p at the mode + D/2 log 2 pi - log det of minus the slope of the score, over 2.
    """
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(number(1.0), number(2.0)))
    model.add_site("u", lambda z: Normal(0.5 * z, number(3.0)), ["z"])
    model.add_site("y", lambda u: Normal(u, number(0.7)), ["u"])
    y = number([2.5])
    state = DCPC(model, num_particles=1).init({"y": y}, seed=0)
    expected = MultivariateNormal(number([0.5]), number([[0.25 * 4 + 9 + 0.49]])).log_prob(y)
    for chart in ("declared", "standardised"):
        density = JointDensity(Block.of(state), chart)
        origin = torch.zeros(1, 1, 2, dtype=torch.float64)
        slope = torch.autograd.functional.jacobian(
            lambda v, density=density: score_of(density, v), origin
        ).reshape(2, 2)
        value, score = density.value_and_score(origin)
        mode_gain = 0.5 * score.flatten() @ torch.linalg.solve(-slope, score.flatten())
        log_z = value + mode_gain + torch.log(2 * number(torch.pi)) - 0.5 * torch.logdet(-slope)
        assert torch.allclose(log_z.flatten(), expected)


def score_of(density, flat):
    log_prob = density.log_prob(flat, {})
    return torch.autograd.grad(log_prob.sum(), flat, create_graph=True)[0]
