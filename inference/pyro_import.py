"""Pyro programs of static structure as graphical models.

    >>> import pyro, torch
    >>> import pyro.distributions as dist
    >>> from aif_dcpc.inference import DCPC, GraphicalModel
    >>> def program(y):
    ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...     with pyro.plate("data", len(y)):
    ...         pyro.sample("y", dist.Normal(z, 1.0), obs=y)
    >>> model, data = GraphicalModel.from_pyro(program, torch.tensor([1.0, 2.0, 0.0]))
    >>> {name: tuple(value.shape) for name, value in data.items()}
    {'y': (1, 3)}
    >>> state, info = DCPC(model).run(DCPC(model).init(data), num_sweeps=10)

The program runs three times, for one particle and one datum, exactly as Pyro would run it: it need not broadcast. The
log density of every site becomes a graph of tensor operations (`tensor_graphs`), whose inputs are the site's parents;
neither Pyro nor the program is called afterwards. A program that looks at the numbers in its latents (`if z > 0`) has
no static structure and is refused. Sites keep the shape that they have in the program, plates first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.graph import GraphicalModel
from aif_dcpc.inference.lowering import widen
from aif_dcpc.inference.sampling import quiet_distributions
from aif_dcpc.inference.tensor_graphs import BatchedGraph, cut, record

Message = Any  # Pyro's record of one statement, by key
Program = Callable[..., Any]


@dataclass
class Statements(Messenger):
    """Run a program with given values; keep its sample statements.

    Attributes:
        values: site -> value; sites without one are drawn, or observed.
        found: the sample statements, in order.
    """

    values: Mapping[str, Tensor] = field(default_factory=dict)
    found: dict[str, Message] = field(default_factory=dict)

    def _pyro_sample(self, message: Message) -> None:
        if message["name"] in self.values:
            message["value"], message["done"] = self.values[message["name"]], True

    def _pyro_post_sample(self, message: Message) -> None:
        if not site_is_subsample(message) and not message["infer"].get("_deterministic"):
            self.found[message["name"]] = message


def statements(program: Program, arguments: tuple[Any, ...], values: Mapping[str, Tensor]) -> dict[str, Message]:
    """The program's sample statements at given values."""
    with Statements(values) as run:
        program(*arguments)
    return run.found


def import_program(
    model: GraphicalModel, program: Program, arguments: tuple[Any, ...]
) -> tuple[GraphicalModel, dict[str, Tensor]]:
    """Add a program's sites to an empty model (see `GraphicalModel.from_pyro`)."""
    with quiet_distributions(), torch.random.fork_rng(devices=[]), pyro.poutine.block():
        torch.manual_seed(0)
        sites = statements(program, arguments, {})
        _check_statements(sites, statements(program, arguments, {}))
        values = {name: _value(site) for name, site in sites.items()}
        kernels = _kernels(program, arguments, sites, values)
    for name, (kernel, parents) in kernels.items():
        model.add_site(name, kernel, parents)
    for name in sites:
        _add_plated_conditional(model, name, sites)
    return model, {name: values[name][None] for name, site in sites.items() if site["is_observed"]}


def _value(site: Message) -> Tensor:
    """A statement's value, in the shape that the statement gives it."""
    value: Tensor = site["value"]
    return value.detach().expand(torch.broadcast_shapes(value.shape, site["fn"].shape())).contiguous()


def _check_statements(first: dict[str, Message], second: dict[str, Message]) -> None:
    if list(first) != list(second):
        differing = sorted(set(first) ^ set(second)) or list(first)
        raise ModelError(f"program: its sites differ from run to run ({', '.join(differing)}); give it one structure.")
    for name, site in first.items():
        if site["mask"] is not None or isinstance(site["fn"], pyro.distributions.MaskedDistribution):
            raise ModelError(f"site {name!r} is masked: leave the mask out and pass init(masks=...) to the engine.")
        if not isinstance(site["scale"], float | int) or site["scale"] != 1:
            raise ModelError(f"site {name!r} is subsampled or scaled: give the program whole plates and no scale.")
        if not site["is_observed"] and not _same_support(site["fn"].support, second[name]["fn"].support):
            raise ModelError(f"site {name!r}: its support depends on other latents; rescale a site of fixed support.")


