"""Small data sets, simulated once and for all, for programs that neither the engine nor NUTS was tuned on.

Needs NumPy alone, since two environments read it: that of the engine and that of NumPyro.
"""

from collections.abc import Callable

import numpy as np

Data = dict[str, np.ndarray]
SEED = 20


def overdispersed(rng: np.random.Generator) -> Data:
    """Counts that vary more than Poisson's, over two covariates."""
    x = rng.normal(size=(80, 2))
    mean = np.exp(1.0 + x @ [0.5, -0.3])
    return {"x": x, "y": rng.negative_binomial(2.0, 2.0 / (2.0 + mean)).astype(float)}


def two_lines(rng: np.random.Generator) -> Data:
    """Points around two lines; which point lies around which is not known."""
    x = rng.uniform(-2, 2, size=60)
    second = rng.random(60) < 0.35
    return {"x": x, "y": np.where(second, 1.0 + 1.5 * x, -0.5 * x) + 0.3 * rng.normal(size=60)}


def correlated_effects(rng: np.random.Generator) -> Data:
    """Intercepts and slopes of fifteen groups that go together."""
    root = np.array([[0.8, 0.0], [-0.3, 0.4]])
    effects = np.array([1.0, -0.5]) + rng.normal(size=(15, 2)) @ root.T
    group = np.repeat(np.arange(15), 6)
    x = rng.normal(size=90)
    y = effects[group, 0] + effects[group, 1] * x + 0.5 * rng.normal(size=90)
    return {"group": group, "x": x, "y": y}


def tumours(rng: np.random.Generator) -> Data:
    """Successes of twenty small experiments whose chances are alike."""
    number = rng.integers(8, 30, size=20).astype(float)
    return {
        "number": number,
        "y": rng.binomial(number.astype(int), rng.beta(2, 9, 20)).astype(float),
    }


def quarters(rng: np.random.Generator) -> Data:
    """Twelve years of quarters: a trend that turns, a season that changes slowly."""
    level = 5.0
    slope = 0.1
    season = [1.0, -0.5, -1.2]
    y = []
    for _ in range(48):
        y.append(level + season[0] + 0.3 * rng.normal())
        level += slope + 0.2 * rng.normal()
        slope += 0.05 * rng.normal()
        season = [-sum(season) + 0.1 * rng.normal(), season[0], season[1]]
    return {"y": np.array(y)}


def few_of_many(rng: np.random.Generator) -> Data:
    """Three of twenty predictors matter."""
    x = rng.normal(size=(60, 20))
    weights = np.zeros(20)
    weights[:3] = [1.5, -1.0, 0.7]
    return {"x": x, "y": x @ weights + rng.normal(size=60)}


def outliers(rng: np.random.Generator) -> Data:
    """A line with noise of three degrees of freedom."""
    x = rng.normal(size=100)
    return {"x": x, "y": 0.5 + 1.2 * x + 0.5 * rng.standard_t(3, size=100)}


def shares(rng: np.random.Generator) -> Data:
    """Eight groups of counts in four categories, whose shares are alike."""
    chances = rng.dirichlet(6 * np.array([0.4, 0.3, 0.2, 0.1]), size=8)
    return {"y": np.stack([rng.multinomial(25, p) for p in chances]).astype(float)}


def sightings(rng: np.random.Generator) -> Data:
    """Four visits to each of fifty places, some of which are empty."""
    there = rng.random(50) < 0.6
    return {"y": (there[:, None] & (rng.random((50, 4)) < 0.4)).astype(float)}


def wiggle(rng: np.random.Generator) -> Data:
    """Yes or no at thirty places, by a smooth curve."""
    x = np.sort(rng.uniform(0, 5, 30))
    return {"x": x, "y": (rng.random(30) < 1 / (1 + np.exp(-2 * np.sin(1.5 * x)))).astype(float)}


def cut_off(rng: np.random.Generator) -> Data:
    """A line of which values below zero are known to be below zero only."""
    x = rng.normal(size=70)
    y = 0.4 + x + 0.8 * rng.normal(size=70)
    return {"x": x, "y": np.maximum(y, 0.0), "is_cut": (y <= 0).astype(float)}


def crossed(rng: np.random.Generator) -> Data:
    """Answers of people of six ages in twenty states, at one of two times."""
    age = rng.integers(0, 6, 400)
    state = rng.integers(0, 20, 400)
    late = rng.integers(0, 2, 400).astype(float)
    odds = -0.3 + 0.5 * late + 0.4 * rng.normal(size=6)[age] + 0.7 * rng.normal(size=20)[state]
    return {
        "age": age,
        "state": state,
        "late": late,
        "y": (rng.random(400) < 1 / (1 + np.exp(-odds))).astype(float),
    }


