"""Imagined futures against closed forms and enumeration; 5 standard errors at fixed seeds (see `clouds.close`)."""

import itertools
import math

import pytest
import torch
from clouds import close
from torch.distributions import Categorical, Independent, Normal

from aif_dcpc.inference import DCPC, ClampError, GraphicalModel, every, lag

K = 4000
A = torch.tensor([[0.9, 0.2], [-0.1, 0.8]])
B = torch.tensor([[1.0], [0.5]])


def linear_model():
    """s' = A s + B u + noise, o = s + noise: two dimensions, one action."""
    model = GraphicalModel()
    model.add_input("u")
    model.add_site(
        "s",
        lambda s, u: Independent(Normal(s @ A.T + u @ B.T, 0.3), 1),
        parents=[lag("s"), lag("u")],
        initial=lambda: Independent(Normal(torch.zeros(2), 1.0), 1),
        scope="slice",
    )
    model.add_site("o", lambda s: Independent(Normal(s, 0.5), 1), parents=["s"], scope="slice")
    return model


def kalman_prediction(actions, *, slices):
    """Mean and variance of every o that follows `slices` slices without data, whose actions are 0."""
    mean = torch.zeros(2)
    covariance = torch.eye(2)
    found = []
    for t, u in enumerate([torch.zeros(1)] * (slices - 1) + list(actions)):
        mean = A @ mean + B @ u
        covariance = A @ covariance @ A.T + 0.09 * torch.eye(2)
        if t >= slices - 1:
            found.append((mean, covariance.diagonal() + 0.25))
    return found


def test_futures_are_kalmans_and_the_forecasts():
    engine = DCPC(linear_model(), num_particles=K)
    state = engine.init({"u": torch.zeros(1, 3, 1)}, seed=0)  # its particles are draws of the prior
    actions = torch.tensor([[0.0, 1.0, -1.0, 2.0], [2.0, 2.0, 0.5, 0.0], [-1.0, 0.0, 0.0, 0.0]])
    found = engine.imagine(state, {"u": actions[..., None]}, ["o", "s"])
    assert found["o"].shape == (K, 3, 4, 2)
    for n, chosen in enumerate(actions):
        expected = kalman_prediction(chosen[:, None], slices=3)
        forecast = engine.forecast(
            state.set_input("u", chosen[:1, None]),
            {"u": torch.cat([chosen[1:], torch.zeros(1)])[None, :, None]},
        )
        for h, (mean, variance) in enumerate(expected):
            for d in range(2):
                assert close(found["o"][:, n, h, d], mean[d], variance[d])
                assert close(forecast["o"][:, 0, h, d], mean[d], variance[d])


def test_candidates_share_their_random_numbers():
    """In a linear model two candidates differ by what their actions do, and by nothing else."""
    engine = DCPC(linear_model(), num_particles=50)
    state = engine.init({"u": torch.zeros(1, 3, 1)}, seed=0)
    actions = torch.randn(2, 5, 1, generator=torch.Generator().manual_seed(1))
    found = engine.imagine(state, {"u": actions})["o"]
    gap = torch.zeros(2)
    for h, u in enumerate(actions[1] - actions[0]):
        gap = A @ gap + B @ u
        assert torch.allclose(found[:, 1, h] - found[:, 0, h], gap.expand(50, 2), atol=1e-5)
    apart = [engine.imagine(state, {"u": u[None]})["o"] for u in actions]
    assert (apart[1] - apart[0]).std(0).min() > 0.3
    spread = found[:, 0].std(0)
    assert spread.min() > 0.3  # particles differ, and so do slices
    assert not torch.allclose(found[:, 0, 0] - found[:, 0, 0].mean(0), found[:, 0, 1])


def test_the_same_seed_gives_the_same_numbers_to_any_number_of_candidates():
    engine = DCPC(linear_model(), num_particles=5)
    state = engine.init({"u": torch.zeros(1, 3, 1)}, seed=0)
    actions = torch.randn(7, 4, 1, generator=torch.Generator().manual_seed(1))
    many = engine.imagine(state, {"u": actions}, generator=torch.Generator().manual_seed(3))["o"]
    last = engine.imagine(
        state.last(), {"u": actions[5:]}, generator=torch.Generator().manual_seed(3)
    )["o"]
    assert torch.allclose(many[:, 5:], last, atol=1e-6)


