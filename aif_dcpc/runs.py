"""Run folders: what a run leaves behind, written so that no moment of failure can damage it.

    config.yaml      the resolved configuration, plain YAML
    model.txt        the sites of an image model
    metrics.jsonl    one JSON object a line
    events.*         TensorBoard
    checkpoints/     step-<steps>.pt, the newest two
    figures/, videos/

Every file that matters is written beside its place, flushed to the disk and renamed over it, so
that it is either the old one or the new one, whole. A new run folder itself appears by one rename,
complete with its first checkpoint. Reading never runs code: plain YAML, and
`torch.load(weights_only=True)`.
"""

import errno
import itertools
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aif_dcpc import plain_yaml
from aif_dcpc.checkpoints import Checkpoint, first_line, read_checkpoint, write_checkpoint
from aif_dcpc.errors import ConfigError, RunFolderError
from aif_dcpc.files import atomic, clear_temporaries, hidden_folder, holder, locked
from aif_dcpc.notes import note
from aif_dcpc.outside import as_trust, outside_names
from aif_dcpc.schema import TrainConfig, train_config

__all__ = ["Checkpoint", "RunFolder", "atomic", "new_run", "open_run", "read_checkpoint", "writing"]

KEPT = 2
FOLDERS = ("checkpoints", "figures", "videos")
WRITTEN_TO = (
    *FOLDERS,
    "particles",
    "rollouts",
    "explanations",
    "recordings",
    "metrics.jsonl",
    "rollouts.jsonl",
    "learning_curve.png",
)  # no links
OF_DISKS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
)  # errors of a file that is open already, which do not name it


class RunFolder:
    """An existing run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def metrics(self) -> Path:
        """The file of metrics."""
        return self.path / "metrics.jsonl"

    @property
    def particles(self) -> Path:
        """Folder of the memory-mapped particles of an image model that is learning; checkpoints hold them at rest."""
        return self.path / "particles"

    def refuse_links(self) -> None:
        """Refuse a folder from which a link would lead what is written elsewhere.

        Raises:
            RunFolderError: there is one.
        """
        for name in WRITTEN_TO:
            if (self.path / name).is_symlink():
                raise RunFolderError(
                    f"{self}/{name} is a link to elsewhere, and a run writes inside its own folder alone: put what it "
                    "leads to in its place."
                )

    def save_model(self, table: str) -> None:
        """Write the table of an image model's sites."""
        with atomic(self.path / "model.txt") as file:
            file.write_text(f"{table}\n", encoding="utf-8")

    def model(self) -> str:
        """The table of an image model's sites."""
        path = self.path / "model.txt"
        return path.read_text(encoding="utf-8").rstrip() if path.exists() else ""

    # -- configuration -----------------------------------------------------------------------------

    def save_config(self, config: TrainConfig) -> None:
        """Write the resolved configuration, all but what this call of the command trusts, if it is not there already.

        Raises:
            ConfigError: it is too long.
        """
        values = asdict(config)
        del values["trust"]
        text = plain_yaml.write(values)
        path = self.path / "config.yaml"
        if path.is_file() and path.read_bytes() == text.encode():
            return
        with atomic(path) as file:
            file.write_text(text, encoding="utf-8")

    def config(self, *, trust: Iterable[str] = ()) -> TrainConfig:
        """Read the configuration back, as data: names of code and interpolations are refused.

        Args:
            trust: names of code from outside the package, `module:Name`, that may be in it.

        Raises:
            RunFolderError: there is none, it is not the configuration of a run, or it names code
                that is not trusted.
        """
        config = self._config()
        names = outside_names(config)
        if not set(names) <= set(trust):
            raise RunFolderError(
                f"{self} names code from outside the package: it is imported only if you add "
                f"{as_trust(names)}."
            )
        return config

    def _config(self) -> TrainConfig:
        path = self.path / "config.yaml"
        try:
            if not path.is_file():
                raise RunFolderError(f"{self} is not a run folder: it has no config.yaml.")
            text = plain_yaml.bounded_text(path)
            values = plain_yaml.read(text)
            if "trust" in values:
                raise ConfigError("key 'trust' is not allowed in a run folder.")
            config = train_config(values)
            plain_yaml.check_seal(text)
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            reason = first_line(error)
            raise RunFolderError(f"{path} is not the configuration of a run: {reason}") from None
        return config

    # -- checkpoints -------------------------------------------------------------------------------

    def checkpoints(self) -> list[Path]:
        """Paths of the checkpoints, newest first."""
        found = (self.path / "checkpoints").glob("step-*.pt")
        return sorted(found, key=lambda path: path.name, reverse=True)

    def save_checkpoint(self, step: int, content: Mapping[str, Any]) -> Path:
        """Write a checkpoint of tensors, numbers, texts, lists and dicts; then drop all but the newest two.

        Raises:
            OSError: it cannot be written; the others stay as they are.
        """
        path = self.path / "checkpoints" / _checkpoint_name(step)
        with atomic(path) as file:
            write_checkpoint(file, content)
        for old in self.checkpoints()[KEPT:]:
            old.unlink()
        return path

    def load_checkpoint(self) -> Checkpoint:
        """Read the newest checkpoint that is whole.

        Raises:
            RunFolderError: there is none.
        """
        reasons: list[str] = []
        for path in self.checkpoints():
            try:
                content = read_checkpoint(path)
            except RunFolderError as error:
                reasons.append(str(error))
                continue
            if reasons:
                note(f"{reasons[0]} Going on from {path.name}, the newest that is whole.")
            return content
        raise RunFolderError(reasons[0] if reasons else f"{self} holds no checkpoint.")

    def quarantine(self, step: int) -> None:
        """Rename the damaged checkpoints that were newer than the one in use, so that they are not taken for newest."""
        for path in self.checkpoints():
            if path.name > _checkpoint_name(step):
                path.rename(path.with_suffix(".damaged"))


