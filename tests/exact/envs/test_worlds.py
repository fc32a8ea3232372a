"""Worlds of the package against their own rules written out: cue chaining, allostasis, positions only, the T-maze."""

from itertools import chain, pairwise, product

import numpy as np
import pytest

from aif_dcpc import envs
from aif_dcpc.envs.allostasis import DAY, EAT, REST, SHADE, SHIVER, SUN, VARIABLES, following
from aif_dcpc.envs.cue_chaining import COLUMNS, ENDS, FIRST, ROWS, SECOND

UP, DOWN, LEFT, RIGHT, STAY = range(5)

# -- cue chaining ----------------------------------------------------------------------------------


def hidden(env, place, rewarded):
    """A begun episode with the second cue and the reward where they are wanted."""
    observation, _ = env.reset(seed=0)
    env.unwrapped.place, env.unwrapped.rewarded = place, rewarded
    return observation


def way(start, end):
    """Actions along rows first, then along columns."""
    rows, columns = end[0] - start[0], end[1] - start[1]
    return [UP if rows < 0 else DOWN] * abs(rows) + [LEFT if columns < 0 else RIGHT] * abs(columns)


@pytest.mark.parametrize(("place", "rewarded"), list(product(range(4), range(2))))
def test_the_chain_of_cues_leads_to_the_reward(place, rewarded):
    """By way of both cues, the fewest steps; each cue is read where it lies and nowhere else."""
    env = envs.make("CueChaining")
    observation = hidden(env, place, rewarded)
    assert observation == {"location": 0, "cue_1": 0, "cue_2": 0, "outcome": 0}
    stations = [(0, 0), FIRST, SECOND[place], ENDS[rewarded]]
    steps = [way(*pair) for pair in pairwise(stations)]
    assert env.get_wrapper_attr("shortest_path")() == sum(map(len, steps))
    cell = np.array([0, 0])
    moves = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}
    for action in chain(*steps):
        cell = cell + moves[action]
        observation, reward, terminated, truncated, info = env.step(action)
        at = tuple(cell)
        assert observation == {
            "location": cell[0] * COLUMNS + cell[1],
            "cue_1": place + 1 if at == FIRST else 0,
            "cue_2": rewarded + 1 if at == SECOND[place] else 0,
            "outcome": 2 if at == ENDS[rewarded] else 0,
        }
        assert terminated == (at == ENDS[rewarded]) and not truncated
    assert reward == 1 and info == {"success": True}


def test_the_other_end_holds_nothing():
    env = envs.make("CueChaining")
    hidden(env, 0, 0)
    for action in way((0, 0), ENDS[1]):
        observation, reward, terminated, _, info = env.step(action)
    assert (observation["outcome"], reward, terminated) == (1, 0, True)
    assert info == {"success": False}


def test_walls_hold():
    env = envs.make("CueChaining", max_steps=100)
    for row, column, action in product(range(ROWS), range(COLUMNS), range(5)):
        hidden(env, 0, 0)
        env.unwrapped.cell = (row, column)
        expected = {
            UP: (max(row - 1, 0), column),
            DOWN: (min(row + 1, ROWS - 1), column),
            LEFT: (row, max(column - 1, 0)),
            RIGHT: (row, min(column + 1, COLUMNS - 1)),
            STAY: (row, column),
        }[action]
        location = env.step(action)[0]["location"]
        assert location == expected[0] * COLUMNS + expected[1]


def test_places_and_ends_are_equally_likely():
    """Five standard errors of counts of 2,000 independent draws."""
    env = envs.make("CueChaining")
    counts = np.zeros((4, 2))
    env.reset(seed=0)
    for _ in range(2_000):
        env.reset()
        counts[env.unwrapped.place, env.unwrapped.rewarded] += 1
    assert np.abs(counts - 250).max() < 5 * (250 * 7 / 8) ** 0.5


# -- allostasis ------------------------------------------------------------------------------------


def test_an_hour_of_the_body():
    """The equations of the module, written out one by one."""
    rng = np.random.default_rng(0)
    for hour, action in product(range(24), range(5)):
        energy, temperature, stomach, skin = rng.uniform(-1, 1, 4)
        day = 6 <= hour < 18
        heat = {SHADE: -4.0 * day, SUN: 3.0 * day, SHIVER: 3.0}.get(action, 0.0)
        skin_next = 0.7 * skin + 0.3 * (2.2 * np.cos(2 * np.pi * (hour - 14) / 24) + heat)
        stomach_next = 0.6 * stomach + (day and action == EAT)
        expected = [
            energy - 0.08 - 0.03 * (action == SHIVER) + 0.26 * stomach_next,
            0.9 * temperature + 0.25 * skin_next,
            stomach_next,
            skin_next,
        ]
        body = np.array([energy, temperature, stomach, skin])
        assert np.allclose(following(body, hour, np.asarray(action)), expected)


