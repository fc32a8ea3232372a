"""Factors against automatic differentiation of one log joint, written down by hand: every scope, lag and mask at once."""

import pytest
import torch
from torch.distributions import Beta, Gamma, Normal

from aif_dcpc.inference import DCPC, GraphicalModel, every, lag
from aif_dcpc.inference.model.densities import (
    active_factors,
    evaluate,
    factors_of,
    fill_cache,
    is_continuous,
    log_joint,
    merge,
    prediction_error,
)

K = 3
B = 2
T = 5  # the last period of two slices is cut short


def normal(mean, scale=1.0):
    return Normal(mean, torch.full_like(mean, scale))


def model():
    """Every scope: global, episode, periods of four and of two, slices with lags 1 and 2, a positive and a [0, 1] site."""
    made = GraphicalModel()
    made.add_site("g", lambda: Normal(torch.zeros(2), 1.0), scope="global")
    made.add_site("rate", lambda: Gamma(torch.tensor(2.0), torch.tensor(1.5)))
    made.add_site("slow", lambda g: normal(g.sum(-1), 0.8), ["g"], scope=every(4))
    made.add_site(
        "mid",
        lambda m, s: normal(0.5 * m + s),
        [lag("mid"), "slow"],
        initial=lambda s: normal(s, 2.0),
        scope=every(2),
    )
    made.add_site(
        "fast",
        lambda one, two, m: normal(one - 0.3 * two * m),
        [lag("fast"), lag("fast", 2), "mid"],
        initial=lambda m: normal(m, 1.5),
        scope="slice",
    )
    made.add_deterministic("sum", lambda f, m: f + m.square(), ["fast", "mid"], scope="slice")
    made.add_deterministic("square", lambda f: f.square(), ["fast"], scope="slice")
    made.add_site("share", lambda: Beta(torch.tensor(2.0), torch.tensor(3.0)), scope="slice")
    made.add_site("o", lambda s, r, p: Normal(s * p, r), ["sum", "rate", "share"], scope="slice")
    made.add_site(
        "later",
        lambda s: normal(s),
        [lag("square")],
        initial=lambda: Normal(0.0, 1.0),
        scope="slice",
    )
    return made


def by_hand(v, shown):
    """log p of values in their own support, `(K, B)`; the densities of `rate` and `share` have their Jacobians."""
    rate = v["rate"].exp()
    share = torch.sigmoid(v["share"])
    slow = v["slow"]
    mid = v["mid"]
    fast = v["fast"]
    total = Normal(0.0, 1.0).log_prob(v["g"]).sum(-1).expand(K, B)
    total = total + Gamma(2.0, 1.5).log_prob(rate) + v["rate"]
    total = total + Normal(v["g"].sum(-1, keepdim=True), 0.8).log_prob(slow).sum(-1)
    of_mid = slow[:, :, torch.arange(3) // 2]
    total = total + Normal(of_mid[..., 0], 2.0).log_prob(mid[..., 0])
    total = total + Normal(0.5 * mid[..., :-1] + of_mid[..., 1:], 1.0).log_prob(mid[..., 1:]).sum(
        -1
    )
    of_fast = mid[:, :, torch.arange(T) // 2]
    total = total + Normal(of_fast[..., :2], 1.5).log_prob(fast[..., :2]).sum(-1)
    mean = fast[..., 1:-1] - 0.3 * fast[..., :-2] * of_fast[..., 2:]
    total = total + Normal(mean, 1.0).log_prob(fast[..., 2:]).sum(-1)
    total = total + (Beta(2.0, 3.0).log_prob(share) + (share * (1 - share)).log()).sum(-1)
    sums = fast + of_fast.square()
    of_o = Normal(sums * share, rate[..., None]).log_prob(v["o"])
    total = total + torch.where(shown, of_o, torch.zeros(())).sum(-1)
    return (
        total
        + Normal(0.0, 1.0).log_prob(v["later"][..., 0])
        + Normal(fast[..., :-1].square(), 1.0).log_prob(v["later"][..., 1:]).sum(-1)
    )


@pytest.fixture
def state():
    torch.manual_seed(0)
    shown = torch.tensor([[True, False, True, True, True], [True] * 5])
    data = {"o": torch.randn(B, T), "later": torch.randn(B, T)}
    return DCPC(model().double(), num_particles=K).init(data, masks={"o": shown}, seed=0)


def doubled(state):
    return state.replace(
        values={n: v.double() for n, v in state.values.items()},
        log_weights=state.log_weights.double(),
    )


def test_the_log_joint_is_the_sum_of_all_densities(state):
    assert torch.allclose(log_joint(state), by_hand(state.values, state.masks["o"][0]), atol=1e-4)
    cached = fill_cache(state, state.conditioning.latent)
    # reads no latent
    assert set(cached.cache) == {f.key for f in state.conditioning.factor_graph.factors} - {
        "later@initial"
    }
    assert torch.allclose(log_joint(cached), log_joint(state), atol=1e-5)


def test_prediction_errors_are_the_gradients_of_the_log_joint(state):
    state = doubled(state)
    leaves = {n: v.clone().requires_grad_() for n, v in state.values.items()}
    gradients = torch.autograd.grad(
        by_hand(leaves, state.masks["o"][0]).sum(), [leaves[n] for n in state.conditioning.latent]
    )
    cached = fill_cache(state, state.conditioning.latent)
    for name, gradient in zip(state.conditioning.latent, gradients, strict=True):
        if name == "g":  # its own density stands in both rows of `by_hand`, and once in the model
            gradient = gradient + (B - 1) * state.values["g"]
        assert torch.allclose(prediction_error(cached, name, cached.cache), gradient, atol=1e-5)


def test_a_sites_factors_are_its_own_and_its_childrens(state):
    names = {name: {f.key for f in factors_of(state, name)} for name in state.conditioning.latent}
    assert names["g"] == {"g", "slow"}
    assert names["fast"] == {"fast@initial", "fast", "o", "later"}
    assert names["mid"] == {"mid@initial", "mid", "fast@initial", "fast", "o"}
    assert not is_continuous(state.conditioning, "o") and is_continuous(state.conditioning, "rate")


def test_series_too_short_for_a_lag_have_no_such_factor():
    short = DCPC(model(), num_particles=1).init(
        {"o": torch.zeros(1, 2), "later": torch.zeros(1, 2)}, seed=0
    )
    keys = {f.key for f in active_factors(short)}
    assert "fast" not in keys
    assert "mid" not in keys
    assert {"fast@initial", "later", "mid@initial"} <= keys


def test_values_are_merged_where_they_were_accepted(state):
    factor = next(f for f in active_factors(state) if f.key == "fast")
    old = evaluate(state, factor)
    moved = state.with_values({"fast": state.values["fast"] + 1, "mid": state.values["mid"] - 1})
    new = evaluate(moved, factor)
    accepted = torch.rand(K, B, T - 2, generator=torch.Generator().manual_seed(0)) < 0.5
    found = merge(state, factor, accepted, new, old)
    assert torch.equal(found.log_prob, torch.where(accepted, new.log_prob, old.log_prob))
    # towards the slower site scores cannot be kept by slice
    assert {argument.site for argument in found.scores} == {"fast"}
    for argument, score in found.scores.items():
        assert torch.equal(score, torch.where(accepted, new.scores[argument], old.scores[argument]))
