"""The sample statements of a Pyro program, run at given values."""

import contextlib
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions import LKJCholesky as TorchLKJCholesky
from torch.nn.functional import logsigmoid

from aif_dcpc.inference.distributions import LKJCholesky
from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.frontends.improper import proper_law, undoing_factor, unit_statement
from aif_dcpc.inference.frontends.program_supports import check_coordinates, innermost
from aif_dcpc.inference.model import supports

Message = Any  # Pyro's record of one statement, by key


@dataclass(frozen=True)
class Program:
    """A program that is read: what is called, and which of its observations are factors.

    Attributes:
        function: the user's function.
        options: its keyword arguments.
        factors: observed statements whose values are computed from latents, such as `obs=y - z`:
            they are no data but factors of the joint density.
        unmasked: latents whose masked elements others read: there, a factor undoes their density.
    """

    function: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    factors: frozenset[str] = frozenset()
    unmasked: frozenset[str] = frozenset()

    def __call__(self, *arguments: Any) -> Any:
        """Run the function with its keyword arguments."""
        return self.function(*arguments, **self.options)


@dataclass
class Statements(Messenger):
    """Run a program with given values; keep its sample statements.

    Attributes:
        values: site -> value; sites without one are drawn, or observed.
        factors: observed statements that become factors.
        unmasked: masked latents whose density is undone by a factor.
        draws: entered around every draw of a statement.
        found: the sample statements, in order.
        computed: the values of deterministic statements.
    """

    values: Mapping[str, Tensor] = field(default_factory=dict)
    factors: frozenset[str] = frozenset()
    unmasked: frozenset[str] = frozenset()
    draws: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    found: dict[str, Message] = field(default_factory=dict)
    computed: dict[str, Tensor] = field(default_factory=dict)

    def _pyro_sample(self, message: Message) -> None:
        if isinstance(message["fn"], Distribution):
            message["fn"] = _sound(message["fn"])
        while isinstance(message["fn"], pyro.distributions.MaskedDistribution):
            mask = message["fn"]._mask
            message["fn"] = message["fn"].base_dist
            message["mask"] = mask if message["mask"] is None else message["mask"] & mask
        if isinstance(message["fn"], pyro.distributions.ImproperUniform):
            message["fn"] = proper_law(message["fn"])
            message["infer"] = {**message["infer"], "_is_flat": not message["is_observed"]}
        if message["name"] in self.values and message["name"] not in self.factors:
            message["value"] = self.values[message["name"]]
            message["done"] = True
        if message["value"] is None:
            with self.draws():
                message["value"] = _drawn(message)

    def _pyro_post_sample(self, message: Message) -> None:
        name = message["name"]
        if _is_computed(message):
            self.computed[name] = message["value"]
        elif name in self.factors:
            log_factor = counted_density(message)
            self.found[name] = unit_statement(message, name, log_factor)
        elif not site_is_subsample(message):
            self.found[name] = message
        if message["infer"].get("_is_flat") or name in self.unmasked:
            factor = undoing_factor(message)
            self.found[factor["name"]] = factor


def _is_computed(message: Message) -> bool:
    """Whether a statement only names a value: a deterministic one, or one that was reparameterised."""
    if message["infer"].get("_deterministic"):
        return True
    is_point = isinstance(innermost(message["fn"]), pyro.distributions.Delta)
    return bool(is_point and message["is_observed"] and message["mask"] is False)


def _drawn(message: Message) -> Tensor:
    """Draw a statement's value.

    Raises:
        ModelError: for a law that has no draws, or a latent without coordinates.
    """
    if isinstance(message["fn"], Distribution) and not message["infer"].get("_is_flat"):
        check_coordinates(message)
    try:
        drawn: Tensor = message["fn"](*message["args"], **message["kwargs"])
    except NotImplementedError as error:
        raise ModelError(
            f"site {message['name']!r}: {type(message['fn']).__name__} has no draws; write it as a "
            "law that has, and put the rest of its density into pyro.factor(...)."
        ) from error
    return drawn


def statements(
    program: Program, arguments: tuple[Any, ...], values: Mapping[str, Tensor]
) -> dict[str, Message]:
    """The program's sample statements at given values."""
    return run(program, arguments, values).found


