"""The sample statements of a Pyro program, and what must hold for them to be sites of a model."""

import contextlib
import copy
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Distribution, biject_to, constraints
from torch.distributions import LKJCholesky as TorchLKJCholesky

from aif_dcpc.inference.distributions import LKJCholesky
from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.frontends.improper import proper_law, undoing_factor, unit_statement
from aif_dcpc.inference.frontends.tracing import ReadableConstants
from aif_dcpc.inference.model.supports import INTEGER_SUPPORTS, base_law, support_of

Message = Any  # Pyro's record of one statement, by key

LIBRARIES = (
    str(Path(torch.__file__ or "").parent),
    str(Path(pyro.__file__ or "").parent),
    str(Path(__file__).parents[1]),
)
STANDARD_LIBRARY = str(Path(contextlib.__file__).parent)
REDRAWS = 8  # a masked fair coin that is read elsewhere stays unnoticed with probability 2 ** -8


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
        """Run the function."""
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
            log_factor = _counted(message)
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
    is_point = isinstance(_innermost(message["fn"]), pyro.distributions.Delta)
    return bool(is_point and message["is_observed"] and message["mask"] is False)


def _drawn(message: Message) -> Tensor:
    """Draw a statement's value.

    Raises:
        ModelError: for a law that has no draws, or a latent without coordinates.
    """
    if isinstance(message["fn"], Distribution) and not message["infer"].get("_is_flat"):
        _check_coordinates(message)
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
    found = copy.copy(distribution)
    found._validate_args = False
    for name, part in vars(distribution).items():
        if isinstance(part, Distribution):
            vars(found)[name] = _sound(part)
    return found


def log_density(site: Message, value: Tensor) -> Tensor:
    """Return a statement's log density, `(*plates)` nats.

    Masked-off elements of an observed statement count nothing. A latent statement keeps its density
    everywhere: either nothing else reads what is masked off, so that those elements follow their
    prior and leave the posterior of all others as it is, or a factor undoes their density.
    """
    log_prob: Tensor = site["fn"].log_prob(value)
    if site["mask"] is None or not site["is_observed"]:
        return log_prob
    masked: Tensor = scale_and_mask(log_prob, mask=site["mask"])
    return masked


# -- checks ----------------------------------------------------------------------------------------


def read_statements(
    program: Program, arguments: tuple[Any, ...]
) -> tuple[Program, dict[str, Message]]:
    """Run a program a few times: see whether it has static structure, and what of it are factors.

    Returns:
        the program with its factors told, and its statements.

    Raises:
        ModelError: for programs that fail, for sites that come and go, moving supports, random
            numbers outside of statements, subsampling and scales.
    """
    try:
        first = statements(program, arguments, {})
        for site in first.values():
            _check_plates(site)
        program = replace(program, factors=_factors(program, arguments))
    except ModelError:
        raise
    except Exception as error:
        raise _fails(error) from error
    first = statements(program, arguments, {})
    _check_statements(program, arguments, first)
    masked = {
        n: s["mask"] for n, s in first.items() if s["mask"] is not None and not s["is_observed"]
    }
    if masked and _reads_masked(program, arguments, first, masked):
        program = replace(program, unmasked=frozenset(masked))
        first = statements(program, arguments, {})
    return program, first


def _factors(program: Program, arguments: tuple[Any, ...]) -> frozenset[str]:
    """Name the observed statements whose values follow from draws or from parameters.

    Raises:
        ModelError: for random numbers that no statement draws.
    """
    watch = Watch()
    with Statements(draws=watch.allow) as found, watch:
        program(*arguments)
    observed = {name: site for name, site in found.found.items() if site["is_observed"]}
    factors = frozenset(n for n, site in observed.items() if watch.follows(site["value"]))
    for name in factors:
        if isinstance(_innermost(observed[name]["fn"]), pyro.distributions.Delta):
            raise ModelError(
                f"site {name!r} observes a Delta of latents, which has no density: write "
                "dist.Normal(value, small scale) for a soft constraint."
            )
    return factors


