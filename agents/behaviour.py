"""Fit agents to behaviour: p(actions | what was seen, parameters), inferred for many subjects at once.

A `Learner` of arms that may win and may lose keeps the expected chance of either, x, for each arm,
moves it towards what it sees, and chooses by expected free energy under its preferences:

    x[arm] <- x[arm] + learning_rate (seen[arm] - x[arm])          where the arm's outcome is shown
    -G(arm) = win[arm] - loss_preference loss[arm]                  nats, before precision
    p(arm)  = softmax(precision (-G) + habit [arm was chosen last])

Its choices are one site of a `GraphicalModel`, whose other sites are the parameters of every
subject and, above them, those of the group: `engine.sample` infers all. `behaviour_evidence`
compares learners. Precision multiplies every preference, so that the one for a win is fixed at 1.

    fit = fit_behaviour(Learner(), data)
    fit.table()       # subject, parameter, mean, sd ...
    fit.draws.to_arviz()

References: Sutton and Barto (2018), chapter 2; Friston et al. (2017), "Active inference: a process
    theory", for precision and habits; Talts et al. (2018), arXiv 1804.06788, for calibration.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, HalfNormal, Independent, Normal

from aif_dcpc.agents.behaviour_table import Behaviour
from aif_dcpc.agents.compiled import compiled
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.inference import DCPC, GraphicalModel
from aif_dcpc.inference.arrival.draws import Draws
from aif_dcpc.misspelt import unknown_name

# parameter -> what brings it from the real line to its own range, mean and sd there in a population
RANGES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "learning_rate": torch.sigmoid,
    "precision": torch.exp,
    "loss_preference": torch.exp,
    "habit": torch.Tensor.clone,
}
POPULATION = {
    "learning_rate": (-1.0, 1.0),
    "precision": (1.5, 0.5),
    "loss_preference": (0.0, 0.5),
    "habit": (0.3, 0.7),
}
DEFAULTS = {"learning_rate": 0.3, "precision": 4.0, "loss_preference": 1.0, "habit": 0.0}
Array = npt.NDArray[Any]  # of the model's own precision


@dataclass(frozen=True)
class Learner:
    """Which parameters differ between subjects, and what the others are.

    Attributes:
        free: names of parameters that are inferred.
        fixed: parameter -> its value, for those that are not (see `DEFAULTS`).

    Raises:
        AgentError: for an unknown parameter.
    """

    free: tuple[str, ...] = tuple(RANGES)
    fixed: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name in (*self.free, *(self.fixed or {})):
            if name not in RANGES:
                raise AgentError(unknown_name("parameter", name, RANGES))

    def parameters(self, free: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All parameters, given those that are free on the real line, `(*batch)` each."""
        found = {name: RANGES[name](free[name]) for name in self.free}
        like = next(iter(free.values()), torch.zeros(()))
        for name, value in {**DEFAULTS, **(self.fixed or {})}.items():
            found.setdefault(name, torch.full_like(like, value))
        return found

    def logits(self, free: Mapping[str, Tensor], data: Mapping[str, Tensor]) -> Tensor:
        """Log odds of every choice, `(*batch, T, A)`, given all that was seen before it.

        Args:
            free: parameter -> `(*batch)` on the real line.
            data: choices `(*batch, T)`, wins and losses `(*batch, T, A)`.
        """
        own = self.parameters(free)
        seen = torch.cat([data["wins"], data["losses"]], -1)
        win, loss = expected(own["learning_rate"], seen).chunk(2, -1)
        value = win - own["loss_preference"][..., None, None] * loss
        before = torch.nn.functional.one_hot(data["choices"].long(), win.shape[-1]).to(win.dtype)
        before = torch.nn.functional.pad(before[..., :-1, :], (0, 0, 1, 0))
        habit = own["habit"][..., None, None] * before
        return own["precision"][..., None, None] * value + habit


def expected(rate: Tensor, seen: Tensor) -> Tensor:
    """Chances expected before each trial, `(*batch, T, C)`, from 1/2 on; differentiable in the rate.

    x_t = x_{t-1} + rate (seen_{t-1} - x_{t-1}) where something was shown.

    Args:
        rate: `(*batch)` from 0 to 1.
        seen: `(*batch, T, C)`, NaN where nothing was shown.
    """
    found: Tensor = _Expected.apply(rate, seen)  # type: ignore[no-untyped-call]
    return found


