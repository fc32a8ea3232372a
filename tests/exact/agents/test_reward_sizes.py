"""How large rewards are: which sizes are told apart, and what predicted outcomes are worth by them."""

import numpy as np
import pytest
import torch
from grid_walks import BLUE_KEY, RED_KEY, random_walk
from scipy.stats import t as student

from aif_dcpc.agents.gridworld.deeds import Deeds
from aif_dcpc.agents.gridworld.lessons import Lessons
from aif_dcpc.agents.gridworld.model.counts import TablePrior, outcome_code
from aif_dcpc.agents.gridworld.model.task import Wanted
from aif_dcpc.agents.gridworld.planning.arrivals import Arrivals, ArrivalTables
from aif_dcpc.agents.gridworld.planning.belief import PosteriorTables
from aif_dcpc.agents.gridworld.rewards import DOUBT, FACTOR, SPREAD, TIMES, Sizes, by_size, lottery
from aif_dcpc.agents.preferences import Preferences

SHAPE = 3, 2, 4, 6  # rows, classes, all else of a place, outcomes
WON = 5


def sizes(*kinds: tuple[int, int, list[float]], scale: float = 1.0) -> Sizes:
    """Steps in rows and places, each with its rewards; all end the episode."""
    steps = [(row, place, scale * r) for row, place, rewards in kinds for r in rewards]
    row, place, reward = (np.array(part) for part in zip(*steps, strict=True))
    codes = np.array([outcome_code(r, True) for r in reward])
    none = Sizes(np.zeros(0, np.int64), np.zeros(0), SHAPE)
    return none.having(row.astype(int), place.astype(int), codes, reward)


def apart(*kinds: list[float]) -> bool:
    """Whether any of these, in places of a row, is told apart."""
    return (
        sizes(*((0, place, list(rewards)) for place, rewards in enumerate(kinds))).worth is not None
    )


# -- which sizes are told apart ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0.1, 1.0, 7.0, 1e-9])
def test_rewards_of_a_size_are_told_as_before(size: float) -> None:
    assert sizes((0, 1, [size] * 9), (1, 2, [size]), (2, 3, [size] * 40)).worth is None
    assert sizes((0, 1, [size] * 9), (1, 2, [-size])).worth is None
    assert sizes((0, 1, [size])).worth is None


def test_the_unit_of_rewards_does_not_matter() -> None:
    kinds = (0, 1, [5.0, 6.0, 4.0]), (0, 2, [1.0, 1.1]), (1, 3, [-0.02] * 5)
    found = sizes(*kinds).worth
    for scale in (1e-3, 1000.0):
        assert np.allclose(sizes(*kinds, scale=scale).worth, found, rtol=1e-9)


@pytest.mark.parametrize(
    ("ratio", "times"), [(100.0, 1), (5.0, 2), (3.0, 3), (2.0, 6), (1.5, np.inf)]
)
def test_how_many_steps_tell_sizes_apart(ratio: float, times: float) -> None:
    """By hand: the variance is that of the prior, at 2 n degrees of freedom after n steps of each."""
    for n in range(1, 60):
        scale = (TIMES * SPREAD**2 / (2 * n)) ** 0.5
        limit = np.log(FACTOR) + student.ppf(1 - DOUBT, 2 * n) * scale * (2 / n) ** 0.5
        assert apart([ratio] * n, [1.0] * n) == (np.log(ratio) > limit) == (n >= times)


@pytest.mark.parametrize("kinds", [2, 3, 8])
def test_the_more_are_compared_the_surer_it_has_to_be(kinds: int) -> None:
    """By hand, three steps of each: one is as much smaller as is just enough, and just not enough."""
    freedom = TIMES + 2 * kinds
    scale = (TIMES * SPREAD**2 / freedom) ** 0.5
    limit = student.ppf(1 - DOUBT / (kinds - 1), freedom) * scale * (2 / 3) ** 0.5
    for times, told in ((1.001, True), (0.999, False)):
        small = 1 / (FACTOR * np.exp(limit) * times)
        assert apart(*[[1.0] * 3] * (kinds - 1), [small] * 3) == told


def test_what_was_met_often_tells_of_what_was_met_once() -> None:
    assert not apart([1.0], [0.2])
    worth = sizes((0, 0, [1.0]), (0, 1, [0.2] * 20)).worth
    assert worth[0, :2, WON].tolist() == pytest.approx([1, 0.2]) and (worth[..., :5] == 1).all()


