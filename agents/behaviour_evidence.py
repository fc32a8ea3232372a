"""How probable a learner finds what subjects chose, its parameters integrated out.

Given the population every subject is an integral of its own over a few parameters. A Student t is
moved by rounds to where a subject's parameters have their posterior (population Monte Carlo), and
draws of the last one are weighed. Where the population itself is not known, the same draws tell the
likelihood of every population, p(choices | population) = mean of weights * p(parameters | population),
and means and spreads of the population are integrated in the same way.

References: Cappe, Guillin, Marin, Robert (2004), "Population Monte Carlo"; Vehtari et al. (2024),
    arXiv 1507.02646, for the tail of weights.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import HalfNormal, Normal

from aif_dcpc.agents.behaviour import Learner, checked_population
from aif_dcpc.agents.behaviour_table import Behaviour
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.inference.errors import ConvergenceWarning
from aif_dcpc.inference.queries.importance import pareto_k

ROUNDS = 6
ISLANDS = 4
FREEDOM = 5  # degrees of freedom of the Student t
LEAST_SHARE = (
    0.1  # of draws that count, to which weights are flattened until the proposal has arrived
)
WIDER = 1.2  # than the posterior's standard deviations, so that tails are covered
MAX_PARETO_K = 0.7
MAX_ERROR = 0.1  # nats
POINTS = 2**20  # choices times draws that are held at once
BISECTIONS = 20
SHRINKAGE = 1e-4  # of covariances towards their diagonal

Population = Mapping[str, tuple[float, float]]
LogDensity = Callable[[Tensor], Tensor]  # points `(N, B, P)` -> `(N, B)` nats


@dataclass(frozen=True)
class Proposal:
    """A Student t for each of B integrals.

    Attributes:
        mean: `(B, P)`.
        root: `(B, P, P)` lower triangular, of the scale matrix.
    """

    mean: Tensor
    root: Tensor

    def draw(self, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw points `(N, B, P)`, and their log density, `(N, B)` nats."""
        size = self.mean.shape[-1]
        noise = torch.randn(number, *self.mean.shape, generator=generator, dtype=self.mean.dtype)
        shape = torch.full((number, len(self.mean)), FREEDOM / 2, dtype=self.mean.dtype)
        scale = (torch._standard_gamma(shape, generator=generator) * 2 / FREEDOM).rsqrt()
        whitened = noise * scale[..., None]
        points = self.mean + (self.root @ whitened[..., None])[..., 0]
        length = torch.log1p(whitened.square().sum(-1) / FREEDOM)
        constant = math.lgamma((FREEDOM + size) / 2) - math.lgamma(FREEDOM / 2)
        constant -= size / 2 * math.log(FREEDOM * math.pi)
        volume = self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return points, constant - volume - (FREEDOM + size) / 2 * length

    @classmethod
    def fitted(cls, points: Tensor, log_weights: Tensor) -> "Proposal":
        """Take the weighted moments of points `(N, B, P)`, a little wider."""
        weights = log_weights.softmax(0)[..., None]
        mean = (weights * points).sum(0)
        off = points - mean
        covariance = torch.einsum("nbp,nbq->bpq", weights * off, off)
        diagonal = covariance.diagonal(dim1=-2, dim2=-1)
        floor = torch.diag_embed(SHRINKAGE * diagonal + 1e-12)
        return cls(mean, WIDER * torch.linalg.cholesky(covariance + floor))


def flattened(log_weights: Tensor, share: float) -> Tensor:
    """Raise weights `(N, B)` to the largest power up to 1 under which so large a share of them counts."""
    low = torch.zeros_like(log_weights[0])
    high = torch.ones_like(low)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        counts = (middle * log_weights).softmax(0).square().sum(0).reciprocal()
        enough = counts >= share * len(log_weights)
        low = torch.where(enough, middle, low)
        high = torch.where(enough, high, middle)
    return low * log_weights


