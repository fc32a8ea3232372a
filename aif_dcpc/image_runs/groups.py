"""Runs that differ in their seed alone are averaged; those that differ in more are laid side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from aif_dcpc.errors import ConfigError
from aif_dcpc.schema import TrainConfig

METHOD = "images.method"
ANSWERS = (
    "epochs",
    "images",
    "inference",
)  # groups of keys that decide what is learned, beside the seed
FREE = ("images.folder", "images.metrics", "images.validation_images", "images.validation_sweeps")


def grouped(configs: Mapping[str, TrainConfig]) -> dict[str, list[str]]:
    """Return runs by what tells them apart: the method, or the keys that differ.

    Args:
        configs: run -> its configuration.

    Raises:
        ConfigError: they are of several experiments.
    """
    names = sorted({config.name for config in configs.values()})
    if len(names) > 1:
        raise ConfigError(f"run=[...] takes runs of one experiment, not of {' and '.join(names)}.")
    settings = {run: dict(_leaves(_settings(config))) for run, config in configs.items()}
    groups: dict[str, list[str]] = {}
    for run, own in settings.items():
        groups.setdefault(_label(own, list(settings.values())), []).append(run)
    return groups


def _settings(config: TrainConfig) -> dict[str, Any]:
    return {key: value for key, value in asdict(config).items() if key in ANSWERS}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            found += _leaves(value, f"{path}.")
        elif path not in FREE:
            found.append((path, value))
    return found


def _label(own: Mapping[str, Any], all_settings: Sequence[Mapping[str, Any]]) -> str:
    """The method where it differs, and keys that differ within a method."""
    same_method = [other for other in all_settings if other.get(METHOD) == own.get(METHOD)]
    words = [str(own.get(METHOD))]
    for key in own:
        if key != METHOD and any(other.get(key) != own[key] for other in same_method):
            words.append(f"{key}={own[key]}")
    return " ".join(words)