def run(program: Program, arguments: tuple[Any, ...], values: Mapping[str, Tensor]) -> Statements:
    """Run the program at given values, and keep what it states."""
    with Statements(values, program.factors, program.unmasked) as found:
        program(*arguments)
    return found


class _LKJCholesky(LKJCholesky, TorchDistributionMixin):  # type: ignore[misc]
    """The distribution with a right sampler, for Pyro's statements."""


def _sound(distribution: Distribution) -> Distribution:
    """Copy a distribution, parts included, so that it draws as its density says and validates nothing."""
    if isinstance(distribution, TorchLKJCholesky):
        return _LKJCholesky(distribution.dim, distribution.concentration, validate_args=False)
    if isinstance(distribution, pyro.distributions.OrderedLogistic):
        logits = ordered_logits(distribution.predictor, distribution.cutpoints)
        return pyro.distributions.Categorical(logits=logits, validate_args=False)
    found = copy.copy(distribution)
    found._validate_args = False
    for name, part in vars(distribution).items():
        if isinstance(part, Distribution):
            vars(found)[name] = _sound(part)
    return found


def ordered_logits(predictor: Tensor, cutpoints: Tensor) -> Tensor:
    """Log chances of ordered categories, `(*batch, C + 1)`, without the 1e-7 at which Pyro's are cut.

    log(s(b) - s(a)) = log s(b) + log s(-a) + log(1 - exp(a - b)) for a < b and the logistic function s.
    """
    edges = cutpoints - predictor.unsqueeze(-1)
    below = logsigmoid(edges)
    above = logsigmoid(-edges)
    tiny = torch.finfo(edges.dtype).tiny
    gaps = (edges[..., 1:] - edges[..., :-1]).clamp_min(tiny)
    between = below[..., 1:] + above[..., :-1] + torch.log(-torch.expm1(-gaps))
    return torch.cat([below[..., :1], between, above[..., -1:]], -1)


def _log_prob(site: Message, value: Tensor) -> Tensor:
    """The log density of a statement's law.

    Raises:
        ModelError: for a law that has none.
    """
    try:
        log_prob = supports.log_prob(site["fn"], value)
    except (NotImplementedError, RuntimeError) as error:
        family = type(innermost(site["fn"])).__name__
        reads = "_local_scalar_dense" in str(error)
        if not reads and not isinstance(error, NotImplementedError):
            raise
        what = "looks at its numbers" if reads else "cannot be computed"
        raise ModelError(
            f"site {site['name']!r}: the density of {family} {what}; write it as sites whose laws "
            "have one: hidden states as a loop of sites, a stable law by "
            "poutine.reparam(program, config={name: StableReparam()})."
        ) from error
    return log_prob


def log_density(site: Message, value: Tensor) -> Tensor:
    """Return a statement's log density, `(*plates)` nats.

    Masked-off elements of an observed statement count nothing. A latent statement keeps its density
    everywhere: either nothing else reads what is masked off, so that those elements follow their
    prior and leave the posterior of all others as it is, or a factor undoes their density.
    """
    log_prob = _log_prob(site, value)
    if site["mask"] is None or not site["is_observed"]:
        return log_prob
    masked: Tensor = scale_and_mask(log_prob, mask=site["mask"])
    return masked


def counted_density(site: Message) -> Tensor:
    """The log density that Pyro counts, masked for latents too."""
    counted: Tensor = scale_and_mask(_log_prob(site, site["value"]), mask=site["mask"])
    return counted


def where_shown(mask: Tensor | bool, site: Message, other: Tensor) -> Tensor:
    """The statement's value where the mask holds, else another."""
    flags = torch.as_tensor(mask)
    flags = flags.reshape(flags.shape + (1,) * len(site["fn"].event_shape))
    return torch.where(flags, site["value"], other)


def plain_value(site: Message) -> Tensor:
    """Return a statement's value in full shape; what is masked off, maybe NaN, is drawn."""
    value: Tensor = site["value"]
    shape = torch.broadcast_shapes(value.shape, site["fn"].shape())
    value = value.detach().expand(shape).clone(memory_format=torch.contiguous_format)
    if site["mask"] is None or not site["is_observed"]:
        return value
    return where_shown(site["mask"], {**site, "value": value}, site["fn"].sample().to(value))
