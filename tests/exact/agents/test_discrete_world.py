"""Worlds whose state is seen: collapsed tables, novelty and plans against definitions written out."""

import itertools

import gymnasium
import numpy as np
import pytest
import torch
from scipy.special import digamma, xlogy

from aif_dcpc.agent_runs.worlds import stacked
from aif_dcpc.agents.discrete.drawn_tables import DrawnTables
from aif_dcpc.agents.discrete.dynamic_programming import Steps, follow, iterate
from aif_dcpc.agents.discrete.observed_agent import ObservedAgent
from aif_dcpc.agents.discrete.outcomes import Outcomes
from aif_dcpc.agents.discrete.prediction import Prediction
from aif_dcpc.agents.discrete.requirements import state_sizes
from aif_dcpc.agents.discrete.transitions import Transitions
from aif_dcpc.agents.discrete.world import CONCENTRATIONS, CollapsedRows, RedrawShared, Rows, World
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.expected_free_energy import dirichlet_information


def tables_of_slips(usual, slips):
    """Every way to fill the three slots of a row: its probability and the row's table."""
    size = len(usual)
    for filling in itertools.product(range(size), repeat=3):
        table = np.zeros(size)
        np.add.at(table, list(filling), slips)
        yield np.prod(usual[list(filling)]), table


def probability(sequence, kinds, concentration, usual, slips):
    """Of one row's effects in their order, by the chain rule."""
    fixed = usual[sequence[0]] if len(set(sequence)) == 1 else 0.0
    as_usual = np.prod([usual[effect] for effect in sequence])
    own = 1.0
    for n, effect in enumerate(sequence):
        before = sequence[:n].count(effect)
        own *= (concentration * usual[effect] + before) / (concentration + n)
    slipping = sum(w * np.prod(table[list(sequence)]) for w, table in tables_of_slips(usual, slips))
    return kinds @ [fixed, as_usual, own, slipping]


def test_tables_are_integrated_out():
    kinds = np.array([0.4, 0.1, 0.2, 0.3])
    slips = np.array([0.5, 0.3, 0.2])
    effects = np.array([[0.4, 0.3, 0.1, 0.1, 0.1], [0.2, 0.1, 0.3, 0.3, 0.1]])
    rows = [(0, [1]), (0, [0, 0, 0]), (1, [1, 0, 1, 2]), (1, [1, 1]), (0, [3, 1, 2, 0, 0])]
    expected = sum(np.log(probability(s, kinds, 2.5, effects[a], slips)) for a, s in rows)
    counts = torch.tensor([[s.count(e) for e in range(4)] for _, s in rows])
    law = CollapsedRows(
        torch.tensor(kinds)[None],
        torch.tensor([2.5]).double(),
        torch.tensor(effects)[None],
        torch.tensor(slips)[None],
        torch.tensor([a for a, _ in rows]),
    )
    assert float(law.log_prob(counts[None])) == pytest.approx(expected)


def lived(num_states=4, num_actions=2):
    """A few steps: action 0 goes on by one, action 1 stays or goes on."""
    transitions = Transitions(num_states, num_actions)
    for s in range(3):
        transitions.add(s, 0, s + 1)
        transitions.add(s, 1, s)
    for following in (2, 3, 2, 2):
        transitions.add(2, 1, following)
    return transitions


def numbers_of_shared(kinds, slips, effects, concentration):
    """Numbers that tell posteriors of what rows share apart, `(N, 8)`; slots have no order."""
    sorted_slips = np.sort(slips, 1)
    spread = kinds[:, 3] * sorted_slips[:, 2]
    return np.column_stack(
        [kinds[:, [0, 1, 3]], sorted_slips[:, 2], spread, effects[:, :, 0], concentration]
    )


