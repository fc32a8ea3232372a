"""Parts of fits to behaviour: simulated choices, groups, tables, files, and the weighing of draws."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributions import HalfNormal, Normal

from aif_dcpc.agents import behaviour_evidence
from aif_dcpc.agents.behaviour import (
    DEFAULTS,
    POPULATION,
    RANGES,
    Behaviour,
    Fit,
    Learner,
    behaviour_model,
    simulate,
)
from aif_dcpc.agents.behaviour_evidence import (
    Cloud,
    Proposal,
    Subjects,
    compare,
    compare_groups,
    integrate,
)
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.inference import DCPC
from aif_dcpc.inference.errors import ConvergenceWarning


def shown(subjects, trials, arms=2, seed=0):
    """Wins and losses of every arm, `(B, T, A)` each."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, subjects, trials, arms)
    return (torch.rand(shape, generator=generator) < torch.tensor([0.7, 0.3])[:arms]).float()


def test_simulated_choices_are_as_frequent_as_they_are_probable():
    """All eight series of three choices among 6,000 subjects alike: 5 standard errors each."""
    number = 6000
    wins, losses = (x.expand(number, -1, -1) for x in shown(1, 3))
    free = {"learning_rate": 0.4, "precision": 0.7, "loss_preference": 0.3, "habit": 0.8}
    told = {name: torch.full((number,), value) for name, value in free.items()}
    data = simulate(Learner(), told, wins, losses)
    site = behaviour_model(Learner(), group=False).sites["choices"]
    for series in itertools.product((0, 1), repeat=3):
        value = torch.tensor([series])
        one = (torch.tensor([free[name]]) for name in RANGES)
        share = float(site.kernel(*one, wins[:1], losses[:1]).log_prob(value).exp())
        found = (data.choices == value).all(1).double().mean()
        assert abs(float(found) - share) < 5 * math.sqrt(share * (1 - share) / number)
    again = simulate(Learner(), told, wins, losses)
    assert torch.equal(again.choices, data.choices)
    other = simulate(Learner(), told, wins, losses, seed=1)
    assert not torch.equal(other.choices, data.choices)


def test_a_group_has_means_and_spreads_above_its_subjects():
    """The joint density of all sites, written out."""
    learner = Learner(free=("precision", "habit"))
    wins, losses = shown(3, 5)
    subjects = {"precision": torch.tensor([1.0, 1.5, 2.0]), "habit": torch.tensor([0.1, 0.2, 0.9])}
    data = simulate(learner, subjects, wins, losses)
    group = {"precision": (1.2, 0.4), "habit": (0.5, 0.6)}
    population = {"habit": (0.1, 0.9)}
    clamped = {**data.data, **subjects}
    for name, (mean, spread) in group.items():
        clamped |= {f"{name}.mean": torch.tensor(mean), f"{name}.spread": torch.tensor(spread)}
    engine = DCPC(behaviour_model(learner, population=population), num_particles=1)
    found = engine.log_joint(engine.init(clamped))[0]  # of each subject, with its group
    alone = behaviour_model(learner, group=False, population=population)
    law = alone.sites["choices"].kernel(*subjects.values(), wins, losses)
    expected = law.log_prob(data.choices)
    for name, (mean, spread) in group.items():
        own_mean, own_sd = {**POPULATION, **population}[name]
        expected = expected + Normal(own_mean, own_sd).log_prob(torch.tensor(mean))
        expected = expected + HalfNormal(own_sd).log_prob(torch.tensor(spread))
        expected = expected + Normal(mean, spread).log_prob(subjects[name])
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_table_tells_moments_and_quantiles_in_the_parameters_own_range():
    draws = torch.linspace(-2, 2, 2 * 50 * 3).view(2, 50, 3)
    fit = Fit(Learner(free=("precision", "habit")), {"precision": draws, "habit": 1 + draws})
    rows = fit.table()
    assert [(r["parameter"], r["subject"]) for r in rows] == list(
        itertools.product(("precision", "habit"), range(3))
    )
    for row in rows:
        own = draws.flatten(0, 1)[:, row["subject"]].double().numpy()
        own = np.exp(own) if row["parameter"] == "precision" else 1 + own
        expected = [own.mean(), own.std(ddof=1), np.quantile(own, 0.05), np.quantile(own, 0.95)]
        assert [row[n] for n in ("mean", "sd", "5 %", "95 %")] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(AgentError, match="free parameter"):
        fit.parameter("learning_rate")


def test_what_is_neither_free_nor_fixed_is_the_default():
    found = Learner(free=()).parameters({})
    assert {name: float(value) for name, value in found.items()} == pytest.approx(DEFAULTS)
    with pytest.raises(AgentError, match="habit"):
        Learner(free=(), fixed={"habbit": 1.0})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected columns subject, choice"),
        ("subject,choice,win_0,loss_0\n1,0,1,0\n", "expected columns subject, choice"),
        ("who,choice,win_0,win_1,loss_0,loss_1\n1,0,1,0,0,0\n", "expected columns subject"),
        (
            "subject,choice,win_0,win_1,loss_0,loss_1\n1,0,1,0,0,0\n1,0,1,0,0,0\n2,0,1,0,0,0\n",
            "differ in the number of trials",
        ),
        (
            "subject,choice,win_0,win_1\na,0,1,0\n",
            "expected columns subject, choice, win_0, loss_0",
        ),
        (
            "subject,choice,win_0,win_1,loss_0,loss_1\na,left,1,0,0,0\n",
            "column choice: expected a whole number, found 'left'",
        ),
        (
            "subject,choice,win_0,win_1,loss_0,loss_1\na,1,yes,0,0,0\n",
            "column win_0: expected a number, found 'yes'",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, text, words):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(AgentError, match=words):
        Behaviour.from_csv(path)


