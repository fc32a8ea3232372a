"""What views and steps say of map cells, term by term, against plain loops; draws of cells, against their chances."""

from collections import Counter, defaultdict
from math import exp, log

import numpy as np
import pytest
import torch
from grid_walks import ACTIONS, Told, Walk, class_of, grip_of, place_of, random_walk, told

from aif_dcpc.agents.gridworld.model.new_view import sort_out, take_view
from aif_dcpc.agents.gridworld.model.segments import add_step_evidence
from aif_dcpc.agents.gridworld.model.urn import NOT_DRAWN, draw_in_turn, pick, redraw_cells

Case = tuple[Walk, list[Told]]
CODES = 17  # readings that there can be in the walks


@pytest.fixture(params=[0, 1, 2])
def case(request: pytest.FixtureRequest) -> Case:
    walk = random_walk(request.param)
    return walk, [told(walk, n) for n in range(len(walk.particles.events))]


def odds_of(walk: Walk, n: int) -> float:
    """How much likelier a right reading is than one certain wrong one, in logs."""
    misread = float(walk.particles.tables.misread[n])
    return log(1 - misread) - log(misread / (CODES - 1))


def test_what_segments_hold_is_weighed_by_their_sightings(case: Case) -> None:
    walk, every = case
    _, segments, sightings = walk.grid.trace(walk.particles.events, walk.history)
    tables = walk.particles.tables
    found = walk.grid.segment_logits(segments, sightings, tables.misread, tables.token_prior)
    rates = walk.grid.log_wrong(tables.misread)
    for n, one in enumerate(every):
        assert float(rates[n]) == pytest.approx(
            log(float(tables.misread[n]) / (CODES - 1)), rel=1e-5
        )
        prior = tables.token_prior[n].log().numpy()
        expected = np.repeat(prior[:1], segments.count, 0)
        for j, (_, token) in enumerate(one.writes):
            row = np.full(prior.shape[1], -1e9)
            row[token] = 0
            expected[len(segments.cells) + j] = row
        numbers = segments.seen[n].tolist()
        for number, sight in zip(numbers, one.sights, strict=True):
            if sight["first"]:
                expected[number] += prior[sight["context"]] - prior[0]
        for number, sight in zip(numbers, one.sights, strict=True):
            if sight["code"] >= 0:
                expected[number, sight["code"]] += odds_of(walk, n)
        assert np.allclose(found[n], expected, rtol=1e-4, atol=1e-3)
    alike = walk.grid.segment_logits(segments, sightings, tables.misread, tables.token_prior[:1])
    assert torch.equal(alike[0], found[0]) and not torch.equal(alike[1], found[1])
    last = walk.grid.present(found, segments)
    latest = segments.latest
    for n in range(len(every)):
        assert torch.allclose(last[n], found[n].softmax(-1)[latest[n]])


def test_contexts_count_where_a_cell_is_first_seen(case: Case) -> None:
    walk, every = case
    _, segments, sightings = walk.grid.trace(walk.particles.events, walk.history)
    prior = walk.particles.tables.token_prior
    found = walk.grid.first_sights(segments, sightings, walk.particles.initial, prior)
    for n, one in enumerate(every):
        expected = np.zeros(len(walk.history))
        for sight in one.sights:
            if sight["first"]:
                row = prior[n].log()[:, sight["token"]]
                expected[sight["time"]] += float(row[sight["context"]] - row[0])
        assert np.allclose(found[n, 0], expected, atol=1e-4)
    never = torch.zeros_like(prior)  # rounded draws
    assert torch.isfinite(
        walk.grid.first_sights(segments, sightings, walk.particles.initial, never)
    ).all()
    logits = walk.grid.segment_logits(segments, sightings, walk.particles.tables.misread, never)
    assert torch.isfinite(logits).all()