MOVES = torch.tensor([[[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.0, 0.5, 0.5]], torch.eye(3).tolist()])
SEEN = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.0, 1.0]])
START = torch.tensor([0.2, 0.3, 0.5])


def finite_model():
    """Three states, two actions (the second stays), two outcomes."""
    model = GraphicalModel()
    model.add_input("u")
    model.add_site(
        "s",
        lambda s, u: Categorical(MOVES[u.long(), s.long()]),
        parents=[lag("s"), lag("u")],
        initial=lambda: Categorical(START),
        scope="slice",
    )
    model.add_site("o", lambda s: Categorical(SEEN[s.long()]), parents=["s"], scope="slice")
    return model


def test_finite_futures_are_enumerated():
    """Frequencies of outcome sequences, against sums over all paths; binomial standard errors."""
    engine = DCPC(finite_model(), num_particles=20_000)
    state = engine.init({"u": torch.zeros(1, 1)}, length=1, seed=0)
    actions = torch.tensor([[0, 1, 0], [1, 0, 0]])
    found = engine.imagine(state, {"u": actions.float()}, ["o"], log_prob=["o"])
    for n, chosen in enumerate(actions):
        for outcomes in itertools.product(range(2), repeat=3):
            belief = START.clone()
            for u, o in zip(chosen, outcomes, strict=True):
                belief = (belief @ MOVES[u]) * SEEN[:, o]
            p = float(belief.sum())
            share = float((found["o"][:, n] == torch.tensor(outcomes)).all(-1).double().mean())
            assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / 20_000) + 1e-9
    alike = (found["o"][:, 0] == found["o"][:, 1]).float().mean()
    assert alike > 0.7  # independent draws of these laws agree in about half
    assert torch.isfinite(found["log_prob/o"]).all()


def intricate_model():
    """Two lags, a slow site, a global one, a deterministic one, and a second input; hardly any noise."""
    sd = 1e-6
    model = GraphicalModel()
    model.add_input("u")
    model.add_input("wind")
    model.add_site("rate", lambda: Normal(0.5, 0.1), scope="global")
    model.add_site("offset", lambda: Normal(1.0, 0.3))
    model.add_site(
        "slow",
        lambda slow, offset: Normal(slow + offset, sd),
        parents=[lag("slow"), "offset"],
        initial=lambda offset: Normal(offset, sd),
        scope=every(3),
    )
    model.add_site(
        "s",
        lambda far, near, u, slow, rate, wind: Normal(rate * far - near + u + slow + wind, sd),
        parents=[lag("s", 2), lag("s"), lag("u"), "slow", "rate", "wind"],
        initial=lambda slow, rate, wind: Normal(slow + rate + wind, sd),
        scope="slice",
    )
    model.add_deterministic("double", lambda s, slow: 2 * s + slow, ["s", "slow"], scope="slice")
    model.add_site("o", lambda double: Normal(double, sd), parents=["double"], scope="slice")
    return model


