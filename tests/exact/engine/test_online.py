"""Series that grow slice by slice: exact posteriors of constants beside them, checks of data, flat cost."""

import math
import warnings

import pytest
import torch
from torch.distributions import LogNormal, Normal, Poisson, Uniform
from torch.utils._python_dispatch import TorchDispatchMode

from aif_dcpc.inference import DCPC, GraphicalModel, every, lag
from aif_dcpc.inference.errors import ClampError, ModelError
from aif_dcpc.inference.moves.adaptation import FOLLOWING, MOST_ROOTS, SiteAdaptation
from aif_dcpc.inference.queries.diagnostics import diagnose

STEP = 0.3


def drifting(scope="episode"):
    """A walk with an unknown drift, under noise of an unknown size."""
    model = GraphicalModel()
    model.add_site("drift", lambda: Normal(0.0, 0.5), scope=scope)
    model.add_site("noise", lambda: LogNormal(0.0, 0.7), scope=scope)
    model.add_site(
        "s",
        lambda s, drift: Normal(s + drift, STEP),
        parents=[lag("s"), "drift"],
        initial=lambda drift: Normal(0 * drift, 1.0),
        scope="slice",
    )
    model.add_site("o", lambda s, noise: Normal(s, noise), parents=["s", "noise"], scope="slice")
    return model


def walk(kernel=lambda s: Normal(s, 1.0)):
    model = GraphicalModel()
    model.add_site(
        "s",
        lambda s: Normal(0.9 * s, 0.5),
        parents=[lag("s")],
        initial=lambda: Normal(0.0, 1.0),
        scope="slice",
    )
    model.add_site("o", kernel, parents=["s"], scope="slice")
    return model


def draw_series(batch, length):
    """Observations `(B, T)` of walks with drift .1 under noise .5."""
    generator = torch.Generator().manual_seed(1)
    steps = 0.1 + STEP * torch.randn(batch, length, generator=generator)
    return steps.cumsum(1) + 0.5 * torch.randn(batch, length, generator=generator)


def exact_constants(data):
    """Mean and variance of both constants given `(B, T)`, by Kalman filters on a grid; `(2, B)` each."""
    drift = torch.linspace(-1.0, 1.2, 111, dtype=torch.float64)[:, None]
    log_noise = torch.linspace(-2.5, 1.0, 101, dtype=torch.float64)
    total = Normal(0.0, 0.5).log_prob(drift) + Normal(0.0, 0.7).log_prob(log_noise)
    total = total.expand(len(data), -1, -1)
    mean = torch.zeros_like(total)
    variance = torch.ones_like(total)
    for t in range(data.shape[1]):
        if t:
            mean = mean + drift
            variance = variance + STEP**2
        spread = variance + (2 * log_noise).exp()
        error = data[:, t, None, None].double() - mean
        total = total - 0.5 * error**2 / spread - 0.5 * spread.log()
        mean = mean + variance / spread * error
        variance = variance * (1 - variance / spread)
    weights = torch.softmax(total.flatten(1), 1).view_as(total)
    found = {}
    for name, value in {"drift": drift, "noise": log_noise.exp()}.items():
        first = (weights * value).sum((1, 2))
        second = (weights * value**2).sum((1, 2))
        found[name] = (first, second - first**2)
    return found


def test_constants_beside_a_growing_series_have_their_posterior():
    # Ten series at once, swept once after each slice and only near its end but for now and then.
    # 64 chains of 200 draws hold more than 1,500 independent ones: a mean errs by .026 sd, a sd by
    # 1.8 %; bounds are four and more of these for 20 means and 20 deviations (alarm once in 400).
    data = draw_series(10, 60)
    engine = DCPC(drifting(), num_particles=64)
    state = engine.init({"o": data[:, :5]}, seed=0)
    state, _ = engine.run(state, 60)
    for t in range(5, 60):
        state = engine.append(state, {"o": data[:, t]})
        state, _ = engine.run(state, 1, recent=16)
    state, _ = engine.run(state, 30, adapt=True)
    state, info = engine.run(state, 200, adapt=False, record=["drift", "noise"])
    for name, (mean, variance) in exact_constants(data).items():
        draws = info.trace[name].double()
        error = (draws.mean((0, 1)) - mean) / variance.sqrt()
        ratio = draws.var((0, 1)).sqrt() / variance.sqrt()
        assert error.abs().max() < 0.11, name
        assert (ratio - 1).abs().max() < 0.1, name


