"""Files and folders that survive: written whole or not at all, by one process at a time, never through a link.

A process that is killed leaves at most hidden files, which the next one clears away.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system without these locks
    fcntl = None  # type: ignore[assignment]

ABANDONED = ".unfinished"  # ends the name of a folder that is not at its place yet
TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")  # .NAME.PROCESS.tmp


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a path to write to; on leaving without an error it replaces `path` in one step that survives a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # a link of that name would be followed
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


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold a folder for this process while inside; the system lets go when the process ends, however it does.

    Yields whether there is a lock: some file systems have none.

    Raises:
        BlockingIOError: another process holds it.
    """
    descriptor = _lock(folder)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: Path) -> int | None:
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise BlockingIOError(*error.args) from None
        return None
    return descriptor


def holder(folder: Path) -> str:
    """Say which process holds a folder, where the system tells."""
    try:
        inode = folder.stat().st_ino
        entries = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return next(f"process {words[4]}" for words in entries if words[5].endswith(f":{inode}"))
    except (OSError, IndexError, StopIteration):
        return "another process"


@contextmanager
def hidden_folder(parent: Path) -> Iterator[Path]:
    """Make a hidden folder in another, held by this process while inside; what killed processes left there goes.

    Raises:
        OSError: it cannot be made.
    """
    _clear_abandoned(parent)
    with ExitStack() as stack:
        yield _held(parent, stack)


def _held(parent: Path, stack: ExitStack) -> Path:
    """A new hidden folder that no other process took for abandoned before it was held."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=".run-", suffix=ABANDONED, dir=parent))
        try:
            stack.enter_context(locked(made))
        except (BlockingIOError, FileNotFoundError):
            continue
        if made.exists():
            return made


def _clear_abandoned(parent: Path) -> None:
    """Remove the hidden folders that no process holds."""
    for found in parent.glob(f".run-*{ABANDONED}"):
        try:
            with locked(found) as held:
                if held and not found.is_symlink():
                    shutil.rmtree(found, ignore_errors=True)
        except OSError:  # held by another process, or gone
            continue


def clear_temporaries(folder: Path) -> None:
    """Remove the files that killed processes were about to put in their places, in a folder and those in it."""
    for path in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        named = TEMPORARY.fullmatch(path.name)
        if named and not _alive(int(named[1])):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    """Tell whether another process of that number is there; this one has nothing under way."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def own_copy(path: Path) -> None:
    """Let a file that has a second name (a hard link) be a file of its own, before it is changed."""
    if path.exists() and path.stat().st_nlink > 1:
        with atomic(path) as copy:
            shutil.copyfile(path, copy)
