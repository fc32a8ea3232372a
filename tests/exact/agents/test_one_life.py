"""Many episodes as one series have the density of the same episodes side by side."""

import pytest
import torch
from torch.distributions import Bernoulli, Beta, Categorical, Exponential, Laplace, Normal

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.one_life import as_one_life
from aif_dcpc.inference import DCPC, GraphicalModel, every, lag
from aif_dcpc.inference.distributions.switched import Switched, switched
from aif_dcpc.inference.errors import ModelError

LENGTHS = (4, 1, 5)


def second_order():
    """A pushed oscillation with an unknown friction; lags 1 and 2."""
    model = GraphicalModel()
    model.add_input("u")
    model.add_site("friction", lambda: Beta(2.0, 3.0), scope="global")
    model.add_site(
        "x",
        lambda one, two, u, friction: Normal(friction * one - 0.3 * two + u, 0.5),
        [lag("x"), lag("x", 2), lag("u"), "friction"],
        initial=lambda friction: Normal(friction, 2.0),
        scope="slice",
    )
    model.add_site("o", lambda x: Normal(x, 0.3), ["x"], scope="slice")
    return model


def switching():
    """A regime of the whole episode, discrete states with memory, outcomes by both."""
    stay = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    seen = torch.tensor([[[0.8, 0.2], [0.5, 0.5]], [[0.1, 0.9], [0.6, 0.4]]])
    model = GraphicalModel()
    model.add_site("regime", lambda: Categorical(torch.tensor([0.2, 0.8])), scope="episode")
    model.add_site("warm", lambda regime: Bernoulli(0.3 + 0.4 * regime), ["regime"])
    model.add_site(
        "s",
        lambda before: Categorical(stay[before.long()]),
        [lag("s")],
        initial=lambda: Categorical(torch.tensor([0.5, 0.5])),
        scope="slice",
    )
    model.add_site(
        "o",
        lambda s, regime: Categorical(seen[regime.long(), s.long()]),
        ["s", "regime"],
        scope="slice",
    )
    return model


def resets():
    """1 at the first slice of each episode, `(1, T)`."""
    return torch.cat([torch.eye(n, dtype=torch.int64)[0] for n in LENGTHS])[None]


def drawn_episodes(model, names, **globals_):
    """Values of sites for each episode, drawn from the prior."""
    generator = torch.Generator().manual_seed(1)
    episodes = []
    for length in LENGTHS:
        engine = DCPC(model, num_particles=1)
        engine.generator = generator
        inputs = {"u": torch.randn(1, length, generator=generator)} if "u" in model.sites else {}
        data = {**inputs, **globals_}
        state = engine.init(data, length=length, batch_size=1)
        episodes.append({**inputs, **{n: state.particles[n][0] for n in names}})
    return episodes


def log_joint(model, data):
    """Log density of values of all sites, nats."""
    engine = DCPC(model, num_particles=1)
    return float(engine.log_joint(engine.init(data)))


@pytest.mark.parametrize("declare", [second_order, switching])
def test_a_life_has_the_density_of_its_episodes(declare):
    model = declare()
    names = [n for n, s in model.sites.items() if s.kind == "stochastic" and s.scope != "global"]
    told = {"friction": torch.tensor(0.4)} if declare is second_order else {}
    episodes = drawn_episodes(model, names, **told)
    apart = sum(log_joint(model, {**episode, **told}) for episode in episodes)
    if told:
        apart -= (len(LENGTHS) - 1) * float(Beta(2.0, 3.0).log_prob(told["friction"]))
    life = {"reset": resets(), **told}
    for name in episodes[0]:
        parts = [
            episode[name]
            if model.sites[name].scope == "slice"
            else episode[name][:, None].expand(1, length)
            for episode, length in zip(episodes, LENGTHS, strict=True)
        ]
        life[name] = torch.cat(parts, 1)
    assert log_joint(as_one_life(model), life) == pytest.approx(apart, abs=1e-4)


def test_what_holds_for_an_episode_cannot_change_within_it():
    model = as_one_life(switching())
    engine = DCPC(model, num_particles=8)
    observed = torch.randint(2, (1, 10), generator=torch.Generator().manual_seed(0))
    state = engine.init({"reset": resets(), "o": observed}, seed=0)
    state, _ = engine.run(state, 20)
    for name in ("regime", "warm"):
        for part in state.particles[name].split(LENGTHS, 2):
            assert bool((part == part[:, :, :1]).all())


def test_posterior_of_a_regime_is_that_of_its_own_episode():
    """By the forward algorithm in each episode apart; 4 standard errors of 2,000 draws: once in 5,000 runs."""
    model = switching()
    observed = torch.tensor([[0, 0, 1, 0, 1, 1, 0, 1, 1, 1]])
    engine = DCPC(as_one_life(model), num_particles=200)
    state = engine.init({"reset": resets(), "o": observed}, seed=3)
    _, info = engine.run(state, 60, record=["regime"])
    found = info.trace["regime"][20:, :, 0].double().mean((0, 1))
    start = 0
    for length in LENGTHS:
        exact = exact_regime(observed[0, start : start + length])
        error = (exact * (1 - exact) / 2000) ** 0.5
        assert abs(float(found[start]) - exact) < 4 * error
        start += length


