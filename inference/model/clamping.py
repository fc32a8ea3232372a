"""What is handed over as data: names, shapes, masks and values, checked before anything is inferred from them.

All of this happens once per cloud and may look at values; sweeps never do.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution

from aif_dcpc.inference.errors import ClampError
from aif_dcpc.inference.model.factor_graph import (
    Factor,
    FactorGraph,
    align,
    expand_trailing,
    num_slices,
)
from aif_dcpc.inference.model.graph import Site
from aif_dcpc.inference.model.supports import has_bounds, inside, support_of
from aif_dcpc.misspelt import unknown_name


def check_names(
    factor_graph: FactorGraph,
    data: Mapping[str, object],
    masks: Mapping[str, object],
    do: Mapping[str, object],
) -> None:
    """Refuse unknown sites, sites that cannot be clamped, set or masked, and inputs that are missing."""
    sites = factor_graph.model.sites
    for name in [*data, *masks, *do]:
        if name not in sites:
            raise ClampError(unknown_name("site", name, sites))
    for name, value in [*data.items(), *masks.items(), *do.items()]:
        if not isinstance(value, Tensor):
            raise ClampError(f"site {name!r}: expected a tensor, found {type(value).__name__}.")
    for name in data.keys() & do.keys():
        raise ClampError(
            f"site {name!r} is in data and in do: it is either observed or set; keep one of the two."
        )
    for name, site in sites.items():
        given = name in data or name in do
        if site.kind == "input" and not given:
            raise ClampError(
                f"input {name!r} was not given: clamp it, for example init({{{name!r}: values, ...}})."
            )
        if site.kind == "deterministic" and given:
            raise ClampError(
                f"deterministic site {name!r} cannot be clamped: clamp a stochastic site instead."
            )
        if name in masks and site.kind != "stochastic":
            raise ClampError(
                f"{site.kind} site {name!r} cannot be masked: only random sites can be partly observed."
            )
        if name in masks and not given:
            raise ClampError(
                f"site {name!r}: a mask needs data; clamp {name!r} too, or leave its mask out."
            )


def sizes(
    sites: Mapping[str, Site],
    given: Mapping[str, Tensor],
    batch_size: int | None,
    length: int | None,
) -> tuple[int, int]:
    """B and T, from the data or as told."""
    for name, value in given.items():
        lead = ("B",) * (sites[name].scope != "global") + ("T",) * (sites[name].period is not None)
        if value.ndim < len(lead):
            axes = ", ".join(lead)
            raise ClampError(
                f"site {name!r}: expected data of shape ({axes}) + event, found {tuple(value.shape)}."
            )
    batches = {v.shape[0] for n, v in given.items() if sites[n].scope != "global"} | (
        {batch_size} if batch_size is not None else set()
    )
    lengths = {v.shape[1] for n, v in given.items() if sites[n].period == 1} | (
        {length} if length is not None else set()
    )
    if len(batches) > 1:
        raise ClampError(
            f"data differ in their number of data (first axis): {sorted(batches)}; expected one B."
        )
    if len(lengths) > 1:
        raise ClampError(
            f"data differ in their number of slices (second axis): {sorted(lengths)}; pad the shorter ones "
            "and pass masks=."
        )
    timed = any(s.period is not None for s in sites.values())
    if timed and not lengths:
        raise ClampError(
            "the model has sites with time, but no data with time were clamped: pass length=."
        )
    return int(next(iter(batches), 1) or 1), int(next(iter(lengths), 0) or 0)


def lead_axes(site: Site, value: Tensor, batch: int, time: int) -> Tensor:
    """Data `(B, [T,] *event)` with an axis for particles, `(1, B, [T,] *event)` (global sites `(1, 1, *event)`)."""
    if site.scope == "global":
        return value[None, None]
    expected = (batch,) if site.period is None else (batch, num_slices(site, time))
    if tuple(value.shape[: len(expected)]) != expected:
        raise ClampError(
            f"site {site.name!r}: expected data of shape {expected} + event, found {tuple(value.shape)}."
        )
    return value[None]


def mask_axes(site: Site, mask: Tensor, value: Tensor) -> Tensor:
    """A mask with an axis for particles; `value` are the site's data with theirs."""
    if mask.dtype != torch.bool:
        raise ClampError(
            f"mask of site {site.name!r}: expected bool (True where observed), found {mask.dtype}."
        )
    found = mask[None, None] if site.scope == "global" else mask[None]
    lead = tuple(value.shape[1 if site.scope != "global" else 2 : site.batch_ndim])
    if found.ndim < site.batch_ndim or found.shape != value.shape[: found.ndim]:
        raise ClampError(
            f"mask of site {site.name!r}: expected one flag per value, {lead}, or per element of its event, "
            f"found {tuple(mask.shape)}."
        )
    return found