@dataclass(frozen=True)
class Cloud:
    """Draws of a proposal, and how they are weighed.

    Attributes:
        points: `(N, B, P)`.
        log_joint: `(N, B)` nats, of the data and the points.
        log_proposal: `(N, B)` nats, of the points.
    """

    points: Tensor
    log_joint: Tensor
    log_proposal: Tensor

    @property
    def log_weights(self) -> Tensor:
        """Log importance weights, `(N, B)` nats."""
        return self.log_joint - self.log_proposal

    @property
    def log_evidence(self) -> Tensor:
        """Log integral of the joint, `(B,)` nats."""
        return self.log_weights.logsumexp(0) - math.log(len(self.points))

    @property
    def standard_error(self) -> Tensor:
        """Standard error of the log evidence by the spread of weights, `(B,)` nats."""
        ratios = (self.log_weights - self.log_evidence).exp()
        return ratios.std(0) / math.sqrt(len(ratios))


def integrate(
    log_joint: LogDensity, start: Proposal, *, number: int, generator: torch.Generator
) -> Cloud:
    """Move a proposal to where a density has its mass, in rounds, and weigh draws of the last.

    Args:
        log_joint: of points `(N, B, P)`, `(N, B)` nats.
        start: where to begin: the prior.
        number: draws of the last round; each before takes a quarter of it.
        generator: source of randomness.
    """
    proposal = start
    for _ in range(ROUNDS):
        points, density = proposal.draw(number // 4, generator)
        weights = flattened(log_joint(points) - density, LEAST_SHARE)
        proposal = Proposal.fitted(points, weights)
    points, density = proposal.draw(number, generator)
    return Cloud(points, log_joint(points), density)


# -- learners --------------------------------------------------------------------------------------


def compare(
    learners: Iterable[Learner],
    behaviour: Behaviour,
    *,
    population: Population | None = None,
    num_samples: int = 2048,
    seed: int = 0,
) -> Tensor:
    """Log evidence of each learner for each subject, `(learners, B)` nats, given the population.

    Sums over subjects compare learners of a whole group.

    Args:
        learners: at least one; a learner without free parameters is its likelihood.
        behaviour: what subjects chose and saw.
        population: parameter -> mean and sd on the real line, `POPULATION` by default.
        num_samples: draws for each subject.
        seed: of all draws.

    Raises:
        AgentError: the population tells of an unknown parameter.

    Warns:
        ConvergenceWarning: an estimate that may be off by more than a tenth of a nat.
    """

    def evidence(learner: Learner, prior: Population, generator: torch.Generator) -> Tensor:
        cloud = Subjects(learner, behaviour).cloud(prior, num_samples, generator)
        if learner.free:
            _warn("subject", float(pareto_k(cloud.log_weights).max()), cloud.standard_error)
        return cloud.log_evidence

    return _of_each(learners, evidence, population, seed)


def compare_groups(
    learners: Iterable[Learner],
    behaviour: Behaviour,
    *,
    population: Population | None = None,
    num_samples: int = 2048,
    seed: int = 0,
) -> Tensor:
    """Log evidence of each learner for all subjects together, `(learners,)` nats, their population unknown.

    Args:
        learners: at least one, each with free parameters.
        behaviour: what subjects chose and saw.
        population: parameter -> mean and sd on the real line of the prior of the population: its
            mean is Normal(mean, sd), its spread HalfNormal(sd). `POPULATION` by default.
        num_samples: draws for each subject, and of populations, in each of four repetitions.
        seed: of all draws.

    Raises:
        AgentError: a learner has nothing that could differ between subjects, or the population tells
            of an unknown parameter.

    Warns:
        ConvergenceWarning: repetitions differ by more than a tenth of a nat (standard error).
    """

    def evidence(learner: Learner, prior: Population, generator: torch.Generator) -> Tensor:
        if not learner.free:
            raise AgentError("compare_groups: a learner has no free parameter; use compare.")
        subjects = Subjects(learner, behaviour)
        islands = [_group(subjects, prior, num_samples, generator) for _ in range(ISLANDS)]
        each = torch.cat([island.log_evidence for island in islands])
        tail = max(float(pareto_k(island.log_weights).max()) for island in islands)
        _warn("group", tail, each.std()[None] / math.sqrt(ISLANDS))
        return each.logsumexp(0) - math.log(ISLANDS)

    return _of_each(learners, evidence, population, seed)


def _of_each(
    learners: Iterable[Learner],
    evidence: Callable[[Learner, Population, torch.Generator], Tensor],
    population: Population | None,
    seed: int,
) -> Tensor:
    """Ask for the log evidence of one learner after the other, `(learners, ...)` nats."""
    prior = checked_population(population)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for learner in learners:
        found.append(evidence(learner, prior, generator))
    return torch.stack(found).to(torch.get_default_dtype())


def _warn(of: str, tail: float, errors: Tensor) -> None:
    """Say that an estimate is not to be trusted."""
    if tail > MAX_PARETO_K or float(errors.max()) > MAX_ERROR:
        warnings.warn(
            f"evidence of a {of}: the weights have a tail of {tail:.2f} (expected below "
            f"{MAX_PARETO_K}) and a standard error of up to {float(errors.max()):.2f} nats "
            f"(expected at most {MAX_ERROR}): raise num_samples.",
            ConvergenceWarning,
            stacklevel=5,  # whoever compares
        )


@dataclass(frozen=True)
class Subjects:
    """What subjects chose, under one learner."""

    learner: Learner
    behaviour: Behaviour

    def log_likelihood(self, points: Tensor) -> Tensor:
        """Log probability of all choices under parameters `(N, B, P)`, `(N, B)` nats."""
        size = max(1, POINTS // self.behaviour.choices.numel())
        return torch.cat([self._some(part) for part in points.split(size)])

    def _some(self, points: Tensor) -> Tensor:
        data = self.behaviour.data
        free = dict(zip(self.learner.free, points.to(data["wins"].dtype).unbind(-1), strict=True))
        shape = points.shape[:2]
        choices = data["choices"].expand(*shape, -1)
        log_probs = self.learner.logits(free, {**data, "choices": choices}).log_softmax(-1)
        return log_probs.gather(-1, choices[..., None])[..., 0].double().sum(-1).expand(shape)

    def cloud(self, prior: Population, number: int, generator: torch.Generator) -> Cloud:
        """Weigh draws of every subject's parameters, given the population."""
        means = torch.tensor([prior[name][0] for name in self.learner.free]).double()
        spreads = torch.tensor([prior[name][1] for name in self.learner.free]).double()
        subjects = len(self.behaviour.choices)
        if not self.learner.free:
            nothing = torch.zeros(1, subjects, 0)
            return Cloud(nothing, self.log_likelihood(nothing), torch.zeros(1, subjects))
        law = Normal(means, spreads)
        start = Proposal(means.expand(subjects, -1), torch.diag(spreads).expand(subjects, -1, -1))
        return integrate(
            lambda points: self.log_likelihood(points) + law.log_prob(points).sum(-1),
            start,
            number=number,
            generator=generator,
        )


def _group(subjects: Subjects, prior: Population, number: int, generator: torch.Generator) -> Cloud:
    """Weigh draws of populations (means, logs of spreads), `(N, 1, 2 P)`."""
    names = subjects.learner.free
    means = torch.tensor([prior[name][0] for name in names]).double()
    spreads = torch.tensor([prior[name][1] for name in names]).double()
    cloud = subjects.cloud(prior, number, generator)
    given = Normal(means, spreads).log_prob(cloud.points).sum(-1)
    log_weights = cloud.log_weights - given - math.log(number)

    def one(population: Tensor) -> Tensor:
        mean, log_spread = population.chunk(2)
        inside = Normal(mean, log_spread.exp()).log_prob(cloud.points).sum(-1)
        likelihood = (inside + log_weights).logsumexp(0).sum()
        own = Normal(means, spreads).log_prob(mean) + log_spread
        return likelihood + (own + HalfNormal(spreads).log_prob(log_spread.exp())).sum()

    def log_joint(points: Tensor) -> Tensor:
        return torch.stack([one(point) for point in points[:, 0]])[:, None]

    centre = torch.cat([means, spreads.log()])[None]
    start = Proposal(centre, torch.diag(torch.cat([spreads, torch.ones_like(spreads)]))[None])
    return integrate(log_joint, start, number=number, generator=generator)
