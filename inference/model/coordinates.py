"""All continuous latents as one vector, in declared and in standardised coordinates.

A *block* lays every continuous latent of a chain side by side: `(K, G, D)`, where a chain is one
particle of one data point (G = B), or, with global latents, one particle of all data at once
(G = 1). A *chart* says what the vector means:

- "declared": the unconstrained values themselves;
- "standardised": each location-scale site as w = (value - location) / scale of its kernel, given its
  parents. A path through time is standardised as a whole: its location is where it starts, its scale
  that of one transition, so that a variance and its whole path move apart.

Observed elements of a latent have coordinates as well, so that all chains have as many; these stand
for nothing, follow a standard normal law of their own, and are the same in both charts.

The two are the centred and the non-centred parametrisation of every hierarchy; moving in both in turn
mixes well where either does (Yu and Meng 2011, interweaving).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from aif_dcpc.inference.model.densities import factor_slices
from aif_dcpc.inference.model.factor_graph import Argument, Factor, align
from aif_dcpc.inference.model.location_scale import LocationScale, location_scale
from aif_dcpc.inference.model.state import State

Values = dict[str, Tensor]

SHIFT = 0.5  # of an unconstrained value, to see what depends on it


@dataclass(frozen=True)
class Block:
    """Where each continuous latent lies in the vector of a chain.

    Attributes:
        state: a cloud of the shapes and roles that hold; its values are not used.
        names: the block's sites, parents first.
    """

    state: State
    names: tuple[str, ...]

    @classmethod
    def of(cls, state: State, names: tuple[str, ...] | None = None) -> "Block":
        """The block of some sites; of all continuous latents by default."""
        latent = state.conditioning.latent
        found = [n for n in latent if n not in state.conditioning.discrete]
        return cls(state, tuple(n for n in found if names is None or n in names))

    @cached_property
    def is_coupled(self) -> bool:
        """Whether data share a latent, so that all of them make one chain."""
        return any(self.state.conditioning.site(n).scope == "global" for n in self.names)

    @cached_property
    def num_chains(self) -> int:
        """G, chains per particle."""
        return 1 if self.is_coupled else self.state.batch_size

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each site without the particle axis, `(B or 1, [T,] *event)`."""
        return {n: tuple(self.state.values[n].shape[1:]) for n in self.names}

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers of a chain each site takes."""
        return tuple(torch.Size(self.shapes[n]).numel() // self.num_chains for n in self.names)

    @property
    def dimension(self) -> int:
        """D, numbers per chain."""
        return sum(self.sizes)

    @cached_property
    def outside(self) -> tuple[str, ...]:
        """Latents that the block does not hold, parents first."""
        return tuple(n for n in self.state.conditioning.latent if n not in self.names)

    def others(self) -> tuple[Tensor, ...]:
        """Values of the latents outside the block, in the order of `outside`."""
        return tuple(self.state.values[n] for n in self.outside)

    def flatten(self, values: Mapping[str, Tensor]) -> Tensor:
        """Values of the sites `(K, B or 1, [T,] *event)` as `(K, G, D)`."""
        parts = [values[n].reshape(values[n].shape[0], self.num_chains, -1) for n in self.names]
        return torch.cat(parts, -1)

    def unflatten(self, flat: Tensor) -> Values:
        """Values of a vector: inverse of `flatten`, but for elements that are observed."""
        free = self.free()
        if free is not None:
            flat = torch.where(free, flat, self.flatten(self.state.values)[:1])
        parts = flat.split(self.sizes, -1)
        return {
            n: part.reshape(flat.shape[0], *self.shapes[n])
            for n, part in zip(self.names, parts, strict=True)
        }

    def free(self) -> Tensor | None:
        """True where a coordinate stands for something, `(G, D)`; None where all do."""
        masks = self.state.masks
        if not any(n in masks for n in self.names):
            return None
        parts = {}
        for name in self.names:
            device = self.state.values[name].device
            given = torch.zeros((1, *self.shapes[name]), dtype=torch.bool, device=device)
            mask = masks.get(name)
            if mask is not None:
                given = given | mask.reshape(mask.shape + (1,) * (given.ndim - mask.ndim))
            parts[name] = ~given
        return self.flatten(parts)[0]

    # -- charts ------------------------------------------------------------------------------------

    def to_declared(self, standardised: Tensor) -> tuple[Tensor, Tensor]:
        """Declared coordinates of standardised ones, and log |det| of the map, `(K, G)`."""
        whole = self.unflatten(standardised)
        found: Values = {}
        log_det = standardised.new_zeros(standardised.shape[:2])
        for name in self.names:
            place = self._place({**whole, **found}, name)
            if place is None:
                found[name] = whole[name]
                continue
            found[name] = _forward(place, whole[name])
            log_det = log_det + self._log_det(place, whole[name])
        return self._with_idle(self.flatten(found), standardised), log_det

    def to_standardised(self, declared: Tensor) -> Tensor:
        """Bring declared coordinates back to standardised ones."""
        values = self.unflatten(declared)
        found = {}
        for name in self.names:
            place = self._place(values, name)
            found[name] = values[name] if place is None else _backward(place, values[name])
        return self._with_idle(self.flatten(found), declared)

    def _with_idle(self, flat: Tensor, before: Tensor) -> Tensor:
        """A vector in a new chart, its coordinates of observed elements as they were before."""
        free = self.free()
        return flat if free is None else torch.where(free, flat, before)

    def idle_log_prob(self, flat: Tensor) -> Tensor:
        """Log density of the coordinates of observed elements, `(K, G)` nats."""
        free = self.free()
        if free is None:
            return flat.new_zeros(flat.shape[:2])
        squares = torch.where(free, torch.zeros_like(flat), flat.square() + math.log(2 * math.pi))
        return -0.5 * squares.sum(-1)

    @cached_property
    def has_two_charts(self) -> bool:
        """Whether some site's location or scale depends on the block, so that the charts differ."""
        return any(self._depends_on_block(name) for name in self.names)

    def scales(self, site: str, child: str) -> bool:
        """Whether the scale of `child`, where it has one, differs with the value of `site` (reads numbers)."""
        read = {argument.site for f in self._factors(child) for argument in f.inputs}
        now = self._place(self.state.values, child) if site in read else None
        if now is None:
            return False
        there = {**self.state.values, site: self.state.values[site] + SHIFT}
        moved = self._place(there, child)
        return moved is not None and not torch.equal(now.scale, moved.scale)

    def _depends_on_block(self, name: str) -> bool:
        if name in self.state.masks:
            return False
        factors = self._factors(name)
        read = {argument.site for f in factors for argument in f.inputs} - {name}
        if not read & set(self.names):
            return False
        return self._place(self.state.values, name) is not None

    def _factors(self, name: str) -> tuple[Factor, ...]:
        conditioning = self.state.conditioning
        own = (f for f in conditioning.factor_graph.factors if f.site.name == name)
        return tuple(f for f in own if conditioning.is_active(f, self.state.length))

    def _place(self, values: Mapping[str, Tensor], name: str) -> LocationScale | None:
        """Location and scale of a site given its parents, laid along the whole site."""
        factors = self._factors(name)
        if name in self.state.masks or not factors or self._reads_later(factors):
            return None
        current = {**self.state.values, **values}
        first = location_scale(self._law(factors[0], current))
        if first is None:
            return None
        if len(factors) == 1 and not _reads_itself(factors[0]):
            return first
        return self._place_of_path(factors, current, first)

    def _reads_later(self, factors: tuple[Factor, ...]) -> bool:
        """Whether a site reads, slices back, one that comes after it, so that neither is placed first."""
        later = self.names[self.names.index(factors[0].site.name) + 1 :]
        return any(argument.site in later for f in factors for argument in f.inputs)

    def _place_of_path(
        self, factors: tuple[Factor, ...], values: Values, first: LocationScale
    ) -> LocationScale | None:
        """A path as a whole: from where it starts, in units of one transition."""
        if len(factors) != 2 or first.is_matrix:
            return None
        name = factors[0].site.name
        start = first.location
        like = values[name]
        still = {**values, name: _first_slice(start, like).expand_as(like)}
        law = location_scale(self._law(factors[1], still))
        if law is None or law.is_matrix:
            return None
        return LocationScale(_first_slice(start, like), _first_slice(law.scale, like))

    def _law(
        self, factor: Factor, values: Mapping[str, Tensor]
    ) -> torch.distributions.Distribution:
        natural = {}
        for argument in factor.inputs:
            natural[argument] = self._aligned(factor, argument, values)
        return factor.distribution(natural)

    def _aligned(self, factor: Factor, argument: Argument, values: Mapping[str, Tensor]) -> Tensor:
        value = values[argument.site]
        bijection = self.state.conditioning.bijections.get(argument.site)
        natural = value if bijection is None else bijection(value)
        start, stop = factor_slices(self.state, factor)
        site = self.state.conditioning.site(argument.site)
        return align(natural, site, argument, factor.site, start, stop)

    def _log_det(self, place: LocationScale, value: Tensor) -> Tensor:
        if place.is_matrix:
            logs = place.scale.diagonal(dim1=-2, dim2=-1).log().expand_as(value)
        else:
            logs = place.scale.log().expand_as(value)
        return logs.reshape(value.shape[0], self.num_chains, -1).sum(-1)


def _reads_itself(factor: Factor) -> bool:
    return any(argument.site == factor.site.name and argument.lag for argument in factor.inputs)


def _first_slice(value: Tensor, like: Tensor) -> Tensor:
    """One slice `(K, B, 1, *event)` of a quantity of a path."""
    return value if value.ndim < like.ndim else value[:, :, :1]


def _forward(place: LocationScale, w: Tensor) -> Tensor:
    if place.is_matrix:
        return place.location + (place.scale @ w.unsqueeze(-1)).squeeze(-1)
    return place.location + place.scale * w


def _backward(place: LocationScale, u: Tensor) -> Tensor:
    if place.is_matrix:
        apart = (u - place.location).unsqueeze(-1)
        return torch.linalg.solve_triangular(place.scale, apart, upper=False).squeeze(-1)
    return (u - place.location) / place.scale
