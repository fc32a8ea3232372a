"""Who lives in the worlds of a run: one agent in all of them at once, or one in each."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Protocol

from aif_dcpc.agent_runs.assembly import restore_agent
from aif_dcpc.agent_runs.worlds import Outcome, split, stacked
from aif_dcpc.agents.protocol import Agent, BatchAgent, Observation
from aif_dcpc.errors import ConfigError
from aif_dcpc.runs import Checkpoint


class Inhabitants(Protocol):
    """One life for each world; `agent` is the one that a checkpoint names, and whose pictures are shown.

    Attributes:
        rests: whether a world must show the last observation of an episode once more.
    """

    agent: Agent
    rests: bool

    def begin(self, seeds: Sequence[int | None]) -> None:
        """Begin an episode in every world that has a seed; the others go on."""

    def act(self, observations: Sequence[Observation], *, greedy: bool) -> Sequence[Any]:
        """Choose an action for each world."""

    def feedback(self, outcomes: Sequence[Outcome]) -> None:
        """Hand over what the actions led to."""

    def scalars(self) -> Mapping[str, float]:
        """Numbers of the last step, means over worlds."""

    def state(self) -> Checkpoint:
        """What they are, as parts of a checkpoint."""

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to what `state` gave."""


class OneInEach:
    """An agent for each world; where there are several, they share what they learn.

    Args:
        agents: in the order of the worlds.
    """

    rests = False

    def __init__(self, agents: Sequence[Agent]) -> None:
        self.agents = agents
        self.agent = agents[0]

    def begin(self, seeds: Sequence[int | None]) -> None:
        """Begin an episode in every world that has a seed."""
        for agent, seed in zip(self.agents, seeds, strict=True):
            if seed is not None:
                agent.begin(seed=seed)

    def act(self, observations: Sequence[Observation], *, greedy: bool) -> Sequence[Any]:
        """Let every agent choose."""
        pairs = zip(self.agents, observations, strict=True)
        return [agent.act(observation, greedy=greedy) for agent, observation in pairs]

    def feedback(self, outcomes: Sequence[Outcome]) -> None:
        """Hand every agent its own outcome."""
        for agent, outcome in zip(self.agents, outcomes, strict=True):
            agent.feedback(
                outcome.observation, outcome.reward, outcome.terminated, outcome.truncated
            )

    def scalars(self) -> Mapping[str, float]:
        """Means of what the agents report."""
        reports = [agent.report().scalars for agent in self.agents]
        if len(reports) == 1:
            return reports[0]
        values: dict[str, list[float]] = defaultdict(list)
        for report in reports:
            for tag, value in report.items():
                values[tag].append(value)
        return {tag: fmean(found) for tag, found in values.items()}

    def state(self) -> Checkpoint:
        """The first agent, and the others apart."""
        first, *others = [agent.state_dict() for agent in self.agents]
        return {"agent": first, "companions": others}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore each of the agents.

        Raises:
            RunFolderError: the checkpoint is of other agents.
        """
        states = [checkpoint["agent"], *checkpoint["companions"]]
        for agent, state in zip(self.agents, states, strict=True):
            restore_agent(agent, {"agent": state})


class AllAtOnce:
    """One agent that lives in all worlds at once.

    Args:
        agent: whose methods take a leading axis over worlds.
    """

    def __init__(self, agent: BatchAgent) -> None:
        self.agent: Any = agent
        self.rests = bool(getattr(agent, "rests", False))

    def begin(self, seeds: Sequence[int | None]) -> None:
        """Begin episodes where there is a seed."""
        self.agent.begin_batch(seeds=seeds)

    def act(self, observations: Sequence[Observation], *, greedy: bool) -> Sequence[Any]:
        """Choose for all worlds in one call."""
        chosen: Sequence[Any] = self.agent.act_batch(stacked(observations), greedy=greedy)
        return chosen

    def feedback(self, outcomes: Sequence[Outcome]) -> None:
        """Hand over all outcomes in one call."""
        self.agent.feedback_batch(*split(outcomes))

    def scalars(self) -> Mapping[str, float]:
        """What the agent reports."""
        scalars: Mapping[str, float] = self.agent.report().scalars
        return scalars

    def state(self) -> Checkpoint:
        """The state of the one agent."""
        return {"agent": self.agent.state_dict()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the one agent.

        Raises:
            RunFolderError: the checkpoint is of another agent.
        """
        restore_agent(self.agent, checkpoint)


def settle(name: str, agent: Agent, num_envs: int) -> Inhabitants:
    """Let an agent live in so many worlds: at once if it can, else with companions that share what it learns.

    Args:
        name: of the agent, for what is said.
        agent: a `BatchAgent`, or one with a method `companion`; any in a single world.
        num_envs: how many worlds.

    Raises:
        ConfigError: it can live in one world only.
    """
    if num_envs == 1:
        return OneInEach([agent])
    if isinstance(agent, BatchAgent):
        return AllAtOnce(agent)
    companion = getattr(agent, "companion", None)
    if companion is None:
        raise ConfigError(
            f"num_envs must be 1, not {num_envs}: agent {name!r} lives in one world at a time (it has neither "
            "act_batch nor companion); run several seeds with -m seed=1,2,3."
        )
    return OneInEach([agent, *(companion(number) for number in range(1, num_envs))])