def test_sweeps_leave_the_posterior_as_it_is():
    """Of what rows share, by importance draws from the prior; 5 standard errors of 8 numbers."""
    transitions = lived()
    rows = Rows.of(transitions)
    world = World(transitions, num_particles=400)
    generator = torch.Generator().manual_seed(0)
    world.infer(generator, 30)
    number = 200_000
    prior = torch.from_numpy(world.prior_of_effects).expand(number, 2, -1)
    kinds = torch._sample_dirichlet(torch.ones(number, 4).double(), generator=generator)
    slips = torch._sample_dirichlet(torch.ones(number, 3).double(), generator=generator)
    effects = torch._sample_dirichlet(prior.contiguous(), generator=generator)
    index = torch.randint(len(CONCENTRATIONS), (number,), generator=generator)
    law = CollapsedRows(
        kinds,
        torch.from_numpy(CONCENTRATIONS)[index],
        effects,
        slips,
        torch.from_numpy(rows.action),
    )
    weights = law.log_prob(rows.dense(len(transitions.effects))).softmax(0).numpy()
    columns = (kinds.numpy(), slips.numpy(), effects.numpy(), index.numpy())
    numbers = numbers_of_shared(*columns)
    found = numbers_of_shared(world.kinds, world.slips, world.effects, world.concentration)
    exact = weights @ numbers
    error = np.sqrt(weights**2 @ (numbers - exact) ** 2 + found.var(0) / len(found))
    assert (np.abs(found.mean(0) - exact) < 5 * error).all()


def test_a_missing_kind_is_noticed():
    """The same check, with draws that leave rows' own tables out."""
    transitions = lived()
    rows = Rows.of(transitions)
    move = RedrawShared(rows, World(transitions).prior_of_effects)
    assert rows.dense(2).sum() == transitions.steps
    values = {
        "kinds": torch.tensor([[[1e-12, 1.0, 1e-12, 1e-12]]]).double(),
        "slips": torch.full((1, 1, 3), 1 / 3).double(),
        "concentration": torch.zeros(1, 1).long(),
        "effects": torch.tensor([[[[0.2, 0.7, 0.1], [0.5, 0.4, 0.1]]]]).double(),
    }
    drawn = move(values, torch.Generator().manual_seed(0))
    assert float(drawn["kinds"][0, 0, 1]) > 0.3  # all six rows are counted as usual


def test_effects_wrap_around_and_rows_are_counted():
    transitions = Transitions(5, 2)
    row, place = transitions.add(4, 1, 0)
    assert (row, place) == (9, 0) and transitions.effects == [1]
    for following in (0, 1, 2, 3):
        transitions.add(4, 1, following)
    assert transitions.counts[9, : transitions.distinct[9]].tolist() == [2, 1, 1, 1]
    other = Transitions(5, 2)
    other.load_state_dict(transitions.state_dict())
    assert other.add(4, 1, 3) == (9, 3) and other.counts[9, 3] == 2


# -- prediction ------------------------------------------------------------------------------------


def certain(transitions, kinds, concentration, effects, slips=(0.5, 0.3, 0.2)):
    """A prediction by one particle; kinds that are not named have no share."""
    world = World(transitions, num_particles=1)
    world.kinds = np.array([[*kinds, 0.0]]) if len(kinds) == 3 else np.array([kinds])
    world.slips = np.array([slips])
    world.concentration = np.array([concentration])
    world.effects = np.array([effects], float)
    return Prediction(transitions, world)


def test_own_tables_predict_and_tell_as_dirichlets_do():
    transitions = lived(num_states=3)
    assert len(transitions.effects) == 2
    usual = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    index = 5
    found = certain(transitions, [0.0, 0.0, 1.0], index, usual)
    for row in range(6):
        counts = np.zeros(3)
        seen = transitions.seen[row, : transitions.distinct[row]]
        counts[seen] = transitions.counts[row, : len(seen)]
        posterior = CONCENTRATIONS[index] * usual[row % 2] + counts
        assert found.chances[row] == pytest.approx(posterior / posterior.sum())
        assert found.novelty[row] == pytest.approx(dirichlet_information(posterior[:, None])[0])


