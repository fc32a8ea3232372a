"""The notebooks say what their code prints, and posteriors are right.

A number that a page shows as printed lies within five Monte Carlo errors of what the code prints
here, both runs having one. The error comes from the chains: the block is run again with each
thirty-second of them alone, and what it prints differs as chains do (31 degrees of freedom: a right
number fails 2 in 100,000 times; the pages show about five hundred). R-hat and effective sizes must be
as good, or as bad, as shown; quantiles of zeros and ones jump, and are not compared; times are the
machine's. Posteriors are compared with `guide_posteriors`. What other notebooks find is held to
their own oracles in `test_guide.py`, `test_discrete_guides.py` and `test_notebook_guides.py`.
"""

import itertools
import re
import warnings
from dataclasses import replace
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import guide_posteriors
import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from notebook_scripts import notebooks, script

from aif_dcpc.inference.arrival.draws import Draws
from aif_dcpc.inference.arrival.judge import MAX_R_HAT
from aif_dcpc.inference.errors import ConvergenceWarning

ROOT = Path(__file__).resolve().parents[2]
GROUPS = 32  # of chains
ERRORS = 5 * 2**0.5  # two runs of the same error
ENOUGH = 400  # effective draws (Vehtari et al. 2021)
NUMBER = re.compile(r"(?<![\w.\[])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")  # but for those of names
LARGEST = 250_000  # bytes of a notebook
ALL = notebooks.PAGES
PAGES = [page for page in ALL if hasattr(guide_posteriors, page.stem)]


# -- what is printed against what is shown ---------------------------------------------------------


def words(line):
    return NUMBER.sub("#", " ".join(line.split()))


def numbers(line):
    return [float(found) for found in NUMBER.findall(line)]


def fits(shown, line):
    """Whether a line is the one that is shown, but for its numbers and what `...` stands for."""
    pattern = ".*".join(re.escape(words(part)) for part in shown.split("..."))
    return re.fullmatch(pattern, words(line)) is not None


def places(shown, printed):
    """For each line that is shown, its place among those that are printed; `...` leaves out any number."""
    found = []
    place = 0
    skips = False
    lines = printed.splitlines()
    for line in shown.splitlines():
        if line == "...":
            skips = True
            continue
        while skips and place < len(lines) and not fits(line, lines[place]):
            place += 1
        assert place < len(lines), f"{line!r} is not printed"
        assert fits(line, lines[place]), f"{line!r} is shown, {lines[place]!r} is printed"
        found.append((line, place))
        place += 1
        skips = False
    assert skips or place == len(lines), f"{lines[place]!r} is printed and not shown"
    return found


def disagreements(shown, printed, others):
    """Numbers that are shown and not printed; `others` are what groups of chains print."""
    lines = printed.splitlines()
    table = False
    for line, place in places(shown, printed):
        table = "R-hat" in line or (table and "draws," not in line)
        if any(part in line for part in ("...", "draws,", "(R-hat")) or not numbers(line):
            continue
        spread = [numbers(other.splitlines()[place]) for other in others]
        errors = torch.tensor(spread, dtype=torch.float64).std(0) / len(others) ** 0.5
        row = list(zip(NUMBER.findall(line), numbers(lines[place]), errors.tolist(), strict=True))
        if table and "R-hat" not in line:
            row = row[:2] if set(numbers(line)[2:5]) <= {0.0, 1.0} else row[:-3]
            if is_good(numbers(line)) != is_good(numbers(lines[place])):
                yield line, "diagnosis", lines[place]
        for text, value, error in row:
            if abs(float(text) - value) > ERRORS * error + rounding(text, error):
                yield line, text, value, error


def is_good(row):
    """Whether R-hat and effective sizes, at the end of a row, are as they should be."""
    *_, r_hat, bulk, tail = row
    return r_hat <= MAX_R_HAT and min(bulk, tail) >= ENOUGH


def rounding(text, error):
    """A unit of the last digit; whole numbers that have no error are exact."""
    unit = 10.0 ** Decimal(text).as_tuple().exponent
    return unit * (1 + 1e-9) if error or "." in text else 0.0


def of_group(draws, index):
    """The draws of some chains alone."""
    own = slice(index, None, GROUPS)
    values = {name: value[:, own] for name, value in draws.values.items()}
    return replace(
        draws,
        values=values,
        log_joint=draws.log_joint[:, own],
        acceptance=draws.acceptance[own],
    )


