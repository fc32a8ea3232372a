"""What the documents point at exists: links, files and folders, modules."""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("agents", "aif_dcpc", "configs", "docs", "envs", "experiments", "inference", "tests")
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "experiments/**/*.md", "tests/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"[\w.-]+(/[\w.-]+)*/?")
SUFFIXES = (".py", ".md", ".yaml", ".toml", ".ipynb", ".json", ".jsonl", ".png", ".gif")
HISTORY = ("CHANGELOG.md",)  # names files as they were called
AUTHORS = {"training/data_modules.py"}  # of the published code
ELSEWHERE = {  # places that a document names which are not this repository's
    "CONTRIBUTING.md": {  # what its examples would be called inside the package, and what a run folder holds
        "aif_dcpc.envs.corridor",
        "aif_dcpc.agents.win_stay",
        "aif_dcpc.inference.images.two_causes",
        "metrics.jsonl",
    },
    "docs/start.md": {  # of a run folder
        "videos/learning.gif",
        "config.yaml",
        "metrics.jsonl",
        "learning_curve.png",
    },
    "docs/your_own_agent.md": {
        "cue.py",
        "configs/agent/cue.yaml",
        "aif_dcpc.agents.cue",
    },
    "experiments/celeba_32/README.md": AUTHORS,
    "experiments/celeba_64/README.md": AUTHORS,
    "experiments/emnist/README.md": AUTHORS
    | {"experiments/dcpc_emnist_eval.ipynb", "experiments/dcpc_emnist_config.json"},
    "experiments/fashion_mnist/README.md": {"experiments/dcpc_fashionmnist_eval.ipynb"},
    "experiments/mutation/README.md": {"runs/mutation/seed-N.jsonl"},
}


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def anchors(document: Path) -> set[str]:
    """Headings as GitHub links to them: lower case, spaces to hyphens, other signs gone."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> Iterator[str]:
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = document.parent / path if path else document
        if not there.exists() or (anchor and anchor not in anchors(there)):
            yield target


def codes(document: Path) -> Iterator[str]:
    """What stands between single backticks, outside blocks of code."""
    yield from CODE.findall(FENCE.sub("", document.read_text(encoding="utf-8")))


def is_path(code: str) -> bool:
    """Whether a text is meant as a place of this repository: from one of its folders on, or a file's bare name."""
    if not PATH.fullmatch(code):
        return False
    return code.startswith(tuple(f"{f}/" for f in FOLDERS)) or code.endswith(SUFFIXES)


@cache
def tree() -> frozenset[str]:
    """Every way to end the path of a file of the folders: `a/b/c.py`, `b/c.py` and `c.py`."""
    paths = [path.relative_to(ROOT).parts for f in FOLDERS for path in (ROOT / f).rglob("*.*")]
    return frozenset("/".join(parts[i:]) for parts in paths for i in range(len(parts)))


def exists(code: str, document: Path) -> bool:
    """Whether a path is found from the root, from the document's folder, or as the end of a file's path."""
    return (ROOT / code).exists() or (document.parent / code).exists() or code in tree()


def stale_paths(document: Path) -> set[str]:
    return {c for c in codes(document) if is_path(c) and not exists(c, document)}


def stale_modules(document: Path) -> set[str]:
    """Names such as `aif_dcpc.inference.learning` or `aif_dcpc.agents.BaseAgent` that lead nowhere."""
    text = document.read_text(encoding="utf-8")
    names = set(re.findall(r"\baif_dcpc(?:\.\w+)+", text))
    return {name for name in names if not leads_somewhere(name)}


def leads_somewhere(name: str) -> bool:
    """Whether a module, or one above it of which the rest are members, can be found."""
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        try:
            found = find_spec(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        if found is not None:
            return length == len(parts) or _has(found.origin, parts[length])
    return False


def _has(origin: str | None, member: str) -> bool:
    """Whether a file speaks of a member, without importing it."""
    return origin is not None and re.search(rf"\b{member}\b", Path(origin).read_text()) is not None


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document):
    assert list(broken_links(document)) == []


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.name not in HISTORY], ids=name_of)
def test_what_is_named_exists(document):
    """But for what is not this repository's, each place of which is still named."""
    elsewhere = ELSEWHERE.get(name_of(document), set())
    assert (stale_paths(document) | stale_modules(document)) - elsewhere == set()
    assert elsewhere - set(re.findall(r"[\w./-]+\w", document.read_text(encoding="utf-8"))) == set()


def table_of_names() -> list[list[list[str]]]:
    """What stands in backticks in the first two cells of every row: former names, present names."""
    page = (ROOT / "docs/decisions/002-names.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    return [[CODE.findall(cell) for cell in row] for row in rows]


@cache
def words_of_the_code() -> frozenset[str]:
    folders = [folder for folder in FOLDERS if folder not in ("docs", "tests")]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    texts = " ".join(path.read_text(encoding="utf-8") for path in files)
    return frozenset(re.findall(r"\w+", texts)) | {path.name for path in files}


def test_present_names_are_in_the_code():
    present = {name for _, names in table_of_names() for name in names}
    words = {word for name in present for word in re.findall(r"\w+\.py|\w+", name)}
    assert len(words) > 60
    assert words - words_of_the_code() == set()


def test_former_names_are_not():
    """Those that are no words of their own; `FromBank` still leads to its successor."""
    former = {name for names, _ in table_of_names() for name in names}
    coined = {name for name in former if re.search(r"\w_\w|[a-z][A-Z]", name)} - {"MAX_DENSE"}
    assert len(coined) > 10
    assert coined & words_of_the_code() == {"FromBank"}


def test_the_readme_states_what_was_measured():
    """Each number of its table stands on the page of all rows."""
    rows = [
        line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if line[:1] == "|"
    ]
    page = set(re.findall(r"-?[\d,]*\.?\d+", (ROOT / "docs/measured.md").read_text("utf-8")))
    assert len(rows) > 8
    for row in rows[2:]:
        numbers = re.findall(r"-?[\d,]*\.?\d+", row.split("|")[2])
        assert [number for number in numbers if number not in page] == [], row


def test_the_page_names_every_extra_and_the_code_no_other():
    """Where something is missing that an extra installs, its sentence names one that there is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    table = (ROOT / "docs/start.md").read_text("utf-8").split("| extra |")[1].split("\n\n")[0]
    assert {
        name for row in table.splitlines() for name in CODE.findall(row.split("|")[1])
    } == extras
    sources = [path for folder in FOLDERS[:7] for path in (ROOT / folder).rglob("*.py")]
    named = {
        name for path in sources for name in re.findall(r"aif_dcpc\[(\w+)\]", path.read_text())
    }
    assert len(named) > 2 and named - extras == set()


def test_what_is_stale_is_noticed(tmp_path):
    """The checks see what they are for: each of these is stale, and nothing else."""
    document = tmp_path / "page.md"
    document.write_text(
        "# A heading, and more\n[a](gone.md) [b](page.md#a-heading-and-more) [c](#none) [d](https://x.org)\n"
        "`inference/gone.py` `inference/engine.py` `moves/langevin.py` `gone.py` `a.b` `x / y` `<run>/a.py`\n"
        "aif_dcpc.inference.gone aif_dcpc.inference.DCPC aif_dcpc.inference.engine.DCPC\n"
    )
    assert list(broken_links(document)) == ["gone.md", "#none"]
    assert stale_paths(document) == {"inference/gone.py", "gone.py"}
    assert stale_modules(document) == {"aif_dcpc.inference.gone"}
