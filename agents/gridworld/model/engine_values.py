"""The engine's values of the sites of a `GridModel`, as particles and histories, and back."""

from collections.abc import Mapping

from torch import Tensor

from aif_dcpc.agents.gridworld.model.conditionals import GridParticles
from aif_dcpc.agents.gridworld.model.counts import Tables
from aif_dcpc.agents.gridworld.model.paths import History

SiteValues = Mapping[str, Tensor]
TABLES = ("transition", "outcome_table", "token_prior", "misread")


def particles_of(values: SiteValues) -> GridParticles:
    """Particles from the engine's values."""
    events, initial, *tables = (values[name].squeeze(1) for name in ("event", "map", *TABLES))
    return GridParticles(events, initial, Tables(*tables))


def values_of(particles: GridParticles) -> dict[str, Tensor]:
    """The engine's values from particles."""
    tables = vars(particles.tables).values()
    latents = particles.events, particles.initial, *tables
    return {n: v.unsqueeze(1) for n, v in zip(("event", "map", *TABLES), latents, strict=True)}


def history_of(values: SiteValues) -> History:
    """The observed series from the engine's values; a carried thing is one reading."""
    names = ("action", "heading", "carried", "view", "outcome", "faced", "match")
    action, heading, carried, view, outcome, faced, match = (
        values[name].flatten(0, 1).squeeze(0) for name in names
    )
    return History(action, heading, carried[:, 0], view, outcome, faced, match)


def slice_of(history: History) -> dict[str, Tensor]:
    """The last slice, `(B = 1, ...)`."""
    data = data_of(history)
    return {name: value[:, -1] for name, value in data.items() if name != "match"}


def data_of(history: History) -> dict[str, Tensor]:
    """What to clamp, `(B = 1, T, ...)`."""
    series = {
        "action": history.action,
        "heading": history.heading,
        "view": history.view,
        "outcome": history.outcome,
        "faced": history.faced,
        "held": history.held,
    }
    return {
        "carried": history.hand[None, :, None],
        "match": history.match[None],
        **{name: value[None] for name, value in series.items()},
    }
