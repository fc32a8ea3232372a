"""Finite models read off declared graphs: beliefs and tables against enumeration of all histories."""

import itertools

import gymnasium
import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Beta, Categorical, Dirichlet, Independent, Normal

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.one_life import as_one_life
from aif_dcpc.agents.planners.finite_model import FiniteModel
from aif_dcpc.agents.planners.protocol import Situation
from aif_dcpc.inference import DCPC, GraphicalModel, every, lag

ACTIONS = 2


def table(source, *shape):
    """Random distributions along the last axis, some of them with zeros."""
    found = source.dirichlet(np.ones(shape[-1]), shape[:-1])
    found = np.where(found < 0.15, 0.0, found)
    found = np.where(found.sum(-1, keepdims=True) > 0, found, 1.0)
    return torch.tensor(found / found.sum(-1, keepdims=True), dtype=torch.float64)


class TwoFactors:
    """A chain `a` that the action moves, and a chain `b` that reads `a` of its own slice.

    Modalities: `x` reads both, `y` reads `b`.
    """

    def __init__(self, seed):
        source = np.random.default_rng(seed)
        self.sizes = tuple(source.integers(2, 4, 4))
        a, b, x, y = self.sizes
        self.first_a = table(source, a)
        self.first_b = table(source, a, b)
        self.next_a = table(source, a, ACTIONS, a)
        self.next_b = table(source, b, a, b)
        self.x = table(source, a, b, x)
        self.y = table(source, b, y)

    def declared(self):
        model = GraphicalModel()
        model.add_input("u")
        model.add_site(
            "a",
            lambda a, u: Categorical(self.next_a[a, u]),
            [lag("a"), lag("u")],
            initial=lambda: Categorical(self.first_a),
            scope="slice",
        )
        model.add_site(
            "b",
            lambda b, a: Categorical(self.next_b[b, a]),
            [lag("b"), "a"],
            initial=lambda a: Categorical(self.first_b[a]),
            scope="slice",
        )
        model.add_site("x", lambda a, b: Categorical(self.x[a, b]), ["a", "b"], scope="slice")
        model.add_site("y", lambda b: Categorical(self.y[b]), ["b"], scope="slice")
        return model

    def step(self, before, action):
        """p(a, b | the slice before), `(A, B)`; None before the first."""
        if before is None:
            return (self.first_a[:, None] * self.first_b).numpy()
        a, b = before
        return (self.next_a[a, action][:, None] * self.next_b[b]).numpy()

    def paths(self, actions, seen):
        """p(path, outcomes) of every path ((a, b), ...) that explains what was seen."""
        found = {(): 1.0}
        for t, (x, y) in enumerate(seen):
            longer = {}
            for path, p in found.items():
                step = self.step(path[-1] if path else None, actions[t - 1] if t else None)
                for a, b in itertools.product(*map(range, self.sizes[:2])):
                    q = p * step[a, b] * float(self.x[a, b, x] * self.y[b, y])
                    if q > 0:
                        longer[(*path, (a, b))] = q
            found = longer
        return found

    def history(self, seed, length):
        """Actions, and outcomes (x, y) that can follow from them."""
        source = np.random.default_rng(seed)
        actions = [int(u) for u in source.integers(0, ACTIONS, length - 1)]
        now = None
        seen = []
        for t in range(length):
            step = self.step(now, actions[t - 1] if t else None)
            now = np.unravel_index(source.choice(step.size, p=step.ravel()), step.shape)
            laws = (self.x[now], self.y[now[1]])
            seen.append(tuple(int(source.choice(len(law), p=law.numpy())) for law in laws))
        return actions, seen


