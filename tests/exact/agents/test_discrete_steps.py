"""What comes of a step and what follows it, against plain loops over the counts that tell it."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from rings import Ring, agent_of_ring, certain, lived, walk
from scipy.special import digamma, xlogy

from aif_dcpc.agents.discrete.drawn_tables import DrawnTables, draw_tables
from aif_dcpc.agents.discrete.dynamic_programming import LEAST, Steps, follow, iterate
from aif_dcpc.agents.discrete.observed_agent import ObservedAgent
from aif_dcpc.agents.discrete.outcomes import STRENGTH, Outcomes
from aif_dcpc.agents.discrete.prediction import Prediction
from aif_dcpc.agents.discrete.requirements import read, state_sizes
from aif_dcpc.agents.discrete.transitions import Transitions
from aif_dcpc.agents.discrete.world import CONCENTRATIONS, World
from aif_dcpc.agents.errors import AgentError

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


# -- particles -------------------------------------------------------------------------------------


def two_particles(transitions, kinds=((0.1, 0.2, 0.3, 0.4), (0.0, 0.1, 0.9, 0.0))):
    """A world with two particles that differ in all that rows share."""
    world = World(transitions, num_particles=2)
    world.kinds = np.array(kinds)
    world.slips = np.array([[0.6, 0.3, 0.1], [0.4, 0.4, 0.2]])
    world.concentration = np.array([6, 3])
    number = len(transitions.effects)
    source = np.random.default_rng(5)
    world.effects = source.dirichlet(np.ones(number + 1), (2, transitions.num_actions))
    return world


def test_predictions_of_particles_are_averaged():
    """Chances, and what a row tells of its own table and kind given what rows share."""
    transitions = lived(num_states=5)
    both = Prediction(transitions, two_particles(transitions))
    alone = []
    for k in range(2):
        one = two_particles(transitions)
        settings = one.kinds[k], one.concentration[k], one.effects[k], one.slips[k]
        alone.append(certain(transitions, *settings))
    chances = np.mean([found.chances for found in alone], 0)
    assert np.allclose(both.chances, chances)
    assert np.allclose(both.novelty, np.mean([found.novelty for found in alone], 0))


def test_a_row_of_four_effects_does_not_slip():
    """Three slots hold at most three: with four shown, the row is its own or as usual."""
    transitions = Transitions(6, 1)
    for reached in (0, 1, 2, 3, 3):
        transitions.add(0, 0, reached)
    usual = np.array([[0.2, 0.3, 0.2, 0.2, 0.1]])
    found = certain(transitions, [0.0, 0.2, 0.3, 0.5], 6, usual)
    strength = CONCENTRATIONS[6]
    counts = np.array([1.0, 1.0, 1.0, 2.0])
    as_usual = 0.2 * np.prod(usual[0, :4] ** counts)
    rising = [strength * usual[0, e] + i for e in range(4) for i in range(int(counts[e]))]
    own = 0.3 * np.prod(rising) / np.prod([strength + n for n in range(5)])
    share = own / (own + as_usual)
    table = (strength * usual[0, :4] + counts) / (strength + 5)
    assert found.chances[0, :4] == pytest.approx(share * table + (1 - share) * usual[0, :4])


def test_tables_are_drawn_by_one_particle_and_each_action_by_its_own_usual_effects():
    """Rows that do as usual, at two particles and two actions: whole tables tell whose they are."""
    transitions = lived()
    for _ in range(2):  # every row that was tried is tried once more
        for state in range(3):
            transitions.add(state, 0, state + 1)
            transitions.add(state, 1, state)
    world = two_particles(transitions, kinds=((0, 1, 0, 0), (0, 1, 0, 0)))
    drawn = DrawnTables(Prediction(transitions, world), hold=10)
    generator = torch.Generator().manual_seed(0)
    met = set()
    for _ in range(20):
        drawn.forget()
        tables = drawn.current(generator)
        met.add(drawn.particle)
        for row in transitions.visited:
            assert np.array_equal(tables[row], world.effects[drawn.particle, row % 2])
    assert met == {0, 1}


def test_what_was_tried_once_stays_expected_and_twice_is_drawn():
    transitions = Transitions(5, 1)
    for state, reached in ((0, 1), (1, 2), (1, 3)):
        transitions.add(state, 0, reached)
    world = two_particles(transitions, kinds=((0, 0, 1, 0), (0, 0, 1, 0)))
    prediction = Prediction(transitions, world)
    drawn = DrawnTables(prediction, hold=10)
    tables = drawn.current(torch.Generator().manual_seed(0))
    assert np.array_equal(tables[0], prediction.chances[0])
    assert not np.allclose(tables[1], prediction.chances[1])


def test_a_draw_stands_from_the_first_step_on_until_effects_are_met():
    transitions = Transitions(4, 1)
    world = World(transitions, num_particles=2)
    prediction = Prediction(transitions, world)
    drawn = DrawnTables(prediction, hold=5)
    generator = torch.Generator().manual_seed(0)
    assert not drawn.stands
    drawn.current(generator)
    assert drawn.stands and drawn.drawn_at == 0
    transitions.add(0, 0, 1)
    world.meet(generator)
    prediction.refresh()
    assert not drawn.stands  # its tables know of no effect
    before = generator.get_state()
    drawn.redraw(np.array([0]), generator)
    assert torch.equal(generator.get_state(), before)


def test_own_tables_are_drawn_from_their_dirichlet():
    """Means and variances of 4,000 draws of one row, 5 standard errors of a Beta's."""
    usual = np.array([[0.5, 0.3, 0.2]])
    counts = np.array([[4.0, 1.0]])
    told = np.array([[1, 0]]), counts, np.array([2])
    tables = np.zeros((4000, 3))
    for number in range(len(tables)):
        chances = np.zeros((1, 3))
        arguments = np.array([0]), chances, np.eye(4)[2], 2.0, usual, np.ones(3) / 3
        draw_tables(number, *arguments, *told, 1.0)
        tables[number] = chances[0]
    after = 2.0 * usual[0] + [1.0, 4.0, 0.0]
    total = after.sum()
    variance = after * (total - after) / total**2 / (total + 1)
    assert (np.abs(tables.mean(0) - after / total) < 5 * np.sqrt(variance / 4000)).all()
    assert tables.var(0) == pytest.approx(variance, rel=0.15)


