"""Small inputs at the edge of what an engine takes: right by a closed form, or refused in one sentence."""

import math
import warnings

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Distribution,
    Gamma,
    Independent,
    MixtureSameFamily,
    Multinomial,
    Normal,
    Pareto,
    Poisson,
    TransformedDistribution,
    Uniform,
    VonMises,
    Wishart,
    constraints,
)
from torch.distributions.transforms import AffineTransform, StickBreakingTransform

from aif_dcpc.inference import DCPC, ClampError, GraphicalModel, InferenceError, ModelError, lag
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.learning import Learner
from aif_dcpc.inference.model.bijections import SimplexTransform, Wrap, bijection_to, coordinates
from aif_dcpc.inference.stores import ParticleStore

tensor = torch.tensor


def pair(root, kernel, scope="episode"):
    model = GraphicalModel()
    model.add_site("z", root, scope=scope)
    model.add_site("x", kernel, ["z"])
    return model


def posterior(model, data, *, num_particles=2000, sweeps=150):
    engine = DCPC(model, num_particles=num_particles)
    state, _ = engine.run(engine.init({"x": data}, seed=0), sweeps)
    return state.particles["z"][:, 0]


def near(draws, mean, sd):
    """Within 5 standard errors of independent draws: about once in a million times otherwise."""
    return abs(float(draws.double().mean()) - mean) < 5 * sd / math.sqrt(len(draws))


# -- angles ----------------------------------------------------------------------------------------


def bessel_ratio(kappa):
    """E[cos] of VonMises(0, kappa)."""
    kappa = tensor(kappa, dtype=torch.float64)
    return float(torch.special.i1(kappa) / torch.special.i0(kappa))


def test_an_angle_seen_as_an_angle_has_its_conjugate_posterior_across_the_cut():
    """Posterior of VonMises(3, 2) given x ~ VonMises(z, 4): VonMises of the sum of both arrows."""
    model = pair(lambda: VonMises(tensor(3.0), tensor(2.0)), lambda z: VonMises(z, tensor(4.0)))
    z = posterior(model, tensor([-2.9]))
    across = 2 * math.cos(3.0) + 4 * math.cos(-2.9)
    along = 2 * math.sin(3.0) + 4 * math.sin(-2.9)
    length = math.hypot(across, along)
    turned = z - math.atan2(along, across)
    expected = bessel_ratio(length)
    assert bool((z.abs() <= math.pi).all())
    assert near(turned.cos(), expected, math.sqrt(1 - expected / length - expected**2))
    assert near(turned.sin(), 0.0, math.sqrt(expected / length))


def test_an_angle_read_as_a_number_is_cut_at_pi():
    """By the trapezoidal rule on (-pi, pi]; on the line the mean would be 2.93."""
    model = pair(lambda: VonMises(tensor(3.0), tensor(2.0)), lambda z: Normal(z, 0.5))
    grid = torch.linspace(-math.pi, math.pi, 20001, dtype=torch.float64)
    density = (2 * (grid - 3).cos() - 2 * (grid - 2.9) ** 2).exp()
    mean = float((density * grid).sum() / density.sum())
    sd = math.sqrt(float((density * grid**2).sum() / density.sum()) - mean**2)
    assert near(posterior(model, tensor([2.9])), mean, sd)
    mass = torch.trapezoid(density, grid) / (2 * math.pi * torch.special.i0(tensor(2.0).double()))
    exact = float(mass.log()) - 0.5 * math.log(2 * math.pi * 0.25)
    found = DCPC(model).evidence({"x": tensor([2.9])}, seed=0)
    assert found.method == "annealed" and abs(float(found.log_evidence) - exact) < 0.15


def test_mixtures_of_angles_and_moved_angles():
    weights = Categorical(torch.ones(2))

    def mixed():
        return MixtureSameFamily(weights, VonMises(tensor([3.0, -3.0]), tensor(5.0)))

    state = DCPC(pair(mixed, lambda z: Normal(z, 1.0))).init({"x": torch.zeros(1)})
    assert isinstance(state.conditioning.bijections["z"], Wrap)

    def moved():
        return TransformedDistribution(VonMises(0.0, tensor(1.0)), [AffineTransform(1.0, 2.0)])

    with pytest.raises(ModelError, match="transforms angles"):
        DCPC(pair(moved, lambda z: Normal(z, 1.0))).init({"x": torch.zeros(1)})


# -- edges of supports -----------------------------------------------------------------------------


def hits(p):
    return Bernoulli(p[..., None].expand(*p.shape, 10))


SPREAD = 2 * torch.randn(20, generator=torch.Generator().manual_seed(0))
CONJUGATE = {
    "dirichlet": (
        lambda: Dirichlet(torch.full((5,), 0.1)),
        lambda p: Multinomial(10, p),
        tensor([[7.0, 3, 0, 0, 0]]),
        (7.1, 3.4),
    ),
    "beta": (
        lambda: Beta(tensor(0.01), tensor(0.01)),
        hits,
        tensor([[1.0, 1, 1, 0, 1, 1, 1, 0, 1, 1]]),
        (8.01, 2.01),
    ),
}


