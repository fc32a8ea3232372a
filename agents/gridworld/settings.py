"""The settings of the hierarchical agent, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.gridworld.model.counts import TablePrior
from aif_dcpc.agents.gridworld.planning.abstract_states import SearchBudget
from aif_dcpc.agents.gridworld.requirements import check_ranges
from aif_dcpc.agents.preferences import Preferences
from aif_dcpc.misspelt import unknown_name


@dataclass(frozen=True, kw_only=True)
class InferenceSettings:
    """How the posterior is followed: K particles, and sweeps over the history at every step."""

    num_particles: int = 16
    num_sweeps: int = 1
    update: str = "exact"


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """Stored episodes: how many, and how many of them are inferred afresh after each episode."""

    capacity: int = 200
    refreshed: int = 1
    sweeps: int = 2


@dataclass(frozen=True, kw_only=True)
class HierarchicalSettings:
    """Everything that can be set.

    Attributes:
        knowledge: prior knowledge given to the agent; "egocentric_view" is told in full by
            `knowledge_of`, printed when a run begins, and logged.
        map_size: cells along a side of the agent's own map to begin with; it grows as needed.
        precision: inverse temperature of sampled actions, per nat of expected free energy.
        preferences, prior, search, replay, inference: see their classes.
    """

    knowledge: str = "egocentric_view"
    map_size: int = 24
    precision: float = 16.0
    preferences: Preferences = field(default_factory=Preferences)
    prior: TablePrior = field(default_factory=TablePrior)
    search: SearchBudget = field(default_factory=SearchBudget)
    replay: ReplaySettings = field(default_factory=ReplaySettings)
    inference: InferenceSettings = field(default_factory=InferenceSettings)


GROUPS: Mapping[str, type] = {
    "preferences": Preferences,
    "prior": TablePrior,
    "search": SearchBudget,
    "replay": ReplaySettings,
    "inference": InferenceSettings,
}


def hierarchical_settings(values: Mapping[str, Any]) -> HierarchicalSettings:
    """Build settings from plain values.

    Raises:
        AgentError: for an unknown key, a value of the wrong type, or one out of range.
    """
    plain = {
        key: _build(GROUPS[key], value, f"{key}.") if key in GROUPS else value
        for key, value in values.items()
    }
    settings: HierarchicalSettings = _build(HierarchicalSettings, plain, "")
    check_ranges(values)
    return settings


def _build(kind: type, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise AgentError(f"agent setting {where[:-1]!r} must be a group of keys, not {values!r}.")
    known = {f.name: f for f in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise AgentError(
                unknown_name("agent setting", f"{where}{key}", (f"{where}{name}" for name in known))
            )
        _check_type(f"{where}{key}", value, known[key].type)
    return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})


def _check_type(path: str, value: Any, kind: Any) -> None:
    fits = {
        int: type(value) is int,
        float: type(value) in (int, float),
        str: isinstance(value, str),
    }
    if not fits.get(kind, True):
        raise AgentError(f"agent setting {path} must be of type {kind.__name__}, not {value!r}.")
