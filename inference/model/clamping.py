"""What is handed over as data: names, shapes, masks and values, checked before inference.

All of this happens once per cloud and may look at values; sweeps never do.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution

from aif_dcpc.inference.errors import ClampError, named_failure
from aif_dcpc.inference.model.factor_graph import (
    Argument,
    Factor,
    FactorGraph,
    align,
    expand_trailing,
    num_slices,
)
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.isolation import DrawsFrom
from aif_dcpc.inference.model.supports import has_bounds, inside, support_of
from aif_dcpc.misspelt import unknown_name

PRECISIONS = (torch.float32, torch.float64)
LONG_INTEGERS = (torch.int32, torch.int64)
EXACT_IN_FLOAT32 = 2**24


def check_names(
    factor_graph: FactorGraph,
    data: Mapping[str, object],
    masks: Mapping[str, object],
    do: Mapping[str, object],
) -> None:
    """Refuse unknown sites, sites in a role that they cannot have, and inputs that are missing."""
    sites = factor_graph.model.sites
    for name in [*data, *masks, *do]:
        if name not in sites:
            raise ClampError(unknown_name("site", name, sites))
    for name, value in [*data.items(), *masks.items(), *do.items()]:
        check_tensor(name, value)
    for name in data.keys() & do.keys():
        raise ClampError(
            f"site {name!r} is in data and in do: it is either observed or set; keep one of the "
            "two."
        )
    for site in sites.values():
        _check_role(site, given=site.name in data or site.name in do, masked=site.name in masks)


def check_tensor(name: str, value: object) -> None:
    """Refuse what is no tensor of numbers that the engine computes with.

    Raises:
        ClampError: for anything else.
    """
    if not isinstance(value, Tensor):
        raise ClampError(f"site {name!r}: expected a tensor, found {type(value).__name__}.")
    if value.layout != torch.strided:
        raise ClampError(
            f"site {name!r}: expected a dense tensor, found {value.layout}; clamp value.to_dense()."
        )
    if value.is_complex():
        raise ClampError(
            f"site {name!r}: expected real numbers, found {value.dtype}; clamp value.real and "
            "value.imag as sites of their own, or torch.view_as_real(value)."
        )
    if value.is_floating_point() and value.dtype not in PRECISIONS:
        raise ClampError(
            f"site {name!r}: expected torch.float32 or torch.float64, found {value.dtype}; clamp "
            "value.float()."
        )


def needs_double(given: Mapping[str, Tensor]) -> bool:
    """Tell whether data have digits that float32 lacks: float64, or integers beyond 2**24."""
    return any(
        value.dtype == torch.float64
        or (value.dtype in LONG_INTEGERS and bool((value.abs() > EXACT_IN_FLOAT32).any()))
        for value in given.values()
    )


def _check_role(site: Site, *, given: bool, masked: bool) -> None:
    """Refuse a site that is given, masked or left out although its kind does not allow it."""
    name = site.name
    if site.kind == "input" and not given:
        raise ClampError(
            f"input {name!r} was not given: clamp it, for example init({{{name!r}: values, ...}})."
        )
    if site.kind == "deterministic" and given:
        raise ClampError(
            f"deterministic site {name!r} cannot be clamped: clamp a stochastic site instead."
        )
    if masked and not given:
        raise ClampError(
            f"site {name!r}: a mask needs data; clamp {name!r} too, or leave its mask out."
        )
    if masked and site.kind != "stochastic":
        raise ClampError(
            f"{site.kind} site {name!r} cannot be masked: only random sites can be partly observed."
        )


def sizes(
    sites: Mapping[str, Site],
    given: Mapping[str, Tensor],
    batch_size: int | None,
    length: int | None,
) -> tuple[int, int]:
    """Find B and T in the data, or as told.

    Raises:
        ClampError: for data with too few axes, sizes that differ, or no number of slices.
    """
    _check_axes(sites, given)
    batches: set[int] = set() if batch_size is None else {batch_size}
    lengths: set[int] = set() if length is None else {length}
    batches |= {v.shape[0] for n, v in given.items() if sites[n].scope != "global"}
    lengths |= {v.shape[1] for n, v in given.items() if sites[n].period == 1}
    timed = any(s.period is not None for s in sites.values())
    _check_sizes(batches, lengths, timed)
    _check_any(given, batches, lengths)
    return int(next(iter(batches), 1) or 1), int(next(iter(lengths), 0) or 0)


def _check_sizes(batches: set[int], lengths: set[int], timed: bool) -> None:
    """Refuse data that differ in size, and a series whose number of slices nothing tells."""
    if len(batches) > 1:
        raise ClampError(
            f"data differ in their number of data (first axis): {sorted(batches)}; expected one B."
        )
    if len(lengths) > 1:
        raise ClampError(
            f"data differ in their number of slices (second axis): {sorted(lengths)}; pad the "
            "shorter ones and pass masks=."
        )
    if timed and not lengths:
        raise ClampError(
            "the model has sites with time, but no data with time were clamped: pass length=."
        )


def _check_any(given: Mapping[str, Tensor], batches: set[int], lengths: set[int]) -> None:
    """Refuse data of which there are none: B = 0, or T = 0."""
    for what, found in (("data points", batches), ("slices", lengths)):
        if 0 in found:
            names = ", ".join(repr(name) for name in given)
            raise ClampError(
                f"data of {names} hold no {what}; leave them out to draw from the prior, with "
                f"{'batch_size' if found is batches else 'length'}= for the number of {what}."
            )


def _check_axes(sites: Mapping[str, Site], given: Mapping[str, Tensor]) -> None:
    """Refuse data that lack the axes of their scope."""
    for name, value in given.items():
        site = sites[name]
        axes = ("B",) * (site.scope != "global") + ("T",) * (site.period is not None)
        if value.ndim < len(axes):
            raise ClampError(
                f"site {name!r}: expected data of shape ({', '.join(axes)}) + event, "
                f"found {tuple(value.shape)}."
            )


def add_particle_axis(site: Site, value: Tensor, batch: int, time: int) -> Tensor:
    """Give data `(B, [T,] *event)` an axis for particles, `(1, B, [T,] *event)`.

    Data of a global site, `(*event)`, become `(1, 1, *event)`.
    """
    if site.scope == "global":
        return value[None, None]
    expected = (batch,) if site.period is None else (batch, num_slices(site, time))
    if tuple(value.shape[: len(expected)]) != expected:
        raise ClampError(
            f"site {site.name!r}: expected data of shape {expected} + event, "
            f"found {tuple(value.shape)}."
        )
    return value[None]


def mask_with_particle_axis(site: Site, mask: Tensor, value: Tensor) -> Tensor:
    """Give a mask an axis for particles; `value` are the site's data with theirs."""
    if mask.dtype != torch.bool:
        raise ClampError(
            f"mask of site {site.name!r}: expected bool (True where observed), found {mask.dtype}."
        )
    first = 2 if site.scope == "global" else 1
    found = mask[(None,) * first]
    batch_shape = tuple(value.shape[first : site.batch_ndim])
    if found.ndim < site.batch_ndim or found.shape != value.shape[: found.ndim]:
        raise ClampError(
            f"mask of site {site.name!r}: expected one flag per value, {batch_shape}, or per "
            f"element of its event, found {tuple(mask.shape)}."
        )
    return found