@pytest.mark.parametrize("case", sorted(CONJUGATE))
def test_priors_with_their_mass_at_the_edge_give_the_conjugate_posterior(case):
    prior, kernel, data, (a, b) = CONJUGATE[case]
    draws = posterior(pair(prior, kernel), data).reshape(2000, -1)[:, 0]
    sd = math.sqrt(a * b / (a + b + 1)) / (a + b)
    assert near(draws, a / (a + b), sd)
    assert abs(float(draws.std()) / sd - 1) < 0.1


def test_a_precision_with_a_vague_prior_gives_the_conjugate_posterior():
    model = pair(
        lambda: Gamma(tensor(0.001), tensor(0.001)),
        lambda t: Normal(torch.zeros(20), t[..., None] ** -0.5),
    )
    shape = 10.001
    rate = 0.001 + float(SPREAD.square().sum()) / 2
    assert near(posterior(model, SPREAD[None]), shape / rate, math.sqrt(shape) / rate)


def test_a_posterior_beyond_the_last_digit_is_said():
    model = pair(lambda: Beta(tensor(0.01), tensor(0.01)), hits)
    with pytest.warns(ConvergenceWarning, match=r"closer to the edge of its support.*float64"):
        posterior(model, torch.ones(1, 10), num_particles=200)


def test_bounds_by_a_latent_give_the_exact_posterior():
    """Pareto(60, 5): log n is ln 60 + an exponential of mean 1/5; nearly all prior draws forbid the data."""
    model = pair(lambda: Pareto(1.0, 1.0), lambda n: Uniform(torch.zeros_like(n), n), "global")
    n = posterior(model, tensor([19.0, 40, 42, 60]), sweeps=300)
    assert bool((n >= 60).all()) and near(n.log(), math.log(60) + 0.2, 0.2)
    with pytest.raises(ClampError, match="raise num_particles"):
        posterior(model, tensor([19.0, 40, 42, 60]), num_particles=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stick_breaking_in_logarithms_is_stick_breaking(dtype):
    x = 3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = StickBreakingTransform()
    fine = SimplexTransform()
    share = fine(x.to(dtype))
    accurate = 1e-5 if dtype == torch.float32 else 1e-12
    assert torch.allclose(share.double(), plain(x), atol=accurate)
    assert torch.allclose(fine.inv(share).double(), x, rtol=1e-3, atol=20 * accurate)
    jacobian = fine.log_abs_det_jacobian(x.to(dtype), share).double()
    assert torch.allclose(jacobian, plain.log_abs_det_jacobian(x, plain(x)), rtol=1e-4)


def test_small_shares_keep_their_digits():
    last = SimplexTransform()(tensor([60.0]))[-1]
    assert float(last.log()) == pytest.approx(-60.0, abs=1e-4)


@pytest.mark.parametrize(
    ("support", "value"),
    [
        (constraints.positive, [0.0, math.inf]),
        (constraints.unit_interval, [0.0, 1.0]),
        (constraints.simplex, [0.0, 1.0]),
        (constraints.interval(-1.0, 2.0), [-1.0, 2.0]),
    ],
)
def test_coordinates_at_the_edge_are_finite_and_lead_back_near_it(support, value):
    bijection = bijection_to(support)
    found = coordinates(bijection, tensor(value))
    assert bool(found.isfinite().all())
    back = bijection(found)
    finite = tensor(value).isfinite()
    assert torch.allclose(back[finite], tensor(value)[finite], atol=1e-5)


# -- precision -------------------------------------------------------------------------------------


def offset():
    return pair(lambda: Normal(1e6, 1.0), lambda z: Normal(z, 0.01))


def test_data_in_double_precision_keep_it():
    """Precisions 1 and 10,000 (as float32 holds .01): mean .5 * 10,000 / 10,001 beyond the offset."""
    z = posterior(offset(), tensor([1e6 + 0.5], dtype=torch.float64), num_particles=500)
    assert z.dtype == torch.float64
    assert near(z - 1e6, 0.5 * 1e4 / (1e4 + 1), 0.01)


def test_integers_that_float32_lacks_are_kept():
    model = pair(lambda: Normal(1.7e9, 100.0), lambda z: Normal(z, 1.0))
    z = posterior(model, tensor([1_700_000_037]), num_particles=500)
    assert near(z - 1.7e9, 37 * 1e4 / (1e4 + 1), 1.0)


def test_a_series_in_double_precision_stays_so():
    model = GraphicalModel()
    model.add_site(
        "s", lambda s: Normal(s, 0.1), [lag("s")], initial=lambda: Normal(1e6, 1.0), scope="slice"
    )
    model.add_site("o", lambda s: Normal(s, 0.1), ["s"], scope="slice")
    engine = DCPC(model)
    state = engine.init({"o": torch.full((1, 3), 1e6, dtype=torch.float64)}, seed=0)
    state = engine.append(state, {"o": torch.full((1,), 1e6, dtype=torch.float64)})
    state, _ = engine.run(state, 5)
    assert state.particles["s"].dtype == torch.float64
    assert engine.forecast(state, length=2)["s"].dtype == torch.float64


# -- nothing, and what is no data ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.zeros(0), "hold no data points"),
        (torch.zeros(2) + 1j, "expected real numbers"),
        (torch.zeros(2).half(), r"clamp value\.float\(\)"),
        (torch.zeros(2).bfloat16(), r"clamp value\.float\(\)"),
        (torch.zeros(2).to_sparse(), "dense"),
    ],
)
def test_data_that_are_none_are_refused(value, words):
    with pytest.raises(ClampError, match=words):
        DCPC(offset()).init({"x": value})


