"""The picture of the structure is the tree's: it carries the list that it was drawn from."""

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import networkx
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
ADVICE = "the structure has changed: look at it, and draw it anew with `make picture`"
STOREYS = {"inference": 0, "agents": 1, "envs": 1, "aif_dcpc": 2, "experiments": 3}


def script(name: str):
    """A script of docs/, which is no package."""
    spec = spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


structure = script("structure")
HOUSE = structure.house()


def split(lines: list[str]) -> tuple[set[str], dict[str, int]]:
    """Rooms, and import lines by arrow."""
    arrows = [line.rsplit(": ", 1) for line in lines if " -> " in line]
    return {line for line in lines if " -> " not in line}, {a: int(n) for a, n in arrows}


def test_the_picture_shows_the_rooms_and_arrows_of_the_tree():
    """Numbers may be off by a fifth, so that not every import asks for another picture."""
    drawn_rooms, drawn = split(
        Image.open(ROOT / "docs/structure.png").text["Description"].split("\n")
    )
    rooms, arrows = split(structure.listing())
    assert drawn_rooms == rooms, ADVICE
    assert drawn.keys() == arrows.keys(), ADVICE
    far = {a: (drawn[a], n) for a, n in arrows.items() if abs(drawn[a] - n) > max(2, n / 5)}
    assert far == {}, ADVICE


def package(room) -> str:
    return room[0].split("/")[0]


def test_every_arrow_points_down():
    """Within a package there is no circle; from one package to another they lead to a lower storey."""
    assert networkx.is_directed_acyclic_graph(HOUSE)
    across = [(package(a), package(b)) for a, b in HOUSE.edges if package(a) != package(b)]
    assert [(a, b) for a, b in across if STOREYS[a] <= STOREYS[b]] == []
    assert len(across) > 20


@pytest.mark.parametrize("here", ["inference/moves", "inference/smc", "agents/gridworld/planning"])
@pytest.mark.parametrize("there", ["inference/model", "agents/gridworld/model"])
def test_arrows_count_import_lines(here, there):
    """Against the text of the files, searched line by line."""
    start = re.compile(rf"^\s*from aif_dcpc\.{there.replace('/', '.')}[. ]")
    lines = sum(
        1
        for path in (ROOT / here).glob("*.py")
        for line in path.read_text().splitlines()
        if start.match(line)
    )
    edge = HOUSE.get_edge_data((here, ""), (there, ""), {"lines": 0})
    assert edge["lines"] == lines


def test_every_file_has_a_room():
    files = {path for name in STOREYS for path in (ROOT / name).rglob("*.py")}
    assert {structure.modules()[name] for name in structure.rooms()} == files
