"""Parts of the warm-up on clouds made by hand: who is replaced, which metric is taken, when it is enough."""

import math
from types import SimpleNamespace

import pytest
import torch
from arrivals import normals
from torch.distributions import Bernoulli, Normal

from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival import warm_up as warming
from aif_dcpc.inference.arrival.build import build_sampler
from aif_dcpc.inference.arrival.metric import covariance_metric, fisher_metric, within_chains
from aif_dcpc.inference.arrival.warm_up import (
    FIRST_LOOK,
    SETTLE,
    WINDOWS,
    Window,
    between_over_within,
    grouped_r_hat,
    is_enough,
    new_metric,
    replace_stuck,
    warm_up,
)
from aif_dcpc.inference.model.isolation import no_validation
from aif_dcpc.inference.queries.mixing import split_r_hat


def window(places, *, scores=None, log_prob=None, acceptance=None):
    """What a window has seen of one chart; all else is as it should be."""
    chains = places.shape[1:3]
    scores = -places if scores is None else scores
    height = torch.zeros(len(places), *chains) if log_prob is None else log_prob
    taken = torch.full(chains, 0.8) if acceptance is None else acceptance
    return Window({"declared": places}, {"declared": scores}, height, taken)


# -- which chains are replaced ---------------------------------------------------------------------


def replaced(*, log_prob, acceptance, dimension):
    """Sources of all chains."""
    found = []
    sampler = SimpleNamespace(
        block=SimpleNamespace(dimension=dimension),
        generator=torch.Generator().manual_seed(0),
        replace_chains=found.append,
    )
    places = torch.zeros(3, len(acceptance), 1, dimension)
    replace_stuck(sampler, window(places, log_prob=log_prob, acceptance=acceptance))
    return found[0].flatten().tolist()


@pytest.mark.parametrize("dimension, limit", [(2, 30.0), (50, 50.0)])
def test_chains_far_below_the_median_or_hardly_accepted_become_copies_of_others(dimension, limit):
    """30 nats, or 10 standard deviations of the log density of a Gaussian; an acceptance of .15."""
    height = torch.zeros(3, 9, 1)
    height[:, 1] = -limit - 1
    height[:, 2] = -limit + 1
    height[0, 4] = -3 * limit + 6  # the mean counts
    taken = torch.tensor([0.16, 0.8, 0.8, 0.14, 0.8, 0.8, 0.8, 0.8, 0.8])[:, None]
    sources = replaced(log_prob=height, acceptance=taken, dimension=dimension)
    healthy = [0, 2, 4, 5, 6, 7, 8]
    assert [sources[k] for k in healthy] == healthy
    assert {sources[1], sources[3]} <= set(healthy)


def test_where_half_of_the_chains_are_lost_none_is_replaced():
    taken = torch.tensor([0.8, 0.8, 0.8, 0.0, 0.0, 0.0])[:, None]
    height = torch.zeros(3, 6, 1)
    assert replaced(log_prob=height, acceptance=taken, dimension=2) == list(range(6))
    taken[3] = 0.8
    assert replaced(log_prob=height, acceptance=taken, dimension=2) != list(range(6))


# -- which metric ----------------------------------------------------------------------------------


def test_modes_that_lie_apart_are_told_by_variances_between_and_within_chains():
    places = normals(50, 6, 2, 3)
    places[:, :3, 1, 2] += 8
    means = places.mean(0)
    within = places.var(0).mean(0)
    expected = (means - means.mean(0)).square().mean(0) / within
    assert between_over_within(places) == pytest.approx(float(expected[1, 2]))
    assert float(expected[1, 2]) == pytest.approx(16, rel=0.1)


@pytest.mark.parametrize("gap, apart", [(0.0, False), (4.0, False), (8.0, True)])
def test_a_metric_is_learned_within_chains_only_where_they_sit_in_modes(gap, apart):
    """Variance between two halves of the chains: (gap / 2)^2, ten times that within from 6.3 on."""
    places = normals(60, 8, 1, 2)
    places[:, 4:] += gap
    move = SimpleNamespace(chart="declared")
    found = new_metric(move, window(places), use_scores=False)
    rows = within_chains(places) if apart else places.flatten(0, 1)
    assert torch.equal(found.factor, covariance_metric(rows).factor)
    early = new_metric(move, window(places, scores=-2 * places), use_scores=True)
    expected = fisher_metric(places.flatten(0, 1), -2 * places.flatten(0, 1))
    assert torch.equal(early.factor, expected.factor)


# -- when it is enough -----------------------------------------------------------------------------


def test_agreement_is_of_means_of_eight_chains():
    places = normals(30, 23, 1, 2)
    places[:, 8:16, 0, 1] += 1.0
    first = places[:, :16]
    means = torch.stack([first[:, :8].mean((0, 1)), first[:, 8:].mean((0, 1))]).var(0)
    whole = places.flatten(0, 1).var(0)
    expected = (1 + means / whole).sqrt().max()
    assert grouped_r_hat(places) == pytest.approx(float(expected))
    few = places[:, :12]
    assert grouped_r_hat(few) == pytest.approx(float(split_r_hat(few).max()))


