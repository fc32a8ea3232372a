"""Base measures, means and draws of the grid world's tables, against their definitions."""

from dataclasses import replace
from math import lgamma, log

import numpy as np
import pytest
import torch
from grid_walks import class_of, does, grip_of, random_walk
from scipy.stats import beta, kstest
from small_grid import VOCABULARY, small_world

from aif_dcpc.agents.gridworld.model.categorical import draw, draw_alike, draw_categorical
from aif_dcpc.agents.gridworld.model.counts import (
    ALPHAS,
    Counts,
    TablePrior,
    active_effects,
    no_counts,
    outcome_code,
    outcome_row,
)
from aif_dcpc.agents.gridworld.model.distributions import (
    PlainBeta,
    PlainDirichlet,
    PooledTable,
    Readings,
    Views,
)
from aif_dcpc.agents.gridworld.model.memory import draw_heads
from aif_dcpc.agents.gridworld.model.slice_proposal import widened
from aif_dcpc.agents.gridworld.tables.prior import base_measure, numpy_generator
from aif_dcpc.agents.gridworld.tables.summary import Summary

WALK = random_walk(0)
EFFECTS = WALK.grid.effects


def test_an_outcome_is_told_by_reward_and_end() -> None:
    every = [outcome_code(reward, end) for end in (False, True) for reward in (-0.5, 0.0, 0.1)]
    assert every == list(range(6))
    events = torch.tensor([0, 4, 8])
    assert outcome_row(events, torch.tensor(2), 3).tolist() == [2, 7, 11]


# -- base measures ---------------------------------------------------------------------------------


def changes(class_: int, grip: int | None) -> list[bool]:
    """Which events change something in a context by plain loops; whatever is in hand (None): and leave the hand alone."""
    known = WALK.vocabulary
    found = []
    for event in range(known.max_events):
        cases = []
        for token in range(known.tokens.capacity):
            for hand in range(known.hands.capacity):
                free = token >= len(known.tokens.members)
                of = len(known.classes.members) if free else class_of(known, token)
                if of != class_ or (grip is None and hand):
                    continue
                if hand >= len(known.hands.members):
                    in_grip = 0
                elif free:
                    in_grip = 0 if hand == 0 else int(EFFECTS.grips[token, hand])
                else:
                    in_grip = grip_of(known, token, hand)
                if grip is not None and in_grip != grip:
                    continue
                there = token if not free else -1
                write, take, able = _does(event, there, hand, token)
                rewrites = write is not None and write != token and able
                retakes = take is not None and take != hand and able
                cases.append(rewrites and take is None if grip is None else rewrites or retakes)
        found.append(any(cases) or not cases)
    return found


def _does(event: int, faced: int, hand: int, token: int) -> tuple[int | None, int | None, bool]:
    if hand >= len(
        WALK.vocabulary.hands.members
    ):  # a hand that is not known yet: nothing can be put
        able = bool(EFFECTS.possible[event, token, hand])
        return (
            (*does(WALK.vocabulary, event, faced, 0)[:2], able) if event != 10 else (None, 0, False)
        )
    return does(WALK.vocabulary, event, faced, hand)


def test_an_effect_is_possible_where_it_changes_something() -> None:
    alone, active = active_effects(EFFECTS)
    classes, grips, _ = EFFECTS.sizes
    assert alone.shape == (classes, 1, 13) and active.shape == (classes, grips, 13)
    for number in range(classes):
        assert alone[number, 0].tolist() == changes(number, None), number
        for grip in range(grips):
            assert active[number, grip].tolist() == changes(number, grip), (number, grip)


