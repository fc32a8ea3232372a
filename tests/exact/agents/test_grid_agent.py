"""The agent around the grid model: choices, hopes, what is stored and counted, and what is kept; its planner told what to say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from grid_walks import FLOOR, UNSEEN
from small_house import ACTIONS, FORWARD, LEFT, SETTINGS, VIEW, WALKED, House

from aif_dcpc.agents.errors import AgentError
from aif_dcpc.agents.gridworld.agent import FORMAT, HierarchicalAgent
from aif_dcpc.agents.gridworld.model.paths import ObservedEpisode
from aif_dcpc.agents.gridworld.model.task import Task
from aif_dcpc.agents.gridworld.planning.plan import Course, Plan
from aif_dcpc.agents.gridworld.replay import EpisodeStore, StoredEpisode


def plan_of(chosen: int) -> Plan:
    """A plan in which one action is best."""
    risk = np.full(ACTIONS, 5.0)
    risk[chosen] = 3.0
    even = np.arange(ACTIONS) / 10
    return Plan(risk, even, 0.5 + even, 0.25 + 0 * even, 7, np.zeros((2, 3), np.int64))


def agent_of(seed: int = 0, **changes: object) -> HierarchicalAgent:
    """An agent that walks through the house as it is told."""
    agent = HierarchicalAgent(VIEW, ACTIONS, replace(SETTINGS, **changes), seed)
    asked = []

    def planned(belief: object, tables: object, geometry: object) -> Plan:
        asked.append((belief, tables, geometry))
        return plan_of(WALKED[len(agent.episode_filter.episode) - 1])

    agent.planner.plan = planned
    agent.asked = asked
    return agent


def live(agent: HierarchicalAgent, seed: int = 0, *, steps: int = 99, cut: int = 99) -> None:
    """One episode, or its first steps; cut off after some."""
    house = House(length=3, door=9, key=1)  # a key, then the end
    seen = house.reset()
    agent.begin(seed=seed)
    for number in range(steps):
        action = agent.act(seen)
        seen, reward, end = house.step(action)
        agent.feedback(seen, reward, end, number == cut)
        if end or number == cut:
            return


# -- choices ---------------------------------------------------------------------------------------


def test_the_best_action_is_taken_and_ties_are_broken_evenly() -> None:
    """Five standard errors; sampled actions by their softmax."""
    agent = agent_of()
    plan = plan_of(2)
    assert plan.expected_free_energy.tolist() == pytest.approx([4.25, 4.25, 2.25, 4.25, 4.25])
    assert {agent._choose(plan, True) for _ in range(50)} == {2}
    risk = np.array([1.0, 1.00004, 3.0, 1.001, 1.0])
    tied = replace(plan, risk=risk, ambiguity=0 * risk, information_gain=0 * risk, novelty=0 * risk)
    found = np.bincount([agent._choose(tied, True) for _ in range(3000)], minlength=5) / 3000
    assert (
        found[[2, 3]].sum() == 0
        and np.abs(found[[0, 1, 4]] - 1 / 3).max() < 5 * (2 / 9 / 3000) ** 0.5
    )
    risk = np.array([0.0, 0.05, 0.1, 0.3, 1.0])
    drawn = replace(tied, risk=risk)
    expected = np.exp(-16 * risk) / np.exp(-16 * risk).sum()
    found = np.bincount([agent._choose(drawn, False) for _ in range(3000)], minlength=5) / 3000
    assert (np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / 3000) + 1e-6).all()


def test_before_anything_was_rewarded_an_end_leads_back_here() -> None:
    """As many steps later as the episode has taken; once rewarded, or frozen, it does not."""
    agent = agent_of()
    agent.episode_filter.episode = ObservedEpisode(action=[0, 1, 2])
    plan = plan_of(1)
    agent._hope(plan)
    preferences = SETTINGS.preferences
    later = preferences.discount**3
    never = -preferences.step_cost / (1 - preferences.discount)
    assert agent.planner.anew == pytest.approx((1 - later) * never - later * 3.1)
    agent.freeze()
    agent._hope(plan)
    assert agent.planner.anew is None
    agent.freeze(False)
    agent.rewarded = True
    agent._hope(plan)
    assert agent.planner.anew is None


def idle_plan(news: float) -> Plan:
    """One in which an action that might be learned from looks worse than another, which teaches little."""
    risk = np.full(ACTIONS, 5.0)
    risk[LEFT] = 0.0
    novelty = np.full(ACTIONS, news)
    novelty[FORWARD] += 0.25
    return Plan(risk, 0 * risk, 0 * risk, novelty, 7, np.zeros((2, 3), np.int64))


@pytest.mark.parametrize(
    ("news", "rewarded", "frozen", "cut", "stuck"),
    [
        (0.9, False, False, True, True),
        (1.1, False, False, True, False),  # there is more to learn
        (0.9, True, False, True, False),
        (0.9, False, True, True, False),
        (0.9, False, False, False, False),  # the episode ended by itself
    ],
)
def test_who_is_stuck_has_nothing_to_lose(
    news: float, rewarded: bool, frozen: bool, cut: bool, stuck: bool
) -> None:
    """An episode ran out of time, nothing was ever rewarded, and little was to be learned: then that alone counts."""
    agent = agent_of()
    live(agent, steps=1)
    agent.plan = idle_plan(news)
    agent.rewarded = rewarded
    agent.freeze(frozen)
    agent.action = LEFT
    house = House(length=3, door=9, key=1)
    agent.feedback(house.reset(), 0.0, not cut, cut)
    assert agent.stuck == stuck
    assert agent._choose(idle_plan(news), True) == (FORWARD if stuck else LEFT)
    twin = agent_of(seed=9)
    twin.load_state_dict(agent.state_dict())
    assert twin.stuck == stuck


def test_what_was_stuck_goes_by_expected_free_energy_again_once_rewarded_or_frozen() -> None:
    agent = agent_of()
    agent.stuck = True
    assert agent._choose(idle_plan(0.0), True) == FORWARD
    agent.freeze()
    assert agent._choose(idle_plan(0.0), True) == LEFT
    agent.freeze(False)
    agent.rewarded = True
    assert agent._choose(idle_plan(0.0), True) == LEFT


def test_any_reward_counts_and_nothing_else() -> None:
    agent = agent_of()
    for reward, rewarded, outcome in (
        (0.0, False, 1),
        (-1.0, False, 0),
        (0.1, True, 2),
        (0.0, True, 1),
    ):
        agent.feedback({}, reward, False, False)
        assert (agent.rewarded, agent.outcome, agent.over) == (rewarded, outcome, False)
        assert agent.reward == reward


# -- a life ------------------------------------------------------------------------------------------


def test_episodes_are_stored_and_their_counts_are_what_is_known() -> None:
    """Two are kept of three: what is counted is the sum of what is kept and of what was counted before."""
    agent = agent_of()
    filter_ = agent.episode_filter
    lengths = []
    for number in range(3):
        assert agent.action == 0 or number
        live(agent, number)
        lengths.append(len(filter_.episode) - 1)
        assert agent.over and agent.rewarded and agent.outcome == 5
        assert len(agent.store) == len(agent.stored_counts) == min(number + 1, 2)
        assert agent.log_joint == pytest.approx(agent.log_joint) and np.isfinite(agent.log_joint)
        assert float(filter_.past.transition.sum()) == pytest.approx(sum(lengths), rel=1e-4)
        assert filter_.layouts.episodes == filter_.lessons.kept == number + 1
        assert len(filter_.lessons.deeds) == min(number + 1, 2)
        assert set(agent.milliseconds) == {"inference", "planning", "learning"}
        assert min(agent.milliseconds.values()) > 0
    assert lengths == [3, 3, 3]
    stored = list(agent.store)
    assert [len(s.episode) for s in stored] == [4, 4] and stored[0].events.shape == (3, 4)
    assert stored[0].episode.action == list(filter_.episode.action)
    each = [float(c.transition.sum()) for c in agent.stored_counts]
    assert each == pytest.approx([3, 3], rel=1e-4)


def test_an_episode_that_is_cut_is_learned_from_and_a_frozen_agent_learns_nothing() -> None:
    agent = agent_of()
    live(agent, cut=1)
    assert len(agent.store) == 1 and not agent.rewarded and agent.over
    assert agent.episode_filter.episode.outcome == [1, 1, 1]
    agent.freeze()
    known = agent.episode_filter.state_dict()
    live(agent, 1)
    now = agent.episode_filter.state_dict()
    assert all(torch.equal(now["past"][name], known["past"][name]) for name in known["past"])
    for learned in ("transparency", "wanderers", "lessons", "layouts"):
        assert str(now[learned]) == str(known[learned]), learned
    assert len(agent.store) == 1 and not agent.rewarded and agent.planner.learns is False


def test_a_new_episode_begins_with_nothing_done() -> None:
    agent = agent_of()
    live(agent, steps=2)
    assert (agent.action == FORWARD and agent.faced == FLOOR) or agent.faced >= 0
    assert agent.planner.learns is True and agent.planner.turn == 2
    agent.planner.intended = [(0, 0, ())]
    agent.planner.anew = -3.0
    agent.outcome = 3
    agent.reward = -2.0
    agent.begin(seed=4)
    assert (agent.action, agent.outcome, agent.faced, agent.over) == (0, 1, UNSEEN, False)
    assert agent.reward == 0
    assert agent.planner.intended == [] and agent.planner.anew is None
    assert agent.episode_filter.running is None
    first = torch.rand((), generator=agent.generator)
    agent.begin(seed=4)
    assert torch.rand((), generator=agent.generator) == first


def test_a_belief_a_table_and_a_map_are_planned_with() -> None:
    agent = agent_of()
    live(agent, steps=2)
    belief, tables, geometry = agent.asked[-1]
    assert belief is agent.belief and geometry is agent.episode_filter.now.grid.geometry
    assert tables.misread == agent.episode_filter.misread
    assert agent.faced == agent.episode_filter.faced(belief)


def test_stored_outcomes_are_counted_anew_under_another_task() -> None:
    agent = agent_of(replay=replace(SETTINGS.replay, refreshed=0))
    for number in range(2):
        live(agent, number)
    agent.episode_filter.lessons.task = Task(milestone=FLOOR)
    agent._count_anew()
    filter_ = agent.episode_filter
    every = [filter_.outcomes_of(deeds) for deeds in filter_.lessons.deeds]
    assert torch.equal(filter_.past.outcome, every[0] + every[1])
    for counts, outcome in zip(agent.stored_counts, every, strict=True):
        assert torch.equal(counts.outcome, outcome)
    assert float(filter_.past.outcome.sum()) == 6


def test_an_episode_that_is_inferred_afresh_is_counted_once() -> None:
    agent = agent_of(replay=replace(SETTINGS.replay, refreshed=0))
    for number in range(2):
        live(agent, number)
    other = agent.stored_counts[1]
    agent._reinfer(0)
    for name, value in vars(agent.episode_filter.past).items():
        both = getattr(agent.stored_counts[0], name) + getattr(other, name)
        assert torch.allclose(value, both, atol=1e-3), name
    assert len(agent.store) == 2


@pytest.mark.parametrize(
    ("refreshed", "episodes", "times"), [(0, 2, 0), (1, 1, 0), (1, 2, 1), (5, 2, 1)]
)
def test_no_more_is_inferred_afresh_than_is_stored_beside_the_last(
    refreshed: int, episodes: int, times: int
) -> None:
    agent = agent_of(replay=replace(SETTINGS.replay, refreshed=refreshed, capacity=9))
    places = []
    agent._reinfer = places.append
    for number in range(episodes):
        places.clear()
        live(agent, number)
    assert len(places) == times and set(places) <= set(range(episodes))


# -- what is told --------------------------------------------------------------------------------------


def test_a_report_tells_the_terms_of_the_action_that_was_taken() -> None:
    agent = agent_of()
    assert agent.report().scalars == {} and agent.explanation() is None
    live(agent, steps=2)
    told = agent.report().scalars
    assert told["efe/risk"] == 3 and told["efe/ambiguity"] == pytest.approx(FORWARD / 10)
    assert told["efe/information_gain"] == pytest.approx(0.5 + FORWARD / 10)
    assert told["efe/novelty"] == 0.25 and told["efe/total"] == pytest.approx(2.25)
    assert told["efe/configurations"] == 7 and told["efe/policy_collapse"] == 0
    assert told["inference/free_energy"] == agent.episode_filter.now.free_energy
    assert told["inference/ess"] == agent.episode_filter.now.ess
    assert 1 <= told["inference/unique_ancestors"] <= 3 and "learning/log_joint" not in told
    assert told["speed/ms_planning"] == agent.milliseconds["planning"]
    assert told["speed/ms_per_sweep"] == agent.episode_filter.ms_per_sweep
    assert "inference/acceptance/misread" in told and not agent.report().pictures
    agent.log_joint = -3.5
    assert agent.report().scalars["learning/log_joint"] == -3.5
    agent.recent.extend([LEFT] * 39)
    assert agent.report().scalars["efe/policy_collapse"] == 0
    agent.recent.append(LEFT)
    assert agent.report().scalars["efe/policy_collapse"] == 1
    why = agent.explanation(["a", "b", "c", "d", "e"])
    assert why.chosen == FORWARD and list(why.labels) == ["a", "b", "c", "d", "e"]
    both = why.terms["risk"] + why.terms["ambiguity"]
    assert np.array_equal(why.terms["neg_expected_log_preference"], both)
    assert np.array_equal(why.total, agent.plan.expected_free_energy)
    assert list(agent.explanation().labels) == ["0", "1", "2", "3", "4"]


def test_the_map_is_drawn_when_it_is_asked_for() -> None:
    agent = agent_of()
    live(agent, steps=2)
    report = agent.report(pictures=True)
    assert set(report.pictures) == {"belief/map"} and report.pictures["belief/map"].ndim == 3
    assert np.array_equal(report.particles["pose"], agent.belief.pose)
    assert len(agent.knowledge) > 8
    live(agent, 1)
    after = agent.report(pictures=True).pictures["belief/map"]
    assert not np.array_equal(after, report.pictures["belief/map"])


# -- what is kept --------------------------------------------------------------------------------------


def test_an_agent_goes_on_bit_for_bit() -> None:
    first = agent_of()
    live(first)
    live(first, 1, steps=1)
    first.planner.intended = [(1, 0, ((2, 3, 4),))]
    first.reward = 0.75
    twin = agent_of(seed=9)
    twin.load_state_dict(first.state_dict())
    assert (
        twin.planner.intended == first.planner.intended and twin.planner.anew == first.planner.anew
    )
    assert twin.plan is None and twin.belief is None and list(twin.recent) == list(first.recent)
    assert twin.recent.maxlen == 40 and twin.log_joint == first.log_joint
    house = House(length=3, door=9, key=1)
    house.reset()
    seen, _, _ = house.step(first.action)
    for agent in (first, twin):
        agent.act(seen)
        assert agent.episode_filter.episode.reward == [0.0, 0.75]
        agent.feedback(seen, 0.0, False, True)
    mine, other = first.state_dict(), twin.state_dict()
    for name in (
        "action",
        "outcome",
        "reward",
        "faced",
        "rewarded",
        "frozen",
        "recent",
        "log_joint",
        "format",
    ):
        assert mine[name] == other[name], name
    for a, b in zip(first.stored_counts, twin.stored_counts, strict=True):
        for old, new in zip(vars(a).values(), vars(b).values(), strict=True):
            assert torch.equal(old, new)
    assert torch.equal(mine["generator"], other["generator"])


def test_who_is_stopped_on_the_way_follows_the_same_plan_afterwards() -> None:
    """It has turned round, so that there is nothing new to see; the plan after the one that it follows costs more."""
    first = agent_of()
    house = House(length=3, door=9, key=1)
    seen = house.reset()
    first.begin(seed=0)
    further = Course(np.array([[0, 0, 3]]), [LEFT], np.array([-9.0]))
    for plan in [*[plan_of(LEFT)] * 4, replace(plan_of(LEFT), course=further)]:
        first.planner.plan = lambda *_, plan=plan: plan
        assert first.act(seen) == LEFT
        seen, reward, end = house.step(LEFT)
        first.feedback(seen, reward, end, False)
    twin = agent_of(seed=9)
    twin.load_state_dict(first.state_dict())
    for agent in (first, twin):
        agent.planner.plan = lambda *_: plan_of(FORWARD)
        assert agent.act(seen) == LEFT


@pytest.mark.parametrize("number", [FORMAT - 1, FORMAT + 1, None])
def test_another_format_is_refused(number: int | None) -> None:
    agent = agent_of()
    state = {**agent.state_dict(), "format": number}
    if number is None:
        del state["format"]
    with pytest.raises(AgentError, match=f"format {number or 1},"):
        agent.load_state_dict(state)


def stored(number: int) -> StoredEpisode:
    episode = ObservedEpisode(mission=(number,))
    for _ in range(number + 1):
        episode.append(number, 0, 0, 1, 0, np.zeros(9, np.int64))
    return StoredEpisode(episode, torch.full((2, number + 1), number), torch.zeros(2))


def test_the_oldest_episode_goes() -> None:
    store = EpisodeStore(3)
    assert [store.add(stored(n)) for n in range(5)] == [0, 1, 2, 0, 1]
    assert len(store) == 3 and [s.episode.mission for s in store] == [(3,), (4,), (2,)]
    store.put(2, stored(7))
    assert store.get(2).events.tolist() == [[7] * 8] * 2 and len(store.get(2).episode) == 8
    twin = EpisodeStore(3)
    twin.load_state_dict(store.state_dict())
    assert next(s.episode for s in twin).action == [3] * 4 and twin.add(stored(0)) == 2
