"""Limits and defaults of agents from both sides: where a word is due, a tie ends, a budget is spent, a prior has its mode."""

import inspect
import math
import warnings
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from discrete_models import columns
from rings import Ring, agent_of_ring, walk

from aif_dcpc.agents import behaviour_evidence
from aif_dcpc.agents.active_inference import ActiveInferenceAgent
from aif_dcpc.agents.behaviour import Learner, simulate
from aif_dcpc.agents.discrete import requirements as discrete_requirements
from aif_dcpc.agents.discrete.from_pymdp import from_pymdp
from aif_dcpc.agents.discrete.memory_check import ENOUGH, MemoryCheck
from aif_dcpc.agents.discrete.world import CONCENTRATIONS
from aif_dcpc.agents.errors import AgentError, AgentWarning
from aif_dcpc.agents.gaussian import requirements as gaussian_requirements
from aif_dcpc.agents.gaussian.agent import widths_of
from aif_dcpc.agents.gaussian.evidence import log_prior
from aif_dcpc.agents.gaussian.features import Shape
from aif_dcpc.agents.gaussian.regression import RATE, SHAPE
from aif_dcpc.agents.own_choices import OwnChoices
from aif_dcpc.agents.requirements import CHECKS, TMAZE, check_request, read_tmaze
from aif_dcpc.agents.settings import COMMON
from aif_dcpc.configuration import load_config


def test_smoothness_begins_at_the_mode_of_its_prior():
    """Log-normal in all numbers: nowhere is the density larger than at what is guessed before any data."""
    shape = Shape.default(3)
    logs = torch.cat([shape.lengthscales, shape.linear[None], shape.waves[None]]).log()
    assert float(log_prior(logs)) == 0
    for place in range(5):
        for step in (-0.01, 0.01):
            beside = logs.clone()
            beside[place] += step
            assert float(log_prior(beside)) < 0


def test_noise_is_a_hundredth_of_what_changes_until_data_say_otherwise():
    """Mean variance 1e-4 of an inverse gamma that has a mean, and hardly more."""
    assert pytest.approx(1e-2) == (RATE / (SHAPE - 1)) ** 0.5
    assert 1 < SHAPE < 3


def test_widths_of_a_million_are_taken_for_no_bound():
    box = gymnasium.spaces.Box
    assert widths_of(box(0, 9e5, (1,), np.float64)).tolist() == [9e5]
    assert widths_of(box(0, 1.1e6, (1,), np.float64)).tolist() == [1.0]


def test_concentrations_reach_from_a_tenth_to_a_hundred():
    assert CONCENTRATIONS[[0, -1]] == pytest.approx([0.1, 100.0])
    ratios = CONCENTRATIONS[1:] / CONCENTRATIONS[:-1]
    assert ratios == pytest.approx(ratios[0]) and 1.5 < ratios[0] < 2


@pytest.mark.parametrize(("nats", "due"), [(11.5, False), (12.2, True)])
def test_a_lack_of_memory_is_told_from_twelve_nats_on(nats, due):
    """Which e^-12, six in a million, would exceed by chance; told once."""
    check = MemoryCheck()
    check.begin([0])
    check.nats[1] = nats
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check.count(0, 0, 0, "a")
        check.count(0, 0, 1, "a")
    assert [w.category for w in caught] == [AgentWarning] * due
    assert check.warned is due and ENOUGH == 12


def test_actions_within_a_millionth_of_a_nat_are_tied():
    agent = agent_of_ring(0)
    costs = np.tile([0.0, 8e-7], (300, 1))
    assert 0.3 < agent._drawn(costs, True).mean() < 0.7
    assert not agent._drawn(3 * costs, True).any()


def test_a_frozen_agent_iterates_twenty_times_as_long():
    agent = agent_of_ring(0)
    walk(agent, 1)
    agent.max_iterations, agent.tolerance = 3, 0.0
    agent.expected_free_energy()
    assert agent.sweeps == 3
    agent.freeze()
    agent.expected_free_energy()
    assert agent.sweeps == 60


def test_defaults_of_declared_agents_are_those_of_their_settings():
    """Of the T-maze as well, whose settings file says the same."""
    signature = inspect.signature(ActiveInferenceAgent).parameters
    for name in ("num_particles", "window", "precision", "learning_rate", "learning_steps"):
        assert signature[name].default == COMMON[name], name
    settings = load_config("train", "agent=tmaze", "env=TMaze")["agent"]
    assert {name: settings[name] for name in TMAZE} == dict(TMAZE)


