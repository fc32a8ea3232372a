"""What is written beside a result: as far as it can be; what cannot is told once, and the result is given all the same.

Folders of others, disks that are full or read-only, links to elsewhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from aif_dcpc.errors import RunFolderError
from aif_dcpc.metrics import MetricsLog
from aif_dcpc.notes import note
from aif_dcpc.runs import RunFolder


class BestEffort:
    """Writes to a run folder without insisting.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.told = False
        self.links = False
        try:
            folder.refuse_links()
        except RunFolderError as error:
            self.links = True
            self._tell(str(error).rstrip("."))

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Go on after whatever cannot be written inside."""
        try:
            yield
        except OSError as error:
            self._tell(f"{error.strerror or error}")

    def log(self, *, file: str, board: str) -> MetricsLog | None:
        """A log in the folder, or none where it cannot be written."""
        log = None
        if not self.links:
            with self.attempt():
                log = MetricsLog(self.folder.path, file=file, board=board)
        return log

    def _tell(self, reason: str) -> None:
        if not self.told:
            note(
                f"{self.folder} keeps no trace of this ({reason}); the result is printed all the same."
            )
        self.told = True