def share_in_range(policy, seeds):
    """Mean share of hours in range, and whether the environment's own count agrees."""
    shares = []
    for seed in seeds:
        env = envs.make("Allostasis")
        observation, _ = env.reset(seed=seed)
        rewards = []
        over = False
        while not over:
            action = policy(observation, env.unwrapped.hour)
            observation, reward, _, over, info = env.step(action)
            rewards.append(reward)
        assert info["in_range"] == pytest.approx(np.mean(rewards))
        assert info["success"] == (np.mean(rewards) >= 0.95)
        assert len(rewards) == 96
        shares.append(info["in_range"])
    return float(np.mean(shares))


def foresee(observation, hour, *, ahead=14, kept=100):
    """The first action of the best of many sequences under the true equations, by beam search."""
    bodies = np.array([[observation[name][0] for name in VARIABLES]])
    first = np.zeros(1, int)
    cost = np.zeros(1)
    for later in range(ahead):
        actions = np.tile(np.arange(5), len(bodies))
        bodies = following(np.repeat(bodies, 5, 0), (hour + later) % 24, actions)
        first = np.repeat(first, 5) if later else actions
        kept_in = bodies[:, :2]
        far = np.maximum(np.abs(kept_in) - 0.85, 0)
        cost = np.repeat(cost, 5) + (10 * far**2 + (np.abs(kept_in) > 1) + 0.01 * kept_in**2).sum(1)
        best = np.argsort(cost, kind="stable")[:kept]
        bodies, first, cost = bodies[best], first[best], cost[best]
    return int(first[0])


def react(edge):
    """Undo what lies beyond an edge, the worst first."""

    def act(observation, hour):
        energy, temperature = observation["energy"][0], observation["temperature"][0]
        warm = SUN if DAY[0] <= hour < DAY[1] else SHIVER
        ills = {EAT: -energy, SHADE: temperature, warm: -temperature}
        worst = max(ills, key=ills.get)
        return worst if ills[worst] > edge else REST

    return act


def test_acting_ahead_keeps_the_body_in_range_and_reacting_does_not():
    """The bar of .95 is within reach of who foresees, and of no rule that waits for an edge, wherever that lies."""
    assert share_in_range(foresee, range(3)) > 0.97
    assert share_in_range(react(1.0), range(10)) < 0.6
    assert max(share_in_range(react(edge), range(40)) for edge in (0.1, 0.3, 0.6)) < 0.95


def test_what_is_observed_is_the_body_with_noise():
    env = envs.make("Allostasis", noise=0.1, max_steps=400)
    observation, _ = env.reset(seed=1)
    errors = []
    for _ in range(400):
        observation, *_ = env.step(env.unwrapped.steps % 5)
        inside = np.abs(env.unwrapped.body) < 4
        seen = np.array([observation[name][0] for name in VARIABLES])
        errors += list((seen - env.unwrapped.body)[inside])
        angle = 2 * np.pi * env.unwrapped.hour / 24
        assert np.allclose(observation["clock"], [np.cos(angle), np.sin(angle)])
    assert abs(np.mean(errors)) < 5 * 0.1 / len(errors) ** 0.5
    assert abs(np.var(errors) / 0.01 - 1) < 5 * (2 / len(errors)) ** 0.5


# -- positions only --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "kept"),
    [
        ("CartPole-v1", [0, 2]),
        ("Pendulum-v1", [0, 1]),
        ("MountainCar-v0", [0]),
        ("MountainCarContinuous-v0", [0]),
        ("Acrobot-v1", [0, 1, 2, 3]),
    ],
)
def test_velocities_are_hidden_and_nothing_else_changes(id, kept):
    whole = envs.make("Gymnasium", id=id)
    part = envs.make("PositionsOnly", id=id)
    assert np.array_equal(part.reset(seed=2)[0]["state"], whole.reset(seed=2)[0]["state"][kept])
    for _ in range(5):
        action = whole.action_space.sample()
        seen, *rest = whole.step(action)
        hidden_too, *same = part.step(action)
        assert np.array_equal(hidden_too["state"], seen["state"][kept])
        assert rest == same


def test_noise_is_a_share_of_the_width():
    """CartPole goes on within a width of 4.8; Pendulum's cosine within 2. Five standard errors."""
    for id, width in (("CartPole-v1", 4.8), ("Pendulum-v1", 2.0)):
        env = envs.make("PositionsOnly", id=id, noise=0.05)
        still = envs.make("PositionsOnly", id=id)
        errors = []
        for seed in range(400):
            noisy = env.reset(seed=seed)[0]["state"]
            errors.append(noisy[0] - still.reset(seed=seed)[0]["state"][0])
        variance = np.mean(np.square(errors)) / (0.05 * width) ** 2
        assert abs(variance - 1) < 5 * (2 / len(errors)) ** 0.5


# -- pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TMaze", "CueChaining", "Allostasis"])
def test_pictures_show_what_changes_and_are_small(name):
    env = envs.make(name, render=True)
    env.reset(seed=0)
    first = env.render()
    for _ in range(3):
        env.step(3)
    second = env.render()
    assert first.shape == second.shape and first.dtype == np.uint8
    assert max(first.shape) <= 300
    assert (first != second).any()
    assert np.array_equal(second, env.render())  # looking changes nothing
