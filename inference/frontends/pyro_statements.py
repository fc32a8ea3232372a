"""The sample statements of a Pyro program, and what must hold for them to be sites of a model."""

import contextlib
import copy
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions import LKJCholesky as TorchLKJCholesky

from aif_dcpc.inference.distributions import LKJCholesky
from aif_dcpc.inference.errors import ModelError

Message = Any  # Pyro's record of one statement, by key
Program = Callable[..., Any]

LIBRARIES = tuple(
    str(Path(place).parent) for place in (torch.__file__ or "", pyro.__file__ or "", __file__)
)
STANDARD_LIBRARY = str(Path(contextlib.__file__).parent)
REDRAWS = 8  # a masked fair coin that is read elsewhere stays unnoticed with probability 2 ** -8


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
        if isinstance(message["fn"], Distribution):
            message["fn"] = _sound(message["fn"])
        while isinstance(message["fn"], pyro.distributions.MaskedDistribution):
            mask = message["fn"]._mask
            message["fn"] = message["fn"].base_dist
            message["mask"] = mask if message["mask"] is None else message["mask"] & mask
        if message["name"] in self.values:
            message["value"] = self.values[message["name"]]
            message["done"] = True

    def _pyro_post_sample(self, message: Message) -> None:
        if not site_is_subsample(message) and not message["infer"].get("_deterministic"):
            self.found[message["name"]] = message


def statements(
    program: Program, arguments: tuple[Any, ...], values: Mapping[str, Tensor]
) -> dict[str, Message]:
    """The program's sample statements at given values."""
    with Statements(values) as run:
        program(*arguments)
    return run.found


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
    everywhere: `check_statements` has seen that nothing else reads what is masked off, so that
    those elements follow their prior and leave the posterior of all others as it is.
    """
    log_prob: Tensor = site["fn"].log_prob(value)
    if site["mask"] is None or not site["is_observed"]:
        return log_prob
    masked: Tensor = scale_and_mask(log_prob, mask=site["mask"])
    return masked


# -- checks ----------------------------------------------------------------------------------------


def check_statements(
    program: Program, arguments: tuple[Any, ...], first: dict[str, Message]
) -> None:
    """See whether a program has static structure, by running it again.

    Raises:
        ModelError: for sites that come and go, moving supports, subsampling, and masked latents
            that others read.
    """
    second = statements(program, arguments, {})
    if list(first) != list(second):
        differing = sorted(set(first) ^ set(second)) or list(first)
        raise ModelError(
            f"program: its sites differ from run to run ({', '.join(differing)}); give it one "
            "structure."
        )
    for name, site in first.items():
        _check_plates(site)
        if not site["is_observed"]:
            _check_latent(site, second[name])
    masked = {
        n: s["mask"] for n, s in first.items() if s["mask"] is not None and not s["is_observed"]
    }
    if masked:
        _check_masked_latents(program, arguments, first, masked)


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
            f"site {name!r}: its support depends on other latents; rescale a site of fixed support."
        )


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


def _check_masked_latents(
    program: Program,
    arguments: tuple[Any, ...],
    sites: dict[str, Message],
    masked: Mapping[str, Tensor | bool],
) -> None:
    """See, by redrawing them, that no density reads the elements that are masked off."""
    values = {name: site["value"] for name, site in sites.items()}
    before = statements(program, arguments, values)
    for _ in range(REDRAWS):
        fresh = statements(program, arguments, {})
        redrawn = {n: _where(mask, sites[n], fresh[n]["value"]) for n, mask in masked.items()}
        after = statements(program, arguments, {**values, **redrawn})
        for name in sites:
            if not torch.equal(_counted(before[name]), _counted(after[name])):
                raise ModelError(
                    f"site {name!r} reads latent values that are masked off ({', '.join(masked)}), "
                    "whose density then is not one of a graphical model; leave the mask out there."
                )


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
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        standard = (
            frame.filename.startswith(STANDARD_LIBRARY) and "site-packages" not in frame.filename
        )
        if not standard and not frame.filename.startswith((*LIBRARIES, "<")):
            return f" ({Path(frame.filename).name}, line {frame.lineno}: {frame.line})"
    return ""
