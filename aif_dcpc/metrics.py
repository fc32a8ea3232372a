"""Where numbers go: one line of JSON a record in `metrics.jsonl`, and TensorBoard.

A record is `{"step": 120, "train/return": 0.9, ...}`. Everything but `speed/` depends on the seed
alone, so a run that was interrupted and resumed leaves the same file as one that was not: a
checkpoint remembers the length of the file, and resuming cuts it back to that length.
"""

import io
import json
import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from aif_dcpc.charts import FIRST, HEADLINES, SHOWN_WHEN_CHANGED, compared_settings, description
from aif_dcpc.errors import RunFolderError
from aif_dcpc.files import own_copy
from aif_dcpc.pictures import Picture

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


HOOKS: list[Any] = []  # of threading, that were in use before


class MetricsLog:
    """Appends records to a run folder.

    Args:
        folder: the run folder.
        file: name of the file of records.
        board: folder of TensorBoard's events inside the run folder, shown as a run of its own; empty: the run folder.
        length: bytes of the file to keep; None keeps it all.
        step: records of later steps are hidden from TensorBoard; None hides nothing.

    Raises:
        RunFolderError: the file of metrics is shorter than `length`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        file: str = "metrics.jsonl",
        board: str = "",
        length: int | None = None,
        step: int | None = None,
    ) -> None:
        self.described: set[str] = set()  # charts
        self.held: dict[
            str, list[tuple[int, float]]
        ] = {}  # points of charts that have not changed yet
        self.file = _open(folder / file, length)
        self.board = _summary_writer(folder / board, None if step is None else step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers at a step."""
        for tag, value in values.items():
            if tag in FIRST:
                self._chart(step, FIRST[tag], value)
            self._show(step, tag, value)
        line = json.dumps(
            {"step": step, **{tag: finite(value) for tag, value in values.items()}}, allow_nan=False
        )
        self.file.write(line.encode() + b"\n")
        self.file.flush()

    def _show(self, step: int, tag: str, value: float) -> None:
        """Add a point to a chart; one whose value says nothing until it changes does not appear before."""
        held = self.held.get(tag, [])
        if not tag.startswith(SHOWN_WHEN_CHANGED) or tag in self.described:
            self._chart(step, tag, value)
        elif not held or repr(value) == repr(held[0][1]):
            held[1:] = [(step, value)] if held else []
            self.held[tag] = held or [(step, value)]
        else:
            self._release(tag)
            self._chart(step, tag, value)

    def _release(self, tag: str) -> None:
        """Add the points that were held back."""
        for step, value in self.held.pop(tag):
            self._chart(step, tag, value)

    def _chart(self, step: int, tag: str, value: float) -> None:
        """Add a point to a chart; the first one brings what the chart shows."""
        from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_SCALAR
        from torch.utils.tensorboard.summary import scalar

        point = scalar(tag, value)
        if tag not in self.described:
            self.described.add(tag)
            point.value[0].metadata.plugin_data.plugin_name = "scalars"
            point.value[
                0
            ].metadata.data_class = DATA_CLASS_SCALAR  # else the loader drops the words
            point.value[0].metadata.summary_description = description(tag)
        self._write(point, step)

    def _write(self, summary: Any, step: int) -> None:
        writer: Any = self.board.file_writer
        writer.add_summary(summary, step)

    def settings(self, config: Mapping[str, Any], *, kind: str) -> None:
        """Let runs be compared by their settings.

        Args:
            config: of the run.
            kind: "agent" or "images".
        """
        from torch.utils.tensorboard.summary import hparams

        headlines = dict.fromkeys(HEADLINES[kind], 0)
        for summary in hparams(compared_settings(config), headlines):
            self._write(summary, 0)

    def text(self, tag: str, text: str) -> None:
        """Show a text, such as the resolved configuration, on the board."""
        self.board.add_text(tag, "\n".join(f"    {line}" for line in text.splitlines()))

    def picture(self, step: int, tag: str, picture: Picture) -> None:
        """Show a `(H, W, 3)` picture on the board."""
        self.board.add_image(tag, picture, step, dataformats="HWC")

    def animation(self, step: int, tag: str, encoded: bytes, shape: tuple[int, int]) -> None:
        """Show an animated picture, an encoded GIF of some height and width, on the board."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        height, width = shape
        image = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=encoded
        )
        self._write(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def length(self) -> int:
        """Flush to the disk and return the bytes of the file so far."""
        self.board.flush()
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.file.tell()

    def close(self) -> None:
        """Flush and close both files; a chart of a single point appears after all."""
        for tag in [tag for tag, points in self.held.items() if len(points) == 1]:
            self._release(tag)
        self.board.close()
        self.file.close()


class Averages:
    """Means of numbers between two records; a checkpoint carries them."""

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Take in one step's numbers."""
        for tag, value in values.items():
            entry = self.sums.setdefault(tag, [0.0, 0.0])
            entry[0] += float(value)
            entry[1] += 1

    def take(self) -> dict[str, float]:
        """Return the means since the last call, and start afresh."""
        means = {tag: total / count for tag, (total, count) in self.sums.items()}
        self.sums = {}
        return means

    def restore(self, sums: Mapping[str, Sequence[float]]) -> None:
        """Go back to the sums that a checkpoint carries.

        Raises:
            TypeError, ValueError: they are none.
        """
        if not isinstance(sums, Mapping):
            raise TypeError(f"averages are {sums!r}, expected a sum and a count for each tag")
        self.sums = {str(tag): [float(x) for x in entry] for tag, entry in sums.items()}
        if any(len(entry) != 2 for entry in self.sums.values()):
            raise ValueError("averages: expected a sum and a count for each tag")


def logged_bytes(checkpoint: Mapping[str, Any]) -> int:
    """The length that the file of records had when a checkpoint was written.

    Raises:
        RunFolderError: the checkpoint does not say.
    """
    length = checkpoint.get("metrics_length")
    if type(length) is not int or length < 0:
        raise RunFolderError(
            f"the checkpoint does not fit its run: metrics_length is {length!r}, expected a number of bytes."
        )
    return length


def finite(value: float) -> float | int | None:
    """Return a number that JSON can hold: None for infinities and not-a-number."""
    number = value if isinstance(value, int) else float(value)
    return number if math.isfinite(number) else None


def as_json(result: Mapping[str, Any]) -> str:
    """Return results as one line of JSON, null in the place of numbers that it cannot hold."""
    return json.dumps(_plain(result), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return finite(value) if isinstance(value, float) else value


def _open(path: Path, length: int | None) -> io.BufferedWriter:
    present = path.stat().st_size if path.exists() else 0
    if length is not None and present < length:
        raise RunFolderError(
            f"{path} is shorter than its checkpoint says: this run folder is damaged."
        )
    own_copy(path)
    if length is not None and path.exists():
        os.truncate(path, length)
    return path.open("ab")


def _summary_writer(folder: Path, purge_step: int | None) -> "SummaryWriter":
    from torch.utils.tensorboard.writer import SummaryWriter

    if threading.excepthook is not _except_the_board:
        HOOKS.append(threading.excepthook)
        threading.excepthook = _except_the_board
    return SummaryWriter(str(folder), purge_step=purge_step)


def _except_the_board(failure: threading.ExceptHookArgs) -> None:
    """Print what a thread died of, unless it is the board's: flushing or closing it raises that anew."""
    of_board = type(failure.thread).__module__.startswith("tensorboard.")
    if not (of_board and isinstance(failure.exc_value, OSError)):
        HOOKS[-1](failure)
