"""The words of a command line: paths are taken as they are typed, and what is printed can be pasted.

>>> as_typed("run", "My Runs, a=1/x")
"'run=My Runs, a=1/x'"
>>> literal("run_dir=My Runs, a=1")
'run_dir="My Runs, a=1"'
"""

import re
import shlex
from pathlib import Path

PATHS = ("run", "run_dir", "resume", "data_dir", "images.folder")  # keys whose values are paths
OPEN = re.compile(
    r"""^(['"].*['"]|\[.*\]|\{.*\}|null|.*\$\{.*|\s*)$""", re.DOTALL
)  # more than a text


def literal(word: str) -> str:
    """Put the path of `KEY=PATH` in quotes for Hydra's grammar, unless it is quoted, a list, null or an interpolation."""
    key, equals, value = word.partition("=")
    if not equals or key.lstrip("+") not in PATHS or OPEN.match(value):
        return word
    several = key == "run" and "," in value and not Path(value).exists()
    return word if several else f"{key}={quoted(value)}"


def quoted(value: str) -> str:
    """Return a text in the quotes of Hydra's grammar, where a backslash counts only before a quote."""
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', value)
    return '"' + re.sub(r"(\\+)$", r"\1\1", escaped) + '"'


def as_typed(key: str, value: object) -> str:
    """Return `KEY=VALUE` for a path as it can be pasted into a shell."""
    text = str(value)
    return shlex.quote(f"{key}={quoted(text) if OPEN.match(text) else text}")
