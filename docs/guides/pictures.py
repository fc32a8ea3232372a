"""Run the code of the guides and draw their pictures anew: `make pictures`.

A guide is a page of which all ```python blocks run in order, in one namespace. What follows such a
block belongs to it: a ```text block is what it prints (`...` stands for what is left out), an image
is the figure that it draws. The picture carries the code that it was drawn from, so that a test can
tell whether it is still the page's.
"""

import argparse
import ast
import io
import re
from collections.abc import Collection, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

HERE = Path(__file__).resolve().parent
PAGES = tuple(sorted(HERE.glob("*.md")))
PART = re.compile(
    r"^```python\n(?P<code>.*?)^```\n"
    r"(\n?```text\n(?P<output>.*?)^```\n)?"
    r"(\n?!\[[^\]]+\]\((?P<picture>[^)]+)\)\n)?",
    re.MULTILINE | re.DOTALL,
)
DPI = 100
COLOURS = 64  # of a picture's palette


@dataclass(frozen=True)
class Part:
    """A block of code and what the page shows of it.

    Attributes:
        code: the block.
        output: what the page says that it prints, or None.
        picture: path of its figure from the page's folder on, or None.
    """

    code: str
    output: str | None
    picture: str | None

    @property
    def can_run(self) -> bool:
        """Whether what it asks for is installed: ArviZ is an extra."""
        return "az" not in re.findall(r"\w+", self.code) or find_spec("arviz") is not None

    def run(self, names: dict[str, Any], given: Collection[str] = ()) -> str:
        """Run the code in a namespace and return what it prints; lines that set what is given are left out."""
        lines = ast.parse(self.code)
        lines.body = [line for line in lines.body if not _sets(line, given)]
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(lines, "guide", "exec"), names)
        return printed.getvalue()


def _sets(line: ast.stmt, names: Collection[str]) -> bool:
    """Whether a line gives a value to one of some names."""
    targets = line.targets if isinstance(line, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id in names for target in targets)


def parts(page: Path) -> list[Part]:
    """All blocks of code of a page, in their order."""
    found = PART.finditer(page.read_text(encoding="utf-8"))
    return [Part(m["code"], m["output"], m["picture"]) for m in found]


def walk(page: Path, names: dict[str, Any]) -> Iterator[tuple[Part, str]]:
    """Run a page in a namespace; after each block, the block and what it printed."""
    plt.switch_backend("Agg")
    with torch.random.fork_rng():
        for part in parts(page):
            if part.can_run:
                yield part, part.run(names)
            plt.close("all")


def code_until(page: Path, picture: str) -> str:
    """All code that a picture of a page was drawn from."""
    blocks = parts(page)
    (last,) = (i for i, part in enumerate(blocks) if part.picture == picture)
    return "\n".join(part.code for part in blocks[: last + 1])


def save(page: Path, picture: str) -> None:
    """Write the figure that stands, in few colours, with the code that drew it."""
    drawn = io.BytesIO()
    plt.gcf().savefig(drawn, dpi=DPI, bbox_inches="tight")
    origin = PngInfo()
    origin.add_itxt("Description", code_until(page, picture))
    few = Image.open(drawn).convert("RGB").quantize(COLOURS)
    path = page.parent / picture
    path.parent.mkdir(exist_ok=True)
    few.save(path, optimize=True, pnginfo=origin)


def main() -> None:
    """Run the pages asked for, show what they print, save what they draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pages", nargs="*", type=Path, default=PAGES, help="pages; all by default")
    for page in parser.parse_args().pages:
        print(f"# {page.name}")
        for part, printed in walk(page, {}):
            print(printed, end="")
            if part.picture is not None:
                save(page, part.picture)


if __name__ == "__main__":
    main()