def by_element(site: Site, mask: Tensor) -> bool:
    """Tell whether a mask tells elements of an event apart."""
    return mask.ndim > site.batch_ndim


def impute_placeholder(value: Tensor, observed: Tensor) -> Tensor:
    """Replace what is not observed by an observed value, so that every density can be evaluated."""
    flags = expand_trailing(observed, value).expand_as(value)
    flat = value.flatten(0, observed.ndim - 1)
    first = flat[observed.flatten().int().argmax()]
    return torch.where(flags, value, first.expand_as(value))


def device_of(values: Mapping[str, object]) -> torch.device:
    """Find where values lie: the device of the first tensor, or the CPU."""
    tensors = (value for value in values.values() if isinstance(value, Tensor))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


# -- values ----------------------------------------------------------------------------------------


def check_values(
    factor_graph: FactorGraph,
    given: Mapping[str, Tensor],
    observed: Mapping[str, Tensor],
    others: Mapping[str, Tensor] | None = None,
    *,
    do: Collection[str] = (),
) -> dict[str, Tensor]:
    """Check that data are possible events; give integers the type that the kernel draws.

    Args:
        factor_graph: the model.
        given: site -> data `(1, B or 1, [T,] *event)`.
        observed: masks; what is not observed is not checked.
        others: draws of all other sites; without them only data that depend on data alone are
            checked.
        do: sites that are set: they may take any value.

    Returns:
        `given`, integers and booleans cast where the kernel draws reals, and the other way round.

    Raises:
        ClampError: for events of another shape than the kernel's, or values outside its support.
    """
    values = {**(others or {}), **given}
    found = dict(given)
    certain = given.keys() - observed.keys()
    with DrawsFrom(0):  # only the type of a draw is of interest
        for factor in factor_graph.factors:
            name = factor.site.name
            if name not in given or not _covers(factor, given[name]):
                continue
            known = all(a.site in certain for a in factor.inputs if a.site != name)
            if known == (others is None):
                mask = _nowhere(factor.site, given[name]) if name in do else observed.get(name)
                with named_failure(f"site {name!r}: its kernel cannot tell what data are possible"):
                    found[name] = _checked(factor_graph, factor, values, found[name], mask)
    return found


