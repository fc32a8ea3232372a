"""Builders of agents: those of the package by name, any other by `module:name`.

A builder takes the observation space, the actions, the environment's metadata, the settings and a
seed, and returns an agent. A class with a classmethod `build` of that kind, such as any heir of
`BaseAgent`, will do. What it calls its second parameter decides what it is handed: `num_actions`
is a number, and the agent is for discrete actions alone; `action_space` is their space.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.protocol import Agent, number_of
from aif_dcpc.misspelt import unknown_name
from aif_dcpc.named_code import NotThere, import_named, is_missing

Builder = Callable[[gymnasium.Space[Any], Any, Mapping[str, Any], Mapping[str, Any], int], Agent]
ARGUMENTS = ("observation_space", "num_actions", "metadata", "settings", "seed")


def find_builder(name: str, known: Mapping[str, str]) -> Builder:
    """Find the builder of an agent, importing its module.

    Args:
        name: a name in `known`, or `module:name` of a builder or an agent class anywhere.
        known: name -> `module:builder` of the agents of the package.

    Raises:
        AgentError: there is no such name or module, or what stands there is no builder.
    """
    check_builder_name(name, known)
    try:
        found = import_named(known.get(name, name))
    except NotThere as error:
        raise AgentError(f"agent {name!r}: {error}") from error
    build = getattr(found, "build", None) if inspect.isclass(found) else found
    if not callable(build) or not _takes_arguments(build):
        raise AgentError(
            f"agent {name!r} is neither a builder nor a class with a classmethod build: "
            f"either takes ({', '.join(ARGUMENTS)}), or action_space in the place of num_actions."
        )
    builder: Builder = build
    return builder


def check_builder_name(name: str, known: Mapping[str, str]) -> None:
    """Refuse a name that is neither known nor `module:name` of a module that Python can find.

    Raises:
        AgentError: it is such a name.
    """
    if ":" not in name and name not in known:
        raise AgentError(unknown_name("agent", name, known))
    if ":" in name and is_missing(name):
        module = name.partition(":")[0]
        raise AgentError(f"agent {name!r}: there is no module {module!r} on Python's path.")


def actions_for(name: str, build: Builder, action_space: gymnasium.Space[Any]) -> Any:
    """Return what a builder takes for its second argument: the space of actions, or their number.

    Raises:
        AgentError: it takes a number, and the actions are not discrete.
    """
    second = list(inspect.signature(build).parameters)[1:2]
    return action_space if second == ["action_space"] else number_of(action_space, name)


def check_agent(name: str, agent: Agent) -> Agent:
    """Return the agent that a builder has made, or refuse it.

    Raises:
        AgentError: it lacks a method of the protocol.
    """
    methods = [method for method in vars(Agent) if not method.startswith("_")]
    missing = [method for method in methods if not callable(getattr(agent, method, None))]
    if missing:
        raise AgentError(
            f"agent {name!r} has no {', '.join(missing)}: "
            "derive it from aif_dcpc.agents.protocol.BaseAgent, which has defaults."
        )
    return agent


def _takes_arguments(build: Callable[..., Any]) -> bool:
    """Whether a callable takes the arguments of a builder."""
    try:
        inspect.signature(build).bind(*ARGUMENTS)
    except (TypeError, ValueError):
        return False
    return True