def by_element(site: Site, mask: Tensor) -> bool:
    """Whether a mask tells elements of an event apart."""
    return mask.ndim > site.batch_ndim


def impute_placeholder(value: Tensor, shown: Tensor) -> Tensor:
    """Replace what is not observed by an observed value, so that every density can be evaluated."""
    flags = expand_trailing(shown, value).expand_as(value)
    flat = value.flatten(0, shown.ndim - 1)
    first = flat[shown.flatten().int().argmax()]
    return torch.where(flags, value, first.expand_as(value))


def device_of(values: Mapping[str, object]) -> torch.device:
    """Find where values lie: the device of the first tensor, or the CPU."""
    tensors = (value for value in values.values() if isinstance(value, Tensor))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


# -- values ----------------------------------------------------------------------------------------


def check_values(
    factor_graph: FactorGraph,
    given: Mapping[str, Tensor],
    shown: Mapping[str, Tensor],
    others: Mapping[str, Tensor] | None = None,
    *,
    do: Collection[str] = (),
) -> dict[str, Tensor]:
    """Check the shapes of events and that data are possible; give integers the type that the kernel draws.

    Args:
        factor_graph: the model.
        given: site -> data `(1, B or 1, [T,] *event)`.
        shown: masks; what is not shown is not checked.
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
    with torch.random.fork_rng(devices=[]):
        for factor in factor_graph.factors:
            name = factor.site.name
            if name not in given or not _covers(factor, given[name]):
                continue
            known = all(
                argument.site in given and argument.site not in shown
                for argument in factor.inputs
                if argument.site != name
            )
            if known == (others is None):
                mask = _nowhere(factor.site, given[name]) if name in do else shown.get(name)
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
    """One site's data, checked on the slices of one factor where they are shown, all of them cast."""
    site, lead = factor.site, factor.site.batch_ndim
    start, stop = (0, 0) if site.period is None else factor.slices(given.shape[2])
    law = _law(factor_graph, factor, values, start, stop, 1)
    batch = (
        law.batch_shape[lead:] if factor.args and len(law.batch_shape) >= lead else law.batch_shape
    )
    event = (*batch, *law.event_shape)
    if tuple(given.shape[lead:]) != event:
        raise ClampError(
            f"site {site.name!r}: its kernel draws events of shape {event}, found data with events of shape "
            f"{tuple(given.shape[lead:])} after {'(B, T)' if site.period else '(B,)'}."
        )
    part, flags = given, mask
    if site.period is not None:
        part, flags = given[:, :, start:stop], None if mask is None else mask[:, :, start:stop]
    outside = _outside(law, part, flags)
    if bool(outside.any()) and has_bounds(
        support_of(law)
    ):  # bounds that depend on parents: possible for some of them?
        outside = _outside(_law(factor_graph, factor, values, start, stop, None), part, flags)
    impossible = outside.all(0)
    if bool(impossible.any()):
        example = part[0].expand(*impossible.shape, *part.shape[1 + impossible.ndim :])[impossible][
            0
        ]
        raise ClampError(
            f"site {site.name!r}: found {example.tolist()}, which lies outside its kernel's support, {support_of(law)}; "
            "change the value or the kernel, or mark it as missing with masks=."
        )
    return _cast(law, given)


def _law(
    factor_graph: FactorGraph,
    factor: Factor,
    values: Mapping[str, Tensor],
    start: int,
    stop: int,
    particles: int | None,
) -> Distribution:
    """A factor's distribution at the first particles, all by default."""
    sites = factor_graph.model.sites
    leaves = {
        argument for argument in factor.inputs if argument.site != factor.site.name or argument.lag
    }
    return factor.distribution(
        {
            x: align(values[x.site][:particles], sites[x.site], x, factor.site, start, stop)
            for x in leaves
        }
    )


def _outside(law: Distribution, value: Tensor, shown: Tensor | None) -> Tensor:
    """True where shown values are impossible, `(K or 1, B or 1, [T,] ...)`."""
    possible = inside(law, value if value.dtype != torch.bool else value.int())
    if possible is None:
        return torch.zeros(1, dtype=torch.bool, device=value.device)
    return ~possible if shown is None else ~possible & expand_trailing(shown, possible)


def _cast(law: Distribution, value: Tensor) -> Tensor:
    """The data in the kind of number, real or integer, that the kernel draws."""
    support = support_of(law)
    if value.is_floating_point() and (support is None or not support.is_discrete):
        return value
    try:
        drawn = law.sample().dtype
    except NotImplementedError:
        return value
    return value if drawn.is_floating_point == value.is_floating_point() else value.to(drawn)
