"""An agent from one declared model: it infers what its history hides, plans on it, and learns.

    model + preferences + planner = agent

Each step appends one slice, sweeps the full latent history by the engine's own moves, hands the
cloud to a planner, and takes the action of least expected free energy (see `life` for which slice
an action belongs to). What the model calls global is inferred from all episodes; parameters of
kernels follow local gradients at the end of each episode.

The T-maze agent of the package, `agents/tmaze.py`, is the smallest whole example.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aif_dcpc.agents.belief_pictures import belief_pictures, present
from aif_dcpc.agents.deliberation import Deliberation, checked_habit
from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.explain import Explanation, explanation_of
from aif_dcpc.agents.life import Life, Reader
from aif_dcpc.agents.one_life import as_one_life
from aif_dcpc.agents.planners.protocol import Planner, Preference, Situation
from aif_dcpc.agents.protocol import BaseAgent, Observation, StepReport
from aif_dcpc.agents.streams import as_streams, of_one_world, placeholder
from aif_dcpc.inference import DCPC, GraphicalModel, State
from aif_dcpc.inference.learning import learn_step
from aif_dcpc.inference.model.data_rows import of_data
from aif_dcpc.inference.model.resampling import ess, unique_ancestors
from aif_dcpc.misspelt import unknown_name


class ActiveInferenceAgent(BaseAgent):
    """Any graphical model over time with preferences, as an agent.

    Args:
        model: of one episode: `initial` kernels for its first slice, scope "episode" for what holds
            all along, "global" for what is learned over all episodes (see `one_life`); or of a
            whole life, with an input `reset` that is 1 where an episode begins.
        action: name of the input that holds actions, read by `lag`.
        action_space: Discrete or Box.
        observed: observed sites (and further inputs) -> the stream that tells each, or a function
            of all streams `(B, *shape)`; a sequence of names where sites are called like their
            streams. Beside those of the environment there are `reward` and `terminated`, of the
            action before.
        preferences: observed site -> log preference of its values, nats up to a constant: `(O,)`
            for a finite site, or a function of values.
        planner: what chooses.
        num_particles: K.
        num_sweeps: sweeps of the full history at each step.
        window: sweep only about the last so many slices; None sweeps all of them.
        precision: inverse temperature of sampled actions, per nat of expected free energy.
        habit: `(A,)` prior probabilities of Discrete actions; by default all alike.
        learning_rate, learning_steps: of the kernels' parameters, if they have any, at the end of
            each episode.
        reset: name of the input that tells where episodes begin.
        seed: every random choice follows from it and from the seeds of `begin`.

    Attributes:
        life: the history and its cloud.
        deliberation: the last plans, of each world that did not rest, and what was chosen.

    Raises:
        AgentError: for a model, names or spaces that do not fit each other.

    Reference: Friston et al. (2017), "Active inference: a process theory".
    """

    def __init__(
        self,
        model: GraphicalModel,
        *,
        action: str,
        action_space: gymnasium.Space[Any],
        observed: Mapping[str, Reader] | Sequence[str],
        preferences: Mapping[str, Preference],
        planner: Planner,
        num_particles: int = 16,
        num_sweeps: int = 2,
        window: int | None = None,
        precision: float = 16.0,
        habit: Tensor | None = None,
        learning_rate: float = 0.01,
        learning_steps: int = 20,
        reset: str = "reset",
        seed: int = 0,
    ) -> None:
        super().__init__(action_space, seed)
        model = as_one_life(model, reset)
        self.model = model
        self.preferences = preferences
        log_habit = None if habit is None else checked_habit(habit, action_space)
        self.deliberation = Deliberation(planner, precision, log_habit)
        self.learning_steps = learning_steps
        if not isinstance(observed, Mapping):
            observed = {name: name for name in observed}
        self.life = Life(
            DCPC(model, num_particles=num_particles, seed=seed),
            observed=observed,
            action=action,
            placeholder=placeholder(action_space),
            reset=reset,
            num_sweeps=num_sweeps,
            window=window,
        )
        for name in preferences:
            if name not in observed:
                raise AgentError(unknown_name("preferred site", name, observed))
        parameters = list(model.parameters())
        self.optimizer = torch.optim.Adam(parameters, lr=learning_rate) if parameters else None
        self.ended = torch.zeros(1, dtype=torch.bool)
        self.resting = torch.zeros(1, dtype=torch.bool)
        self.consequences = {"reward": torch.zeros(1), "terminated": torch.zeros(1)}
        self.evidence = 0.0
        self.milliseconds: dict[str, float] = {}
        self.log_joint: float | None = None

    # -- the loop ----------------------------------------------------------------------------------

    def begin(self, *, seed: int) -> None:
        """Begin an episode, and seed all choices of it."""
        self.begin_batch(seeds=[seed])

    def act(self, observation: Observation, *, greedy: bool = True) -> Any:
        """Append the observation, re-infer the full history by sweeps, plan, and choose.

        Returns:
            an int for a Discrete action space, an array for a Box.
        """
        action = self.act_batch(of_one_world(observation), greedy=greedy)[0]
        return int(action) if self.num_actions else action

    def feedback(
        self, observation: Observation, reward: float, terminated: bool, truncated: bool
    ) -> None:
        """Take in what the last action led to; at an episode's end learn from it, unless frozen."""
        ends = np.array([terminated]), np.array([truncated])
        self.feedback_batch(of_one_world(observation), np.array([reward]), *ends)
        if terminated or truncated:
            self._observe(of_one_world(observation))
            self._end(self.ended)

    # -- in several worlds at once -----------------------------------------------------------------

    rests = True  # a world whose episode has ended shows its last observation once more

    def begin_batch(self, *, seeds: Sequence[int | None]) -> None:
        """Begin an episode in the worlds that have a seed, once their last observation was seen."""
        given = torch.tensor([seed is not None for seed in seeds])
        super().begin(seed=next(seed for seed in reversed(seeds) if seed is not None))
        if len(seeds) != len(self.ended):
            self.ended = torch.zeros(len(seeds), dtype=torch.bool)
        self.resting = given & self.ended
        self.life.begin(self.generator, given & ~self.resting)
        self.deliberation.begin(given)
        self.consequences = {
            name: torch.where(given & ~self.resting, 0.0, self._consequence(name, len(seeds)))
            for name in ("reward", "terminated")
        }
        self.evidence = self._log_evidence()

    def _consequence(self, name: str, number: int) -> Tensor:
        """What the last actions led to in so many worlds, `(B,)`."""
        past = self.consequences[name]
        return past if len(past) == number else torch.zeros(number)

    def act_batch(self, observations: Observation, *, greedy: bool = True) -> npt.NDArray[Any]:
        """Append what is seen in each world, re-infer the full histories, plan, and choose.

        Args:
            observations: stream -> `(B, *shape)`.
            greedy: whether the best policy is taken, or one is sampled.

        Returns:
            actions `(B, *event)`; those of worlds that rest mean nothing.
        """
        self._observe(observations)
        start = time.perf_counter()
        actions = self._plan(greedy)
        done = self._possible(actions)
        self.life.act(torch.as_tensor(done).to(actions))
        self.milliseconds["planning"] = 1e3 * (time.perf_counter() - start)
        if bool(self.resting.any()):
            self._end(self.resting)
            self.life.begin(self.generator, self.resting)
            self.resting = torch.zeros_like(self.resting)
        return done

    def _possible(self, actions: Tensor) -> npt.NDArray[Any]:
        """Bring planned actions `(B, *event)` into their Box: within it, and whole if it is of integers."""
        found: npt.NDArray[Any] = actions.cpu().numpy()
        space = self.action_space
        if not isinstance(space, gymnasium.spaces.Box):
            return found
        if np.issubdtype(space.dtype, np.integer):
            found = found.round()
        found = np.clip(found.astype(space.dtype), space.low, space.high)
        return found

    def _plan(self, greedy: bool) -> Tensor:
        """Plan in every world that does not rest, and choose, `(B, *event)`."""
        present = self.life.present(self.generator), self.life.history()
        awake = [row for row, rests in enumerate(self.resting.tolist()) if not rests]
        situations = {row: self._situation(*present, row) for row in awake}
        space = self.life.placeholder
        actions = space.expand(len(self.resting), *space.shape).clone()
        for row, action in self.deliberation.decide(situations, greedy=greedy).items():
            actions[row] = action
        return actions

    def situation(self) -> Situation:
        """What the planner is handed now, in the first world."""
        return self._situation(self.life.present(self.generator), self.life.history(), 0)

    def _situation(self, present: State, history: State, row: int) -> Situation:
        """What the planner is handed in one world."""
        return Situation(
            engine=self.life.engine,
            state=_of_world(present, row),
            history=_of_world(history, row),
            action=self.life.action,
            action_space=self.action_space,
            preferences=self.preferences,
            generator=self.generator,
            reset=self.life.reset,
            frozen=self.frozen,
        )

    def feedback_batch(
        self,
        observations: Observation,
        rewards: npt.NDArray[np.float64],
        terminated: npt.NDArray[np.bool_],
        truncated: npt.NDArray[np.bool_],
    ) -> None:
        """Note what the last actions led to, `(B,)` each; the next slice tells it to the model."""
        self.consequences = {
            "reward": torch.tensor(rewards, dtype=torch.get_default_dtype()),
            "terminated": torch.tensor(terminated, dtype=torch.get_default_dtype()),
        }
        self.ended = torch.as_tensor(np.logical_or(terminated, truncated))

    def _observe(self, observations: Observation) -> None:
        """Take in what is seen, together with what the last actions led to."""
        start = time.perf_counter()
        self.life.observe({**as_streams(observations), **self.consequences})
        self.milliseconds["inference"] = 1e3 * (time.perf_counter() - start)

    def _end(self, rows: Tensor) -> None:
        """Learn from the episodes that have ended, unless frozen."""
        start = time.perf_counter()
        self.ended = self.ended & ~rows
        if not self.frozen:
            self._learn()
        self.milliseconds["learning"] = 1e3 * (time.perf_counter() - start)

    def _learn(self) -> None:
        """Move the parameters of kernels, if there are any, by local gradients at the particles."""
        state = self.life.state
        assert state is not None
        if self.optimizer is not None:
            for _ in range(self.learning_steps):
                state, _ = learn_step(self.life.engine, state, self.optimizer)
            self.life.state = state
        self.log_joint = float(self.life.engine.log_joint(state).mean())

    def freeze(self, frozen: bool = True) -> None:
        """Stop (or resume) learning: frozen episodes are inferred and planned in, then forgotten."""
        super().freeze(frozen)
        self.life.freeze(frozen)

    # -- diagnostics -------------------------------------------------------------------------------

    def report(self, *, pictures: bool = False) -> StepReport:
        """Report on inference, the terms of the policy that was chosen, and times; draw beliefs."""
        if not self.deliberation.plans or self.life.state is None:
            return StepReport()
        times = {f"speed/ms_{name}": value for name, value in self.milliseconds.items()}
        sweeps = max(self.life.num_sweeps, 1)
        times["speed/ms_per_sweep"] = self.milliseconds["inference"] / sweeps
        learned = {} if self.log_joint is None else {"learning/log_joint": self.log_joint}
        planned = self.deliberation.scalars()
        scalars = {**self._inference_scalars(), **planned, **learned, **times}
        if not pictures:
            return StepReport(scalars=scalars)
        drawn = belief_pictures(self.life.state, int(self.life.lengths[0]))
        return StepReport(scalars=scalars, pictures=drawn, particles=present(self.life.state))

    def _inference_scalars(self) -> dict[str, float]:
        """Free energy of the running episode, nats, and how many particles still count."""
        state = self.life.state
        assert state is not None
        accepted = self.life.acceptance
        return {
            "inference/free_energy": self.evidence - self._log_evidence(),
            "inference/ess": float(ess(state.log_weights).mean()),
            "inference/unique_ancestors": float(unique_ancestors(state).double().mean()),
            **{f"inference/acceptance/{site}": share for site, share in accepted.items()},
        }

    def _log_evidence(self) -> float:
        """Estimated log evidence of the whole history, nats."""
        return 0.0 if self.life.state is None else float(self.life.state.log_evidence.mean())

    def explanation(self, names: Sequence[str] | None = None) -> Explanation | None:
        """What the last choice (in the first world) was among; None before the first."""
        if not self.deliberation.plans:
            return None
        row = next(iter(self.deliberation.plans))
        plan, chosen = self.deliberation.plans[row], self.deliberation.chosen[row]
        return explanation_of(plan, chosen, names, first=_first_of(self.action_space))

    # -- persistence -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit."""
        optimizer = None if self.optimizer is None else copy.deepcopy(self.optimizer.state_dict())
        return {
            **super().state_dict(),
            "life": self.life.state_dict(),
            "planners": self.deliberation.state_dict(),
            "parameters": {name: p.detach().clone() for name, p in self._parameters().items()},
            "optimizer": optimizer,
            "consequences": {name: value.clone() for name, value in self.consequences.items()},
            "ended": self.ended.clone(),
            "resting": self.resting.clone(),
            "evidence": self.evidence,
            "log_joint": self.log_joint,
            "frozen": self.frozen,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state)
        with torch.no_grad():
            for name, parameter in self._parameters().items():
                parameter.copy_(state["parameters"][name])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.life.load_state_dict(state["life"])
        self.life.engine.generator = self.generator
        self.deliberation.load_state_dict(state["planners"])
        self.consequences = {name: x.clone() for name, x in state["consequences"].items()}
        self.ended = state["ended"].clone()
        self.resting = state["resting"].clone()
        self.evidence = float(state["evidence"])
        self.log_joint = state["log_joint"]
        self.frozen = bool(state["frozen"])

    def _parameters(self) -> dict[str, Tensor]:
        """Parameters of the kernels by a number each."""
        return {str(number): p for number, p in enumerate(self.model.parameters())}


def _first_of(space: gymnasium.Space[Any]) -> int:
    """Return the number of the first Discrete action, 0 where actions are of another kind."""
    return int(space.start) if isinstance(space, gymnasium.spaces.Discrete) else 0


def _of_world(state: State, row: int) -> State:
    """Return the cloud of one of several worlds."""
    return state if state.batch_size == 1 else of_data(state, torch.tensor([row]))


__all__ = ["ActiveInferenceAgent"]
