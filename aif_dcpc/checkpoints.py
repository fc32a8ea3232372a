"""Checkpoints: tensors, numbers, texts, lists and dicts in one file, read without running anything in it.

A digest of all values is kept beside them, so that whatever was changed since is told.
"""

import errno
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aif_dcpc.errors import RunFolderError

FORMAT = 1
DIGEST = "digest"  # key of the digest of all others
Checkpoint = dict[str, Any]


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain data with their digest.

    Raises:
        OSError: they cannot be written.
    """
    import torch

    content = {"format": FORMAT, **content}
    content[DIGEST] = digest(content)
    try:
        with path.open("wb") as file:  # torch's own way of opening it does not tell what went wrong
            torch.save(content, file)
    except RuntimeError as error:
        reason = _first_os_error(error)
        raise OSError(*(reason.args if reason else (errno.EIO, first_line(error)))) from error


def _first_os_error(error: BaseException | None) -> OSError | None:
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint without running anything in it.

    Raises:
        RunFolderError: it is damaged, was changed, or holds more than plain data.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("a checksum is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # any damage at all, in any layer of the format
        raise RunFolderError(
            f"the checkpoint {path} cannot be read: {first_line(error)[:200]}"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RunFolderError(f"{path} is not a checkpoint of this program.")
    if DIGEST in content and content.pop(DIGEST) != _digest_or_none(content):
        raise RunFolderError(f"the checkpoint {path} was changed since it was written.")
    return content


def _digest_or_none(content: Checkpoint) -> int | None:
    try:
        return digest(content)
    except Exception:  # values of a kind that is never written
        return None


def digest(value: Any) -> int:
    """A number that all values decide together, those in tensors, lists and dicts included."""
    return _fold(0, value)


def _fold(found: int, value: Any) -> int:
    import torch

    if isinstance(value, torch.Tensor):
        found = _text(found, f"{value.dtype}{tuple(value.shape)}")
        numbers = value.detach().cpu().contiguous().reshape(-1)
        if not numbers.numel():
            return found
        buffer: Any = numbers.view(torch.uint8).numpy()
        return zlib.crc32(buffer, found)
    if isinstance(value, Mapping):
        for key, entry in value.items():
            found = _fold(_text(found, repr(key)), entry)
        return _text(found, f"mapping {len(value)}")
    if isinstance(value, (list, tuple)):
        for entry in value:
            found = _fold(found, entry)
        return _text(found, f"list {len(value)}")
    return _text(found, f"{type(value).__name__} {value!r}")


def _text(found: int, words: str) -> int:
    return zlib.crc32(words.encode(errors="surrogatepass"), found)


def first_line(error: BaseException) -> str:
    """What went wrong, in a line; some errors say nothing but their name."""
    return next(iter(str(error).splitlines()), type(error).__name__)