def shifted(r_hat):
    """Places whose grouped R-hat is about this: halves of the chains moved apart."""
    places = normals(400, 16, 1, 1)
    places -= places.mean(0)
    places /= places.flatten(0, 1).std(0)
    gap = math.sqrt(2 * (r_hat**2 - 1))
    places[:, :8] += gap / 2
    places[:, 8:] -= gap / 2
    assert float(grouped_r_hat(places)) == pytest.approx(r_hat, abs=0.005)
    return places


LAST = len(WINDOWS) - 1


@pytest.mark.parametrize(
    "number, r_hat, acceptance, enough",
    [
        (FIRST_LOOK - 1, 1.0, 0.8, False),  # too early
        (FIRST_LOOK, 1.01, 0.8, True),
        (FIRST_LOOK, 1.035, 0.8, False),
        (LAST - 1, 1.01, 0.8, True),
        (LAST - 1, 1.035, 0.8, False),
        (LAST, 1.035, 0.8, True),
        (LAST, 1.07, 0.8, False),
        (LAST + 5, 1.035, 0.8, True),
        (LAST, 1.0, 0.49, False),
    ],
)
def test_windows_end_where_chains_are_accepted_and_agree(number, r_hat, acceptance, enough):
    seen = window(shifted(r_hat), acceptance=torch.full((16, 1), acceptance))
    assert is_enough(number, seen) is enough


@pytest.mark.parametrize(
    "rise, level", [(0.0, True), (0.4, True), (-0.4, True), (0.6, False), (-0.6, False)]
)
def test_an_early_window_is_enough_only_if_chains_no_longer_rise_together(rise, level):
    """All agree while they climb side by side: `rise` standard deviations from half to half, of the second datum."""
    places = normals(400, 16, 2, 1)
    heights = normals(400, 16, 2, seed=1)
    heights -= heights.unflatten(0, (2, 200)).mean((1, 2)).repeat_interleave(200, 0).unsqueeze(1)
    heights /= heights.flatten(0, 1).std(0)
    gap = rise / (1 - rise**2 / 4) ** 0.5  # in units of the spread that the gap itself widens
    heights[200:, :, 1] += gap
    seen = window(places, log_prob=heights)
    assert is_enough(FIRST_LOOK, seen) is level
    assert is_enough(LAST, seen)


@pytest.mark.parametrize("dimension, fills", [(102, True), (103, False)])
def test_an_early_window_is_enough_only_if_it_holds_ten_places_for_each_dimension(dimension, fills):
    seen = window(normals(64, 16, 1, dimension))  # 1,024 places
    assert is_enough(FIRST_LOOK, seen) is fills
    assert is_enough(LAST, seen)


def one_gaussian():
    model = GraphicalModel()
    model.add_site("z", lambda: Normal(0.0, 1.0))
    model.add_site("x", lambda z: Normal(z, 1.0), ["z"])
    return build_sampler(DCPC(model), {"x": torch.zeros(1)}, 32, seed=0)


def test_a_warm_up_without_time_is_one_window_and_steps():
    with no_validation(), torch.no_grad():
        sweeps = warm_up(one_gaussian(), -math.inf)
        assert (sweeps - WINDOWS[0]) % SETTLE == 0 and sweeps <= WINDOWS[0] + 4 * SETTLE
        sweeps = warm_up(one_gaussian(), math.inf)
    assert sum(WINDOWS[: FIRST_LOOK + 1]) + SETTLE <= sweeps <= sum(WINDOWS) + 4 * SETTLE


def test_further_windows_are_as_long_as_the_last(monkeypatch):
    """Chains that never agree: all windows, three more of the last size, then steps alone; each is announced as it begins."""
    sizes = []
    announced = []
    run = warming.run_window

    def recorded(sampler, size, **options):
        sizes.append(size)
        announced.append(sampler.progress.total)
        return run(sampler, size, **options)

    monkeypatch.setattr(warming, "run_window", recorded)
    monkeypatch.setattr(warming, "is_enough", lambda number, window: False)
    with no_validation(), torch.no_grad():
        sweeps = warm_up(one_gaussian(), math.inf, more=3)
    windows = [*WINDOWS, *[WINDOWS[-1]] * 3]
    assert sizes[: len(windows)] == windows
    assert set(sizes[len(windows) :]) == {SETTLE}
    regular = sum(WINDOWS) + SETTLE
    further = [regular + (k + 1) * WINDOWS[-1] for k in range(3)]
    assert announced[: len(windows) + 1] == [regular] * len(WINDOWS) + further + further[-1:]
    assert sweeps == sum(sizes)


def test_discrete_latents_alone_are_swept_as_often_and_told_as_a_warm_up():
    model = GraphicalModel()
    model.add_site("k", lambda: Bernoulli(0.3))
    model.add_site("x", lambda k: Normal(k, 1.0), ["k"])
    with no_validation(), torch.no_grad():
        sampler = build_sampler(DCPC(model), {"x": torch.zeros(1)}, 8, seed=0)
        before = sampler.state.sweeps
        adapts = []
        sweep = sampler.sweep
        sampler.sweep = lambda *, adapt: adapts.append(adapt) or sweep(adapt=adapt)
        sweeps = warm_up(sampler, -math.inf)
    assert adapts == [True] * sweeps
    told = sampler.progress
    assert sweeps == sum(WINDOWS) + SETTLE == sampler.state.sweeps - before
    assert (told.stage, told.done, told.total) == ("warming up", sweeps, sweeps)