def _covers(factor: Factor, value: Tensor) -> bool:
    start, stop = (0, 1) if factor.site.period is None else factor.slices(value.shape[2])
    return stop > start


def _nowhere(site: Site, value: Tensor) -> Tensor:
    return torch.zeros(value.shape[: site.batch_ndim], dtype=torch.bool, device=value.device)


def _checked(
    factor_graph: FactorGraph,
    factor: Factor,
    values: Mapping[str, Tensor],
    given: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """Check a site's data on one factor's slices, where they are observed; cast all of them."""
    site = factor.site
    slices = (0, 0) if site.period is None else factor.slices(given.shape[2])
    law = _law(factor_graph, factor, values, slices, 1)
    _check_event(factor, law, given)
    part = given
    flags = mask
    if site.period is not None:
        part = given[:, :, slice(*slices)]
        flags = None if mask is None else mask[:, :, slice(*slices)]
    outside = _outside(law, part, flags)
    remedy = "change the value or the kernel, or mark it as missing with masks="
    if bool(outside.any()) and has_bounds(support_of(law)):
        # bounds that depend on parents: the value may be possible for some particles
        outside = _outside(_law(factor_graph, factor, values, slices, None), part, flags)
        remedy += (
            "; where it depends on a latent, raise num_particles, so that some draw from the prior "
            "allows the value"
        )
    _check_possible(site, law, part, outside.all(0), remedy)
    return _cast(law, given)


def _check_event(factor: Factor, law: Distribution, given: Tensor) -> None:
    """Refuse data whose events have another shape than the kernel's."""
    site = factor.site
    elements = law.batch_shape
    if factor.args and len(elements) >= site.batch_ndim:
        elements = elements[site.batch_ndim :]
    event = (*elements, *law.event_shape)
    found = tuple(given.shape[site.batch_ndim :])
    if found != event:
        raise ClampError(
            f"site {site.name!r}: its kernel draws events of shape {event}, found data with events "
            f"of shape {found} after {'(B, T)' if site.period else '(B,)'}."
        )


def _check_possible(
    site: Site, law: Distribution, value: Tensor, impossible: Tensor, remedy: str
) -> None:
    """Refuse values outside a kernel's support, with an example."""
    if not bool(impossible.any()):
        return
    event = value.shape[1 + impossible.ndim :]
    example = value[0].expand(*impossible.shape, *event)[impossible][0]
    raise ClampError(
        f"site {site.name!r}: found {example.tolist()}, which lies outside its kernel's support, "
        f"{' '.join(str(support_of(law)).split())}; {remedy}."
    )


def _law(
    factor_graph: FactorGraph,
    factor: Factor,
    values: Mapping[str, Tensor],
    slices: tuple[int, int],
    particles: int | None,
) -> Distribution:
    """Make a factor's distribution at the first particles; at all of them for None."""
    sites = factor_graph.model.sites
    own = Argument(factor.site.name)
    inputs = {
        a: align(values[a.site][:particles], sites[a.site], a, factor.site, *slices)
        for a in factor.inputs
        if a != own
    }
    return factor.distribution(inputs)


def _outside(law: Distribution, value: Tensor, observed: Tensor | None) -> Tensor:
    """True where observed values are impossible, `(K or 1, B or 1, [T,] ...)`."""
    possible = inside(law, value if value.dtype != torch.bool else value.int())
    if possible is None:
        return torch.zeros(1, dtype=torch.bool, device=value.device)
    if observed is None:
        return ~possible
    return ~possible & expand_trailing(observed, possible)


def _cast(law: Distribution, value: Tensor) -> Tensor:
    """Cast data to the kind of number, real or integer, that the kernel draws."""
    support = support_of(law)
    if value.is_floating_point() and (support is None or not support.is_discrete):
        return value
    try:
        drawn = law.sample().dtype
    except NotImplementedError:
        return value
    if drawn.is_floating_point == value.is_floating_point():
        return value
    is_long = drawn.is_floating_point and needs_double({"": value})
    return value.double() if is_long else value.to(drawn)
