"""What `--help` prints: the YAML files of `aif_dcpc.configs` as they stand, comments included.

Only the groups that a command takes are shown, each choice with the first line of its file, and the keys of
the choices that stand on the command line: `aif-train agent=random --help`.
"""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable

from aif_dcpc.commands.launching import LAUNCHERS
from aif_dcpc.notes import say

GROUPS = {
    "train": ("agent", "env", "experiment", "inference"),
    "rollout": (),
    "evaluate": (),
}
DEFAULTS = {"agent": "hierarchical", "env": "MiniGrid", "inference": "exact"}
EXAMPLES = {
    "train": (
        "aif-train agent=hierarchical env=MiniGrid env.id=MiniGrid-Empty-8x8-v0",
        "aif-train experiment=digits epochs=20 run_dir='my digits'",
    ),
    "rollout": (
        "aif-rollout run=latest episodes=20",
        "aif-rollout run=runs/hierarchical-MiniGrid/<date-time> video=true env.slip=.1",
    ),
    "evaluate": (
        "aif-evaluate run=latest seeds=1 samples=0",
        "aif-evaluate 'run=[runs/digits/A,runs/digits/B]'     (one method: averaged; several: a table)",
    ),
}
TITLES = {"images": "of an experiment on images, or after +images=default"}
SWEEPS = "-m KEY=A,B,C runs one job for each value, one after the other, or"
OWN_CODE = {
    "train": """\
Code of your own is named as module:Name: agent=my_agents:Curious (its settings: +agent.KEY=VALUE),
env=my_worlds:Corridor (+env.options.KEY=VALUE), env=Gymnasium env.id=my_worlds:Corridor-v0,
+images=default images.model=my_models:graph (+images.options.KEY=VALUE), images.metrics=my_metrics:contrast.
A run folder cannot have it imported: add trust=module:Name to resume a run that names such code.""",
    "rollout": "A run that names code of your own is rolled out with trust=module:Name.",
    "evaluate": "A run that names code of your own is evaluated with trust=module:Name.",
}


def print_help(command: str, words: Sequence[str]) -> None:
    """Print what a command takes.

    Args:
        command: train, rollout or evaluate.
        words: of the command line, whose choices are shown.
    """
    say("\n".join(_lines(command, words)))


def _lines(command: str, words: Sequence[str]) -> Iterator[str]:
    """Yield the page, part by part."""
    groups = GROUPS[command]
    yield f"aif-{command} {'[GROUP=CHOICE ...] ' if groups else ''}[KEY=VALUE ...]\n"
    yield from _about(_config(f"{command}.yaml"))
    yield "\n== Examples =="
    yield from EXAMPLES[command]
    if groups:
        yield "\n== Groups and their choices =="
    for group in groups:
        yield from _choices(group)
    yield "\n== Keys and their values =="
    yield from _keys(_config(f"{command}.yaml"))
    for group, choice in (*_chosen(groups, words), *((("images", "default"),) if groups else ())):
        yield f"\n{group}:   # {TITLES.get(group, f'{group}={choice}')}"
        yield from (f"  {line}" for line in _keys(_config(f"{group}/{choice}.yaml"), own=group))
    yield f"\n{SWEEPS}"
    yield from (f"  +launch={name}: {way.about}" for name, way in LAUNCHERS.items())
    yield OWN_CODE[command]


def _config(name: str) -> Traversable:
    return files("aif_dcpc.configs").joinpath(name)


def _about(config: Traversable) -> Iterator[str]:
    """Yield the comment at the head of a file."""
    for line in config.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @"):
            continue
        if not line.startswith("#"):
            return
        yield line.removeprefix("# ")


def _choices(group: str) -> Iterator[str]:
    """Yield the choices of a group, and what each is."""
    found = {entry.name.removesuffix(".yaml"): entry for entry in _config(group).iterdir()}
    names = sorted(name for name in found if not name.startswith("_"))
    yield f"{group}: {', '.join(names)}"
    for name in names:
        yield f"    {name}: {' '.join(_about(found[name]))}"


def _chosen(groups: Sequence[str], words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the choice of every group that has keys of its own."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    for group in groups:
        choice = given.get(group, DEFAULTS.get(group))
        if choice is not None and group in DEFAULTS and _config(f"{group}/{choice}.yaml").is_file():
            yield group, choice


def _keys(config: Traversable, own: str | None = None) -> Iterator[str]:
    """Yield the lines of keys, without the list of defaults and Hydra's own; of `images`, those inside it."""
    for group, line in _grouped_lines(config):
        if group in ("defaults", "hydra") or line.startswith("#"):
            continue
        if own != "images":
            yield line
        elif group == "images" and not line.startswith("images:"):
            yield line.removeprefix("  ")


def _grouped_lines(config: Traversable) -> Iterator[tuple[str, str]]:
    """Yield the lines of a file that are not empty, each with the key at the margin that it stands under."""
    group = ""
    for line in config.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith((" ", "#")):
            group = line.partition(":")[0]
        if line:
            yield group, line
