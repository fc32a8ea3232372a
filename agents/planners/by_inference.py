"""Planning as inference: the wished-for outcomes are observed, and the engine infers the actions.

The future of the declared model is a model of its own: its first slice follows from one particle of
the cloud (which one is a latent), actions are latents with a policy prior, and every slice has an
observed factor C(o) = exp(log preference). Then

    p(first action | wishes) is proportional to p(action) E[prod_h C(o_h) | action]

with the other actions summed out under their prior. Where the future is finite the engine sums it
out exactly, by message passing; otherwise it estimates the evidence, and warns where it cannot be
trusted. This is not expected free energy: outcomes are taken to be chosen, not only foreseen, so
that a chance of what is wished for counts for more than its share, and information for nothing.

References: Attias (2003), "Planning by probabilistic inference"; Levine (2018), arXiv 1805.00909,
    sections 2 and 3; Botvinick and Toussaint (2012).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, constraints

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.planners.protocol import Plan, Preference, Situation
from aif_dcpc.inference import DCPC, GraphicalModel, State, lag
from aif_dcpc.inference.model.factor_graph import Argument, Factor
from aif_dcpc.inference.model.graph import Parent
from aif_dcpc.misspelt import unknown_name

PRESENT = "present particle"
WISH = "wish: "


@dataclass(frozen=True, kw_only=True)
class PlanningAsInference:
    """Infers the first action from wished-for outcomes.

    `expected_free_energy` of its plans is -ln of the posterior of each first action.

    Args:
        horizon: slices that are wished for, at least 1.
        policy_prior: what actions are likely beforehand: a kernel of the sites that it `reads`,
            which returns a Categorical over the actions; uniform by default.
        reads: sites of the slice in which an action is chosen, of any level of the model.

    Raises:
        AgentError: for a horizon out of range.
    """

    horizon: int
    policy_prior: Callable[..., Distribution] | None = None
    reads: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise AgentError(f"planning as inference: horizon is at least 1, found {self.horizon}.")

    def plan(self, situation: Situation) -> Plan:
        """Infer the posterior of the first action.

        Raises:
            AgentError: actions are not Discrete, or a kernel looks further back than one slice.

        Warns:
            ConvergenceWarning: the evidence of a future that is not finite cannot be trusted.
        """
        space = situation.action_space
        if not isinstance(space, gymnasium.spaces.Discrete):
            raise AgentError(
                f"planning as inference tells Discrete actions apart, found {space}; plan with "
                "CrossEntropy."
            )
        number = int(space.n)
        model = self.future(situation, number, int(space.start))
        shape = (number, self.horizon)
        first = torch.zeros(shape, dtype=torch.bool)
        first[:, 0] = True
        data = {f"{WISH}{name}": torch.ones(shape).double() for name in situation.preferences}
        data[situation.action] = torch.arange(number)[:, None].expand(shape)
        engine = DCPC(model, num_particles=situation.engine.num_particles)
        engine.generator = situation.generator
        evidence = engine.log_evidence(data, masks={situation.action: first})
        return Plan(
            policies=torch.arange(number)[:, None] + int(space.start),
            expected_free_energy=-evidence.log_softmax(0),
            nodes=number * self.horizon,
            depth=self.horizon,
        )

    # -- the model of the future -------------------------------------------------------------------

    def future(self, situation: Situation, number: int, start: int) -> GraphicalModel:
        """Declare the future: slice h holds what the h-th action leads to, and that action."""
        past = Past(situation.state.last(), situation.action, start)
        model = GraphicalModel()
        weights = past.state.weights()[:, 0]
        model.add_site(PRESENT, lambda: Categorical(weights))
        self._add_action(model, past, situation.action, number)
        for factor in past.state.conditioning.factor_graph.factors:
            if factor.site.period is not None and factor.stop is None:
                for argument in factor.inputs:
                    _check(past, factor, argument)
                FutureSite(past, factor).declare(model)
        for name, wanted in situation.preferences.items():
            if name not in model.sites:
                raise AgentError(unknown_name("preferred site", name, list(model.sites)))
            model.add_site(f"{WISH}{name}", _wish(wanted), [name], scope="slice")
        return model

    def _add_action(self, model: GraphicalModel, past: "Past", action: str, number: int) -> None:
        """Declare the action as a latent with its policy prior."""
        prior = self.policy_prior
        if prior is None:
            model.add_site(action, lambda: Categorical(torch.ones(number)), scope="slice")
            return

        def first(present: Tensor) -> Distribution:
            return prior(*(past.value(name, present) for name in self.reads))

        model.add_site(
            action,
            lambda present, *values: prior(*values),
            [PRESENT, *map(lag, self.reads)],
            initial=first,
            scope="slice",
        )


@dataclass(frozen=True)
class Past:
    """The last slice of a cloud, particle by particle.

    Attributes:
        state: the cloud.
        action: the input that is chosen.
        start: value of the first action.
    """

    state: State
    action: str
    start: int

    def value(self, name: str, present: Tensor) -> Tensor:
        """Return what a site is at particles `present`, `(*present.shape, *event)`."""
        value = self.state.value(name)[:, 0]
        if self.state.conditioning.site(name).period is not None:
            value = value[:, -1]
        value = value.expand(self.state.num_particles, *value.shape[1:])
        return value[present.long()]

    def is_told(self, argument: Argument) -> bool:
        """Whether an argument is an input whose future is 0."""
        site = self.state.conditioning.site(argument.site)
        return site.kind == "input" and site.name != self.action and site.period is not None


@dataclass(frozen=True)
class FutureSite:
    """A site of the future, by its kernel in the present model.

    Attributes:
        past: what its first slice follows from.
        factor: the kernel.
    """

    past: Past
    factor: Factor

    def _timed(self, lagged: bool) -> list[Argument]:
        """List what is read of its own slice, the action included, or of the slice before."""
        action = self.past.action
        found = []
        for argument in self.factor.inputs:
            site = self.past.state.conditioning.site(argument.site)
            is_before = bool(argument.lag) and argument.site != action
            own = argument == Argument(self.factor.site.name)
            timed = site.period is not None and not self.past.is_told(argument) and not own
            if timed and is_before == lagged:
                found.append(argument)
        return found

    def constants(self, present: Tensor) -> dict[Argument, Tensor]:
        """Return what is the same in every slice: particles' parameters, and inputs at 0."""
        found = {}
        for argument in self.factor.inputs:
            site = self.past.state.conditioning.site(argument.site)
            if self.past.is_told(argument):
                like = self.past.state.values[argument.site][0, 0, 0]
                found[argument] = torch.zeros_like(like).expand(*present.shape, *like.shape)
            elif site.period is None:
                found[argument] = self.past.value(argument.site, present)
        return found

    def law(self, present: Tensor, values: Mapping[Argument, Tensor]) -> Distribution:
        """Return the kernel's law at values of what it reads of the future."""
        chosen = Argument(self.past.action, 1)
        aligned = dict(values)
        if chosen in aligned:
            aligned[chosen] = aligned[chosen] + self.past.start
        return self.factor.distribution(aligned | self.constants(present))

    def declare(self, model: GraphicalModel) -> None:
        """Add the site to the model of the future."""
        here = self._timed(lagged=False)
        before = self._timed(lagged=True)

        def usual(present: Tensor, *values: Tensor) -> Distribution:
            return self.law(present, dict(zip((*here, *before), values, strict=True)))

        def first(present: Tensor, *values: Tensor) -> Distribution:
            known = dict(zip(here, values, strict=True))
            return self.law(present, known | {a: self.past.value(a.site, present) for a in before})

        parents: list[Parent] = [PRESENT, *(a.site for a in here), *(lag(a.site) for a in before)]
        initial = first if before else None
        model.add_site(self.factor.site.name, usual, parents, initial=initial, scope="slice")


