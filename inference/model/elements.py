"""Elements of a site that have names of their own: the statements of a loop that is one site.

Such a name is a deterministic site whose function is `Pick`. Wherever a site's name is taken, an
element's name is taken too: what is given under it is put into its site, what is read under it is
the element's slice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ClampError
from aif_dcpc.inference.model.clamping import check_tensor
from aif_dcpc.inference.model.graph import Site, parent_name

Sites = Mapping[str, Site]
Given = Mapping[str, Tensor]


@dataclass(frozen=True)
class Pick:
    """Read one element of a site without time."""

    index: int

    def __call__(self, whole: Tensor) -> Tensor:
        """`(K, B, *event)` of `(K, B, N, *event)`."""
        return whole.select(2, self.index)


@dataclass(frozen=True)
class Element:
    """Where an element stands: in a site, at an index of its first axis."""

    site: str
    index: int


def element_at(sites: Sites, name: str) -> Element | None:
    """Find the element that a name stands for; None for names of sites, and unknown ones."""
    site = sites.get(name)
    if site is None or not isinstance(site.kernel, Pick):
        return None
    return Element(parent_name(site.parents[0]), site.kernel.index)


def names_of_elements(sites: Sites, site: str) -> list[str]:
    """Name the elements of a site in order; empty where they have no names."""
    places = {name: element_at(sites, name) for name in sites}
    found = {p.index: name for name, p in places.items() if p is not None and p.site == site}
    return [found[index] for index in sorted(found)]


class ByName(dict[str, Tensor]):
    """Tensors by site, whose elements are found under their own names as well.

    Args:
        values: site -> tensor.
        sites: of the model.
        axis: that of the elements: 1 of data `(B, N, *event)`, 2 of particles.
    """

    def __init__(self, values: Given, sites: Sites, axis: int) -> None:
        super().__init__(values)
        self.sites = sites
        self.axis = axis

    def __missing__(self, name: str) -> Tensor:
        """The element of a site.

        Raises:
            KeyError: for names that are neither.
        """
        place = element_at(self.sites, name)
        if place is None or place.site not in self:
            raise KeyError(name)
        return self[place.site].select(self.axis, place.index)


# -- what is given ---------------------------------------------------------------------------------


def gathered(
    sites: Sites, given: Given, masks: Given
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Put what is given of elements, `(B, *event)`, into their sites, `(B, N, *event)`.

    Elements that are not given are masked as missing. An element that is given beside its site
    replaces what the site has there.

    Returns:
        data and masks, by names of sites (a mask of an element without data is left as it is).

    Raises:
        ClampError: for elements whose shapes differ, or do not fit their site.
    """
    whole = dict(given)
    shown = dict(masks)
    for site in _sites_of_elements(sites, {**masks, **given}):
        names = names_of_elements(sites, site)
        if not given.keys() & {site, *names}:
            continue
        rows = _rows(site, names, given)
        flags = _flags(site, names, rows, given, masks)
        whole = {name: value for name, value in whole.items() if name not in names}
        shown = {name: mask for name, mask in shown.items() if name not in names}
        whole[site] = torch.stack(rows, 1)
        if site in masks or not all(bool(flag.all()) for flag in flags):
            shown[site] = _stacked(flags, rows)
    return whole, shown


def _sites_of_elements(sites: Sites, given: Given) -> dict[str, None]:
    """List the sites whose elements are named."""
    found: dict[str, None] = {}
    for name, value in given.items():
        place = element_at(sites, name)
        if place is not None:
            check_tensor(name, value)
            found[place.site] = None
    return found


def _rows(site: str, names: list[str], given: Given) -> list[Tensor]:
    """Values of all elements; zeros where nothing is given."""
    values = {name: given[name] for name in names if name in given}
    if site in given:
        whole = given[site]
        if whole.ndim < 2 or whole.shape[1] != len(names):
            raise ClampError(
                f"site {site!r}: expected data of shape (B, {len(names)}) + event, found "
                f"{tuple(whole.shape)}."
            )
        values = {n: values.get(n, whole[:, i]) for i, n in enumerate(names)}
    first = next(iter(values))
    for name, value in values.items():
        if value.shape != values[first].shape:
            raise ClampError(
                f"site {name!r}: found data of shape {tuple(value.shape)}, and of "
                f"{tuple(values[first].shape)} for {first!r}; both are elements of {site!r} and "
                "need one shape."
            )
    nothing = torch.zeros_like(values[first])
    return [values.get(name, nothing) for name in names]


def _flags(
    site: str, names: list[str], rows: list[Tensor], given: Given, masks: Given
) -> list[Tensor]:
    """Masks of all elements, `(B,)` or as they are given."""
    found = []
    for index, (name, row) in enumerate(zip(names, rows, strict=True)):
        if name in masks:
            if masks[name].dtype != torch.bool:
                raise ClampError(
                    f"mask of site {name!r}: expected bool (True where observed), found "
                    f"{masks[name].dtype}."
                )
            found.append(masks[name])
        elif name not in given and site in masks:
            found.append(masks[site] if masks[site].ndim == 1 else masks[site][:, index])
        else:
            is_given = name in given or site in given
            found.append(row.new_full(row.shape[:1], is_given, dtype=torch.bool))
    return found


def _stacked(flags: list[Tensor], rows: list[Tensor]) -> Tensor:
    """Masks of elements as one, `(B, N)` or as fine as the finest of them."""
    width = max(flag.ndim for flag in flags)
    shape = rows[0].shape[:width]
    return torch.stack(
        [flag.reshape(flag.shape + (1,) * (width - flag.ndim)).expand(shape) for flag in flags], 1
    )


def gathered_whole(sites: Sites, do: Given) -> dict[str, Tensor]:
    """Put what is set of elements into their sites, where only whole sites can be set.

    Raises:
        ClampError: for sites of which some elements are not set.
    """
    whole, partial = gathered(sites, do, {})
    for site in partial:
        name = next(n for n in do if n in names_of_elements(sites, site))
        raise ClampError(
            f"do: {name!r} is element {_index(sites, name)} of site {site!r}, which a running cloud "
            f"or a counterfactual sets as a whole: give all its elements, or set {name!r} from the "
            "start, by init or sample."
        )
    return whole


def _index(sites: Sites, name: str) -> int | None:
    place = element_at(sites, name)
    return None if place is None else place.index


def refilled(sites: Sites, particles: Given, current: Callable[[str], Tensor]) -> dict[str, Tensor]:
    """Put particles of elements, `(K, B, *event)`, into those of their sites; the others stay.

    Raises:
        ClampError: for shapes that do not fit.
    """
    found = {n: v for n, v in particles.items() if element_at(sites, n) is None}
    for name, value in particles.items():
        place = element_at(sites, name)
        if place is None:
            continue
        whole = found.get(place.site, current(place.site)).clone()
        expected = whole.select(2, place.index).shape
        if value.shape != expected:
            raise ClampError(
                f"particles of site {name!r}: expected {tuple(expected)}, "
                f"found {tuple(value.shape)}."
            )
        whole[:, :, place.index] = value
        found[place.site] = whole
    return found
