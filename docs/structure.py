"""Read the structure of the repository from its imports; `picture.py` draws it.

Every folder is a room. Files that lie directly in a folder with rooms of its own are told apart by
which of these rooms they use, since the door of a package stands above its rooms and its errors
below them. An arrow says how many import lines lead from one room to another; between two packages
there is one arrow for all of their rooms. Files of `aif_dcpc` that the packages below import, which
themselves import nothing else of the project, are for everyone: they have a room at the bottom and
no arrows.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("experiments", "aif_dcpc", "agents", "envs", "inference")
FOR_EVERYONE = "aif_dcpc, for everyone"

Room = tuple[str, str]  # folder, and what is under its name: files, or "" for all that is in it


@cache
def modules() -> dict[str, Path]:
    """Find every file of the packages, by the name under which it is imported."""
    paths = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    return {_module_name(path): path for path in paths}


def _module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts if parts[0] == "aif_dcpc" else ["aif_dcpc", *parts])


def imports(path: Path) -> Iterator[str]:
    """List the project's modules that a file imports, one for each line and module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules() else str(node.module) for name in members]
        yield from (name for name in dict.fromkeys(names) if name in modules())


@cache
def file_graph() -> nx.DiGraph:
    """Make the graph of which module imports which."""
    graph = nx.DiGraph()
    graph.add_nodes_from(modules())
    for name, path in modules().items():
        graph.add_edges_from((name, other) for other in imports(path))
    return graph


@cache
def for_everyone() -> frozenset[str]:
    """Name the files of `aif_dcpc` that a package below it imports."""
    below = tuple(f"aif_dcpc.{name}." for name in ("agents", "envs", "inference"))
    return frozenset(
        other
        for name, other in file_graph().edges
        if f"{name}.".startswith(below) and modules()[other].parent == ROOT / "aif_dcpc"
    )


def folder_of(module: str) -> str:
    """Name the folder of a module; all of `experiments` counts as one."""
    if module in for_everyone():
        return FOR_EVERYONE
    folder = modules()[module].parent.relative_to(ROOT)
    return folder.parts[0] if folder.parts[0] == "experiments" else folder.as_posix()


@cache
def rooms() -> dict[str, Room]:
    """Say in which room every module stands."""
    folders = {folder_of(module) for module in modules()}
    found: dict[str, Room] = {}
    for folder in sorted(folders):
        inside = sorted(m for m in modules() if folder_of(m) == folder)
        found.update(_rooms_of(folder, inside, folders))
    return found


def _rooms_of(folder: str, inside: list[str], folders: set[str]) -> dict[str, Room]:
    """Tell the files of one folder apart by the rooms below the folder that they lead to."""
    below = {other for other in folders if other.startswith(folder + "/")}
    groups: dict[frozenset[str], list[str]] = {}
    for module in inside:
        reached = {folder_of(other) for other in nx.descendants(file_graph(), module)}
        groups.setdefault(frozenset(reached & below), []).append(module)
    if len(groups) == 1:
        return dict.fromkeys(inside, (folder, ""))
    return {
        module: (folder, ", ".join(_file_name(m) for m in members))
        for members in groups.values()
        for module in members
    }


def _file_name(module: str) -> str:
    return modules()[module].stem


def house() -> nx.DiGraph:
    """Make the graph of rooms; `lines` on an arrow is the number of import lines behind it."""
    graph = nx.DiGraph()
    graph.add_nodes_from(sorted(set(rooms().values())))
    for module, path in modules().items():
        for other in imports(path):
            here = rooms()[module]
            there = rooms()[other]
            if here != there and there[0] != FOR_EVERYONE:
                before = graph.get_edge_data(here, there, {"lines": 0})["lines"]
                graph.add_edge(here, there, lines=before + 1)
    return graph


def name_of(room: Room) -> str:
    """Name a room in one line."""
    folder, files = room
    return f"{folder} ({files})" if files else folder


def listing() -> list[str]:
    """List every room, and every arrow with its number of import lines."""
    graph = house()
    arrows = [f"{name_of(a)} -> {name_of(b)}: {lines}" for a, b, lines in graph.edges(data="lines")]
    return sorted(name_of(room) for room in graph) + sorted(arrows)