def printed_by_groups(part, names):
    """What a block prints if there are but the chains of one group, group by group; nothing is sampled anew."""
    draws = {name: value for name, value in names.items() if isinstance(value, Draws)}
    for index in range(GROUPS):
        few = {name: of_group(value, index) for name, value in draws.items()}
        yield part.run(names | few, given=few)


# -- pages -----------------------------------------------------------------------------------------


def agrees_with(draws, mean, variance):
    """Whether mean and variance of draws `(S, K, 1, *rest)` lie within 5 standard errors of chains.

    The factor of two runs stays, since posteriordb's 10,000 draws have errors of their own. A mean's is at least
    that of independent draws (chains without a rare event have none), and zeros and ones have no variance apart.
    """
    draws = draws.double()
    least = (variance / (draws.shape[0] * draws.shape[1])).sqrt()
    near = _near(draws, mean, least)
    is_binary = bool(((draws == 0) | (draws == 1)).all())
    return near and (is_binary or _near((draws - mean).square(), variance, 0 * least))


def _near(draws, expected, least):
    chains = draws.mean(0)
    error = torch.maximum(chains.std(0) / len(chains) ** 0.5, least)
    return bool(((chains.mean(0) - expected).abs() < ERRORS * error).all())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_guide_prints_what_it_shows_and_draws_from_the_posterior(page):
    names = {}
    said = ""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ConvergenceWarning)
        for part, printed in notebooks.walk(page, names):
            said += printed
            assert (part.output is None) == (not printed)
            if part.output is not None:
                others = list(printed_by_groups(part, names))
                assert list(disagreements(part.output, printed, others)) == []
            assert bool(part.pictures) == bool(plt.get_fignums())
    assert [str(w.message) for w in warned if f"{w.message}\n" not in said] == []
    assert not names["draws"].warnings
    for site, expected in getattr(guide_posteriors, page.stem)(names).items():
        assert agrees_with(names["draws"][site], *expected), site


def prose(page):
    """What is said between cells, without blocks, code, targets of links, years, and numbers of a list."""
    text = re.sub(r"^    .*$", "", notebooks.prose(page), flags=re.MULTILINE)
    text = re.sub(r"^\d\. ", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`]+`|\]\([^)]+\)|\b(19|20)\d\d\b", "", text)


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_prose_states_no_number_of_its_own(page):
    """Each stands in the notebook's code, or in what it prints, or is a threshold."""
    shown = "\n".join(f"{part.code}\n{part.output}" for part in notebooks.parts(page))
    known = {*re.findall(r"[\d.]*\d", shown), str(MAX_R_HAT), str(ENOUGH)}
    assert {*NUMBER.findall(prose(page))} - known == set()


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_what_is_kept_is_that_of_the_code(page):
    advice = (
        f"the code of {page.name} has changed: run it anew with `make notebooks`, and look at it"
    )
    book = nbformat.read(page, as_version=4)
    nbformat.validate(book)
    assert book.metadata["aif_dcpc"]["code"] == notebooks.digest(page), advice
    assert page.stat().st_size < LARGEST
    outputs = [o for cell in book.cells if cell.cell_type == "code" for o in cell.outputs]
    kinds = {output.get("name") or tuple(output["data"]) for output in outputs}
    assert kinds == {"stdout", ("image/png",)}  # nothing of the machine that it ran on


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_every_picture_has_its_caption(page):
    """In italics, in the cell of text that follows."""
    cells = nbformat.read(page, as_version=4).cells
    for cell, after in itertools.pairwise(cells):
        if cell.cell_type == "code" and any("data" in output for output in cell.outputs):
            assert re.match(r"\*[^*]+\*(\n|$)", after.source), cell.source


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_links_of_a_notebook_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)\s#]+)", notebooks.prose(page))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_warnings_are_quoted_as_they_are_given(page):
    """Words between quotation marks are those of a sentence of the judge."""
    folder = ROOT / "inference" / "arrival"
    sentences = " ".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    remedies = prose(page).split("When it is not good")[1]
    quoted = re.findall(r'"([^"]+ [^"]+)"', remedies)
    assert quoted and [words for words in quoted if words not in sentences] == []


