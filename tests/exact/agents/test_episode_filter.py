"""Following an episode: what is admitted and registered when, how often is swept, how particles come and are kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from grid_walks import BALL, BLUE_KEY, FLOOR, RED_CLOSED, RED_KEY, RED_OPEN, UNSEEN, WALL
from small_house import ACTIONS, FORWARD, HERE, SETTINGS, VIEW, WALKED, House

from aif_dcpc.agents.gridworld import running as running_module
from aif_dcpc.agents.gridworld.deeds import deeds_of
from aif_dcpc.agents.gridworld.filter import EpisodeFilter
from aif_dcpc.agents.gridworld.layouts import KNOWN
from aif_dcpc.agents.gridworld.model.counts import outcome_code
from aif_dcpc.agents.gridworld.model.engine_values import values_of
from aif_dcpc.agents.gridworld.model.paths import ObservedEpisode
from aif_dcpc.agents.gridworld.model.slice_proposal import prior_particles
from aif_dcpc.agents.gridworld.model.strays import log_joints
from aif_dcpc.agents.gridworld.model.vocabulary import TAKEN, UNCHANGED
from aif_dcpc.agents.gridworld.planning.belief import Belief, belief_of
from aif_dcpc.agents.gridworld.running import set_up, start, sweeps_due
from aif_dcpc.agents.gridworld.settings import InferenceSettings


def fresh(seed: int = 0, **inference: int) -> EpisodeFilter:
    settings = SETTINGS
    if inference:
        settings = replace(SETTINGS, inference=replace(SETTINGS.inference, **inference))
    return EpisodeFilter(VIEW, ACTIONS, settings, torch.Generator().manual_seed(seed))


def followed(
    steps: int = len(WALKED), house: House | None = None, known: EpisodeFilter | None = None
) -> EpisodeFilter:
    """A filter that has seen a walk."""
    house = house or House()
    known = known or fresh()
    known.observe(house.reset(), 0, 1, UNSEEN)
    for action in WALKED[:steps]:
        faced = house.cells[house.ahead()]
        seen, reward, end = house.step(action)
        known.observe(seen, action, outcome_code(reward, end), faced, reward)
    return known


@pytest.fixture(scope="module")
def walk() -> EpisodeFilter:
    return followed()


def test_an_episode_is_taken_in_slice_by_slice(walk: EpisodeFilter) -> None:
    """What was done, seen and faced; words of the first mission; one event more for every slice."""
    episode = walk.episode
    assert tuple(episode.action) == (0, *WALKED) and episode.heading == [0] * 8
    assert episode.carried == [FLOOR] + [BLUE_KEY] * 7 and episode.mission == (3, 7)
    assert episode.outcome == [1] * 7 + [5] and episode.reward == [0.0] * 7 + [1.0]
    assert episode.faced == [UNSEEN, BLUE_KEY, FLOOR, FLOOR, RED_CLOSED, RED_OPEN, FLOOR, HERE]
    assert walk.now.particles.events.shape == (3, 8) and len(walk.now.history) == 8
    history = walk.history_of(episode)
    for name, series in vars(history).items():
        assert torch.equal(getattr(walk.now.history, name), series), name
    assert set(walk.acceptance) >= {"misread"} and walk.ms_per_sweep > 0
    assert float(walk.now.weights.sum()) == pytest.approx(1)
    members = walk.vocabulary.tokens.members
    assert {WALL, FLOOR, BLUE_KEY, RED_CLOSED, RED_OPEN, HERE} <= set(members)
    assert walk.vocabulary.hands.members == [FLOOR, BLUE_KEY]
    assert (("token", members.index(FLOOR)), TAKEN) in walk.vocabulary.effects
    assert (("state", 1), UNCHANGED) in walk.vocabulary.effects and len(
        walk.vocabulary.effects
    ) == 2
    assert walk.settled == len(members)


def test_only_words_of_the_first_slice_make_the_mission() -> None:
    house = House()
    known = fresh()
    first = house.reset()
    del first["mission"]
    known.observe(first, 0, 1, UNSEEN)
    known.observe(house.step(FORWARD)[0], FORWARD, 1, BLUE_KEY)
    assert known.episode.mission == ()


def test_earlier_slices_are_looked_at_again_where_something_was_admitted(monkeypatch) -> None:
    """At the first slice everything is new; a turn on the spot shows what is known."""
    house = House(length=2, door=9, key=9)
    known = fresh(num_sweeps=0)
    asked = []
    monkeypatch.setattr(known, "_discover_effects", lambda history, slices: asked.append(slices))
    known.observe(house.reset(), 0, 1, UNSEEN)
    known.observe(house.seen(), FORWARD, 1, HERE)
    assert asked == [5, 0]


def views(known: EpisodeFilter, *rows: list[int]) -> EpisodeFilter:
    known.episode = ObservedEpisode(view=[np.array(row) for row in rows])
    return known


def test_tokens_are_admitted_in_the_order_of_their_first_sightings() -> None:
    """Once is enough where misreading is rare; else two sightings in five slices."""
    known = views(fresh(), [UNSEEN, RED_KEY], [WALL, FLOOR])
    assert known._admit() and known.vocabulary.tokens.members == [RED_KEY, WALL, FLOOR]
    assert not known._admit()
    known.misread = 0.02
    assert not views(known, [BALL, WALL])._admit()
    old = [BALL, WALL]
    assert not views(known, old, *[[WALL, WALL]] * 4, [BALL, WALL])._admit()
    assert views(known, old, *[[WALL, WALL]] * 3, [BALL, WALL])._admit()
    assert known.vocabulary.tokens.members[-1] == BALL
    known.misread = 0.0199
    assert views(known, [RED_OPEN, WALL])._admit()


def test_long_episodes_are_swept_less_often() -> None:
    """All sweeps up to a hundred slices; then as many a slice as keep the cost; five standard errors."""
    generator = torch.Generator().manual_seed(0)
    assert sweeps_due(4000, 100, generator) == 4000
    for length in (101, 400):
        share = 100 / length
        error = 5 * (4000 * share * (1 - share)) ** 0.5
        assert abs(sweeps_due(4000, length, generator) - 4000 * share) <= error
    assert sweeps_due(4000, 101, generator) < 4000 and sweeps_due(0, 50, generator) == 0


def test_raw_tokens_of_slots(walk: EpisodeFilter) -> None:
    members = walk.vocabulary.tokens.members
    assert [walk.raw(slot) for slot in range(len(members))] == members
    assert walk.raw(-1) == walk.raw(len(members)) == UNSEEN


def test_effects_are_made_anew_where_something_is_new() -> None:
    known = followed(2)
    first = known.effects()
    assert known.effects() is first
    known.lessons.task = replace(known.lessons.task, milestone=FLOOR)
    second = known.effects()
    assert second is not first and second.milestone == known.vocabulary.tokens.members.index(FLOOR)
    known.wanderers.counts[0] = 9, 1
    third = known.effects()
    assert third is not second and third.moving.nonzero()[:, 0].tolist() == known.moving()
    known.vocabulary.admit(RED_KEY)
    assert known.effects() is not third
    assert known.grid().num_tokens == known.vocabulary.tokens.capacity + 1


def test_effects_of_earlier_slices_are_looked_for_where_something_was_admitted() -> None:
    """The hand was filled five slices ago: found if five are looked at, not if four are or none."""
    for slices, found in ((0, False), (4, False), (5, True)):
        known = fresh()
        for token in (FLOOR, WALL, BLUE_KEY):
            known.vocabulary.admit(token)
        known.vocabulary.hold(BLUE_KEY)
        still = [UNSEEN, FLOOR, UNSEEN, WALL, FLOOR, WALL, WALL, FLOOR, WALL]
        with_key = list(still)
        with_key[4] = BLUE_KEY
        for carried, row in [(FLOOR, with_key)] * 3 + [(BLUE_KEY, still)] * 6:
            known.episode.append(0, 0, carried, 1, FLOOR, np.array(row))
        history = known.history_of(known.episode)
        assert known._discover_effects(history, slices) is found, slices
        assert bool(known.vocabulary.effects) is found
    whole = fresh()
    whole.vocabulary = known.vocabulary
    assert not whole._discover_effects(history, 5)  # known by now


def test_room_is_made_where_something_has_grown() -> None:
    known = followed(3)
    assert not known._grown(known.now)
    known.settled -= 1
    assert known._grown(known.now)
    known.settled += 1
    geometry = known.geometry
    known.geometry = replace(geometry, size=2 * geometry.size)
    assert known._grown(known.now)
    known.geometry = geometry
    known.wanderers.counts[0] = 9, 1
    assert known._grown(known.now)
    known.wanderers.counts[0] = 1, 9
    assert not known._grown(known.now)
    known.vocabulary.register((("state", 1), UNCHANGED), kind=3)
    assert known._grown(known.now)


def test_a_map_that_is_too_small_grows_and_keeps_what_it_held() -> None:
    house = House(length=14, door=12, key=11)
    known = fresh(num_sweeps=0)
    known.observe(house.reset(), 0, 1, UNSEEN)
    sizes = []
    for _ in range(9):
        seen, _, _ = house.step(FORWARD)
        known.observe(seen, FORWARD, 1, FLOOR)
        sizes.append(known.geometry.size)
        position = known.now.grid.trace(known.now.particles.events, known.now.history)[0].position
        extent = int((position.amax((0, 1)) - position.amin((0, 1))).max()) + 1
        assert known.geometry.size >= extent + 8
        assert known.now.grid.geometry.size == known.geometry.size
        assert known.now.particles.initial.shape == (3, known.geometry.size**2)
    assert sizes[-1] > sizes[0]


def test_what_was_seen_and_what_was_kept_stay_as_they_were() -> None:
    """A world may write each view over the last one; a state that is kept is not the filter's own."""
    house = House()
    known = fresh()
    view = np.array(house.reset()["view"])
    known.observe({**house.seen(), "view": view}, 0, 1, UNSEEN)
    kept, shown = known.state_dict(), view.ravel().copy()
    counted = kept["transparency"].clone()
    view[:] = WALL
    known.observe({**house.step(FORWARD)[0], "view": view}, FORWARD, 1, FLOOR)
    assert known.episode.view[0].tolist() == shown.tolist()
    assert torch.equal(kept["transparency"], counted)
    assert not torch.equal(known.state_dict()["transparency"], counted)


