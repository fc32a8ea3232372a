"""An agent for worlds whose state is seen: it learns what actions do, and what comes of it.

For any environment whose observations are Discrete, MultiDiscrete or MultiBinary, all streams
together being the state. Nothing is given: transitions, rewards (preferred in proportion) and
endings are learned, with how deterministic the world is (see `world`, `outcomes`). It plans over
all states by expected free energy, novelty included, since learning is what early actions are for.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import gymnasium
import numpy as np
import numpy.typing as npt
import torch

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.discrete import requirements
from aif_dcpc.agents.discrete.drawn_tables import DrawnTables
from aif_dcpc.agents.discrete.dynamic_programming import Steps, follow, iterate
from aif_dcpc.agents.discrete.episode_lengths import EpisodeLengths
from aif_dcpc.agents.discrete.memory_check import MemoryCheck
from aif_dcpc.agents.discrete.outcomes import Outcomes
from aif_dcpc.agents.discrete.prediction import Prediction
from aif_dcpc.agents.discrete.transitions import Transitions
from aif_dcpc.agents.discrete.world import World
from aif_dcpc.agents.explain import Explanation
from aif_dcpc.agents.protocol import BaseAgent, Observation, StepReport
from aif_dcpc.agents.streams import of_one_world, require_finite

FEW = 50  # steps during which the shared part is inferred at each step
TIED = 1e-6  # nats
USUAL = 16.0  # nats, over the root of the number of rows: chosen on worlds of 64 to 3,000 rows
FINAL = 20  # times as many sweeps for a frozen agent, whose tables stay
TRY_WITH = {"num_particles": 2}


class ObservedAgent(BaseAgent):
    """Learns a discrete world whose state is seen, and plans over all of it.

    Args:
        sizes: stream -> number of values of each of its parts; all together are the state.
        num_actions: actions are 0 .. num_actions - 1.
        seed: every random choice follows from it and from the seeds of `begin`.
        num_particles: K, of the cloud over what all rows share.
        num_sweeps: of that cloud, whenever it is inferred anew.
        precision: inverse temperature of sampled actions, per nat.
        novelty: whether what an action would tell counts for it.
        draws: whether plans are made on tables drawn from the posterior, anew in each episode of each
            world (see `drawn_tables`); a frozen agent plans on what it expects.
        least_novelty: nats of it that are not counted: an agent would stay where it is safe, and
            learn the last digits there.
        reward_scale: nats by which the largest reward met is preferred to none; by default less in
            larger worlds, of which there is more to learn first (a rule of thumb, see `USUAL`).
        discount: weight of the next step against this one; a frozen agent looks ahead for as long as
            episodes lasted that were cut off, if that is farther.
        growth: share by which the life grows before what rows share is inferred anew (tables
            themselves are exact at every step).
        novel: concentration of the prior over an action's usual effects.
        max_iterations, tolerance: of value iteration, nats.
    """

    def __init__(
        self,
        sizes: Mapping[str, Sequence[int]],
        num_actions: int,
        seed: int,
        *,
        num_particles: int = 8,
        num_sweeps: int = 2,
        precision: float = 16.0,
        novelty: bool = True,
        draws: bool = True,
        least_novelty: float = 0.03,
        reward_scale: float | None = None,
        discount: float = 0.98,
        growth: float = 0.02,
        novel: float = 1.0,
        max_iterations: int = 100,
        tolerance: float = 1e-3,
    ) -> None:
        super().__init__(num_actions, seed)
        self.streams = tuple(sizes)
        self.sizes = tuple(size for stream in sizes.values() for size in stream)
        self.num_sweeps = num_sweeps
        self.precision = precision
        self.novelty = novelty
        self.draws = draws
        self.least_novelty = least_novelty
        self.discount = discount
        self.growth = growth
        self.max_iterations = max_iterations
        self.tolerance = tolerance
        num_states = math.prod(self.sizes)
        usual = USUAL / math.sqrt(num_states * num_actions)
        self.reward_scale = usual if reward_scale is None else float(reward_scale)
        self.transitions = Transitions(num_states, num_actions)
        self.outcomes = Outcomes(num_states, num_actions)
        self.world = World(self.transitions, num_particles=num_particles, novel=novel)
        self.prediction = Prediction(self.transitions, self.world)
        self.drawn = [self._new_draw()]
        self.values: dict[bool, Floats] = {it: np.zeros(num_states) for it in (True, False)}
        self.steps_at_inference = 0
        self.lengths = EpisodeLengths()
        self.states: Ints = np.zeros(1, np.int64)
        self.actions: Ints = np.zeros(1, np.int64)
        self._forget_plans(num_states)

    def _forget_plans(self, num_states: int) -> None:
        """Begin with nothing planned, nothing to report, and nothing remembered of past states."""
        self.memory = MemoryCheck()
        self.scalars: dict[str, float] = {}
        self.immediate: Floats = np.zeros(num_states * self.num_actions)
        self.told: Floats = np.zeros(num_states * self.num_actions)
        self.told_ahead: Floats = np.zeros(num_states)
        self.ahead: Steps | None = None
        self.costs: Floats = np.zeros(0)
        self.sweeps = 0

    @classmethod
    def build(
        cls,
        observation_space: gymnasium.Space[Any],
        num_actions: int,
        metadata: Mapping[str, Any],
        settings: Mapping[str, Any],
        seed: int,
    ) -> Self:
        """Build the agent for an environment.

        Raises:
            AgentError: for observations that are no finite state, or settings that do not fit.
        """
        sizes = requirements.state_sizes(observation_space)
        return cls(sizes, num_actions, seed, **requirements.read(settings))

    # -- the loop ----------------------------------------------------------------------------------

    def begin(self, *, seed: int) -> None:
        """Begin an episode in one world."""
        self.begin_batch(seeds=[seed])

    def act(self, observation: Observation, *, greedy: bool = True) -> int:
        """Plan over all states with everything learned so far, and choose."""
        return int(self.act_batch(of_one_world(observation), greedy=greedy)[0])

    def feedback(
        self, observation: Observation, reward: float, terminated: bool, truncated: bool
    ) -> None:
        """Count what the action did, and infer anew what that says of the world, unless frozen."""
        ends = np.array([terminated]), np.array([truncated])
        self.feedback_batch(of_one_world(observation), np.array([reward]), *ends)

    # -- in several worlds at once -----------------------------------------------------------------

    def begin_batch(self, *, seeds: Sequence[int | None]) -> None:
        """Begin an episode in the worlds that have a seed: what is known is the same in all."""
        super().begin(seed=next(seed for seed in reversed(seeds) if seed is not None))
        if len(seeds) != len(self.states):
            self.states = np.zeros(len(seeds), np.int64)
            self.actions = np.zeros(len(seeds), np.int64)
            self.drawn += [self._new_draw() for _ in range(len(self.drawn), len(seeds))]
        self.lengths.begin(seeds)
        self.memory.begin(seeds)
        for drawn, seed in zip(self.drawn, seeds, strict=False):
            if seed is not None:
                drawn.forget()

    def _new_draw(self) -> DrawnTables:
        """Tables of another world, not yet drawn."""
        return DrawnTables(self.prediction, hold=math.ceil(1 / max(1 - self.discount, 1e-3)))

    def act_batch(self, observations: Observation, *, greedy: bool = True) -> Ints:
        """Plan for all states, once or on each world's draw; choose in each, `(B,)`."""
        start = time.perf_counter()
        self.states = self._states(observations)
        worlds = range(len(self.states) if self._explores else 1)
        plans = [self.expected_free_energy(world) for world in reversed(worlds)][::-1]
        costs = np.stack([plans[w % len(plans)][state] for w, state in enumerate(self.states)])
        self.actions = self._chosen(costs, greedy)
        self._look_ahead(plans[0])
        self._note(costs[0], 1e3 * (time.perf_counter() - start))
        return self.actions

    def _chosen(self, costs: Floats, greedy: bool) -> Ints:
        """Choose by costs `(B, A)` in each world, `(B,)`.

        What an action tells in a state is told once: it counts for the first world that takes it.
        """
        if len(costs) == 1 or not self.told.any():
            return self._drawn(costs, greedy)
        spent = np.zeros((len(self.told) // self.num_actions, self.num_actions))
        told = self.told.reshape(spent.shape)
        found = np.zeros(len(costs), np.int64)
        for world, state in enumerate(self.states):
            found[world] = self._drawn(costs[world : world + 1] + spent[state], greedy)[0]
            spent[state, found[world]] = told[state, found[world]]
        return found

    def _drawn(self, costs: Floats, greedy: bool) -> Ints:
        """Draw one of the best actions by costs `(B, A)`, or one by softmax(-precision cost)."""
        excess = torch.from_numpy(costs - costs.min(1, keepdims=True))
        weights = (excess < TIED).double() if greedy else (-self.precision * excess).softmax(1)
        found: Ints = torch.multinomial(weights, 1, generator=self.generator)[:, 0].numpy()
        return found

    @property
    def _explores(self) -> bool:
        """Whether plans are made on tables that are drawn."""
        return self.draws and not self.frozen

    def expected_free_energy(self, world: int = 0) -> Floats:
        """Expected free energy of every action in every state, by one world's draw, `(S, A)` nats."""
        learns = self.novelty and not self.frozen
        chances = self.prediction.chances
        values = self.values[learns]
        if self._explores:
            chances = self.drawn[world].current(self.generator)
            values = self.drawn[world].values
        steps = Steps.lay_out(
            chances,
            self.transitions,
            self.outcomes,
            scale=self.reward_scale,
            discount=self.lengths.discount(self.discount) if self.frozen else self.discount,
        )
        told = np.maximum(self.prediction.novelty - self.least_novelty, 0.0)
        self.told = told if learns else np.zeros_like(told)
        cost = steps.cost - self.told
        limits = self.max_iterations * (FINAL if self.frozen else 1), self.tolerance
        found, self.sweeps = iterate(values, cost, *steps.after, *limits)
        self.immediate = steps.cost
        self.ahead = steps
        return found

    def _look_ahead(self, found: Floats) -> None:
        """Sum what the plan will tell, from every state, of costs `(S, A)`; it is shown beside their total."""
        if self.ahead is None or not self.told.any():
            self.told_ahead[:] = 0.0
            return
        limits = self.max_iterations, self.tolerance
        follow(self.told_ahead, self.told, found.argmin(1), *self.ahead.after, *limits)

    def feedback_batch(
        self,
        observations: Observation,
        rewards: npt.NDArray[np.float64],
        terminated: npt.NDArray[np.bool_],
        truncated: npt.NDArray[np.bool_],
    ) -> None:
        """Count what the actions did, `(B,)`, and infer anew what that says of the world, unless frozen."""
        if self.frozen:
            return
        start = time.perf_counter()
        require_finite("agent 'discrete': reward", rewards)
        self.lengths.count(truncated)
        rows = []
        told = (self.states, self.actions, self._states(observations), rewards, terminated)
        for world, (state, action, reached, reward, ended) in enumerate(zip(*told, strict=True)):
            row, place = self.transitions.add(int(state), int(action), int(reached))
            self.outcomes.add(row, place, int(reached), float(reward), bool(ended))
            self.memory.count(world, int(state), row, (int(reached), float(reward), bool(ended)))
            rows.append(row)
        self._infer(np.unique(rows))
        self.scalars["speed/ms_inference"] = 1e3 * (time.perf_counter() - start)

    def _infer(self, rows: Ints) -> None:
        """Infer what all rows share where the life has grown enough, else predict some rows anew."""
        steps = self.transitions.steps
        if steps <= FEW or steps >= (1 + self.growth) * self.steps_at_inference:
            self.world.infer(self.generator, self.num_sweeps)
            self.steps_at_inference = steps
            self.prediction.refresh()
        elif self.world.effects.shape[-1] - 1 < len(self.transitions.effects):
            self.world.meet(self.generator)
            self.prediction.refresh()
        else:
            self.prediction.update(rows)
        for drawn in self.drawn if self.draws else ():
            drawn.redraw(rows, self.generator)

    def _states(self, observations: Observation) -> Ints:
        """Numbers of the states that are seen, `(B,)`."""
        seen = [np.asarray(observations[name]) for name in self.streams]
        parts = np.concatenate([value.reshape(len(value), -1) for value in seen], 1)
        return requirements.state_numbers(parts, self.sizes)

    @property
    def state(self) -> int:
        """The state of the first world."""
        return int(self.states[0])

    @property
    def action(self) -> int:
        """What was chosen in the first world."""
        return int(self.actions[0])

    # -- diagnostics, persistence ------------------------------------------------------------------

    def _note(self, costs: Floats, milliseconds: float) -> None:
        """Keep the numbers of one plan."""
        kinds = self.world.kinds.mean(0)
        self.costs = costs
        named = {"efe": {"total": costs, **self._plan_terms()}, "efe_step": self._step_terms()}
        for group, terms in named.items():
            self.scalars |= {f"{group}/{n}": float(term[self.action]) for n, term in terms.items()}
        self.scalars |= {
            "efe/this_step": self.scalars["efe_step/total"],
            "efe/later_steps": self.scalars["efe/total"] - self.scalars["efe_step/total"],
            "planning/iterations": float(self.sweeps),
            "learning/fixed": float(kinds[0]),
            **{f"learning/{kind}": float(kinds[n]) for n, kind in ((1, "usual"), (3, "slips"))},
            "learning/rows_visited": float(len(self.transitions.visited)),
            "learning/log_joint": self.world.log_joint,
            "speed/ms_planning": milliseconds,
        }

    @property
    def _rows(self) -> slice:
        """Rows of the state of the first world."""
        return slice(self.state * self.num_actions, (self.state + 1) * self.num_actions)

    def _step_terms(self) -> dict[str, Floats]:
        """What this step costs by each action, `(A,)` nats, and what that is made of."""
        risk = self.immediate[self._rows]
        novelty = self.told[self._rows]
        return {"total": risk - novelty, "risk": risk, "novelty": novelty}

    def _plan_terms(self) -> dict[str, Floats]:
        """What each action with all that follows is expected to cost and to tell, `(A,)` nats.

        The state is seen, so that nothing is told of it beforehand: `information_gain` is none.
        """
        novelty = self.told[self._rows].copy()
        if self.ahead is not None:
            later = self.told_ahead[self.ahead.following[self._rows]]
            novelty += (self.ahead.weight[self._rows] * later).sum(1)
            novelty += self.ahead.anywhere[self._rows] * self.told_ahead.mean()
        none = np.zeros_like(novelty)
        cross = self.costs + novelty
        return {
            "neg_expected_log_preference": cross,
            "risk": cross,
            "ambiguity": none,
            "information_gain": none,
            "novelty": novelty,
        }

    def explanation(self, names: Sequence[str] | None = None) -> Explanation | None:
        """What the last choice was among, with the terms of whole plans."""
        if not len(self.costs):
            return None
        labels = names or [str(action) for action in range(self.num_actions)]
        return Explanation(labels, self.costs, self._plan_terms(), self.action)

    def report(self, *, pictures: bool = False) -> StepReport:
        """Report the terms of the action taken, what kind of world it seems to be, and times."""
        return StepReport(scalars=dict(self.scalars))

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit."""
        return {
            **super().state_dict(),
            "transitions": self.transitions.state_dict(),
            "outcomes": self.outcomes.state_dict(),
            "world": self.world.state_dict(),
            "prediction": torch.from_numpy(self.prediction.chances.copy()),
            "novelty": torch.from_numpy(self.prediction.novelty.copy()),
            "drawn": [drawn.state_dict() for drawn in self.drawn],
            "told_ahead": torch.from_numpy(self.told_ahead.copy()),
            "values": torch.from_numpy(np.stack([self.values[False], self.values[True]])),
            "steps_at_inference": self.steps_at_inference,
            "lengths": self.lengths.state_dict(),
            "state": self.states.tolist(),
            "action": self.actions.tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state)
        self._forget_plans(len(self.told_ahead))
        self.transitions.load_state_dict(state["transitions"])
        self.outcomes.load_state_dict(state["outcomes"])
        self.world.load_state_dict(state["world"])
        self.prediction.chances = state["prediction"].numpy().copy()
        self.prediction.novelty = state["novelty"].numpy().copy()
        if "drawn" in state:  # what was stored before tables were drawn has none
            self.drawn = [self._new_draw() for _ in state["drawn"]]
            for number, drawn in enumerate(self.drawn):
                drawn.load_state_dict(state["drawn"][number])
            self.told_ahead = state["told_ahead"].numpy().copy()
        exploiting, exploring = state["values"].numpy().copy()
        self.values = {False: exploiting, True: exploring}
        self.steps_at_inference = int(state["steps_at_inference"])
        if "lengths" in state:  # nor has it these
            self.lengths.load_state_dict(state["lengths"])
        self.states = np.atleast_1d(np.array(state["state"], np.int64))
        self.actions = np.atleast_1d(np.array(state["action"], np.int64))
