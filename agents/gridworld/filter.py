"""Following the running episode: vocabulary, history, particles.

Each new observation is taken in by the arrival proposal; then sweeps re-infer the full latent
history of the episode.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aif_dcpc.agents.arrays import Floats, Ints
from aif_dcpc.agents.gridworld.effect_discovery import suspected_effect
from aif_dcpc.agents.gridworld.model.conditionals import Cloud, Grid, map_belief, prior_cloud
from aif_dcpc.agents.gridworld.model.counts import NOTHING, Counts, Tables, no_counts
from aif_dcpc.agents.gridworld.model.geometry import geometry_of
from aif_dcpc.agents.gridworld.model.graph import GridModel, cloud_of, data_of, slice_of, values_of
from aif_dcpc.agents.gridworld.model.paths import Path, Record, effects_of
from aif_dcpc.agents.gridworld.model.vocabulary import new_vocabulary
from aif_dcpc.agents.gridworld.planning.belief import Belief, Knowledge
from aif_dcpc.agents.gridworld.planning.visibility import Transparency
from aif_dcpc.agents.gridworld.replay import Episode
from aif_dcpc.agents.gridworld.settings import HierarchicalSettings
from aif_dcpc.agents.gridworld.tables.prior import Summary
from aif_dcpc.agents.protocol import EgocentricView, Observation
from aif_dcpc.inference import DCPC, State
from aif_dcpc.inference.model.densities import log_joint
from aif_dcpc.inference.model.resampling import ess, resample_lineages

RECENT = 5  # slices over which sightings of a new token are counted
SIGHTINGS = 2  # needed where misreading is common
RARE_MISREADING = 0.02


@dataclass(frozen=True)
class Running:
    """The running episode: observations in codes, the model, the engine's cloud.

    Attributes:
        record: the history.
        grid: the fixed parts of the model.
        engine: infers.
        state: the engine's cloud, K particles.
    """

    record: Record
    grid: Grid
    engine: DCPC
    state: State

    @property
    def cloud(self) -> Cloud:
        """The particles."""
        return cloud_of(self.state.values)

    @property
    def weights(self) -> Tensor:
        """Normalised `(K,)`."""
        return self.state.weights()[:, 0]

    @property
    def free_energy(self) -> float:
        """Minus the sum of log mean incremental weights, nats."""
        return -float(self.state.log_evidence)

    @property
    def ess(self) -> float:
        """Effective sample size of the weights."""
        return float(ess(self.state.log_weights)[0])


class Tracker:
    """Particles over the full history of the running episode.

    Args:
        view: geometry of the view.
        num_actions: A.
        settings: of the agent.
        generator: source of all randomness.
    """

    def __init__(
        self,
        view: EgocentricView,
        num_actions: int,
        settings: HierarchicalSettings,
        generator: torch.Generator,
    ) -> None:
        self.view = view
        self.num_actions = num_actions
        self.settings = settings
        self.generator = generator
        self.geometry = geometry_of(view, settings.map_size)
        self.vocabulary = new_vocabulary(view.empty_hand_token)
        self.past = no_counts(num_actions, self.vocabulary)
        self.transparency = Transparency.new(self.vocabulary.tokens.capacity)
        self.summaries = Summary(0), Summary(NOTHING)
        self.episode = Episode()
        self.running: Running | None = None
        self.misread = 0.0
        self.settled = 0
        self.ms_per_sweep = 0.0
        self.acceptance: dict[str, float] = {}

    @property
    def now(self) -> Running:
        """The running episode.

        Raises:
            RuntimeError: before the first observation.
        """
        if self.running is None:
            raise RuntimeError("no episode is running: call act with the first observation.")
        return self.running

    # -- arrival -----------------------------------------------------------------------------------

    def take_in(self, observation: Observation, action: int, outcome: int) -> None:
        """Append what was observed after an action, and sweep."""
        view = np.asarray(observation["view"]).ravel()
        heading = int(observation["heading"])
        carried = int(observation["carried"])
        self.episode.append(action, heading, carried, outcome, view)
        self.vocabulary.hands.add(carried)
        news = self._admit()
        record = self.episode.record(self.vocabulary, self.view.unseen_token)
        self.transparency.update(record.view[-1].numpy(), self.geometry)
        for end in range(max(len(record) - RECENT, 2) if news else len(record), len(record) + 1):
            effect = suspected_effect(record.head(end), self.geometry, self.view.columns)
            if effect is not None:
                self.vocabulary.register(effect)
        self._arrive(record)
        start = time.perf_counter()
        sweeps = self.settings.inference.num_sweeps
        for _ in range(sweeps):
            self.sweep()
        self.ms_per_sweep = 1e3 * (time.perf_counter() - start) / max(sweeps, 1)

    def _admit(self) -> bool:
        """Admit tokens seen often enough lately not to be misreadings; where misreading is rare, once is enough.

        They are numbered in the order of their first sighting, so that renaming tokens changes
        nothing.
        """
        recent = np.concatenate(self.episode.view[-RECENT:])
        tokens, first, counts = np.unique(
            recent[recent != self.view.unseen_token], return_index=True, return_counts=True
        )
        tokens = tokens[first.argsort()]
        counts = counts[first.argsort()]
        needed = 1 if self.misread < RARE_MISREADING else SIGHTINGS
        known = len(self.vocabulary.tokens.members)
        for token in tokens[counts >= needed]:
            self.vocabulary.tokens.add(int(token))
        self.transparency.grow(self.vocabulary.tokens.capacity)
        return len(self.vocabulary.tokens.members) > known

    def grid(self) -> Grid:
        """The model as it stands now."""
        self.past = self.past.resized(self.num_actions, self.vocabulary)
        effects = effects_of(self.geometry, self.vocabulary)
        return Grid(
            self.geometry,
            effects,
            self.settings.prior,
            self.past,
            self.vocabulary.tokens.capacity + 1,
        )

    def _arrive(self, record: Record) -> None:
        before = self.running
        if before is None:
            self.running = self._start(record)
            return
        if self._grown(before):
            before = self._regrown(before, record.head(len(before.record)))
        state = before.engine.append(before.state, slice_of(record), self.generator)
        self.running = replace(before, record=record, state=state)

    def _start(self, record: Record) -> Running:
        """The engine on slice 0, its cloud weighed by how well stored experience predicted the first view."""
        first = self._engine_on(record)
        cloud, gain = prior_cloud(
            first.grid, record, self.settings.inference.num_particles, self.generator
        )
        evidence = torch.logsumexp(gain, 0) - np.log(len(gain))
        state = first.state.with_values(values_of(cloud))
        state = resample_lineages(
            state.replace(log_weights=gain[:, None], log_evidence=evidence[None]), self.generator
        )
        fresh = torch.arange(len(gain))[:, None]
        return replace(first, state=state.replace(ancestors=fresh))

    def _engine_on(self, record: Record) -> Running:
        grid = self.grid()
        self.settled = len(self.vocabulary.tokens.members)
        engine = DCPC(GridModel(grid).build(), num_particles=self.settings.inference.num_particles)
        return Running(record, grid, engine, engine.init(data_of(record.head(1)), seed=0))

    def _grown(self, before: Running) -> bool:
        """Whether the vocabulary has grown since the engine was set up, or tokens were admitted in hindsight."""
        new = self.vocabulary
        old = before.grid
        sizes = new.tokens.capacity, new.hands.capacity, new.max_events
        known = int(old.effects.known.sum()) == new.num_events and self.settled == len(
            new.tokens.members
        )
        return sizes != tuple(old.past.transition.shape[1:]) or not known

    def _regrown(self, before: Running, record: Record) -> Running:
        """The same particles under the grown vocabulary, all tables drawn anew given events and map."""
        after = self._engine_on(record)
        cloud = before.cloud
        tables = after.grid.draw_all_tables(cloud.events, cloud.initial, record, self.generator)
        return replace(
            after, state=self._state_on(after, before.state, replace(cloud, tables=tables), record)
        )

    @staticmethod
    def _state_on(after: Running, old: State, cloud: Cloud, record: Record) -> State:
        data = {name: value[None] for name, value in data_of(record).items()}
        return after.state.replace(
            values={**data, **values_of(cloud)},
            length=len(record),
            log_weights=old.log_weights,
            ancestors=old.ancestors,
            log_evidence=old.log_evidence,
            sweeps=old.sweeps,
            cache={},
        )

    # -- sweeps ------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Re-infer the history of the running episode once."""
        now = self.now
        state, info = now.engine.sweep(now.state, self.generator, adapt=False, log_joint=False)
        self.acceptance = {site: float(value) for site, value in info.acceptance.items()}
        self.running = replace(now, state=state)

    def log_joint(self) -> float:
        """log p(data, particles), averaged over particles, nats."""
        now = self.now
        return float((now.weights * log_joint(now.state)[:, 0]).sum())

    def refresh(self, episode: Episode, events: Tensor, num_sweeps: int) -> tuple[Tensor, Counts]:
        """Infer a stored episode afresh, its own old counts taken out of `past` by the caller.

        Returns:
            new event sequences `(K, T)` and the episode's counts per particle.
        """
        record = episode.record(self.vocabulary, self.view.unseen_token)
        now = self._engine_on(record)
        cloud = now.grid.revive(events, record, self.generator)
        state = self._state_on(now, now.state, cloud, record)
        for _ in range(num_sweeps):
            state, _ = now.engine.sweep(state, self.generator, adapt=False, log_joint=False)
        cloud = cloud_of(state.values)
        return cloud.events, now.grid.counts(cloud.events, cloud.initial, record)

    def counts(self) -> Counts:
        """Expected counts of the running episode."""
        now = self.now
        return now.grid.counts(now.cloud.events, now.cloud.initial, now.record).average(now.weights)

    # -- what the planner is told ------------------------------------------------------------------

    def belief(self, total: Counts) -> Belief:
        """The present state of the world, particles averaged."""
        now = self.now
        path, _, _ = now.grid.trace(now.cloud.events, now.record)
        best = int(now.weights.argmax())
        cells = map_belief(now.grid, now.cloud, now.record, now.weights, total)
        pose = torch.cat(
            [path.position[:, -1], now.record.heading[-1].expand(len(now.weights), 1)], 1
        )
        return Belief(
            cells=cells.double().numpy(),
            unseen=now.grid.prior.mean_token_prior(total).double().numpy(),
            seen=self._seen(path, best),
            pose=pose.numpy(),
            weights=now.weights.double().numpy(),
            hand=int(path.hand[best, -1]),
            visited=_visited(path, now.record, best),
        )

    def _seen(self, path: Path, best: int) -> npt.NDArray[np.bool_]:
        now = self.now
        torus = self.geometry.torus
        sights = now.grid.sightings(now.record)
        anchor = path.anchor[best]
        seen = np.zeros(self.geometry.size**2, dtype=bool)
        seen[torus.cell(anchor[sights.time] + sights.shift).numpy()] = True
        seen[torus.cell(anchor + torus.here).numpy()] = True
        return seen

    def knowledge(self, total: Counts) -> Knowledge:
        """The tables, given expected counts of all episodes."""
        grid = self.now.grid
        known = self.vocabulary.num_events
        transition, newness, transition_again = self.summaries[0].update(
            total.transition, grid.events
        )
        outcome, outcome_newness, outcome_again = self.summaries[1].update(
            total.outcome, grid.outcomes
        )
        effects = grid.effects
        self.misread = float(grid.prior.mean_misread(total))
        return Knowledge(
            transition=_folded(transition, known),
            transition_again=_folded(transition_again, known),
            transition_novelty=newness.double().numpy(),
            outcome=outcome.double().numpy(),
            outcome_again=outcome_again.double().numpy(),
            outcome_novelty=outcome_newness.double().numpy(),
            transparency=self.transparency.mean(),
            misread=self.misread,
            num_tokens=grid.num_tokens,
            steps=effects.steps[:known].numpy(),
            turns=effects.turns[:known].numpy(),
            writes=effects.writes[:known].numpy(),
            takes=effects.takes[:known].numpy(),
        )

    # -- persistence -------------------------------------------------------------------------------

    def forget(self) -> None:
        """Drop the running episode."""
        self.episode = Episode()
        self.running = None

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors, numbers, lists and dicts."""
        state: dict[str, Any] = {
            "vocabulary": self.vocabulary.state_dict(),
            "past": dict(vars(self.past)),
            "misread": self.misread,
            "settled": self.settled,
            "transparency": torch.as_tensor(self.transparency.counts),
            "summaries": [summary.state_dict() for summary in self.summaries],
            "episode": self.episode.tensors(),
            "running": None,
        }
        if self.running is not None:
            cloud = self.running.cloud
            state_now = self.running.state
            state["running"] = {
                "events": cloud.events,
                "initial": cloud.initial,
                "tables": dict(vars(cloud.tables)),
                "log_weights": state_now.log_weights,
                "ancestors": state_now.ancestors,
                "log_evidence": state_now.log_evidence,
                "sweeps": state_now.sweeps,
            }
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.vocabulary = self.vocabulary.from_state_dict(state["vocabulary"])
        self.past = Counts(**state["past"])
        for summary, kept in zip(self.summaries, state["summaries"], strict=True):
            summary.load_state_dict(kept)
        self.transparency = Transparency(np.array(state["transparency"]))
        self.misread = float(state["misread"])
        self.settled = int(state["settled"])
        self.episode = Episode.from_tensors(state["episode"])
        self.running = None
        saved = state["running"]
        if saved is not None:
            cloud = Cloud(saved["events"], saved["initial"], Tables(**saved["tables"]))
            record = self.episode.record(self.vocabulary, self.view.unseen_token)
            fresh = self._engine_on(record)
            kept = {
                name: saved[name] for name in ("log_weights", "ancestors", "log_evidence", "sweeps")
            }
            self.running = replace(
                fresh, state=self._state_on(fresh, fresh.state.replace(**kept), cloud, record)
            )


def _folded(table: Tensor, known: int) -> Floats:
    """A transition table without its free event slots, whose probability goes to event 0."""
    folded = table.double().numpy()[..., :known].copy()
    folded[..., 0] += table.double().numpy()[..., known:].sum(-1)
    return folded


def _visited(path: Path, record: Record, best: int) -> dict[tuple[int, int, int], Ints]:
    """What was last seen from each pose, on the best particle's path."""
    position = path.position[best].tolist()
    heading = record.heading.tolist()
    view = record.view.numpy()
    return {(*position[t], heading[t]): view[t] for t in range(len(record))}
