"""What comes of a step and what follows it, against plain loops over the counts that tell it."""

import numpy as np
import pytest

from aif_dcpc.agents.discrete.dynamic_programming import LEAST, Steps, follow, iterate
from aif_dcpc.agents.discrete.outcomes import STRENGTH, Outcomes
from aif_dcpc.agents.discrete.transitions import Transitions

STATES, ACTIONS = 4, 2
LEVELS = [(0.0, False), (-2.0, False), (1.0, True), (1.0, False)]


def history(steps=60, seed=0):
    """Steps (state, action, reached, level) of a world drawn at random; some rows stay untried."""
    source = np.random.default_rng(seed)
    for _ in range(steps):
        state, action = int(source.integers(STATES)), int(source.integers(ACTIONS))
        if (state, action) == (3, 1):
            continue
        reached = (state + int(source.choice([0, 1, 3], p=[0.3, 0.5, 0.2]))) % STATES
        yield state, action, reached, LEVELS[int(source.integers(len(LEVELS)))]


def counted(told):
    """Transitions and outcomes that have counted these steps."""
    transitions = Transitions(STATES, ACTIONS)
    outcomes = Outcomes(STATES, ACTIONS)
    for state, action, reached, (reward, ended) in told:
        row, place = transitions.add(state, action, reached)
        outcomes.add(row, place, reached, reward, ended)
    return transitions, outcomes


def blended(number, total, base):
    """Mean of a table with so many counts, whose prior has the mean `base`."""
    return (number + STRENGTH * base) / (total + STRENGTH)


CONTEXTS = {
    "reached": lambda s, a, r: r,
    "row": lambda s, a, r: (s, a),
    "action": lambda s, a, r: a,
    "step": lambda s, a, r: (s, a, r),
}


def foretold(past, step, levels):
    """Chances of each level by what outcomes may depend on, `(5, levels)`, from steps before."""
    s, a, r, _ = step

    def count(context, level=None):
        same = [t for t in past if CONTEXTS[context](*t[:3]) == CONTEXTS[context](s, a, r)]
        return len([t for t in same if level is None or t[3] == level])

    found = []
    for level in levels:
        even = STRENGTH / (len(levels) + 1)
        base = (count("action", level) + even) / (count("action") + STRENGTH)
        reached = blended(count("reached", level), count("reached"), base)
        row = blended(count("row", level), count("row"), base)
        by_reached = blended(count("step", level), count("step"), reached)
        by_row = blended(count("step", level), count("step"), row)
        found.append([reached, row, base, by_reached, by_row])
    return np.array(found).T


def test_evidence_is_how_well_each_parent_foretold_every_outcome():
    told = list(history())
    _, outcomes = counted(told)
    levels = []
    evidence = np.zeros(5)
    for number, step in enumerate(told):
        levels += [step[3]] if step[3] not in levels else []
        evidence += np.log(foretold(told[:number], step, levels)[:, levels.index(step[3])])
    assert outcomes.levels == levels
    assert outcomes.log_evidence == pytest.approx(evidence)
    odds = np.exp(evidence - evidence.max())
    assert outcomes.weights == pytest.approx(odds / odds.sum())


def test_reward_is_preferred_in_units_of_the_largest():
    _, outcomes = counted(history())
    wanted = dict(zip(outcomes.levels, outcomes.log_preferences(3.0), strict=True))
    assert wanted == {level: pytest.approx(1.5 * level[0]) for level in LEVELS}
    nothing = Outcomes(2, 1)
    assert nothing.log_preferences(3.0).tolist() == []
    nothing.add(0, 0, 1, 0.0, False)
    assert nothing.log_preferences(3.0).tolist() == [0.0]