def test_a_cloud_begins_with_all_kinds_and_slots_alike():
    """Probabilities all of them, from which sweeps begin; a usual effect is one that was never seen."""
    world = World(Transitions(5, 2), num_particles=3)
    assert world.kinds.tolist() == [[0.25] * 4] * 3
    assert world.slips == pytest.approx(np.full((3, 3), 1 / 3))
    assert world.effects.tolist() == [[[1.0]] * 2] * 3
    assert CONCENTRATIONS[world.concentration] == pytest.approx(1.0, abs=0.01)
    assert world.prior_of_effects.tolist() == [1.0]


def test_an_effect_that_is_met_takes_its_share_of_what_was_never_seen():
    """Of four that were never seen: a Beta(1/6, 3/6) of it, with mean 1/4; 5 standard errors."""
    transitions = Transitions(6, 1)
    for reached in (1, 2):
        transitions.add(0, 0, reached)
    world = World(transitions, num_particles=4000)
    generator = torch.Generator().manual_seed(0)
    world.meet(generator)
    transitions.add(0, 0, 3)
    rest = world.effects[:, 0, -1].copy()
    before = world.effects[:, 0, :2].copy()
    world.meet(generator)
    assert np.array_equal(world.effects[:, 0, :2], before)
    share = world.effects[:, 0, 2] / rest
    error = math.sqrt(0.25 * 0.75 / (2 / 3 + 1) / 4000)
    assert abs(share.mean() - 0.25) < 5 * error
    assert world.effects[:, 0].sum(-1) == pytest.approx(1)
    assert world.prior_of_effects == pytest.approx(np.array([1, 1, 1, 3]) / 6)


# -- the agent -------------------------------------------------------------------------------------


