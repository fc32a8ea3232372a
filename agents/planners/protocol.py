"""What a planner is handed (`Situation`), what it answers (`Plan`), and the one method that it has.

A planner judges candidate policies by their expected free energy in nats, lower is better. All of
them sum the same terms, up to a constant where preferences are given up to a constant:

    expected free energy = risk + ambiguity - novelty
                         = -E[log preference] - information gain - novelty

with risk = -E[log preference] - H[outcomes], and ambiguity = H[outcomes] - information gain. See
`agents/expected_free_energy.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import gymnasium
import torch
from torch import Tensor

from aif_dcpc.inference import DCPC, State

# log preference of an observed site's values, nats up to a constant: `(O,)` for a finite site, or a
# function of values `(..., *event)` that returns `(...)`
Preference = Tensor | Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Candidate policies and what each is expected to cost.

    Attributes:
        policies: `(N, H, *event)` candidate action sequences; `(N, 1, *event)` first actions where
            later ones are chosen by what will have been seen.
        expected_free_energy: `(N,)` nats, lower is better.
        terms: `(N,)` nats each, discounted and summed over the steps to the horizon: "risk",
            "ambiguity", "information_gain", "novelty" and "neg_expected_log_preference"; where
            there are several modalities also "risk/<modality>" and so on. "horizon_value", where a
            planner was given one, is what it adds to the total.
        nodes: how much was looked at: beliefs times actions, or imagined slices.
        depth: steps that the answer looks ahead.
        complete: False where the budget ended the search before its horizon.
    """

    policies: Tensor
    expected_free_energy: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    nodes: int = 0
    depth: int = 1
    complete: bool = True

    @property
    def best(self) -> int:
        """Index of the policy of least expected free energy, the first of equals."""
        return int(self.expected_free_energy.argmin())

    @property
    def first_actions(self) -> Tensor:
        """What each policy does now, `(N, *event)`."""
        return self.policies[:, 0]


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What an agent hands to its planner.

    Attributes:
        engine: the engine of the agent's model.
        state: its cloud over the history so far, equal weights.
        action: name of the input that the agent chooses. While slice t is the last nobody reads it
            there; what follows from it stands in slice t + 1 and reads it by `lag`.
        action_space: what can be chosen.
        preferences: observed site -> log preference of its values, nats up to a constant.
        generator: source of all randomness.
        history: the cloud over the running episode with its weights, if the agent has it: what a
            filter reads, where `state` holds only the slices that the next one reads.
        reset: name of the input that is 1 where an episode begins, if the model has it.
        frozen: whether the agent learns nothing across episodes.
    """

    engine: DCPC
    state: State
    action: str
    action_space: gymnasium.Space[Any]
    preferences: Mapping[str, Preference]
    generator: torch.Generator
    history: State | None = None
    reset: str = "reset"
    frozen: bool = False

    def over_history(self) -> "Situation":
        """Return the same situation with all of the running episode, for what filters it."""
        return self if self.history is None else replace(self, state=self.history)


@runtime_checkable
class Planner(Protocol):
    """Finds what to do next."""

    def plan(self, situation: Situation) -> Plan:
        """Judge candidate policies from the present situation on."""