@pytest.mark.parametrize("length", [1, 2, 7, 9])
@pytest.mark.parametrize("data", [1, 2])
def test_lags_periods_globals_and_deterministic_sites(length, data):
    """Followed by hand from each particle; T = 1 and 2 still stand on the initial kernel."""
    engine = DCPC(intricate_model(), num_particles=3)
    generator = torch.Generator().manual_seed(2)
    given = {n: torch.randn(data, length, generator=generator) for n in ("u", "wind")}
    given["o"] = torch.randn(data, length, generator=generator)
    seen = torch.rand(data, length, generator=generator) < 0.5
    seen[:, 0] = True
    state = engine.init(given, masks={"o": seen}, seed=0)
    actions = torch.randn(data, 4, 5, generator=generator)
    wind = torch.randn(data, 5, generator=generator)
    one = data == 1
    found = engine.imagine(
        state,
        {"u": actions[0] if one else actions},
        ["o", "double", "slow", "s", "rate", "offset"],
        inputs={"wind": wind[0] if one else wind},
    )
    found = {n: x.unsqueeze(1) if one else x for n, x in found.items()}
    assert all(x.shape == (3, data, 4, 5) for x in found.values())
    p = state.particles
    for k, b, n in itertools.product(range(3), range(data), range(4)):
        rate = p["rate"][k, 0]
        offset = p["offset"][k, b]
        s = list(p["s"][k, b])
        slow = list(p["slow"][k, b])
        u = [*given["u"][b, :-1], *actions[b, n]]
        blows = [*given["wind"][b], *wind[b]]
        for h in range(5):
            t = length + h
            if t % 3 == 0:
                slow.append(slow[-1] + offset if slow else offset)
            usual = rate * s[t - 2] - s[t - 1] + u[t - 1] if t >= 2 else rate
            s.append(usual + slow[t // 3] + blows[t])
            for name, expected in {
                "s": s[t],
                "slow": slow[t // 3],
                "double": 2 * s[t] + slow[t // 3],
                "o": 2 * s[t] + slow[t // 3],
                "rate": rate,
                "offset": offset,
            }.items():
                assert found[name][k, b, n, h] == pytest.approx(float(expected), abs=1e-2), name


def test_log_densities_are_those_of_the_kernels():
    engine = DCPC(linear_model(), num_particles=6)
    state = engine.init({"u": torch.zeros(1, 3, 1)}, seed=0)
    actions = torch.randn(2, 5, 1, generator=torch.Generator().manual_seed(1))
    found = engine.imagine(state, {"u": actions}, ["s", "o"], log_prob=["o"], cross_log_prob=["o"])
    own = Normal(found["s"], 0.5).log_prob(found["o"]).sum(-1)
    assert torch.allclose(found["log_prob/o"], own, atol=1e-5)
    crossed = Normal(found["s"][None], 0.5).log_prob(found["o"][:, None]).sum(-1)
    assert torch.allclose(found["cross_log_prob/o"], crossed, atol=1e-4)


def test_log_densities_of_a_slow_site_stand_where_its_values_begin():
    engine = DCPC(intricate_model(), num_particles=3)
    given = {"u": torch.zeros(1, 4), "wind": torch.zeros(1, 4)}
    state = engine.init(given, seed=0)
    found = engine.imagine(state, {"u": torch.zeros(2, 6)}, ["slow"], log_prob=["slow"])
    begins = torch.tensor([False, False, True, False, False, True])  # slices 6 and 9
    assert (found["log_prob/slow"][..., ~begins] == 0).all()
    assert (found["log_prob/slow"][..., begins] != 0).all()


def test_log_densities_of_a_slow_site_are_zero_where_no_value_begins():
    engine = DCPC(intricate_model(), num_particles=3)
    state = engine.init({"u": torch.zeros(1, 4), "wind": torch.zeros(1, 4)}, seed=0)
    names = {"log_prob": ["slow"], "cross_log_prob": ["slow"]}
    found = engine.imagine(state, {"u": torch.zeros(5, 2)}, ["slow"], **names)
    assert torch.equal(found["log_prob/slow"], torch.zeros(3, 5, 2))
    assert torch.equal(found["cross_log_prob/slow"], torch.zeros(3, 3, 5, 2))


# -- the action of the last slice ------------------------------------------------------------------


def test_an_action_is_set_without_anything_being_evaluated_again():
    engine = DCPC(linear_model(), num_particles=4)
    data = {"u": torch.zeros(1, 3, 1), "o": torch.randn(1, 3, 2)}
    state, _ = engine.sweep(engine.init(data, seed=0))
    chosen = state.set_input("u", torch.tensor([[2.0]]))
    assert chosen.values["u"][0, 0].flatten().tolist() == [0.0, 0.0, 2.0]
    assert set(chosen.cache) == set(state.cache) != set()
    right = engine.log_joint(chosen.replace(cache={}))
    assert torch.allclose(engine.log_joint(chosen), right)
    grown = engine.append(chosen, {"u": torch.zeros(1, 1), "o": torch.zeros(1, 2)})
    ahead = grown.values["s"][:, 0, -1] - grown.values["s"][:, 0, -2] @ A.T
    assert (ahead.mean(0) - 2 * B[:, 0]).abs().max() < 5 * 0.3 / 2


def test_what_reads_an_input_in_its_own_slice_is_evaluated_again():
    model = GraphicalModel()
    model.add_input("u")
    model.add_site("s", lambda u: Normal(u, 1.0), parents=["u"], scope="slice")
    model.add_site("o", lambda s: Normal(s, 1.0), parents=["s"], scope="slice")
    engine = DCPC(model, num_particles=4)
    state, _ = engine.sweep(engine.init({"u": torch.zeros(1, 3), "o": torch.zeros(1, 3)}, seed=0))
    chosen = state.set_input("u", torch.tensor([5.0]))
    assert set(state.cache) - set(chosen.cache) == {"s"}
    assert torch.allclose(engine.log_joint(chosen), engine.log_joint(chosen.replace(cache={})))
    with pytest.raises(ClampError, match="site 's' reads action 'u' within its own slice"):
        engine.imagine(chosen, {"u": torch.zeros(2, 2)})


def test_the_last_slices_are_those_that_a_new_one_reads():
    engine = DCPC(intricate_model(), num_particles=3)
    given = {"u": torch.randn(1, 30), "wind": torch.zeros(1, 30)}
    state = engine.init(given, seed=0)
    last = state.last()
    assert last.length < 12 and (30 - last.length) % 3 == 0
    assert torch.equal(last.values["s"], state.values["s"][:, :, -last.length :])
    assert last.last() is last
    assert torch.equal(last.values["rate"], state.values["rate"])


# -- what cannot be imagined -----------------------------------------------------------------------


def test_each_refusal_is_one_sentence():
    engine = DCPC(linear_model(), num_particles=2)
    state = engine.init({"u": torch.zeros(1, 3, 1)}, seed=0)
    actions = {"u": torch.zeros(2, 4, 1)}
    for match, given, options in (
        ("unknown input with a value a slice 'v'", {"v": torch.zeros(2, 4, 1)}, {}),
        ("unknown input with a value a slice 's'", {"s": torch.zeros(2, 4, 2)}, {}),
        ("no actions", {}, {}),
        ("expected a tensor", {"u": [0.0]}, {}),
        (r"expected shape \(2, 4, 1\), found \(2, 4\)", {"u": torch.zeros(2, 4)}, {}),
        (r"expected actions \(N, H, \*event\)", {"u": torch.zeros(2, 0, 1)}, {}),
        (r"expected actions \(N, H, \*event\)", {"u": torch.zeros(2)}, {}),
        ("unknown site 'oo'", actions, {"sites": ["oo"]}),
        ("site 'u' reads action 'u' within its own slice", actions, {"sites": ["u"]}),
        ("log_prob: unknown drawn site 'u'", actions, {"log_prob": ["u"]}),
        ("log_prob: unknown drawn site 'x'", actions, {"cross_log_prob": ["x"]}),
        ("unknown input 'w'", actions, {"inputs": {"w": torch.zeros(4)}}),
    ):
        with pytest.raises(ClampError, match=match):
            engine.imagine(state, given, **options)
    with pytest.raises(ClampError, match="unknown input with a value a slice 'o'"):
        state.set_input("o", torch.zeros(1, 2))
    with pytest.raises(ClampError, match=r"input 'u': expected shape \(1, 1\), found \(1,\)"):
        state.set_input("u", torch.zeros(1))


def test_models_without_time_and_whole_numbers_are_refused():
    model = GraphicalModel()
    model.add_input("u", scope="episode")
    model.add_site("z", lambda u: Normal(u, 1.0), parents=["u"])
    engine = DCPC(model, num_particles=2)
    with pytest.raises(ClampError, match="has no time"):
        engine.imagine(engine.init({"u": torch.zeros(1)}, seed=0), {"u": torch.zeros(2, 3)})
    engine = DCPC(finite_model(), num_particles=2)
    state = engine.init({"u": torch.zeros(1, 2, dtype=torch.long)}, seed=0)
    with pytest.raises(ClampError, match="expected whole numbers"):
        state.set_input("u", torch.tensor([0.5]))
    assert engine.imagine(state, {"u": torch.ones(2, 3, dtype=torch.int32)})["o"].shape == (2, 2, 3)


def test_sites_that_are_set_need_a_future():
    engine = DCPC(linear_model(), num_particles=2)
    data = {"u": torch.zeros(1, 3, 1)}
    state = engine.init(data, do={"s": torch.zeros(1, 3, 2)}, seed=0)
    actions = {"u": torch.zeros(2, 4, 1)}
    with pytest.raises(ClampError, match="site 's' is set by do="):
        engine.imagine(state, actions)
    found = engine.imagine(state, actions, ["s"], inputs={"s": torch.ones(4, 2)})
    assert (found["s"] == 1).all()
