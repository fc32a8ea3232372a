"""Folders of pictures as people have them: which files count, what their classes and parts are.

Hidden files and folders, and what systems leave behind, do not count. Where all pictures lie in subfolders,
these are the classes; folders `train` and `test` above them are the parts. Whatever is left out is told.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aif_dcpc.errors import ConfigError, DataWarning
from aif_dcpc.image_runs.picture_files import SUFFIXES

LITTER = ("__MACOSX", "@eaDir", "lost+found", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN")
TEXTS = (
    ".txt",
    ".md",
    ".csv",
    ".tsv",
    ".json",
    ".xml",
    ".yaml",
    ".yml",
    ".html",
    ".log",
)  # about pictures
TEST_NAMES = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a folder.

    Attributes:
        place: the folder.
        paths: its pictures, in order.
        classes: names of the classes, in order; empty where there are none.
        labels: index into `classes` for each path; empty where there are none.
    """

    place: Path
    paths: list[Path]
    classes: list[str]
    labels: list[int]


def find_pictures(place: Path) -> list[Path]:
    """Pictures in a folder and below, in order of their paths; a warning tells what is left out.

    Raises:
        ConfigError: a subfolder holds only files that are not read.
    """
    files = [path for path in sorted(place.rglob("*")) if _counts(path, place)]
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    others = [path for path in files if path.suffix.lower() not in SUFFIXES]
    if others and pictures:
        _refuse_unread_classes(place, pictures, others)
        _warn_of_unread(place, others, len(files))
    return pictures


def _warn_of_unread(place: Path, others: Sequence[Path], number: int) -> None:
    kinds = Counter(path.suffix.lower() or path.name for path in others)
    told = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common(4))
    warnings.warn(
        f"{place}: {len(others)} of {number} files are left out, no pictures that are read ({told}): convert "
        "them where they should count.",
        DataWarning,
        stacklevel=4,
    )


def _counts(path: Path, place: Path) -> bool:
    """Tell whether a path is a file that somebody put there."""
    parts = path.relative_to(place).parts
    if not path.is_file() or path.suffix.lower() in TEXTS:
        return False
    return not any(part.startswith(".") or part in LITTER for part in parts)


def _refuse_unread_classes(place: Path, pictures: Sequence[Path], others: Sequence[Path]) -> None:
    """Refuse a subfolder whose files are all unread: the classes would be others than they seem."""
    read = {path.relative_to(place).parts[0] for path in pictures}
    for path in others:
        first = path.relative_to(place).parts[0]
        if path.parent != place and first not in read:
            raise ConfigError(
                f"{place / first} holds no picture that is read ({path.name}): convert its files to "
                f"one of {', '.join(SUFFIXES)}, or take the folder away."
            )


def by_class(place: Path) -> PictureFolder:
    """Pictures of a folder with the classes that its subfolders stand for, if all lie in such.

    Raises:
        ConfigError: as `find_pictures`.
    """
    paths = find_pictures(place)
    above = [path.relative_to(place).parts[0] for path in paths]
    classes = sorted(set(above))
    astray = [path for path in paths if path.parent == place]
    if astray:
        if len(astray) < len(paths):
            _warn_of_strays(place, paths, astray)
        return PictureFolder(place, paths, [], [])
    return PictureFolder(place, paths, classes, [classes.index(name) for name in above])


def _warn_of_strays(place: Path, paths: Sequence[Path], astray: Sequence[Path]) -> None:
    names = ", ".join(path.name for path in astray[:3]) + (", ..." if len(astray) > 3 else "")
    warnings.warn(
        f"{place}: {len(astray)} of {len(paths)} pictures lie beside the subfolders ({names}), so these "
        "are not taken for classes and there are no labels: move or remove those pictures to have them.",
        DataWarning,
        stacklevel=4,
    )


def parts_of(place: Path) -> tuple[Path, Path] | None:
    """The folders of training and test pictures, where a folder holds just these; None where it does not."""
    found = {path.name.lower(): path for path in _subfolders(place)}
    tests = [found[name] for name in TEST_NAMES if name in found]
    if "train" not in found or not tests or set(found) - {"train", *TEST_NAMES}:
        return None
    return found["train"], tests[0]


def _subfolders(place: Path) -> list[Path]:
    """Folders that somebody put there."""
    inside = sorted(place.iterdir()) if place.is_dir() else []
    return [p for p in inside if p.is_dir() and p.name not in LITTER and not p.name.startswith(".")]