def test_rewards_that_fall_with_the_steps_are_told_apart_seldom() -> None:
    """MiniGrid's own, steps evenly spread: two of 1,000 lives for six kinds met thrice, and 3 % ever, for two.

    That is, looked at after each of the first 30 episodes; the bounds are four standard errors above.
    """
    source = np.random.default_rng(0)
    once = ever = 0
    for _ in range(100):
        rewards = 1 - 0.9 * source.random(30)
        kind = source.integers(0, 2, 30)
        ever += any(apart(*(rewards[:t][kind[:t] == k] for k in (0, 1))) for t in range(2, 31))
        once += apart(*(1 - 0.9 * source.random((6, 3))))
    assert ever <= 10 and once <= 4


def test_what_is_worth_less_is_worth_the_ratio_of_the_means() -> None:
    """Of logarithms; a penalty against all, a reward against rewards alone."""
    kinds = (
        (0, 1, [4.0, 1.0] * 20),
        (0, 2, [0.25, 0.16] * 20),
        (1, 3, [-10.0] * 9),
        (1, 4, [-0.1] * 9),
    )
    worth = sizes(*kinds).worth
    assert worth[0, 1, WON] == 1 and worth[1, 3, 3] == 1
    assert worth[0, 2, WON] == pytest.approx(0.2 / 2)
    assert worth[1, 4, 3] == pytest.approx(0.01)
    small = sizes((0, 1, [1.0] * 9), (1, 4, [-0.01] * 9)).worth
    assert small[1, 4, 3] == pytest.approx(0.01) and small[0, 1, WON] == 1


def test_what_was_not_met_counts_as_its_class_or_its_row_does() -> None:
    """Places 0 to 3 are of one class; a row in which nothing was met is not known."""
    worth = sizes((0, 1, [0.1] * 9), (1, 5, [1.0] * 9)).worth
    assert worth[0, :, WON].tolist() == pytest.approx([0.1] * 8)
    assert (worth[1:] == 1).all() and (worth[..., :WON] == 1).all()
    both = sizes((0, 1, [0.1] * 9), (0, 5, [1.0] * 9)).worth
    assert both[0, :, WON].tolist() == pytest.approx([0.1] * 4 + [1] * 4)


def test_what_is_no_finite_reward_says_nothing() -> None:
    none = Sizes(np.zeros(0, np.int64), np.zeros(0), SHAPE)
    steps = np.zeros(4, np.int64)
    found = none.having(steps, steps, steps + 1, np.array([0.0, np.inf, np.nan, -np.inf]))
    assert not len(found.cell) and found.worth is None and none.worth is None
    assert len((found + sizes((0, 1, [1.0, 2.0]))).cell) == 2


# -- what outcomes are worth ---------------------------------------------------------------------------


@pytest.mark.parametrize("anew", [None, -20.0])
def test_a_lottery_is_worth_what_its_parts_are(anew: float | None) -> None:
    """The preference of a reward of w is w that of a whole one and 1 - w that of none, ended or not."""
    source = np.random.default_rng(1)
    table = source.dirichlet(np.ones(6), (4, 3))
    worth = source.random((4, 3, 6))
    worth[..., [1, 4]] = 1
    found = lottery(table, worth)
    assert np.allclose(found.sum(-1), 1) and (found >= 0).all()
    preferences = Preferences()
    wish = preferences.log_preference() + preferences.discount * preferences.tail(anew)
    nothing = wish[[1, 1, 1, 4, 4, 4]]
    expected = (table * (worth * wish + (1 - worth) * nothing)).sum(-1)
    assert np.allclose(found @ wish, expected)
    assert np.allclose(found @ preferences.goes_on(), table @ preferences.goes_on())
    assert np.array_equal(lottery(table, np.ones(6)), table)


def deeds_of_two(small: float) -> Deeds:
    """Red keys brought 1 before a step or after it, blue ones a smaller reward; each ten times."""
    token = np.array([RED_KEY, BLUE_KEY] * 10)
    steps = np.ones(20, np.int64)
    return Deeds(
        row=7 * steps,
        token=token,
        after=np.where(token == RED_KEY, BLUE_KEY, RED_KEY),
        outcome=WON * steps,
        written=-steps,
        mission=(),
        cell=steps,
        reward=np.where(token == RED_KEY, 1.0, small),
    )


