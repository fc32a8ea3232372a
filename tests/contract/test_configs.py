"""Every file under `configs/` composes, fits the schema and names something that exists."""

from pathlib import Path

import pytest

from aif_dcpc import agents, envs, schema
from aif_dcpc.configuration import load_config
from aif_dcpc.schema import train_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
COMMANDS = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "shared")
GROUPS = sorted(path.name for path in CONFIGS.iterdir() if list(path.glob("*.yaml")))
DEFAULTS_OF_EXPERIMENTS = {"images"}  # what experiments build on; not to be chosen by itself


def choices(group):
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


@pytest.mark.parametrize(
    "override",
    [
        f"{group}={choice}"
        for group in GROUPS
        if group not in DEFAULTS_OF_EXPERIMENTS
        for choice in choices(group)
    ],
)
def test_every_choice_fits_the_schema(override):
    group, choice = override.split("=")
    config = train_config(load_config("train", override))
    if group == "agent":
        assert config.agent["name"] == choice
    if group == "env":
        assert config.env.name == choice
    if group == "experiment":
        assert config.name.replace("-", "_") == choice


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_fits_its_schema(command):
    """The schema of `aif-COMMAND` is `schema.COMMAND_config`; every key of it has a default in the file."""
    config = getattr(schema, f"{command}_config")(load_config(command))
    assert set(vars(config)) == set(load_config(command))


def test_every_agent_and_environment_has_its_file():
    assert set(choices("agent")) == set(agents.NAMES)
    assert set(choices("env")) == set(envs.NAMES)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_says_what_it_is(path):
    """It begins with comments, one of which is not for Hydra."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert [line for line in lines if line.startswith("# ") and "@package" not in line]