def test_a_guess_of_the_token_prior_counts_all_sightings(case: Case) -> None:
    walk, every = case
    past = walk.grid.past.tokens
    rows = walk.grid.memory.token_parameters.double().clone()
    share = (past.sum(0) + 0.5 / 16) / (past.sum() + 0.5)
    assert torch.allclose(rows, (past + 0.5 * share).double(), rtol=1e-5)
    for sight in every[0].sights:
        if sight["code"] >= 0:
            rows[sight["context"], sight["code"]] += 1
    found = walk.grid.shown(walk.history).double()
    assert torch.allclose(found, rows / rows.sum(1, keepdim=True), rtol=1e-5)


def log_step(walk: Walk, one: Told, n: int, time: int, token: int) -> float:
    """log p(event, outcome | token ahead) of one step."""
    known = walk.vocabulary
    history = walk.history
    tables = walk.particles.tables
    event = int(walk.particles.events[n, time])
    action = int(history.action[time])
    faced = int(history.faced[time])
    thing = faced if faced in walk.moving else token
    grip = grip_of(known, thing, int(history.hand[time - 1]))
    row = ACTIONS + event if event else action
    place = place_of(known, thing, int(history.match[thing]), one.passed[time - 1])
    chance = tables.transition[n, action, class_of(known, thing), grip, event]
    return log(float(chance * tables.outcome[n, row, place, int(history.outcome[time])]))


def test_what_was_done_bears_on_the_cell_that_was_ahead(case: Case) -> None:
    walk, every = case
    trajectory, segments, _ = walk.grid.trace(walk.particles.events, walk.history)
    steps = walk.grid.step_evidence(
        walk.particles.events, trajectory, walk.history, walk.particles.tables
    )
    number = len(walk.vocabulary.tokens.members)
    for n, one in enumerate(every):
        for time in range(1, len(walk.history)):
            expected = [log_step(walk, one, n, time, token) for token in range(number)]
            assert steps[n, time - 1, :number].tolist() == pytest.approx(expected, rel=1e-4)
    done = add_step_evidence(torch.zeros(len(every), segments.count, 16), segments, steps)
    for n, one in enumerate(every):
        sums: dict[object, float] = defaultdict(float)
        names = dict(zip(one.segment_ahead, segments.cell_ahead[n].tolist(), strict=True))
        for time in range(1, len(walk.history)):
            sums[one.segment_ahead[time - 1]] += float(steps[n, time - 1, 3])
        for name, place in names.items():
            assert float(done[n, place, 3]) == pytest.approx(sums[name], abs=1e-3)


# -- cells drawn one after another -----------------------------------------------------------------


def chances_of_cell(walk: Walk, n: int, sights: list[dict], urn: np.ndarray) -> np.ndarray:
    """Joint weight of a cell's tokens and its sightings (over those of all wrong readings), `(V,)`."""
    row = urn[sights[0]["context"]]
    shown = Counter(s["code"] for s in sights)
    return row / row.sum() * np.exp([odds_of(walk, n) * shown[v] for v in range(len(row))])


def by_cell(one: Told) -> dict[object, list[dict]]:
    """Sightings of each cell before anything was written there."""
    found: dict[object, list[dict]] = {}
    for sight in one.sights:
        if sight["segment"][1] == 0:
            found.setdefault(sight["cell"], []).append(sight)
    return found


def test_a_map_is_weighed_by_what_each_cell_could_have_been(case: Case) -> None:
    """Cells in the order of their numbers, each from the urn that the ones before have filled."""
    walk, every = case
    tables = walk.particles.tables
    found = walk.grid.log_views(
        walk.particles.events, walk.particles.initial, walk.history, tables.misread
    )
    _, segments, _ = walk.grid.trace(walk.particles.events, walk.history)
    size = walk.geometry.size
    for n, one in enumerate(every):
        urn = walk.grid.memory.token_parameters.double().numpy().copy()
        total = len(one.sights) * log(float(tables.misread[n]) / (CODES - 1))
        cells = by_cell(one)
        for flat in segments.cells.tolist():
            cell = divmod(flat, size)
            if cell in cells:
                total += log(chances_of_cell(walk, n, cells[cell], urn).sum())
                urn[cells[cell][0]["context"], cells[cell][0]["token"]] += 1
        written = [s for s in one.sights if s["segment"][1]]
        total += odds_of(walk, n) * sum(s["code"] == s["token"] for s in written)
        assert float(found[n]) == pytest.approx(total, rel=1e-4)