def _checkpoint_name(step: int) -> str:
    return f"step-{step:010d}.pt"


def open_run(path: str) -> RunFolder:
    """Open an existing run folder.

    Raises:
        RunFolderError: nothing is there, or nobody may look.
    """
    folder = Path(path)
    try:
        found = folder.is_dir()
    except OSError as error:
        raise RunFolderError(f"cannot look for a run folder {path}: {error.strerror}.") from None
    if not found:
        raise RunFolderError(f"there is no run folder {path}.")
    return RunFolder(folder)


def refuse_taken(run_dir: str | None) -> None:
    """Refuse a place for a new run where there is something already; None is a place of its own.

    Raises:
        RunFolderError: it is taken, or nobody may look.
    """
    if run_dir is None:
        return
    place = Path(run_dir)
    try:
        taken = place.exists() and not (place.is_dir() and not any(place.iterdir()))
    except OSError as error:
        raise RunFolderError(
            f"cannot look into run_dir {place}: {error.strerror}; choose another."
        ) from None
    if taken:
        raise RunFolderError(
            f"run_dir {place} is not empty: choose another, or go on with it by resume={place}."
        )


@contextmanager
def new_run(run_dir: str | None, name: str) -> Iterator[RunFolder]:
    """Prepare a run folder out of sight; on leaving without an error it appears at its place, whole.

    Args:
        run_dir: where; None chooses `runs/<name>/<date-time>`.
        name: of the run.

    Raises:
        RunFolderError: the place is taken or not writable.
    """
    place = (
        Path(run_dir)
        if run_dir is not None
        else Path("runs") / name / time.strftime("%Y-%m-%d_%H-%M-%S")
    )
    refuse_taken(run_dir)
    with ExitStack() as stack:
        folder = RunFolder(_hidden_beside(place, stack))
        try:
            yield folder
            folder.path = _reveal(folder.path, place, numbered=run_dir is None)
        except BaseException as error:
            shutil.rmtree(folder.path, ignore_errors=True)
            if isinstance(error, OSError):
                raise RunFolderError(
                    f"cannot write to run_dir {place}: {error.strerror or error}."
                ) from error
            raise


@contextmanager
def writing(folder: RunFolder, config: TrainConfig) -> Iterator[None]:
    """Go on with a run as its one writer; its configuration, budgets given anew included, is kept.

    What cannot be written is told in one sentence; the last checkpoint is whole. Whatever else goes
    wrong inside is left as it is.

    Args:
        folder: of the run.
        config: under which it goes on.

    Raises:
        RunFolderError: another process writes to it, it has links to elsewhere, the disk is full, or it cannot
            be written to for another reason.
    """
    folder.refuse_links()
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder.path))
        except BlockingIOError:
            raise RunFolderError(
                f"{holder(folder.path)} is writing to {folder}: wait until it ends, or stop it before you go on with it."
            ) from None
        except OSError as error:
            raise _not_writable(folder, error) from error
        try:
            clear_temporaries(folder.path)
            folder.save_config(config)
            yield
        except OSError as error:
            if not _is_of_writing(folder, error):
                raise
            raise _not_writable(folder, error) from error


def _is_of_writing(folder: RunFolder, error: OSError) -> bool:
    """Tell whether an error is one of writing to a folder; an environment or an agent may raise others."""
    if error.errno in OF_DISKS:
        return True
    if not isinstance(error.filename, str):
        return False
    path = Path(error.filename)
    return folder.path in (path, *path.parents)


def _not_writable(folder: RunFolder, error: OSError) -> RunFolderError:
    reason = error.strerror or str(error)
    found = folder.checkpoints()
    kept = (
        f"; what was learned up to step {int(found[0].stem.removeprefix('step-'))} is kept"
        if found
        else ""
    )
    return RunFolderError(
        f"cannot write to {folder} ({reason}): make room and go on with resume={folder}{kept}."
    )


def _hidden_beside(place: Path, stack: ExitStack) -> Path:
    """A hidden folder beside a place, held by this process until it is renamed to it or removed."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        hidden = stack.enter_context(hidden_folder(place.parent))
        hidden.chmod(0o755)
        for name in FOLDERS:
            (hidden / name).mkdir()
    except OSError as error:
        raise RunFolderError(
            f"cannot write to run_dir {place}: {error.strerror or error}."
        ) from None
    return hidden


def _reveal(hidden: Path, wished: Path, *, numbered: bool) -> Path:
    """Rename to the wished place; of two folders named by the same second, the later gets a number."""
    place = wished
    for number in itertools.count(2):
        try:
            return hidden.rename(place)
        except OSError as error:
            if not (numbered and place.is_dir()):
                raise RunFolderError(
                    f"cannot write to run_dir {place}: {error.strerror}."
                ) from None
            place = wished.with_name(f"{wished.name}-{number}")
    raise AssertionError("unreachable")