@pytest.mark.parametrize("agent", [discrete_requirements, gaussian_requirements])
def test_settings_out_of_range_are_refused_at_their_edges(agent):
    """What lies a little below or above, and NaN; the edges themselves are taken, and so is None."""
    ranges = {**agent.RANGES, "precision": (0, math.inf), "learning_rate": (0, math.inf)}
    for name, (low, high) in ranges.items():
        kind = type({**COMMON, **agent.DEFAULTS}[name])
        step = 1 if kind is int else 1e-7
        edges = [edge for edge in (low, high) if edge < math.inf]
        for edge in edges:
            agent.read({name: int(edge) if kind is int else float(edge)})
        for wrong in (low - step, *([high + step] if high < math.inf else [])):
            with pytest.raises(AgentError, match=f"agent setting {name}=.*expected at least"):
                agent.read({name: wrong})
        if kind is float:
            with pytest.raises(AgentError, match="nan"):
                agent.read({name: math.nan})
    assert discrete_requirements.read({"reward_scale": None})["reward_scale"] is None


def test_the_t_maze_asks_for_its_streams_and_reads_its_settings():
    discrete = gymnasium.spaces.Discrete
    spaces = {name: discrete(3) for name in ("location", "cue", "outcome")}
    _, own = read_tmaze(gymnasium.spaces.Dict(spaces), {"wish": 2.0})
    assert own["wish"] == 2.0 and own["horizon"] == 4
    told = {"metadata": {}, "settings": {}}
    for name in spaces:
        less = gymnasium.spaces.Dict({n: s for n, s in spaces.items() if n != name})
        with pytest.raises(AgentError, match=name):
            check_request("tmaze", observation_space=less, action_space=discrete(4), **told)
    box = gymnasium.spaces.Box(-1, 1, (1,))
    with pytest.raises(AgentError, match="discrete actions"):
        whole = gymnasium.spaces.Dict(spaces)
        check_request("tmaze", observation_space=whole, action_space=box, **told)
    assert set(CHECKS) == {"discrete", "gaussian", "hierarchical", "tmaze"}
    check_request("elsewhere", observation_space=box, action_space=box, **told)


def test_a_habit_that_all_agents_of_a_batch_share_is_read_whole():
    rng = np.random.default_rng(0)
    tables = {"A": [columns(rng, 2, 2)[None]], "B": [columns(rng, 2, 2, 3)[None]]}
    agent = SimpleNamespace(**tables, E=np.array([0.2, 0.3, 0.5]))
    assert from_pymdp(agent).E.tolist() == [0.2, 0.3, 0.5]


def test_evidence_of_a_group_is_the_mean_of_four_repetitions(monkeypatch, recwarn):
    """And its error their spread over the root of four, said from a tenth of a nat on."""
    learner = Learner(free=("precision",))
    seen = torch.zeros(2, 4, 2)
    data = simulate(learner, {"precision": torch.ones(2)}, seen, seen)
    for spread, due in ((0.05, 0), (0.3, 1)):
        levels = iter(spread * torch.tensor([0.0, 1.0, 2.0, 3.0]).double())
        monkeypatch.setattr(
            behaviour_evidence,
            "_group",
            lambda *told, levels=levels: SimpleNamespace(
                log_evidence=next(levels)[None], log_weights=torch.zeros(64, 1).double()
            ),
        )
        recwarn.clear()
        found = behaviour_evidence.compare_groups([learner], data)
        expected = np.log(np.mean(np.exp(spread * np.arange(4))))
        assert float(found[0]) == pytest.approx(expected, abs=1e-6)
        assert len(recwarn) == due and next(levels, None) is None


def test_what_costs_a_million_nats_more_is_as_good_as_impossible():
    own = OwnChoices(torch.tensor([0.5, 0.5]), 1.0, precision_prior=(2.0, 1.0), num_particles=4)
    found = own.log_prob(torch.tensor([0.0, -1e9]))
    assert float(found[0]) == pytest.approx(0.0, abs=1e-5)
    assert torch.equal(found, own.log_prob(torch.tensor([0.0, -2e6])))
    assert float(own.log_prob(torch.tensor([0.0, -9e5]))[1]) > float(found[1])


def test_the_first_world_may_be_left_as_it_was_made():
    """A ring whose agent has never acted explains nothing, and reports nothing."""
    agent = agent_of_ring(0)
    assert agent.explanation() is None and agent.report().scalars == {}
    agent.begin(seed=0)
    agent.act(Ring().reset()[0])
    assert agent.explanation(["back", "on"]) is not None and len(agent.explain().splitlines()) == 3
