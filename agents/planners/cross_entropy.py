"""Planning by the cross-entropy method: sample action sequences, keep the best, sample around them.

For continuous actions, or many steps. The noise of a sequence is autoregressive, since actions that
last explore further than ones that cancel (Pinneri et al. 2020, "Sample-efficient cross-entropy
method"); the plan of the step before, one step on, is where the next search begins.

What a sequence is worth is told by a *judge*. The default one imagines it with the engine, so that
it serves every model; a model that knows its own futures in closed form brings a faster one.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.planners.imagined import imagined_terms
from aif_dcpc.agents.planners.protocol import Plan, Situation

# the terms of candidate sequences `(N, H, *event)` at each step, `(N, H)` nats
Judge = Callable[[Situation, Tensor], Mapping[str, Tensor]]


class Law(Protocol):
    """A distribution of action sequences that can be fitted to good ones."""

    def draw(self, num: int, correlation: float, generator: torch.Generator) -> Tensor:
        """Draw sequences, `(num, H, *event)`."""

    def fitted(self, elites: Tensor) -> "Law":
        """Fit to elites `(E, H, *event)`."""

    def shifted(self) -> "Law":
        """One step on: what was planned stays where it is, its last action lasts, doubts return."""


def autoregressive(
    shape: tuple[int, ...], correlation: float, generator: torch.Generator
) -> Tensor:
    """Standard normal noise `(N, H, ...)` with correlation c^|i - j| between steps i and j."""
    lags = torch.arange(shape[1])
    lags = lags[:, None] - lags
    scale = torch.full((shape[1],), math.sqrt(1 - correlation**2))
    scale[0] = 1.0
    mix = torch.where(lags >= 0, correlation ** lags.clamp(min=0), 0.0) * scale
    noise = torch.randn(shape, generator=generator)
    return torch.einsum("hj,nj...->nh...", mix, noise)


@dataclass(frozen=True)
class BoxLaw:
    """Independent Gaussians, clipped to a box.

    Attributes:
        low, high: `(*event)`, maybe infinite.
        mean, scale: `(H, *event)`.
        start: standard deviation to begin with, `(*event)`.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    scale: Tensor
    start: Tensor

    @classmethod
    def over(cls, space: spaces.Box, horizon: int) -> "BoxLaw":
        """Begin in the middle of a box, with half its width as standard deviation."""
        low = torch.as_tensor(np.asarray(space.low, dtype=np.float32))
        high = torch.as_tensor(np.asarray(space.high, dtype=np.float32))
        bounded = low.isfinite() & high.isfinite()
        start = torch.where(bounded, (high - low) / 2, torch.ones_like(low))
        mean = torch.where(bounded, (high + low) / 2, torch.zeros_like(low).clamp(low, high))
        wide = mean.expand(horizon, *mean.shape)
        return cls(low, high, wide, start.expand_as(wide), start)

    def draw(self, num: int, correlation: float, generator: torch.Generator) -> Tensor:
        """Draw sequences, `(num, H, *event)`."""
        noise = autoregressive((num, *self.mean.shape), correlation, generator)
        return (self.mean + self.scale * noise).clamp(self.low, self.high)

    def fitted(self, elites: Tensor) -> "BoxLaw":
        """Take the elites' mean and standard deviation."""
        mean = elites.mean(0)
        scale = elites.std(0, correction=0).clamp(min=1e-2 * self.start)
        return BoxLaw(self.low, self.high, mean, scale, self.start)

    def shifted(self) -> "BoxLaw":
        """One step on, with the doubts of the start."""
        mean = torch.cat([self.mean[1:], self.mean[-1:]])
        return BoxLaw(self.low, self.high, mean, self.start.expand_as(mean), self.start)


@dataclass(frozen=True)
class DiscreteLaw:
    """A categorical distribution for each step.

    Attributes:
        probs: `(H, A)`.
        first: the number of the first action.
    """

    probs: Tensor
    first: int = 0

    @classmethod
    def over(cls, space: spaces.Discrete, horizon: int) -> "DiscreteLaw":
        """Begin with all actions alike."""
        num = int(space.n)
        return cls(torch.full((horizon, num), 1 / num), int(space.start))

    def draw(self, num: int, correlation: float, generator: torch.Generator) -> Tensor:
        """Draw sequences, `(num, H)`: the noise of the Gumbel trick is what correlates."""
        noise = autoregressive((num, *self.probs.shape), correlation, generator)
        gumbel = -(-torch.special.log_ndtr(noise)).log()
        return (self.probs.log() + gumbel).argmax(-1) + self.first

    def fitted(self, elites: Tensor) -> "DiscreteLaw":
        """Take the elites' frequencies, and a little of all actions."""
        counts = torch.nn.functional.one_hot(elites - self.first, self.probs.shape[1])
        return DiscreteLaw(_mixed(counts.float().mean(0), 0.1), self.first)

    def shifted(self) -> "DiscreteLaw":
        """One step on, with the doubts of the start."""
        probs = torch.cat([self.probs[1:], self.probs[-1:]])
        return DiscreteLaw(_mixed(probs, 0.5), self.first)


