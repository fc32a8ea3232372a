"""Draw the structure of the repository as a house of rooms: `make picture` writes docs/structure.png.

Rooms of a package stand on floors, each above all that it imports, so that every arrow points
down; arrows to one room run together. The picture carries the list that it was drawn from, which a
test compares with the tree.
"""

import textwrap
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve
from structure import FOR_EVERYONE, ROOT, Room, house, listing, modules, rooms

PICTURE = ROOT / "docs" / "structure.png"
COLOURS = {
    "experiments": "#8d6e63",
    "aif_dcpc": "#4f74b3",
    "agents": "#c0741f",
    "envs": "#6f8f2f",
    "inference": "#7b5ea7",
    FOR_EVERYONE: "#777777",
}
STOREYS = (("experiments",), ("aif_dcpc",), ("agents", "envs"), ("inference",), (FOR_EVERYONE,))
WIDTH = 140.0  # of the whole; a unit is a tenth of an inch
FRAMES = {  # left and right end of each package; the gaps leave room for arrows that pass by
    "experiments": (0.0, WIDTH),
    "aif_dcpc": (8.0, 114.0),
    "agents": (0.0, 92.0),
    "envs": (102.0, 130.0),
    "inference": (0.0, WIDTH),
    FOR_EVERYONE: (0.0, WIDTH),
}
LANES = {  # where the arrow from one package to another runs down
    ("experiments", "aif_dcpc"): 60.0,
    ("experiments", "agents"): 4.0,
    ("experiments", "envs"): 122.0,
    ("experiments", "inference"): 135.0,
    ("aif_dcpc", "agents"): 46.0,
    ("aif_dcpc", "envs"): 108.0,
    ("aif_dcpc", "inference"): 97.0,
    ("agents", "inference"): 46.0,
    ("envs", "inference"): 116.0,
}
BOX = 7.6  # height of a room
FLOOR = 14.0  # from one floor of a package to the next
EDGE = 3.5  # between the frame of a package and its rooms
GAP = 6.0  # between two storeys
VIA = 3.0  # width that is kept free where arrows cross a floor
LETTER = 0.66  # width of a letter of file names
CAPITAL = 0.9  # width of a letter of a room's title

Point = tuple[float, float]
Stop = Any  # a room; or a room and the number of a floor, where arrows to it pass that floor


@dataclass(frozen=True)
class Storey:
    """One package, laid out.

    Attributes:
        places: centre of every room, and where arrows cross a floor.
        ways: of every arrow, the stops from its room to that which it leads to.
        top, bottom: of the frame.
    """

    places: dict[Stop, Point]
    ways: dict[tuple[Room, Room], list[Stop]]
    top: float
    bottom: float


# -- laying out ------------------------------------------------------------------------------------


def package_of(room: Room) -> str:
    """Name the package that a room belongs to."""
    return room[0].split("/")[0]


def files_of(room: Room) -> list[str]:
    """List the files of a room, or the folders of `experiments`."""
    inside = [modules()[module] for module, where in rooms().items() if where == room]
    if room[0] == "experiments":
        return sorted({path.parent.name for path in inside} - {"experiments"})
    return sorted(path.stem for path in inside if path.stem != "__init__") or ["__init__"]


def lay_out(graph: nx.DiGraph, frame: tuple[float, float], top: float) -> Storey:
    """Put every room of a package one floor above the highest that it imports, or higher for want of space."""
    levels: list[list[Stop]] = [
        sorted(level) for level in nx.topological_generations(graph.reverse())
    ]
    _raise(levels, graph, frame[1] - frame[0] - 2 * EDGE)
    level_of = {room: number for number, level in enumerate(levels) for room in level}
    ways: dict[tuple[Room, Room], list[Stop]] = {}
    for here, there in sorted(graph.edges):
        between = range(level_of[here] - 1, level_of[there], -1)
        ways[here, there] = [here, *((there, number) for number in between), there]
    for way in ways.values():
        for via in way[1:-1]:
            level = levels[int(via[1])]
            if via not in level:
                level.append(via)
    _sort(levels, ways)
    places: dict[Stop, Point] = {}
    bottom = top - FLOOR * (len(levels) - 1) - BOX - 2 * EDGE
    for number, level in enumerate(levels):
        height = bottom + EDGE + BOX / 2 + FLOOR * number
        places.update({stop: (x, height) for stop, x in _spread(level, frame).items()})
    return Storey(places, ways, top, bottom)