def test_effects_never_seen_share_what_is_left_evenly():
    """Three of five effects were never seen: the novelty is that of the Dirichlet over all five."""
    transitions = lived(num_states=5)
    usual = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    found = certain(transitions, [0.0, 0.0, 1.0], 5, usual)
    spread = np.concatenate([usual[0][:2], np.full(3, 0.1 / 3)])
    exact = dirichlet_information(CONCENTRATIONS[5] * spread[:, None])[0]
    assert found.novelty[2 * 4] == pytest.approx(exact)


def test_a_fixed_row_tells_all_at_once():
    transitions = lived()
    usual = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    found = certain(transitions, [1.0, 0.0, 0.0], 5, usual)
    never = 3 * 2
    spread = np.array([0.6, 0.3, 0.05, 0.05])
    assert found.novelty[never] == pytest.approx(-(spread * np.log(spread)).sum())
    assert found.novelty[0] == pytest.approx(0.0, abs=1e-12)
    assert found.chances[0].max() == pytest.approx(1.0)


def test_kinds_are_weighed_by_what_a_row_has_shown():
    transitions = Transitions(4, 1)
    transitions.add(0, 0, 1)
    transitions.add(0, 0, 1)
    kinds = np.array([0.3, 0.3, 0.4])
    usual = np.array([[0.7, 0.3]])
    found = certain(transitions, kinds, 6, usual)
    strength = CONCENTRATIONS[6]
    joint = kinds * [0.7, 0.49, 0.7 * (strength * 0.7 + 1) / (strength + 1)]
    fixed, as_usual, own = joint / joint.sum()
    after = (strength * 0.7 + 2) / (strength + 2)
    assert found.chances[0, 0] == pytest.approx(fixed + 0.7 * as_usual + own * after)
    counts = np.concatenate([[strength * 0.7 + 2], np.full(3, strength * 0.1)])
    total = counts.sum()
    entropy = digamma(total + 1) - counts @ digamma(counts + 1) / total
    spread = np.array([0.7, 0.1, 0.1, 0.1])
    chance = fixed * np.eye(4)[0] + as_usual * spread + own * counts / total
    known = own * entropy - as_usual * (spread @ np.log(spread))
    assert found.novelty[0] == pytest.approx(-(chance @ np.log(chance)) - known)


@pytest.mark.parametrize("shown", [[], [0], [0, 0, 1], [2, 0, 1], [0, 0, 0, 2]])
def test_rows_that_slip_are_known_by_what_their_slots_may_hold(shown):
    """All fillings of three slots by five effects, of which two were never seen anywhere."""
    transitions = Transitions(5, 1)
    for effect in (0, 1, 2):
        transitions.add(4, 0, 4 + effect - 5 * (effect > 0))
    for effect in shown:
        transitions.add(1, 0, 1 + effect)
    usual = np.array([[0.5, 0.2, 0.1, 0.2]])
    spread = np.array([0.5, 0.2, 0.1, 0.1, 0.1])
    kinds = np.array([0.0, 0.2, 0.0, 0.8])
    slips = np.array([0.6, 0.3, 0.1])
    found = certain(transitions, kinds, 6, usual, slips)
    as_usual = 0.2 * np.prod(spread[shown])
    weights = [as_usual]
    tables = [spread]
    for weight, table in tables_of_slips(spread, slips):
        weights.append(0.8 * weight * np.prod(table[shown]))
        tables.append(table)
    weights = np.array(weights) / np.sum(weights)
    chance = weights @ np.array(tables)
    assert found.chances[1] == pytest.approx(np.append(chance[:3], chance[3:].sum()))
    known = weights @ [xlogy(table, table).sum() for table in tables]
    assert found.novelty[1] == pytest.approx(known - xlogy(chance, chance).sum())


# -- outcomes and plans ----------------------------------------------------------------------------