def _mixed(probs: Tensor, share: float) -> Tensor:
    """Mix with the uniform distribution."""
    return (1 - share) * probs + share / probs.shape[-1]


def law_over(space: gymnasium.Space[Any], horizon: int) -> Law:
    """Begin a search in an action space.

    Raises:
        AgentError: the space is neither Box nor Discrete.
    """
    if isinstance(space, spaces.Box):
        return BoxLaw.over(space, horizon)
    if isinstance(space, spaces.Discrete):
        return DiscreteLaw.over(space, horizon)
    raise AgentError(f"cross-entropy planning takes Box or Discrete actions, not {space}.")


@dataclass
class CrossEntropy:
    """Search action sequences of least expected free energy.

    Attributes:
        horizon: actions in a sequence.
        candidates: sequences judged in each iteration.
        iterations: of judging and fitting.
        elites: how many of the best are fitted to.
        correlation: of the noise of neighbouring actions, 0 to less than 1.
        discount: weight of a step against the one before.
        judge: tells what sequences are worth; by default imagines them with the engine.

    Raises:
        AgentError: for settings out of range.
    """

    horizon: int = 30
    candidates: int = 64
    iterations: int = 3
    elites: int = 8
    correlation: float = 0.75
    discount: float = 1.0
    judge: Judge = imagined_terms
    _law: Law | None = field(default=None, init=False, repr=False)
    _best: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse settings that make no search."""
        least = {"horizon": 1, "candidates": 2, "iterations": 1, "elites": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise AgentError(f"{name}={getattr(self, name)}: expected at least {low}.")
        if self.elites > self.candidates:
            raise AgentError(
                f"elites={self.elites}: expected at most the number of candidates, {self.candidates}."
            )
        if not 0 <= self.correlation < 1:
            raise AgentError(f"correlation={self.correlation}: expected 0 or more, less than 1.")
        if not 0 < self.discount <= 1:
            raise AgentError(f"discount={self.discount}: expected more than 0, at most 1.")

    def plan(self, situation: Situation) -> Plan:
        """Search from the last plan on, one step later, or from the start."""
        law = self._start(situation)
        kept = self._best
        plan = None
        for _ in range(self.iterations):
            policies = law.draw(self.candidates, self.correlation, situation.generator)
            if kept is not None:
                policies[0] = kept
            plan = self._judged(situation, policies)
            order = plan.expected_free_energy.argsort()[: self.elites]
            law = law.fitted(policies[order])
            kept = policies[order[0]]
        assert plan is not None and kept is not None
        self._law = law.shifted()
        self._best = torch.cat([kept[1:], kept[-1:]])
        return plan

    def _start(self, situation: Situation) -> Law:
        """The law to begin with."""
        return self._law or law_over(situation.action_space, self.horizon)

    def forget(self) -> None:
        """Forget the last plan: the next search begins from the start."""
        self._law = None
        self._best = None

    def state_dict(self) -> dict[str, Any]:
        """Where the next search begins, in tensors."""
        return {"law": None if self._law is None else dict(vars(self._law)), "best": self._best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.forget()
        if state["law"] is not None:
            kind = DiscreteLaw if "probs" in state["law"] else BoxLaw
            self._law = kind(**state["law"])
            self._best = state["best"]

    def _judged(self, situation: Situation, policies: Tensor) -> Plan:
        """Sum the terms over the horizon."""
        weights = self.discount ** torch.arange(self.horizon)
        steps = self.judge(situation, policies)
        terms = {name: value @ weights.to(value) for name, value in steps.items()}
        total = terms["risk"] + terms["ambiguity"] - terms["novelty"]
        return Plan(
            policies=policies,
            expected_free_energy=total,
            terms=terms,
            nodes=len(policies) * self.horizon,
            depth=self.horizon,
        )