def test_moves_of_constants_follow_a_series_that_grows():
    # posteriors of two slices are ten times as wide as those of 200: steps learned there alone are
    # accepted at most once in ten times
    data = draw_series(1, 120)
    engine = DCPC(drifting("global"), num_particles=16, warmup=20)
    state = engine.init({"o": data[:, :2]}, seed=0)
    state, _ = engine.run(state, 40)
    for t in range(2, 120):
        state = engine.append(state, {"o": data[:, t]})
        state, _ = engine.run(state, 1)
    _, info = engine.run(state, 20, adapt=False)
    assert all(0.3 < rate < 0.98 for rate in info.acceptance.values()), info.acceptance


def test_windows_move_constants_when_the_series_has_grown_and_only_then():
    engine = DCPC(drifting("global"), num_particles=8, warmup=2)
    state = engine.init({"o": torch.zeros(1, 100)}, seed=0)
    state, _ = engine.run(state, 5, recent=10)  # the first call sweeps all
    moved = []
    for length in range(101, 107):
        state = engine.append(state, {"o": torch.zeros(1)})
        before = state
        state, _ = engine.run(state, 3, recent=10)
        past = torch.equal(before.values["s"][:, :, :80], state.values["s"][:, :, :80])
        constant = torch.equal(before.values["drift"], state.values["drift"])
        assert past == constant
        moved += [] if constant else [length]
    assert moved == [103, 106]


def test_beside_constants_a_series_learns_where_it_has_doubled_and_they_wherever_it_has_grown():
    """Two sweeps of a warm-up each: every slice of the first forty is a growth, and the fortieth a doubling."""
    engine = DCPC(drifting("global"), num_particles=8, warmup=2)
    state = engine.init({"o": torch.zeros(1, 20)}, seed=0)
    state, _ = engine.run(state, 5)
    learned = {"s": [], "drift": []}
    for length in range(21, 44):
        state = engine.append(state, {"o": torch.zeros(1)})
        before = {n: state.adaptation[n].updates for n in learned}
        state, _ = engine.run(state, 1, recent=10)
        for name, lengths in learned.items():
            lengths += [length] if state.adaptation[name].updates != before[name] else []
    assert learned["s"] == [40, 41]
    assert learned["drift"] == [*range(21, 42), 43]  # the 42nd is less than a fortieth more


def test_a_series_alone_learns_again_when_it_has_doubled():
    engine = DCPC(walk(), num_particles=4, warmup=1)
    state = engine.init({"o": torch.zeros(1, 2)}, seed=0)
    state, _ = engine.run(state, 3)
    learning = []
    for _ in range(7):
        state = engine.append(state, {"o": torch.zeros(1)})
        learning.append(engine.adapts(state))
        state, _ = engine.run(state, 1)
    assert learning == [False, True, False, False, False, True, False]  # at 4 and 8


def test_an_intervention_lets_moves_learn_again():
    engine = DCPC(walk(), num_particles=4, warmup=2)
    state = engine.init({"o": torch.zeros(1, 6)}, seed=0)
    state, _ = engine.run(state, 5)
    assert not engine.adapts(state)
    state, _ = engine.run(state, 1, do={"o": torch.ones(1, 6)})
    assert engine.adapts(state)


def test_gains_are_those_of_early_updates_again():
    key = ("ou", 1)
    learned = SiteAdaptation(updates={key: 500}).resumed()
    assert learned.updates == {key: FOLLOWING}
    assert SiteAdaptation(updates={key: 3}).resumed().updates == {key: 3}


def test_the_newest_roots_are_kept():
    learned = SiteAdaptation()
    for length in range(50):
        learned = learned.kept_root((1, 1, 0, length), torch.ones(1))
    assert [key[-1] for key in learned.roots] == list(range(50 - MOST_ROOTS, 50))


# -- cost ------------------------------------------------------------------------------------------