def test_maps_are_drawn_where_something_was_seen_and_elsewhere_as_anywhere() -> None:
    """A map that is drawn is weighed as the same one given; what was not seen is even over particles, and as frequent as all."""
    walk = random_walk(4, size=32, number=1, length=4)
    number = 40
    many = walk.particles.events.expand(number, -1).contiguous()
    misread = torch.full((number,), 0.1)
    maps, gain = walk.grid.draw_map(many, walk.history, misread, torch.Generator().manual_seed(0))
    assert torch.equal(walk.grid.log_views(many, maps, walk.history, misread), gain)
    cells = [y * 32 + x for y, x in by_cell(told(walk, 0))]
    other = np.setdiff1d(np.arange(32 * 32), cells)
    assert (maps[:, other] == maps[:1, other]).all() and not (
        maps[:, cells] == maps[:1, cells]
    ).all()
    row = walk.grid.urn[0] / walk.grid.urn[0].sum()
    share = np.bincount(maps[0, other], minlength=16) / len(other)
    assert (np.abs(share - row) < 5 * np.sqrt(row * (1 - row) / len(other)) + 1e-3).all()


def test_a_cell_is_drawn_by_its_chances() -> None:
    """One cell, seen twice as token 1 and once as 2; evenly spread uniform numbers give exact shares."""
    number = 2000
    urn = np.array([[1.0, 2.0, 0.5], [3.0, 1.0, 4.0]])
    odds = np.log(np.linspace(1.5, 1.5, number))
    seen = np.zeros((number, 3), np.int64)
    code = np.array([1, 2, 1])
    context = np.array([1, 0, 0])
    uniform = ((np.arange(number) + 0.5) / number)[:, None]
    free = np.full((number, 1), NOT_DRAWN)
    none = np.zeros((number, 0), np.int64)
    found, gain = draw_in_turn(seen, code, context, free, none, odds, urn, uniform)
    chance = urn[1] * [1, 1.5**2, 1.5]
    shares = np.bincount(found[:, 0], minlength=3) / number
    assert np.allclose(shares, chance / chance.sum(), atol=1 / number)
    assert np.allclose(gain, log(chance.sum() / urn[1].sum()))
    steps = np.log(np.tile([0.2, 0.1, 0.6], (number, 1, 1)))
    full = chance * [0.2, 0.1, 0.6]
    for before in range(3):
        start = np.full((number, 1), before)
        found = redraw_cells(seen, code, context, start, odds, urn, steps, uniform)
        shares = np.bincount(found[:, 0], minlength=3) / number
        assert np.allclose(shares, full / full.sum(), atol=1 / number)


def test_a_cell_is_drawn_anew_given_all_others() -> None:
    """Two cells of one context: what the other holds is in the urn, what it held itself is not."""
    number = 1000
    urn = np.array([[1.0, 2.0, 0.5]])
    seen = np.tile([0, 1], (number, 1))
    code = np.array([-2, 2])
    uniform = np.stack([(np.arange(number) + 0.5) / number, np.zeros(number)], 1)
    start = np.tile([2, 1], (number, 1))
    even = np.zeros((number, 2, 3))
    odds = np.full(number, log(3.0))
    found = redraw_cells(seen, code, 0 * code, start, odds, urn, even, uniform)
    first = urn[0] + [0, 1, 0]
    assert np.allclose(
        np.bincount(found[:, 0], minlength=3) / number, first / first.sum(), atol=2e-3
    )
    assert (found[:, 1] == 0).all()  # the first token is the first that a number of zero reaches
    unseen = redraw_cells(seen[:, :1], code[:1], 0 * code[:1], start, odds, urn, even, uniform)
    assert (unseen[:, 1] == 1).all()