def test_terms_of_a_plan_are_those_of_its_policy():
    """Novelty of the plan and its total by the linear equations of the policy that it follows."""
    agent = agent_of_ring(1)
    walk(agent, 1)
    agent.draws = False
    agent.tolerance = 1e-12
    agent.max_iterations = 10_000
    agent.begin(seed=0)
    observation = Ring().reset()[0]
    for _ in range(2):  # the second begins where the first has ended
        agent.act(observation)
    found = agent.expected_free_energy()
    steps, told = agent.ahead, agent.told
    best = found.argmin(1)
    rows = 2 * np.arange(9) + best
    moves = np.zeros((18, 9))
    for row in range(18):
        np.add.at(moves[row], steps.following[row], steps.weight[row])
    moves += steps.anywhere[:, None] / 9
    value = np.linalg.solve(np.eye(9) - moves[rows], (steps.cost - told)[rows])
    assert found.ravel() == pytest.approx(steps.cost - told + moves @ value, abs=1e-6)
    ahead = np.linalg.solve(np.eye(9) - moves[rows], told[rows])
    expected = (told + moves @ ahead)[2 * agent.state : 2 * agent.state + 2]
    agent.act(observation)
    terms = agent.explanation().terms
    assert terms["novelty"] == pytest.approx(expected, abs=1e-6)
    assert terms["risk"] - terms["novelty"] == pytest.approx(found[agent.state], abs=1e-6)
    assert not terms["ambiguity"].any() and not terms["information_gain"].any()
    scalars = agent.report().scalars
    here = 2 * agent.state + agent.action
    assert scalars["efe_step/risk"] == pytest.approx(steps.cost[here])
    assert scalars["efe_step/novelty"] == pytest.approx(told[here])
    later = scalars["efe/total"] - steps.cost[here] + told[here]
    assert scalars["efe/later_steps"] == pytest.approx(later)
    kinds = agent.world.kinds.mean(0)
    names = ("fixed", "usual", "slips")
    assert [scalars[f"learning/{n}"] for n in names] == pytest.approx(kinds[[0, 1, 3]].tolist())
    assert scalars["learning/rows_visited"] == (agent.transitions.counts.sum(1) > 0).sum()


def test_novelty_below_the_least_does_not_count():
    agent = agent_of_ring(0)
    walk(agent, 1)
    agent.expected_free_energy()
    expected = np.maximum(agent.prediction.novelty - 0.03, 0)
    assert agent.told == pytest.approx(expected) and (expected > 0).any()
    agent.freeze()
    agent.expected_free_energy()
    assert not agent.told.any()


def test_what_rows_share_is_inferred_at_each_of_the_first_steps_and_then_as_the_life_grows(
    monkeypatch,
):
    """Fifty steps, and after that whenever the life has grown by a fiftieth."""
    inferred = []

    def infer(world, generator, num_sweeps):
        inferred.append(world.transitions.steps)
        world.meet(generator)

    monkeypatch.setattr(World, "infer", infer)
    agent = agent_of_ring(0)
    while agent.transitions.steps < 160:
        walk(agent, 1, greedy=False)
    expected = list(range(1, 51))
    for step in range(51, agent.transitions.steps + 1):
        expected += [step] if step >= 1.02 * expected[-1] else []
    assert inferred == expected and len(expected) < 110


def test_between_looks_a_row_alone_is_predicted_anew_unless_an_effect_was_met(monkeypatch):
    """An effect of which nobody knew changes the predictions of all rows."""
    agent = agent_of_ring(0)
    while agent.transitions.steps < 60:
        walk(agent, 1, greedy=False)
    agent.steps_at_inference = agent.transitions.steps
    asked = []
    update = Prediction.update
    monkeypatch.setattr(
        Prediction, "update", lambda p, rows: asked.append(len(rows)) or update(p, rows)
    )
    known = agent.transitions.effects
    row, _ = agent.transitions.add(0, 1, known[0])
    agent._infer(np.array([row]))
    assert asked == [1]
    leap = next(effect for effect in range(9) if effect not in known)
    agent.transitions.add(0, 1, leap)
    agent._infer(np.array([row]))
    assert asked == [1, 18] and agent.prediction.chances.shape == (18, len(known) + 1)


def test_sampled_actions_follow_the_softmax_of_their_costs():
    """Odds exp(-2 x difference): 4,000 draws within 5 standard errors; greedy ones the least, ties alike."""
    agent = agent_of_ring(0)
    agent.precision = 2.0
    costs = np.tile([1.0, 1.3], (4000, 1))
    share = 1 / (1 + math.exp(0.6))
    found = agent._drawn(costs, False).mean()
    assert abs(found - share) < 5 * math.sqrt(share * (1 - share) / 4000)
    assert not agent._drawn(costs, True).any()
    tied = agent._drawn(np.ones((4000, 2)), True).mean()
    assert abs(tied - 0.5) < 5 * 0.5 / math.sqrt(4000)


