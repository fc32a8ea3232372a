"""Planning in each world, and choosing among the policies that were judged."""

import copy
import math
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

import gymnasium
import torch
from torch import Tensor

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.planners.protocol import Plan, Planner, Situation

Habit = Callable[[Tensor], Tensor]
Score = Callable[[Plan], Tensor]
TIED = 1e-3  # nats of expected free energy within which policies count as equally good


class Deliberation:
    """A planner for each world, what it found last, and what was chosen.

    A planner that remembers where its next search begins has methods `forget`, `state_dict` and
    `load_state_dict`; each world has a copy of its own.

    Args:
        planner: of the first world.
        precision: inverse temperature of sampled policies, per nat of expected free energy.
        log_habit: first actions `(N, *event)` -> their log prior probability `(N,)`, nats; by
            default all are alike.
        score: plan -> log probability of each policy, nats up to a constant, where it is not
            ln habit - precision EFE.

    Attributes:
        plans: world -> the last plan made there.
        chosen: world -> index of the policy taken.
    """

    def __init__(
        self,
        planner: Planner,
        precision: float,
        log_habit: Habit | None = None,
        score: Score | None = None,
    ) -> None:
        self.planners = [planner]
        self.precision = precision
        self.log_habit = log_habit
        self.score = score or self._score
        self.plans: dict[int, Plan] = {}
        self.chosen: dict[int, int] = {}

    def begin(self, rows: Tensor) -> None:
        """Let planners forget their last search in the worlds `(B,)` in which an episode begins."""
        while len(self.planners) < len(rows):
            self.planners.append(copy.copy(self.planners[0]))
        for planner, begins in zip(self.planners, rows.tolist(), strict=False):
            if begins and hasattr(planner, "forget"):
                planner.forget()

    def decide(self, situations: Mapping[int, Situation], *, greedy: bool) -> dict[int, Tensor]:
        """Plan in some worlds and choose, world -> action `(*event)`."""
        self.plans = {row: self.planners[row].plan(told) for row, told in situations.items()}
        self.chosen = {
            row: self.choose(plan, situations[row].generator, greedy=greedy)
            for row, plan in self.plans.items()
        }
        return {row: self.plans[row].first_actions[index] for row, index in self.chosen.items()}

    def choose(self, plan: Plan, generator: torch.Generator, *, greedy: bool) -> int:
        """Index of one of the best policies, or of one drawn by the softmax of their scores."""
        score = self.score(plan)
        best = score >= score.max() - self.precision * TIED
        weights = best.double() if greedy else score.softmax(0)
        return int(torch.multinomial(weights, 1, generator=generator))

    def _score(self, plan: Plan) -> Tensor:
        """ln habit - precision EFE of each policy, `(N,)` nats up to a constant."""
        efe = plan.expected_free_energy
        excess = torch.where(efe == efe.min(), 0.0, efe - efe.min()).double()
        score = torch.where(excess.isinf(), -math.inf, -self.precision * excess)
        return score if self.log_habit is None else score + self.log_habit(plan.first_actions)

    def scalars(self) -> dict[str, float]:
        """Expected free energy of the policies taken, and its terms, means over worlds, nats."""
        found: dict[str, list[float]] = {}
        for row, plan in self.plans.items():
            chosen = self.chosen[row]
            found.setdefault("total", []).append(float(plan.expected_free_energy[chosen]))
            for name, term in plan.terms.items():
                found.setdefault(name, []).append(float(term[chosen]))
        return {f"efe/{name}": fmean(values) for name, values in found.items()}

    def state_dict(self) -> list[Any]:
        """What each world's planner remembers; None of one that remembers nothing."""
        return [p.state_dict() if hasattr(p, "state_dict") else None for p in self.planners]

    def load_state_dict(self, kept: list[Any]) -> None:
        """Restore what `state_dict` gave."""
        self.begin(torch.zeros(len(kept), dtype=torch.bool))
        for planner, state in zip(self.planners, kept, strict=False):
            if state is not None and hasattr(planner, "load_state_dict"):
                planner.load_state_dict(state)
        self.plans = {}


def checked_habit(habit: Tensor, space: gymnasium.Space[Any]) -> Habit:
    """Return the log prior of first actions that probabilities `(A,)` of a Discrete space give.

    Raises:
        AgentError: they are no probabilities of the space's actions.
    """
    size = int(space.n) if isinstance(space, gymnasium.spaces.Discrete) else None
    if habit.shape != (size,) or not bool((habit >= 0).all()) or not bool(habit.sum() > 0):
        raise AgentError(
            f"habit: expected a probability for each action of a Discrete space, found shape "
            f"{tuple(habit.shape)} for {space}."
        )
    assert isinstance(space, gymnasium.spaces.Discrete)
    log_habit = (habit.double() / habit.double().sum()).log()
    start = int(space.start)
    return lambda actions: log_habit[actions.long() - start]