def _raise(levels: list[list[Stop]], graph: nx.DiGraph, space: float) -> None:
    """Move rooms from a floor that is too narrow to the next one, where nothing there imports them."""
    levels.append([])
    for here, above in pairwise(levels):
        free = [room for room in here if not any(graph.has_edge(one, room) for one in above)]
        while free and sum(map(_width, here)) > space:
            room = free.pop(0)
            here.remove(room)
            above.append(room)
    if not levels[-1]:
        levels.pop()


def _sort(levels: list[list[Stop]], ways: dict[tuple[Room, Room], list[Stop]]) -> None:
    """Sort every floor by the mean place of what its stops are joined to, a few times over."""
    joined = nx.Graph()
    for way in ways.values():
        nx.add_path(joined, way)
    place: dict[Stop, float] = {}
    for level in levels:
        place.update(_even(level))
    for turn in range(24):
        for level in levels if turn % 2 else reversed(levels):
            means = {
                stop: sum(place[other] for other in joined[stop]) / len(joined[stop])
                for stop in level
                if stop in joined
            }
            level.sort(key=lambda stop: (round(means.get(stop, 0.5), 9), repr(stop)))
            place.update(_even(level))


def _even(level: list[Stop]) -> dict[Stop, float]:
    return {stop: (number + 1) / (len(level) + 1) for number, stop in enumerate(level)}


def _spread(level: list[Stop], frame: tuple[float, float]) -> dict[Stop, float]:
    """Stand the stops of a floor side by side, the free room shared out evenly between them."""
    left = frame[0] + EDGE
    right = frame[1] - EDGE
    free = right - left - sum(_width(stop) for stop in level)
    step = free / (len(level) + 1)
    found: dict[Stop, float] = {}
    x = left + step
    for stop in level:
        found[stop] = x + _width(stop) / 2
        x += _width(stop) + step
    return found


def _is_via(stop: Stop) -> bool:
    return isinstance(stop[1], int)


def _width(stop: Stop) -> float:
    if _is_via(stop):
        return VIA
    room = stop
    return 2.0 + max(CAPITAL * len(_title(room)), *(LETTER * len(line) for line in _lines(room)))


def _title(room: Room) -> str:
    if room[0] == FOR_EVERYONE:
        return "imports nothing else of the project"
    inside = room[0].removeprefix(package_of(room) + "/")
    return f"{inside}/*.py" if room[1] or inside == package_of(room) else inside


