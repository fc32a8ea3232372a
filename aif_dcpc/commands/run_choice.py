"""Which run is meant: a folder, or `latest`; and whether it is of the kind that a command is for."""

import os
from collections.abc import Iterator
from pathlib import Path

from aif_dcpc import plain_yaml
from aif_dcpc.commands.words import as_typed
from aif_dcpc.errors import ConfigError, RunFolderError
from aif_dcpc.notes import note
from aif_dcpc.runs import RunFolder, open_run

LATEST = "latest"
RUNS = "runs"  # where runs without a run_dir go
KINDS = {True: "image models", False: "agents"}


def chosen_run(run: str, *, images: bool | None = None) -> RunFolder:
    """Open a run by its path, or the one that learned last.

    Args:
        run: a path, or `latest`.
        images: whether it must be of an image model, or of an agent; None takes either.

    Raises:
        UserError: there is none, or it is of the other kind.
    """
    if run == LATEST and not Path(LATEST).is_dir():
        return _latest(images)
    folder = open_run(run)
    learned = learned_images(folder.path)
    if images is None or learned is None or learned == images:
        return folder
    command = "aif-evaluate" if learned else "aif-rollout"
    raise ConfigError(
        f"{run} is a run of {KINDS[learned]}, this command is for {KINDS[images]}: write {command} {as_typed('run', run)}."
    )


def _latest(images: bool | None) -> RunFolder:
    found = [f for f in _run_folders() if images is None or learned_images(f) == images]
    if not found:
        kind = "" if images is None else f" of {KINDS[images]}"
        raise RunFolderError(
            f"run={LATEST}: there is no run{kind} under {RUNS}/ here: name a folder."
        )
    newest = max(found, key=_learned_at)
    note(f"{LATEST}: {newest}")
    return RunFolder(newest)


def _run_folders() -> Iterator[Path]:
    """Yield the run folders below `runs/`."""
    for place, folders, names in os.walk(RUNS):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if "config.yaml" in names:
            folders.clear()
            yield Path(place)


def _learned_at(folder: Path) -> float:
    """When a run learned last: the time of its newest checkpoint."""
    return max(map(_written_at, RunFolder(folder).checkpoints()), default=0.0)


def _written_at(path: Path) -> float:
    """When a file was written; long ago if a run that goes on has removed it meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def learned_images(folder: Path) -> bool | None:
    """Tell whether a run is of an image model; None where its configuration cannot be read."""
    try:
        values = plain_yaml.read(plain_yaml.bounded_text(folder / "config.yaml"))
    except (OSError, ValueError, ConfigError):
        return None
    return values.get("images") is not None