def test_a_filter_is_kept_and_goes_on_bit_for_bit() -> None:
    first = followed(4)
    first.generator.manual_seed(5)
    twin = fresh()
    twin.load_state_dict(first.state_dict())
    twin.generator.manual_seed(5)
    assert (
        twin.settled == first.settled and twin.learns and twin.geometry.size == first.geometry.size
    )
    assert torch.equal(twin.now.particles.events, first.now.particles.events)
    house = House()
    house.reset()
    for action in WALKED[:4]:
        house.step(action)
    seen, _, _ = house.step(FORWARD)
    for known in (first, twin):
        known.observe(seen, FORWARD, 1, RED_OPEN)
    mine, other = first.now, twin.now
    assert torch.equal(mine.particles.events, other.particles.events)
    for table, same in zip(
        vars(mine.particles.tables).values(), vars(other.particles.tables).values(), strict=True
    ):
        assert torch.equal(table, same)
    assert torch.equal(mine.weights, other.weights) and mine.free_energy == other.free_energy
    assert torch.equal(mine.state.ancestors, other.state.ancestors)
    empty = fresh()
    empty.load_state_dict(fresh().state_dict())
    assert empty.running is None and len(empty.episode) == 0
    first.forget()
    assert first.running is None and len(first.episode) == 0
    with pytest.raises(RuntimeError, match="no episode is running"):
        _ = first.now


