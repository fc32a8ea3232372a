"""Settings of agents that stand on `ActiveInferenceAgent`, read from the plain values of a configuration."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import gymnasium

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.misspelt import unknown_name

# what every such agent takes; of the engine's settings those under "inference"
COMMON: Mapping[str, Any] = {
    "num_particles": 16,
    "num_sweeps": 1,
    "window": None,
    "precision": 16.0,
    "learning_rate": 0.01,
    "learning_steps": 20,
}
LEAST = {
    "num_particles": 1,
    "num_sweeps": 0,
    "window": 1,
    "learning_steps": 0,
    "learning_rate": 0,
    "precision": 0,
}


def read_settings(
    settings: Mapping[str, Any], types: Mapping[str, type] = MappingProxyType({}), /, **own: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split settings into those of every agent and an agent's own, each with its default.

    Args:
        settings: the agent's keys, and the engine's under "inference".
        types: of own settings whose default is None, where another value has to be of one.
        own: the agent's own settings with their defaults, whose types they keep.

    Returns:
        keywords of `ActiveInferenceAgent`, and the agent's own settings.

    Raises:
        AgentError: for an unknown key, or a value of another type, infinite or out of range.
    """
    given = dict(settings)
    engine = dict(given.pop("inference", {}))
    if engine.pop("update", "exact") != "exact":
        raise AgentError("agent setting inference.update must be 'exact'.")
    known = {**COMMON, **own}
    usual = {**types, **_types_of(LEAST), **_types_of(known)}
    values = dict(known)
    for key, value in {**engine, **given}.items():
        if key not in known:
            raise AgentError(unknown_name("agent setting", key, known))
        values[key] = _checked(key, value, usual.get(key))
    common = {key: values[key] for key in COMMON}
    return common, {key: values[key] for key in own}


def _types_of(values: Mapping[str, Any]) -> dict[str, type]:
    """Return the types of what is not None."""
    return {key: type(value) for key, value in values.items() if value is not None}


def _checked(key: str, value: Any, kind: type | None) -> Any:
    """Return a value of a setting's type, if it has one; None stands for a choice of the agent's own."""
    if value is None or kind is None:
        return value
    fits = type(value) in (int, float) if kind is float else type(value) is kind
    if not fits:
        raise AgentError(f"agent setting {key} must be of type {kind.__name__}, not {value!r}.")
    if kind is float and not math.isfinite(value):
        raise AgentError(f"agent setting {key}={value}: expected a finite number.")
    if key in LEAST and not value >= LEAST[key]:
        raise AgentError(f"agent setting {key}={value}: expected at least {LEAST[key]}.")
    return kind(value)


def check_ranges(values: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse settings out of range; None, which stands for a choice of the agent's own, is in it.

    Args:
        values: setting -> value.
        ranges: setting -> least and largest value.

    Raises:
        AgentError: one of them lies outside.
    """
    for key, (low, high) in ranges.items():
        value = values[key]
        if value is not None and not low <= value <= high:
            upper = "" if high == math.inf else f", at most {high:g}"
            raise AgentError(f"agent setting {key}={value}: expected at least {low:g}{upper}.")


def require_streams(
    name: str, observation_space: gymnasium.Space[Any], wanted: Sequence[str]
) -> None:
    """Refuse observations that lack what a model observes.

    Raises:
        AgentError: a stream is missing.
    """
    streams = getattr(observation_space, "spaces", {})
    missing = [stream for stream in wanted if stream not in streams]
    if missing:
        raise AgentError(
            f"agent {name!r} models the streams {', '.join(wanted)}; this environment has no "
            f"{missing[0]!r}, but {', '.join(streams) or 'a single one'}."
        )
