"""Where data and reference statistics lie, read as plain values: no array library is needed."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def raw(name: str) -> dict[str, Any]:
    """Read one data set of `data/`, or of the simulated ones, as numbers and lists."""
    file = FOLDER / "data" / f"{name}.json"
    if not file.exists():
        return _read("simulated.json")[name]["data"]
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def reference() -> dict[str, Any]:
    """Read the reference statistics: posterior -> data, model, source, parameters."""
    return _read("reference.json") | _read("simulated.json")


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return found
