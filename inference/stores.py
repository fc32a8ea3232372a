"""Particles of each data point, memory-mapped: more than fits in memory, kept between batches.

A data point's particles lie together in the file; they are held in unconstrained coordinates, as
`State.values` is.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from aif_dcpc.inference.errors import ClampError
from aif_dcpc.inference.model.factor_graph import expand_trailing
from aif_dcpc.inference.model.state import State


class ParticleStore:
    """Particles of N data, `(N, K, *event)` for each latent site.

    Args:
        shapes: latent site -> `(K, *event)`.
        num_data: N.
        folder: where the files lie; None keeps the particles in memory.
        dtypes: latent site -> type of its numbers; the default type where none is given.

    Raises:
        OSError: there is no room for the files.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        num_data: int,
        *,
        folder: Path | None = None,
        dtypes: Mapping[str, torch.dtype] | None = None,
    ) -> None:
        self.num_data = num_data
        self.folder = folder
        kinds = {name: torch.get_default_dtype() for name in shapes} | dict(dtypes or {})
        self.values = {
            name: _empty((num_data, *shape), name, folder, kinds[name])
            for name, shape in shapes.items()
        }

    @classmethod
    def like(cls, state: State, num_data: int, *, folder: Path | None = None) -> "ParticleStore":
        """Make an empty store for clouds such as `state`.

        Raises:
            ClampError: a latent site is global: a data point has no particles of it.
        """
        for name in state.conditioning.latent:
            if state.conditioning.site(name).scope == "global":
                raise ClampError(
                    f"site {name!r} is global: a store keeps particles of each datum; sweep it whole."
                )
        latents = {name: state.values[name] for name in state.conditioning.latent}
        shapes = {n: (state.num_particles, *value.shape[2:]) for n, value in latents.items()}
        dtypes = {n: value.dtype for n, value in latents.items()}
        return cls(shapes, num_data, folder=folder, dtypes=dtypes)

    @classmethod
    def holding(cls, values: Mapping[str, Tensor]) -> "ParticleStore":
        """Make a store in memory that holds what `state_dict` gave, to be read by index.

        Raises:
            ClampError: there are no particles.
        """
        if not values:
            raise ClampError("a particle store needs the particles of at least one site.")
        store = cls({}, len(next(iter(values.values()))))
        store.values = dict(values)
        return store

    def read(self, indices: Tensor) -> dict[str, Tensor]:
        """Read the particles of some data, `(K, B, *event)` by site.

        Raises:
            ClampError: no indices, or such that the store has no data for.
        """
        where = self._within(indices)
        return {
            name: torch.as_tensor(value[where]).transpose(0, 1).contiguous()
            for name, value in self.values.items()
        }

    def write(self, indices: Tensor, values: Mapping[str, Tensor]) -> None:
        """Put particles `(K, B, *event)` back; sites that the store does not keep are ignored.

        Raises:
            ClampError: as `read`.
        """
        where = self._within(indices)
        for name, kept in self.values.items():
            kept[where] = values[name].detach().transpose(0, 1).to(kept.device, kept.dtype)

    def _within(self, indices: Tensor) -> Tensor:
        """Return indices on the CPU, all of them from 0 to N - 1."""
        where = indices.cpu()
        if where.ndim != 1 or where.is_floating_point() or where.dtype == torch.bool:
            raise ClampError(
                f"indices: expected whole numbers (B,), found {where.dtype} {tuple(where.shape)}."
            )
        if not where.numel():
            raise ClampError("indices: expected at least one data point, found none.")
        low, high = int(where.min()), int(where.max())
        if low < 0 or high >= self.num_data:
            raise ClampError(
                f"indices: expected numbers from 0 to {self.num_data - 1}, found {low} to {high}."
            )
        return where

    def state_dict(self) -> dict[str, Tensor]:
        """Return all particles, for a checkpoint (not copied)."""
        return {name: torch.as_tensor(value) for name, value in self.values.items()}

    def load_state_dict(self, values: Mapping[str, Tensor]) -> None:
        """Go back to what `state_dict` gave.

        Raises:
            ClampError: sites or shapes differ.
        """
        for name, kept in self.values.items():
            found = tuple(values[name].shape) if name in values else None
            if found != tuple(kept.shape):
                raise ClampError(
                    f"stored particles of site {name!r}: expected {tuple(kept.shape)}, found {found}."
                )
            kept.copy_(values[name])


def _empty(shape: tuple[int, ...], name: str, folder: Path | None, kind: torch.dtype) -> Tensor:
    if folder is None:
        return torch.zeros(shape, dtype=kind)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.particles"
    with path.open("wb") as file:
        _claim(file.fileno(), math.prod(shape) * kind.itemsize)
    return torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=kind).view(shape)


def _claim(descriptor: int, size: int) -> None:
    """Claim the room at once: a full disk is an error here and no crash at a later write."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS
        os.ftruncate(descriptor, size)


def with_batch(
    state: State,
    data: Mapping[str, Tensor],
    particles: Mapping[str, Tensor],
    masks: Mapping[str, Tensor] | None = None,
) -> State:
    """Put other data and their particles into a cloud whose sites keep their roles.

    Args:
        state: gives the roles.
        data: observed site -> `(B, *event)`, in its own support.
        particles: latent site -> `(K, B, *event)`, unconstrained; they are brought to the state's
            device. A site that has data too keeps those where its mask says that it is seen.
        masks: observed site -> `(B,)` True where it is seen; elsewhere its value only has to be
            possible.

    Raises:
        ClampError: a site is missing.
    """
    missing = set(state.values) - set(data) - set(particles)
    if missing:
        raise ClampError(
            f"with_batch: no values for {', '.join(sorted(missing))}; give data or particles for "
            "every site."
        )
    batch = next(iter(particles.values())).shape[1]
    weights = state.log_weights.new_zeros(state.num_particles, batch)
    ancestors = torch.arange(state.num_particles, device=weights.device)[:, None].expand_as(weights)
    shown = {name: mask[None] for name, mask in (masks or {}).items()}
    values = {n: v[None] for n, v in data.items()}
    twice = shown.keys() & data.keys() & particles.keys()
    seen = state.conditioning.unconstrain({n: values[n] for n in twice})
    values |= {n: v.to(weights.device) for n, v in particles.items()}
    for name, value in seen.items():
        held = values[name]
        values[name] = torch.where(expand_trailing(shown[name], held), value.to(held), held)
    return state.replace(
        values=values,
        masks=shown,
        log_weights=weights,
        ancestors=ancestors,
        cache={},
        log_evidence=weights.new_zeros(batch),
    )