def _check(past: Past, factor: Factor, argument: Argument) -> None:
    """Refuse what has no place in the future."""
    site = past.state.conditioning.site(argument.site)
    if argument.lag > 1 or site.period not in (None, 1):  # its own value has period 1 as well
        raise AgentError(
            f"site {factor.site.name!r} reads {argument.site!r}, which is slow or lies "
            f"{argument.lag} slices back: let a site of the slice before remember it."
        )
    if argument == Argument(past.action):
        raise AgentError(
            f"site {factor.site.name!r} reads action {argument.site!r} within its own slice; read "
            f"lag({argument.site!r})."
        )


# -- wishes ----------------------------------------------------------------------------------------


class Wish(Distribution):
    """A factor of the joint density that is observed to be 1: exp(log preference), not normalised.

    Args:
        log_factor: `(*batch)` nats.
    """

    arg_constraints: Mapping[str, Any] = {}  # type: ignore[assignment]
    support = constraints.boolean

    def __init__(self, log_factor: Tensor) -> None:
        self.log_factor = log_factor
        super().__init__(log_factor.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Wish":
        """Return the same over a larger batch."""
        return Wish(self.log_factor.expand(batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Return what is observed of it."""
        return torch.ones((*sample_shape, *self.batch_shape), device=self.log_factor.device)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log preference, nats."""
        return self.log_factor.expand(torch.broadcast_shapes(value.shape, self.batch_shape))


def _wish(wanted: Preference) -> Callable[[Tensor], Distribution]:
    """Make the kernel of a factor from a log preference."""
    if callable(wanted):
        return lambda value: Wish(wanted(value))
    return lambda value: Wish(wanted[value.long()])
