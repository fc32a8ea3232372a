"""Join environments and agents, which never see each other, by what the configuration names."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium

from aif_dcpc import agents, envs
from aif_dcpc.agents.protocol import Agent, EgocentricView
from aif_dcpc.agents.requirements import check_request
from aif_dcpc.errors import ConfigError, RunFolderError
from aif_dcpc.runs import Checkpoint
from aif_dcpc.schema import EnvConfig, Settings

Env = gymnasium.Env[Any, Any]


def make_env(config: EnvConfig, *, render: bool = False) -> Env:
    """Build the environment that a configuration asks for.

    Raises:
        ConfigError: it does not exist, does not take its options, or is of a kind that is not
            supported.
    """
    with _told_in_one_sentence():
        return envs.make(config.name, render=render, **config.arguments())


def make_agent(name: str, settings: Settings, env: Env, seed: int) -> Agent:
    """Build the agent for the spaces of `env`.

    Raises:
        ConfigError: it does not exist, its settings do not fit, or it cannot model the
            observations.
    """
    with _told_in_one_sentence():
        return agents.make(
            name,
            observation_space=env.observation_space,
            action_space=env.action_space,
            metadata=agent_metadata(env),
            settings=settings,
            seed=seed,
        )


def check_agent(name: str, settings: Settings, env: Env) -> None:
    """Refuse, before torch is imported, what `make_agent` would refuse of the package's own agents.

    Raises:
        ConfigError: as `make_agent`.
    """
    with _told_in_one_sentence():
        agents.check_name(name)
        check_request(
            name,
            observation_space=env.observation_space,
            action_space=env.action_space,
            metadata=agent_metadata(env),
            settings=settings,
        )


def agent_metadata(env: Env) -> dict[str, Any]:
    """Return the environment's metadata with the view geometry, plain data there, in the agents' own type."""
    metadata = dict(env.metadata)
    view = metadata.get("egocentric_view")
    if isinstance(view, Mapping):
        metadata["egocentric_view"] = EgocentricView(**view)
    return metadata


def restore_agent(agent: Agent, checkpoint: Checkpoint) -> None:
    """Load what the agent had learned.

    Raises:
        RunFolderError: the checkpoint is of another agent.
    """
    try:
        agent.load_state_dict(checkpoint["agent"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        raise RunFolderError(
            f"the checkpoint does not fit its agent: {type(error).__name__}: {error}."
        ) from error


@contextmanager
def _told_in_one_sentence() -> Iterator[None]:
    try:
        yield
    except (envs.EnvironmentError_, ValueError, TypeError, gymnasium.error.Error) as error:
        raise ConfigError(" ".join(str(error).split())) from error
