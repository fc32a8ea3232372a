"""The checker's statistics by their definitions, and each of its thresholds from both sides."""

import pytest
import torch
from torch.distributions import Categorical, Gamma, Independent, Normal, Uniform

from aif_dcpc.inference import DCPC, GraphicalModel, every, lag
from aif_dcpc.inference.checks import check_model as checking
from aif_dcpc.inference.checks import geweke
from aif_dcpc.inference.checks.calibration import calibrate
from aif_dcpc.inference.checks.check_model import check_model
from aif_dcpc.inference.checks.geweke import (
    _bounded,
    _compare,
    _z,
    as_episodes,
    inputs_of,
    observed_of,
)
from aif_dcpc.inference.checks.joint_draws import cloud_at


class Bent(torch.autograd.Function):
    """The identity with a gradient of `slope`."""

    @staticmethod
    def forward(ctx, x, slope):
        ctx.slope = slope
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return ctx.slope * grad, None


def child(kernel, size=None):
    model = GraphicalModel()
    zero = torch.zeros(()) if size is None else torch.zeros(size)
    model.add_site("z", lambda: Independent(Normal(zero, 1.0), zero.ndim))
    model.add_site("x", kernel, ["z"])
    return model


def faults(model, **options):
    return check_model(model, replicates=0, **options)


@pytest.mark.parametrize(
    ("slope", "found"), [(1.0, False), (1.01, False), (1.2, True), (0.5, True)]
)
def test_gradients_are_compared_with_slopes(slope, found):
    """A gradient that is off by less than a twentieth could be the fault of single precision."""
    model = child(lambda z: Normal(Bent.apply(100 * z, slope), 1.0))
    assert (len(faults(model)) == 1) == found


def test_a_gradient_wrong_at_few_entries_is_a_kink():
    """One coordinate of eight in which a fifth of the draws lie beyond a kink between the two points is no fault."""
    assert faults(child(lambda z: Normal(z.abs(), 1.0))) == ()
    assert faults(child(lambda z: Normal(torch.relu(z), 1.0), 8)) == ()


def test_kernels_in_single_precision_are_checked_with_longer_steps():
    # float32 whatever is asked for
    weight = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    assert faults(child(lambda z: Normal(z @ weight, 1.0), 3)) == ()
    wrong = faults(child(lambda z: Normal(Bent.apply(z @ weight, 0.0), 1.0), 3))
    assert len(wrong) == 1 and "site 'x'" in wrong[0]


@pytest.mark.parametrize(("leak", "found"), [(1e-5, False), (1e-2, True)])
def test_entries_are_compared_with_themselves_alone(leak, found):
    model = child(lambda z: Normal(z + leak * z.mean(1, keepdim=True), 0.1))
    assert any("changes with the other" in fault for fault in faults(model)) == found


def test_a_kernel_that_needs_many_data_is_found():
    def kernel(z):
        if z.shape[1] == 1:
            raise RuntimeError("too few")
        return Normal(z, 1.0)

    assert "one particle of one datum alone: RuntimeError: too few" in faults(child(kernel))[0]


def test_densities_that_are_not_finite_are_found():
    class Nowhere(Normal):
        def log_prob(self, value):
            return super().log_prob(value) - torch.inf

    assert "not finite" in faults(child(lambda z: Nowhere(z, 1.0)))[0]


def test_time_and_data_sizes_come_from_the_data():
    model = GraphicalModel()
    model.add_input("u")
    model.add_site("g", lambda: Normal(0.0, 1.0), scope="global")
    model.add_site("slow", lambda: Normal(0.0, 1.0), scope=every(2))
    model.add_site(
        "s", lambda s, u, w, g: Normal(s + u + w + g, 1.0), [lag("s"), "u", "slow", "g"],
        initial=lambda u, w, g: Normal(u + w + g, 1.0), scope="slice",
    )  # fmt: skip
    state = checking._cloud(model, {"u": torch.zeros(2, 7)}, 0)
    assert (state.num_particles, state.batch_size, state.length) == (3, 2, 7)
    assert faults(model, data={"u": torch.zeros(2, 7)}) == ()
    timeless = checking._cloud(child(lambda z: Normal(z, 1.0)), None, 0)
    assert (timeless.batch_size, timeless.length) == (4, 0)
    episodes = as_episodes(model)
    assert episodes.sites["g"].scope == "episode" and episodes.sites["slow"].scope == every(2)
    assert model.sites["g"].scope == "global"


def test_models_that_cannot_be_sampled_say_why():
    model = GraphicalModel()
    model.add_input("u", scope="episode")
    assert "cannot be sampled from" in check_model(model)[0]


# -- Geweke's test ---------------------------------------------------------------------------------


def test_two_sample_scores():
    first = torch.tensor([[0.0, 1], [2, 1], [4, 1]]).double()
    second = torch.tensor([[3.0, 1], [5, 1]]).double()
    assert _z(first, second)[0].item() == pytest.approx(2 / (4 / 3 + 2 / 2) ** 0.5)
    assert _z(first, second)[1].item() == 0