def test_counts_are_weighed(walk: EpisodeFilter) -> None:
    by_particle = walk.now.counts_by_particle()
    mean = walk.counts()
    for name, value in vars(by_particle).items():
        expected = torch.tensordot(walk.now.weights, value, 1)
        assert torch.allclose(getattr(mean, name), expected), name
    assert float(mean.transition.sum()) == pytest.approx(7)


def test_a_stored_episode_is_inferred_afresh(walk: EpisodeFilter) -> None:
    before = walk.running
    events = walk.now.particles.events
    found, counts = walk.reinfer(walk.episode, events, 1)
    assert found.shape == events.shape and walk.running is before
    assert counts.transition.flatten(1).sum(1).tolist() == [7, 7, 7]
    same, _ = walk.reinfer(walk.episode, events, 0)
    assert torch.equal(same, events)


def test_what_stood_where_at_the_start(walk: EpisodeFilter) -> None:
    """As the likeliest particle has it, of cells that were seen and are known for all but sure."""
    belief = belief_in(walk)
    initial = walk.now.particles.initial[belief.likeliest].tolist()
    size = walk.geometry.size
    expected = {}
    for y in range(belief.origin[0], belief.origin[0] + size):
        for x in range(belief.origin[1], belief.origin[1] + size):
            cell = y % size * size + x % size
            if belief.seen[cell] and belief.cells[cell].max() > KNOWN:
                expected[y, x] = walk.raw(initial[cell])
    assert walk.start_of(belief) == expected and len(expected) > 5
    belief.cells[:] = KNOWN
    assert walk.start_of(belief) == {}
    assert walk.with_layouts(belief) is belief and walk.with_wanderers(belief) is belief
    walk.layouts.episodes = 1
    assert walk.with_layouts(belief) is not belief
    walk.layouts.episodes = 0


def belief_in(known: EpisodeFilter) -> Belief:
    now = known.now
    total = known.counts() + now.grid.past
    return belief_of(now.grid, now.particles, now.history, now.weights, total)