@pytest.mark.parametrize("parent", [0, 1, 2])
def test_what_an_outcome_depends_on_is_found(parent):
    """Tables by row tell as much as those by action where the action decides: their base is the action's."""
    rng = np.random.default_rng(0)
    outcomes = Outcomes(4, 3)
    rewarded = rng.random(12) < 0.5
    rewarded[:4] = [True, False, False, True]
    for _ in range(400):
        row = int(rng.integers(12))
        reached = int(rng.integers(4))
        key = (reached, row, row % 3)[parent]
        outcomes.add(row, reached, reached, float(rewarded[key]), False)
    foretells = {0: [0, 3], 1: [1, 3, 4], 2: [1, 2, 3, 4]}[parent]
    assert outcomes.weights[foretells].sum() > 0.99


def test_what_a_step_brings_is_told_apart_where_its_ends_do_not_tell():
    """Reward where a step went on, none where it stayed, except that place 0 is reached at a cost from 3."""
    rng = np.random.default_rng(0)
    outcomes = Outcomes(4, 1)
    for _ in range(200):
        state = int(rng.integers(4))
        moved = int(rng.integers(2))
        reached = (state + moved) % 4
        reward = -1.0 if (state, reached) == (3, 0) else float(reached == 1)
        outcomes.add(state, moved, reached, reward, False)
    assert outcomes.weights[3:].sum() > 0.99


def test_value_iteration_solves_the_equations():
    rng = np.random.default_rng(1)
    following = rng.integers(0, 5, (10, 3))
    weight = 0.9 * rng.dirichlet(np.ones(4), 10)
    steps = Steps(rng.random(10), following, weight[:, :3], weight[:, 3])
    values = np.zeros(5)
    found, _ = iterate(
        values, steps.cost, steps.following, steps.weight, steps.anywhere, 5000, 1e-12
    )
    best = found.min(1)
    moves = np.zeros((10, 5))
    for row in range(10):
        np.add.at(moves[row], following[row], steps.weight[row])
    expected = steps.cost + moves @ best + steps.anywhere * best.mean()
    assert found.ravel() == pytest.approx(expected, abs=1e-9)


def test_steps_are_the_mean_tables_with_costs_and_endings():
    transitions = Transitions(3, 1)
    outcomes = Outcomes(3, 1)
    for state, reached, reward, ended in [(0, 1, 0.0, False), (1, 2, 2.0, True)]:
        row, place = transitions.add(state, 0, reached)
        outcomes.add(row, place, reached, reward, ended)
    outcomes.log_evidence = np.array([0.0, *[-1e9] * 4])  # by the state reached
    prediction = certain(transitions, [1.0, 0.0, 0.0], 5, [[0.9, 0.1]])
    steps = Steps.lay_out(prediction.chances, transitions, outcomes, scale=3.0, discount=0.5)
    base = np.array([-1.5, 0.5])  # mean cost and share of endings of the action
    goal = (np.array([-3.0, 1.0]) + 0.1 * base) / 1.1
    assert steps.following[:2, 0].tolist() == [1, 2]
    assert steps.cost[1] == pytest.approx(goal[0])
    assert steps.weight[1, 0] == pytest.approx(0.5 * (1 - goal[1]))
    assert steps.anywhere[2] == pytest.approx(0.5 * 0.1 * 0.5)