def noisy_inputs(rng: np.random.Generator) -> Data:
    """A line whose inputs are measured with an error that is known."""
    true = rng.normal(1.0, 1.0, size=40)
    return {
        "x": true + 0.5 * rng.normal(size=40),
        "y": 0.3 + 0.8 * true + 0.3 * rng.normal(size=40),
    }


def bearings(rng: np.random.Generator) -> Data:
    """Thirty directions, near the place where angles begin anew."""
    return {"y": rng.vonmises(3.0, 2.5, size=30)}


def four_together(rng: np.random.Generator) -> Data:
    """Fifty vectors of four numbers that go together."""
    root = np.array([[1.0, 0, 0, 0], [0.8, 0.6, 0, 0], [-0.3, 0.2, 0.9, 0], [0, 0.5, 0.1, 0.5]])
    return {"y": rng.normal(size=(50, 4)) @ (root * [[1.0], [2.0], [0.5], [1.0]]).T}


def three_outcomes(rng: np.random.Generator) -> Data:
    """Three outcomes of units a thousandfold apart, over one covariate, whose errors go together."""
    x = rng.normal(size=60)
    root = np.array([[1.0, 0.0, 0.0], [0.7, 0.7, 0.0], [-0.5, 0.3, 0.8]])
    errors = rng.normal(size=(60, 3)) @ root.T
    y = np.array([1.0, 0.5, -0.2]) + x[:, None] * np.array([0.6, -0.4, 0.2]) + 0.7 * errors
    return {"x": x, "y": y * [1.0, 1e3, 1e-3]}


def aftershocks(rng: np.random.Generator) -> Data:
    """Counts, each of which raises those that follow."""
    y: list[int] = []
    for t in range(80):
        raised = sum(0.5 * 0.4 * 0.6 ** (t - 1 - k) * y[k] for k in range(t))
        y.append(int(rng.poisson(1.5 + raised)))
    return {"y": np.array(y, dtype=float)}


def tides(rng: np.random.Generator) -> Data:
    """A damped rotation that is pushed on by noise, seen in noise, with two spells of which nothing is known."""
    turn = 0.96 * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    state = np.array([1.5, 0.0])
    y = []
    for _ in range(60):
        y.append(state[0] + 0.3 * rng.normal())
        state = turn @ state + 0.3 * rng.normal(size=2)
    known = np.ones(60)
    known[18:27] = 0
    known[41:46] = 0
    return {"y": np.array(y) * known, "known": known}


def claims(rng: np.random.Generator) -> Data:
    """Rare events among a hundred thousand exposed, in twelve groups, more spread than Poisson's."""
    group = np.repeat(np.arange(12), 5)
    exposed = 1e5 * rng.lognormal(0.0, 0.8, size=60)
    mean = exposed * np.exp(-9.0 + 0.5 * rng.normal(size=12)[group])
    return {
        "group": group,
        "exposed": exposed,
        "y": rng.negative_binomial(3.0, 3.0 / (3.0 + mean)).astype(float),
    }


def growth(rng: np.random.Generator) -> Data:
    """A population that grows to what its place can bear, counted up to factors."""
    time = np.arange(0.0, 12.0, 0.6)
    size = 800 / (1 + (800 / 12 - 1) * np.exp(-0.9 * time))
    return {"time": time, "y": size * np.exp(0.15 * rng.normal(size=len(time)))}


def three_heaps(rng: np.random.Generator) -> Data:
    """Numbers around three places."""
    which = rng.choice(3, size=90, p=[0.5, 0.3, 0.2])
    return {"y": np.array([-2.0, 0.5, 3.0])[which] + 0.6 * rng.normal(size=90)}


def faint(rng: np.random.Generator) -> Data:
    """Twelve measurements of something very small."""
    return {"y": 2e-5 + 1e-5 * rng.normal(size=12)}


# the one table of names: programs and NUTS's models are called as their data; new ones at the end, since places seed
SETS: dict[str, Callable[[np.random.Generator], Data]] = {
    f.__name__: f
    for f in (
        overdispersed,
        two_lines,
        correlated_effects,
        tumours,
        quarters,
        few_of_many,
        outliers,
        shares,
        sightings,
        wiggle,
        cut_off,
        crossed,
        noisy_inputs,
        bearings,
        four_together,
        three_outcomes,
        aftershocks,
        tides,
        claims,
        growth,
        three_heaps,
        faint,
    )
}


def data_of(name: str) -> Data:
    """One data set, the same at every call."""
    return SETS[name](np.random.default_rng([SEED, list(SETS).index(name)]))
