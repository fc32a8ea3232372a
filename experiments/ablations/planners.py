"""Planners that leave a term of expected free energy out.

    expected free energy = risk + ambiguity - novelty
                         = -E[log preference] - information gain - novelty

What is left out is left out at every step that is imagined, so that plans change and not only the
number that is reported of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aif_dcpc.agents.active_inference import ActiveInferenceAgent
from aif_dcpc.agents.arrays import Floats
from aif_dcpc.agents.discrete.observed_agent import ObservedAgent
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.expected_free_energy import entropy, expectation
from aif_dcpc.agents.planners.belief_graph import BeliefGraph
from aif_dcpc.agents.planners.cross_entropy import CrossEntropy, Judge
from aif_dcpc.agents.planners.finite_model import FiniteModel
from aif_dcpc.agents.planners.finite_steps import FiniteSteps
from aif_dcpc.agents.planners.protocol import Planner, Situation
from aif_dcpc.agents.protocol import Agent

# term -> with which sign it counts in the total
SIGNS = {
    "risk": 1.0,
    "ambiguity": 1.0,
    "neg_expected_log_preference": 1.0,
    "information_gain": -1.0,
    "novelty": -1.0,
}


@dataclass(frozen=True)
class StepsWithout(FiniteSteps):
    """Steps of a finite model whose cost lacks a term."""

    without: str = "novelty"

    @property
    def points(self) -> bool:
        """Tell that beliefs are to be expanded one by one, whatever is seen."""
        return False

    def costs(self, beliefs: Floats, predicted: Floats, outcomes: Floats) -> Floats:
        """Expected free energy of one step less the term, `(rows,)` nats."""
        together = entropy(outcomes, 1)
        ambiguity = expectation(predicted, self.ambiguity)
        cross = -expectation(predicted, self.log_preference)
        terms = {
            "risk": cross - together,
            "ambiguity": ambiguity,
            "neg_expected_log_preference": cross,
            "information_gain": together - ambiguity,
            "novelty": _novelty(self, beliefs, cross),
        }
        total = cross - terms["information_gain"] - terms["novelty"]
        found: Floats = total - SIGNS[self.without] * terms[self.without]
        return found


def _novelty(steps: FiniteSteps, beliefs: Floats, like: Floats) -> Floats:
    """What is learned about parameters, `(rows,)` nats."""
    return 0.0 * like if steps.novelty is None else steps.novelty_of(beliefs, steps.novelty)


@dataclass(frozen=True, kw_only=True)
class GraphWithout(BeliefGraph):
    """A belief graph that leaves a term out."""

    without: str

    def _steps(self, finite: FiniteModel) -> FiniteSteps:
        return StepsWithout(finite, without=self.without)


@dataclass(frozen=True)
class JudgeWithout:
    """A judge of sequences whose total lacks a term."""

    judge: Judge
    without: str

    def __call__(self, situation: Situation, policies: Tensor) -> Mapping[str, Tensor]:
        """Return the terms of each step, `(N, H)` nats, of which risk makes up for what is left out."""
        terms = self.judge(situation, policies)
        change = SIGNS[self.without] * terms[self.without]
        return {**terms, "risk": terms["risk"] - torch.nan_to_num(change)}


def leave_out(agent: Agent, term: str) -> None:
    """Let an agent plan without a term from now on.

    Raises:
        AgentError: its planner is of a kind of which no term can be left out.
    """
    if isinstance(agent, ObservedAgent):
        _leave_out_of_observed(agent, term)
    elif isinstance(agent, ActiveInferenceAgent):
        planners = agent.deliberation.planners
        planners[:] = [planner_without(planner, term) for planner in planners]
    else:
        raise AgentError(
            f"{type(agent).__name__}: terms are left out of agents 'discrete' and 'gaussian', and of "
            "declared models with BeliefGraph or CrossEntropy."
        )


def _leave_out_of_observed(agent: ObservedAgent, term: str) -> None:
    """Where the state is seen, nothing is ambiguous, and no state is left to tell."""
    if term == "novelty":
        agent.novelty = False
    if term in ("risk", "neg_expected_log_preference"):
        agent.reward_scale = 0.0


def planner_without(planner: Planner, term: str) -> Planner:
    """Return a planner that leaves a term out.

    Raises:
        AgentError: it is of another kind.
    """
    if isinstance(planner, BeliefGraph):
        kept = ("horizon", "discount", "max_nodes", "seconds", "novelty", "horizon_value")
        return GraphWithout(without=term, **{name: getattr(planner, name) for name in kept})
    if isinstance(planner, CrossEntropy):
        return replace(planner, judge=JudgeWithout(planner.judge, term))
    raise AgentError(
        f"planner {type(planner).__name__}: terms are left out of BeliefGraph and CrossEntropy."
    )
