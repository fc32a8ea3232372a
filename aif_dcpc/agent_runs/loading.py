"""A trained agent in three lines.

    from aif_dcpc import Agent
    agent = Agent.load("runs/...")
    action = agent.act(observation)

The loop around them is that of `aif_dcpc.agents.protocol`.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

from aif_dcpc.agent_runs.assembly import Env, check_agent, make_agent, make_env, restore_agent
from aif_dcpc.agents.protocol import Agent as AgentProtocol
from aif_dcpc.randomness import AGENT_SEED, derive
from aif_dcpc.runs import Checkpoint, open_run
from aif_dcpc.schema import EnvChange, EnvConfig


class Agent:
    """Where a trained agent comes from."""

    @staticmethod
    def load(run: str, *, seed: int = 0, trust: Sequence[str] = ()) -> AgentProtocol:
        """Load the agent of a run folder, its parameters frozen, at the beginning of an episode.

        Args:
            run: path of the run folder.
            seed: of its random choices, such as ties.
            trust: names of code from outside the package, `module:Name`, that the run may import.

        Raises:
            UserError: the run is missing, foreign or damaged.
        """
        agent, env = load_agent_and_env(run, trust=trust)
        env.close()
        agent.begin(seed=seed)
        return agent


load_agent = Agent.load


@dataclass(frozen=True)
class Life:
    """A frozen agent, an environment for it, and the checkpoint that it was read from."""

    agent: AgentProtocol
    env: Env
    checkpoint: Checkpoint


def load_life(
    run: str,
    change: EnvChange | None = None,
    *,
    render: bool = False,
    trust: Sequence[str] = (),
    checkpoint: Checkpoint | None = None,
) -> Life:
    """Load a frozen agent and an environment like the one it was trained in, but for the given changes.

    Args:
        run: path of the run folder.
        change: of the environment.
        render: whether the environment returns pictures.
        trust: names of code from outside the package, `module:Name`, that the run may import.
        checkpoint: of the run, which stays as it is; None reads the newest.

    Raises:
        UserError: the run is missing, foreign or damaged, or the agent cannot model the
            environment.
    """
    folder = open_run(run)
    config = folder.config(trust=trust)
    world: EnvConfig = config.env if change is None else change.applied_to(config.env)
    env = make_env(world, render=render)
    check_agent(config.agent["name"], config.agent_settings(), env)
    agent = make_agent(
        config.agent["name"], config.agent_settings(), env, derive(config.seed, AGENT_SEED)
    )
    if checkpoint is None:
        checkpoint = folder.load_checkpoint()
    restore_agent(agent, deepcopy(checkpoint))
    agent.freeze()
    return Life(agent, env, checkpoint)


def load_agent_and_env(
    run: str,
    change: EnvChange | None = None,
    *,
    render: bool = False,
    trust: Sequence[str] = (),
) -> tuple[AgentProtocol, Env]:
    """Load what `load_life` loads, without the checkpoint that it was read from."""
    life = load_life(run, change, render=render, trust=trust)
    return life.agent, life.env


__all__ = ["Agent", "Life", "load_agent", "load_agent_and_env", "load_life"]
