"""What pictures of agents show, pixel by pixel: beliefs over time, the grid agent's map, bars of alternatives."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, Normal

from aif_dcpc.agents import explain as explain_module
from aif_dcpc.agents.belief_pictures import (
    BINS,
    INK,
    LINE,
    MOST_SITES,
    WIDTH,
    belief_pictures,
    present,
)
from aif_dcpc.agents.explain import BAR, CHOSEN, OTHERS, Explanation, explain, explanation_of
from aif_dcpc.agents.gridworld import pictures
from aif_dcpc.agents.gridworld.pictures import (
    CELL,
    PLAN,
    UNKNOWN,
    _square,
    map_picture,
    token_colours,
    token_legend,
    token_tiles,
)
from aif_dcpc.agents.gridworld.planning.belief import Belief
from aif_dcpc.agents.panels import HEIGHT, WORDS, enlarged, panel
from aif_dcpc.agents.planners.protocol import Plan
from aif_dcpc.inference import DCPC, GraphicalModel, lag

# -- pages -----------------------------------------------------------------------------------------


def test_a_page_is_as_wide_as_its_words_or_what_is_drawn() -> None:
    drawn = np.full((100, 50, 3), 7, np.uint8)
    page = panel(drawn, "ab", 120)
    assert page.shape == (HEIGHT + WORDS, 120, 3) and (page[:100, :50] == 7).all()
    assert (page[100:HEIGHT] == 255).all() and (page[:HEIGHT, 50:] == 255).all()
    assert (page[HEIGHT:] < 128).any() and page.dtype == np.uint8
    assert panel(drawn, "a" * 30, 120).shape[1] == 8 + 6 * 30
    assert panel(np.zeros((9, 300, 3), np.uint8), "", 120).shape[1] == 300
    row = np.arange(4, dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(3, 2)
    large = enlarged(row)
    assert large.shape == (HEIGHT, HEIGHT // 2, 3)
    assert large[:, 0, 0].tolist() == [y * 4 // HEIGHT for y in range(HEIGHT)]
    assert enlarged(np.zeros((600, 1, 3), np.uint8)).shape == (HEIGHT, 1, 3)


# -- beliefs over time --------------------------------------------------------------------------------


def cloud(length: int = 3) -> tuple[DCPC, object]:
    """Four particles of a finite site, of a number and of a pair of numbers; what is seen hangs on the first."""
    model = GraphicalModel()
    chances = torch.full((3, 3), 1 / 3)
    model.add_site("where", lambda past: Categorical(chances[past]), [lag("where")], scope="slice",
                   initial=lambda: Categorical(chances[0]))  # fmt: skip
    model.add_site("level", lambda where: Normal(where.float(), 1.0), ["where"], scope="slice")
    model.add_site(
        "pair", lambda where: Independent(Normal(where.float()[..., None].expand(*where.shape, 2), 1.0), 1),
        ["where"], scope="slice",
    )  # fmt: skip
    model.add_site("seen", lambda where: Normal(where.float(), 1.0), ["where"], scope="slice")
    engine = DCPC(model, num_particles=4)
    state = engine.init({"seen": torch.zeros(1, length)}, seed=0)
    where = torch.tensor([0, 1, 2, 2])[:, None, None].repeat(1, 1, length)
    where[:, 0, -1] = torch.tensor([0, 0, 0, 1])
    level = torch.tensor([-1.0, 0.0, 2.0, 3.0])[:, None, None].repeat(1, 1, length)
    values = {**state.values, "where": where, "level": level}
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()[:, None]
    return engine, state.replace(values=values, log_weights=weights, cache={})


def ink_at(page: np.ndarray, row: int, rows: int, column: int, columns: int) -> float:
    """Share of ink in the middle of a cell; the square root of its chance."""
    width = max(10, min(50, WIDTH // columns))
    y = int((row + 0.5) * HEIGHT / rows)
    colour = page[y, column * width + width // 2].astype(float)
    shares = (255 - colour) / (255 - INK)
    assert np.ptp(shares) < 0.02
    return float(shares.mean())


def test_a_belief_is_drawn_in_every_slice() -> None:
    """Values upwards; the larger its chance the darker; of numbers in as many bins."""
    _, state = cloud()
    found = belief_pictures(state, 3)
    assert set(found) == {"belief/where", "belief/level", "belief/pair_0", "belief/pair_1"}
    page = found["belief/where"]
    for column, chances in enumerate([[0.1, 0.2, 0.7], [0.1, 0.2, 0.7], [0.6, 0.4, 0.0]]):
        for value, chance in enumerate(chances):
            assert ink_at(page, 2 - value, 3, column, 3) == pytest.approx(chance**0.5, abs=0.02)
    level = found["belief/level"]
    places = {0: 0.1, BINS // 4: 0.2, 3 * BINS // 4: 0.3, BINS - 1: 0.4}
    for place in range(BINS):
        expected = places.get(place, 0.0) ** 0.5
        assert ink_at(level, BINS - 1 - place, BINS, 1, 3) == pytest.approx(expected, abs=0.02)
    lines = {HEIGHT * row // 3 for row in range(3)}
    assert all((page[y, :150] == LINE).all() for y in lines)
    assert all((page[:HEIGHT, x] == LINE).all() for x in (0, 50, 100))
    assert (page[:HEIGHT, 150:] == 255).all()


def test_the_latest_slices_are_shown() -> None:
    _, state = cloud(40)
    page = belief_pictures(state, 99)["belief/where"]
    assert (page[:HEIGHT, [10 * n for n in range(30)]] == LINE).all() and page.shape[1] == WIDTH
    assert ink_at(page, 2, 3, 29, 30) == pytest.approx(0.6**0.5, abs=0.02)
    two = belief_pictures(state, 2)["belief/where"]
    assert ink_at(two, 2, 3, 0, 2) == pytest.approx(0.1**0.5, abs=0.02)
    assert (two[:HEIGHT, 100:] == 255).all()
    last = present(state)
    assert last["where"].tolist() == [[0.0], [0.0], [0.0], [1.0]] and last["pair"].shape == (4, 2)
    assert set(last) == {"where", "level", "pair"}


def test_no_more_sites_are_drawn_than_can_be_looked_at() -> None:
    model = GraphicalModel()
    for number in range(9):
        model.add_site(f"x{number}", lambda: Normal(torch.zeros(()), 1.0), [], scope="slice")
    model.add_site("seen", lambda x: Normal(x, 1.0), ["x0"], scope="slice")
    engine = DCPC(model, num_particles=2)
    state = engine.init({"seen": torch.zeros(1, 2)}, seed=0)
    assert len(belief_pictures(state, 2)) == MOST_SITES == 6


# -- the grid agent's map -------------------------------------------------------------------------------


def belief_of_map(
    poses: list[tuple[int, int, int]], weights: list[float], seen: list[tuple[int, int]]
) -> Belief:
    """A map of 16 x 16 cells whose first row and column lie at (-3, 5); all that was seen holds token 1."""
    cells = np.full((256, 2), 0.5)
    known = np.zeros(256, bool)
    for y, x in seen:
        known[y % 16 * 16 + x % 16] = True
        cells[y % 16 * 16 + x % 16] = 0, 1
    pose = np.array(poses)
    return Belief(np.array([-3, 5]), cells, cells[0], known, pose, np.array(weights), 0, 0, {})


def canvas_of(
    belief: Belief, path: list[tuple[int, int, int]], tiles: np.ndarray, monkeypatch
) -> np.ndarray:
    """What is drawn before it is scaled."""
    kept = []
    monkeypatch.setattr(pictures, "enlarged", lambda drawn: kept.append(drawn) or enlarged(drawn))
    page = map_picture(belief, tiles, np.array(path, np.int64).reshape(-1, 3))
    assert page.shape == (HEIGHT + WORDS, max(HEIGHT, page.shape[1]), 3)
    return kept[0]


def test_the_map_shows_what_was_seen_around_its_middle(monkeypatch) -> None:
    seen = [(y, x) for y in range(0, 3) for x in range(8, 12)]
    tiles = np.zeros((2, CELL, CELL, 3))
    tiles[1] = 200.0
    belief = belief_of_map([(1, 9, 0)], [0.0], seen)
    drawn = canvas_of(belief, [(1, 11, 0), (8, 11, 0)], tiles, monkeypatch)
    assert drawn.shape == (9 * CELL, 9 * CELL, 3)
    # rows 0 to 2 of -3 ...: numbers 3 to 5; a square of 9 around them begins at 0; columns 3 to 6 likewise
    bright = {
        (r, c) for r in range(9) for c in range(9) if drawn[r * CELL + 3, c * CELL + 3, 0] == 200
    }
    assert bright == {(r, c) for r in (3, 4, 5) for c in (3, 4, 5, 6)}
    assert (
        drawn[3, 3].tolist() == [UNKNOWN] * 3
        and (drawn[::CELL] == 45).all()
        and (drawn[:, ::CELL] == 45).all()
    )
    middle = CELL // 2
    assert drawn[4 * CELL + middle, 6 * CELL + middle].tolist() == PLAN.tolist()
    dots = (drawn == PLAN).all(-1)
    dot = dots[4 * CELL : 5 * CELL, 6 * CELL : 7 * CELL]
    assert np.array_equal(dot, dot[::-1]) and np.array_equal(
        dot, dot.T
    )  # in the middle of its cell
    y, x = np.mgrid[:CELL, :CELL] - (CELL - 1) / 2
    assert np.array_equal(dot, y**2 + x**2 < (CELL / 8) ** 2)
    assert dots.sum() == dots[4 * CELL : 5 * CELL, 6 * CELL : 7 * CELL].sum() <= (CELL / 4) ** 2


@pytest.mark.parametrize(
    ("rows", "columns", "first", "side"),
    [
        ((3, 6), (3, 7), (0, 0), 9),  # with the middle of what was seen in the middle
        ((6, 8), (7, 12), (2, 5), 9),
        ((4, 8), (2, 10), (1, 1), 10),  # a cell more than was seen on either side
        ((0, 2), (14, 16), (0, 7), 9),  # not beyond the map
        ((0, 16), (5, 6), (0, 0), 16),  # nor larger than it
        ((1, 15), (1, 5), (0, 0), 16),
    ],
)
def test_the_square_that_is_shown(rows, columns, first, side) -> None:
    seen = np.zeros((16, 16), bool)
    seen[slice(*rows), slice(*columns)] = True
    assert _square(seen) == (*first, side)


@pytest.mark.parametrize("heading", range(4))
def test_an_arrowhead_points_where_the_particle_looks(heading: int, monkeypatch) -> None:
    """White as far as the particle weighs; broad behind, narrow ahead."""
    seen = [(1, 9)]
    tiles = np.zeros((2, CELL, CELL, 3))
    for weight in (1.0, 0.5):
        belief = belief_of_map([(1, 9, heading)], [weight], seen)
        drawn = canvas_of(belief, [], tiles, monkeypatch)
        lit = (drawn[..., 0] > 60).nonzero()
        row, column = (int(part.min()) // CELL for part in lit)
        patch = drawn[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL, 0]
        assert patch.max() == pytest.approx(255 * weight, abs=1)
        upright = (
            np.rot90(patch, heading + 1) > 60
        )  # heading 0 looks along +x; then ahead is upwards
        widths = upright[1:].sum(1)
        filled = widths.nonzero()[0]
        assert widths[filled[0]] == 2 and widths[filled[-1]] == 14 and filled[-1] - filled[0] > 12
        assert (np.diff(widths[filled]) >= 0).all()


def test_cells_are_as_bright_as_they_are_sure(monkeypatch) -> None:
    belief = belief_of_map([(1, 9, 0)], [0.0], [(1, 9), (1, 10)])
    belief.cells[1 * 16 + 10] = 0.5, 0.5
    tiles = np.zeros((2, CELL, CELL, 3))
    tiles[1] = 200.0
    drawn = canvas_of(belief, [], tiles, monkeypatch)
    levels = {int(v) for v in drawn[3::CELL, 3::CELL, 0].ravel()}
    assert levels == {int(UNKNOWN), 200, int(0.5 * 100 + 0.5 * UNKNOWN)}


def test_tokens_have_tiles_or_colours_of_their_own() -> None:
    colours = token_colours(12)
    assert colours.shape == (12, 3) and colours.min() >= 50 and colours.max() <= 230
    apart = np.abs(colours[:, None] - colours).sum(-1) + 1000 * np.eye(12)
    assert apart.min() > 25
    phase = 2 * np.pi * ((3 * 0.618 + 0.55) % 1 + np.array([0, 1 / 3, 2 / 3]))
    assert np.allclose(colours[3], 140 + 90 * np.cos(phase))
    tile = np.full((CELL, CELL, 3), 9, np.uint8)
    tiles = token_tiles([7, 5, 4], {5: tile, 4: tile}, 2)
    assert (tiles[1] == 9).all() and np.allclose(tiles[0], colours[0]) and len(tiles) == 2
    legend = token_legend([7, 5], {5: tile})
    assert set(legend) == {7, 5} and (legend[5] == 9).all() and legend[7].dtype == np.uint8


# -- alternatives ------------------------------------------------------------------------------------------


def test_alternatives_are_written_with_their_terms() -> None:
    total = np.array([2.0, -1.5, 0.25])
    terms = {"neg_expected_log_preference": total, "novelty": 0 * total + 0.125}
    found = Explanation(["left", "right", "on"], total, terms, 2)
    lines = found.text().splitlines()
    assert lines[0].split() == ["EFE", "-E", "log", "pref", "novelty"]
    assert [line.split()[0] for line in lines[1:]] == ["right", "on*", "left"]
    assert [line.split()[1:] for line in lines[1:]] == [
        ["-1.500", "-1.500", "0.125"], ["0.250", "0.250", "0.125"], ["2.000", "2.000", "0.125"],
    ]  # fmt: skip
    assert {len(line) for line in lines} == {18 + 1 + 3 * 13 - 1}


def test_a_bar_and_its_number_stand_where_there_is_room() -> None:
    """Twelve pixels high; the number beside it, which fits on the page beside the longest."""
    total = np.array([0.0, 0.5, 1.0, 1234.5])
    found = Explanation(["a", "b", "c", "d"], total, {}, 0)
    page = found.picture()[:HEIGHT].astype(int)
    left, longest = BAR
    colours = [CHOSEN, OTHERS, OTHERS, OTHERS]
    for row, index in enumerate(found.order()):
        top = row * HEIGHT // 8
        bar = (page[top : top + HEIGHT // 8, left] == colours[index]).all(-1)
        assert bar.nonzero()[0].tolist() == list(range(4, 16))
        right = left + 2 + int(longest * total[index] / 1234.5)
        assert (page[top + 4, left : right + 1] == colours[index]).all()
        assert (page[top + 4, right + 1 :] == 255).all()
        letters = (page[top + 6 : top + 14, left:] != colours[index]).any(-1)
        inked = letters & (page[top + 6 : top + 14, left:] != 255).any(-1)
        columns = inked.any(0).nonzero()[0] + left
        number = f"{total[index]:.3g}"
        assert right + 4 <= columns.min() <= right + 7
        assert columns.max() <= right + 4 + 6 * len(number) < explain_module.WIDTH


def test_alternatives_that_all_cost_infinity_are_drawn_alike() -> None:
    total = np.full(2, np.inf)
    found = Explanation(["a", "b"], total, {"risk": total}, 0)
    page = found.picture()[:HEIGHT].astype(int)
    for row, colour in enumerate((CHOSEN, OTHERS)):
        top = row * HEIGHT // 8 + 4
        assert (page[top, BAR[0] : BAR[0] + 3] == colour).all()
        assert (page[top, BAR[0] + 3 :] == 255).all()


def test_a_plan_is_laid_out_by_the_names_of_actions() -> None:
    terms = {
        "risk": torch.tensor([1.0, 2.0]),
        "novelty": torch.tensor([0.5, 0.5]),
        "other": torch.zeros(2),
    }
    policies = torch.tensor([[0, 1], [1, 1]])
    total = torch.tensor([0.5, 1.5])
    plan = Plan(policies=policies, expected_free_energy=total, terms=terms)
    found = explanation_of(plan, 1, ["left", "right"])
    assert set(found.terms) == {"risk", "novelty"} and found.chosen == 1
    assert found.total.tolist() == [0.5, 1.5] and found.labels == ["left right", "right right"]
    later = Plan(policies=policies + 7, expected_free_energy=total)
    labels = explanation_of(later, 1, ["left", "right"], first=7).labels
    assert labels == found.labels and explanation_of(later, 1).labels == ["7 8", "8 8"]
    long = Plan(policies=torch.arange(5)[None], expected_free_energy=total[:1])
    assert explanation_of(long, 0).labels == ["0 1 2 3"]
    pushes = Plan(
        policies=torch.tensor([[[0.126, -1.0], [3.0, 4.0]]]), expected_free_energy=total[:1]
    )
    assert explanation_of(pushes, 0).labels == ["0.13 -1.00"]
    assert explain(plan, ["left", "right"]) == explanation_of(plan, 0, ["left", "right"]).text()
