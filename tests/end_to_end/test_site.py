"""The site builds in strict mode, in bounded time, whole, and fetches nothing. Oracle: the files of the repository."""

import os
import re
import resource
import subprocess
import sys
import zlib
from html import unescape
from pathlib import Path

import pytest
import yaml

for needed in ("mkdocs", "material", "mkdocstrings", "mkdocs_jupyter"):
    pytest.importorskip(needed)

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0  # of processor time
NOT_IN_THE_MENU = {"decisions"}  # reached by links


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, and the processor seconds that it took."""
    folder = tmp_path_factory.mktemp("site")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, ROOT / ".ci/typecheck_tree.py"], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return folder, spent


def in_the_menu(entries):
    for entry in entries:
        for value in [entry] if isinstance(entry, str) else entry.values():
            yield from [value] if isinstance(value, str) else in_the_menu(value)


def settings():
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def test_it_builds_in_time(site):
    _, seconds = site
    assert seconds < SECONDS


def test_settings_are_plain():
    """No hooks, and no tags of Python's, which `safe_load` refuses: another builder can take over."""
    assert "hooks" not in settings()


def test_every_page_is_in_the_menu_and_built(site):
    folder, _ = site
    menu = list(in_the_menu(settings()["nav"]))
    docs = [p for kind in ("*.md", "*.ipynb") for p in (ROOT / "docs").rglob(kind)]
    names = {p.relative_to(ROOT).as_posix() for p in docs if p.parent.name not in NOT_IN_THE_MENU}
    assert names - set(menu) == set()
    assert len(menu) == len(set(menu)) > 30
    for name in menu:
        page = "index.html" if name == "README.md" else re.sub(r"(README)?\.(md|ipynb)$", "", name)
        page = (
            page
            if page.endswith(".html")
            else f"{page}{'index' if page.endswith('/') else ''}.html"
        )
        assert (folder / page).is_file(), page


def test_the_folders_of_the_site_are_those_of_the_repository():
    """Links, so that a link from page to page holds in both."""
    links = list((ROOT / ".ci/site").iterdir())
    assert len(links) > 5
    for link in links:
        assert link.is_symlink() and link.resolve() == ROOT / link.name


def test_pages_show_the_pictures_and_outputs_of_notebooks(site):
    folder, _ = site
    for page in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        html = (folder / f"docs/notebooks/{page.stem}.html").read_text(encoding="utf-8")
        assert html.count("data:image/png;base64") >= page.read_text().count('"image/png"') > 0


def test_the_reference_holds_what_the_pages_name(site):
    folder, _ = site
    inventory = (folder / "objects.inv").read_bytes().split(b"\n", 4)[4]
    known = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    asked = [
        name
        for page in (ROOT / "docs/api").glob("*.md")
        for name in re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(asked) > 30 and set(asked) - known == set()
    html = unescape((folder / "docs/api/engine.html").read_text(encoding="utf-8"))
    for method in ("sample", "init", "run", "sweep", "append", "evidence", "forecast"):
        assert f"aif_dcpc.inference.engine.DCPC.{method}" in html, method


def test_examples_of_docstrings_are_code(site):
    """Not quotations within quotations, which `>>>` is in Markdown where it is not indented."""
    folder, _ = site
    pages = [page.name for page in (folder / "docs/api").glob("*.html")]
    assert len(pages) > 5
    nested = re.compile(r"<blockquote>\s*<blockquote>")
    assert [n for n in pages if nested.search((folder / "docs/api" / n).read_text("utf-8"))] == []


def test_nothing_is_fetched_from_elsewhere(site):
    folder, _ = site
    fetched = re.compile(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(https?://[^\"' >]+)")
    pages = list(folder.rglob("*.html"))
    assert len(pages) > 40
    found = {url for page in pages for url in fetched.findall(page.read_text(encoding="utf-8"))}
    assert found == set()


def test_every_link_within_the_site_leads_somewhere(site):
    """In the built pages; those of notebooks as `docs/site.js` rewrites them."""
    folder, _ = site
    lost = []
    for page in set(folder.rglob("*.html")) - {folder / "404.html"}:
        html = page.read_text(encoding="utf-8")
        for target in re.findall(r"<(?:a|img)[^>]+(?:href|src)=\"([^\"#]+)", html):
            if page.parent.name == "notebooks":
                target = re.sub(r"README\.md$", "index.html", target)
                target = re.sub(r"\.(md|ipynb)$", ".html", target)
            there = page.parent / unescape(target).split("?")[0]
            if not re.match(r"[a-z]+:", target) and not there.exists():
                lost.append(f"{page.relative_to(folder)}: {target}")
    assert lost == []