def test_a_notebook_runs_in_a_kernel_and_keeps_what_it_shows(tmp_path):
    pytest.importorskip("nbclient")
    page = tmp_path / "tiny.ipynb"
    code = (
        "import sys\nimport matplotlib.pyplot as plt\n"
        "print('seen')\nprint('not kept', file=sys.stderr)\nplt.plot([0, 1])"
    )
    cells = [nbformat.v4.new_markdown_cell("# Tiny"), nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), page)
    notebooks.execute(page)
    (part,) = notebooks.parts(page)
    assert part.output == "seen\n" and len(part.pictures) == 1
    test_what_is_kept_is_that_of_the_code(page)


def test_the_gallery_shows_the_figures_of_the_notebooks():
    """As they are kept there; and of its own sweeps, the exact posterior is that of a Gaussian."""
    draw = script(ROOT / "docs/pictures/draw.py")
    for name, (stem, place) in draw.FIGURES.items():
        kept = (draw.HERE / f"{name}.png").read_bytes()
        assert kept == draw.figure_of(stem, place), f"{name}.png: python docs/pictures/draw.py"
    page = (ROOT / "docs/gallery.md").read_text(encoding="utf-8")
    assert {path.stem for path in draw.HERE.glob("*.png")} == {*draw.FIGURES, "sweeps"}
    assert all(f"pictures/{name}.png" in page for name in {*draw.FIGURES, "sweeps"})
    mean, covariance = draw.exact_pair(2.0)
    # precisions add up: 1 + 1 / .16 and -1 / .16 of z1 and z2, and 1 of what is seen of z2
    precision = torch.tensor([[1 + 6.25, -6.25], [-6.25, 6.25 + 1]])
    assert torch.allclose(torch.linalg.inv(precision), covariance, atol=1e-5)
    assert torch.allclose(precision @ mean, torch.tensor([0.0, 2.0]), atol=1e-4)


# -- the check is checked --------------------------------------------------------------------------

TABLE = "      mean   R-hat  bulk ESS  tail ESS\nz    {}    {}    {}    900\n3200 draws, {} s\n"
SHOWN = TABLE.format("1.23", "1.01", "1000", "2.0")


def group_tables():
    """Means whose error is .01 * sqrt(33 / 31) / sqrt(32), about .0018."""
    return [TABLE.format(1.23 + 0.01 * (-1) ** i, "1.01", "1000", "2.0") for i in range(32)]


@pytest.mark.parametrize(
    ("printed", "wrong"),
    [
        (SHOWN, 0),
        (TABLE.format("1.25", "1.04", "401", "9.0"), 0),  # within 5 errors and a unit: .0225
        (TABLE.format("1.26", "1.01", "1000", "2.0"), 1),
        (TABLE.format("1.23", "1.06", "1000", "2.0"), 1),
        (TABLE.format("1.23", "1.01", "399", "2.0"), 1),
    ],
)
def test_a_number_that_is_off_is_noticed(printed, wrong):
    assert len(list(disagreements(SHOWN, printed, group_tables()))) == wrong


@pytest.mark.parametrize(
    "shown", ["a 1\n", "a 1\nc 3\n", "...\nc 3\n", "b 1\n...\n", "a 1\n...\nd 3\n"]
)
def test_a_line_that_is_off_is_noticed(shown):
    with pytest.raises(AssertionError, match=r"is (not )?printed"):
        places(shown, "a 1\nb 2\n")


def test_dots_stand_for_what_is_left_out():
    assert places(
        "a 7\n...\nwarning: some ... thing, 5\n", "a 1\nb 2\nc\nwarning: some 4 new thing, 5\n"
    ) == [
        ("a 7", 0),
        ("warning: some ... thing, 5", 3),
    ]


def test_whole_numbers_without_error_are_exact():
    assert len(list(disagreements("(32, 1)\n", "(33, 1)\n", ["(33, 1)\n"] * 32))) == 1
    assert not list(disagreements("(33, 1)\n", "(33, 1)\n", ["(33, 1)\n"] * 32))


def test_a_wrong_posterior_is_noticed():
    draws = torch.randn(100, 32, 1, 3, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros(3)
    assert agrees_with(draws, zero, zero + 1)
    assert not agrees_with(draws, zero + 0.2, zero + 1)
    assert not agrees_with(draws, zero, zero + 1.3)


def test_pages_need_no_arviz_but_for_its_pictures(monkeypatch):
    monkeypatch.setattr(notebooks, "find_spec", lambda name: None)
    left_out = [part for page in PAGES for part in notebooks.parts(page) if not part.can_run]
    assert len(left_out) >= len(PAGES)
    assert all(part.output is None for part in left_out)
    assert find_spec("matplotlib") is not None