@pytest.mark.parametrize(
    ("name", "value"), [("choices", -1), ("wins", -0.1), ("losses", 1.1), ("losses", -0.1)]
)
def test_values_out_of_range_are_refused(name, value):
    arrays = {"choices": torch.zeros(2, 5), "wins": torch.zeros(2, 5, 2)}
    arrays["losses"] = arrays["wins"].clone()
    Behaviour.from_arrays(arrays)
    arrays[name] = arrays[name].clone()
    arrays[name][1, 3] = value
    with pytest.raises(AgentError, match=name):
        Behaviour.from_arrays(arrays)


def test_what_was_not_shown_may_be_missing_and_edges_are_values():
    seen = torch.tensor([[[0.0, 1.0], [float("nan"), 0.5]]])
    found = Behaviour.from_arrays({"choices": [[0, 1]], "wins": seen, "losses": 1 - seen})
    assert found.data["choices"].dtype == torch.int64
    assert torch.equal(found.wins.nan_to_num(9), seen.nan_to_num(9))


# -- evidence --------------------------------------------------------------------------------------


def test_a_likelihood_in_parts_is_the_likelihood(monkeypatch):
    learner = Learner(free=("precision",))
    data = simulate(learner, {"precision": torch.ones(3)}, *shown(3, 10))
    points = torch.randn(7, 3, 1, generator=torch.Generator().manual_seed(0)).double()
    whole = Subjects(learner, data).log_likelihood(points)
    monkeypatch.setattr(behaviour_evidence, "POINTS", 2 * data.choices.numel())
    assert torch.allclose(Subjects(learner, data).log_likelihood(points), whole)
    monkeypatch.setattr(behaviour_evidence, "POINTS", 1)
    assert torch.allclose(Subjects(learner, data).log_likelihood(points), whole)
    site = behaviour_model(learner, group=False).sites["choices"]
    law = site.kernel(points[2, :, 0].float(), data.wins, data.losses)
    assert torch.allclose(whole[2].float(), law.log_prob(data.choices), atol=1e-4)


def test_a_proposal_takes_the_weighted_moments_a_little_wider():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(50, 2, 3, generator=generator).double()
    log_weights = torch.randn(50, 2, generator=generator).double()
    found = Proposal.fitted(points, log_weights)
    for b in range(2):
        weights = log_weights[:, b].softmax(0).numpy()
        mean = weights @ points[:, b].numpy()
        covariance = np.cov(points[:, b].numpy().T, aweights=weights, ddof=0)
        assert found.mean[b].numpy() == pytest.approx(mean)
        root = found.root[b].numpy()
        assert root @ root.T == pytest.approx(1.2**2 * covariance, rel=2e-3, abs=1e-3)


def test_evidence_is_the_mean_of_weights_and_its_error_their_spread():
    log_joint = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]).double()
    log_proposal = torch.tensor([[0.5, 0.0], [0.2, 0.0], [0.1, 0.0]]).double()
    cloud = Cloud(torch.zeros(3, 2, 1), log_joint, log_proposal)
    weights = np.exp((log_joint - log_proposal).numpy())
    assert cloud.log_evidence.numpy() == pytest.approx(np.log(weights.mean(0)))
    relative = weights.std(0, ddof=1) / weights.mean(0) / math.sqrt(3)
    assert cloud.standard_error.numpy() == pytest.approx(relative)


def test_integrals_take_a_quarter_of_the_draws_in_each_of_six_rounds():
    asked = []

    def log_joint(points):
        asked.append(len(points))
        return Normal(0.0, 1.0).log_prob(points).sum(-1)

    start = Proposal(torch.zeros(1, 2).double(), torch.eye(2).double()[None])
    cloud = integrate(log_joint, start, number=64, generator=torch.Generator().manual_seed(0))
    assert asked == [16] * 6 + [64] and cloud.points.shape == (64, 1, 2)


def test_learners_are_compared_in_their_order():
    """One is its likelihood; a population that knows the truth is likelier than one far off."""
    learner = Learner(free=("precision",))
    data = simulate(learner, {"precision": torch.full((4,), 1.5)}, *shown(4, 40))
    nothing = Learner(free=(), fixed={"precision": math.exp(1.5)})
    near, fixed = compare([learner, nothing], data, population={"precision": (1.5, 0.1)})
    far = compare([learner], data, population={"precision": (-2.0, 0.1)})[0]
    assert near.shape == fixed.shape == (4,)
    assert float((near - fixed).abs().max()) < 0.5 and float((near - far).sum()) > 5


@pytest.mark.parametrize(("tail", "error", "due"), [(0.6, 0.05, 0), (0.9, 0.05, 1), (0.6, 0.2, 1)])
def test_heavy_tails_or_large_errors_are_told(tail, error, due, recwarn):
    behaviour_evidence._warn("subject", tail, torch.tensor([0.01, error]))
    assert len(recwarn) == due
    assert all(issubclass(w.category, ConvergenceWarning) for w in recwarn)


def test_a_fit_keeps_its_learner_and_its_draws():
    draws = SimpleNamespace()
    fit = Fit(Learner(), draws)
    assert fit.draws is draws and fit.learner == Learner()


def test_a_population_of_unknown_parameters_is_refused():
    """In a model, and where learners are compared."""
    given = {"precison": (1.0, 0.1)}
    with pytest.raises(AgentError, match=r"'precison'.*precision"):
        behaviour_model(Learner(), population=given)
    data = Behaviour(torch.zeros(1, 2).long(), torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))
    for compared in (compare, compare_groups):
        with pytest.raises(AgentError, match=r"'precison'.*precision"):
            compared([Learner()], data, population=given)
