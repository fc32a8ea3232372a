"""The configuration of a command as a program composes it: what the command would get from the same words."""

import re
from collections.abc import Sequence
from typing import Any

OUTSIDE = re.compile(
    r"(?<![\w.:])[\w.]+:[\w.]+(?![\w.:])"
)  # module:Name, a choice from outside the package
# what stands in the place of a file of `configs/`; further keys are the choice's own
BLANK: dict[str, dict[str, Any]] = {
    "agent": {},
    "env": {
        "id": None,
        "slip": 0.0,
        "misread": 0.0,
        "permute_seed": None,
        "max_steps": None,
        "action_repeat": 1,
        "options": {},
    },
}


def load_config(command: str, *overrides: str) -> dict[str, Any]:
    """Return the configuration as plain values.

    Args:
        command: "train", "rollout" or "evaluate".
        overrides: as they would be typed.

    >>> load_config("evaluate", "run=somewhere", "seeds=2")["seeds"]
    2
    """
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    offer_outside_choices(overrides)
    with initialize_config_module("aif_dcpc.configs", version_base="1.3"):
        values = OmegaConf.to_container(compose(command, overrides=list(overrides)), resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def offer_outside_choices(overrides: Sequence[str]) -> None:
    """Let Hydra know the agents and environments that some overrides choose by `module:Name`, which have no file."""
    from hydra.core.config_store import ConfigStore

    for override in overrides:
        group, _, choices = override.partition("=")
        if group not in BLANK:
            continue
        for name in OUTSIDE.findall(choices):
            ConfigStore.instance().store(name, {"name": name, **BLANK[group]}, group=group)