class Watch(ReadableConstants):
    """Follow what random numbers change, and refuse those that no statement draws."""

    def __init__(self) -> None:
        super().__init__(())
        self.allowed = False

    @contextlib.contextmanager
    def allow(self) -> Iterator[None]:
        """Let a statement draw."""
        self.allowed = True
        yield
        self.allowed = False

    def follows(self, value: Tensor) -> bool:
        """Whether a value follows from what was drawn, or from a parameter."""
        return bool(value.numel()) and self._changes(value)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation, unless it draws where it must not."""
        if not self.allowed and torch.Tag.nondeterministic_seeded in func.tags:
            raise ModelError(
                f"program: it draws random numbers outside of a sample statement{_program_line()}; "
                "make them before the program, or a site of their own: pyro.sample(name, "
                "dist.Normal(0, 1)); leave dropout out (module.eval())."
            )
        return super().__torch_dispatch__(func, types, args, kwargs)


def _check_statements(
    program: Program, arguments: tuple[Any, ...], first: dict[str, Message]
) -> None:
    """See whether the program states the same in a second run."""
    second = statements(program, arguments, {})
    if list(first) != list(second):
        differing = sorted(set(first) ^ set(second)) or list(first)
        raise ModelError(
            f"program: its sites differ from run to run ({', '.join(differing)}); give it one "
            "structure."
        )
    for name, site in first.items():
        if not site["is_observed"]:
            _check_latent(site, second[name])
    _check_repeats(program, arguments, first)


def _check_repeats(program: Program, arguments: tuple[Any, ...], first: dict[str, Message]) -> None:
    """Refuse densities that differ at the same values: something else than statements is random."""
    again = statements(program, arguments, {n: site["value"] for n, site in first.items()})
    for name, site in first.items():
        before = _counted(site)
        after = _counted(again[name])
        if before.shape != after.shape or not torch.allclose(before, after, equal_nan=True):
            raise ModelError(
                f"site {name!r}: its density changes from run to run at the same values; numbers "
                "from numpy, random or a counter must be made before the program."
            )


def _check_plates(site: Message) -> None:
    """Refuse subsampling, scales, and a mask that is wider than its statement."""
    name = site["name"]
    if not isinstance(site["scale"], float | int) or site["scale"] != 1:
        raise ModelError(
            f"site {name!r} is subsampled or scaled: give the program whole plates and no scale."
        )
    batch_shape = site["fn"].batch_shape
    mask_shape = _shape(site["mask"])
    if torch.broadcast_shapes(mask_shape, batch_shape) != batch_shape:
        raise ModelError(
            f"site {name!r}: its mask {tuple(mask_shape)} is wider than its batch shape "
            f"{tuple(batch_shape)}; put it inside the plates that the mask goes over."
        )


def _check_latent(site: Message, again: Message) -> None:
    """Refuse a latent statement of known value, or of another support in a second run."""
    name = site["name"]
    if isinstance(_innermost(site["fn"]), pyro.distributions.Delta):
        raise ModelError(
            f"site {name!r} is a Delta: write pyro.deterministic({name!r}, value) for a known "
            "value."
        )
    if not _same_support(site["fn"].support, again["fn"].support):
        raise ModelError(
            f"site {name!r}: its support depends on other latents; rescale a site of fixed support, "
            "and for counts write dist.Poisson(rate) or a Normal approximation."
        )


def _check_coordinates(site: Message) -> None:
    """Refuse a latent that no move can reach: no coordinates, nor a finite or ordered support."""
    name = site["name"]
    family = type(_innermost(site["fn"])).__name__
    support = support_of(site["fn"])
    if support is None or isinstance(support, constraints.MixtureSameFamilyConstraint):
        return
    if support.is_discrete:
        finite = base_law(site["fn"]).has_enumerate_support
        if not finite and not isinstance(support, INTEGER_SUPPORTS):
            raise ModelError(
                f"site {name!r}: no move updates a latent {family}; draw its single trials, for "
                "example dist.Categorical(probs) in a plate, and count them: "
                "one_hot(trials, size).sum(0)."
            )
        return
    if not _has_bijection(support):
        raise ModelError(
            f"site {name!r}: a latent {family} has no unconstrained coordinates; write it in terms "
            "of sites that have, for example LKJCholesky and standard deviations for a covariance."
        )


def _has_bijection(support: constraints.Constraint) -> bool:
    """Whether a support has coordinates with a Jacobian."""
    try:
        biject_to(support)
    except NotImplementedError:
        return False
    return True


def _shape(mask: Tensor | bool | None) -> torch.Size:
    return mask.shape if isinstance(mask, Tensor) else torch.Size()


def _innermost(distribution: Distribution) -> Distribution:
    while isinstance(base := getattr(distribution, "base_dist", None), Distribution):
        distribution = base
    return distribution


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


def _reads_masked(
    program: Program,
    arguments: tuple[Any, ...],
    sites: dict[str, Message],
    masked: Mapping[str, Tensor | bool],
) -> bool:
    """Whether a density reads elements that are masked off, found by redrawing them."""
    values = {name: site["value"] for name, site in sites.items()}
    before = statements(program, arguments, values)
    for _ in range(REDRAWS):
        fresh = statements(program, arguments, {})
        redrawn = {n: _where(mask, sites[n], _any_value(fresh[n])) for n, mask in masked.items()}
        after = statements(program, arguments, {**values, **redrawn})
        if not all(torch.equal(_counted(before[n]), _counted(after[n])) for n in sites):
            return True
    return False


def _any_value(site: Message) -> Tensor:
    """Draw among all values of a finite support, since some may have no probability, else from the law."""
    value: Tensor = site["value"]
    if not site["fn"].has_enumerate_support:
        return value
    support = (
        site["fn"].enumerate_support(expand=False).flatten(0, -1 - len(site["fn"].event_shape))
    )
    chosen: Tensor = support[torch.randint(len(support), site["fn"].batch_shape)]
    return chosen.expand_as(value)


def _counted(site: Message) -> Tensor:
    """The log density that Pyro counts, masked for latents too."""
    counted: Tensor = scale_and_mask(site["fn"].log_prob(site["value"]), mask=site["mask"])
    return counted


def _where(mask: Tensor | bool, site: Message, other: Tensor) -> Tensor:
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
    return _where(site["mask"], {**site, "value": value}, site["fn"].sample().to(value))


# -- errors ----------------------------------------------------------------------------------------


def _fails(error: Exception) -> ModelError:
    """Say that a program does not run by itself, and where."""
    cause = (str(error).strip().splitlines() or [""])[0][:200]
    return ModelError(
        f"program: it fails by itself{_own_line(error)}: {type(error).__name__}: {cause}; run it "
        "once with the same arguments to see."
    )


def _program_line() -> str:
    """The innermost line of the running program that belongs to no library."""
    return _line(traceback.extract_stack())


def not_static(error: Exception) -> ModelError:
    """Refuse a program that ran, but cannot be recorded: say why, and at which of its own lines."""
    place = _own_line(error)
    if "_local_scalar_dense" in str(error):
        return ModelError(
            "program: it reads the numbers in a latent or observed site (a branch on a sample, "
            f".item(), a data-dependent shape), so its structure is not static{place}; compute with "
            "the sample instead, for example with torch.where, or branch on the data themselves."
        )
    cause = (str(error).strip().splitlines() or [""])[0][:200]
    return ModelError(
        f"program: it cannot be recorded as tensor operations{place}: {type(error).__name__}: "
        f"{cause}"
    )


def _own_line(error: Exception) -> str:
    """The innermost line of a traceback that belongs to no library."""
    return _line(traceback.extract_tb(error.__traceback__))


def _line(frames: traceback.StackSummary) -> str:
    for frame in reversed(frames):
        standard = (
            frame.filename.startswith(STANDARD_LIBRARY) and "site-packages" not in frame.filename
        )
        if not standard and not frame.filename.startswith((*LIBRARIES, "<")):
            return f" ({Path(frame.filename).name}, line {frame.lineno}: {frame.line})"
    return ""