def exact_regime(outcomes):
    """P(regime = 1 | outcomes) by the forward algorithm for each regime."""
    stay = torch.tensor([[0.9, 0.1], [0.3, 0.7]]).double()
    seen = torch.tensor([[[0.8, 0.2], [0.5, 0.5]], [[0.1, 0.9], [0.6, 0.4]]]).double()
    weights = []
    for regime, prior in enumerate((0.2, 0.8)):
        forward = torch.tensor([0.5, 0.5]).double() * seen[regime, :, outcomes[0]]
        for outcome in outcomes[1:]:
            forward = (forward @ stay) * seen[regime, :, outcome]
        weights.append(prior * float(forward.sum()))
    return weights[1] / sum(weights)


def test_a_model_of_a_life_stays_as_it_is():
    model = second_order()
    model.add_input("reset")
    assert as_one_life(model) is model


def test_modules_of_kernels_are_learned_in_a_life_too():
    model = GraphicalModel()
    kernel = LinearKernel()
    model.add_site(
        "x", kernel, [lag("x")], initial=lambda: Normal(torch.zeros(1), 1.0), scope="slice"
    )
    assert {id(p) for p in as_one_life(model).parameters()} == {id(p) for p in kernel.parameters()}


class LinearKernel(torch.nn.Module):
    """x' ~ Normal(linear(x), 1)."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)

    def forward(self, x):
        return Normal(self.linear(x), 1.0)


def test_slow_sites_and_continuous_ones_of_an_episode_are_refused():
    slow = GraphicalModel()
    slow.add_site("s", lambda: Normal(0.0, 1.0), scope=every(3))
    with pytest.raises(AgentError, match="scope='slice'"):
        as_one_life(slow)
    weight = GraphicalModel()
    weight.add_site("mass", lambda: Normal(0.0, 1.0), scope="episode")
    engine = DCPC(as_one_life(weight), num_particles=2)
    with pytest.raises(ModelError, match=r"'mass'.*Bernoulli or Categorical"):
        engine.init({"reset": torch.tensor([[1, 0]])})


def drawing(block, **extra):
    """The model of second order with one more global, read by what is seen alone, and a draw of a block."""
    model = second_order()
    model.add_site("blur", lambda: Exponential(torch.tensor(1.0)), scope="global")
    model.add_site("level", lambda: Bernoulli(torch.tensor(0.5)), scope="episode")
    model.add_site("look", lambda x, blur: Normal(x, blur), ["x", "blur"], scope="slice")
    model.add_site("sum", lambda one, f: Normal(one, f), ["level", "friction"], scope="slice")
    model.add_site("alone", lambda: Normal(torch.zeros(()), 1.0), scope="global")
    model.add_site("both", lambda one, a: Normal(one + a, 1.0), ["level", "alone"], scope="slice")

    def draw(values, generator):
        return {name: values[name] for name in block}

    vars(draw).update(extra)
    model.add_conditional(block, draw)
    return model, draw


def test_a_conditional_that_is_as_exact_in_a_life_is_kept():
    """Of a global that slices without a past read; and of any site, where it reads beginnings."""
    model, draw = drawing(("blur",))
    assert as_one_life(model).conditionals == {("blur",): draw}
    model, draw = drawing(("x",), reset="begins")
    assert as_one_life(model, "begins").conditionals == {("x",): draw}


@pytest.mark.parametrize("block", [("x",), ("friction",), ("level",), ("alone",), ("blur", "x")])
def test_a_conditional_that_knows_one_episode_only_is_refused(block):
    """Of a slice, of what a site with a past reads, of an episode, or beside one."""
    for extra in ({}, {"reset": "begins"}):
        model, _ = drawing(block, **extra)
        with pytest.raises(
            AgentError, match=f"conditional of {', '.join(block)}.*attribute `reset`"
        ):
            as_one_life(model)


def test_a_slice_proposal_of_one_episode_is_refused():
    model = second_order()
    model.add_slice_proposal(lambda values, observation, generator: ({}, torch.zeros(1, 1)))
    with pytest.raises(AgentError, match="slice proposal knows one episode only"):
        as_one_life(model)


# -- one of two distributions ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Normal(0.0, 1.0), Normal(torch.arange(3.0), 2.0)),
        (Bernoulli(0.3), Bernoulli(torch.tensor([0.1, 0.5, 1.0]))),
        (Laplace(0.0, 1.0), Normal(torch.zeros(3), 2.0)),
        (Exponential(torch.tensor(2.0)), Exponential(torch.tensor([1.0, 2.0, 3.0]))),
    ],
)
def test_one_of_two_by_element(first, second):
    condition = torch.tensor([True, False, True])
    both = switched(condition, first, second)
    value = torch.tensor([1.0, 0.0, 0.0]) if isinstance(first, Bernoulli) else torch.rand(3)
    expected = torch.where(condition, first.log_prob(value), second.log_prob(value))
    assert torch.allclose(both.log_prob(value), expected)
    assert both.batch_shape == (3,)


def test_draws_of_one_of_two_are_of_the_one_chosen():
    torch.manual_seed(0)
    condition = torch.tensor([True, False])
    both = switched(condition, Laplace(5.0, 0.1), Normal(torch.full((2,), -5.0), 0.1))
    assert isinstance(both, Switched)
    draws = both.expand((4, 2)).sample((100,))
    assert draws.shape == (100, 4, 2)
    assert bool((draws[..., 0] > 3).all() and (draws[..., 1] < -3).all())
    assert both.has_rsample and both.rsample().shape == (2,)