def _same_support(first: constraints.Constraint, second: constraints.Constraint) -> bool:
    if type(first) is not type(second):
        return False
    for key, value in vars(first).items():
        other = vars(second)[key]
        if isinstance(value, constraints.Constraint) and not _same_support(value, other):
            return False
        if isinstance(value, Tensor) and not torch.equal(value, other):
            return False
    return True


# -- kernels ---------------------------------------------------------------------------------------------------------


def _kernels(
    program: Program, arguments: tuple[Any, ...], sites: dict[str, Message], values: dict[str, Tensor]
) -> dict[str, tuple["TracedKernel", tuple[str, ...]]]:
    names = list(sites)

    def densities(*given: Tensor) -> tuple[Tensor, ...]:
        found = statements(program, arguments, dict(zip(names, given, strict=True)))
        return tuple(found[n]["fn"].log_prob(v) for n, v in zip(names, given, strict=True))

    def draws(*given: Tensor) -> tuple[Tensor, ...]:
        found = statements(program, arguments, dict(zip(names, given, strict=True)))
        return tuple(found[n]["fn"].sample() for n in names)

    parameters: dict[int, nn.Parameter] = {}
    try:
        density = record(densities, list(values.values()), pure=True, parameters=parameters)
        draw = record(draws, list(values.values()), pure=False, parameters=parameters)
    except RuntimeError as error:
        raise ModelError(
            "program: it reads the numbers in a latent (a branch on a sample, .item(), a data-dependent shape), so its "
            "structure is not static; compute with the sample instead, for example with torch.where."
        ) from error
    kernels = {}
    for index, name in enumerate(names):
        part, inputs = cut(density, index)
        drawn, drawn_inputs = cut(draw, index)
        parents = tuple(names[i] for i in sorted({*inputs, *drawn_inputs} - {index}))
        kernels[name] = (TracedKernel(sites[name], part, inputs, drawn, drawn_inputs, names, parents), parents)
    return kernels


