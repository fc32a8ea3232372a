"""Planning by a sampled tree, where outcomes are too many to list or are no finite number at all.

Beliefs are particles. From each, every action is imagined; of what may then be seen some outcomes
are drawn, and the belief after each is the particles reweighted by its likelihood (sparse sampling,
Kearns, Mansour and Ng 2002). A level of the tree is one call of the engine. Trees of twice as many
outcomes follow each other until the budget is spent, and the last one that reached its horizon, or
the deepest, answers.

Terms are Monte Carlo estimates: no more than ln K nats of information are resolved, and what is
learned about parameters counts as information gain, since particles hold states and parameters
alike.

References: Kearns, Mansour and Ng (2002), "A sparse sampling algorithm"; Silver and Veness (2010)
    for particle beliefs in trees.
"""

import math
import time
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.planners.finite_reading import action_values
from aif_dcpc.agents.planners.particle_beliefs import Children, ParticleBeliefs, joined
from aif_dcpc.agents.planners.protocol import Plan, Situation
from aif_dcpc.agents.sampled_free_energy import UNRESOLVED, ResolutionWarning

CHUNK = 2**23  # log densities that are held at once, about
FEWEST = 2  # outcomes of each row in the first tree


@dataclass(frozen=True)
class Level:
    """Beliefs of one depth with what a step from each costs.

    Attributes:
        terms: name -> `(B, A)` nats.
        children: what follows; None at the last level.
    """

    terms: dict[str, Tensor]
    children: Children | None

    @property
    def cost(self) -> Tensor:
        """Expected free energy of one step, `(B, A)` nats."""
        return self.terms["risk"] + self.terms["ambiguity"] - self.terms["novelty"]


@dataclass(frozen=True, kw_only=True)
class SampledTree:
    """Plans by a tree over sampled outcomes, on any model.

    Args:
        horizon: steps to look ahead, at least 1.
        outcomes: how many outcomes of each action are followed, at most.
        discount: weight of each step against the one before, above 0 and at most 1.
        max_nodes: beliefs times actions to imagine in one tree, at most.
        seconds: to spend, at most, checked between levels and chunks.
        particles: least number of particles; those of the cloud are used several times where they
            are fewer.
        actions: `(A, *event)` candidates, where the action space is no finite one.

    Raises:
        AgentError: for settings out of range.
    """

    horizon: int
    outcomes: int = 8
    discount: float = 1.0
    max_nodes: int = 2000
    seconds: float | None = None
    particles: int = 64
    actions: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("horizon", "outcomes", "max_nodes", "particles"):
            if getattr(self, name) < 1:
                raise AgentError(
                    f"sampled tree: {name} is at least 1, found {getattr(self, name)}."
                )
        if not 0 < self.discount <= 1:
            raise AgentError(
                f"sampled tree: discount is above 0 and at most 1, found {self.discount}."
            )

    def plan(self, situation: Situation) -> Plan:
        """Plan from a cloud.

        Raises:
            AgentError: for several data, slow sites, or actions that cannot be listed.

        Warns:
            ResolutionWarning: particles are too few for the information of the first step.
        """
        actions = action_values(situation.action_space) if self.actions is None else self.actions
        present = ParticleBeliefs.present(situation, actions, self.particles)
        deadline = math.inf if self.seconds is None else time.monotonic() + self.seconds
        best: list[Level] = []
        width = min(FEWEST, self.outcomes)
        while True:
            levels = self._grow(present, width, deadline)
            best = levels if len(levels) >= len(best) else best
            if len(levels) < self.horizon or width >= self.outcomes:
                break
            if time.monotonic() > deadline or self.horizon == 1:
                break
            width = min(2 * width, self.outcomes)
        self._check(best[0], present.log_weights)
        return self._answer(best, actions)

    def _check(self, first: Level, log_weights: Tensor) -> None:
        """Warn where the first step tells more than the particles resolve."""
        number = len(log_weights)
        told = float(first.terms["information_gain"].max())
        if told > math.log(number) - UNRESOLVED:
            warnings.warn(
                f"sampled tree: outcomes are expected to tell {told:.2f} nats, of which {number} "
                f"particles resolve {math.log(number):.2f}: raise particles.",
                ResolutionWarning,
                stacklevel=3,
            )

    # -- growing -----------------------------------------------------------------------------------

    def _grow(self, present: ParticleBeliefs, width: int, deadline: float) -> list[Level]:
        """Grow a tree level by level, as far as the budget allows; the first level always."""
        levels: list[Level] = []
        beliefs = present
        nodes = 0
        for depth in range(self.horizon):
            nodes += beliefs.number * len(beliefs.actions)
            if depth and (nodes > self.max_nodes or time.monotonic() > deadline):
                break
            last = depth == self.horizon - 1
            level = _expand(beliefs, 0 if last else width, deadline if depth else math.inf)
            if level is None:
                break
            levels.append(level)
            if level.children is not None:
                beliefs = level.children.beliefs
        return levels

    # -- answering ---------------------------------------------------------------------------------

    def _answer(self, levels: list[Level], actions: Tensor) -> Plan:
        """Evaluate a tree backwards: every term along the best actions."""
        later: dict[str, Tensor] = {}
        costs = torch.zeros(0)
        for depth in range(len(levels) - 1, -1, -1):
            level = levels[depth]
            follow = level.children if depth < len(levels) - 1 else None
            terms = dict(level.terms)
            if follow is not None:
                best = costs.argmin(1, keepdim=True)
                later = {name: value.gather(1, best)[:, 0] for name, value in later.items()}
                terms = {
                    name: value + self.discount * _expected(follow, later[name], value)
                    for name, value in terms.items()
                }
            later = terms
            costs = terms["risk"] + terms["ambiguity"] - terms["novelty"]
        return Plan(
            policies=actions[:, None],
            expected_free_energy=costs[0],
            terms={name: value[0] for name, value in later.items()},
            nodes=sum(level.cost.numel() for level in levels),
            depth=len(levels),
            complete=len(levels) == self.horizon,
        )


def _expected(children: Children, values: Tensor, like: Tensor) -> Tensor:
    """Average values of children `(C,)` over each row, `(B, A)`."""
    found = torch.zeros(like.numel(), dtype=like.dtype)
    weighted = children.chance.to(like.dtype) * values
    return found.index_add(0, children.row, weighted).reshape(like.shape)


def _expand(beliefs: ParticleBeliefs, width: int, deadline: float) -> Level | None:
    """Take every action from each of some beliefs; None where the deadline came first.

    Where `width` is 0, what follows is of no account and not looked for.
    """
    number = len(beliefs.log_weights)
    size = max(1, CHUNK // (number**2 * len(beliefs.actions)))
    terms: list[dict[str, Tensor]] = []
    children: list[Children] = []
    rows: list[int] = []
    for start, part in enumerate(beliefs.split(size)):
        if time.monotonic() > deadline:
            return None
        futures = part.imagine()
        terms.append(part.terms(futures))
        if width:
            children.append(part.children(futures, width))
            rows.append(start * size * len(beliefs.actions))
    together = {name: torch.cat([part[name] for part in terms]) for name in terms[0]}
    return Level(together, joined(children, rows) if children else None)