@pytest.mark.parametrize("seed", range(3))
def test_steps_are_sums_over_effects_and_over_what_outcomes_depend_on(seed):
    """Costs, who follows and how likely, for two actions, rare effects and effects never seen."""
    told = list(history(seed=seed))
    transitions, outcomes = counted(told)
    source = np.random.default_rng(seed)
    chances = source.dirichlet(np.ones(len(transitions.effects) + 1), STATES * ACTIONS)
    chances[2] = [0.7, LEAST / 2, 0.3 - LEAST, LEAST / 2]  # too rare to be followed
    outcomes.log_evidence = np.log(source.dirichlet(np.ones(5)))
    steps = Steps.lay_out(chances, transitions, outcomes, scale=2.0, discount=0.8)
    cost = dict(zip(outcomes.levels, -outcomes.log_preferences(2.0), strict=True))

    def means(table, parents):
        """Cost and chance to end by a table of chances `(5, levels)` and weights of parents."""
        mixed = parents @ table
        return mixed @ list(cost.values()), mixed @ [float(ended) for _, ended in outcomes.levels]

    for row in range(STATES * ACTIONS):
        state, action = divmod(row, ACTIONS)
        kept = np.where(chances[row] > LEAST, chances[row], 0.0)
        kept /= kept.sum()
        expected, goes = 0.0, np.zeros(STATES)
        for effect, chance in zip(transitions.effects, kept[:-1], strict=True):
            reached = (state + effect) % STATES
            table = _without_even(told, (state, action, reached), outcomes.levels)
            price, ends = means(table, outcomes.weights)
            expected += chance * price
            goes[reached] += 0.8 * chance * (1 - ends)
        elsewhere = _without_even(told, (state, action, None), outcomes.levels)
        price, ends = means(elsewhere[2:3], np.ones(1))
        assert steps.cost[row] == pytest.approx(expected + kept[-1] * price)
        assert steps.anywhere[row] == pytest.approx(0.8 * kept[-1] * (1 - ends))
        found = np.zeros(STATES)
        np.add.at(found, steps.following[row], steps.weight[row])
        assert found == pytest.approx(goes)
        used = (steps.weight[row] > 0).sum()
        assert (steps.weight[row, :used] > 0).all()  # from the front


def _without_even(told, step, levels):
    """As `foretold`, with the action's own frequencies as base: nothing is kept for unmet outcomes."""
    s, a, r = step

    def share(context, level, base=None):
        same = [t for t in told if CONTEXTS[context](*t[:3]) == CONTEXTS[context](s, a, r)]
        hits = len([t for t in same if t[3] == level])
        return hits / max(len(same), 1) if base is None else blended(hits, len(same), base)

    found = []
    for level in levels:
        base = share("action", level)
        reached, row = share("reached", level, base), share("row", level, base)
        steps = share("step", level, reached), share("step", level, row)
        found.append([reached, row, base, *steps])
    return np.array(found).T


def test_before_anything_came_of_a_step_it_costs_nothing():
    transitions = Transitions(3, 1)
    steps = Steps.lay_out(np.ones((3, 1)), transitions, Outcomes(3, 1), scale=1.0, discount=0.9)
    assert not steps.cost.any() and not steps.anywhere.any() and steps.weight.shape == (3, 0)


def halving(most, tolerance):
    """A state that leads to itself with weight 1/2 at a cost of 1: sweep n changes it by 2^(1 - n)."""
    values = np.zeros(1)
    following, weight = np.zeros((1, 1), np.int64), np.full((1, 1), 0.5)
    arguments = np.ones(1), following, weight, np.zeros(1), most, tolerance
    return values, iterate(values, *arguments)


def test_iteration_ends_where_nothing_changes_or_the_budget_does():
    """A change of 1/4 is less than .3, one of 1/2 is not."""
    values, (found, sweeps) = halving(100, 0.3)
    assert sweeps == 3 and values[0] == 1.75 and found[0, 0] == 1.75
    values, (_, sweeps) = halving(2, 1e-9)
    assert sweeps == 2 and values[0] == 1.5
    told = np.zeros(1)
    rest = np.zeros(1, np.int64), np.zeros((1, 1), np.int64), np.full((1, 1), 0.5), np.zeros(1)
    follow(told, np.ones(1), *rest, 100, 0.3)
    assert told[0] == 1.75
    told = np.zeros(1)
    follow(told, np.ones(1), *rest, 2, 1e-9)
    assert told[0] == 1.5


def test_what_may_follow_anywhere_is_worth_the_mean_of_all_states():
    """Values solve v = told + W v + anywhere mean(v), where the best actions are 1, 0, 1."""
    source = np.random.default_rng(3)
    told = source.random(6)
    following = source.integers(0, 3, (6, 2))
    weight = 0.4 * source.random((6, 2)) + 0.01
    anywhere = 0.1 * source.random(6)
    best = np.array([1, 0, 1])
    rows = 2 * np.arange(3) + best
    moves = np.zeros((3, 3))
    for state, row in enumerate(rows):
        np.add.at(moves[state], following[row], weight[row])
    moves += anywhere[rows][:, None] / 3
    values = np.zeros(3)
    follow(values, told, best, following, weight, anywhere, 5000, 1e-13)
    assert values == pytest.approx(np.linalg.solve(np.eye(3) - moves, told[rows]))