def test_a_slot_is_picked_by_its_share() -> None:
    chance = np.array([0.2, 0.0, 0.5, 0.3])
    assert [pick(chance, 1.0, number) for number in (0.0, 0.19, 0.21, 0.69, 0.71, 0.99)] == [
        0, 0, 2, 2, 3, 3,
    ]  # fmt: skip
    assert pick(chance, 1.0, 1.0) == 2  # rounding: the likeliest


# -- a new view ------------------------------------------------------------------------------------


def test_cells_of_a_view_are_sorted_into_old_and_new_ones() -> None:
    """Of six cells: one surely known, two seen before, one faced but never seen, one not numbered, one acted on."""
    view = np.array([9, 4, 2, 7, 5, 1])
    place_of = np.full(10, -1)
    place_of[[9, 4, 2, 7, 1]] = np.arange(5)
    sure = np.array([3, -1, -1, -1, 0])
    first = np.array([0, 5, 2, -1, 1])
    old = np.empty(6, np.int64)
    new = np.empty(6, np.int64)
    holds = sort_out(view, sure, place_of, first, old, new)
    assert holds.tolist() == [3, -1, -1, -1, -1, 0]
    assert old.tolist() == [-1, 1, 2, -1, -1, -1]
    assert new.tolist() == [-1, -1, -1, 5 + 3, 5 + 4, -1]


def log_urn_products(cells: list[tuple[int, Counter, int]], urn: np.ndarray, odds: float) -> float:
    """Log of the product of Z of cells (context, sightings, token) drawn in turn; the urn is filled."""
    total = 0.0
    for context, shown, token in cells:
        likelihood = np.exp([odds * shown[v] for v in range(urn.shape[1])])
        total += log((urn[context] * likelihood).sum() / urn[context].sum())
        urn[context, token] += 1
    return total


def test_a_view_is_weighed_given_each_event_that_may_have_led_to_it() -> None:
    """Cells 0 to 7 in a row. Seen: 1, 2 (twice), 3, 4; 3 was acted on; 4 was written. Views show 2, 3, 4, 5 or 0, 1, 2, 3."""
    source = np.random.default_rng(0)
    urn = source.random((3, 4)) + 0.2
    cells = np.array([1, 2, 3, 4, 6])  # 6 was faced, but not seen
    initial = np.array([[0, 1, 2, 3, 0, 1, 2, 3]])
    seen = np.array([[0, 1, 1, 2, 3, 5]])
    code = np.array([1, 2, 3, 3, 0, 2])
    context = np.array([0, 1, 2, 1, 0, 2])
    written = np.array([[2]])
    latest = np.array([[0, 1, 2, 5, 4]])
    fixed = np.array([[0, 0, 1, 0, 0]])
    views = np.array([[[2, 3, 4, 5], [0, 1, 2, 3]]])
    shows = np.array([2, 3, 2, 1])
    contexts = np.array([0, 1, 2, 1])
    odds = log(5.0)
    writes = np.array([-1, 1])  # the second event turns the cell ahead, 3, into 1
    uniform = source.random((1, 3, 4))
    found, gain = take_view(
        seen, code, context, initial, written, cells, latest, fixed, views, shows, contexts,
        np.array([3]), writes, np.array([-1]), np.array([odds]), urn, uniform,
    )  # fmt: skip

    def filled(without: set[int]) -> np.ndarray:
        full = urn.copy()
        for cell, of in ((1, 0), (2, 1), (3, 1), (4, 0)):
            if cell not in without:
                full[of, initial[0, cell]] += 1
        return full

    before = {1: Counter([1]), 2: Counter([2, 3])}
    # after the first event 2 is old and 5 new; 3 holds what it held, 4 what was written
    two, five = int(found[0, 0, 0]), int(found[0, 0, 3])
    assert found[0, 0].tolist() == [two, -1, -1, five] and min(two, five) >= 0
    expected = odds * 2 - log_urn_products([(1, before[2], 2)], filled({2}), odds)
    expected += log_urn_products(
        [(1, before[2] + Counter([2]), two), (1, Counter([1]), five)], filled({2}), odds
    )
    assert gain[0, 0] == pytest.approx(expected)
    # after the second 1 and 2 are old, 0 is new, and 3 is what the event has made of it
    zero, one, two = found[0, 1, :3].tolist()
    assert found[0, 1].tolist() == [zero, one, two, -1] and min(zero, one, two) >= 0
    expected = odds * (shows[3] == 1)
    expected -= log_urn_products([(0, before[1], 1), (1, before[2], 2)], filled({1, 2}), odds)
    after = [(0, before[1] + Counter([3]), one), (1, before[2] + Counter([2]), two)]
    expected += log_urn_products([*after, (0, Counter([2]), zero)], filled({1, 2}), odds)
    assert gain[0, 1] == pytest.approx(expected)


