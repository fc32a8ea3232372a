"""Run the notebooks and keep what they print and draw: `make notebooks`.

A notebook carries the digest of the code that its outputs came from, so that a test can tell
whether they are still the notebook's. Pictures are kept in few colours, so that a notebook stays
small; what goes to standard error is not kept.
"""

import argparse
import ast
import base64
import hashlib
import io
import re
from collections.abc import Collection, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import torch
from PIL import Image

HERE = Path(__file__).resolve().parent
PAGES = tuple(sorted(HERE.glob("*.ipynb")))
COLOURS = 64  # of a picture's palette
TIMEOUT = 600  # seconds of one cell


@dataclass(frozen=True)
class Part:
    """A cell of code and what the notebook shows of it.

    Attributes:
        code: the cell.
        output: what it printed, or None.
        pictures: its figures as PNG files.
    """

    code: str
    output: str | None
    pictures: tuple[bytes, ...]

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
            exec(compile(lines, "notebook", "exec"), names)
        return printed.getvalue()


def _sets(line: ast.stmt, names: Collection[str]) -> bool:
    """Whether a line gives a value to one of some names."""
    targets = line.targets if isinstance(line, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id in names for target in targets)


def parts(page: Path) -> list[Part]:
    """Cells of code of a notebook, in their order."""
    cells = nbformat.read(page, as_version=4).cells
    return [_part(cell) for cell in cells if cell.cell_type == "code"]


def _part(cell: Any) -> Part:
    printed = [output.text for output in cell.outputs if output.output_type == "stream"]
    drawn = [output.data["image/png"] for output in cell.outputs if "image/png" in _data(output)]
    return Part(
        code=cell.source,
        output="".join(printed) if printed else None,
        pictures=tuple(base64.b64decode(picture) for picture in drawn),
    )


def _data(output: Any) -> Any:
    return output.get("data", {})


def prose(page: Path) -> str:
    """What a notebook says between its cells of code."""
    cells = nbformat.read(page, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def program(page: Path) -> str:
    """All code of a notebook as one program."""
    return "\n".join(part.code for part in parts(page))


def walk(page: Path, names: dict[str, Any]) -> Iterator[tuple[Part, str]]:
    """Run a notebook in a namespace; after each cell, the cell and what it printed."""
    plt.switch_backend("Agg")
    with torch.random.fork_rng():
        for part in parts(page):
            if part.can_run:
                yield part, part.run(names)
            plt.close("all")


def digest(page: Path) -> str:
    """What tells one program from another."""
    return hashlib.sha256(program(page).encode()).hexdigest()


def in_few_colours(picture: str) -> str:
    """A PNG file in base64, its colours reduced to a palette."""
    drawn = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(COLOURS)
    kept = io.BytesIO()
    drawn.save(kept, format="png", optimize=True)
    return base64.b64encode(kept.getvalue()).decode()


def _kept(output: Any) -> Any | None:
    """An output as the notebook keeps it: pictures and what is printed, nothing else."""
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    if output.output_type == "error" or "image/png" not in _data(output):
        return None
    picture = in_few_colours(output.data["image/png"])
    return nbformat.v4.new_output("display_data", {"image/png": picture})


def execute(page: Path) -> None:
    """Run a notebook in a kernel of its own and write it with what it printed and drew.

    Raises:
        nbclient.exceptions.CellExecutionError: where a cell fails; the file stays as it was.
    """
    from nbclient import NotebookClient

    book = nbformat.read(page, as_version=4)
    NotebookClient(book, timeout=TIMEOUT, kernel_name="python3", store_widget_state=False).execute()
    for place, cell in enumerate(book.cells):
        cell.id = f"cell-{place}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [kept for output in cell.outputs if (kept := _kept(output))]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    book.metadata = {"kernelspec": kernel, "aif_dcpc": {"code": digest(page)}}
    nbformat.write(book, page)


def main() -> None:
    """Run the notebooks asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pages", nargs="*", type=Path, default=PAGES, help="all by default")
    for page in parser.parse_args().pages:
        print(page.name)
        execute(page)


if __name__ == "__main__":
    main()