class TracedKernel(nn.Module):
    """p(site | parents) of one sample statement, as recorded graphs of its log density and of its draw."""

    def __init__(
        self,
        site: Message,
        density: Any,
        density_inputs: tuple[int, ...],
        draw: Any,
        draw_inputs: tuple[int, ...],
        names: list[str],
        parents: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.statement: Distribution = site["fn"]
        self.plates = tuple(site["fn"].batch_shape)
        own = names.index(site["name"])
        self.places = tuple(-1 if i == own else parents.index(names[i]) for i in density_inputs)
        self.draw_places = tuple(parents.index(names[i]) for i in draw_inputs)
        self.density, self.draw = BatchedGraph(density), BatchedGraph(draw, random=True)

    def forward(self, *parents: Tensor) -> "TracedDistribution":
        """The site's distribution given parents `(K, B, *shape)`."""
        lead = torch.broadcast_shapes(*(p.shape[:2] for p in parents)) if parents else torch.Size()
        return TracedDistribution(self, parents, lead)


class TracedDistribution(Distribution):
    """One statement's distribution for a whole cloud: batch shape `(K, B, *plates)`, without leading axes for a root."""

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012

    def __init__(self, kernel: TracedKernel, parents: tuple[Tensor, ...], lead: torch.Size) -> None:
        self.kernel, self.parents, self.lead = kernel, parents, lead
        super().__init__(lead + kernel.plates, kernel.statement.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint | None:  # type: ignore[override]
        """The statement's support."""
        return self.kernel.statement.support

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        """Whether the values are finitely many."""
        return bool(self.kernel.statement.has_enumerate_support)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values of one element."""
        return self.kernel.statement.enumerate_support(expand=expand)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "TracedDistribution":
        """The same for other leading axes."""
        shape = torch.Size(batch_shape)
        return TracedDistribution(self.kernel, self.parents, shape[: len(shape) - len(self.kernel.plates)])

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of `(K, B, *plates, *event)`, `(K, B, *plates)` nats."""
        kernel = self.kernel
        result = kernel.density(*(value if p < 0 else self.parents[p] for p in kernel.places))
        return result

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw for every particle and datum, `(K, B, *plates, *event)`."""
        kernel = self.kernel
        if not kernel.draw_places:
            return kernel.statement.sample(torch.Size(sample_shape) + self.lead)
        wide = [self.parents[p].expand(*self.lead, *self.parents[p].shape[2:]) for p in kernel.draw_places]
        return kernel.draw(*wide)


# -- plated discrete sites -------------------------------------------------------------------------------------------


def _add_plated_conditional(model: GraphicalModel, name: str, sites: dict[str, Message]) -> None:
    """Let a discrete site inside plates be drawn at once: its elements are independent given everything else."""
    site = sites[name]
    children = model.children_of(name)
    if site["is_observed"] or not site["fn"].has_enumerate_support or not _elementwise(site, sites, children):
        return
    model.add_conditional((name,), _PlatedConditional(model, name, children))


def _elementwise(site: Message, sites: dict[str, Message], children: tuple[str, ...]) -> bool:
    """Whether the plates cover the whole batch shape of the site, and its children lie in the same plates."""
    frames = {f for f in site["cond_indep_stack"] if f.vectorized}
    shape = site["fn"].batch_shape
    covered = {f.dim for f in frames}
    whole = all(size == 1 or i - len(shape) in covered for i, size in enumerate(shape))
    return bool(frames) and whole and all(frames <= set(sites[c]["cond_indep_stack"]) for c in children)


@dataclass(frozen=True)
class _PlatedConditional:
    """Exact draw of all elements of a plated discrete site from their complete conditionals."""

    model: GraphicalModel
    name: str
    children: tuple[str, ...]

    def __call__(
        self, values: Mapping[str, Tensor], generator: torch.Generator, masks: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        kernel: Any = self.model.sites[self.name].kernel
        now = values[self.name]
        support = kernel.statement.enumerate_support(expand=False).to(now.device)
        scores = torch.stack(
            [self._score({**values, self.name: s.expand_as(now).contiguous()}, kernel, masks) for s in support]
        )
        noise = torch.rand(scores.shape, dtype=scores.dtype, device=scores.device, generator=generator)
        gumbel = -torch.log(-torch.log(noise.clamp_min(torch.finfo(noise.dtype).tiny)))
        chosen = (scores + gumbel).argmax(0)
        event = kernel.statement.event_shape
        drawn = support.reshape(len(support), *event).index_select(0, chosen.flatten())
        return {self.name: drawn.reshape(*chosen.shape, *event).expand_as(now).to(now.dtype)}

    def _score(self, values: Mapping[str, Tensor], kernel: TracedKernel, masks: Mapping[str, Tensor]) -> Tensor:
        """Unnormalised log conditional of every element, `(K, B, *plates)`; hidden data say nothing."""
        total = torch.zeros((), device=values[self.name].device)
        for name in (self.name, *self.children):
            site = self.model.sites[name]
            density: Any = site.kernel
            log_prob = density(*(values[str(p)] for p in site.parents)).log_prob(values[name])
            if name in masks and name != self.name:
                log_prob = torch.where(widen(masks[name], log_prob), log_prob, torch.zeros_like(log_prob))
            total = total + _onto(log_prob, kernel.plates)
        return total


def _onto(log_prob: Tensor, plates: tuple[int, ...]) -> Tensor:
    """Sum `(K, B, *child's plates)` over the plates that the site does not have."""
    extra = log_prob.ndim - 2 - len(plates)
    if extra > 0:
        log_prob = log_prob.flatten(2, 1 + extra).sum(2)
    sizes = log_prob.shape[2:]
    axes = [2 + i for i, (size, own) in enumerate(zip(sizes, plates, strict=True)) if own == 1 and size > 1]
    return log_prob.sum(axes, keepdim=True) if axes else log_prob
