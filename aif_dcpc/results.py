"""A file of JSON lines, each measured once, which a second invocation of a script goes on behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Results:
    """A file of JSON lines: `{**key, **numbers}`; of several with one key the last one counts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, **key: object) -> list[Row]:
        """All lines with these entries; a line that was cut short is left out."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        return [
            row for row in map(_parsed, lines) if row is not None and key.items() <= row.items()
        ]

    def append(self, row: Row) -> None:
        """Append one line to the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        cut_short = self.path.exists() and self.path.read_bytes()[-1:] not in (b"", b"\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(("\n" if cut_short else "") + json.dumps(row) + "\n")

    def once(self, key: Row, measure: Callable[[], Row], *, again: bool = False) -> Row:
        """The line with this key, measured and appended if there is none yet, or if it is asked for again."""
        known = [row for row in self.rows() if {name: row.get(name) for name in key} == key]
        if known and not again:
            return known[-1]
        row = {**key, **measure()}
        self.append(row)
        return row


def _parsed(line: str) -> Row | None:
    try:
        row: Row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row
