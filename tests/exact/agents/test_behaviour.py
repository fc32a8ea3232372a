"""Learners' choices, written out trial by trial, and their parameters, integrated on a grid."""

import csv

import numpy as np
import pytest
import torch

from aif_dcpc.agents.behaviour import (
    POPULATION,
    RANGES,
    Behaviour,
    Learner,
    behaviour_model,
    expected,
    fit_behaviour,
    simulate,
)
from aif_dcpc.agents.errors import AgentError


def outcomes(subjects, trials, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, subjects, trials, 2)
    wins, losses = (torch.rand(shape, generator=generator) < torch.tensor([0.7, 0.3])).float()
    return wins, losses


def subjects(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: mean + sd * torch.randn(number, generator=generator)
        for name, (mean, sd) in POPULATION.items()
    }


def log_probability(rate, precision, dislike, habit, choices, wins, losses):
    """Of one subject's choices, a trial at a time."""
    chances = np.full((2, 2), 0.5)
    total = 0.0
    for t, choice in enumerate(choices):
        logits = precision * (chances[0] - dislike * chances[1])
        if t:
            logits[choices[t - 1]] += habit
        total += logits[choice] - np.log(np.exp(logits).sum())
        for kind, seen in enumerate((wins[t], losses[t])):
            for arm in range(2):
                if not np.isnan(seen[arm]):
                    chances[kind, arm] += rate * (seen[arm] - chances[kind, arm])
    return total


def test_choices_have_the_probability_of_the_recursion():
    wins, losses = outcomes(3, 20)
    wins[1, 4:9] = float("nan")
    losses[2, :, 1] = float("nan")
    free = subjects(3)
    data = simulate(Learner(), free, wins, losses)
    assert data.choices.float().mean() not in (0, 1)
    site = behaviour_model(Learner(), group=False).sites["choices"]
    law = site.kernel(*(free[name] for name in RANGES), wins, losses)
    for subject, found in enumerate(law.log_prob(data.choices)):
        own = (float(RANGES[name](free[name])[subject]) for name in RANGES)
        series = (getattr(data, name)[subject].numpy() for name in ("choices", "wins", "losses"))
        assert float(found) == pytest.approx(log_probability(*own, *series), abs=1e-4)


def test_expected_chances_have_the_derivative_of_finite_differences():
    rate = torch.rand(4, 2, dtype=torch.double, requires_grad=True)
    seen = (torch.rand(1, 2, 9, 3) < 0.5).double()
    seen[0, 0, 3, 1] = float("nan")
    assert torch.autograd.gradcheck(lambda rate: expected(rate, seen), (rate,))


def test_fixed_parameters_stay_where_they_are():
    learner = Learner(free=("habit",), fixed={"learning_rate": 0.2})
    found = learner.parameters({"habit": torch.tensor([0.5, 1.0])})
    assert found["learning_rate"].tolist() == pytest.approx([0.2, 0.2])
    assert found["loss_preference"].tolist() == [1, 1]


def grid_posterior(learner, data, size=61):
    """Mean and sd of two free parameters by quadrature, `(B, 2)` each, and the log evidence `(B,)`."""
    axes = [
        torch.linspace(m - 4 * s, m + 4 * s, size) for m, s in map(POPULATION.get, learner.free)
    ]
    first, second = torch.meshgrid(*axes, indexing="ij")
    points = {learner.free[0]: first.reshape(-1, 1), learner.free[1]: second.reshape(-1, 1)}
    site = behaviour_model(learner, group=False).sites["choices"]
    law = site.kernel(*(points[name] for name in learner.free), data.wins, data.losses)
    log = law.log_prob(data.choices[None].expand(size**2, -1, -1)).double()
    cell = 0.0
    for name, axis in zip(learner.free, axes, strict=True):
        log = log + torch.distributions.Normal(*POPULATION[name]).log_prob(points[name].double())
        cell += torch.log(axis[1] - axis[0])
    weights = log.softmax(0)
    values = torch.cat([points[name] for name in learner.free], -1).double()
    mean = weights.T @ values
    sd = (weights.T @ values.square() - mean.square()).sqrt()
    return mean, sd, log.logsumexp(0) + cell


TWO = Learner(free=("learning_rate", "precision"), fixed={"habit": 0.3})


def test_draws_have_the_moments_of_the_grid():
    """Means of 2 subjects within .1 sd, which is above 5 errors of 2,000 effective draws."""
    data = simulate(TWO, subjects(2), *outcomes(2, 60))
    mean, sd, _ = grid_posterior(TWO, data)
    fit = fit_behaviour(TWO, data, group=False, num_particles=32, max_seconds=10)
    for place, name in enumerate(TWO.free):
        found = fit.draws[name].flatten(0, 1).double()
        assert ((found.mean(0) - mean[:, place]).abs() < 0.12 * sd[:, place]).all()
        assert ((found.std(0) / sd[:, place]).log().abs() < 0.12).all()
    rows = fit.table()
    assert len(rows) == 4
    assert rows[0]["mean"] == pytest.approx(float(fit.parameter("learning_rate")[:, 0].mean()))


def test_a_table_is_read_from_a_file(tmp_path):
    wins, losses = outcomes(2, 5)
    wins[0, 2, 1] = float("nan")
    data = simulate(Learner(), subjects(2), wins, losses)
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["subject", "choice", "win_0", "win_1", "loss_0", "loss_1"])
        for b in range(2):
            for t in range(5):
                seen = [*wins[b, t].tolist(), *losses[b, t].tolist()]
                cells = ["" if x != x else x for x in seen]
                writer.writerow([f"s{b}", int(data.choices[b, t]), *cells])
    found = Behaviour.from_csv(path)
    assert torch.equal(found.choices, data.choices)
    assert torch.equal(found.wins.nan_to_num(9), data.wins.nan_to_num(9))
    assert torch.equal(found.losses, data.losses)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"choices": torch.zeros(2, 4)}, "expected choices"),
        ({"choices": torch.full((2, 5), 2)}, "arms from 0 to 1"),
        ({"wins": torch.full((2, 5, 2), 3.0)}, "wins lie from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    data = {"choices": torch.zeros(2, 5), "wins": torch.zeros(2, 5, 2)}
    data["losses"] = data["wins"]
    with pytest.raises(AgentError, match=words):
        Behaviour.from_arrays({**data, **change})


def test_names_are_checked():
    with pytest.raises(AgentError, match="learning_rate"):
        Learner(free=("learnin_rate",))
    with pytest.raises(AgentError, match="needed array"):
        Behaviour.from_arrays({"choices": torch.zeros(2, 5)})
