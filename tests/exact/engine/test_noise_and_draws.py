"""Exogenous noise, ancestor sampling and global random state against their definitions."""

import pytest
import torch
from torch import distributions as d

from aif_dcpc.inference import DCPC, GraphicalModel, ModelError, every, lag
from aif_dcpc.inference.model.ancestral import expand_to
from aif_dcpc.inference.model.isolation import no_validation, rng_from, rng_from_labels
from aif_dcpc.inference.queries.exogenous import from_noise, to_noise
from aif_dcpc.inference.smc.recent import merge_window, recent_slices

LOWER = torch.tensor([[1.0, 0.0], [0.5, 2.0]])
FAMILIES = {
    "normal": (d.Normal(1.0, 2.0), lambda n: 1 + 2 * n, d.Normal(0.0, 1.0)),
    "laplace": (d.Laplace(1.0, 2.0), lambda n: 1 + 2 * n, d.Laplace(0.0, 1.0)),
    "student": (d.StudentT(4.0, 1.0, 2.0), lambda n: 1 + 2 * n, d.StudentT(4.0)),
    "cauchy": (d.Cauchy(1.0, 2.0), lambda n: 1 + 2 * n, d.Cauchy(0.0, 1.0)),
    "log normal": (d.LogNormal(1.0, 2.0), lambda n: torch.exp(1 + 2 * n), d.Normal(0.0, 1.0)),
    "two transforms": (
        d.TransformedDistribution(
            d.Normal(0.0, 1.0), [d.AffineTransform(1.0, 3.0), d.SigmoidTransform()]
        ),
        lambda n: torch.sigmoid(1 + 3 * n),
        d.Normal(0.0, 1.0),
    ),
    "exponential": (d.Exponential(2.0), lambda u: -torch.log1p(-u) / 2, d.Uniform(0.0, 1.0)),
    "independent": (d.Independent(d.Normal(torch.ones(2), 2.0), 1), lambda n: 1 + 2 * n, None),
    "multivariate": (
        d.MultivariateNormal(torch.tensor([1.0, -1.0]), scale_tril=LOWER),
        lambda n: torch.tensor([1.0, -1.0]) + n @ LOWER.T,
        None,
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_noise_is_what_the_law_makes_the_value_of(name):
    law, make, own = FAMILIES[name]
    torch.manual_seed(0)
    noise = own.sample((50,)) if own is not None else torch.randn(50, 2)
    value = make(noise)
    assert torch.allclose(from_noise(law, noise, "x"), value, rtol=1e-4, atol=1e-5)
    assert torch.allclose(to_noise(law, value, "x"), noise, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("law", [d.Poisson(2.0), d.Bernoulli(0.5), d.Gamma(2.0, 1.0)])
def test_noise_that_cannot_be_inverted_is_refused(law):
    word = "not invertible" if isinstance(law, d.Gamma) else "discrete"
    for function in (to_noise, from_noise):
        with pytest.raises(ModelError, match=f"'x'.*{word}"):
            function(law, torch.tensor(0.5), "x")


# -- random state ----------------------------------------------------------------------------------


def test_seeded_draws_follow_the_generator_and_leave_the_global_one():
    def draws(seed):
        generator = torch.Generator().manual_seed(seed)
        found = []
        for _ in range(2):
            with rng_from(generator):
                found.append(torch.rand(3))
        return found

    before = torch.random.get_rng_state()
    first, second = draws(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(first, second) and not torch.equal(first, draws(2)[0])
    assert torch.equal(first, draws(1)[0])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with rng_from(None), rng_from_labels(None):
        assert torch.equal(torch.rand(3), expected)


def test_reproducible_draws_follow_seed_and_labels():
    def draw(seed, *labels):
        generator = torch.Generator().manual_seed(seed)
        torch.rand(4, generator=generator)  # where the generator stands does not matter
        with rng_from_labels(generator, *labels):
            return torch.rand(3)

    before = torch.random.get_rng_state()
    assert torch.equal(draw(1, "a", 2), draw(1, "a", 2))
    others = [draw(2, "a", 2), draw(1, "b", 2), draw(1, "a", 3)]
    assert not any(torch.equal(draw(1, "a", 2), other) for other in others)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_validation_is_off_for_the_duration():
    kept = d.Distribution._validate_args
    for setting in (True, False):
        d.Distribution.set_default_validate_args(setting)
        try:
            with pytest.raises(KeyError), no_validation():
                assert not d.Distribution._validate_args
                raise KeyError
            assert d.Distribution._validate_args is setting
        finally:
            d.Distribution.set_default_validate_args(kept)


def test_laws_are_given_their_leading_axes():
    assert expand_to(d.Normal(torch.zeros(4), 1.0), (3, 2), root=True).batch_shape == (3, 2, 4)
    assert expand_to(d.Normal(torch.zeros(()), 1.0), (3, 2), root=False).batch_shape == (3, 2)
    assert expand_to(d.Normal(torch.zeros(1, 2), 1.0), (3, 2), root=False).batch_shape == (3, 2)
    assert expand_to(d.Normal(torch.zeros(3, 1, 5), 1.0), (3, 2), root=False).batch_shape == (
        3,
        2,
        5,
    )


# -- ancestor sampling -----------------------------------------------------------------------------


def deterministic_series():
    """Laws so narrow that values follow from the first: s_0 = c, s_t = s_{t-1} + slow, every(2) slow = 10 + g."""
    model = GraphicalModel()
    model.add_site("g", lambda: d.Normal(3.0, 1e-6), scope="global")
    model.add_site("c", lambda g: d.Normal(g + 1, 1e-6), ["g"])
    model.add_site(
        "slow", lambda before, g: d.Normal(before + g, 1e-6), [lag("slow"), "g"],
        initial=lambda g: d.Normal(g + 10, 1e-6), scope=every(2),
    )  # fmt: skip
    model.add_site(
        "s",
        lambda s, w: d.Normal(s + w, 1e-6),
        [lag("s"), "slow"],
        initial=lambda w: d.Normal(w, 1e-6),
        scope="slice",
    )
    model.add_site("o", lambda s, c: d.Normal(s * c, 1e-6), ["s", "c"], scope="slice")
    return model


def test_sites_are_drawn_parents_first_slice_by_slice():
    engine = DCPC(deterministic_series(), num_particles=2)
    state = engine.init(batch_size=3, length=5, seed=0)
    assert {n: tuple(v.shape) for n, v in state.values.items()} == {
        "g": (2, 1), "c": (2, 3), "slow": (2, 3, 3), "s": (2, 3, 5), "o": (2, 3, 5)
    }  # fmt: skip
    slow = torch.tensor([13.0, 16, 19])
    s = torch.tensor([13.0, 26, 42, 58, 77])
    assert torch.allclose(state.values["c"], torch.tensor(4.0))
    assert torch.allclose(state.values["slow"], slow.expand(2, 3, 3), atol=1e-3)
    assert torch.allclose(state.values["s"], s.expand(2, 3, 5), atol=1e-3)
    assert torch.allclose(state.values["o"], 4 * s.expand(2, 3, 5), atol=1e-2)


def test_forecasts_go_on_from_the_last_slice():
    engine = DCPC(deterministic_series(), num_particles=2)
    state = engine.init(batch_size=3, length=5, seed=0)
    found = engine.forecast(state, length=3)
    assert set(found) == {"slow", "s", "o"}
    assert torch.allclose(found["slow"], torch.tensor([22.0]).expand(2, 3, 1), atol=1e-3)
    assert torch.allclose(found["s"], torch.tensor([96.0, 118, 140]).expand(2, 3, 3), atol=1e-3)


# -- recent slices ---------------------------------------------------------------------------------


def test_recent_slices_are_whole_periods_with_the_lag_held():
    engine = DCPC(deterministic_series(), num_particles=2)
    state = engine.init({"o": torch.randn(3, 11)}, seed=0)
    assert recent_slices(state, 11) is state and recent_slices(state, 10) is state
    part = recent_slices(state, 3)  # 11 - 3 - 2 (the lag of the slow site) = 6, a multiple of 2
    assert part.length == 5 and part.conditioning.latent == ("slow", "s")
    assert torch.equal(part.values["s"], state.values["s"][:, :, 6:])
    assert torch.equal(part.values["slow"], state.values["slow"][:, :, 3:])
    assert torch.equal(part.values["o"], state.values["o"][:, :, 6:])
    assert torch.equal(part.values["g"], state.values["g"])
    assert part.masks["s"][0, 0].tolist() == [True, False, False, False, False]
    assert part.masks["slow"][0, 0].tolist() == [True, False, False]
    assert recent_slices(state, 4).length == 7 and recent_slices(state, 2).length == 5
    changed = part.with_values({"s": part.values["s"] + 1}).replace(sweeps=7)
    whole = merge_window(state, changed)
    assert torch.equal(whole.values["s"][:, :, :6], state.values["s"][:, :, :6])
    assert whole.sweeps == 7
    assert torch.equal(whole.values["s"][:, :, 6:], state.values["s"][:, :, 6:] + 1)
    assert whole.length == 11
    assert merge_window(state, state.replace(sweeps=3)).sweeps == 3


@pytest.mark.parametrize("length", [10, 11, 12])
def test_the_present_value_of_a_slow_site_is_not_held(length):
    """The last value of a slow chain moves, however little of the series is swept."""
    model = GraphicalModel()
    model.add_site(
        "slow",
        lambda slow: d.Normal(slow, 1.0),
        [lag("slow")],
        initial=lambda: d.Normal(0.0, 1.0),
        scope=every(4),
    )
    model.add_site("o", lambda slow: d.Normal(slow, 1.0), ["slow"], scope="slice")
    engine = DCPC(model, num_particles=2)
    state = engine.init({"o": torch.zeros(1, length)}, seed=0)
    part = recent_slices(state, 1)
    assert part.masks["slow"][0, 0].tolist() == [True, False]
    moved, _ = engine.run(state, 20, recent=1)
    assert (moved.values["slow"] != state.values["slow"]).all(0)[0].tolist() == [False, False, True]


def test_what_is_shown_stays_held_in_recent_slices():
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda a, b: d.Normal(a - b, 1.0),
        [lag("s"), lag("s", 2)],
        initial=lambda: d.Normal(0.0, 1.0),
        scope="slice",
    )
    model.add_site("o", lambda s: d.Normal(s, 1.0), ["s"], scope="slice")
    shown = torch.tensor([[False] * 6 + [True, False]])
    engine = DCPC(model, num_particles=2)
    state = engine.init(
        {"s": torch.zeros(1, 8), "o": torch.zeros(1, 8)}, masks={"s": shown}, seed=0
    )
    part = recent_slices(state, 3)
    assert part.masks["s"][0, 0].tolist() == [True, True, False, True, False]
    moved, _ = engine.run(part, 1)
    assert (moved.values["s"] != part.values["s"]).all(0)[0].tolist()[:2] == [False, False]