def test_a_series_of_no_slices_is_refused():
    model = GraphicalModel()
    model.add_site("o", lambda: Normal(0.0, 1.0), scope="slice")
    with pytest.raises(ClampError, match="hold no slices"):
        DCPC(model).init({"o": torch.zeros(2, 0)})


def test_latents_in_half_precision_are_refused():
    half = pair(lambda: Normal(torch.zeros(()).half(), 1.0), lambda z: Normal(z.float(), 1.0))
    with pytest.raises(ModelError, match=r"draws torch\.float16"):
        DCPC(half).init({"x": torch.zeros(2)})


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        (torch.arange(0), "found none"),
        (-torch.arange(1, 5), "from 0 to 9, found -4 to -1"),
        (tensor([0, 10]), "found 0 to 10"),
        (tensor([0.0]), "whole numbers"),
    ],
)
def test_a_store_is_asked_for_data_that_it_has(indices, words):
    shift = torch.nn.Parameter(torch.zeros(1))
    engine = DCPC(pair(lambda: Normal(0.0, 1.0), lambda z: Normal(z + shift, 1.0)), num_particles=4)
    state = engine.init({"x": torch.zeros(4)}, seed=0)
    learner = Learner(engine, torch.optim.SGD([shift], 0.1), state, ParticleStore.like(state, 10))
    with pytest.raises(ClampError, match=words):
        learner.step({"x": torch.zeros(len(indices))}, indices, {})


def test_supports_without_coordinates_are_refused():
    model = pair(lambda: Wishart(tensor(4.0), torch.eye(2)), lambda z: Normal(z[..., 0, 0], 1.0))
    with warnings.catch_warnings(), pytest.raises(ModelError, match="no unconstrained coordinates"):
        warnings.simplefilter("ignore")
        DCPC(model).init({"x": torch.zeros(2)})


def test_a_mixture_of_bounded_components_lives_on_their_hull():
    """Uniform on (0, 1) or (1, 2), seen without noise to speak of on either side of 1."""

    def ends():
        return Uniform(tensor([0.0, 1.0]), tensor([1.0, 2.0]))

    model = pair(
        lambda: MixtureSameFamily(Categorical(torch.ones(2)), ends()), lambda z: Normal(z, 0.1)
    )
    z = posterior(model, tensor([1.0]))
    assert near(z, 1.0, 0.1) and bool((z > 1).any()) and bool((z < 1).any())


class Unscored(Distribution):
    """Draws zeros and has no density."""

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real

    def expand(self, batch_shape, _instance=None):
        return Unscored(torch.Size(batch_shape), validate_args=False)

    def sample(self, sample_shape=()):
        return torch.zeros(self.batch_shape)


ROOTS = [
    lambda: None,
    lambda: 3,
    lambda: torch.zeros(3),
    lambda: Normal,
    lambda a: Normal(a, 1.0),
    lambda: Normal(0.0, -1.0),
    lambda: Normal(torch.zeros(3), 1.0),
    lambda: Gamma(-1.0, 1.0),
    lambda: Categorical(torch.zeros(3)),
    lambda: Uniform(1.0, 0.0),
    lambda: Bernoulli(tensor(2.0)),
    lambda: Unscored(validate_args=False),
    lambda: 1 / 0,
]
KERNELS = [
    lambda z: None,
    lambda z: z,
    lambda: Normal(0.0, 1.0),
    lambda z: Normal(z.item(), 1.0),
    lambda z: Normal(z @ torch.ones(7, 2), 1.0),
    lambda z: Normal(z[..., 5], 1.0),
    lambda z: Normal(z.numpy(), 1.0),
    lambda z: Normal(z.long(), 1.0),
    lambda z: Independent(Normal(z, 1.0), 3),
    lambda z: Normal(torch.ones(5), 1.0),
    lambda z: Poisson(z),
    lambda z: Unscored(z.shape, validate_args=False),
]


@pytest.mark.parametrize("seed", range(12))
def test_malformed_models_are_told_in_one_sentence(seed):
    """Every root with a sound kernel, every kernel with a sound root, and crossed: sweeps, or one sentence."""
    root = ROOTS[seed % len(ROOTS)]
    cases = [(root, k) for k in KERNELS] + [(lambda: Normal(0.0, 1.0), KERNELS[seed])]
    for first, kernel in cases:
        try:
            engine = DCPC(pair(first, kernel), num_particles=4)
            state, _ = engine.run(engine.init({"x": torch.zeros(2)}, seed=0), 2)
            engine.predict(state)
        except InferenceError as error:
            assert str(error).startswith("site ") and len(str(error)) < 600