class Operations(TorchDispatchMode):
    """Counts what is computed, and the numbers that it makes."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(length):
    engine = DCPC(walk(), num_particles=4, warmup=2)
    state = engine.init({"o": torch.zeros(1, length)}, seed=0)
    state, _ = engine.run(state, 4)
    found = []
    for _ in range(4):
        with Operations() as made:
            state = engine.append(state, {"o": torch.zeros(1)})
            state, _ = engine.run(state, 1, recent=24)
        found.append(made.count)
    return found[2:]


def test_a_slice_and_a_windowed_sweep_take_as_many_operations_at_any_length():
    assert operations(60) == operations(240)


# -- what is appended ------------------------------------------------------------------------------


def counts(s):
    return Poisson(s.exp())


@pytest.mark.parametrize(
    "kernel, first, value",
    [
        (lambda s: Normal(s, 1.0), 0.0, math.nan),
        (counts, 1.0, 2.5),
        (counts, 1.0, -1.0),
        (lambda s: Uniform(s - 0.1, s + 0.1), 0.0, 30.0),
    ],
)
def test_appended_values_are_checked_as_those_at_the_start(kernel, first, value):
    engine = DCPC(walk(kernel), num_particles=50)
    with pytest.raises(ClampError) as at_the_start:
        engine.init({"o": torch.tensor([[value]])}, seed=0)
    state = engine.init({"o": torch.tensor([[first]])}, masks={"o": torch.zeros(1, 1) > 0}, seed=0)
    with pytest.raises(ClampError) as later:
        engine.append(state, {"o": torch.tensor([value])})
    words = str(at_the_start.value).split("(")[0]
    assert str(later.value).split("(")[0] == words
    state = engine.append(state, {"o": torch.tensor([value])}, masks={"o": torch.zeros(1) > 0})
    assert torch.isfinite(state.log_weights).all()


def test_a_fraction_is_no_category():
    def kernel(s):
        return torch.distributions.Categorical(logits=torch.stack([s, 0 * s, -s], -1))

    engine = DCPC(walk(kernel), num_particles=5)
    state = engine.init({"o": torch.ones(1, 1, dtype=torch.long)}, seed=0)
    with pytest.raises(ClampError, match=r"found 0.5.*outside"):
        engine.append(state, {"o": torch.tensor([0.5])})
    longer = engine.append(state, {"o": torch.tensor([2.0])})
    assert longer.values["o"].tolist() == [[[1, 2]]] and longer.values["o"].dtype == torch.long


def test_a_value_that_no_particle_explains_is_refused():
    engine = DCPC(walk(), num_particles=10)
    state = engine.init({"o": torch.zeros(2, 1)}, seed=0)
    with pytest.raises(ClampError, match=r"datum 1: no particle explains .*'o'.*masks="):
        engine.append(state, {"o": torch.tensor([0.0, 1e30])})


def test_a_list_is_no_tensor():
    engine = DCPC(walk(), num_particles=2)
    state = engine.init({"o": torch.zeros(1, 1)}, seed=0)
    with pytest.raises(ClampError, match="'o': expected a tensor, found list"):
        engine.append(state, {"o": [0.0]})


def test_slow_sites_are_weighed_by_their_initial_kernel_while_it_lasts():
    model = GraphicalModel()
    model.add_site(
        "m",
        lambda m: Normal(m, 0.5),
        parents=[lag("m", 2)],
        initial=lambda: Normal(1.0, 2.0),
        scope=every(3),
    )
    model.add_site("o", lambda m: Normal(m, 1.0), parents=["m"], scope="slice")
    engine = DCPC(model, num_particles=2)
    m = torch.tensor([0.3, 0.7, -0.4, 1.1])
    state = engine.init({"m": m[None, :1], "o": torch.zeros(1, 1)}, seed=0)
    expected = 0.0
    for t in range(1, 12):
        new = {"o": torch.zeros(1)} | ({"m": m[None, t // 3]} if t % 3 == 0 else {})
        state = engine.append(state, new)
        expected += float(Normal(m[t // 3], 1.0).log_prob(torch.tensor(0.0)))
        if t % 3 == 0:
            law = Normal(1.0, 2.0) if t == 3 else Normal(m[t // 3 - 2], 0.5)
            expected += float(law.log_prob(m[t // 3]))
        assert float(state.log_evidence) == pytest.approx(expected, abs=1e-4)


def test_slices_before_the_last_are_left_as_they_are():
    engine = DCPC(drifting("global"), num_particles=6)
    state = engine.init({"o": torch.zeros(1, 30)}, seed=0)
    longer = engine.append(state, {"o": torch.zeros(1)})
    kept = longer.ancestors[:, 0]
    for name in ("s", "drift", "noise"):
        before = state.values[name][kept]
        assert torch.equal(
            longer.values[name][:, :, :30] if name == "s" else longer.values[name], before
        )


# -- diagnostics and settings ----------------------------------------------------------------------


def test_acceptance_is_that_of_all_sweeps_of_a_run():
    engine = DCPC(walk(), num_particles=3, warmup=5)
    state = engine.init({"o": torch.zeros(1, 9)}, seed=0)
    state, _ = engine.run(state, 6)
    rates = []
    alone = state
    generator = torch.Generator().manual_seed(3)
    for _ in range(7):
        alone, info = engine.sweep(alone, generator)
        rates.append(info.acceptance["s"])
    _, info = engine.run(state, 7, torch.Generator().manual_seed(3))
    assert torch.allclose(info.acceptance["s"], torch.stack(rates).mean())


def test_acceptance_counts_sweeps_that_do_not_learn_where_there_are_any():
    engine = DCPC(walk(), num_particles=3, warmup=5)
    start = engine.init({"o": torch.zeros(1, 9)}, seed=0)
    _, all_of_them = engine.run(start, 9, torch.Generator().manual_seed(3))
    warm, _ = engine.run(start, 5, generator := torch.Generator().manual_seed(3))
    _, frozen = engine.run(warm, 4, generator)
    assert torch.allclose(all_of_them.acceptance["s"], frozen.acceptance["s"])


def test_values_that_are_set_do_not_count_as_unconverged():
    mask = torch.zeros(1, 12, dtype=torch.bool)
    mask[0, 5] = True
    engine = DCPC(walk())
    state = engine.init(
        {"o": torch.zeros(1, 12)}, do={"s": torch.full((1, 12), 2.0)}, masks={"s": mask}, seed=0
    )
    state, _ = engine.run(state, 60)
    state, info = engine.run(state, 200, record=["s"])
    found = diagnose(info, state)
    assert found.r_hat["s"][0, 5] == 1 and found.ess["s"][0, 5] == 200 * 16
    assert found.warnings == ()
    stuck = info.trace["s"].clone()
    stuck[:, :, :, 6] = 1.0  # not set, and it stands still
    info.trace["s"].copy_(stuck)
    assert any("effective samples" in sentence for sentence in diagnose(info, state).warnings)


def test_a_large_r_hat_is_a_short_number():
    engine = DCPC(walk(), num_particles=2)
    state = engine.init({"o": torch.zeros(1, 2)}, seed=0)
    state, info = engine.run(state, 8, record=["s"])
    noise = 1e-9 * torch.randn(8, 2, 1, 2, generator=torch.Generator().manual_seed(0)).double()
    info.trace["s"] = torch.arange(2.0)[None, :, None, None] + noise
    sentence = next(s for s in diagnose(info, state).warnings if "R-hat" in s)
    assert len(sentence.split("R-hat ")[1].split(",")[0].split(")")[0]) <= 9


@pytest.mark.parametrize(
    "setting, value, call",
    [
        ("recent", -1, lambda e, s, v: e.run(s, 1, recent=v)),
        ("recent", 0, lambda e, s, v: e.run(s, 1, recent=v)),
        ("recent", 2.5, lambda e, s, v: e.run(s, 1, recent=v)),
        ("num_sweeps", -1, lambda e, s, v: e.run(s, v)),
        ("num_sweeps", 1.5, lambda e, s, v: e.run(s, v)),
        ("seed", -1, lambda e, s, v: e.init({"o": torch.zeros(1, 2)}, seed=v)),
        ("seed", 2**64, lambda e, s, v: e.init({"o": torch.zeros(1, 2)}, seed=v)),
        ("seed", "a", lambda e, s, v: DCPC(walk(), seed=v)),
        ("num_particles", 0, lambda e, s, v: DCPC(walk(), num_particles=v)),
        ("num_particles", 2.5, lambda e, s, v: DCPC(walk(), num_particles=v)),
        ("window", 0, lambda e, s, v: DCPC(walk(), window=v)),
        ("warmup", -1, lambda e, s, v: DCPC(walk(), warmup=v)),
        ("batch_size", 0, lambda e, s, v: e.init(batch_size=v, length=2)),
        ("length", -2, lambda e, s, v: e.init(batch_size=1, length=v)),
        ("length", 0, lambda e, s, v: e.forecast(s, length=v)),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(setting, value, call):
    engine = DCPC(walk(), num_particles=2)
    state = engine.init({"o": torch.zeros(1, 2)}, seed=0)
    with warnings.catch_warnings(), pytest.raises(ModelError) as refused:
        call(engine, state, value)
    assert f"{setting}={value!r}: expected" in str(refused.value)
    assert len(str(refused.value)) < 100


def test_the_largest_seed_is_one():
    engine = DCPC(walk(), num_particles=2)
    assert engine.init({"o": torch.zeros(1, 2)}, seed=2**64 - 1).length == 2
