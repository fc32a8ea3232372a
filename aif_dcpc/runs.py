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

import itertools
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from aif_dcpc.errors import ConfigError, RunFolderError
from aif_dcpc.outside import as_trust, outside_names
from aif_dcpc.schema import TrainConfig, train_config

FORMAT = 1
KEPT = 2
FOLDERS = ("checkpoints", "figures", "videos")
Checkpoint = dict[str, Any]


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a path to write to; on leaving without an error it replaces `path` in one step that survives a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        """Write the resolved configuration, all but what this call of the command trusts."""
        values = asdict(config)
        del values["trust"]
        with atomic(self.path / "config.yaml") as file:
            file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")

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
        try:
            text = (self.path / "config.yaml").read_text(encoding="utf-8")
            values = yaml.safe_load(text)
            _refuse_code(values)
            if "trust" in values:
                raise ConfigError("key 'trust' is not allowed in a run folder.")
            return train_config(values)
        except FileNotFoundError:
            raise RunFolderError(f"{self} is not a run folder: it has no config.yaml.") from None
        except (
            OSError,
            UnicodeDecodeError,
            yaml.YAMLError,
            ConfigError,
            AttributeError,
            TypeError,
        ) as error:
            reason = _first_line(error)
            raise RunFolderError(
                f"{self}/config.yaml is not the configuration of a run: {reason}"
            ) from None

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
            _write_checkpoint(file, {"format": FORMAT, **content})
        for old in self.checkpoints()[KEPT:]:
            old.unlink()
        return path

    def load_checkpoint(self) -> Checkpoint:
        """Read the newest checkpoint that is whole.

        Raises:
            RunFolderError: there is none.
        """
        reasons = []
        for path in self.checkpoints():
            try:
                return read_checkpoint(path)
            except RunFolderError as error:
                reasons.append(str(error))
        raise RunFolderError(reasons[0] if reasons else f"{self} holds no checkpoint.")

    def quarantine(self, step: int) -> None:
        """Rename the damaged checkpoints that were newer than the one in use, so that they are not taken for newest."""
        for path in self.checkpoints():
            if path.name > _checkpoint_name(step):
                path.rename(path.with_suffix(".damaged"))


def _write_checkpoint(path: Path, content: Checkpoint) -> None:
    import torch

    try:
        with path.open("wb") as file:  # torch's own way of opening it does not tell what went wrong
            torch.save(content, file)
    except RuntimeError as error:
        reason = _first_os_error(error)
        raise OSError(*(reason.args if reason else (None, _first_line(error)))) from error


def _first_os_error(error: BaseException | None) -> OSError | None:
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def _checkpoint_name(step: int) -> str:
    return f"step-{step:010d}.pt"


def _first_line(error: BaseException) -> str:
    """What went wrong, in a line; some errors say nothing but their name."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint without running anything in it.

    Raises:
        RunFolderError: it is damaged, or holds more than plain data.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("a checksum is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # any damage at all, in any layer of the format
        raise RunFolderError(
            f"the checkpoint {path} cannot be read: {_first_line(error)[:200]}"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RunFolderError(f"{path} is not a checkpoint of this program.")
    return content


def open_run(path: str) -> RunFolder:
    """Open an existing run folder.

    Raises:
        RunFolderError: nothing is there.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise RunFolderError(f"there is no run folder {path}.")
    return RunFolder(folder)


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
    if run_dir is not None and place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise RunFolderError(
            f"run_dir {place} is not empty: choose another, or go on with it by resume={place}."
        )
    folder = RunFolder(_hidden_beside(place))
    try:
        yield folder
        folder.path = _reveal(folder.path, place, numbered=run_dir is None)
    except BaseException as error:
        shutil.rmtree(folder.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise RunFolderError(f"cannot write to run_dir {place}: {error.strerror}.") from error
        raise


@contextmanager
def report_disk_errors(folder: RunFolder) -> Iterator[None]:
    """While a run goes on: what cannot be written is told in one sentence; its last checkpoint is whole.

    Raises:
        RunFolderError: the disk is full, or cannot be written to for another reason.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        newest = int(folder.checkpoints()[0].stem.removeprefix("step-"))
        raise RunFolderError(
            f"cannot write to {folder} ({reason}): make room and go on with resume={folder}; what was learned up to step "
            f"{newest} is kept."
        ) from error


def _hidden_beside(place: Path) -> Path:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        hidden.chmod(0o755)
        for name in FOLDERS:
            (hidden / name).mkdir()
    except OSError as error:
        raise RunFolderError(f"cannot write to run_dir {place}: {error.strerror}.") from None
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


def _refuse_code(values: Any) -> None:
    """Refuse what a configuration library could take for an instruction: `_target_` keys and `${...}`."""
    if isinstance(values, dict):
        for key, value in values.items():
            if not isinstance(key, str) or key.startswith("_"):
                raise ConfigError(f"key {key!r} is not allowed in a run folder.")
            _refuse_code(value)
    elif isinstance(values, list):
        for value in values:
            _refuse_code(value)
    elif isinstance(values, str) and "${" in values:
        raise ConfigError(f"value {values!r} is not allowed in a run folder.")