class Ring(gymnasium.Env):
    """Nine places in a ring; action 1 goes on, action 0 back; the place opposite ends with reward."""

    def __init__(self):
        self.observation_space = gymnasium.spaces.Dict(
            ones=gymnasium.spaces.Discrete(3), threes=gymnasium.spaces.MultiDiscrete([3])
        )
        self.action_space = gymnasium.spaces.Discrete(2)

    def seen(self):
        return {"ones": self.place % 3, "threes": np.array([self.place // 3])}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return self.seen(), {}

    def step(self, action):
        self.place = (self.place + 2 * int(action) - 1) % 9
        return self.seen(), float(self.place == 4), self.place == 4, False, {}


def walk(agent, episodes, greedy=True):
    """Lengths of so many episodes."""
    env = Ring()
    lengths = []
    for episode in range(episodes):
        observation, _ = env.reset()
        agent.begin(seed=episode)
        ended = False
        lengths.append(0)
        while not ended:
            action = agent.act(observation, greedy=greedy)
            observation, reward, ended, truncated, _ = env.step(action)
            agent.feedback(observation, reward, ended, truncated)
            lengths[-1] += 1
    return lengths


def test_a_ring_is_learned_and_walked_the_short_way():
    agent = ObservedAgent.build(Ring().observation_space, 2, {}, {"num_particles": 4}, 0)
    walk(agent, 6)
    assert agent.world.kinds.mean(0).argmax() in (0, 1)
    steps = agent.transitions.steps
    agent.freeze()
    assert walk(agent, 3) == [4, 4, 4]  # of two ways round, 4 and 5 steps
    assert agent.transitions.steps == steps


# -- several worlds at once ------------------------------------------------------------------------


class Slippery(Ring):
    """The ring, where one step in five goes the other way."""

    def step(self, action):
        slips = self.np_random.random() < 0.2
        return super().step(int(action) ^ slips)


def live_together(agent, worlds, steps, *, log=None):
    """Let an agent live in worlds for so many steps in all of them together; yields how many were made."""
    seen = [world.reset(seed=number)[0] for number, world in enumerate(worlds)]
    agent.begin_batch(seeds=list(range(len(worlds))))
    for made in range(0, steps, len(worlds)):
        actions = agent.act_batch(stacked(seen))
        outcomes = [world.step(action) for world, action in zip(worlds, actions, strict=True)]
        reached, rewards, ended, truncated, _ = zip(*outcomes, strict=True)
        if log is not None:
            log += zip(seen, actions, reached, strict=True)
        agent.feedback_batch(
            stacked(reached), np.array(rewards), np.array(ended), np.array(truncated)
        )
        seen = [
            world.reset()[0] if over else now
            for world, now, over in zip(worlds, reached, ended, strict=True)
        ]
        seeds = [made + b if over else None for b, over in enumerate(ended)]
        if any(ended):
            agent.begin_batch(seeds=seeds)
        yield made + len(worlds)


def agent_of_ring(seed):
    return ObservedAgent.build(Ring().observation_space, 2, {}, {"num_particles": 4}, seed)


def test_every_transition_of_every_world_is_counted_in_its_own_row():
    agent = agent_of_ring(0)
    log = []
    assert list(live_together(agent, [Slippery() for _ in range(4)], 80, log=log))[-1] == 80
    expected = np.zeros((9, 2, 9))
    for before, action, reached in log:
        places = [3 * int(seen["ones"]) + int(seen["threes"][0]) for seen in (before, reached)]
        expected[places[0], action, places[1]] += 1
    found = np.zeros_like(expected)
    transitions = agent.transitions
    for row in transitions.visited:
        for place in range(transitions.distinct[row]):
            effect = transitions.effects[transitions.seen[row, place]]
            following = (row // 2 + effect) % 9
            found[row // 2, row % 2, following] = transitions.counts[row, place]
    assert np.array_equal(found, expected) and expected.sum() == 80


def test_what_an_action_tells_counts_for_one_world_only():
    """Nothing is known, and both worlds look the same: each tries another action."""
    for seed in range(10):
        agent = agent_of_ring(seed)
        agent.begin_batch(seeds=[0, 1])
        seen = stacked([Ring().reset()[0]] * 2)
        assert set(agent.act_batch(seen).tolist()) == {0, 1}


def steps_to_the_short_way(number, seed):
    """Steps in so many slippery rings until a frozen agent would go on at each place of the short way."""
    agent = agent_of_ring(seed)
    worlds = [Slippery() for _ in range(number)]
    short = [3 * (place % 3) + place // 3 for place in range(4)]
    for steps in live_together(agent, worlds, 240):
        if steps % 12 == 0:
            agent.freeze()
            costs = agent.expected_free_energy()
            agent.freeze(False)
            if (costs[short, 1] < costs[short, 0]).all():
                return steps
    return 240


def test_four_worlds_teach_as_much_as_one():
    """Steps until the ring is known, 10 lives each: means within four standard errors (1e-3 by Student's t)."""
    alone, together = (
        np.array([steps_to_the_short_way(number, seed) for seed in range(10)]) for number in (1, 4)
    )
    error = np.sqrt((alone.var(ddof=1) + together.var(ddof=1)) / 10)
    assert abs(alone.mean() - together.mean()) < 4 * error
    assert together.max() < 240


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (gymnasium.spaces.Box(0, 1), "expected Discrete"),
        (gymnasium.spaces.Discrete(3, start=1), "from 0 on"),
        (gymnasium.spaces.MultiDiscrete([200, 200]), "at most 20,000"),
    ],
)
def test_states_that_cannot_be_listed_are_refused(space, words):
    with pytest.raises(AgentError, match=words):
        state_sizes(space)


# -- tables drawn from the posterior ---------------------------------------------------------------


def test_drawn_tables_follow_the_posterior():
    """Means of 4,000 draws of each visited row are what is predicted; 5 standard errors of 24 numbers."""
    transitions = Transitions(6, 1)
    for state, effects in enumerate([[0, 0, 1], [2, 2], [0, 1, 2, 0, 0, 1]]):
        for effect in effects:
            transitions.add(state, 0, state + effect)
    world = World(transitions, num_particles=1)
    world.kinds = np.array([[0.3, 0.2, 0.2, 0.3]])
    world.slips = np.array([[0.6, 0.3, 0.1]])
    world.concentration = np.array([6])
    world.effects = np.array([[[0.5, 0.2, 0.1, 0.2]]])
    prediction = Prediction(transitions, world)
    drawn = DrawnTables(prediction, hold=10)
    generator = torch.Generator().manual_seed(0)
    rows = transitions.visited
    tables = np.zeros((4000, *prediction.chances.shape))
    for number in range(len(tables)):
        drawn.forget()
        tables[number] = drawn.current(generator)
    assert tables.sum(-1) == pytest.approx(1.0)
    untried = np.setdiff1d(np.arange(6), rows)
    assert np.array_equal(tables[0, untried], prediction.chances[untried])
    error = tables[:, rows].std(0) / np.sqrt(len(tables)) + 1e-9
    assert (np.abs(tables[:, rows].mean(0) - prediction.chances[rows]) < 5 * error).all()
    entropies = -xlogy(tables[:, rows], tables[:, rows]).sum(-1)
    last = tables[:, rows, -1] * np.log(3)  # the last effect stands for three that were never seen
    least = prediction.chances[rows, -1]
    spread = -xlogy(prediction.chances[rows], prediction.chances[rows]).sum(-1) + least * np.log(3)
    known = spread - prediction.novelty[rows]
    assert (np.abs((entropies + last).mean(0) - known) < 0.1).all()


def test_a_draw_is_held_through_an_episode_but_for_rows_that_are_visited():
    transitions = lived()
    world = World(transitions)
    generator = torch.Generator().manual_seed(0)
    world.meet(generator)
    world.kinds[:] = [0.0, 0.0, 1.0, 0.0]
    prediction = Prediction(transitions, world)
    drawn = DrawnTables(prediction, hold=3)
    before = drawn.current(generator).copy()
    row, _ = transitions.add(2, 1, 3)
    prediction.update(np.array([row]))
    drawn.redraw(np.array([row]), generator)
    after = drawn.current(generator).copy()
    others = np.arange(len(before)) != row
    assert np.array_equal(before[others], after[others])
    assert not np.array_equal(before[row], after[row])
    for _ in range(3):
        transitions.add(2, 1, 3)
    assert not drawn.stands
    drawn.current(generator)
    assert drawn.stands and drawn.drawn_at == transitions.steps
    drawn.forget()
    assert not drawn.stands


def test_what_a_plan_tells_is_summed_over_its_steps():
    """A chain of three places: the plan goes on, and each step tells its own."""
    told = np.array([0.1, 0.7, 0.3, 0.2, 0.0, 0.5])  # two actions in each place
    following = np.array([[0], [1], [1], [2], [2], [2]])
    weight = np.array([[0.9], [0.9], [0.9], [0.9], [0.5], [0.5]])
    values = np.zeros(3)
    follow(values, told, np.array([1, 1, 0]), following, weight, np.zeros(6), 500, 1e-12)
    assert values == pytest.approx([0.7 + 0.9 * 0.2, 0.2, 0.0])


def test_an_agent_goes_on_bit_for_bit_from_what_was_stored():
    agent = agent_of_ring(3)
    walk(agent, 3)
    other = agent_of_ring(3)
    other.load_state_dict(agent.state_dict())
    assert walk(agent, 3) == walk(other, 3)
    assert np.array_equal(agent.drawn.chances, other.drawn.chances)
    assert np.array_equal(agent.outcomes.steps, other.outcomes.steps)


def test_what_was_stored_before_rows_could_slip_is_read():
    agent = agent_of_ring(3)
    walk(agent, 2)
    stored = agent.state_dict()
    stored["world"]["kinds"] = torch.full((4, 1, 3), 1 / 3).double()
    del stored["world"]["slips"]
    for name in ("drawn", "told_ahead"):
        del stored[name]
    del stored["outcomes"]["steps"]
    stored["outcomes"]["log_evidence"] = stored["outcomes"]["log_evidence"][:3]
    other = agent_of_ring(4)
    other.load_state_dict(stored)
    assert other.world.kinds.sum(1) == pytest.approx(1.0)
    assert other.outcomes.log_evidence.tolist()[3:] == other.outcomes.log_evidence.tolist()[:2]
    other.freeze()
    assert walk(other, 1) == [4]


def test_how_rows_slip_is_drawn_from_its_posterior():
    """Three rows that show two or three effects, by importance draws from the prior; 5 standard errors of 4 numbers."""
    transitions = Transitions(3, 1)
    for state, effects in enumerate([[0, 0, 0, 1], [1, 1, 2, 1], [2, 0, 2, 2, 2, 1]]):
        for effect in effects:
            transitions.add(state, 0, (state + effect) % 3)
    rows = Rows.of(transitions)
    world = World(transitions, num_particles=1000)
    generator = torch.Generator().manual_seed(0)
    number = 400_000
    prior = torch.from_numpy(world.prior_of_effects).expand(number, 1, -1)
    kinds = torch._sample_dirichlet(torch.ones(number, 4).double(), generator=generator)
    slips = torch._sample_dirichlet(torch.ones(number, 3).double(), generator=generator)
    effects = torch._sample_dirichlet(prior.contiguous(), generator=generator)
    index = torch.randint(len(CONCENTRATIONS), (number,), generator=generator)
    grid = torch.from_numpy(CONCENTRATIONS)
    law = CollapsedRows(kinds, grid[index], effects, slips, torch.from_numpy(rows.action))
    weights = law.log_prob(rows.dense(3)).softmax(0).numpy()
    world.infer(generator, 20)

    def numbers(kinds, slips):
        ordered = np.sort(slips, 1)
        return np.column_stack([ordered[:, 2], ordered[:, 0], (slips**2).sum(1), kinds[:, 3]])

    drawn = numbers(world.kinds, world.slips)
    known = numbers(kinds.numpy(), slips.numpy())
    exact = weights @ known
    error = np.sqrt(weights**2 @ (known - exact) ** 2 + drawn.var(0) / len(drawn))
    assert (error < 0.02).all()
    assert (np.abs(drawn.mean(0) - exact) < 5 * error).all()
