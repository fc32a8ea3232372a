"""The hierarchical agent: particles over the full history of a grid world that it learns.

    fast    event, pose, hand at every step
    slow    the episode's map; tables of motion, interaction and outcome, learned across episodes

`act` takes the observation in, re-infers the whole history of the episode by sweeps, plans by
expected free energy, and chooses among all actions.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import torch

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.explain import Explanation
from aif_dcpc.agents.gridworld import requirements
from aif_dcpc.agents.gridworld.doubts import doubts_of
from aif_dcpc.agents.gridworld.filter import EpisodeFilter
from aif_dcpc.agents.gridworld.knowledge import knowledge_of
from aif_dcpc.agents.gridworld.model.categorical import draw_categorical
from aif_dcpc.agents.gridworld.model.counts import NOTHING, Counts, outcome_code
from aif_dcpc.agents.gridworld.pictures import Tile, map_picture, token_legend, token_tiles
from aif_dcpc.agents.gridworld.planning.belief import Belief, belief_of
from aif_dcpc.agents.gridworld.planning.plan import Going, Plan
from aif_dcpc.agents.gridworld.planning.planner import Planner
from aif_dcpc.agents.gridworld.replay import EpisodeStore, StoredEpisode
from aif_dcpc.agents.gridworld.running import Running
from aif_dcpc.agents.gridworld.settings import HierarchicalSettings, hierarchical_settings
from aif_dcpc.agents.protocol import BaseAgent, EgocentricView, Observation, StepReport
from aif_dcpc.inference.model.resampling import unique_ancestors

TRY_WITH = {"map_size": 12, "inference": {"num_particles": 4, "num_sweeps": 1}}  # quick to try
# of what `state_dict` gives; 1: maps of a fixed size, 2: tables by token, 3: no layouts, 4: no places, 5: all
# begin at one place, 6: no sizes of rewards, 7: no places of things seen twice, 8: what has gone moved
FORMAT = 9
NEWS = 1.0  # nats that its action must promise to teach, else an agent without reward is stuck
COLLAPSE = 40  # so many equal actions in a row count as a collapsed policy


class HierarchicalAgent(BaseAgent):
    """Follows its episode by particles, and chooses actions by expected free energy.

    Args:
        view: geometry of the view.
        num_actions: how many actions there are.
        settings: checked settings.
        seed: of every random choice.

    Attributes:
        tiles: raw token -> picture of it, for pictures alone: whoever shows them may fill it.
    """

    def __init__(
        self, view: EgocentricView, num_actions: int, settings: HierarchicalSettings, seed: int
    ) -> None:
        super().__init__(num_actions, seed)
        self.settings = settings
        self.episode_filter = EpisodeFilter(view, num_actions, settings, self.generator)
        self.planner = Planner(settings.preferences, settings.search)
        self.store = EpisodeStore(settings.replay.capacity)
        self.stored_counts: list[Counts] = []
        self.action = 0
        self.rewarded = False
        self.stuck = False
        self.outcome = NOTHING
        self.reward = 0.0
        self.faced = view.unseen_token
        self.going = Going()
        self.plan: Plan | None = None
        self.belief: Belief | None = None
        self.over = False
        self.tiles: dict[int, Tile] = {}
        self.recent: deque[int] = deque(maxlen=COLLAPSE)
        self.milliseconds: dict[str, float] = {}
        self.log_joint: float | None = None

    @property
    def knowledge(self) -> tuple[str, ...]:
        """All that it is given, in sentences."""
        return knowledge_of(self.episode_filter.view, self.settings)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What it has not understood after many episodes, in sentences; none where all is well."""
        return doubts_of(self.episode_filter.lessons)

    @classmethod
    def build(
        cls,
        observation_space: gymnasium.Space[Any],
        num_actions: int,
        metadata: Mapping[str, Any],
        settings: Mapping[str, Any],
        seed: int,
    ) -> "HierarchicalAgent":
        """Check that the observations are an egocentric symbolic view, and build the agent.

        Raises:
            AgentError: for observations that it cannot model, or settings that do not fit.
        """
        view = requirements.view_of(observation_space, metadata)
        return cls(view, num_actions, hierarchical_settings(settings), seed)

    # -- the loop ----------------------------------------------------------------------------------

    def begin(self, *, seed: int) -> None:
        """Forget the running episode, keep everything learned, seed all choices of the new one."""
        super().begin(seed=seed)
        self.episode_filter.forget()
        self.planner.intended = []
        self.planner.anew = None
        self.going = Going()
        self.action = 0
        self.outcome = NOTHING
        self.reward = 0.0
        self.faced = self.episode_filter.view.unseen_token
        self.over = False

    @torch.inference_mode()
    def act(self, observation: Observation, *, greedy: bool = True) -> int:
        """Append the observation, re-infer the full history, plan, and return an action."""
        start = time.perf_counter()
        self._observe(observation)
        inferred = time.perf_counter()
        total = self.episode_filter.counts() + self.episode_filter.now.grid.past
        self.belief = self._recalling(total)
        tables = self.episode_filter.posterior_tables(total)
        geometry = self.episode_filter.now.grid.geometry
        self.planner.learns = not self.frozen
        self.planner.anew = self.planner.anew if self._hopes else None
        self.planner.turn = len(self.episode_filter.episode)
        self.plan = self.planner.plan(self.belief, tables, geometry)
        self.faced = self.episode_filter.faced(self.belief)
        self._hope(self.plan)
        self.action = self._choose(self.plan, greedy)
        self.recent.append(self.action)
        planned = time.perf_counter()
        self.milliseconds.update(
            inference=1e3 * (inferred - start), planning=1e3 * (planned - inferred)
        )
        return self.action

    def _observe(self, observation: Observation) -> None:
        """Take in what was observed after the step before."""
        self.episode_filter.learns = not self.frozen
        step = self.action, self.outcome, self.faced, self.reward
        self.episode_filter.observe(observation, *step)

    @property
    def _hopes(self) -> bool:
        """Whether nothing was ever rewarded, and it may learn what is."""
        return not (self.rewarded or self.frozen)

    def _hope(self, plan: Plan) -> None:
        """As long as nothing was ever rewarded, an ending leads back here after as many steps as it took."""
        self.planner.anew = None
        if self._hopes:
            preferences = self.settings.preferences
            later = preferences.discount ** len(self.episode_filter.episode)
            here = -float((plan.risk + plan.ambiguity).min())
            self.planner.anew = (1 - later) * preferences.log_preference_of_never + later * here

    def _belief(self, total: Counts) -> Belief:
        """The present state of the world, given expected counts of all episodes."""
        now = self.episode_filter.now
        return belief_of(now.grid, now.particles, now.history, now.weights, total)

    def _recalling(self, total: Counts) -> Belief:
        """The same, with what earlier episodes say of cells not seen yet, and with what moves by itself."""
        belief = self.episode_filter.with_layouts(self._belief(total))
        return self.episode_filter.with_wanderers(belief)

    def _choose(self, plan: Plan, greedy: bool) -> int:
        """Take the least expected free energy (ties at random), or draw by softmax(-precision EFE).

        Who is stuck has nothing to lose: what can be learned is all that counts then. Else an earlier plan
        that costs less is followed.
        """
        lost = self.stuck and self._hopes
        total = -plan.epistemic if lost else plan.expected_free_energy
        if greedy and not lost and self.belief is not None:
            left = self.going.follow(plan.course, float(total.min()), self.belief, self.outcome)
            if left is not None:
                return left
        scores = torch.from_numpy(-self.settings.precision * (total - total.min()))
        weights = (scores > -1e-3).double() if greedy else scores.softmax(0)
        return int(draw_categorical(weights, self.generator))

    @torch.inference_mode()
    def feedback(
        self, observation: Observation, reward: float, terminated: bool, truncated: bool
    ) -> None:
        """Take in what the last action led to; at an episode's end learn from it, unless frozen."""
        self.outcome = outcome_code(reward, terminated)
        self.reward = float(reward)
        self.rewarded = self.rewarded or (reward > 0 and not self.frozen)
        if not (terminated or truncated):
            return
        start = time.perf_counter()
        self.over = True
        self._observe(observation)
        if not self.frozen:
            self.stuck = self.stuck or (truncated and self._idles())
            self._learn()
        self.milliseconds["learning"] = 1e3 * (time.perf_counter() - start)

    def _idles(self) -> bool:
        """Whether nothing was ever rewarded, and the last action was not meant to teach anything either.

        Bad luck may have taught that an action always ends in a penalty: it would never be tried again.
        """
        if self.rewarded or self.plan is None:
            return False
        return float(self.plan.epistemic[self.action]) < NEWS

    # -- learning ----------------------------------------------------------------------------------

    def _learn(self) -> None:
        """Store the episode with its particles, and infer some stored ones afresh.

        The counts of a stored episode are replaced when it is inferred afresh, never added twice.
        """
        now = self.episode_filter.now
        self.log_joint = now.log_joint
        counts = self.episode_filter.counts()
        log_weights = now.state.log_weights[:, 0]
        learned = StoredEpisode(self.episode_filter.episode, now.particles.events, log_weights)
        place = self.store.add(learned)
        self.stored_counts[place : place + 1] = [counts]
        belief = self._belief(counts + now.grid.past)
        self.episode_filter.layouts.keep(self.episode_filter.start_of(belief))
        self.episode_filter.past = now.grid.past + counts
        if self.episode_filter.lessons.keep(place, self.episode_filter.latest_deeds()):
            self._count_anew()
        for _ in range(min(self.settings.replay.refreshed, len(self.store) - 1)):
            self._reinfer(int(torch.randint(len(self.store), (1,), generator=self.generator)))

    def _count_anew(self) -> None:
        """Count the outcomes of all stored episodes under the task as it is understood now."""
        episode_filter = self.episode_filter
        vocabulary = episode_filter.vocabulary
        for place, deeds in enumerate(episode_filter.lessons.deeds):
            counts = self.stored_counts[place].resized(self.num_actions, vocabulary)
            self.stored_counts[place] = replace(counts, outcome=episode_filter.outcomes_of(deeds))
        every = torch.stack([counts.outcome for counts in self.stored_counts]).sum(0)
        episode_filter.past = replace(episode_filter.past, outcome=every)

    def _reinfer(self, place: int) -> None:
        """Infer the stored episode in a place afresh, given what all others say."""
        stored = self.store.get(place)
        episode_filter = self.episode_filter
        vocabulary = episode_filter.vocabulary
        old = self.stored_counts[place].resized(self.num_actions, vocabulary)
        episode_filter.past = episode_filter.past.resized(self.num_actions, vocabulary) - old
        events, counts = episode_filter.reinfer(
            stored.episode, stored.events, self.settings.replay.sweeps
        )
        self.stored_counts[place] = counts.average(stored.log_weights.softmax(0))
        episode_filter.past = episode_filter.past + self.stored_counts[place]
        self.store.put(place, StoredEpisode(stored.episode, events, stored.log_weights))

    # -- diagnostics -------------------------------------------------------------------------------

    def report(self, *, pictures: bool = False) -> StepReport:
        """Report on inference, the terms of the chosen action, and times; draw the inferred map."""
        if self.plan is None or self.belief is None or self.episode_filter.running is None:
            return StepReport()
        scalars = {
            **self._inference_scalars(self.episode_filter.running),
            **self._planning_scalars(self.plan),
            **({} if self.log_joint is None else {"learning/log_joint": self.log_joint}),
            **{f"speed/ms_{name}": value for name, value in self.milliseconds.items()},
            "speed/ms_per_sweep": self.episode_filter.ms_per_sweep,
        }
        if not pictures:
            return StepReport(scalars=scalars)
        tokens = self.episode_filter.vocabulary.tokens.members
        return StepReport(
            scalars=scalars,
            pictures={"belief/map": self._map(self.belief, self.plan)},
            particles={"pose": self.belief.pose},
            legend=token_legend(tokens, self.tiles),
        )

    @torch.inference_mode()
    def _map(self, belief: Belief, plan: Plan) -> Tile:
        """Draw the map with the plan; after the last step of an episode with what came of it."""
        path = plan.path
        if self.over:
            total = self.episode_filter.counts() + self.episode_filter.now.grid.past
            belief = self.episode_filter.with_wanderers(self._belief(total))
            path = path[:0]
        tokens = self.episode_filter.vocabulary.tokens.members
        return map_picture(belief, token_tiles(tokens, self.tiles, belief.cells.shape[1]), path)

    def _inference_scalars(self, now: Running) -> dict[str, float]:
        accepted = self.episode_filter.acceptance
        return {
            "inference/free_energy": now.free_energy,
            "inference/ess": now.ess,
            "inference/unique_ancestors": float(unique_ancestors(now.state)[0]),
            **{f"inference/acceptance/{site}": share for site, share in accepted.items()},
        }

    def _planning_scalars(self, plan: Plan) -> dict[str, float]:
        chosen = self.action
        collapsed = len(self.recent) == COLLAPSE and len(set(self.recent)) == 1
        return {
            "efe/total": float(plan.expected_free_energy[chosen]),
            "efe/risk": float(plan.risk[chosen]),
            "efe/ambiguity": float(plan.ambiguity[chosen]),
            "efe/information_gain": float(plan.information_gain[chosen]),
            "efe/novelty": float(plan.novelty[chosen]),
            "efe/policy_collapse": float(collapsed),
            "efe/configurations": float(plan.num_abstract_states),
        }

    def explanation(self, names: Sequence[str] | None = None) -> Explanation | None:
        """What the last choice was among, each action followed by the best policy; None before the first."""
        plan = self.plan
        if plan is None:
            return None
        terms = {
            "neg_expected_log_preference": plan.risk + plan.ambiguity,
            "risk": plan.risk,
            "ambiguity": plan.ambiguity,
            "information_gain": plan.information_gain,
            "novelty": plan.novelty,
        }
        labels = names or [str(action) for action in range(self.num_actions)]
        return Explanation(labels, plan.expected_free_energy, terms, self.action)

    # -- persistence -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit."""
        return {
            "format": FORMAT,
            "tracker": self.episode_filter.state_dict(),
            "store": self.store.state_dict(),
            "stored_counts": [dict(vars(c)) for c in self.stored_counts],
            "generator": self.generator.get_state(),
            "action": self.action,
            "outcome": self.outcome,
            "reward": self.reward,
            "faced": self.faced,
            "rewarded": self.rewarded,
            "stuck": self.stuck,
            "anew": self.planner.anew,
            "frozen": self.frozen,
            "going": self.going.state_dict(),
            "recent": list(self.recent),
            "intended": [
                [hand, passed, [list(change) for change in changes]]
                for hand, passed, changes in self.planner.intended
            ],
            "log_joint": self.log_joint,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            AgentError: an earlier version gave it, whose tables meant something else.
        """
        if state.get("format", 1) != FORMAT:
            raise AgentError(
                f"this state of agent 'hierarchical' has format {state.get('format', 1)}, this "
                f"version reads format {FORMAT}: its tables have another layout; train the agent "
                "anew, or use the version of the package that made it."
            )
        self.episode_filter.load_state_dict(state["tracker"])
        self.store.load_state_dict(state["store"])
        self.stored_counts = [Counts(**c) for c in state["stored_counts"]]
        self.generator.set_state(state["generator"])
        self.action = int(state["action"])
        self.outcome = int(state["outcome"])
        self.reward = float(state["reward"])
        self.faced = int(state["faced"])
        self.rewarded = bool(state["rewarded"])
        self.stuck = bool(state["stuck"])
        self.planner.anew = state["anew"]
        self.frozen = bool(state["frozen"])
        self.going.load_state_dict(state["going"])
        self.recent = deque(state["recent"], maxlen=COLLAPSE)
        self.log_joint = state["log_joint"]
        self.planner.intended = [
            (hand, passed, tuple((y, x, token) for y, x, token in changes))
            for hand, passed, changes in state["intended"]
        ]
        self.plan = None
        self.belief = None


__all__ = ["HierarchicalAgent"]
