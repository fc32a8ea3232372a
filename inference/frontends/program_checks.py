"""What must hold for the statements of a Pyro program to be sites of a model, seen by running it."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import constraints

from aif_dcpc.inference.errors import ModelError
from aif_dcpc.inference.frontends.program_errors import fails_by_itself, program_line
from aif_dcpc.inference.frontends.program_supports import innermost
from aif_dcpc.inference.frontends.pyro_statements import (
    Program,
    Statements,
    counted_density,
    statements,
    where_shown,
)
from aif_dcpc.inference.frontends.tracing import ReadableConstants

Message = Any  # Pyro's record of one statement, by key
REDRAWS = 8  # a masked fair coin that is read elsewhere stays unnoticed with probability 2 ** -8


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
        raise fails_by_itself(error) from error
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
        if isinstance(innermost(observed[name]["fn"]), pyro.distributions.Delta):
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
                f"program: it draws random numbers outside of a sample statement{program_line()}; "
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
        before = counted_density(site)
        after = counted_density(again[name])
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
    if isinstance(innermost(site["fn"]), pyro.distributions.Delta):
        raise ModelError(
            f"site {name!r} is a Delta: write pyro.deterministic({name!r}, value) for a known "
            "value."
        )
    if not _same_support(site["fn"].support, again["fn"].support):
        raise ModelError(
            f"site {name!r}: its support depends on other latents; rescale a site of fixed support, "
            "and for counts write dist.Poisson(rate) or a Normal approximation."
        )


def _shape(mask: Tensor | bool | None) -> torch.Size:
    return mask.shape if isinstance(mask, Tensor) else torch.Size()


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
        redrawn = {
            n: where_shown(mask, sites[n], _any_value(fresh[n])) for n, mask in masked.items()
        }
        after = statements(program, arguments, {**values, **redrawn})
        if not all(
            torch.equal(counted_density(before[n]), counted_density(after[n])) for n in sites
        ):
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
