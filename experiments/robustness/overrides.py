"""Random words on the command line: each is done, or refused in one sentence that leaves nothing behind.

python -m aif_dcpc.experiments.robustness.overrides --number 300 --seed 0
"""

import argparse
import contextlib
import io
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aif_dcpc.commands import evaluate, rollout, train
from aif_dcpc.commands.command import run_script
from aif_dcpc.configuration import load_config

MAINS = {"train": train.main, "rollout": rollout.main, "evaluate": evaluate.main}
QUICK = ("agent=random", "env=TMaze", "picture_every=0", "video_every=0", "total_env_steps=2")
VALUES = (
    "inf", "-inf", "nan", "2147483648", "-1", "0", "1e400", "null", "true", "''", "' '", "x" * 300, "été", "日本",
    "[1,2]", "[", "]", "{a: 1}", "{", "${seed}", "${nothing}", "${oc.env:HOME}", "a=b", "a,b", "1..3", "range(1,3)",
    "choice(1,2)", "glob(*)", "../x", "/", "/dev/null", "/proc/1/x", ".", "~", "\\", '"', "'", "%s", "{}", "\t", "a\nb",
    "module:Name", "os:system", ":", "latest", "!!int x", "0x10", "1_000", "3.0", "-0.0", "9" * 400, "\x7f",
)  # fmt: skip
TORN = (
    "",
    "=",
    "==",
    "seed",
    "+",
    "~",
    "+=",
    "~seed",
    "++seed=1",
    "+seed=1",
    "-",
    "--",
    "-m",
    "@",
    "a@b=c",
    "seed=1=2",
)
LONGEST = 60.0  # seconds


@dataclass(frozen=True)
class Finding:
    """Words that ended as they should not."""

    command: str
    words: tuple[str, ...]
    what: str


def random_words(draw: random.Random) -> tuple[str, tuple[str, ...]]:
    """A command and its words, with one or two odd ones."""
    command = draw.choice(("train", "train", "train", "rollout", "evaluate"))
    keys = [*_paths(load_config(command)), "images.data", "images.options.sizes", "agent.x", "sede"]
    odd = []
    for _ in range(draw.choice((1, 1, 2))):
        if draw.random() < 0.15:
            odd.append(draw.choice(TORN))
        else:
            odd.append(
                f"{draw.choice(('', '', '', '+', '~'))}{draw.choice(keys)}={draw.choice(VALUES)}"
            )
    base = QUICK if command == "train" else ()
    return command, (*base, *odd)


def _paths(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{key}.")


def tried(command: str, words: Sequence[str]) -> Finding | None:
    """Run a command in an empty folder; None if it ended well."""
    said = io.StringIO()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        sys.argv = [f"aif-{command}", *words]
        code: Any = 0
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
                MAINS[command]()
        except SystemExit as left:
            code = left.code
        except BaseException:  # what a user would see as a traceback
            return Finding(command, tuple(words), traceback.format_exc(limit=-2))
        left_behind = sorted(str(path) for path in Path().rglob("*"))
    what = _complaint(code, said.getvalue(), left_behind, time.monotonic() - start)
    return Finding(command, tuple(words), what) if what else None


def _complaint(code: Any, said: str, left_behind: list[str], seconds: float) -> str:
    if code not in (0, 2):
        return f"code {code}: {said[-300:]}"
    if code == 2 and (said.count("error:") != 1 or "Traceback" in said or not said.strip()):
        return f"not one sentence: {said[-300:]}"
    if code == 2 and left_behind:
        return f"left behind: {left_behind[:5]}"
    return f"{seconds:.0f} s" if seconds > LONGEST else ""


def main() -> None:
    """Try random words, and print what ended as it should not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    os.environ["OMP_NUM_THREADS"] = "1"
    found = [tried(*random_words(draw)) for _ in range(options.number)]
    wrong = [finding for finding in found if finding is not None]
    for finding in wrong:
        print(finding.command, finding.words, finding.what, sep="\n    ")
    print(f"{options.number} tried, {len(wrong)} ended as they should not.")


if __name__ == "__main__":
    run_script(main)