def test_values_are_squashed_by_median_and_mean_deviation():
    reference = torch.tensor([0.0, 1, 2, 3, 10]).reshape(1, 5, 1)
    values = torch.tensor([2.0, 5, -1, 100, 2]).reshape(1, 5, 1)
    expected = torch.tanh((values[0].double() - 2) / ((2 + 1 + 0 + 1 + 8) / 5))
    assert torch.allclose(_bounded(reference, values), expected)
    wide = torch.randn(1, 5, 3, 7)
    assert _bounded(wide, wide).shape == (5, geweke.MAX_ELEMENTS) == (5, 16)


def chain():
    model = GraphicalModel()
    model.add_site("a", lambda: Normal(0.0, 1.0))
    model.add_site("b", lambda a: Normal(a, 1.0), ["a"])
    return model


def draws(seed, correlation=0.5**0.5, size=20_000):
    generator = torch.Generator().manual_seed(seed)
    a, noise = torch.randn(2, 1, size, generator=generator)
    return {"a": a, "b": 2**0.5 * (correlation * a + (1 - correlation**2) ** 0.5 * noise)}


def test_changes_of_mean_spread_and_product_are_told_apart():
    fresh = draws(0)
    assert _compare(chain(), fresh, draws(1)) == []
    other = draws(1)
    shifted = _compare(chain(), fresh, {**other, "a": other["a"] + 0.2})
    assert any("'a'" in sentence and "its mean" in sentence for sentence in shifted)
    wider = _compare(chain(), fresh, {**other, "a": other["a"] * 1.3})
    assert any("'a'" in sentence and "its spread" in sentence for sentence in wider)
    turned = _compare(chain(), fresh, draws(1, correlation=-(0.5**0.5)))
    assert len(turned) == 1 and "'b'" in turned[0] and "its product with 'a'" in turned[0]


def test_the_limit_is_that_of_the_declared_false_alarm():
    """Five scores share a chance of 1e-5: |z| above 4.89 (two-sided 2e-6)."""
    sentence = _compare(chain(), draws(0), {**draws(1), "a": draws(1)["a"] + 0.5})[0]
    assert "limit 4.8" in sentence


def test_what_is_clamped_in_the_test():
    model = chain()
    assert observed_of(model, None) == ("b",) and observed_of(model, {"a": torch.zeros(2)}) == (
        "a",
    )
    series = GraphicalModel()
    series.add_input("u")
    series.add_site("o", lambda u: Normal(u, 1.0), ["u"], scope="slice")
    inputs, length = inputs_of(series, {"u": torch.arange(6.0).reshape(2, 3)}, 5)
    assert length == 3 and inputs["u"][:, 0].tolist() == [0, 3, 0, 3, 0]
    assert inputs_of(model, None, 5) == ({}, None) and inputs_of(series, None, 5) == ({}, 5)


def test_replicates_start_at_the_given_draws():
    engine = DCPC(chain(), num_particles=1)
    drawn = engine.init(batch_size=6, seed=0).natural
    state = cloud_at(engine.factor_graph, drawn, ("b",), engine.generator)
    assert torch.equal(state.values["a"], drawn["a"]) and torch.equal(state.values["b"], drawn["b"])
    assert state.conditioning.latent == ("a",)


def test_models_without_latents_have_nothing_to_sweep():
    model = GraphicalModel()
    model.add_site("x", lambda: Normal(0.0, 1.0))
    assert check_model(model, replicates=50) == ()


def test_a_wrong_conditional_is_found():
    model = GraphicalModel()
    model.add_site("c", lambda: Categorical(torch.tensor([0.3, 0.7])))
    model.add_site("x", lambda c: Normal(2.0 * c, 1.0), ["c"])
    model.add_conditional(("c",), lambda values, generator: {"c": torch.ones_like(values["c"])})
    found = check_model(model, replicates=2000)
    assert found and "'c'" in found[0]


# -- data with bounds that depend on latents -------------------------------------------------------


def below_a_latent():
    """z ~ Gamma(2, 1), x ~ Uniform(0, z): z - x ~ Exponential(1) given x."""
    model = GraphicalModel()
    model.add_site("z", lambda: Gamma(2.0, 1.0))
    model.add_site("x", lambda z: Uniform(torch.zeros_like(z), z), ["z"])
    return model


def above(rate):
    """An exact draw of z for a rate of 1."""

    def draw(values, generator):
        noise = torch.rand(values["z"].shape, generator=generator)
        return {"z": values["x"] - noise.log() / rate}

    return draw


@pytest.mark.parametrize("x", [None, 0.1, 30.0])
def test_sound_models_with_bounds_of_data_that_depend_on_latents_pass(x):
    """Geweke's joint test, one false alarm in 1e5 seeds."""
    data = None if x is None else {"x": torch.full((4,), x)}
    assert check_model(below_a_latent(), data, replicates=1000) == ()


@pytest.mark.parametrize(("rate", "is_sound"), [(1.0, True), (3.0, False)])
def test_such_models_are_judged_by_their_conditionals(rate, is_sound):
    """False alarms: one in 1e5 seeds for the joint test, one in 1e4 for the ranks."""
    model = below_a_latent()
    model.add_conditional(("z",), above(rate))
    assert (check_model(model, replicates=2000) == ()) == is_sound
    assert (calibrate(model, num_sweeps=3).faults == ()) == is_sound


def test_ranks_of_such_models_are_even():
    """One false alarm in 1e4 seeds."""
    assert calibrate(below_a_latent(), num_data_sets=200, num_sweeps=100).faults == ()