def test_rows_of_events_favour_nothing_then_going_ahead() -> None:
    """Mass on nothing; the rest by odds over what can be: motions, effects where they change something, free events."""
    prior = TablePrior()
    table = prior.events(EFFECTS)
    alone, active = active_effects(EFFECTS)
    odds = np.array([0, 1, 1, 1, 18, 1, 1, 1] + 5 * [0.2])
    free = np.arange(13) >= 11
    motions = np.arange(13) < 8

    def row(can: np.ndarray, stay: float) -> np.ndarray:
        others = odds * can
        base = (1 - stay) * others / others.sum()
        base[0] = stay
        return base

    classes, grips, _ = EFFECTS.sizes
    rows = [row(motions, 0.5)]
    rows += [row(motions | alone[c, 0].numpy() | free, 0.72) for c in range(classes)]
    every = active.flatten(0, 1).numpy()
    rows += [row(motions | can | free, 0.72) for can in every]
    assert np.allclose(table.base[0], rows, atol=1e-6)
    assert table.chances[0].tolist() == pytest.approx([1 / 3, 0.8, 0.2])
    assert table.shares.tolist() == pytest.approx([0.9, 0.05, 0.05])
    assert table.alphas.tolist() == pytest.approx(ALPHAS) and table.context == (classes, grips)
    where = np.arange(classes * grips)
    assert np.array_equal(table.index, [0 * where, 1 + where // grips, 1 + classes + where])


def test_outcomes_may_hang_on_parts_of_the_context() -> None:
    """Class alone, or with the milestone, with what is named, with colour, with colour and milestone."""
    table = TablePrior().outcomes(EFFECTS)
    classes, _, colours = EFFECTS.sizes
    assert table.context == (classes, colours, 3, 2)
    expected = [0.04, 0.8, 0.04, 0.04, 0.04, 0.04]
    assert np.allclose(table.base, expected, atol=1e-6)
    assert table.chances[0].tolist() == pytest.approx([0.5, 0.6, 0.2, 0.1, 0.05, 0.05])
    number = classes * colours * 6
    places = [
        (c, k, m, p)
        for c in range(classes)
        for k in range(colours)
        for m in range(3)
        for p in range(2)
    ]
    matters = [(), (0,), (0, 2), (0, 1), (0, 3), (0, 1, 3)]
    for pooling, axes in enumerate(matters):
        keys = [tuple(place[a] for a in axes) for place in places]
        rows = table.index[pooling].tolist()
        assert len(set(zip(keys, rows, strict=True))) == len(set(rows)) == len(set(keys)), pooling
    assert len(places) == number == table.index.shape[1]
    assert base_measure(5, 2, 0.6).tolist() == pytest.approx([0.1, 0.1, 0.6, 0.1, 0.1])


def test_rates_are_posterior_means() -> None:
    past = WALK.grid.past
    prior = TablePrior(misread=(2.0, 6.0), token_concentration=3.0)
    right, wrong = past.sightings.tolist()
    assert float(prior.mean_misread(past)) == pytest.approx((wrong + 2) / (right + wrong + 8))
    every = past.tokens.sum(0) + 3 / 16
    assert torch.allclose(prior.frequencies(past), every / every.sum())
    rows = past.tokens + 3 * every / every.sum()
    assert torch.allclose(prior.token_parameters(past), rows)
    both = Counts(*(2 * p for p in vars(past).values()))
    rows = 3 * every / every.sum() + both.tokens
    assert torch.allclose(prior.mean_token_prior(both, past), rows / rows.sum(1, keepdim=True))


# -- draws -----------------------------------------------------------------------------------------


def test_only_the_heads_that_are_named_are_drawn_anew() -> None:
    memory = WALK.grid.memory
    own = WALK.grid.counts(WALK.particles.events, WALK.particles.initial, WALK.history)
    kept = WALK.particles.tables
    heads = {"actions": [1], "rows": [0, 5], "contexts": [3, 7]}
    tensors = {name: torch.tensor(value) for name, value in heads.items()}
    found = memory.redraw(own, kept, torch.Generator().manual_seed(0), **tensors)
    for part, name in (("transition", "actions"), ("outcome", "rows"), ("token_prior", "contexts")):
        old, new = getattr(kept, part), getattr(found, part)
        changed = (old != new).flatten(2).any(2)
        assert changed.all(0).nonzero()[:, 0].tolist() == heads[name]
        assert changed.any(0).nonzero()[:, 0].tolist() == heads[name]
        assert torch.allclose(new[:, heads[name]].sum(-1), torch.ones(()), atol=1e-5)
    assert bool((found.misread != kept.misread).all())
    every = memory.draw(own, torch.Generator().manual_seed(0))
    for name, old in vars(kept).items():
        assert getattr(every, name).shape == old.shape


def test_rates_are_drawn_from_their_posteriors() -> None:
    """Kolmogorov and Smirnov: a false alarm in 10,000 each."""
    memory = small_world().memory
    generator = torch.Generator().manual_seed(0)
    drawn = memory.draw_misread(4000, generator)
    assert kstest(drawn.double(), beta(1, 6).cdf).pvalue > 1e-4
    own = Counts(*(torch.zeros(1, *p.shape) for p in vars(memory.past).values()))
    own.tokens[0, 2] = torch.tensor([4.0, 1.0])
    own.sightings[0] = torch.tensor([8.0, 3.0])
    many = Counts(*(p.expand(4000, *p.shape[1:]) for p in vars(own).values()))
    rows = memory.draw_token_prior(many, generator, torch.tensor([2, 0]))
    assert kstest(rows[:, 0, 0].double(), beta(5.5, 2.5).cdf).pvalue > 1e-4
    assert kstest(rows[:, 1, 0].double(), beta(1.5, 1.5).cdf).pvalue > 1e-4
    assert memory.draw_token_prior(own, generator).shape == (1, len(own.tokens[0]), 2)
    rates = memory._misread(many.sightings, generator)
    assert kstest(rates.double(), beta(4, 14).cdf).pvalue > 1e-4


def test_heads_are_drawn_with_their_own_counts() -> None:
    """Deterministic rows: an action that always went ahead does, one that never did anything does nothing."""
    grid = small_world()
    own = torch.zeros(5, 2, *grid.past.transition.shape[1:])
    own[:, 0, ..., 4] = 40
    own[:, 1, ..., 0] = 40
    drawn = draw_heads(grid.memory.events, own, numpy_generator(torch.Generator().manual_seed(0)))
    assert bool((drawn[:, 0, ..., 4] > 0.8).all()) and bool((drawn[:, 1, ..., 0] > 0.8).all())
    swapped = torch.tensor([1, 0])
    drawn = draw_heads(grid.memory.events, own, numpy_generator(None), swapped)
    assert bool((drawn[:, 0, ..., 4] > 0.8).all()) and drawn.shape == own.shape


def test_categorical_draws_have_their_chances() -> None:
    """Five standard errors: a false alarm in a million."""
    generator = torch.Generator().manual_seed(0)
    chances = torch.tensor([[0.2, 0.0, 0.5, 0.3], [0.7, 0.1, 0.2, 0.0]])
    number = 20_000
    alike = draw_alike(3 * chances, number, generator)
    each = draw_categorical(3 * chances.expand(number, 2, 4), generator).T
    by_logits = draw((5 + chances.log()).expand(number, 2, 4), generator).T
    for found in (alike, each, by_logits):
        for row, expected in zip(found, chances, strict=True):
            share = torch.bincount(row, minlength=4) / number
            assert bool(
                ((share - expected).abs() <= 5 * (expected * (1 - expected) / number).sqrt()).all()
            )
    order = alike[0].sort(stable=True).indices
    assert not torch.equal(order, torch.arange(number))  # not sorted
    # both rows use the same numbers: they differ as often as their distribution functions do
    assert abs(float((alike[0] != alike[1]).float().mean()) - 0.8) < 0.014


def test_a_wider_map_holds_what_the_smaller_one_did() -> None:
    walk = random_walk(1)
    position = walk.grid.trace(walk.particles.events, walk.history)[0].position
    large = random_walk(1, size=16)
    wider = widened(
        large.grid, walk.particles, walk.geometry, position, torch.Generator().manual_seed(0)
    )
    low = position.flatten(0, 1).amin(0) - 3
    for y in range(int(low[0]), int(low[0]) + 8):
        for x in range(int(low[1]), int(low[1]) + 8):
            old = walk.particles.initial[:, y % 8 * 8 + x % 8]
            assert torch.equal(wider[:, y % 16 * 16 + x % 16], old)
    assert wider.shape == (3, 256) and int(wider.min()) >= 0 and int(wider.max()) < 16


# -- distributions ---------------------------------------------------------------------------------


def test_readings_are_right_or_evenly_wrong() -> None:
    token = torch.tensor([0, 1, 2, 1]).expand(2, 1, 1, 4)
    value = torch.tensor([0, 2, -1, -2]).view(1, 1, 1, 4)
    right, wrong = torch.tensor(-0.1), torch.tensor(-3.0)
    assert Readings(token, right, wrong).log_prob(value).tolist() == [[[pytest.approx(-6.1)]]] * 2
    views = Views(token, right, wrong, lambda view: view.sum(-1).float())
    assert views.log_prob(value).tolist() == [[[pytest.approx(-7.1)]]] * 2
    assert views.batch_shape == (2, 1, 1) and views.event_shape == (4,)


def test_rounded_draws_have_a_density() -> None:
    row = torch.tensor([0.0, 0.4, 0.6])
    concentration = torch.tensor([0.5, 2.0, 3.0])
    tiny = torch.finfo(torch.float32).tiny
    constant = lgamma(5.5) - sum(map(lgamma, [0.5, 2.0, 3.0]))
    expected = constant - 0.5 * log(tiny) + log(0.4) + 2 * log(0.6)
    assert float(PlainDirichlet(concentration).log_prob(row)) == pytest.approx(expected, rel=1e-5)
    one, zero = PlainBeta(0.5, 3.0).log_prob(torch.tensor([1.0, 0.0])).tolist()
    eps = torch.finfo(torch.float32).eps
    constant = lgamma(3.5) - lgamma(0.5) - lgamma(3.0)
    assert one == pytest.approx(constant - 0.5 * log(1 - eps) + 2 * log(eps), rel=1e-4)
    assert zero == pytest.approx(constant - 0.5 * log(tiny), rel=1e-4)


def test_a_table_is_drawn_whatever_its_leading_axes() -> None:
    table = PooledTable(small_world().memory.events)
    torch.manual_seed(0)
    wide = table.expand((2, 1))
    drawn = wide.sample((3,))
    assert drawn.shape == (3, 2, 1, *no_counts(2, VOCABULARY).transition.shape)
    assert torch.allclose(drawn.sum(-1), torch.ones(()), atol=1e-5)
    assert len({tuple(d.flatten().tolist()) for d in drawn.flatten(0, 2)}) == 6
    assert wide.log_prob(drawn).shape == (3, 2, 1) and not wide.log_prob(drawn).any()
    assert table.sample().shape == no_counts(2, VOCABULARY).transition.shape
    assert table.support.event_dim == 4


# -- what planning needs of a table ----------------------------------------------------------------


def test_a_summary_is_kept_in_checkpoints_and_made_anew_for_other_priors() -> None:
    grid = small_world()
    prior = grid.memory.events.prior
    counts = torch.ones_like(grid.past.transition).double()
    summary = Summary(0)
    first = summary.update(counts, prior)
    twin = Summary(1)
    twin.load_state_dict(summary.state_dict())
    assert twin.nothing == 0 and twin.update(counts.clone(), prior) is twin.last
    for old, new in zip(first, twin.update(counts, prior), strict=True):
        assert torch.equal(old, new)
    fresh = Summary(2)
    fresh.load_state_dict(Summary(3).state_dict())
    assert fresh.last is None and fresh.nothing == 3
    for part in ("shares", "chances"):
        value = (
            getattr(prior, part) * [[0.9, 1.05, 1.05]]
            if part == "chances"
            else prior.shares[::-1].copy()
        )
        other = replace(prior, **{part: value})
        found = summary.update(counts, other)
        for old, new in zip(found, other.summary(counts, 0), strict=True):
            assert torch.equal(old, new)
    alike = grid.prior.events(grid.effects)  # one base measure for however many actions
    for some in (counts, torch.cat([counts, counts[:1] + 1]), counts):
        assert summary.update(some, alike)[0].shape == some.shape