def _lines(room: Room) -> list[str]:
    """File names in at most three lines."""
    text = "  ".join(files_of(room))
    return textwrap.wrap(text, max(26, len(text) // 3 + 9), break_long_words=False)


# -- drawing ---------------------------------------------------------------------------------------


def draw() -> Figure:
    """Draw all packages, and the arrows within and between them."""
    graph = house()
    storeys: dict[str, Storey] = {}
    top = 0.0
    for names in STOREYS:
        for name in names:
            inside = graph.subgraph([room for room in graph if package_of(room) == name])
            storeys[name] = lay_out(inside, FRAMES[name], top)
        top = min(storeys[name].bottom for name in names) - GAP
    figure = Figure(figsize=((WIDTH + 2) / 10, (2 - GAP - top) / 10))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-1, WIDTH + 1)
    axes.set_ylim(top + GAP - 1, 1)
    axes.axis("off")
    _draw_lanes(axes, graph, storeys)
    for name, storey in storeys.items():
        _draw_storey(axes, graph, name, storey)
    return figure


def _draw_lanes(axes: Axes, graph: nx.DiGraph, storeys: dict[str, Storey]) -> None:
    """Draw one arrow from package to package, with the import lines of all their rooms."""
    total: dict[tuple[str, str], int] = {}
    for here, there, lines in graph.edges(data="lines"):
        pair = package_of(here), package_of(there)
        total[pair] = total.get(pair, 0) + lines
    for (here_name, there_name), lines in sorted(total.items()):
        if here_name != there_name:
            x = LANES[here_name, there_name]
            ends = (x, storeys[here_name].bottom), (x, storeys[there_name].top)
            _line(axes, ends, COLOURS[here_name], 2.0, 1.0)
            _head(axes, ends[1], COLOURS[here_name])
            _number(axes, (x, storeys[here_name].bottom - GAP / 3), lines, COLOURS[here_name])


def _draw_storey(axes: Axes, graph: nx.DiGraph, name: str, storey: Storey) -> None:
    """Draw a package: arrows that follow from others are pale, so that the floors stand out."""
    left, right = FRAMES[name]
    colour = COLOURS[name]
    _box(axes, (left, storey.bottom, right - left, storey.top - storey.bottom), colour, 0.08)
    axes.text(left + 1.5, storey.top - 1.6, name, color=colour, weight="bold", size=13, va="center")
    needed = nx.transitive_reduction(graph.subgraph(r for r in graph if package_of(r) == name))
    strengths: dict[tuple[Stop, Stop], float] = {}
    for way in storey.ways.values():
        strength = 1.0 if needed.has_edge(way[0], way[-1]) else 0.45
        for part in pairwise(way):
            strengths[part] = max(strength, strengths.get(part, 0.0))
    for (here, there), strength in strengths.items():
        ends = _ends(storey, here, there)
        _line(axes, ends, colour, 1.2, strength)
        if not _is_via(there):
            _head(axes, ends[1], colour)
    for way in storey.ways.values():
        lines = graph.edges[way[0], way[-1]]["lines"]
        _number(axes, _near_start(_ends(storey, way[0], way[1])), lines, colour)
    for room, place in storey.places.items():
        if not _is_via(room):
            _draw_room(axes, room, place, colour)


def _ends(storey: Storey, here: Stop, there: Stop) -> tuple[Point, Point]:
    """Where a line leaves one stop and enters the next: at the edges of rooms."""
    x, y = storey.places[here]
    to_x, to_y = storey.places[there]
    start = y if _is_via(here) else y - BOX / 2
    stop = to_y if _is_via(there) else to_y + BOX / 2
    return (x, start), (to_x, stop)


def _near_start(ends: tuple[Point, Point]) -> Point:
    """Where the number of an arrow stands: on the line, a third of the way down."""
    (x, y), (to_x, to_y) = ends
    share = 0.34
    return x + share * share * (3 - 2 * share) * (to_x - x), y + share * (to_y - y)


def _draw_room(axes: Axes, room: Room, place: Point, colour: str) -> None:
    width = _width(room)
    x, y = place
    _box(axes, (x - width / 2, y - BOX / 2, width, BOX), colour, 1.0)
    axes.text(
        x, y + 2.4, _title(room), ha="center", va="center", color="white", weight="bold", size=9
    )
    axes.text(
        x,
        y - 0.9,
        "\n".join(_lines(room)),
        ha="center",
        va="center",
        color="white",
        size=7.5,
        linespacing=1.15,
    )


def _box(axes: Axes, place: tuple[float, float, float, float], colour: str, alpha: float) -> None:
    left, bottom, width, height = place
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=1",
            facecolor=colour,
            alpha=alpha,
            edgecolor="none",
            zorder=3 if alpha == 1 else 0,
        )
    )


def _line(
    axes: Axes, ends: tuple[Point, Point], colour: str, width: float, strength: float
) -> None:
    """Draw a line that leaves and enters upright."""
    (x, y), (to_x, to_y) = ends
    middle = (y + to_y) / 2
    curve = Curve(
        [(x, y), (x, middle), (to_x, middle), (to_x, to_y)], [Curve.MOVETO, *[Curve.CURVE4] * 3]
    )
    axes.add_patch(
        PathPatch(curve, fill=False, edgecolor=colour, lw=width, alpha=strength, zorder=1)
    )


def _head(axes: Axes, tip: Point, colour: str) -> None:
    x, y = tip
    corners = [(x, y), (x - 0.7, y + 1.5), (x + 0.7, y + 1.5), (x, y)]
    axes.add_patch(PathPatch(Curve(corners), facecolor=colour, edgecolor="none", zorder=2))


def _number(axes: Axes, place: Point, lines: int, colour: str) -> None:
    axes.text(
        *place,
        str(lines),
        ha="center",
        va="center",
        color=colour,
        size=8,
        weight="bold",
        zorder=4,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.9},
    )


def main() -> None:
    """Write the picture, and into it the list of rooms and arrows."""
    matplotlib.use("Agg")
    metadata = {"Software": None, "Description": "\n".join(listing())}
    draw().savefig(PICTURE, dpi=100, metadata=metadata)


if __name__ == "__main__":
    main()