def test_cells_in_a_view_are_drawn_by_their_chances_with_it() -> None:
    """One old cell and one new one, each in turn, by evenly spread uniform numbers."""
    number = 500
    urn = np.array([[1.0, 2.0, 0.5], [0.4, 0.6, 1.0]])
    odds = log(4.0)
    uniform = np.zeros((number, 2, 2))
    uniform[:, 0] = ((np.arange(number) + 0.5) / number)[:, None]
    many = np.ones((number, 1), np.int64)
    found, _ = take_view(
        0 * many, np.array([2]), np.array([1]), np.tile([0, 1, 2], (number, 1)),
        np.zeros((number, 0), np.int64), np.array([1]), 0 * many, 0 * many,
        np.tile([1, 2], (number, 1, 1)), np.array([0, -2]), np.array([0, 0]), many[:, 0], np.array([-1]),
        -many[:, 0], np.full(number, odds), urn, uniform,
    )  # fmt: skip
    old = urn[1] * [4, 1, 4]
    new = urn[0]
    for place, chance in enumerate((old, new)):
        shares = np.bincount(found[:, 0, place], minlength=3) / number
        assert np.allclose(shares, chance / chance.sum(), atol=1 / number), place


def test_a_map_that_knows_the_view_already_is_tried_as_it_is() -> None:
    """The kept event's cells stay; without the view they are drawn as they would have been, by their chances."""
    number = 400
    urn = np.array([[1.0, 2.0, 0.5]])
    odds = log(4.0)
    uniform = np.zeros((number, 2, 1))
    uniform[:, 1] = ((np.arange(number) + 0.5) / number)[:, None]
    many = np.ones((number, 1), np.int64)

    def tried(kept: int) -> tuple[np.ndarray, np.ndarray]:
        return take_view(
            np.tile([0, 1], (number, 1)), np.array([2, 1]), np.array([0, 0]), np.tile([0, 1], (number, 1)),
            np.zeros((number, 0), np.int64), np.array([0, 1]), np.tile([0, 1], (number, 1)),
            np.zeros((number, 2), np.int64), np.zeros((number, 1, 1), np.int64), np.array([1]), np.array([0]),
            many[:, 0], np.array([-1]), np.full(number, kept), np.full(number, odds), urn, uniform,
        )  # fmt: skip

    found, gain = tried(0)
    assert (found == 0).all()
    other = urn[0] + [0, 1, 0]
    with_view = (other * [1, 4, 4]).sum()
    without = (other * [1, 1, 4]).sum()
    assert np.allclose(gain, log(with_view / without))
    _, fresh = tried(-1)
    assert np.allclose(fresh, gain) and exp(float(gain[0, 0])) > 1