class _Expected(torch.autograd.Function):
    """The recursion of `expected` in a compiled loop, with its derivative beside it."""

    @staticmethod
    def forward(ctx: Any, rate: Tensor, seen: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(rate.shape, seen.shape[:-2])
        rates = rate.detach().expand(batch).reshape(-1).numpy()
        outcomes = seen.reshape(-1, *seen.shape[-2:]).numpy()
        values, slopes = learn(rates, outcomes)
        shape = (*batch, *seen.shape[-2:])
        ctx.save_for_backward(torch.from_numpy(slopes).reshape(shape))
        ctx.rate_shape = rate.shape
        return torch.from_numpy(values).reshape(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slopes,) = ctx.saved_tensors
        own = (gradients[0] * slopes).sum((-2, -1))
        return own.sum_to_size(ctx.rate_shape), None


@compiled
def learn(rates: Array, seen: Array) -> tuple[Array, Array]:
    """Expected chances and their derivatives by the rate, `(N, T, C)` each.

    Args:
        rates: `(N,)`.
        seen: `(M, T, C)`, repeated N / M times.
    """
    shape = (len(rates), seen.shape[1], seen.shape[2])
    values = np.empty(shape, rates.dtype)
    slopes = np.empty(shape, rates.dtype)
    for n in range(shape[0]):
        outcomes = seen[n % len(seen)]
        rate = rates[n]
        for c in range(shape[2]):
            value = rate * 0 + 0.5
            slope = rate * 0
            for t in range(shape[1]):
                values[n, t, c] = value
                slopes[n, t, c] = slope
                if not np.isnan(outcomes[t, c]):
                    slope = (1 - rate) * slope + outcomes[t, c] - value
                    value = value + rate * (outcomes[t, c] - value)
    return values, slopes


def checked_population(
    changes: Mapping[str, tuple[float, float]] | None,
) -> dict[str, tuple[float, float]]:
    """Return mean and sd of every parameter in a population: the usual ones, but for what is told.

    Raises:
        AgentError: something is told of an unknown parameter.
    """
    for name in changes or {}:
        if name not in POPULATION:
            raise AgentError(unknown_name("parameter of the population", name, POPULATION))
    return {**POPULATION, **(changes or {})}


def behaviour_model(
    learner: Learner,
    *,
    group: bool = True,
    population: Mapping[str, tuple[float, float]] | None = None,
) -> GraphicalModel:
    """Declare subjects' choices given their parameters, and those given the group's.

    Args:
        learner: what makes choices.
        group: whether the population's means and spreads are inferred as well.
        population: parameter -> mean and sd on the real line; of the group's own prior where they
            are inferred (mean Normal(mean, sd), spread HalfNormal(sd)). `POPULATION` by default.

    Raises:
        AgentError: the population tells of an unknown parameter.
    """
    prior = checked_population(population)
    model = GraphicalModel()
    for name in learner.free:
        mean, sd = prior[name]
        _add_parameter(model, name, mean, sd, group=group)
    model.add_input("wins", scope="episode")
    model.add_input("losses", scope="episode")
    model.add_site("choices", _Choices(learner), [*learner.free, "wins", "losses"])
    return model


def _add_parameter(
    model: GraphicalModel, name: str, mean: float, sd: float, *, group: bool
) -> None:
    """Add one parameter of the subjects, on the real line."""
    if not group:
        model.add_site(name, lambda: Normal(mean, sd))
        return
    model.add_site(f"{name}.mean", lambda: Normal(mean, sd), scope="global")
    model.add_site(f"{name}.spread", lambda: HalfNormal(sd), scope="global")
    model.add_site(name, Normal, [f"{name}.mean", f"{name}.spread"])


@dataclass(frozen=True)
class _Choices:
    """p(choices | parameters, what was seen); earlier choices are told by the value itself."""

    learner: Learner

    def __call__(self, *values: Tensor) -> Distribution:
        *free, wins, losses = values
        return _ChoiceSeries(
            self.learner, dict(zip(self.learner.free, free, strict=True)), wins, losses
        )


class _ChoiceSeries(Distribution):
    """T choices, each given those before it; see `Learner`."""

    arg_constraints: Mapping[str, Any] = {}  # type: ignore[assignment]

    def __init__(
        self, learner: Learner, free: Mapping[str, Tensor], wins: Tensor, losses: Tensor
    ) -> None:
        self.learner = learner
        self.free = free
        self.seen = {"wins": wins, "losses": losses}
        batch = torch.broadcast_shapes(wins.shape[:-2], *(v.shape for v in free.values()))
        super().__init__(batch, wins.shape[-2:-1], validate_args=False)

    @property
    def support(self) -> Any:
        """Arms from 0 on."""
        last = self.seen["wins"].shape[-1] - 1
        interval = torch.distributions.constraints.integer_interval(0, last)
        return torch.distributions.constraints.independent(interval, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of all choices, `(*batch)` nats."""
        logits = self.learner.logits(self.free, {**self.seen, "choices": value})
        return Independent(Categorical(logits=logits), 1).log_prob(value)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw choices one after the other, `(*batch, T)`."""
        shape = (*sample_shape, *self.batch_shape)
        value = torch.zeros(*shape, self.event_shape[0], dtype=torch.long)
        for t in range(self.event_shape[0]):
            seen = {name: x[..., : t + 1, :] for name, x in self.seen.items()}
            logits = self.learner.logits(self.free, {**seen, "choices": value[..., : t + 1]})
            value[..., t] = Categorical(logits=logits[..., -1, :].expand(*shape, -1)).sample()
        return value


@dataclass(frozen=True)
class Fit:
    """Parameters of all subjects, inferred.

    Attributes:
        learner: whose they are.
        draws: of the engine (print them; `draws.warnings` says what is not as it should be;
            `draws.to_arviz()`); parameters on the real line.
    """

    learner: Learner
    draws: Draws

    def parameter(self, name: str) -> Tensor:
        """Draws of one parameter in its own range, `(draws, B)`.

        Raises:
            AgentError: the learner has no such free parameter.
        """
        if name not in self.learner.free:
            raise AgentError(unknown_name("free parameter", name, self.learner.free))
        return RANGES[name](self.draws[name].flatten(0, 1))

    def table(self) -> list[dict[str, Any]]:
        """One row for each subject and parameter: mean, sd, and the 5 % and 95 % quantiles."""
        rows = []
        for name in self.learner.free:
            found = self.parameter(name).double()
            low, high = torch.quantile(found, torch.tensor([0.05, 0.95]).double(), dim=0)
            columns = zip(found.mean(0), found.std(0), low, high, strict=True)
            for subject, values in enumerate(columns):
                mean, sd, five, ninety_five = (float(value) for value in values)
                rows.append(
                    {"subject": subject, "parameter": name, "mean": mean, "sd": sd}
                    | {"5 %": five, "95 %": ninety_five}
                )
        return rows


def fit_behaviour(
    learner: Learner,
    behaviour: Behaviour,
    *,
    group: bool = True,
    population: Mapping[str, tuple[float, float]] | None = None,
    num_particles: int = 32,
    max_seconds: float = 120.0,
    seed: int = 0,
) -> Fit:
    """Infer the parameters of all subjects, and of their group, by the engine's draws.

    Args:
        learner: what makes choices.
        behaviour: what subjects chose and saw.
        group, population: see `behaviour_model`.
        num_particles, max_seconds, seed: see `DCPC.sample`.

    Warns:
        ConvergenceWarning: see `DCPC.sample`.
    """
    engine = DCPC(behaviour_model(learner, group=group, population=population))
    draws = engine.sample(
        behaviour.data, num_particles=num_particles, max_seconds=max_seconds, seed=seed
    )
    return Fit(learner, draws)


def simulate(
    learner: Learner, free: Mapping[str, Tensor], wins: Tensor, losses: Tensor, *, seed: int = 0
) -> Behaviour:
    """Let learners choose, `(B,)` parameters on the real line, all outcomes told beforehand.

    Args:
        learner: what chooses.
        free: parameter -> `(B,)`.
        wins, losses: `(B, T, A)` what each arm will show, whatever is chosen.
        seed: of the choices; the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        choices = _ChoiceSeries(learner, free, wins, losses).sample()
    return Behaviour(choices, wins, losses)
