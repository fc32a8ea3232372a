"""Every file under `configs/` composes, fits the schema and names something that exists."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from aif_dcpc import agents, envs
from aif_dcpc.schema import rollout_config, train_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def choices(group):
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def composed(name, *overrides):
    with initialize_config_module("aif_dcpc.configs", version_base="1.3"):
        return OmegaConf.to_container(compose(name, overrides=list(overrides)), resolve=True)


GROUPS = ["agent", "env", "inference", "experiment"]


@pytest.mark.parametrize(
    "override", [f"{group}={choice}" for group in GROUPS for choice in choices(group)]
)
def test_every_choice_fits_the_schema(override):
    group, choice = override.split("=")
    config = train_config(composed("train", override))
    if group == "agent":
        assert config.agent["name"] == choice
    if group == "env":
        assert config.env.name == choice


def test_the_rollout_fits_the_schema():
    assert rollout_config(composed("rollout")).episodes == 50


def test_every_agent_and_environment_has_its_file():
    assert set(choices("agent")) == set(agents.NAMES)
    assert set(choices("env")) == set(envs.NAMES)


def test_every_file_says_what_it_is():
    for path in CONFIGS.rglob("*.yaml"):
        assert path.read_text(encoding="utf-8").startswith("# "), (
            f"{path} does not begin with a comment"
        )