def test_the_latest_deeds_are_those_of_the_likeliest_particle(walk: EpisodeFilter) -> None:
    members = walk.vocabulary.tokens.members
    names = np.array(members + [UNSEEN] * (walk.vocabulary.tokens.capacity - len(members)))
    now = walk.now
    given = now.grid, now.particles, now.likeliest, now.history, names, (3, 7), walk.episode.reward
    expected = deeds_of(*given)
    found = walk.latest_deeds()
    for name, value in vars(expected).items():
        assert np.array_equal(getattr(found, name), value), name
    cells, ahead = walk._cells(-1)
    trajectory, _, _ = now.grid.trace(now.particles.events, now.history)
    assert ahead == int(trajectory.cell_ahead[now.likeliest, -1])
    y, x = trajectory.position[now.likeliest, -1].tolist()
    size = walk.geometry.size
    assert cells.reshape(3, 3)[2, 1] == y % size * size + x % size
    assert cells.reshape(3, 3)[1, 1] == ahead


def test_tables_for_planning_tell_the_rate_of_misreading(walk: EpisodeFilter) -> None:
    total = walk.counts() + walk.now.grid.past
    tables = walk.posterior_tables(total)
    assert walk.misread == tables.misread > 0
    prior = walk._prior_of_events(total)
    assert walk._prior_of_events(total) is prior
    assert np.array_equal(prior.shares, walk.now.grid.events.shares)
    more = replace(total, transition=total.transition + 1)
    assert walk._prior_of_events(more) is not prior


def test_what_changes_its_place_is_watched_for() -> None:
    """From the second slice on; a kind that begins to move changes what is seen."""
    known = followed(1)
    before = known.wanderers.changes.sum()
    assert before > 10 * len(known.wanderers.changes) and known._watch() is False
    known.wanderers.counts[0] = 1e9, 1
    known.episode = ObservedEpisode(view=[np.array([WALL])])
    assert known._watch() is False
    assert known.moving() == [known.vocabulary.tokens.members.index(FLOOR)]


# -- particles ---------------------------------------------------------------------------------------


def test_first_particles_are_weighed_by_the_first_view() -> None:
    known = followed(0)
    history = known.history_of(known.episode)
    first = set_up(known.grid(), history, 5)
    found = start(first, torch.Generator().manual_seed(3))
    particles, gain = prior_particles(first.grid, history, 5, torch.Generator().manual_seed(3))
    expected = float(torch.logsumexp(gain, 0) - np.log(5))
    assert found.free_energy == pytest.approx(-expected, rel=1e-5)
    assert found.state.ancestors[:, 0].tolist() == list(range(5))
    if float(1 / gain.softmax(0).square().sum()) >= 2.5:
        assert torch.allclose(found.weights, gain.softmax(0))
        assert torch.equal(found.particles.initial, particles.initial)
    assert found.ess == pytest.approx(float(1 / found.weights.square().sum()), rel=1e-4)
    joints = log_joints(found.grid, found.particles, found.history)
    assert found.log_joint == pytest.approx(float((found.weights * joints).sum()), rel=1e-5)


def test_the_last_event_is_redrawn_where_lineages_were_resampled(monkeypatch) -> None:
    now = followed(2).now
    calls = []

    def redraw(grid: object, particles: object, history: object, generator: object) -> object:
        calls.append(history)
        return particles.picked(torch.tensor([1, 1, 1]))

    monkeypatch.setattr(running_module, "redraw_last", redraw)
    generator = torch.Generator()
    apart = now.state.replace(log_weights=torch.tensor([[0.0], [0.0], [-1.0]]))
    assert torch.equal(now.arrived(apart, generator).particles.events, now.particles.events)
    assert not calls
    alike = now.state.replace(log_weights=torch.full((3, 1), -2.0))
    found = now.arrived(alike, generator)
    assert len(calls) == 1 and len(calls[0]) == 3
    assert torch.equal(found.particles.initial, now.particles.initial[[1, 1, 1]])


def test_strays_are_brought_back_where_particles_are_apart(monkeypatch) -> None:
    now = followed(2).now
    calls = []
    monkeypatch.setattr(
        running_module, "without_strays", lambda *given: calls.append(given) or given[1]
    )
    events = torch.zeros(3, 3, dtype=torch.long)
    particles = replace(now.particles, events=events)
    together = replace(now, state=now.state.with_values(values_of(particles)))
    assert together.gathered(torch.Generator()) is together and not calls
    events = events.clone()
    events[2, 2] = 4
    particles = replace(now.particles, events=events)
    apart = replace(now, state=now.state.with_values(values_of(particles)))
    apart.gathered(torch.Generator())
    assert len(calls) == 1 and torch.equal(calls[0][3], apart.weights)


def test_settings_say_how_many_particles_there_are() -> None:
    assert followed(0, known=fresh(num_particles=7, num_sweeps=0)).now.state.num_particles == 7
    assert InferenceSettings().num_particles == 16