def situation(engine, state, space=None, **preferences):
    return Situation(
        engine=engine,
        state=state,
        action="u",
        action_space=space or gymnasium.spaces.Discrete(ACTIONS),
        preferences=preferences,
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_belief_is_that_of_all_histories(seed):
    world = TwoFactors(seed)
    length = (1, 2, 4)[seed % 3]
    actions, seen = world.history(seed, length)
    expected = np.zeros(world.sizes[:2])
    for path, p in world.paths(actions, seen).items():
        expected[path[-1]] += p
    engine = DCPC(world.declared(), num_particles=2)
    data = {
        "u": torch.tensor([[*actions, 0]]),
        "x": torch.tensor([[x for x, _ in seen]]),
        "y": torch.tensor([[y for _, y in seen]]),
    }
    finite, belief = FiniteModel.read(situation(engine, engine.init(data)))
    assert finite.factors == {"a": world.sizes[0], "b": world.sizes[1]}
    assert np.abs(belief - (expected / expected.sum()).ravel()).max() < 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_the_tables_are_those_of_all_next_steps(seed):
    world = TwoFactors(seed)
    wanted = torch.tensor([0.5, -1.0, 2.0])[: world.sizes[2]]
    engine = DCPC(world.declared(), num_particles=2)
    finite, _ = FiniteModel.read(situation(engine, possible(engine, world), x=wanted))
    size_a, size_b = world.sizes[:2]
    for a, b, u in itertools.product(range(size_a), range(size_b), range(ACTIONS)):
        found = finite.transitions[u, a * size_b + b].reshape(size_a, size_b)
        expected = world.next_a[a, u][:, None] * world.next_b[b]
        assert np.abs(found - expected.numpy()).max() < 1e-12
        assert np.abs(finite.likelihood["x"][a * size_b + b] - world.x[a, b].numpy()).max() < 1e-12
        assert np.abs(finite.likelihood["y"][a * size_b + b] - world.y[b].numpy()).max() < 1e-12
    assert finite.log_preferences["x"].tolist() == wanted.tolist()
    assert not finite.novelty


def possible(engine, world):
    """A cloud over one slice whose outcomes can occur."""
    _, [(x, y)] = world.history(0, 1)
    zero = torch.zeros(1, 1, dtype=torch.int64)
    return engine.init({"u": zero, "x": zero + x, "y": zero + y})


# -- lives, parameters -----------------------------------------------------------------------------


def maze():
    """One episode: a side that holds, a cue that points to it with unknown reliability, a place."""
    model = GraphicalModel()
    model.add_site("reliability", lambda: Beta(2.0, 1.0), scope="global")
    model.add_site("side", lambda: Bernoulli(torch.tensor(0.3)), scope="episode")
    model.add_input("u")
    model.add_site(
        "place",
        lambda u: Categorical(torch.eye(3)[u]),
        [lag("u")],
        initial=lambda: Categorical(torch.eye(3)[0]),
        scope="slice",
    )

    def reading(place, side, reliability):
        right = torch.where(side > 0, reliability, 1 - reliability)
        told = torch.stack([0 * right, 1 - right, right], -1)
        return Categorical(torch.where((place == 1)[..., None], told, torch.eye(3)[0]))

    model.add_site("reading", reading, ["place", "side", "reliability"], scope="slice")
    return as_one_life(model)


def at_reliability(engine, reliabilities, length=4):
    """A cloud in which each particle has a reliability; episodes begin at slices 0 and 1."""
    data = {
        "u": torch.tensor([[0, 1, 1, 0, 0]])[:, :length],
        "reset": torch.tensor([[1, 1, 0, 0, 0]])[:, :length],
        "place": torch.tensor([[0, 0, 1, 1, 0]])[:, :length],
        "reading": torch.tensor([[0, 0, 2, 2, 0]])[:, :length],
    }
    particles = {"reliability": torch.tensor(reliabilities)[:, None]}
    return engine.init(data, particles=particles)


def test_a_life_is_filtered_from_where_its_episode_began():
    """By Bayes' rule for each particle's reliability: two readings say right, of a side with prior .3."""
    reliabilities = [0.6, 0.8, 0.9, 0.95]
    engine = DCPC(maze(), num_particles=4)
    state = at_reliability(engine, reliabilities)
    finite, belief = FiniteModel.read(
        situation(engine, state, gymnasium.spaces.Discrete(3), reading=torch.zeros(3))
    )
    right = np.array([0.3 * r**2 / (0.3 * r**2 + 0.7 * (1 - r) ** 2) for r in reliabilities]).mean()
    assert finite.factors == {"side": 2, "place": 3}
    assert np.abs(belief.reshape(2, 3) - np.outer([1 - right, right], [0, 1, 0])).max() < 1e-6
    assert (
        np.abs(finite.likelihood["reading"].reshape(2, 3, 3)[1, 1, 2] - np.mean(reliabilities))
        < 1e-6
    )
    assert np.abs(finite.transitions.sum(2) - 1).max() < 1e-12


def test_novelty_is_what_the_particles_parameters_leave_to_be_learned():
    reliabilities = np.array([0.6, 0.8, 0.9, 0.95])
    engine = DCPC(maze(), num_particles=4)
    state = at_reliability(engine, reliabilities.tolist())
    finite, _ = FiniteModel.read(situation(engine, state, gymnasium.spaces.Discrete(3)))

    def binary(p):
        return -(p * np.log(p) + (1 - p) * np.log(1 - p))

    expected = binary(reliabilities.mean()) - binary(reliabilities).mean()
    found = finite.novelty["reading"].reshape(3, 2, 3)  # action, side, place
    assert set(finite.novelty) == {"reading"}
    assert np.abs(found[1] - expected).max() < 1e-6  # to the cue
    assert np.abs(found[[0, 2]]).max() < 1e-12


def test_a_cut_cloud_goes_on_from_its_particles():
    """The particles' sides at the cut, each carried on by what was seen since."""
    engine = DCPC(maze(), num_particles=4)
    state = at_reliability(engine, [0.6, 0.8, 0.9, 0.95], length=5).last()
    assert state.length == 3
    side = torch.tensor([0.0, 1.0, 1.0, 1.0])[:, None, None].expand(4, 1, 3)
    state = state.with_values({"side": side})
    values = dict(state.values)
    values["reset"] = torch.zeros_like(values["reset"])
    _, belief = FiniteModel.read(
        situation(engine, state.replace(values=values), gymnasium.spaces.Discrete(3))
    )
    assert np.abs(belief.reshape(2, 3) - np.outer([0.25, 0.75], [1, 0, 0])).max() < 1e-6


def test_a_learned_table_is_averaged_over_particles():
    model = GraphicalModel()
    model.add_input("u")
    model.add_site("P", lambda: Independent(Dirichlet(torch.ones(2, 3, 3)), 2), scope="global")
    model.add_site(
        "s",
        lambda s, u, P: Categorical(P[u, s]),
        [lag("s"), lag("u"), "P"],
        initial=lambda P: Categorical(torch.ones(3)),
        scope="slice",
    )
    engine = DCPC(model, num_particles=5)
    state = engine.init({"u": torch.tensor([[0, 1, 1, 0]]), "s": torch.tensor([[0, 1, 2, 1]])})
    finite, belief = FiniteModel.read(situation(engine, state, s=torch.tensor([0.0, 1.0, 2.0])))
    drawn = state.particles["P"].squeeze(1).double().numpy()
    assert np.abs(finite.transitions - drawn.mean(0)).max() < 1e-6
    assert belief.tolist() == [0.0, 1.0, 0.0]

    def entropy(p):
        return -(p * np.log(p)).sum(-1)

    expected = entropy(drawn.mean(0)) - entropy(drawn).mean(0)
    assert np.abs(finite.novelty["s"] - expected).max() < 1e-5


# -- what cannot be read ---------------------------------------------------------------------------


def chain(kernel=None, **site):
    """A model of one latent and one observed site."""
    model = GraphicalModel()
    model.add_input("u")
    model.add_site(
        "s",
        kernel or (lambda s, u: Categorical(torch.ones(2))),
        site.pop("parents", [lag("s"), lag("u")]),
        initial=site.pop("initial", lambda: Categorical(torch.ones(2))),
        scope="slice",
    )
    model.add_site(
        "o", site.pop("outcome", lambda s: Bernoulli(0.3 + 0.4 * s)), ["s"], scope="slice"
    )
    return model


def refused(model, words, space=None, data=None, **preferences):
    engine = DCPC(model, num_particles=2)
    zero = torch.zeros(1, 1, dtype=torch.int64)
    state = engine.init(data or {"u": zero, "o": zero.float()})
    with pytest.raises(AgentError, match=words):
        FiniteModel.read(situation(engine, state, space, **preferences))


def test_what_is_not_finite_is_named():
    normal = chain(
        lambda s, u: Normal(s + u, 1.0),
        initial=lambda: Normal(0.0, 1.0),
        outcome=lambda s: Normal(s, 1.0),
    )
    refused(normal, "site 's' has no finite number of values.*CrossEntropy")
    refused(chain(outcome=lambda s: Normal(0.0 * s, 1.0)), "site 'o' has no finite number")
    refused(chain(), "actions in Box.*cannot be listed", gymnasium.spaces.Box(0.0, 1.0))


def test_what_looks_too_far_back_is_named():
    far = chain(parents=[lag("s", 2), lag("u")], initial=lambda: Categorical(torch.ones(2)))
    refused(far, "site 's' reads 's' 2 slices back")
    soon = GraphicalModel()
    soon.add_input("u")
    soon.add_site("o", lambda u: Bernoulli(0.3 + 0.1 * u), ["u"], scope="slice")
    refused(soon, "reads action 'u' within its own slice")


def test_slow_sites_and_several_data_are_named():
    slow = chain()
    slow.add_site("c", lambda: Bernoulli(0.5), scope=every(2))
    refused(slow, "site 'c' has no value of its own in each slice")
    zero = torch.zeros(2, 1, dtype=torch.int64)
    refused(chain(), "one life with time, found 2 data", data={"u": zero, "o": zero.float()})


def test_a_preference_for_what_is_not_observed_is_named():
    refused(chain(), "preferred site", p=torch.zeros(2))


def test_outcomes_that_nothing_explains_are_named():
    model = chain(outcome=lambda s: Bernoulli(torch.where(s == 5, 1.0, 0.0)))
    engine = DCPC(model, num_particles=2)
    state = engine.init({"u": torch.zeros(1, 1).long(), "o": torch.zeros(1, 1)})
    state = state.with_values({"o": torch.ones(1, 1, 1)})
    with pytest.raises(AgentError, match="impossible under every particle"):
        FiniteModel.read(situation(engine, state))
