"""Moves of events: what they leave alone, and how often each is proposed."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from grid_walks import ACTIONS, class_of, grip_of, random_walk, told

from aif_dcpc.agents.gridworld.model.conditionals import GridConditionals, GridParticles
from aif_dcpc.agents.gridworld.model.counts import Tables
from aif_dcpc.agents.gridworld.model.exchange import (
    PROPOSALS,
    Guess,
    flipped,
    relabelled,
    remade,
    swapped,
)
from aif_dcpc.agents.gridworld.model.paths import History
from aif_dcpc.agents.gridworld.model.single_events import (
    _score_of_others,
    _score_of_views,
    fitting,
    pick_times,
    retried,
    still_steps,
)
from aif_dcpc.agents.gridworld.model.strays import log_joints

STAY = [0, 4, 5, 6, 7, 8, 9, 10]  # events of the walks that do not turn


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(found: torch.Tensor, expected: torch.Tensor, number: int) -> bool:
    """Within five standard errors: a false alarm in a million."""
    error = 5 * (expected * (1 - expected) / number).clamp_min(0).sqrt() + 1e-6
    return bool(((found - expected).abs() <= error).all())


def test_half_of_the_times_are_late() -> None:
    """A geometric distribution from the end with chance .3, all that lies beyond at the first."""
    number = 40_000
    late = torch.tensor([0.3 * 0.7**k for k in range(5)])
    late = torch.cat([late, 1 - late.sum()[None]]).flip(0)
    share = torch.bincount(pick_times(number, 6, generator()), minlength=6) / number
    assert close(share, 0.5 / 6 + 0.5 * late, number)


def walked(number: int, seed: int = 5) -> tuple[GridConditionals, GridParticles, History]:
    """Many copies of one particle that fits its headings, in a history of few turns."""
    walk = random_walk(seed, number=1, length=10)
    walk.history.heading[:] = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 3])
    walk.history.view[[0, 2, 5], 4] = 2
    events = fitting(walk.grid, walk.particles.events, walk.history)
    fits = replace(walk.particles, events=events)
    return walk.grid, fits.picked(torch.zeros(number, dtype=torch.long)), walk.history


def test_a_flip_exchanges_two_events_in_one_step() -> None:
    number = 4000
    grid, particles, history = walked(number)
    events = particles.events
    still = still_steps(history).tolist()
    assert still == [1, 2, 3, 5, 6, 7, 8] and grid.effects.staying.tolist() == STAY
    trial, log_ratio = flipped(grid, particles, history, generator())
    assert not log_ratio.any()
    changed = trial != events
    assert int(changed.sum(1).max()) == 1 and set(changed.any(0).nonzero()[:, 0].tolist()) == set(
        still
    )
    # the chance that the event there is one of a pair, and of what it becomes
    old = events[0].tolist()
    late = [0.3 * 0.7**k for k in range(len(still) - 1)]
    late = [1 - sum(late), *late[::-1]]
    for place, time in enumerate(still):
        chance = 0.5 / len(still) + 0.5 * late[place]
        for new in STAY:
            if new == old[time]:
                continue
            usual = 0.75 * ({old[time], new} == {0, 4})
            expected = torch.tensor(chance * (usual + 0.25 * 2 / len(STAY) ** 2))
            assert close((trial[:, time] == new).float().mean(), expected, number)


def test_a_swap_lets_two_events_change_places() -> None:
    """One that changed something, and any within six steps that do not turn."""
    number = 6000
    grid, particles, history = walked(number)
    events = particles.events
    still = still_steps(history)
    events[:, still] = torch.tensor([4, 0, 0, 8, 0, 0, 5])
    trial, log_ratio = swapped(grid, particles, history, generator())
    assert not log_ratio.any() and torch.equal(trial.sort(1).values, events.sort(1).values)
    others = [t for t in range(10) if t not in still.tolist()]
    assert torch.equal(trial[:, others], events[:, others])
    expected: Counter[tuple[int, ...]] = Counter()
    before = [4, 0, 0, 8, 0, 0, 5]
    for one, away in itertools.product((0, 3, 6), range(-6, 7)):
        other = one + away if 0 <= one + away < 7 else one
        after = list(before)
        after[one], after[other] = after[other], after[one]
        expected[tuple(after)] += 1 / 39
    found = Counter(map(tuple, trial[:, still].tolist()))
    assert set(found) == set(expected)
    for sequence, chance in expected.items():
        assert close(torch.tensor(found[sequence] / number), torch.tensor(chance), number)
    nothing = torch.zeros_like(events)
    same, log_ratio = swapped(grid, replace(particles, events=nothing), history, generator())
    assert torch.equal(same, nothing) and len(log_ratio) == number
    some = nothing.clone()
    some[0, 1] = 4
    mixed, _ = swapped(grid, replace(particles, events=some), history, generator())
    assert not mixed[1:].any() and int(mixed[0].sum()) == 4


def test_a_relabelling_is_its_own_inverse_and_stays_where_one_token_was_faced() -> None:
    """Half of the pairs of actions are one action; half of the times all of the episode."""
    number = 6000
    grid, particles, history = walked(number)
    events = particles.events
    still = still_steps(history)
    history.view[[0, 1, 2], 4] = 2
    history.view[[4, 5, 6, 7], 4] = 3
    history.action[still] = torch.tensor([0, 0, 1, 0, 1, 1, 2])
    events[:, still] = 0
    trial, log_ratio = relabelled(grid, particles, history, generator())
    assert not log_ratio.any()
    again, _ = relabelled(grid, replace(particles, events=trial), history, generator())
    assert torch.equal(again, events)  # the same numbers, and nothing of it looks at events
    changed = trial[:, still] != 0
    first, second = changed[:, :3], changed[:, 3:]
    assert not (first.any(1) & second.any(1)).any()
    assert not trial[:, [0, 4, 9]].eq(events[:, [0, 4, 9]]).logical_not().any()
    values = [set(row[row != 0].tolist()) for row in trial[:, still][:200]]
    assert all(len(v) <= 1 for v in values)
    # exchanging nothing with 4: three of four and some; of faced tokens, three of seven are the first
    pair = 0.75 + 0.25 * 2 / 64
    any_pair = 0.75 + 0.25 * (1 - (7 / 8) ** 2 - 1 / 64)
    # step 1 (action 0): its action is one of two, and it lies in the stretch
    of_action = 0.5 / 3 + 0.5 * (1 - (2 / 3) ** 2)
    inside = 0.5 + 0.5 * (1 - (6 / 7) ** 2)
    chance = torch.tensor(3 / 7 * of_action * inside)
    assert close((trial[:, 1] == 4).float().mean(), pair * chance, number)
    assert close((trial[:, 1] != 0).float().mean(), any_pair * chance, number)
    middle = 0.5 + 0.5 * (1 - (4 / 7) ** 2 - (2 / 7) ** 2)
    chance = torch.tensor(4 / 7 * of_action * middle)
    assert close((trial[:, still[4]] != 0).float().mean(), any_pair * chance, number)


def test_what_is_remade_is_weighed_by_the_guess() -> None:
    number = 200
    grid, particles, history = walked(number)
    events = particles.events
    faced = torch.cat([history.view[:1, 4], history.view[:-1, 4]])
    still = still_steps(history)
    trial, log_ratio = remade(grid, particles, history, generator(3))
    changed = (trial != events).any(0).nonzero()[:, 0]
    (code,) = set(faced[changed].tolist())
    steps = still[faced[still] == code]
    assert set(changed.tolist()) <= set(steps.tolist())
    guess = Guess(grid, history.action[steps])
    expected = guess.log_prob(events[:, steps]) - guess.log_prob(trial[:, steps])
    assert torch.allclose(log_ratio, expected)


def test_the_guess_is_a_mixture_of_simple_stories() -> None:
    """One action does one thing, most likely going ahead; once or in every tenth step something else happens."""
    grid, _, _ = walked(1)
    guess = Guess(grid, torch.tensor([0, 2, 2]))
    for events in ([0, 4, 4], [4, 0, 0], [0, 0, 0], [0, 8, 8], [0, 8, 4], [10, 4, 0]):
        total = 0.0
        for rare, action, what in itertools.product((0.5 / 4, 0.1), (0, 2), STAY[1:]):
            term = 0.5 * 0.5 * (0.5 if what == 4 else 0.5 / 6)
            for own, event in zip((0, 2, 2), events, strict=True):
                story = what if own == action else 0
                term *= (1 - rare) * (event == story) + rare / len(STAY)
            total += term
        assert float(guess.log_prob(torch.tensor([events]))) == pytest.approx(
            math.log(total), rel=1e-4
        )


def test_where_every_step_turned_nothing_is_proposed() -> None:
    grid, particles, history = walked(3)
    history.heading[:] = torch.arange(10) % 4
    for propose_ in set(PROPOSALS):
        trial, log_ratio = propose_(grid, particles, history, generator())
        assert trial is particles.events and log_ratio.tolist() == [0, 0, 0]
    counted = Counter(p.__name__ for p in PROPOSALS)
    assert counted == {"retried": 6, "flipped": 2, "relabelled": 2, "swapped": 1, "remade": 1}


def test_an_event_is_drawn_anew_by_views_and_by_other_steps() -> None:
    walk = random_walk(6, number=2, length=8)
    history = walk.history
    history.heading[:] = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    events = fitting(walk.grid, walk.particles.events, history)
    misread = torch.tensor([0.02, 0.3])  # each by its own rate
    tables = replace(walk.particles.tables, misread=misread)
    particles = GridParticles(events, walk.particles.initial, tables)
    time = torch.tensor([[2], [5]])
    choices = torch.tensor(STAY)
    found = _score_of_views(walk.grid, particles, time, choices, history)
    prior = walk.grid.shown(history)[None]
    for n, (when, choice) in itertools.product(range(2), enumerate(STAY)):
        trial = events[n : n + 1].clone()
        trial[0, time[n]] = choice
        _, segments, shown = walk.grid.trace(trial, history)
        logits = walk.grid.segment_logits(segments, shown, misread[n : n + 1], prior)
        expected = float(logits.logsumexp(-1).sum() + walk.grid.log_bodily(trial, history))
        assert float(found[n, when]) == pytest.approx(expected, rel=1e-4)
    trial, log_ratio = retried(walk.grid, particles, history, generator(1))
    changed = (trial != events).nonzero().tolist()
    assert len(changed) <= 2 and bool(torch.isfinite(log_ratio).all())


def test_a_wrong_event_is_left_however_sure_the_proposal_is() -> None:
    """No event has less than a thousandth of the chance of the likeliest, so that going back is never too unlikely."""
    grid, particles, history = walked(2000)
    sure = replace(particles.tables, misread=torch.full((2000,), 1e-6))
    _, log_ratio = retried(grid, replace(particles, tables=sure), history, generator(2))
    assert float(log_ratio.min()) == pytest.approx(math.log(1e-3), abs=1e-4)
    assert float(log_ratio.max()) <= math.log(1e3) + 1e-4


def test_other_steps_count_where_the_same_was_done() -> None:
    """By class and grip of what the view showed ahead, if it showed anything; the step itself and the first do not count."""
    walk = random_walk(7, number=2, length=12)
    history = walk.history
    known = walk.vocabulary
    history.view[:, 4] = torch.as_tensor(np.random.default_rng(0).integers(-1, 4, 12))
    history.view[2, 4], history.view[5, 4], history.action[3] = 3, -2, 1
    time = torch.tensor([3, 6])
    found = _score_of_others(walk.grid, walk.particles.events, time, history)
    codes = [int(history.view[max(t - 1, 0), 4]) for t in range(12)]
    shape = walk.grid.past.transition.shape
    for n, when in enumerate(time.tolist()):
        if codes[when] < 0:
            assert not found[n].any()
            continue
        counts = torch.zeros(1, *shape[1:])
        for t in range(1, 12):
            if t != when and int(history.action[t]) == int(history.action[when]) and codes[t] >= 0:
                grip = grip_of(known, codes[t], int(history.hand[t - 1]))
                counts[0, class_of(known, codes[t]), grip, walk.particles.events[n, t]] += 1
        grip = grip_of(known, codes[when], int(history.hand[when - 1]))
        context = class_of(known, codes[when]) * shape[2] + grip
        chance = walk.grid.memory.events.mean_at(
            counts, history.action[when : when + 1], torch.tensor([context])
        )
        assert torch.allclose(found[n], chance[0].clamp_min(1e-9).log(), atol=1e-4)
    assert codes[3] == 3 and codes[6] < 0 and ACTIONS == 3


# -- particles that have not arrived ------------------------------------------------------------------


def test_the_joint_of_events_and_data_is_that_of_mean_rates() -> None:
    """Views given mean token prior and mean rate of misreading of all particles; tables integrated out."""
    walk = random_walk(2)
    grid, history = walk.grid, walk.history
    events = fitting(grid, walk.particles.events, history)
    particles = GridParticles(events, walk.particles.initial, walk.particles.tables)
    found = log_joints(grid, particles, history)
    own = grid.counts(events, particles.initial, history)
    sightings_ = own.sightings.mean(0) + grid.past.sightings + torch.tensor([100.0, 0.5])
    rate = float(sightings_[1] / sightings_.sum())
    tokens = own.tokens.mean(0) + grid.past.tokens
    everywhere = tokens.sum(0) * 0 + grid.past.tokens.sum(0) + 0.5 / 16
    rows = tokens + 0.5 * everywhere / everywhere.sum()
    prior = (rows / rows.sum(1, keepdim=True)).double().numpy()
    odds = math.log(1 - rate) - math.log(rate / 16)
    assert told(walk, 0).sights
    for n in range(3):
        walk.particles = particles
        one = told(walk, n)
        by_segment: dict[object, list] = {}
        for sight in one.sights:
            by_segment.setdefault(sight["segment"], []).append(sight)
        total = len(one.sights) * math.log(rate / 16)
        for (_, times), sights in by_segment.items():
            shown = Counter(s["code"] for s in sights)
            if times:
                total += odds * shown[sights[0]["token"]]
            else:
                row = prior[sights[0]["context"]]
                total += math.log((row * np.exp([odds * shown[v] for v in range(16)])).sum())
        total += float(grid.log_bodily(events[n : n + 1], history))
        for table, counts in (
            (grid.memory.events, own.transition),
            (grid.memory.outcomes, own.outcome),
        ):
            heads = torch.arange(counts.shape[1])
            gain = table.log_evidence(counts[n], heads) - table.log_evidence(0 * counts[n], heads)
            total += float(gain.sum())
        assert float(found[n]) == pytest.approx(total, rel=1e-3)


def test_tables_can_be_picked_with_their_particles() -> None:
    walk = random_walk(0)
    which = torch.tensor([2, 0, 2])
    found = walk.particles.picked(which)
    assert torch.equal(found.events, walk.particles.events[which])
    assert torch.equal(found.initial, walk.particles.initial[which])
    for old, new in zip(
        vars(walk.particles.tables).values(), vars(found.tables).values(), strict=True
    ):
        assert torch.equal(new, old[which])
    assert isinstance(found.tables, Tables)