def arrivals(events: list[int], like: torch.Tensor) -> Arrivals:
    """Outcomes of some events hang on what is ahead after them."""
    chance = torch.full(like[3:].shape, 1 / 6)
    which = np.isin(np.arange(len(chance)), events)
    return Arrivals(which, chance, chance, chance)


@pytest.mark.parametrize("after", [False, True])
def test_sizes_are_those_of_the_places_that_outcomes_hang_on(after: bool) -> None:
    """Of what was ahead before the step, or after it: there the blue key brought 1."""
    walk = random_walk(0)
    known = Lessons(walk.vocabulary.looks, TablePrior(), 3)
    effects = walk.grid.effects
    like = walk.grid.past.outcome
    given = arrivals([4] if after else [], like), walk.vocabulary, effects, like
    assert known.sizes(*given, None).worth is None
    running = known.sizes(*given, deeds_of_two(0.25)).worth
    known.deeds.append(deeds_of_two(0.25))
    stored = known.sizes(*given, None)
    assert known.sizes(*given, None) is stored and np.array_equal(stored.worth, running)
    match = known.task.match(walk.vocabulary, ())
    places = effects.places(match).numpy()
    members = walk.vocabulary.tokens.members
    red, blue = (places[members.index(token), 0] for token in (RED_KEY, BLUE_KEY))
    expected = [0.25, 1] if after else [1, 0.25]
    assert stored.worth[7, [red, blue], WON].tolist() == pytest.approx(expected)
    assert (stored.worth[:7] == 1).all()
    known.deeds[0] = deeds_of_two(1.0)
    assert known.sizes(*given, None) is stored
    known.kept += 1
    assert known.sizes(*given, None).worth is None
    state = known.state_dict()
    known.deeds[0] = deeds_of_two(0.25)
    known.load_state_dict({**known.state_dict(), "kept": state["kept"]})
    assert np.array_equal(known.sizes(*given, None).worth, stored.worth)


def test_tables_tell_of_sizes_before_a_step_and_after_it() -> None:
    """Each by what the mission names; what they were without sizes is kept beside."""
    walk = random_walk(0)
    effects = walk.grid.effects
    slots = walk.vocabulary.tokens.capacity
    source = np.random.default_rng(2)
    names = ("transition", "transition_without_optimism", "transition_novelty", "outcome_novelty",
             "transparency", "misread", "num_tokens", "steps", "turns", "writes", "takes")  # fmt: skip
    rows = len(walk.grid.past.outcome)
    outcome, later = source.dirichlet(np.ones(6), (2, 2, rows, slots))
    events = np.isin(np.arange(9), [4])
    arriving = source.dirichlet(np.ones(6), (2, 9, slots)) * events[:, None, None]
    one = ArrivalTables(events, arriving, arriving, np.zeros((2, 9, slots)))
    some = dict.fromkeys(names)
    some["transition"] = np.zeros((3, slots, 2, 9))
    tables = PosteriorTables(
        **some, outcome=outcome, outcome_without_optimism=later, arrivals=one, resolved=(one,)
    )
    worth = source.random(walk.grid.past.outcome.shape)
    worth[..., [1, 4]] = 1
    match, wanted, told = (torch.as_tensor(source.integers(0, 3, slots)) for _ in range(3))
    aims = match, Wanted(wanted, [told])
    assert by_size(tables, None, effects, *aims) is tables
    found = by_size(tables, worth, effects, *aims)
    assert found.of_any_size is tables and tables.of_any_size is None
    for passed, row, slot in ((0, 2, 0), (1, 7, 3), (1, rows - 1, 5), (0, 5, 2)):
        for name in ("outcome", "outcome_without_optimism"):
            here = worth[row, int(effects.places(match)[slot, passed])]
            expected = lottery(getattr(tables, name)[passed, row, slot], here)
            assert np.allclose(getattr(found, name)[passed, row, slot], expected)
        for arrived, named in ((found.arrivals, wanted), (found.resolved[0], told)):
            here = worth[7, int(effects.places(named)[slot, passed])]
            expected = lottery(arriving[passed, 4, slot], here)
            assert np.allclose(arrived.outcome[passed, 4, slot], expected)
            assert np.allclose(arrived.outcome_without_optimism[passed, 4, slot], expected)
    assert np.allclose(found.outcome.sum(-1), 1)
