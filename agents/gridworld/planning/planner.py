"""Action choice by expected free energy, searched over predicted outcomes.

Policies branch on what happens: within an abstract state by value iteration over poses, between
abstract states along predicted effects. The negative expected free energy of doing `a` in `s` and
the best afterwards is

    Q(s, a) = E[log preference(outcome)] + epistemic(s, a) + discount E[goes on] V(s')

where epistemic = information gain about the map + novelty of the tables. A policy may collect one
informative outcome and then pursues preferences: after it the belief would be another one, and it
is planned afresh. So nothing is counted twice. For the same reason an untried row of a table
promises its prior chance of reward once, in the informative step; elsewhere Q uses the tables as
they would be after a trial that did nothing. Otherwise a plan could play one unknown chance again
and again.

What Q is made of is told by `terms`: the four terms of the best policy after each first action sum to
its expected free energy.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np

from aif_dcpc.agents.arrays import Bools, Floats, Ints
from aif_dcpc.agents.gridworld.model.geometry import Geometry
from aif_dcpc.agents.gridworld.planning.abstract_states import Goal, Search, SearchBudget
from aif_dcpc.agents.gridworld.planning.arrivals import ArrivalTables
from aif_dcpc.agents.gridworld.planning.belief import (
    Belief,
    PosteriorTables,
    cell_information,
)
from aif_dcpc.agents.gridworld.planning.distances import distances
from aif_dcpc.agents.gridworld.planning.in_sight import (
    surprise_at_no_twin,
    surprise_at_none,
    with_sight_of_reward,
)
from aif_dcpc.agents.gridworld.planning.plan import Course, Plan
from aif_dcpc.agents.gridworld.planning.region import Region, region_of, views_remembered
from aif_dcpc.agents.gridworld.planning.stage import (
    Prospect,
    Stage,
    Steps,
    expected_value,
    terms_of_plan,
)
from aif_dcpc.agents.gridworld.planning.terms import Outcomes
from aif_dcpc.agents.gridworld.planning.value_iteration import optimal_value
from aif_dcpc.agents.gridworld.planning.visibility import information_at
from aif_dcpc.agents.preferences import Preferences

PREDICTED_STEPS = 40  # how far ahead a plan is remembered
REACHABLE = 0.1  # events less likely than this do not bring a state within reach


class Planner:
    """Plans from a belief.

    Args:
        preferences: over outcomes.
        budget: of the search.
        tolerance: a change of a value by less is no news, nats.
        max_sweeps: of value iteration, at most.
    """

    def __init__(
        self,
        preferences: Preferences,
        budget: SearchBudget,
        *,
        tolerance: float = 0.03,
        max_sweeps: int = 200,
    ) -> None:
        self.preferences = preferences
        self.budget = budget
        self.tolerance = tolerance
        self.max_sweeps = max_sweeps
        self.intended: list[Goal] = []
        self.turn = 0  # steps of the episode: what is searched by turns
        self.anew: float | None = None  # what an ending is worth, nats; None: no hope
        self.learns = True  # what a step teaches about outcomes serves in later episodes
        self._region: Region | None = None

    @property
    def _log_preference(self) -> Floats:
        """`(O,)` nats, what follows an ending included."""
        preferences = self.preferences
        return preferences.log_preference() + preferences.discount * preferences.tail(self.anew)

    @property
    def _serves(self) -> float:
        """How many times what a step teaches about outcomes counts."""
        return self.preferences.lasting if self.learns else 1.0

    def plan(self, belief: Belief, tables: PosteriorTables, geometry: Geometry) -> Plan:
        """Expected free energy of every action at the present belief."""
        region = self._region = region_of(belief, tables, geometry, self._region)
        search = Search(belief, tables, region, self.budget, self.intended, self.turn)
        roots = search.moment * len(region.cell_ahead) + region.state(belief.pose)
        stage, at = self._stage(search, belief, tables, geometry, roots)
        never = np.full(len(stage.preference), self.preferences.log_preference_of_never)
        pragmatic = self._value(stage, never, np.full(len(never), -np.inf))
        outcomes = Outcomes(tables, self._log_preference)
        prospects = self._prospects_of(stage, outcomes, pragmatic)
        if stage.shows is not None:
            prospects = with_sight_of_reward(prospects, stage.shows, self.preferences, geometry)
        informative = stage.informative(expected_value(prospects))
        value = self._value(stage, pragmatic, informative.max(1))
        now = Steps(stage, outcomes, value)
        scores = np.maximum(now.scores, informative)
        roots, which = np.unique(at, return_inverse=True)
        terms = terms_of_plan(now, prospects, informative, roots)
        mean = np.tensordot(np.bincount(which, belief.weights), terms, 1)
        risk, ambiguity, information, novelty = mean.T
        likeliest = belief.likeliest
        ahead, events = self._predicted(stage, scores, int(at[likeliest]))
        informs = informative.max(1) > now.scores.max(1)
        hoped = self._hoped_for(stage, scores, informs, ahead)
        goals = dict.fromkeys(stage.abstract_state[ahead + hoped].tolist())  # in order, each once
        self.intended = search.goals(list(goals))
        path = region.poses_along(belief.pose[likeliest], events)
        same = stage.abstract_state[ahead] == stage.abstract_state[ahead[0]]
        # by a step that stays nobody can tell whether it did what it was made for
        stays = np.append((path[1:] == path[:-1]).all(1), False)
        stops = informs[ahead] | ~same | stays
        end = 1 + int(stops.argmax()) if stops.any() else len(ahead)
        best = scores[ahead[1:end]]
        course = Course(path[1:end], best.argmax(1).tolist(), -best.max(1))
        return Plan(risk, ambiguity, information, novelty, len(search.found), path, course)

    def _prospects_of(self, stage: Stage, outcomes: Outcomes, pragmatic: Floats) -> list[Prospect]:
        """What may follow an informative step: going on as before, or knowing which twin is wanted."""
        told = stage.told
        asis = Steps(stage, outcomes, pragmatic)
        if told is None:
            return [Prospect(np.ones(len(pragmatic)), asis)]
        prospects = [Prospect(1 - told, asis)]
        for resolved in stage.resolved:
            value = self._value(resolved, pragmatic, np.full(len(pragmatic), -np.inf))
            prospects.append(Prospect(told / len(stage.resolved), Steps(resolved, outcomes, value)))
        return prospects

    def _predicted(self, stage: Stage, scores: Floats, state: int) -> tuple[list[int], list[int]]:
        """States along the best policy, and the events between them, if the likeliest always happens."""
        states = np.arange(len(scores))
        event = stage.flow[states, scores.argmax(1)].argmax(1)
        after = stage.successor[states, event]
        path = [state]
        for _ in range(PREDICTED_STEPS):
            path.append(int(after[path[-1]]))
        return path, event[path[:-1]].tolist()

    def _hoped_for(
        self, stage: Stage, scores: Floats, informs: Bools, ahead: list[int]
    ) -> list[int]:
        """What the first informative step along a path may lead to.

        Most likely nothing comes of it; but it is made for what else may.
        """
        for state in ahead:
            if informs[state]:
                chance = stage.flow[state, scores[state].argmax()]
                hoped: list[int] = stage.successor[state, chance >= REACHABLE].tolist()
                return hoped
        return []

    def _value(self, stage: Stage, start: Floats, value_of_information_step: Floats) -> Floats:
        """Value of every state, if the informative step may be taken once for its value.

        Args:
            stage: one-step quantities.
            start: `(N,)` values to start from.
            value_of_information_step: `(N,)`; minus infinity where there is none.
        """
        return optimal_value(
            *stage.until_left,
            value_of_information_step,
            start,
            self.tolerance,
            self.max_sweeps,
        )

    def _stage(
        self,
        search: Search,
        belief: Belief,
        tables: PosteriorTables,
        geometry: Geometry,
        roots: Ints,
    ) -> tuple[Stage, Ints]:
        """One-step quantities of the states within reach, and where the roots are among them."""
        region = search.region
        chance = np.concatenate([node.chance for node in search.found])
        after, bounds = search.successors()
        kept, number = _within_reach(chance >= REACHABLE, after, roots)
        successor = number[after[kept]]
        successor = np.where(successor >= 0, successor, np.arange(len(kept))[:, None])
        bound = number[bounds[kept]]
        bound = np.where(bound >= 0, bound, successor)
        which, state = np.divmod(kept, len(region.cell_ahead))
        cells = np.stack([node.cells for node in search.found])
        token_ahead = cells[which, region.cell_ahead[state]]  # (N, V)
        situation = np.array([2 * node.hand + node.passed for node in search.found])[which]
        sums, flows = self._expected(token_ahead, situation, tables)
        stage = Stage(
            preference=sums[0],
            information=np.zeros(sums[0].shape),
            novelty=sums[1],
            flow=flows[0],
            preference_without_optimism=sums[2],
            flow_without_optimism=flows[1],
            successor=successor,
            bound=bound,
            abstract_state=which,
            token_ahead=token_ahead,
            situation=situation,
        )
        places = np.append(region.index, geometry.size**2)[region.cell_ahead[state]]
        resolved = [self._arriving(stage, tables, one, places) for one in tables.resolved]
        stage = self._arriving(stage, tables, tables.arrivals, places)
        look = _looking(search, belief, tables, geometry, cells, which, state, number)
        sight = look(cell_information(cells, tables.misread, tables.num_tokens))
        told = 1 - np.exp(-look(surprise_at_no_twin(search, belief, tables))) if resolved else None
        none = surprise_at_none(cells, tables)
        shows = None if none is None else 1 - np.exp(-look(none))
        # of a map that has had its day nothing is gained
        goes_on = stage.flow / self.preferences.discount
        information = np.matmul(goes_on, sight[successor][..., None])[..., 0]
        stage = replace(stage, information=information, resolved=resolved, told=told, shows=shows)
        return stage, number[roots]

    def _arriving(
        self,
        stage: Stage,
        tables: PosteriorTables,
        arrivals: ArrivalTables | None,
        places: Ints,
    ) -> Stage:
        """A stage with what hangs on the token ahead after an event.

        `places` `(N,)` are the map cells ahead.
        """
        if arrivals is None:
            return stage
        ahead = stage.token_ahead[stage.successor]
        passed = stage.situation % 2
        cells = places[stage.successor]
        new = self._serves * arrivals.new(ahead, cells, passed)
        found = []
        for informative in (True, False):
            outcome = arrivals.at(ahead, cells, passed, informative=informative)  # (N, E, O)
            chance = _chance_of_events(
                tables, stage.token_ahead, stage.situation, informative=informative
            )
            predicted = np.einsum("nae,neo->nao", chance, outcome)
            goes_on = chance * (outcome @ self.preferences.goes_on())[:, None]
            flow = self.preferences.discount * goes_on
            novelty = (chance @ new[..., None])[..., 0]
            found.append((predicted, predicted @ self._log_preference, flow, novelty))
        predicted, preference, flow, novelty = found[0]
        predicted_later, preference_later, flow_later, _ = found[1]
        return replace(
            stage,
            preference=stage.preference + preference,
            novelty=stage.novelty + novelty,
            flow=stage.flow + flow,
            preference_without_optimism=stage.preference_without_optimism + preference_later,
            flow_without_optimism=stage.flow_without_optimism + flow_later,
            arrival=predicted,
            arrival_without_optimism=predicted_later,
        )

    def _expected(
        self, token_ahead: Floats, situation: Ints, tables: PosteriorTables
    ) -> tuple[list[Floats], list[Floats]]:
        """Expectations of `_one_step` given beliefs over the token ahead `(N, V)` and situations `(N,)`.

        Returns:
            the three sums, `(N, A)` each, and the two flows, `(N, A, E)` each.
        """
        actions = tables.num_actions
        expected = np.empty((len(token_ahead), actions * (3 + 2 * tables.num_events)))
        by_situation = cache(lambda one: self._one_step(tables, *divmod(one, 2)))
        runs = np.diff(situation, prepend=-1).nonzero()[0].tolist()
        for first, end in pairwise([*runs, len(situation)]):
            by_token = by_situation(int(situation[first]))
            np.matmul(token_ahead[first:end], by_token, out=expected[first:end])
        sums = [expected[:, i * actions : (i + 1) * actions] for i in range(3)]
        flows = expected[:, 3 * actions :].reshape(len(expected), 2, actions, tables.num_events)
        return sums, [flows[:, i] for i in range(2)]

    def _one_step(self, tables: PosteriorTables, hand: int, passed: int) -> Floats:
        """One-step quantities by token ahead, `(V, 3 * A + 2 * A * E)`, with a thing in hand.

        They are, for every action: expected log preference, novelty, and the preference of a step
        that is not informative, nats; then, for every event, the discounted flow, and that of a
        step that is not informative.
        """
        rows = tables.outcome_rows
        table = tables.transition[:, :, hand].transpose(1, 0, 2)  # (V, A, E)
        new = self._serves * tables.outcome_novelty[passed][rows].transpose(2, 0, 1)
        novelty = tables.transition_novelty[:, :, hand].T + (table * new).sum(-1)
        preference, flow = self._prospects(table, tables.outcome[passed][rows])
        preference_without_optimism, flow_without_optimism = self._prospects(
            tables.transition_without_optimism[:, :, hand].transpose(1, 0, 2),
            tables.outcome_without_optimism[passed][rows],
        )
        sums = [preference, novelty, preference_without_optimism]
        flows = [flow, flow_without_optimism]
        return np.concatenate([*sums, *(part.reshape(len(part), -1) for part in flows)], -1)

    def _prospects(self, table: Floats, outcome: Floats) -> tuple[Floats, Floats]:
        """Expected log preference `(V, A)` and discounted flow `(V, A, E)`.

        Args:
            table: `(V, A, E)` p(event | token ahead, action).
            outcome: `(A, E, V, O)` p(outcome | action, event, token ahead).
        """
        preferences = self.preferences
        flat = outcome.reshape(-1, outcome.shape[-1])  # one product is faster than one for each row
        gain, stays = (
            (flat @ weights).reshape(outcome.shape[:-1]).transpose(2, 0, 1)
            for weights in (self._log_preference, preferences.goes_on())
        )
        return (table * gain).sum(-1), preferences.discount * table * stays


def _looking(
    search: Search,
    belief: Belief,
    tables: PosteriorTables,
    geometry: Geometry,
    cells: Floats,
    which: Ints,
    state: Ints,
    number: Ints,
) -> Callable[[Floats], Floats]:
    """Looking around on arriving in every kept state: what all cells in sight tell together, `(N,)`.

    The function takes what each cell tells in every abstract state, `(n, cells + 1)`.

    Args:
        search, belief, tables, geometry: what is known.
        cells: `(n, cells + 1, V)` of every abstract state.
        which, state: `(N,)` abstract state, and state of the region, of the kept ones.
        number: `(n S,)` place among the kept ones.
    """
    region = search.region
    memory, views = views_remembered(belief, region, number.reshape(len(cells), -1), len(which))
    view = region.view[state]
    clear = cells @ tables.transparency
    layout = geometry.nearer, geometry.outwards, geometry.own

    def look(information: Floats) -> Floats:
        return information_at(
            clear, information, which, view, *layout, memory, views, tables.transparency
        )

    return look


def _chance_of_events(
    tables: PosteriorTables, token_ahead: Floats, situation: Ints, *, informative: bool
) -> Floats:
    """p(event | state, action) `(N, A, E)`."""
    transition = tables.transition if informative else tables.transition_without_optimism
    chance = np.empty((len(situation), tables.num_actions, tables.num_events))
    for hand in np.unique(situation // 2):
        rows = situation // 2 == hand
        chance[rows] = np.tensordot(token_ahead[rows], transition[:, :, hand], (1, 1))
    return chance


def _within_reach(likely: Bools, successor: Ints, roots: Ints) -> tuple[Ints, Ints]:
    """Flat states that likely events lead to from the roots, and the number of each among them.

    States out of reach have the number -1.
    """
    reached = np.isfinite(distances(successor, likely, np.unique(roots))).nonzero()[0]
    number = np.full(len(successor), -1)
    number[reached] = np.arange(len(reached))
    return reached, number
