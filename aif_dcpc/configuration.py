"""The configuration of a command as a program composes it: what the command would get from the same words."""

from typing import Any


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

    with initialize_config_module("aif_dcpc.configs", version_base="1.3"):
        values = OmegaConf.to_container(compose(command, overrides=list(overrides)), resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