def test_the_unit_of_reward_is_less_in_larger_worlds_and_draws_are_held_as_far_as_a_plan_looks():
    """Sixteen nats over the root of the number of rows; 1 / (1 - discount) steps."""
    agent = ObservedAgent({"state": (10, 5)}, 8, 0)
    assert agent.reward_scale == pytest.approx(16 / 20)
    assert ObservedAgent({"state": (4,)}, 2, 0, reward_scale=3).reward_scale == 3
    assert agent.drawn[0].hold == 50
    assert ObservedAgent({"state": (4,)}, 2, 0, discount=0.75).drawn[0].hold == 4


def test_what_is_stored_is_planned_on_alike_by_who_is_frozen():
    agent = agent_of_ring(2)
    walk(agent, 2)
    agent.freeze()
    agent.expected_free_energy()
    twin = agent_of_ring(7)
    twin.load_state_dict(agent.state_dict())
    for learns in (False, True):
        assert np.array_equal(twin.values[learns], agent.values[learns])
    assert agent.values[False].any() and not np.array_equal(*agent.values.values())
    assert twin.steps_at_inference == agent.steps_at_inference > 0
    assert np.array_equal(twin.told_ahead, agent.told_ahead)


def test_as_many_states_as_can_be_listed_are_taken_and_settings_of_the_engine_are_read():
    space = gymnasium.spaces.Dict(
        a=gymnasium.spaces.MultiDiscrete([100, 100]), b=gymnasium.spaces.MultiBinary(1)
    )
    assert state_sizes(space) == {"a": (100, 100), "b": (2,)}
    with pytest.raises(AgentError, match="20,001"):
        state_sizes(gymnasium.spaces.Discrete(20_001))
    found = read({"inference": {"num_particles": 3, "num_sweeps": 5}, "precision": 2.0})
    assert [found[n] for n in ("num_particles", "num_sweeps", "precision")] == [3, 5, 2.0]


def test_the_entropy_of_a_table_of_ones_own_counts_effects_never_seen_apart():
    """Three of five never seen: the last stands for all, with a third each, beside one row's counts."""
    transitions = lived(num_states=5)
    usual = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    found = certain(transitions, [0.0, 0.0, 1.0], 5, usual)
    row = 2 * 2 + 1  # seen most often
    strength = CONCENTRATIONS[5]
    after = strength * np.concatenate([usual[1, :2], np.full(3, 0.1 / 3)])
    seen = transitions.seen[row, : transitions.distinct[row]]
    after[seen] += transitions.counts[row, : len(seen)]
    total = after.sum()
    known = digamma(total + 1) - after @ digamma(after + 1) / total
    assert found.novelty[row] == pytest.approx(-xlogy(after, after / total).sum() / total - known)


# -- worlds that are unlike others -----------------------------------------------------------------


def test_rewards_of_a_continuum_are_counted_at_the_nearest_of_some_levels():
    """Of 3,000 normal draws: levels stay few, means of both actions within .05."""
    source = np.random.default_rng(0)
    outcomes = Outcomes(2, 2)
    total = np.zeros(2)
    number = np.zeros(2)
    for step in range(3000):
        action = int(source.integers(2))
        reward = float(source.normal(2.0 * action))
        row = action
        outcomes.add(row, 0, step % 2, reward, False)
        total[action] += reward
        number[action] += 1
    levels = np.array([level for level, _ in outcomes.levels])
    assert 64 <= len(levels) < 85
    assert max(abs(levels)) > 3  # whatever lies beyond all others has a level
    found = outcomes.counts[2] @ levels / outcomes.counts[2].sum(1)
    assert found == pytest.approx(total / number, abs=0.05)
    before = len(levels)
    outcomes.add(0, 0, 0, 0.1234, True)
    assert outcomes.levels[-1] == (0.1234, True) and len(outcomes.levels) == before + 1


def test_what_lies_outside_its_space_or_is_no_number_is_told():
    agent = ObservedAgent({"state": (4,)}, 2, 0)
    agent.begin(seed=0)
    for place in (4, -1):
        with pytest.raises(AgentError, match=r"outside its observation space of \(4,\)"):
            agent.act({"state": np.array(place)})
    agent.act({"state": np.array(0)})
    for reward in (math.nan, -math.inf):
        with pytest.raises(AgentError, match=r"reward is .*expected finite"):
            agent.feedback({"state": np.array(1)}, reward, False, False)
    assert agent.transitions.steps == 0
